"""`watchers.refund_gate`: every condition of money rule 4, each broken alone."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lnliquid.config import Settings
from lnliquid.domain.errors import BackendTimeout
from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import HistoryItem, Invoice, InvoiceStatus
from lnliquid.domain.reconcile import ChainFacts, Policy, Spend
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.chain_view import TipMoved
from lnliquid.watchers.observe import output_script
from lnliquid.watchers.refund_gate import Passed, may_send, may_take_back

from ..builders import (
    LOCK_HEIGHT,
    TIMELOCKS,
    Spenders,
    StillClock,
    claim_of,
    make_request,
    make_swap,
    migrated,
    new_swap,
    outpoints,
    settings_values,
    stock,
    txid_of,
)
from ..fakes import FakeChain, FakeLightning

FINAL_CONFS = 3
POLICY = Policy(1, FINAL_CONFS, TIMELOCKS)
SWAP = make_swap(state=State.FUNDED, invoice_mark=InvoiceMark.REFUNDING)
ASSET_OUT, SUBSIDY_OUT = outpoints(SWAP)
BOTH, REST, NONE = (ASSET_OUT, SUBSIDY_OUT), (SUBSIDY_OUT,), ()
OURS, THEIRS = txid_of(1), txid_of(2)
TIP = LOCK_HEIGHT + 10
BURIED = TIP - FINAL_CONFS + 1
FUNDED = ChainFacts(funding_seen=True, funding_height=500)
ABSENT = Invoice(SWAP.swap_id, InvoiceStatus.ABSENT)


def spend(txid: str = THEIRS, height: int | None = None, kind: SpendKind | None = None) -> Spend:
    """A spend, in the mempool if not said otherwise."""
    return Spend(txid, height, kind or (SpendKind.REFUND if txid == OURS else SpendKind.CLAIM))


def invoice(status: InvoiceStatus) -> Invoice:
    """The invoice as read."""
    return Invoice(SWAP.swap_id, status)


PAID = {"invoice_mark": InvoiceMark.PAID}
LOST = {"invoice_mark": InvoiceMark.LOST}
ORDERED = {"forced_refund_reason": "asked"}
Case = dict[str, Any]


@pytest.mark.parametrize(
    ("case", "passed"),
    [
        # What passes: everything is as rule 4 wants it.
        ({}, BOTH),
        ({"tip": LOCK_HEIGHT}, BOTH),
        # The lock height.
        ({"tip": LOCK_HEIGHT - 1}, NONE),
        # The invoice: only what is known to be gone, deleted by us, unpaid.
        ({"invoice": None}, NONE),
        ({"invoice": invoice(InvoiceStatus.UNPAID)}, NONE),
        ({"invoice": invoice(InvoiceStatus.EXPIRED)}, NONE),
        ({"invoice": invoice(InvoiceStatus.PAID)}, NONE),
        # The mark, which is on the disk before anything is signed.
        *(
            ({"swap": {"invoice_mark": mark}}, NONE)
            for mark in InvoiceMark
            if mark is not InvoiceMark.REFUNDING
        ),
        # The funding.
        ({"funding_height": None}, NONE),
        # Spends of the asset output.
        ({"asset": spend()}, NONE),
        ({"asset": spend(height=TIP)}, NONE),
        ({"asset": spend(kind=SpendKind.REFUND)}, NONE),
        # What the operator ordered: only where the invoice was paid or lost, and then at once.
        ({"swap": PAID}, NONE),
        ({"swap": PAID | ORDERED}, BOTH),
        ({"swap": LOST}, NONE),
        ({"swap": LOST | ORDERED}, BOTH),
        ({"swap": PAID | ORDERED, "invoice": None}, BOTH),
        ({"swap": PAID | ORDERED, "tip": LOCK_HEIGHT - 1}, NONE),
        ({"swap": PAID | ORDERED, "funding_height": None}, NONE),
        ({"swap": PAID | ORDERED, "asset": spend()}, NONE),
        ({"swap": {"invoice_mark": InvoiceMark.CLOSED} | ORDERED}, NONE),
        # What a claim left: the rest, once the claim is buried.
        ({"swap": PAID, "asset": spend(height=BURIED)}, REST),
        ({"swap": PAID, "asset": spend(height=BURIED + 1)}, NONE),
        ({"swap": PAID, "asset": spend(height=BURIED), "tip": LOCK_HEIGHT - 1}, NONE),
        ({"swap": PAID, "asset": spend(height=BURIED), "subsidy": spend()}, NONE),
        ({"swap": PAID, "asset": spend(height=BURIED), "subsidy": spend(OURS)}, NONE),
        # Versions of ours that are to be replaced are as good as no spend.
        ({"asset": spend(OURS), "subsidy": spend(OURS), "ours": {OURS}}, BOTH),
        ({"asset": spend(OURS), "subsidy": spend(OURS)}, NONE),
        ({"asset": spend(), "subsidy": spend(OURS), "ours": {OURS}}, NONE),
        ({"asset": spend(OURS), "ours": {OURS}, "invoice": None}, NONE),
        (
            {"asset": spend(OURS), "ours": {OURS}, "invoice": invoice(InvoiceStatus.PAID)},
            NONE,
        ),
        ({"swap": PAID, "asset": spend(OURS), "subsidy": spend(OURS), "ours": {OURS}}, NONE),
        (
            {
                "swap": PAID,
                "asset": spend(height=BURIED),
                "subsidy": spend(OURS),
                "ours": {OURS},
            },
            REST,
        ),
        (
            {
                "swap": PAID,
                "asset": spend(height=BURIED + 1),
                "subsidy": spend(OURS),
                "ours": {OURS},
            },
            NONE,
        ),
    ],
    ids=str,
)
def test_only_what_money_rule_4_lets_pass_is_signed_for(
    case: Case, passed: tuple[Outpoint, ...]
) -> None:
    """Each case differs from one that passes in what it names."""
    facts = replace(
        FUNDED,
        funding_height=case.get("funding_height", FUNDED.funding_height),
        asset_spend=case.get("asset"),
        subsidy_spend=case.get("subsidy"),
    )
    swap = replace(SWAP, **case.get("swap", {}))
    bill = case.get("invoice", ABSENT)
    tip = Tip(case.get("tip", TIP), "tip")
    assert may_take_back(swap, facts, bill, tip, POLICY, case.get("ours", ())) == passed


@pytest.mark.parametrize(
    ("wanted", "asset", "subsidy", "sent"),
    [
        (BOTH, None, None, True),
        (BOTH, spend(OURS), spend(OURS), True),
        (BOTH, spend(), None, False),
        (BOTH, None, spend(), False),
        (BOTH, spend(height=BURIED), None, False),
        (REST, spend(height=BURIED), None, True),
        (REST, spend(height=BURIED), spend(), False),
        # A reorg took the claim that had left it.
        (REST, None, None, False),
    ],
)
def test_a_stored_refund_is_sent_again_unless_it_would_drive_out_a_claim(
    wanted: tuple[Outpoint, ...], asset: Spend | None, subsidy: Spend | None, sent: bool
) -> None:
    """What a buyer left is only so while the asset is spent."""
    facts = replace(FUNDED, asset_spend=asset, subsidy_spend=subsidy)
    assert may_send(SWAP, facts, wanted) is sent


async def test_no_refund_is_sent_again_while_nothing_is_known_of_its_swap(tmp_path: Path) -> None:
    """As of one that was final and has just been reopened."""
    settings = Settings(**settings_values(tmp_path))
    database = Database(migrated(settings.database), StillClock())
    gate = Spenders(database, FakeChain(), settings).gate
    assert not gate.may_send([SWAP], BOTH)
    gate.view.facts[SWAP.swap_id] = (FUNDED, Tip(TIP, "here"))
    assert gate.may_send([SWAP], BOTH)
    database.close()


@pytest.mark.parametrize("mark", list(InvoiceMark))
def test_what_the_buyer_may_still_spend_is_refunded_alone(mark: InvoiceMark) -> None:
    """It would hold up the coins of the others."""
    alone = mark in (InvoiceMark.PAID, InvoiceMark.LOST)
    assert Passed(replace(SWAP, invoice_mark=mark), BOTH, Tip(TIP, "tip")).is_alone is alone


class PayingLightning(FakeLightning):
    """Says of every invoice what the test says, or that it cannot be asked."""

    status: InvoiceStatus | None = InvoiceStatus.ABSENT

    async def invoice(self, label: str) -> Invoice:
        """As set."""
        if self.status is None:
            raise BackendTimeout("lightning", "no answer")
        return Invoice(label, self.status)


class World:
    """A swap that is due to be refunded, as the watcher follows it."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder, final_confs=FINAL_CONFS))
        self.database = Database(migrated(settings.database), StillClock())
        self.chain, self.lightning = FakeChain(), PayingLightning()
        self.parts = Spenders(self.database, self.chain, settings, self.lightning)
        self.tip = Tip(LOCK_HEIGHT, f"block {LOCK_HEIGHT}")

    async def follow(self) -> None:
        """Store the swap and load it."""

        def write(session: Transaction) -> None:
            swap, _ = swap_store.create(session, new_swap(make_request()))
            tx_store.add(
                session,
                txid=txid_of(70),
                raw=b"raw",
                purpose=Purpose.FUNDING,
                fee_sats=1,
                vsize=1,
                signed_height=1,
            )
            tx_store.set_state(session, txid_of(70), TxState.CONFIRMED, 500)
            funded = swap_store.FundedSwap(swap.swap_id, LOCK_HEIGHT, 0, 1)
            swap_store.bind_funding(session, txid_of(70), [funded])
            stored = swap_store.get(session, swap.swap_id)
            assert stored is not None
            due = replace(stored, state=State.FUNDED, invoice_mark=InvoiceMark.REFUNDING)
            assert swap_store.save(session, stored, due)

        await stock(self.database)
        await self.database.write(write)
        self.chain.height = LOCK_HEIGHT
        await self.parts.view.load(everything=True)
        [self.swap] = self.parts.view.swaps.values()
        self.show()

    def show(self, *spends: HistoryItem) -> None:
        """The chain has the funding, and these."""
        script = output_script(self.swap)
        self.chain.found[script] = (HistoryItem(txid_of(70), 500), *spends)

    async def open(self) -> list[tuple[Outpoint, ...]]:
        """What passes now."""
        return [p.outpoints for p in await self.parts.gate.open([self.swap], self.tip)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Everything is as rule 4 wants it."""
    made = World(tmp_path)
    await made.follow()
    yield made
    made.database.close()


async def test_the_gate_reads_the_invoice_anew(world: World) -> None:
    """Known gone a moment ago is not known gone now."""
    assert await world.open() == [outpoints(world.swap)]
    for status in (InvoiceStatus.PAID, InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED, None):
        world.lightning.status = status
        assert await world.open() == []


async def test_the_gate_reads_the_chain_anew(world: World) -> None:
    """A claim that came into the mempool a moment ago closes it."""
    assert await world.open() == [outpoints(world.swap)]
    claim = claim_of(world.swap)
    world.chain.raws[claim.txid] = claim.raw
    world.show(HistoryItem(claim.txid, None))
    assert await world.open() == []


async def test_the_gate_is_closed_for_what_cannot_be_read(world: World) -> None:
    """Unknown is not unspent."""
    world.chain.refused.add(output_script(world.swap))
    assert await world.open() == []
    world.chain.refused.clear()
    world.show(HistoryItem(txid_of(9), None))  # named, and not given
    assert await world.open() == []


async def test_a_block_that_comes_meanwhile_closes_the_gate(world: World) -> None:
    """What was read is of before."""
    world.chain.height += 1
    with pytest.raises(TipMoved):
        await world.open()


async def test_what_is_not_watched_does_not_pass(world: World) -> None:
    """It may be final, or of another daemon."""
    other = make_swap(7, state=State.FUNDED, invoice_mark=InvoiceMark.REFUNDING)
    assert await world.parts.gate.open([other], world.tip) == []


@pytest.mark.parametrize(
    ("came", "versions"),
    [
        ("nothing", 2),
        ("our refund is in the mempool", 2),
        ("a claim", 1),
        ("a claim that took the refund's place", 1),
        ("a payment", 1),
        ("Lightning does not answer", 1),
        ("the history is refused", 1),
    ],
)
async def test_a_refund_is_not_raised_against_money_rule_4(
    world: World, came: str, versions: int
) -> None:
    """A higher fee would let it replace the claim: it passes the gate like the first one."""
    passed = await world.parts.gate.open([world.swap], world.tip)
    await world.parts.refunds.refund(passed)
    [refund] = await world.database.read(tx_store.pending)
    world.chain.height += 100
    claim = claim_of(world.swap)
    world.chain.raws |= {refund.txid: refund.raw, claim.txid: claim.raw}
    if came == "our refund is in the mempool":
        world.show(HistoryItem(refund.txid, None))
    elif came == "a claim":
        world.show(HistoryItem(refund.txid, None), HistoryItem(claim.txid, None))
    elif came == "a claim that took the refund's place":
        world.show(HistoryItem(claim.txid, None))
    elif came == "a payment":
        world.lightning.status = InvoiceStatus.PAID
    elif came == "Lightning does not answer":
        world.lightning.status = None
    elif came == "the history is refused":
        world.chain.refused.add(output_script(world.swap))
    tip = await world.chain.tip()
    await world.parts.bumper.bump_stuck(tip, {refund.txid}, world.parts.gate)
    family = await world.database.read(lambda s: tx_store.versions(s, refund.txid))
    assert len(family) == versions
    if versions == 2:
        spent = {i.outpoint for i in parse_transaction(family[1].raw).inputs}
        assert set(outpoints(world.swap)) <= spent
