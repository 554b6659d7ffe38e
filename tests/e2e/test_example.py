"""The library's example and the questions of `lnliquid buy`, as a person runs them, on a lab."""

import asyncio
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnliquid.buyer import Journal, Step
from lnliquid.buyer.verify import CHECKS

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),  # each starts several programs
]

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/buy.py"
AMOUNT = 2_500


async def run_example(buyer: Buyer, *arguments: str) -> tuple[int, str]:
    """`python docs/examples/buy.py …`; exit code and all output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        *arguments,
        env={**os.environ, **buyer.options},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def test_the_example_verifies_pays_and_claims(daemon: SellerDaemon) -> None:
    """It prints every check before it pays, and the asset arrives."""
    buyer = Buyer(daemon, "example")
    async with mining(daemon.lab, 0.3):
        code, output = await run_example(buyer, str(AMOUNT), "1000000000")
    assert code == 0, output
    assert (
        output.index("  timelock budget: ")
        < output.index("  pay: paying")
        < output.index("\npaid ")
    )
    assert await buyer.balance() == AMOUNT


async def test_the_example_ends_with_a_sentence_when_it_does_not_buy(daemon: SellerDaemon) -> None:
    """A limit below the price: exit code 1, no traceback, and no swap was asked for."""
    buyer = Buyer(daemon, "too-dear")
    code, output = await run_example(buyer, str(AMOUNT), "1")
    assert (code, "above your limit" in output) == (1, True), output
    assert "Traceback" not in output
    assert Journal(buyer.directory).all() == []


async def ask_and_answer(buyer: Buyer, *answers: str) -> tuple[int, str]:
    """`lnliquid buy` on a terminal, each question answered in turn; exit code and stderr."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lnliquid", "buy", f"--amount={AMOUNT}", "--confs=1"),
        env={**os.environ, **buyer.options},
        stdin=theirs,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(120):
            for answer in answers:
                said += await process.stderr.readuntil(b"[y/N]:")
                os.write(ours, answer.encode() + b"\n")
            said += await process.stderr.read()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
    return code, said.decode()


async def test_a_no_to_the_quote_orders_nothing(daemon: SellerDaemon) -> None:
    """The price is shown first; after a no there is nothing in the journal."""
    buyer = Buyer(daemon, "quote")
    code, said = await ask_and_answer(buyer, "n")
    assert code == 1
    assert re.search(r"^you pay +[\d,.]+ sat$", said, re.MULTILINE)
    assert "nothing is locked and nothing is paid" in said
    assert Journal(buyer.directory).all() == []


async def test_a_no_to_the_verdict_pays_nothing_and_a_yes_pays(daemon: SellerDaemon) -> None:
    """Every check is shown before the second question; after a no plain `resume` does not pay."""
    buyer = Buyer(daemon, "asked")
    async with mining(daemon.lab, 0.3):
        code, said = await ask_and_answer(buyer, "y", "n")
        (record,) = Journal(buyer.directory).all()
        assert (code, record.step, record.dry_run) == (1, Step.CREATED, True)
        assert said.count("\nok     ") == len(CHECKS)
        assert said.index("timelock budget") < said.index("Every check passed. Pay ")
        assert "nothing was paid" in said
        assert (await buyer.run("resume"))["purchases"] == []
        code, said = await ask_and_answer(buyer, "y", "y")
        assert code == 0, said
    assert await buyer.balance() == AMOUNT
