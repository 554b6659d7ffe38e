"""The lab in containers: up, down, going on, snapshots, interruptions, scenarios; nothing is left.

Needs a Docker engine with Compose 2 and all images of ``deploy/compose``; says what is missing.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lnlab.actors.daemon import SellerDaemon
from lnlab.lab import Kind, Lab, end_lab
from lnlab.nodes.compose import NODES, why_not
from lnlab.nodes.compose_containers import PROJECT_LABEL, SELLER, engine
from lnlab.nodes.compose_project import COMPOSE_DIRECTORY, ComposeError, project_name
from lnlab.nodes.record import POLICY_ASSET
from lnlab.scenarios.aftermath import Aftermath
from lnlab.scenarios.catalogue import FAST_BACKENDS, SCENARIOS
from lnlab.wait import wait_for

from .conftest import MISSING

COMMAND_SECS = 400
SCRIPT = b"\x00\x14" + b"\x44" * 20


def reason() -> str | None:
    """Why there can be no compose lab here, None if there can."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(why_not(Path(directory)))


REASON = reason()
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(600),
]

ON_REAL_NODES = [
    "compose",
    pytest.param(
        "process",
        marks=pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}"),
    ),
]


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory for labs, with a short path; whatever runs in it is ended."""
    path = Path(tempfile.mkdtemp(prefix="lnc-"))
    yield path
    for directory in path.glob("*"):
        end_lab(directory)
    shutil.rmtree(path)


def lnlab(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `lnlab` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lnlab", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECS,
        check=False,
    )


def answer(*arguments: str) -> dict[str, Any]:
    """What `lnlab … --json` prints; it must succeed."""
    done = lnlab(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def buy(directory: Path, amount: int) -> int:
    """Buy with the lab's `env` file, as `lnlab up` tells, and return the balance afterwards."""
    command = (
        f". {directory}/env && lnliquid buy --amount {amount} --confs 1 --yes "
        "--max-price-msat 10000000000 >&2 && lnliquid balance --json"
    )
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=COMMAND_SECS, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["balance"])


def started(*arguments: str) -> "subprocess.Popen[str]":
    """`lnlab` under way, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lnlab", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def things_of(directory: Path) -> list[str]:
    """Containers, networks and volumes of the lab's project, stopped and unused ones too."""
    filters = {"label": f"{PROJECT_LABEL}={project_name(directory)}"}
    client = engine()
    try:
        return [
            *(one["Names"][0] for one in client.api.containers(all=True, filters=filters)),
            *(one["Name"] for one in client.api.networks(filters=filters)),
            *(one["Name"] for one in client.api.volumes(filters=filters)["Volumes"] or []),
        ]
    finally:
        client.close()


def volumes_in_use(directory: Path) -> list[str]:
    """Volumes of the lab's containers, those without a name too; data belongs in directories."""
    client = engine()
    try:
        label = {"label": f"{PROJECT_LABEL}={project_name(directory)}"}
        return [
            f"{one['Names'][0]}: {mount['Name']}"
            for one in client.api.containers(all=True, filters=label)
            for mount in one["Mounts"]
            if mount["Type"] == "volume"
        ]
    finally:
        client.close()


def compose_config() -> dict[str, Any]:
    """The compose file as Compose reads it, without any variable set."""
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=COMPOSE_DIRECTORY,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def test_compose_file() -> None:
    """It is clean, and every service has its image pinned, a healthcheck, init and a log limit."""
    services = compose_config()["services"]
    assert set(services) == {*NODES, SELLER}
    for name, service in services.items():
        assert service["image"].partition(":")[2] not in ("", "latest"), name
        assert service["healthcheck"]["test"], name
        assert service["init"] is True, name
        assert service["logging"]["options"]["max-size"], name
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name


def test_up_down_and_up_again(room: Path) -> None:
    """`up` can be repeated, `down` keeps everything, `up` goes on with it, `--wipe` ends it all."""
    where = ("--dir", str(room / "lab"))
    options = ("--nodes", "compose", "--block-every", "1")
    up = lnlab("up", *options, *where)
    assert up.returncode == 0, up.stderr
    assert all(f"{service}: " in up.stderr for service in (*NODES, SELLER))
    assert buy(room / "lab", 1_000) == 1_000

    ports = answer("status", *where)
    assert ports["ok"] is True
    assert volumes_in_use(room / "lab") == []
    again = answer("up", *options, *where)
    assert again["electrum_url"] == ports["electrum_url"]
    assert "ready" in answer("logs", SELLER, *where)[SELLER]

    assert set(answer("down", *where)["ended"]) == {"miner", SELLER, *NODES}
    assert things_of(room / "lab") == []
    assert answer("down", *where)["ended"] == []
    further = answer("up", *options, *where)
    assert further["height"] > ports["height"]
    assert further["asset_id"] == again["asset_id"]
    assert buy(room / "lab", 2_000) == 3_000

    answer("down", "--wipe", *where)
    assert things_of(room / "lab") == []
    assert not (room / "lab").exists()


@pytest.mark.parametrize("kind", ON_REAL_NODES)
def test_snapshot(room: Path, kind: str) -> None:
    """What was bought after a snapshot is gone when it is loaded, and buying goes on from there."""
    where = ("--dir", str(room / "lab"))
    answer("up", "--nodes", kind, "--block-every", "1", *where)
    assert buy(room / "lab", 1_000) == 1_000
    assert answer("snapshot", "save", "one", *where)["running"] is True
    assert buy(room / "lab", 2_000) == 3_000
    taken = lnlab("snapshot", "save", "one", *where)
    assert taken.returncode == 1
    assert "--force" in taken.stderr

    loaded = answer("snapshot", "load", "one", *where)
    assert loaded["kind"] == kind
    assert buy(room / "lab", 40) == 1_040
    assert answer("status", *where)["ok"] is True
    answer("down", "--wipe", *where)
    assert answer("snapshot", "list", *where)["snapshots"] == ["one"]
    assert lnlab("snapshot", "remove", "one", *where).returncode == 0
    assert things_of(room / "lab") == []
    assert list(room.iterdir()) == []


def test_a_service_that_does_not_start_is_named(room: Path) -> None:
    """With its last log lines; the data stays, and nothing runs."""
    where = ("--dir", str(room / "lab"))
    answer("up", "--nodes", "compose", "--no-seller", *where)
    answer("down", *where)
    shutil.rmtree(room / "lab" / "electrs" / "db")
    (room / "lab" / "electrs" / "db").write_text("not a directory")
    failed = lnlab("up", "--nodes", "compose", "--no-seller", *where)
    assert failed.returncode == 1
    assert "electrs is exited" in failed.stderr
    assert "Not a directory" in failed.stderr or "panicked" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert things_of(room / "lab") == []
    assert (room / "lab" / "stopped.json").exists()


Moment = Callable[[Path], bool]

MOMENTS: dict[str, Moment] = {
    "project made": lambda at: (at / "compose.json").exists(),
    "first container": lambda at: bool(things_of(at)),
    "lightning starts": lambda at: (at / "seller" / "lightning-rpc").exists(),
    "seller configured": lambda at: (at / "daemon" / "seller.toml").exists(),
    "seller starts": lambda at: (at / "daemon" / "swaps.sqlite").exists(),
}
"""When to interrupt, by what there is then."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_interrupted_up(room: Path, moment: str) -> None:
    """Ctrl-C on `lnlab up`, whenever it comes, leaves no container, network, volume or process."""
    directory = room / "lab"
    options = ("--nodes", "compose", "--block-every", "1", "--dir", str(directory))
    with started("up", *options) as running:
        try:
            await wait_for(
                lambda: MOMENTS[moment](directory) or running.poll() is not None,
                timeout_secs=COMMAND_SECS,
                message="the command is as far as that",
            )
            running.send_signal(signal.SIGINT)
            output, _ = await asyncio.to_thread(running.communicate, timeout=COMMAND_SECS)
        finally:
            running.kill()
    assert running.returncode == 130, output
    assert "Traceback" not in output
    assert things_of(directory) == []
    assert not (directory / "nodes.json").exists()


async def test_a_killed_up_is_ended_by_down(room: Path) -> None:
    """`lnlab down` ends the containers of an `up` that was killed and recorded nothing."""
    directory = room / "lab"
    with started("up", "--nodes", "compose", "--dir", str(directory)) as running:
        try:
            await wait_for(
                (directory / "elementsd" / "liquid-regtest").exists,
                timeout_secs=COMMAND_SECS,
                message="elementsd writes its data",
            )
        finally:
            running.kill()
    refused = lnlab("up", "--nodes", "compose", "--dir", str(directory))
    assert refused.returncode == 1
    assert "lnlab down" in refused.stderr
    assert "elementsd" in answer("down", "--wipe", "--dir", str(directory))["ended"]
    assert things_of(directory) == []
    assert not directory.exists()


async def test_two_labs_side_by_side(room: Path) -> None:
    """Two compose labs started at once share nothing, and neither leaves anything."""
    first, second = await asyncio.gather(*(Lab.start(room / n, kind="compose") for n in "ab"))
    try:
        heights = [(await lab.tip()).height for lab in (first, second)]
        txid = await first.faucet.fund(SCRIPT, [(POLICY_ASSET, 1_000)])
        await first.mine(3)
        assert [(await lab.tip()).height for lab in (first, second)] == [heights[0] + 3, heights[1]]
        assert txid not in await second.rpc.call("getrawmempool")
    finally:
        await first.stop()
        # The other one goes on as if nothing had been.
        await second.mine()
        await second.stop()
    assert things_of(room / "a") + things_of(room / "b") == []


async def test_no_engine_is_one_line(room: Path) -> None:
    """Without an engine `up` says so in a line, and `auto` falls back to embedded nodes."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{room}/nobody.sock"}
    where = ("--dir", str(room / "lab"), "--no-seller")
    for nodes, code, said in (
        ("compose", 1, "no Docker engine answers"),
        ("auto", 0, "embedded nodes, because containers cannot start at once"),
    ):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "lnlab", "up", "--nodes", nodes, *where],
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECS,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def lab_kind() -> Kind:
    """Containers only, for the lab that the scenarios share."""
    return "compose"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seller(lab: Lab) -> AsyncIterator[SellerDaemon]:
    """A seller in a container."""
    async with await SellerDaemon.create(lab, coins=4, settings=FAST_BACKENDS) as daemon:
        assert daemon.in_container
        yield daemon


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["sale", "refund", "crash", "containers"])
async def test_scenario_with_the_seller_in_a_container(seller: SellerDaemon, name: str) -> None:
    """It ends as it should; no node crashed or logged an error, and the audit balances."""
    aftermath = Aftermath(seller.lab)
    run = SCENARIOS[name].run
    assert run is not None
    await run(seller, print)
    await aftermath.check(seller)


@pytest.mark.asyncio(loop_scope="module")
async def test_daemon_moves_between_host_and_container(seller: SellerDaemon) -> None:
    """On the host or in a container it is the same seller: same files, same port, same swaps."""
    address = seller.address
    await seller.move(in_container=False)
    assert seller.pid is not None
    assert seller.address == address
    await seller.move(in_container=True)
    assert seller.pid is None
    assert await seller.is_ready()


def test_shell(room: Path) -> None:
    """In a node's container its client finds it; for an unknown one the others are named."""
    answer("up", "--nodes", "compose", "--no-seller", "--dir", str(room / "lab"))
    height = answer("status", "--dir", str(room / "lab"))["height"]
    for service, typed, printed in (
        ("elementsd", "elements-cli getblockcount", f"{height}\n"),
        ("lightningd-buyer", "lightning-cli getinfo", '"alias": "buyer"'),
    ):
        typing = [sys.executable, "-m", "lnlab", "shell", service, "--dir", str(room / "lab")]
        done = subprocess.run(
            typing, input=typed, capture_output=True, text=True, timeout=COMMAND_SECS, check=False
        )
        assert done.returncode == 0, done.stderr
        assert printed in done.stdout
    refused = lnlab("shell", "postgres", "--dir", str(room / "lab"))
    assert refused.returncode == 1
    assert "no container of postgres is running" in refused.stderr
    assert "elementsd" in refused.stderr


def test_error_is_about_compose() -> None:
    """What the compose lab raises is one of the errors that a user is told without a traceback."""
    from lnlab.cli.base import EXPECTED_ERRORS

    assert ComposeError in EXPECTED_ERRORS
