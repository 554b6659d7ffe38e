"""Everything that can happen next: to the daemon, to the buyer, at Lightning, to the chain.

What is honest and in order costs nothing; what goes wrong takes one of the world's `faults`.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

from lnliquid.domain.ports import InvoiceStatus
from lnliquid.domain.reconcile import DropInvoice, MakeInvoice, Refund
from lnliquid.domain.swap import InvoiceMark, Outpoint
from lnliquid.store.tables import Purpose

from . import daemon
from .rules import Rules
from .world import Sale, Tx, World, accept, mine, note_spend, reorg

Move = tuple[str, World]
RIVAL = "X(another wallet of the same words)"
UNPAID, PAID, ABSENT = InvoiceStatus.UNPAID, InvoiceStatus.PAID, InvoiceStatus.ABSENT


def moves(rules: Rules, world: World) -> Iterator[Move]:
    """Each move with what it leads to; those that change nothing too."""
    yield from _daemon(rules, world)
    for nth in range(len(world.sales)):
        yield from _steps(rules, world, nth)
        yield from _buyer(world, nth)
        yield from _lightning(world, nth)
    yield from _chain(world)


def _failing(world: World, cost: int = 1) -> World | None:
    left = world.faults - cost
    return world._replace(faults=left) if left >= 0 else None


def _daemon(rules: Rules, world: World) -> Iterator[Move]:
    calm = world
    for nth in range(len(world.sales)):
        calm = calm.with_sale(nth, pending=None)
    if calm != world:
        yield "the daemon dies and starts", calm
    else:
        yield "the watcher makes its round", daemon.watch(rules, world)
        yield "own transactions are looked at", daemon.check(rules, world)
    failing = _failing(world)
    for at, send, word in ((world, True, ""), (failing, False, ", and it dies before it is sent")):
        if at is None:
            continue
        funded = daemon.fund(at, send=send)
        if funded is not None:
            yield f"the funder signs{word}", funded
        for family, versions in world.families().items():
            if len(versions) < 2:
                bumped = daemon.bump(rules, at, family, send=send)
                if bumped is not None:
                    yield f"{family} is bumped{word}", bumped


def _steps(rules: Rules, world: World, nth: int) -> Iterator[Move]:
    """A round in parts: anything may come in between, death included."""
    pending = world.sales[nth].pending
    name = f"swap {nth}"
    if pending is None:
        failing = _failing(world)
        if failing is not None:
            read = daemon.read(rules, failing, nth)
            if read.sales[nth].pending is not None:
                yield f"{name} is read and decided", read
            blind = daemon.read(rules, failing, nth, lightning=False)
            if blind.sales[nth].pending not in (None, read.sales[nth].pending):
                yield f"{name} is read and decided, Lightning does not answer", blind
    elif not pending.is_saved:
        yield f"the decision on {name} is stored", daemon.commit(rules, world, nth)
    else:
        yield f"what was decided on {name} is done", daemon.act(rules, world, [nth])
        if isinstance(pending.action, Refund):
            unsent = daemon.act(rules, world, [nth], send=False)
            yield f"the refund of {name} is stored, and it dies", unsent
        elif not world.sales[nth].hung:
            kind = {MakeInvoice: "make", DropInvoice: "drop"}[type(pending.action)]
            hangs = world.with_sale(nth, hung=kind, pending=None)
            yield f"the call to {kind} the invoice of {name} hangs", hangs
    swap = world.sales[nth].swap
    if swap.paid_unclaimed and swap.forced_refund_reason is None:
        ordered = replace(swap, forced_refund_reason="agreed with the buyer")
        yield f"the operator orders the refund of {name}", world.with_sale(nth, swap=ordered)


def _buyer(world: World, nth: int) -> Iterator[Move]:
    sale = world.sales[nth]
    if sale.is_shown and sale.invoice is UNPAID:
        paid = world.with_sale(nth, invoice=PAID, is_paid=True)
        yield f"buyer {nth} pays", paid
    if not sale.is_paid or any(t.is_claim and t.inputs[0].vout // 2 == nth for t in world.txs):
        return
    for funding in [t for t in world.txs if nth in t.funds]:
        asset, subsidy = Outpoint(funding.txid, 2 * nth), Outpoint(funding.txid, 2 * nth + 1)
        for what, inputs, replaceable in (
            ("both", (asset, subsidy), False),
            ("both, replaceably,", (asset, subsidy), True),
            ("the asset", (asset,), False),
            ("the subsidy", (subsidy,), False),
        ):
            txid = f"C{nth}({what} of {funding.txid})"
            claim = Tx(txid, inputs, replaceable=replaceable, is_claim=True)
            note_spend(claim)
            claimed = accept(world.with_tx(claim), claim.txid)
            if claimed is not None:
                yield f"buyer {nth} claims {what} of {funding.txid}", claimed


def _lightning(world: World, nth: int) -> Iterator[Move]:
    sale = world.sales[nth]
    if sale.invoice is UNPAID:
        yield (
            f"the invoice of swap {nth} expires",
            world.with_sale(nth, invoice=InvoiceStatus.EXPIRED),
        )
    late = resolved(world, nth)
    if late != world:
        yield f"the hung call for swap {nth} is carried out", late
    failing = _failing(world)
    if (
        failing is not None
        and sale.invoice is not ABSENT
        and (world.are_deleted or may_be_deleted(sale))
    ):
        gone = failing.with_sale(nth, invoice=ABSENT)
        yield f"another deletes the invoice of swap {nth}", gone


def may_be_deleted(sale: Sale) -> bool:
    """The operator's part of ADR 4: a paid invoice is deleted by no one before that was seen.

    Where the daemon expects the invoice to be there, and does nothing about it, it notices all the
    same: that is played.
    """
    is_expected = sale.swap.invoice_mark in (InvoiceMark.ASKED, InvoiceMark.PAID)
    is_noticed = is_expected and not sale.hung and sale.pending is None
    return sale.invoice is not PAID or is_noticed


def resolved(world: World, nth: int) -> World:
    """Lightning carries out the call that hung, if it still can."""
    sale = world.sales[nth]
    after = {"make": (ABSENT, UNPAID), "drop": (UNPAID, ABSENT)}.get(sale.hung)
    if after is None:
        return world
    invoice = after[1] if sale.invoice is after[0] else sale.invoice
    return world.with_sale(nth, invoice=invoice, hung="")


def _chain(world: World) -> Iterator[Move]:
    if world.chain.tip < world.limit:
        everything = minable(world)
        yield "a block with the whole mempool", everything
        for txids, mined in _blocks(world):
            if mined != everything:
                yield f"a block with {' and '.join(txids) or 'nothing'}", mined
    failing = _failing(world)
    if failing is None:
        if world.stalled:
            yield "the server catches up", world._replace(stalled=None)
        return
    rivalled = _with_rival(failing)
    for depth in range(1, world.final_confs):
        for txids in ((), *((t,) for t in _minable_names(world)), (RIVAL,)):
            after = reorg(rivalled if RIVAL in txids else failing, depth, txids)
            if after is not None and after.chain != world.chain:
                yield f"a reorg of {depth}, with {' '.join(txids) or 'nothing'}", after
    for txid in world.chain.mempool:
        kept = tuple(t for t in world.chain.mempool if t != txid)
        kept = tuple(t for t in kept if all(o.txid != txid for o in world.tx(t).inputs))
        yield (
            f"the mempool forgets {txid}",
            failing._replace(chain=world.chain._replace(mempool=kept)),
        )
    beaten = mine(rivalled, [RIVAL]) if rivalled is not failing else None
    if beaten is not None and world.chain.tip < world.limit:
        yield f"a block with {RIVAL}", beaten
    if world.stalled is None:
        yield "the server stalls", failing._replace(stalled=world.chain)
    else:
        yield "the server catches up", world._replace(stalled=None)


def _with_rival(world: World) -> World:
    """A second wallet of the same words has signed for the coin of the first funding."""
    funding = next((t for t in world.txs if t.purpose is Purpose.FUNDING), None)
    if funding is None or RIVAL in world.sent:
        return world
    return world.with_tx(Tx(RIVAL, funding.inputs, replaceable=False))


def _minable_names(world: World) -> list[str]:
    return sorted(world.sent)


def _blocks(world: World) -> Iterator[tuple[tuple[str, ...], World]]:
    """Blocks of none, one or two of all that a miner ever heard of."""
    there = dict(world.chain.blocks)
    names = [t for t in _minable_names(world) if t not in there]
    done = set()
    for size in (0, 1, 2):
        for txids in permutations(names, size):
            mined = mine(world, txids)
            if mined is not None and mined not in done:
                done.add(mined)
                yield txids, mined


def minable(world: World) -> World:
    """A block with all of the mempool that can be in it."""
    left = list(world.chain.mempool)
    order = [t.txid for t in world.txs]
    block: list[str] = []
    for txid in sorted(left, key=order.index):
        if mine(world, [*block, txid]) is not None:
            block.append(txid)
    mined = mine(world, block)
    assert mined is not None
    return mined


def quiet(rules: Rules, world: World) -> World:
    """A quiet and honest while: nothing lags or hangs, the daemon does its work, a block comes."""
    world = at_peace(world)
    world = daemon.check(rules, daemon.watch(rules, world))
    world = daemon.fund(world) or world
    world = daemon.check(rules, daemon.watch(rules, world))
    return minable(world)


def at_peace(world: World) -> World:
    """The same after a restart, with nothing left that may go wrong."""
    for nth in range(len(world.sales)):
        world = resolved(world.with_sale(nth, pending=None), nth)
    return world._replace(stalled=None, faults=0, sent=frozenset(), limit=0)
