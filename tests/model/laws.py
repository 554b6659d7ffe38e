"""The money rules, as the model can see them: of what is decided and signed, always, and at rest.

Nothing here believes the seller: only its server's view, Lightning and the transactions count. It
is the specification, so it says what must be true and never what to do.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from lnliquid.domain.ports import InvoiceStatus
from lnliquid.domain.reconcile import Action, MakeInvoice
from lnliquid.domain.swap import Outpoint, State, Swap
from lnliquid.store.tables import LIVING, PENDING, Purpose, TxState

from .rules import Rules
from .world import COINS, Sale, Tx, View, World, confirmations, is_buried, spender

FUNDING_CONFS = 1
CHECKS: Counter[str] = Counter()
"""How often each rule was looked at."""


class Broken(Exception):
    """A money rule is broken."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"rule {rule}: {text}")
        self.rule = rule


def demand(rule: str, holds: bool, text: Callable[[], str] | str) -> None:
    """Count the look at a rule; raise `Broken` when it does not hold."""
    CHECKS[rule] += 1
    if not holds:
        raise Broken(rule, text if isinstance(text, str) else text())


def outpoints(swap: Swap) -> tuple[Outpoint, Outpoint]:
    """The swap's asset and subsidy output, once it has a funding."""
    assert swap.asset_outpoint is not None
    assert swap.subsidy_outpoint is not None
    return swap.asset_outpoint, swap.subsidy_outpoint


def _true_state(world: World, view: View, swap: Swap) -> State:
    """What rule 5 makes of a funded swap, from the chain alone."""
    by = spender(world, view, outpoints(swap)[0])
    if by is not None:
        return State.CLAIMED if by.is_claim else State.REFUNDED
    funded = confirmations(view, swap.funding_txid or "") >= FUNDING_CONFS
    return State.FUNDED if funded else State.CREATED


def decided(rules: Rules, world: World, nth: int, after: Swap, action: Action | None) -> None:
    """Rules 3, 5 and 6, at a decision on what is seen now."""
    sale, view = world.sales[nth], world.seen
    demand("5", after.state is _true_state(world, view, after), f"swap {nth} is {after.state.name}")
    if isinstance(action, MakeInvoice):
        is_locked = confirmations(view, after.funding_txid or "") >= FUNDING_CONFS
        demand("3", is_locked, f"invoice of swap {nth} asked for, its lock is not confirmed")
        is_signed = any(_takes_asset(t, nth) for t in _refunds(world) if t.state in LIVING)
        demand("4", not is_signed, f"invoice of swap {nth} asked for, its refund is signed")
    if after.finished and not sale.swap.finished:
        found = [spender(world, view, o) for o in outpoints(after)]
        confs = [confirmations(view, t.txid) if t is not None else 0 for t in found]
        is_final = min(confs) >= world.final_confs
        demand("6", is_final, f"swap {nth} is final, its spends have {confs}")


def _refunds(world: World) -> list[Tx]:
    return [t for t in world.txs if t.purpose is Purpose.REFUND]


def _takes_asset(spend: Tx, nth: int) -> bool:
    return any(o.vout == 2 * nth and o.txid not in COINS for o in spend.inputs)


def is_ordered(world: World, inputs: tuple[Outpoint, ...]) -> bool:
    """True when the operator ordered the refund of what these are of."""
    return all(world.sales[o.vout // 2].swap.forced_refund_reason is not None for o in inputs)


def signed(world: World, new: Tx) -> None:
    """Rule 4, when a transaction of ours is signed."""
    if new.purpose is not Purpose.REFUND:
        return
    view = world.seen
    demand("4", view.tip >= new.lock_height, f"refund signed at {view.tip}: {new.txid}")
    for outpoint in new.inputs:
        by = spender(world, view, outpoint)
        demand("4", by is None or not by.is_claim, f"refund signed, a claim is known: {new.txid}")
        nth = outpoint.vout // 2
        sale = world.sales[nth]
        if outpoint.vout % 2 or new.is_ordered:
            continue  # what is left of the subsidy is no one's price
        demand("4", not sale.is_paid, f"refund signed, swap {nth} is paid")
        is_payable = sale.invoice is InvoiceStatus.UNPAID
        demand("4", not is_payable, f"refund signed, the invoice of swap {nth} can be paid")


def funded(world: World, nths: Iterable[int], family: str) -> None:
    """Rule 2, when a funding of these is signed."""
    for nth in nths:
        sale = world.sales[nth]
        is_shown = sale.is_paid or (sale.is_shown and sale.invoice is InvoiceStatus.UNPAID)
        demand("2", not is_shown, f"swap {nth} is funded again, its buyer was shown the lock")
        families = {t.family for t in _fundings(world, nth)}
        demand("2", families <= {family}, f"swap {nth} is funded again, by another family")


def _fundings(world: World, nth: int) -> list[Tx]:
    return [t for t in world.txs if nth in t.funds]


def sent(world: World, own: Tx) -> None:
    """Rule 4, when a refund is sent again."""
    if own.purpose is Purpose.REFUND:
        view = world.seen
        claims = [t for o in own.inputs if (t := spender(world, view, o)) and t.is_claim]
        is_won = all(is_buried(world, view, t.txid) for t in claims)
        demand("4", is_won, f"{own.txid} is sent, a claim is known that is not buried")


def let_go(world: World, nth: int, after: Swap) -> None:
    """Rules 2 and 4, when a swap fails: no buyer may have paid for it without the operator."""
    sale = world.sales[nth]
    if after.state is State.FAILED:
        is_closed = after.forced_refund_reason is not None
        demand("4", is_closed or not sale.is_paid, f"swap {nth} fails, it is paid")
        is_payable = sale.invoice is InvoiceStatus.UNPAID and sale.is_shown
        demand("4", not is_payable, f"swap {nth} fails, its invoice can be paid")
        gone = all(_is_beaten(world, t) for t in _fundings(world, nth) if t.state not in LIVING)
        demand("2", gone, f"swap {nth} fails, its funding can still confirm")


def _is_beaten(world: World, funding: Tx) -> bool:
    by = [spender(world, world.chain, o) for o in funding.inputs]
    return any(t is not None and is_buried(world, world.chain, t.txid) for t in by)


def always(world: World) -> None:
    """Rules 2, 4 and 6, of any state."""
    there = world.chain.heights()
    bound = world.bound()
    demand("2", len(bound) == len(set(bound)), "an outpoint has two live owners")
    for family in world.families().values():
        stands = [v for v in family if v.state in LIVING]
        demand("2", len(stands) <= 1, f"two versions of {family[0].txid} stand")
    refunds = [t for t in _refunds(world) if not t.is_ordered]
    for nth, sale in enumerate(world.sales):
        alive = [t.txid for t in _fundings(world, nth) if t.txid in there]
        demand("2", len(alive) <= 1, f"swap {nth} is locked twice: {alive}")
        taken = [t for t in refunds if _takes_asset(t, nth) and t.txid in there]
        demand("4", not (taken and sale.is_paid), f"swap {nth} is paid and refunded")
        if sale.swap.finished:
            _final(world, nth, sale)


def _final(world: World, nth: int, sale: Sale) -> None:
    if sale.swap.state is State.FAILED:
        there = world.chain.heights()
        found = [t.txid for t in _fundings(world, nth) if t.txid in there]
        demand("6", not found, f"swap {nth} is FAILED and is funded by {found}")
        return
    state = _true_state(world, world.chain, sale.swap)
    demand("6", state is sale.swap.state, f"swap {nth} is final and {sale.swap.state.name}")


def with_operator(sale: Sale) -> bool:
    """True when the operator is shown that this one is his to decide."""
    return sale.swap.paid_unclaimed


def ended(world: World) -> None:
    """Rules 7 and 10, after a long quiet and honest time."""
    view = world.chain
    for own in world.txs:
        demand("10", own.state not in PENDING, f"frozen: {own.txid} is sent for ever")
        is_there = own.purpose is not None and own.txid in dict(view.blocks)
        is_known = own.state is TxState.CONFIRMED or not is_there
        demand("7", is_known, f"{own.txid} is in a block, and abandoned")
    bound = set(world.bound())
    for name in COINS:
        coin = Outpoint(name, 0)
        is_free = coin not in bound or spender(world, view, coin) is not None
        demand("7", is_free, f"frozen: coin {name} is bound and nothing spends it")
    for nth, sale in enumerate(world.sales):
        swap = sale.swap
        over = swap.finished or with_operator(sale)
        demand("10", over, f"swap {nth} stays {swap.state.name}, {swap.invoice_mark.name}")
        demand(
            "10",
            sale.invoice is not InvoiceStatus.UNPAID or not sale.is_shown,
            f"swap {nth} is over and its invoice can be paid",
        )
        if sale.is_paid and swap.state is not State.CLAIMED:
            is_told = with_operator(sale) or swap.forced_refund_reason is not None
            demand("4", is_told, f"swap {nth} is paid, and the operator is not told")
        for funding in _fundings(world, nth):
            is_there = funding.txid in dict(view.blocks)
            outputs = _htlcs(funding.txid, nth) if is_there else ()
            left = [o for o in outputs if spender(world, view, o) is None]
            demand("7", with_operator(sale) or not left, f"{left} of swap {nth} are left behind")


def _htlcs(txid: str, nth: int) -> tuple[Outpoint, Outpoint]:
    return Outpoint(txid, 2 * nth), Outpoint(txid, 2 * nth + 1)
