"""What can go wrong in a lab on order: from the library on all nodes, and from the command line."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault
from lnlab.lab import Lab, end_lab
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.lightning import LightningRpcError, lightning_call
from lnlab.nodes.record import POLICY_ASSET
from lnlab.scenarios.catalogue import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = b"\x00\x14" + b"\x22" * 20
SOON_SECS = 2.0


async def invoice(lab: Lab) -> str:
    """A new invoice of the seller's node."""
    made = await lightning_call(
        lab.lightning["seller"],
        "invoice",
        amount_msat=5_000,
        label=secrets.token_hex(8),
        description="for a test",
    )
    return str(made["bolt11"])


async def test_failed_payment(lab: Lab) -> None:
    """The seller's node fails as many payments as it was told to, and then none."""
    bolt11, buyer = await invoice(lab), lab.lightning["buyer"]
    await Faults(lab).fail_payments()
    with pytest.raises(LightningRpcError):
        await lightning_call(buyer, "pay", bolt11=bolt11, retry_for=1)
    paid = await lightning_call(buyer, "pay", bolt11=await invoice(lab), retry_for=10)
    assert paid["status"] == "complete"


async def test_proxies_in_front_of_the_nodes(lab: Lab) -> None:
    """Who uses the proxied endpoints meets the faults; the lab itself does not."""
    proxied, faults = await lab.start_proxies(), Faults(lab)
    assert await lab.start_proxies() == proxied

    async def call(name: str) -> Any:
        if name == "electrum":
            return await electrum_call(proxied[name], "server.banner", timeout_secs=SOON_SECS)
        return await lightning_call(proxied[name], "getinfo", timeout_secs=SOON_SECS)

    assert set(proxied) == {"electrum", "lightning-seller", "lightning-buyer"}
    for name in proxied:
        assert await call(name)
        await faults.set(name, Fault.HANG)
        with pytest.raises(TimeoutError):
            await call(name)
        await faults.set(name, Fault.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await call(name)
        await lab.mine()
        await faults.clear()
        assert await call(name)


async def test_transaction_left_out_of_blocks(lab: Lab) -> None:
    """A transaction that a reorg leaves out waits in the mempool for an ordinary block."""
    kept = await lab.faucet.fund(SCRIPT, [(POLICY_ASSET, 1_000)])
    (first,) = await lab.mine()
    left = await lab.faucet.fund(SCRIPT, [(POLICY_ASSET, 2_000)])
    await lab.mine()
    hashes = await lab.reorg(2, 2, without=[left])
    assert first not in hashes
    assert await lab.rpc.call("getrawmempool") == [left]
    mined = [txid for h in hashes for txid in (await lab.rpc.call("getblock", h))["tx"]]
    assert kept in mined
    assert left not in mined
    (last,) = await lab.mine()
    assert left in (await lab.rpc.call("getblock", last))["tx"]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for the command line's lab."""
    with tempfile.TemporaryDirectory(prefix="lnlab-") as name:
        yield Path(name)
        end_lab(Path(name))


def lnlab(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lnlab", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "LNLAB_DIR": str(directory)},
        check=False,
    )


def answer(directory: Path, *arguments: str) -> dict[str, Any]:
    """Run a command with --json and return what it printed."""
    done = lnlab(directory, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def test_command_line(directory: Path) -> None:
    """`up --proxies`, `fault` and `reorg` work together, and say clearly what they cannot do."""
    up = answer(directory, "up", "--no-seller", "--proxies")
    url = up["proxied"]["electrum"]
    assert answer(directory, "fault", "electrum", "hang") == {"place": "electrum", "fault": "hang"}
    with pytest.raises(TimeoutError):
        await electrum_call(url, "server.banner", timeout_secs=0.5)
    assert answer(directory, "fault", "status")["electrum"]["fault"] == "hang"
    answer(directory, "fault", "electrum", "none")
    assert await electrum_call(url, "server.banner")
    height = answer(directory, "mine", "5")["height"]
    answer(directory, "fault", "lightning", "hold")
    answer(directory, "fault", "lightning", "release")
    assert answer(directory, "reorg", "2", "--blocks", "4")["height"] == height + 2
    for arguments, words in (
        (("fault", "moon", "hang"), "there are: electrum"),
        (("fault", "electrum", "explode"), "there are: none"),
        (("fault", "lightning", "lag"), "Electrum proxy only"),
        (("reorg", "90"), "cannot be replaced"),
        (("scenario", "run", "nonsense"), "there are: sale"),
    ):
        refused = lnlab(directory, *arguments)
        assert refused.returncode == 1
        assert words in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr
    assert set(answer(directory, "down")["ended"]) == {"nodes", "faults"}


async def test_scenarios_from_the_command_line(directory: Path) -> None:
    """Every scenario is listed with its promise, and the named ones are played."""
    listed = answer(directory, "scenario", "list")["scenarios"]
    assert [one["name"] for one in listed] == list(SCENARIOS)
    assert all(one["shows"].endswith(".") for one in listed)
    played = answer(directory, "scenario", "run", "refund", "partial-claim")
    assert [one["name"] for one in played["scenarios"]] == ["refund", "partial-claim"]


@pytest.mark.parametrize("command", [("fault",), ("reorg",), ("scenario", "run")])
async def test_each_command_has_an_example(directory: Path, command: tuple[str, ...]) -> None:
    """The help of each command shows how to call it."""
    example = lnlab(directory, *command, "--help").stdout.partition("Example:")[2]
    assert f"lnlab {' '.join(command)}" in example
