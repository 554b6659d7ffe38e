"""What the daemon does, step by step: what it reads, stores and sends, in the order of the service.

What it decides is decided by the service's own functions, which come in `Rules`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace

from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import DropInvoice, MakeInvoice, Refund
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Swap
from lnliquid.store.tables import LIVING, PENDING, Purpose, TxState
from lnliquid.watchers.families import Standing, Version

from . import laws
from .rules import Rules, facts, shows_invoice, tip_of, told_of
from .world import (
    COINS,
    Pending,
    Tx,
    World,
    accept,
    confirmations,
    is_buried,
    note_funding,
    note_spend,
    spender,
)

AGAIN = 10
"""Looks that one round takes at the swaps that it acted on."""


def save(rules: Rules, world: World, nth: int, before: Swap, after: Swap) -> World | None:
    """Store what changed; None when the record is another by now."""
    stored = world.sales[nth].swap
    if (stored.state, stored.funding_txid) != (before.state, before.funding_txid):
        return None
    rules.path(before.state, after.state)
    names = [f.name for f in fields(Swap) if getattr(before, f.name) != getattr(after, f.name)]
    stored = replace(stored, **{name: getattr(after, name) for name in names})
    is_shown = world.sales[nth].is_shown or shows_invoice(stored)
    return world.with_sale(nth, swap=stored, is_shown=is_shown)


# ---- the watcher


def read(rules: Rules, world: World, nth: int, *, lightning: bool = True) -> World:
    """Look at chain and invoice and decide; nothing is stored yet."""
    sale, view = world.sales[nth], world.seen
    swap = sale.swap
    if swap.funding_txid is None or swap.finished:
        return world.with_sale(nth, pending=None)
    seen = facts(rules, view, swap)
    invoice = rules.as_known(swap, told_of(swap, sale.invoice) if lightning else None)
    decision = rules.reconcile(swap, seen, invoice, tip_of(view.tip), rules.policy)
    action = decision.action
    if isinstance(action, Refund) and set(action.outpoints) <= set(world.bound()):
        action = None
    laws.decided(rules, world, nth, decision.swap, action)
    pending = Pending(swap, decision.swap, action) if action or decision.swap != swap else None
    return world.with_sale(nth, pending=pending)


def commit(rules: Rules, world: World, nth: int) -> World:
    """Store what was decided, if the record is what it was."""
    pending = world.sales[nth].pending
    assert pending is not None
    saved = save(rules, world, nth, pending.before, pending.after)
    if saved is None or pending.action is None or pending.after.finished:
        return (saved or world).with_sale(nth, pending=None)
    return saved.with_sale(nth, pending=pending._replace(is_saved=True))


def act(rules: Rules, world: World, nths: Sequence[int], *, send: bool = True) -> World:
    """Carry out what is stored. Refunds share a transaction, but for those that go alone."""
    refunds = []
    for nth in nths:
        sale = world.sales[nth]
        assert sale.pending is not None
        world = world.with_sale(nth, pending=None)
        match sale.pending.action:
            case MakeInvoice():
                if sale.invoice is InvoiceStatus.ABSENT:
                    world = world.with_sale(nth, invoice=InvoiceStatus.UNPAID)
            case DropInvoice(status):
                world = _drop(rules, world, nth, status)
            case _:
                refunds.append(nth)
    return _refund(rules, world, refunds, send=send) if refunds else world


def _drop(rules: Rules, world: World, nth: int, status: InvoiceStatus) -> World:
    sale = world.sales[nth]
    if sale.invoice is status:
        return world.with_sale(nth, invoice=InvoiceStatus.ABSENT)
    if sale.invoice is not InvoiceStatus.ABSENT:
        return world
    lost = replace(sale.swap, invoice_mark=InvoiceMark.LOST)
    return save(rules, world, nth, sale.swap, lost) or world


def watch(rules: Rules, world: World) -> World:
    """A whole round with nothing in between, and again for swaps whose invoice it acted on."""
    nths: list[int] = list(range(len(world.sales)))
    for _ in range(AGAIN):
        for nth in nths:
            world = read(rules, world, nth)
        for nth in nths:
            if world.sales[nth].pending is not None:
                world = commit(rules, world, nth)
        acting = [(nth, world.sales[nth].pending) for nth in nths if world.sales[nth].pending]
        world = act(rules, world, [nth for nth, _ in acting])
        nths = [n for n, p in acting if p is not None and not isinstance(p.action, Refund)]
        if not nths:
            return world
    raise laws.Broken("5", "a round acts for ever")


def _passed(
    rules: Rules, world: World, nth: int, ours: Collection[str] = ()
) -> tuple[Outpoint, ...]:
    """What the gate lets pass: chain and invoice are read once more."""
    sale = world.sales[nth]
    if sale.swap.funding_txid is None or sale.swap.finished:
        return ()
    seen, tip = facts(rules, world.seen, sale.swap), tip_of(world.seen.tip)
    invoice: Invoice | None = rules.as_known(sale.swap, told_of(sale.swap, sale.invoice))
    return rules.may_take_back(sale.swap, seen, invoice, tip, rules.policy, ours)


def _refund(rules: Rules, world: World, nths: Iterable[int], *, send: bool) -> World:
    passed = {nth: _passed(rules, world, nth) for nth in nths}
    alone = (InvoiceMark.PAID, InvoiceMark.LOST)
    apart = [[n] for n in passed if world.sales[n].swap.invoice_mark in alone]
    together = [n for n in passed if [n] not in apart]
    for batch in [together, *apart]:
        bound = set(world.bound())
        inputs = tuple(o for n in batch for o in passed[n] if o not in bound)
        if inputs:
            lock_height = max(world.sales[n].swap.refund_lock_height or 0 for n in batch)
            world = _sign(world, inputs, Purpose.REFUND, lock_height, send=send)
    return world


# ---- own transactions


def _sign(
    world: World, inputs: tuple[Outpoint, ...], purpose: Purpose, lock_height: int, *,
    replaces: Tx | None = None, send: bool = True,
) -> World:  # fmt: skip
    """T2, and the first broadcast. The name tells what it spends."""
    rank = replaces.rank + 1 if replaces else 1
    letter = "F" if purpose is Purpose.FUNDING else "R"
    txid = f"{letter}{rank}({'+'.join(map(str, inputs))})@{lock_height}"
    while txid in (t.txid for t in world.txs):
        txid += "'"  # its change goes elsewhere than that of the one before
    family = replaces.family if replaces else txid
    new = Tx(txid, inputs, purpose, family, rank, lock_height, state=TxState.SIGNED)
    if purpose is Purpose.REFUND:
        new = new._replace(is_ordered=laws.is_ordered(world, inputs))
        note_spend(new)
    if replaces is not None:
        world = world.with_tx(replaces._replace(state=TxState.REPLACED))
    world = world.with_tx(new)
    laws.signed(world, new)
    return first_send(world, txid) if send else world


def fund(world: World, *, send: bool = True) -> World | None:
    """One transaction for all that wait, from a coin that is free; None when there is nothing."""
    waiting = [
        nth
        for nth, sale in enumerate(world.sales)
        if sale.swap.state is State.CREATED and sale.swap.funding_txid is None
    ]
    coins = [Outpoint(name, 0) for name in COINS]
    bound = set(world.bound())
    free = [o for o in coins if o not in bound and spender(world, world.seen, o) is None]
    if not waiting or not free:
        return None
    lock_height = world.seen.tip + 4
    world = _sign(world, (free[0],), Purpose.FUNDING, lock_height, send=False)
    return _bind(world, world.txs[-1], waiting, send=send)


def _bind(world: World, funding: Tx, nths: Iterable[int], *, send: bool) -> World:
    nths = tuple(nths)
    laws.funded(world, nths, funding.family)
    world = world.with_tx(funding._replace(funds=nths))
    for nth in nths:
        swap = replace(
            world.sales[nth].swap,
            funding_txid=funding.txid,
            asset_vout=2 * nth,
            subsidy_vout=2 * nth + 1,
            refund_lock_height=funding.lock_height,
        )
        world = world.with_sale(nth, swap=swap, pending=None)
    note_funding(funding.txid, [(nth, world.sales[nth].swap) for nth in nths])
    return first_send(world, funding.txid) if send else world


def _funded_by(world: World, txids: Collection[str]) -> list[int]:
    return [n for n, sale in enumerate(world.sales) if sale.swap.funding_txid in txids]


def bump(rules: Rules, world: World, family: str, *, send: bool = True) -> World | None:
    """Replace the version that stands and is in no block; None when that is not allowed."""
    versions = world.families()[family]
    old = next((v for v in versions if v.state in PENDING), None)
    if old is None or confirmations(world.seen, old.txid):
        return None
    if old.purpose is Purpose.FUNDING:
        swaps = _funded_by(world, {old.txid})
        if any(rules.was_shown(world.sales[n].swap) for n in swaps):
            return None
        world = _sign(world, old.inputs, Purpose.FUNDING, old.lock_height, replaces=old, send=False)
        return _bind(world, world.txs[-1], swaps, send=send)
    swaps = _funded_by(world, {o.txid for o in old.inputs})
    ours = {v.txid for v in versions}
    passed = {o for n in swaps for o in _passed(rules, world, n, ours)}
    if not set(old.inputs) <= passed:
        return None  # the gate is closed, or nothing is known of an input
    return _sign(world, old.inputs, Purpose.REFUND, old.lock_height, replaces=old, send=send)


def first_send(world: World, txid: str) -> World:
    """Broadcast, and store the answer."""
    taken = accept(world, txid)
    state = TxState.REFUSED if taken is None else TxState.ACCEPTED
    own = world.tx(txid)
    return (taken or world).with_tx(own._replace(state=state) if own.state in PENDING else own)


def check(rules: Rules, world: World) -> World:
    """Look where each family is, store it, send what no node has, give up what is dead."""
    seen = world.seen.heights()
    standings: dict[str, Standing] = {}
    for family, versions in world.families().items():
        if any(v.state in LIVING for v in versions):
            standing = rules.stand(_versions(versions), seen)
            if standing is not None:
                standings[family] = standing
                world = _settle(rules, world, family, standing)
    for family, standing in standings.items():
        if standing.send:
            world = _send_again(rules, world, family, standing)
    return _let_go(rules, world)


def _versions(versions: Iterable[Tx]) -> list[Version]:
    return [Version(v.txid, v.state or TxState.SIGNED, v.height) for v in versions]


def _settle(rules: Rules, world: World, family: str, standing: Standing) -> World:
    before = world.families()[family]
    for own, after in zip(before, rules.settled(_versions(before), standing), strict=True):
        if after.state is TxState.REPLACED and own.state is not TxState.REPLACED:
            for nth in _funded_by(world, {own.txid}):
                swap = replace(world.sales[nth].swap, funding_txid=standing.current)
                world = world.with_sale(nth, swap=swap, pending=None)
        world = world.with_tx(own._replace(state=after.state, height=after.height))
    return world


def _send_again(rules: Rules, world: World, family: str, standing: Standing) -> World:
    versions = world.families().get(family, [])
    inputs = {v.txid: set(v.inputs) for v in versions}
    wanted = inputs[standing.current]
    may_send = all(
        rules.may_send(s.swap, facts(rules, world.seen, s.swap), wanted)
        for s in world.sales
        if wanted & {s.swap.asset_outpoint, s.swap.subsidy_outpoint}
    )
    if versions[0].purpose is not Purpose.REFUND or may_send:
        for txid in standing.send:
            laws.sent(world, world.tx(txid))
            taken = accept(world, txid)
            if taken is not None:
                stands = Standing(txid, TxState.ACCEPTED, None)
                return _settle(rules, taken, family, stands)
        now = Standing(standing.current, TxState.REFUSED, None)
        world = _settle(rules, world, family, now)
    view = world.seen
    buried_at = view.tip - world.final_confs + 1
    families = {v.txid: vs for vs in world.families().values() for v in vs}
    gone = set()
    for outpoint in {o for spent in inputs.values() for o in spent}:
        made_by = families.get(outpoint.txid)
        is_lost = made_by and rules.is_lost(outpoint.txid, _versions(made_by), buried_at)
        by = spender(world, view, outpoint)
        is_beaten = by and by.txid not in inputs and is_buried(world, view, by.txid)
        if is_lost or is_beaten:
            gone.add(outpoint)
    is_dead = rules.is_dead([*inputs.values()], gone)
    return _abandon(world, family, buried_at) if is_dead else world


def _abandon(world: World, family: str, height: int) -> World:
    versions = world.families()[family]
    txids = {v.txid for v in versions}
    stands = [v for v in versions if v.state in LIVING]
    world = world.with_tx(*(v._replace(state=TxState.ABANDONED, height=height) for v in stands))
    for name, below in world.families().items():
        spends = any(o.txid in txids for v in below for o in v.inputs)
        if spends and any(v.state in LIVING for v in below):
            world = _abandon(world, name, height)
    return world


def _let_go(rules: Rules, world: World) -> World:
    for nth, sale in enumerate(world.sales):
        swap = sale.swap
        funding = next((t for t in world.txs if t.txid == swap.funding_txid), None)
        if funding is None or funding.state is not TxState.ABANDONED:
            continue
        if swap.finished or swap.state is not State.CREATED:
            continue
        after = rules.without_funding(swap, funding.height)
        if after != swap:
            laws.let_go(world, nth, after)
            saved = save(rules, world, nth, swap, after)
            world = (saved or world).with_sale(nth, pending=None)
    return world
