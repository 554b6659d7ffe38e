"""Labs for the end-to-end tests: embedded always, real nodes where the programs are on PATH,
containers where they are asked for.

A lab is started once a module and kind, because starting costs more than most scenarios; each xdist
worker has its own. The directory of a failed module is kept and named.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.programs import run_program
from lnlab.lab import Kind, Lab, end_lab
from lnlab.nodes.compose import why_not
from lnlab.nodes.process import PROGRAMS

MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
CONTAINERS_VARIABLE = "LNLAB_TEST_CONTAINERS"
"""Set it to have everything run on containers too; a lab of them takes its time."""


def no_containers() -> str | None:
    """Why nothing runs on containers here, None if it does."""
    if not os.environ.get(CONTAINERS_VARIABLE):
        return f"{CONTAINERS_VARIABLE} is not set"
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(why_not(Path(directory)))


NO_CONTAINERS = no_containers()

ON_THIS_HOST = [
    "embedded",
    pytest.param(
        "process",
        marks=[
            pytest.mark.real,
            pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}"),
        ],
    ),
]
"""Kinds of nodes that are processes of this host."""

KINDS = [
    *ON_THIS_HOST,
    pytest.param(
        "compose",
        marks=[
            pytest.mark.real,
            pytest.mark.skipif(NO_CONTAINERS is not None, reason=str(NO_CONTAINERS)),
        ],
    ),
]


@pytest.fixture(scope="module", params=KINDS)
def lab_kind(request: pytest.FixtureRequest) -> Kind:
    """Which nodes this module's lab has."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def lab_directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory with a short path for unix sockets. Kept when a test of the module failed."""
    directory = Path(tempfile.mkdtemp(prefix="lnlab-"))
    failed_before = request.session.testsfailed
    yield directory
    end_lab(directory)
    if request.session.testsfailed > failed_before:
        sys.stderr.write(f"\nthe lab of {request.node.name} is kept in {directory}\n")
    else:
        shutil.rmtree(directory)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(lab_directory: Path, lab_kind: Kind) -> AsyncIterator[Lab]:
    """Running nodes."""
    lab = await Lab.start(lab_directory, kind=lab_kind)
    yield lab
    await lab.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(lab: Lab) -> AsyncIterator[SellerDaemon]:
    """A funded seller daemon on them; its log must hold no fault at the end."""
    async with await SellerDaemon.create(lab, coins=4) as daemon:
        yield daemon
        daemon.check_log()
        # Store and chain must agree coin by coin, whatever the tests did: one funding a swap.
        report = await run_program("lnliquid", "audit", "--config", str(daemon.config), "--json")
        assert json.loads(report)["exact"], report
