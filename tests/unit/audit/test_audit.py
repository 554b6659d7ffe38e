"""The audit: exact on a whole history of a seller, loud for each inconsistency planted in it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from lnliquid.audit.evidence import ChainPicture, SeenTx
from lnliquid.audit.report import Report, audit
from lnliquid.audit.snapshot import StillMoving, take_audit
from lnliquid.audit.statements import Difference
from lnliquid.cli.audit import verdict
from lnliquid.domain import htlc
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.swap import Coin, Outpoint, State, Swap, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.keys import CHANGE, RECEIVE
from lnliquid.store.survey import Binding, OwnTx, StoredCoin, StoreFacts
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.observe import witness_script

from ..builders import (
    ASSET,
    BUYER,
    LOCK_HEIGHT,
    POLICY_ASSET,
    SELLER,
    make_swap,
    outpoints,
    plan_funding,
    preimage_of,
    txid_of,
    uuid_of,
    wallet_coin,
)
from ..fakes import FakeChain

FUNDED_AT, CLAIMED_AT, REFUNDED_AT = 20, 21, 22
TIP = Tip(30, "tip")
STRANGER = bytes(22)
OUTSIDE = BUYER.wallet_key(CHANGE, 0)
"""Whoever pays the seller's stock in."""


def wallet_script(branch: int, index: int) -> bytes:
    """Output script of one of the seller's addresses."""
    return htlc.p2wpkh_script(SELLER.wallet_key(branch, index).key_hash)


def paid_in(index: int, asset_id: str, value: int, height: int | None) -> tuple[Coin, bytes]:
    """A coin at receive address `index`, and the transaction of somebody else that made it."""
    signed = tx_builder.sign(
        [tx_builder.wallet_spend(Outpoint(txid_of(index), 0), value, OUTSIDE)],
        [tx_builder.Output(wallet_script(RECEIVE, index), asset_id, value)],
        policy_asset=POLICY_ASSET,
        fee=100,
    )
    return Coin(Outpoint(signed.txid, 0), asset_id, value, RECEIVE, index, height), signed.raw


STOCK = [paid_in(1, ASSET, 1_000_000, 10), paid_in(2, POLICY_ASSET, 500_000, 10)]
DEPOSITS = [coin for coin, _ in STOCK]


def claim_of(swap: Swap, key_index: int) -> tx_builder.Signed:
    """The buyer's claim of both outputs."""
    asset, subsidy = outpoints(swap)
    key, script = BUYER.wallet_key(RECEIVE, key_index), witness_script(swap)
    preimage = preimage_of(swap)
    return tx_builder.claim(
        spends=[
            tx_builder.claim_spend(asset, swap.asset_amount, key, script, preimage),
            tx_builder.claim_spend(subsidy, swap.subsidy_sats, key, script, preimage),
        ],
        asset_id=swap.asset_id,
        asset_amount=swap.asset_amount,
        subsidy_sats=swap.subsidy_sats,
        script_pubkey=htlc.p2wpkh_script(key.key_hash),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=100,
    )


def refund_of(swap: Swap) -> coin_selection.RefundPlan:
    """The seller's refund of both outputs to change addresses 2 and 3."""
    asset, subsidy = outpoints(swap)
    script = witness_script(swap)
    return coin_selection.plan_refund(
        [
            coin_selection.RefundInput(asset, ASSET, swap.asset_amount, swap.key_index, script),
            coin_selection.RefundInput(
                subsidy, POLICY_ASSET, swap.subsidy_sats, swap.key_index, script
            ),
        ],
        keys=SELLER,
        lock_height=LOCK_HEIGHT,
        change_indexes=(2, 3),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=100,
    )


def own_tx(
    signed: tx_builder.Signed,
    purpose: Purpose,
    height: int | None,
    state: TxState = TxState.CONFIRMED,
) -> OwnTx:
    """A row of `own_tx`."""
    return OwnTx(signed.txid, signed.raw, purpose, state, signed.fee_sats, height)


class World:
    """A seller with one swap in each state, and the chain that belongs to it. Fields may be bent.

    Swaps 0 to 2 share a funding: 0 is FUNDED, 1 was claimed, 2 refunded; 3 waits; 4 failed.
    """

    def __init__(self) -> None:
        unfunded = {
            "funding_txid": None,
            "asset_vout": None,
            "subsidy_vout": None,
            "refund_lock_height": None,
        }
        plan = plan_funding([make_swap(n, **unfunded) for n in range(3)], DEPOSITS)
        self.funding = plan.signed
        at = {
            n: {
                "funding_txid": plan.signed.txid,
                "asset_vout": plan.vouts[uuid_of(1_000 + n)][0],
                "subsidy_vout": plan.vouts[uuid_of(1_000 + n)][1],
            }
            for n in range(3)
        }
        claimed, refunded = make_swap(1, **at[1]), make_swap(2, **at[2])
        self.claim = claim_of(claimed, 1)
        self.refund = refund_of(refunded)
        self.swaps = [
            make_swap(0, **at[0], state=State.FUNDED),
            replace(claimed, state=State.CLAIMED, spend_txid=self.claim.txid, finished=True),
            replace(refunded, state=State.REFUNDED, spend_txid=self.refund.signed.txid),
            make_swap(3, **unfunded),
            make_swap(4, **unfunded, state=State.FAILED, finished=True),
        ]
        self.last_states = {s.swap_id: s.state for s in self.swaps}
        self.bindings = [Binding(c.outpoint, self.funding.txid, True) for c in plan.inputs]
        self.bindings += [
            Binding(o, self.refund.signed.txid, True) for o in outpoints(self.swaps[2])
        ]
        self.coins = [StoredCoin(c, self.funding.txid) for c in DEPOSITS]
        self.coins += [StoredCoin(replace(c, height=FUNDED_AT), None) for c in plan.change]
        self.coins += [
            StoredCoin(replace(c, height=REFUNDED_AT), None) for c in self.refund.payouts
        ]
        self.own_txs = [
            own_tx(self.funding, Purpose.FUNDING, FUNDED_AT),
            own_tx(self.refund.signed, Purpose.REFUND, REFUNDED_AT),
        ]
        self.transactions: dict[str, SeenTx] = {}
        self.raws: dict[str, bytes] = {}
        for _, raw in STOCK:
            self.see(raw, 10)
        self.see(self.funding.raw, FUNDED_AT)
        self.see(self.claim.raw, CLAIMED_AT)
        self.see(self.refund.signed.raw, REFUNDED_AT)
        self.unread: list[str] = []

    def see(self, raw: bytes, height: int | None) -> None:
        """Put a transaction on the chain."""
        transaction = parse_transaction(raw)
        self.raws[transaction.txid] = raw
        self.transactions[transaction.txid] = SeenTx(transaction, height)

    def store(self) -> StoreFacts:
        """The tables."""
        return StoreFacts(
            tuple(self.swaps),
            tuple(self.last_states.items()),
            tuple(self.bindings),
            tuple(self.coins),
            tuple(self.own_txs),
            cursors=(("next_receive_index", 3), ("next_change_index", 4)),
        )

    def report(self) -> Report:
        """What the audit says of it."""
        scripts = {wallet_script(b, i) for b in (RECEIVE, CHANGE) for i in range(10)}
        picture = ChainPicture(TIP, frozenset(scripts), self.transactions, tuple(self.unread))
        return audit(self.store(), picture, POLICY_ASSET)

    def unsee(self, txid: str) -> None:
        """Take a transaction off the chain."""
        del self.transactions[txid]

    def bend_swap(self, number: int, **changes: object) -> None:
        """Change fields of a stored swap, and its event log with its state."""
        swap = replace(self.swaps[number], **changes)  # type: ignore[arg-type]
        self.swaps[number] = swap
        self.last_states[swap.swap_id] = swap.state

    def bend_coin(self, outpoint: Outpoint, **changes: object) -> None:
        """Change fields of a stored coin."""
        self.coins = [
            replace(c, coin=replace(c.coin, **changes))  # type: ignore[arg-type]
            if c.coin.outpoint == outpoint
            else c
            for c in self.coins
        ]

    def bend_own(self, number: int, **changes: object) -> None:
        """Change fields of a stored transaction."""
        self.own_txs[number] = replace(self.own_txs[number], **changes)  # type: ignore[arg-type]


def test_a_sound_history_is_exact_and_adds_up() -> None:
    """Every column is what the history makes it, for the asset and for L-BTC."""
    world = World()
    report = world.report()
    assert report.differences == ()
    assert ["was not asked" in note for note in report.notes] == [True]
    books = {a.asset_id: a for a in report.assets}
    asset, lbtc = books[ASSET], books[POLICY_ASSET]
    assert asset.store == asset.chain
    assert (asset.store.came_in, asset.store.locked, asset.store.claimed) == (
        1_000_000,
        50_000,
        50_000,
    )
    assert (asset.available, asset.reserved, asset.unconfirmed) == (850_000, 50_000, 0)
    fees = world.funding.fee_sats + world.refund.signed.fee_sats
    assert (lbtc.store.locked, lbtc.store.claimed, lbtc.store.fees) == (500, 500, fees)
    assert lbtc.available == 500_000 - 1_000 - fees - 1_120
    assert report.swaps == {"FUNDED": 1, "CLAIMED": 1, "REFUNDED": 1, "CREATED": 1, "FAILED": 1}
    assert (report.reservations, report.fundings) == (1, 1)


def in_flight(world: World) -> None:
    """T2 is done and nothing was sent: no node knows the funding, nor what came of it."""
    for txid in (world.funding.txid, world.claim.txid, world.refund.signed.txid):
        world.unsee(txid)
    del world.own_txs[1]
    world.bindings = [b for b in world.bindings if b.owner_txid == world.funding.txid]
    world.coins = [c for c in world.coins if c.coin.outpoint.txid != world.refund.signed.txid]
    world.coins = [replace(c, spent_txid=None) for c in world.coins]
    for stored in world.coins:
        if stored.coin.outpoint.txid == world.funding.txid:
            world.bend_coin(stored.coin.outpoint, height=None)
    world.bend_own(0, state=TxState.SIGNED, height=None)
    for number in range(3):
        world.bend_swap(number, state=State.CREATED, spend_txid=None, finished=False)


def test_a_funding_that_is_stored_and_not_sent_counts_as_locked() -> None:
    """A crash between T2 and broadcast leaves nothing unaccounted for, and a note."""
    world = World()
    in_flight(world)
    report = world.report()
    assert report.differences == ()
    assert [world.funding.txid in note for note in report.notes] == [True, False]
    assert report.assets[0].chain.locked == 150_000


def test_a_funding_whose_coin_somebody_else_spent_is_a_loss_that_shows() -> None:
    """It cannot confirm any more: a note says so, and the foreign spend is a difference."""
    world = World()
    in_flight(world)
    thief = tx_builder.sign(
        [tx_builder.wallet_spend(DEPOSITS[1].outpoint, 500_000, SELLER.wallet_key(RECEIVE, 2))],
        [tx_builder.Output(STRANGER, POLICY_ASSET, 499_000)],
        policy_asset=POLICY_ASSET,
        fee=1_000,
    )
    world.see(thief.raw, 25)
    report = world.report()
    assert any("cannot confirm" in note for note in report.notes)
    assert {"unknown tx", "ledger"} <= {d.rule for d in report.differences}
    assert any(
        "499000 went to scripts that are neither ours nor" in d.text for d in report.differences
    )


def test_a_claim_of_the_asset_alone_leaves_the_subsidy_locked() -> None:
    """The two outputs are spent apart, and each is counted where it is."""
    world = World()
    swap = world.swaps[0]
    asset, _ = outpoints(swap)
    key = BUYER.wallet_key(RECEIVE, 0)
    coin = wallet_coin(60, 10_000)
    claim = tx_builder.sign(
        [
            tx_builder.claim_spend(
                asset, swap.asset_amount, key, witness_script(swap), preimage_of(swap)
            ),
            tx_builder.wallet_spend(coin.outpoint, coin.value, key),
        ],
        [
            tx_builder.Output(STRANGER, ASSET, swap.asset_amount),
            tx_builder.Output(STRANGER, POLICY_ASSET, 9_000),
        ],
        policy_asset=POLICY_ASSET,
        fee=1_000,
    )
    world.see(claim.raw, None)
    world.bend_swap(0, state=State.CLAIMED, spend_txid=claim.txid)
    report = world.report()
    assert report.differences == ()
    assert [(a.store.locked, a.store.claimed) for a in report.assets] == [(0, 100_000), (500, 500)]


def test_an_unconfirmed_deposit_is_not_available() -> None:
    """It is the wallet's, but its sender may still replace it."""
    world = World()
    late, raw = paid_in(4, ASSET, 700, None)
    world.coins.append(StoredCoin(late, None))
    world.see(raw, None)
    report = world.report()
    assert report.differences == ()
    assert (report.assets[0].available, report.assets[0].unconfirmed) == (850_000, 700)


def second_funding(world: World) -> None:
    """Another transaction of ours pays swap 0 again."""
    change = next(c.coin for c in world.coins if c.spent_txid is None and c.coin.asset_id == ASSET)
    lbtc = next(
        c.coin for c in world.coins if c.spent_txid is None and c.coin.asset_id == POLICY_ASSET
    )
    again = plan_funding([world.swaps[0]], [change, lbtc])
    world.see(again.signed.raw, None)


def other_output(world: World, number: int, **changes: object) -> None:
    """Exchange one output of the funding for another, on the chain and nowhere else."""
    seen = world.transactions[world.funding.txid]
    outputs = list(seen.transaction.outputs)
    outputs[number] = replace(outputs[number], **changes)  # type: ignore[arg-type]
    world.transactions[world.funding.txid] = SeenTx(
        replace(seen.transaction, outputs=tuple(outputs)), seen.height
    )


def reserve_too_much(world: World) -> None:
    """Swap 3 waits for more than the stock."""
    world.bend_swap(3, asset_amount=10**9)


def replaced_but_there(world: World) -> None:
    """A refund that was replaced in the store is what the mempool has."""
    world.bend_own(1, state=TxState.REPLACED)
    world.see(world.refund.signed.raw, None)


def spend_forgotten(world: World) -> None:
    """Nothing is left of the first coin's spending."""
    world.bindings.pop(0)
    world.coins[0] = replace(world.coins[0], spent_txid=None)


def payout(world: World) -> Outpoint:
    """The asset coin that the refund brought back."""
    return Outpoint(world.refund.signed.txid, 0)


PLANTED: dict[str, tuple[Callable[[World], object], str, str]] = {
    "an unread history": (lambda w: w.unread.append("no history of x"), "unread", "of x"),
    "more reserved than held": (
        reserve_too_much,
        "reservation", "more than the wallet's coins hold",
    ),
    "a coin bound twice": (
        lambda w: w.bindings.append(replace(w.bindings[0], owner_txid=w.refund.signed.txid)),
        "binding", "is bound 2 times",
    ),
    "a coin bound to nothing": (
        lambda w: w.bindings.append(Binding(payout(w), "ee" * 32, True)),
        "binding", "is stored, not on the chain",
    ),
    "an input that is not bound": (lambda w: w.bindings.pop(0), "binding", "what it spends is"),
    "a binding that was let go": (
        lambda w: w.bindings.__setitem__(0, replace(w.bindings[0], live=False)),
        "binding", "what it spends is",
    ),
    "other bytes under a txid": (
        lambda w: w.bend_own(0, raw=w.refund.signed.raw), "own tx", "txid of its bytes is",
    ),
    "another fee": (lambda w: w.bend_own(0, fee_sats=1), "own tx", "fee is 1 by the store"),
    "a confirmed transaction that the chain has not": (
        lambda w: w.unsee(w.refund.signed.txid),
        "own tx", "place is block 22 by the store, nowhere by the chain",
    ),
    "a wrong height of ours": (
        lambda w: w.bend_own(0, height=19),
        "own tx", "place is block 19 by the store, block 20 by the chain",
    ),
    "an abandoned transaction in a block": (
        lambda w: w.bend_own(1, state=TxState.ABANDONED),
        "own tx", "place is nowhere by the store, block 22 by the chain",
    ),
    "a replaced transaction in the mempool": (
        replaced_but_there,
        "own tx", "place is nowhere by the store, the mempool by the chain",
    ),
    "a transaction of ours that is not stored": (
        lambda w: w.own_txs.pop(), "unknown tx", "is on the chain, not stored",
    ),
    "a second funding": (second_funding, "funding", "funding is"),
    "an output held by two swaps": (
        lambda w: w.bend_swap(1, asset_vout=0), "funding", "belongs to 2 swaps",
    ),
    "a funding that was never stored": (
        lambda w: w.bend_swap(0, funding_txid="ee" * 32), "funding", "not stored",
    ),
    "a funding that is a refund": (
        lambda w: w.bend_own(0, purpose=Purpose.REFUND), "funding", "REFUND, CONFIRMED",
    ),
    "a missing output": (
        lambda w: w.bend_swap(0, asset_vout=99),
        "funding", "not there by the chain",
    ),
    "an output with another script": (
        lambda w: other_output(w, 0, script_pubkey=STRANGER),
        "funding", "in another script by the chain",
    ),
    "an output with another amount": (
        lambda w: other_output(w, 0, value=49_000),
        "funding", "49000 of " + ASSET + " in its HTLC by the chain",
    ),
    "an output of another asset": (
        lambda w: other_output(w, 0, asset_id="bb" * 32), "funding", "bb" * 32,
    ),
    "a subsidy that is too small": (
        lambda w: other_output(w, 1, value=499), "funding", "the subsidy",
    ),
    "another lock height": (
        lambda w: w.bend_swap(0, refund_lock_height=1_001),
        "funding", "in another script by the chain",
    ),
    "FUNDED by a funding in the mempool": (
        lambda w: w.see(w.funding.raw, None),
        "funding", "block of its funding is any by the store, none by the chain",
    ),
    "FUNDED without a funding": (
        lambda w: w.bend_swap(3, state=State.FUNDED), "swap", "without a funding",
    ),
    "an event log that ends elsewhere": (
        lambda w: w.last_states.__setitem__(w.swaps[0].swap_id, State.CREATED),
        "swap", "end of its event log is CREATED by the store, FUNDED",
    ),
    "a claim that the store has not": (
        lambda w: w.see(claim_of(w.swaps[0], 0).raw, None), "swap", "claimed by the chain",
    ),
    "CLAIMED without a claim": (
        lambda w: w.unsee(w.claim.txid), "swap", "locked by the chain",
    ),
    "REFUNDED that was claimed": (
        lambda w: w.bend_swap(1, state=State.REFUNDED), "swap", "refunded by the store",
    ),
    "another spender": (
        lambda w: w.bend_swap(1, spend_txid="ee" * 32), "swap", "spender is " + "ee" * 32,
    ),
    "a coin that is not there": (
        lambda w: w.coins.append(StoredCoin(wallet_coin(7, 5, ASSET), None)),
        "coin", "not on the chain",
    ),
    "a coin that is not stored": (lambda w: w.coins.pop(), "coin", "is on the chain, not stored"),
    "a coin of another value": (
        lambda w: w.bend_coin(payout(w), value=1), "coin", "value is 1 by the store",
    ),
    "a coin at another height": (
        lambda w: w.bend_coin(payout(w), height=None),
        "coin", "height is None by the store, 22 by the chain",
    ),
    "a spent coin taken for unspent": (
        spend_forgotten,
        "coin", "spender is None by the store",
    ),
    "an unspent coin taken for spent": (
        lambda w: w.coins.__setitem__(-1, replace(w.coins[-1], spent_txid="ee" * 32)),
        "coin", "spender is " + "ee" * 32,
    ),
    "a deposit that was forgotten": (
        lambda w: w.see(paid_in(8, ASSET, 5, 25)[1], 25),
        "ledger", "came in",
    ),
    "an output to a stranger": (
        lambda w: other_output(w, -2, script_pubkey=STRANGER), "ledger", "neither ours nor",
    ),
}  # fmt: skip
"""What goes wrong, the rule that has to notice, and words of what it says."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_inconsistency_is_named(name: str) -> None:
    """Each one is found by its own check, in words that say what it is."""
    plant, rule, words = PLANTED[name]
    world = World()
    plant(world)
    report = world.report()
    assert not report.is_exact
    texts = [d.text for d in report.differences if d.rule == rule]
    assert any(words in text for text in texts), report.differences


# -- reading ----------------------------------------------------------------------------------


class Backend(FakeChain):
    """The world's chain over the port: every script's history, made from the transactions."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.raws = dict(world.raws)
        parsed = {txid: parse_transaction(raw) for txid, raw in self.raws.items()}
        for txid, transaction in parsed.items():
            touched = {o.script_pubkey for o in transaction.outputs}
            touched |= {
                parsed[i.outpoint.txid].outputs[i.outpoint.vout].script_pubkey
                for i in transaction.inputs
                if i.outpoint.txid in parsed
            }
            item = HistoryItem(txid, world.transactions[txid].height)
            for script in touched:
                self.found[script] = (*self.found.get(script, ()), item)


class Growing(Backend):
    """A chain with a new block at every look."""

    async def tip(self) -> Tip:
        """One higher each time."""
        self.height += 1
        return await super().tip()


class Store:
    """A store that is read: `stale` for the first readings, then as it should be."""

    def __init__(
        self, facts: StoreFacts, stale: StoreFacts | None = None, readings: int = 0
    ) -> None:
        self.facts, self.stale, self.readings = facts, stale, readings

    async def read(self) -> StoreFacts:
        """The tables as they are at this moment."""
        self.readings -= 1
        return self.stale if self.stale and self.readings >= 0 else self.facts


async def test_a_reading_over_the_ports_is_exact() -> None:
    """All that matters is found by the addresses and scripts that the store leads to."""
    world = World()
    report = await take_audit(Store(world.store()).read, Backend(world), SELLER, settle_secs=0)
    assert report.differences == ()
    assert report.assets == world.report().assets


async def test_damaged_bytes_are_named() -> None:
    """They are a difference like any other, not the end of the audit."""
    world = World()
    store = world.store()
    world.bend_own(1, raw=b"\x00\x01")
    report = await take_audit(Store(world.store()).read, Backend(world), SELLER, settle_secs=0)
    assert store.own_txs[1].txid in report.differences[0].text
    assert "are no transaction" in report.differences[0].text


async def test_what_the_daemon_takes_in_a_moment_later_is_no_difference() -> None:
    """A claim that the store learns of between two readings leaves an exact report."""
    world, stale = World(), World()
    stale.bend_swap(1, state=State.FUNDED, spend_txid=None, finished=False)
    store = Store(world.store(), stale.store(), readings=2)
    report = await take_audit(store.read, Backend(world), SELLER, settle_secs=30)
    assert report.is_exact
    assert store.readings < 0


async def test_what_stays_is_a_difference() -> None:
    """When the time is over, what was found last is reported."""
    world = World()
    world.bend_swap(1, state=State.FUNDED, spend_txid=None, finished=False)
    report = await take_audit(Store(world.store()).read, Backend(world), SELLER, settle_secs=0)
    assert {d.rule for d in report.differences} == {"swap", "ledger"}


async def test_a_refused_history_is_a_difference() -> None:
    """What cannot be read is told, not taken for nothing."""
    world = World()
    backend = Backend(world)
    backend.refused = {wallet_script(CHANGE, 0)}
    report = await take_audit(Store(world.store()).read, backend, SELLER, settle_secs=0)
    assert "unread" in {d.rule for d in report.differences}


async def test_a_store_that_changes_during_the_reading_is_not_judged() -> None:
    """Store and chain of two moments say nothing together."""
    world, stale = World(), World()
    stale.swaps.pop()
    store = Store(world.store(), stale.store(), readings=1)
    with pytest.raises(StillMoving):
        await take_audit(store.read, Backend(world), SELLER, settle_secs=0)


async def test_a_tip_that_moves_during_the_reading_is_not_judged() -> None:
    """Nor are histories of two tips."""
    world = World()
    with pytest.raises(StillMoving):
        await take_audit(Store(world.store()).read, Growing(world), SELLER, settle_secs=0)


@pytest.mark.parametrize(
    ("differences", "without_lightning", "line"),
    [
        (0, False, "OK: store, chain and Lightning agree"),
        (0, True, "OK: store and chain agree"),
        (1, False, "1 difference"),
        (2, True, "2 differences"),
    ],
)
def test_the_last_line_says_what_agrees_or_counts(
    differences: int, without_lightning: bool, line: str
) -> None:
    """One difference is not "1 differences"; what was not asked is not said to agree."""
    found = tuple(Difference("coin", f"number {n}") for n in range(differences))
    report = replace(World().report(), differences=found)
    assert verdict(report, without_lightning) == line
