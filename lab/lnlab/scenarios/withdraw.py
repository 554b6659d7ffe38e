"""Withdraw: coins go out to an address, once, though the daemon is killed on the way."""

import hashlib
import json
import uuid

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.programs import ProgramError, run_program
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.record import POLICY_ASSET
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import available, until, until_available

CRASH_VARIABLE = "LNLIQUID_CRASH_AT"
WITHDRAW_POINTS = ("withdraw.planned", "withdraw.stored", "withdraw.sent")
AMOUNT = 12_345


async def withdraw(daemon: SellerDaemon, say: Say) -> None:
    """The operator takes coins out; killed on the way, the daemon sends them once."""
    for asset in (daemon.asset_id, POLICY_ASSET):
        await withdraw_at(daemon, None, asset, say)
    for point in WITHDRAW_POINTS:
        await withdraw_at(daemon, point, daemon.asset_id, say)


async def withdraw_at(daemon: SellerDaemon, point: str | None, asset: str, say: Say) -> None:
    """Killed at this point, the daemon sends it once when the operator asks again."""
    other = HandBuyer(daemon)
    address, script = other.address, other.script
    before = await available(daemon)
    request_id = str(uuid.uuid4())
    order = (
        *("lnliquid", "withdraw", asset, str(AMOUNT), address, "--yes", "--json"),
        *("--request-id", request_id, "--operator", daemon.operator_address),
    )
    if point is not None:
        await daemon.restart({CRASH_VARIABLE: point})
        try:
            await run_program(*order)
        except ProgramError:
            say(f"dead at {point}")
        await daemon.wait_dead()
        await daemon.start()
    made = json.loads(await run_program(*order))["withdrawal"]
    again = json.loads(await run_program(*order))["withdrawal"]
    require(made["txid"] == again["txid"], f"withdrawn twice: {made} and {again}")
    scripthash = hashlib.sha256(script).digest()[::-1].hex()

    async def arrived() -> bool:
        method = "blockchain.scripthash.get_history"
        history = await electrum_call(daemon.lab.electrum_url, method, scripthash)
        require(len(history) <= 1, f"{address} was paid {len(history)} times")
        return [item["tx_hash"] for item in history] == [made["txid"]]

    await until(daemon, arrived, f"{address} is paid")
    await daemon.lab.mine(1)
    sold = AMOUNT if asset == daemon.asset_id else 0
    await until_available(daemon, before - sold)

    async def confirmed() -> bool:
        listed = json.loads(
            await run_program(
                *("lnliquid", "withdrawals", "--json", "--operator", daemon.operator_address)
            )
        )
        newest = listed["withdrawals"][0]
        require(newest["request_id"] == request_id, f"the newest withdrawal is {newest}")
        return bool(newest["state"] == "WITHDRAWAL_STATE_CONFIRMED")

    await until(daemon, confirmed, "the withdrawal is in a block")
    say(f"{AMOUNT} of {asset[:8]}… withdrawn, once")
