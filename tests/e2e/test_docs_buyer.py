"""Every command of docs/buyer.md, run in the page's order by one buyer on a lab."""

import asyncio
import os
import pty
import re
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from ln_liquid_swap.v1 import swap_pb2
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnliquid.buyer import Journal, Record, Step

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(400),  # a dozen programs one after the other, on a machine that is busy
]

PAGE = Path(__file__).resolve().parents[2] / "docs/buyer.md"
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def commands() -> list[str]:
    """The lines of the page's `sh` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


async def run(line: str, directory: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a line in a shell on a terminal, saying yes to both questions; code, stdout, stderr."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"y\ny\n")
    try:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", line),
            cwd=directory,
            env=environment,
            stdin=terminal,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(120):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        os.close(keyboard)
        os.close(terminal)
    return process.returncode or 0, out.decode(), err.decode()


async def save_answers(daemon: SellerDaemon, record: Record, directory: Path) -> None:
    """What the page has the reader save: the raw funding, and the answers of GetSwap, GetOffer."""
    assert record.swap is not None
    stub = daemon.stub()
    swap = await stub.GetSwap(swap_pb2.GetSwapRequest(swap_id=record.swap["swap_id"]), timeout=10)
    offer = await stub.GetOffer(
        swap_pb2.GetOfferRequest(asset_id=record.order.asset_id), timeout=10
    )
    (directory / "swap.json").write_text(json_format.MessageToJson(swap))
    (directory / "offer.json").write_text(json_format.MessageToJson(offer))
    (directory / "funding.hex").write_text(record.funding_raw)


async def test_every_command_of_the_buyers_guide_works(
    daemon: SellerDaemon, tmp_path: Path
) -> None:
    """Each ends with 0; ids, chain and address of the examples are replaced by this buyer's own."""
    buyer = Buyer(daemon, "guide")
    environment = {
        **os.environ,
        **buyer.options,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    lines = commands()
    exported = [line for line in lines if line.startswith("export ")]
    names = {line.removeprefix("export ").split("=")[0] for line in exported}
    assert names == set(buyer.options) - {"LNLIQUID_BUYER_DIR"}
    lines = [line for line in lines if line not in exported]
    # Slow blocks: the dry run that is resumed later must not come near its lock height.
    async with mining(daemon.lab, 1.0):
        for line in lines:
            records = Journal(buyer.directory).all()
            if records:  # the newest is the one that the page is about
                mine = records[-1]
                line = UUID.sub(mine.order.request_id, line)
                line = re.sub(r"\bex1q\w+", mine.claim_address, line)
                line = line.replace("liquidv1", "liquid-regtest")
                if " verify " in line:
                    await save_answers(daemon, mine, tmp_path)
            code, out, err = await run(line, tmp_path, environment)
            assert code == 0, f"$ {line}\n{out}{err}"
    steps = [record.step for record in Journal(buyer.directory).all()]
    assert steps.count(Step.CREATED) == 1, "the last dry run; the first was resumed by its id"
    assert len(steps) == 4
    assert await buyer.balance() == 3 * 250_000_000
