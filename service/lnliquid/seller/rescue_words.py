"""What a rescue says of each swap: what was found, and who acts next."""

from dataclasses import dataclass

from lnliquid.ports import InvoiceStatus
from lnliquid.seller.reconcile import Policy
from lnliquid.seller.rescue_fundings import Choice, Fate
from lnliquid.seller.rescue_reading import RescuePicture
from lnliquid.swap import InvoiceMark, State, Swap


@dataclass(frozen=True, slots=True)
class Finding:
    """One swap. `action`: rebuilt, updated, unchanged or left out. `state` None when left out."""

    swap_id: str
    action: str
    state: str | None
    invoice: str
    found: str
    next: str
    needs_operator: bool


def found_words(
    swap_id: str,
    before: Swap | None,
    after: Swap | None,
    choice: Choice,
    picture: RescuePicture,
    policy: Policy,
) -> Finding:
    """The finding for a swap that is stored as `after` (None: nothing is stored of it)."""
    status = picture.invoices[swap_id].status
    if after is None or (choice.fate is Fate.UNRESOLVED and not after.finished):
        action = "left out" if after is None else "unchanged"
        state = None if after is None else after.state.name
        return Finding(swap_id, action, state, status.value, choice.why, "operator", True)
    if choice.fate is Fate.SEEN and after.state is State.FAILED:
        return Finding(
            swap_id,
            "unchanged",
            after.state.name,
            status.value,
            "its funding is on the chain, and the database has it as FAILED, which nobody follows",
            "operator: move the database away and run `lnliquid rescue` again, without it",
            True,
        )
    action = "unchanged" if after == before else "rebuilt" if before is None else "updated"
    found, following = _words(after, status, choice, picture, policy)
    lost = after.invoice_mark is InvoiceMark.LOST and after.state <= State.FUNDED
    if choice.fate is Fate.SEEN and choice.why:
        found, lost = f"{found}; {choice.why}", True
    return Finding(swap_id, action, after.state.name, status.value, found, following, lost)


def place_taken(swap_id: str, other: str, picture: RescuePicture) -> Finding:
    """The finding for a swap whose key index or request id another one has.

    That comes of a daemon that served an older copy of the database.
    """
    status = picture.invoices[swap_id].status
    found = f"swap {other} has its key index or its request id, and the database holds only one"
    return Finding(swap_id, "left out", None, status.value, found, "operator", True)


def _words(
    swap: Swap, status: InvoiceStatus, choice: Choice, picture: RescuePicture, policy: Policy
) -> tuple[str, str]:
    height = picture.heights.get(swap.funding_txid or "")
    lock = swap.refund_lock_height or 0
    is_open = picture.tip.height >= lock
    match swap.state:
        case State.FAILED:
            return choice.why or "nothing was ever locked", "nobody: it is over"
        case State.CLAIMED | State.REFUNDED if swap.finished:
            what = "claimed by the buyer" if swap.state is State.CLAIMED else "refunded"
            return f"{what}, and that is buried", "nobody: it is over"
        case State.CLAIMED:
            return f"claimed in {swap.spend_txid}", (
                f"daemon: waits until that has {policy.final_confs} confirmations"
            )
        case State.REFUNDED:
            return f"our refund {swap.spend_txid} was sent", (
                f"daemon: waits until that has {policy.final_confs} confirmations"
            )
        case State.CREATED if choice.fate in (Fate.SENDABLE, Fate.STORED):
            return "no node shows its funding", "daemon: sends the same bytes again"
        case State.CREATED:
            where = "in the mempool" if height is None else f"in block {height}"
            found = f"funding {where}"
        case _:
            found = f"funded in block {height}"
    if swap.invoice_mark is InvoiceMark.LOST:
        return f"{found}; its invoice was asked for and is gone: perhaps paid", (
            f"buyer: may claim; operator: decides from block {lock} on (lnliquid refund)"
        )
    if swap.invoice_mark is InvoiceMark.PAID:
        return f"{found} and paid", (
            "buyer: claims; the lock height is past, it is never refunded by itself"
            if is_open
            else "buyer: claims"
        )
    if swap.state is State.CREATED:
        return found, "daemon: makes the invoice when it is confirmed"
    if is_open:
        return f"{found}, not paid, lock height {lock} reached", "daemon: refunds it now"
    invoice = {
        InvoiceStatus.UNPAID: ("invoice unpaid", "buyer: may pay"),
        InvoiceStatus.EXPIRED: ("invoice expired", "nobody can pay"),
    }.get(status, ("no invoice now", "daemon: makes one if there is time"))
    return f"{found}, {invoice[0]}", f"{invoice[1]}; daemon: refunds it from block {lock} on"
