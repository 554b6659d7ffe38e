"""Steps that the scenarios share: asking the daemon, the chain and Lightning what they have."""

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import grpc
from embit.liquid.transaction import LTransaction

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import LAB_SETTINGS, SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.lightning import lightning_call
from lnlab.nodes.rpc import NodeRpcError
from lnlab.scenarios.sale import require

CREATED, FUNDED = pb.SWAP_STATE_CREATED, pb.SWAP_STATE_FUNDED
CLAIMED, REFUNDED = pb.SWAP_STATE_CLAIMED, pb.SWAP_STATE_REFUNDED

WAIT_SECS = 40.0
FINAL_CONFS = int(LAB_SETTINGS["final_confs"])
FINAL_BLOCKS_SECS = 5.0


class Spend(NamedTuple):
    """What spends an HTLC output: ``kind`` is ``claim`` or ``refund``, as the witness shows."""

    txid: str
    kind: str


def name_of(state: Any) -> str:
    """The state's name as people write it."""
    return str(pb.SwapState.Name(state)).removeprefix("SWAP_STATE_")


async def look(daemon: SellerDaemon, swap_id: str) -> pb.GetSwapResponse:
    """The swap and its events."""
    request = pb.GetSwapRequest(swap_id=swap_id)
    reply: pb.GetSwapResponse = await daemon.stub().GetSwap(request, timeout=10)
    return reply


async def until(
    daemon: SellerDaemon,
    predicate: Callable[[], Awaitable[Any]],
    message: str,
    timeout_secs: float = WAIT_SECS,
) -> Any:
    """Wait for something that the daemon does once it has seen the chain."""

    async def nudged() -> Any:
        daemon.lab.nudge_electrum()
        return await predicate()

    return await daemon.lab.wait_for(nudged, timeout_secs=timeout_secs, message=message)


async def until_state(
    daemon: SellerDaemon, swap_id: str, state: int, *, invoice: bool | None = None
) -> pb.Swap:
    """Wait until the swap is in this state (and has an invoice, or none); returns it."""

    async def reached() -> pb.Swap | None:
        swap = (await look(daemon, swap_id)).swap
        fits = swap.state == state and invoice in (None, bool(swap.bolt11))
        return swap if fits else None

    swap: pb.Swap = await until(daemon, reached, f"swap {swap_id} is {name_of(state)}")
    return swap


async def until_final(daemon: SellerDaemon, swap_id: str, state: int) -> pb.Swap:
    """Mine until the swap is final, and require this state of it."""
    await until_state(daemon, swap_id, state)
    mined_at = float("-inf")

    async def final() -> pb.Swap | None:
        nonlocal mined_at
        swap = (await look(daemon, swap_id)).swap
        now = time.monotonic()
        # Not at each look: the daemon reads under one tip, which must stand for a moment.
        if not swap.is_final and now - mined_at > FINAL_BLOCKS_SECS:
            await daemon.lab.mine(FINAL_CONFS)
            mined_at = now
        return swap if swap.is_final else None

    swap: pb.Swap = await until(daemon, final, f"swap {swap_id} is final")
    require(
        swap.state == state,
        f"swap {swap_id} ended as {name_of(swap.state)}, not as {name_of(state)}",
    )
    return swap


async def mine_to(daemon: SellerDaemon, height: int) -> None:
    """Mine until the tip has this height; nothing when it is that high."""
    missing = height - (await daemon.lab.tip()).height
    if missing > 0:
        await daemon.lab.mine(missing)


async def available(daemon: SellerDaemon) -> int:
    """How much of the asset a new swap could reserve, as the offer says."""
    request = pb.GetOfferRequest(asset_id=daemon.asset_id)
    reply = await daemon.stub().GetOffer(request, timeout=10)
    return int(reply.offer.available_amount)


async def until_available(daemon: SellerDaemon, amount: int) -> None:
    """Wait until exactly this much can be reserved."""

    async def is_so() -> bool:
        return await available(daemon) == amount

    await until(daemon, is_so, f"{amount} of the asset are available again")


async def invoice_status(daemon: SellerDaemon, swap_id: str) -> str | None:
    """Status of the swap's invoice on the seller's node, None when it has none."""
    seller = daemon.lab.lightning["seller"]
    found = await lightning_call(seller, "listinvoices", label=swap_id)
    return str(found["invoices"][0]["status"]) if found["invoices"] else None


async def until_no_invoice(daemon: SellerDaemon, swap_id: str) -> None:
    """Wait until the seller's node has no invoice of this swap."""

    async def gone() -> bool:
        return await invoice_status(daemon, swap_id) is None

    await until(daemon, gone, f"the invoice of {swap_id} is deleted")


async def history(daemon: SellerDaemon, swap: pb.Swap) -> set[str]:
    """Every transaction that touches the HTLC's script, as the Electrum server has them."""
    script = b"\x00\x20" + hashlib.sha256(swap.witness_script).digest()
    scripthash = hashlib.sha256(script).digest()[::-1].hex()
    items = await electrum_call(
        daemon.lab.electrum_url, "blockchain.scripthash.get_history", scripthash
    )
    return {str(item["tx_hash"]) for item in items}


async def spends(daemon: SellerDaemon, swap: pb.Swap) -> dict[str, Spend]:
    """What spends ``asset`` and ``subsidy``, read from elementsd: chain and mempool."""
    outputs = {
        (swap.funding_txid, swap.asset_vout): "asset",
        (swap.funding_txid, swap.subsidy_vout): "subsidy",
    }
    found: dict[str, Spend] = {}
    for txid in await history(daemon, swap):
        try:
            raw = bytes.fromhex(await daemon.lab.rpc.call("getrawtransaction", txid))
        except NodeRpcError:  # the Electrum server is a moment behind
            continue
        for spending in LTransaction.parse(raw).vin:
            which = outputs.get((spending.txid.hex(), spending.vout))
            if which is not None:
                items = spending.witness.script_witness.items
                require(which not in found, f"the {which} output is spent twice")
                found[which] = Spend(txid, "claim" if len(items) == 5 else "refund")
    return found


async def require_spends(daemon: SellerDaemon, swap: pb.Swap, asset: str, subsidy: str) -> None:
    """Require how the two outputs of a final swap were spent: ``claim`` or ``refund``."""
    found = {name: spend.kind for name, spend in (await spends(daemon, swap)).items()}
    wanted = {"asset": asset, "subsidy": subsidy}
    require(found == wanted, f"swap {swap.swap_id}: the outputs went {found}, expected {wanted}")


async def require_path(daemon: SellerDaemon, swap_id: str, states: Iterable[int]) -> None:
    """Require the swap's events to lead through just these states; some keep the state as it is.

    A real electrs takes a transaction out of its mempool before it has the block that holds it.
    Who looks in between sees neither: back to the state before, and there again a moment later.
    """
    events = (await look(daemon, swap_id)).events
    passed = [name_of(e.to_state) for e in events if e.from_state != e.to_state]
    wanted = [name_of(state) for state in states]
    if daemon.lab.nodes.kind != "embedded":
        while passed != wanted and (seen_twice := _blink(passed)) is not None:
            del passed[seen_twice : seen_twice + 2]
    require(passed == wanted, f"swap {swap_id} went {passed}, expected {wanted}")


def _blink(passed: list[str]) -> int | None:
    """Where a spend was not seen for a moment: the position of FUNDED between the same state."""
    for at in range(1, len(passed) - 1):
        before, there, after = passed[at - 1 : at + 2]
        if there == name_of(FUNDED) and before == after and before != name_of(CREATED):
            return at
    return None


def log_of(daemon: SellerDaemon) -> str:
    """The daemon's log with single spaces, to look for events in."""
    return " ".join(daemon.log.read_text(errors="replace").split())


def is_logged(daemon: SellerDaemon, event: str, swap_id: str) -> bool:
    """True when a line of the daemon's log tells of this event of this swap."""
    lines = daemon.log.read_text(errors="replace").splitlines()
    return any(event in line and swap_id in line for line in lines)


async def sell(daemon: SellerDaemon, buyer: HandBuyer, amount: int = 1_000) -> pb.Swap:
    """A whole sale by hand, to the final claim: everything works."""
    swap = await buyer.order(amount)
    await buyer.send(buyer.claim(swap, await buyer.pay(swap)))
    return await until_final(daemon, swap.swap_id, CLAIMED)


async def refund_now(daemon: SellerDaemon, swap: pb.Swap) -> pb.Swap:
    """Mine to the lock height and on until the refund is final."""
    await mine_to(daemon, swap.refund_lock_height)
    return await until_final(daemon, swap.swap_id, REFUNDED)


async def require_refusal(call: Awaitable[Any], code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """Require a call to end with this status; returns the error."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        require(error.code() is code, f"the call ended {error.code()}, expected {code}")
        return error
    require(False, f"the call succeeded, expected {code}")
    raise AssertionError  # require has raised


async def cut_off_height(daemon: SellerDaemon, swap: pb.Swap) -> int:
    """The highest tip at which the swap may still be paid, as the seller tells it."""
    return int((await look(daemon, swap.swap_id)).swap.payable_until_height)
