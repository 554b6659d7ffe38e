"""Rescue: swaps out of journal, chain and Lightning; what cannot be known is never unpaid."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.liquid import tx
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.liquid.networks import MAINNET
from lnliquid.ports import HistoryItem, Invoice, InvoiceStatus
from lnliquid.rescue_command import apply
from lnliquid.seller import journal as journal_file
from lnliquid.seller.audit import Difference
from lnliquid.seller.audit_reading import take_audit
from lnliquid.seller.inventory import NEXT_INDEX
from lnliquid.seller.journal import RescueJournal
from lnliquid.seller.observe import output_script
from lnliquid.seller.reconcile import Policy
from lnliquid.seller.rescue import RescuePlan, plan_rescue
from lnliquid.seller.rescue_lines import JournalMismatch, read_journal
from lnliquid.seller.rescue_reading import read_rescue
from lnliquid.seller.rescue_words import Finding
from lnliquid.settings import Settings
from lnliquid.store import swaps as swap_store
from lnliquid.store.creation import NEXT_SWAP
from lnliquid.store.rebuild import OldSwap, put_swap
from lnliquid.store.rows import reservation_values
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.survey import StoreFacts, survey
from lnliquid.store.tables import Purpose, ReservationRow, TxState
from lnliquid.swap import InvoiceMark, Request, State, Swap

from .builders import (
    BUYER_WORDS,
    LOCK_HEIGHT,
    NOW,
    POLICY_ASSET,
    SELLER,
    TIMELOCKS,
    StillClock,
    make_swap,
    migrated,
    plan_funding,
    settings_values,
)
from .fakes import FakeChain, FakeLightning
from .test_audit import STOCK, claim_of, refund_of

POLICY = Policy(funding_confs=2, final_confs=2, timelocks=TIMELOCKS)
UNFUNDED = {
    "funding_txid": None,
    "asset_vout": None,
    "subsidy_vout": None,
    "refund_lock_height": None,
}


class Ledger(FakeChain):
    """A chain that is given transactions and makes every script's history of them."""

    def __init__(self) -> None:
        super().__init__()
        self.heights: dict[str, int | None] = {}
        for _, raw in STOCK:
            self.see(raw, 10)

    def see(self, raw: bytes, height: int | None) -> None:
        """Put a transaction into a block, or with None into the mempool."""
        txid = tx.parse(raw).txid
        self.raws[txid] = raw
        self.heights[txid] = height
        self._index()

    def unsee(self, txid: str) -> None:
        """No node knows it any more."""
        del self.raws[txid], self.heights[txid]
        self._index()

    def _index(self) -> None:
        parsed = {txid: tx.parse(raw) for txid, raw in self.raws.items()}
        self.found.clear()
        for txid, transaction in parsed.items():
            touched = {o.script_pubkey for o in transaction.outputs}
            touched |= {
                parsed[i.outpoint.txid].outputs[i.outpoint.vout].script_pubkey
                for i in transaction.inputs
                if i.outpoint.txid in parsed
            }
            for script in touched:
                item = HistoryItem(txid, self.heights[txid])
                self.found[script] = (*self.found.get(script, ()), item)


class Invoices(FakeLightning):
    """A node with the invoices that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Invoice] = {}

    def put(self, swap: Swap, status: InvoiceStatus) -> None:
        """An invoice of this swap."""
        self.found[swap.swap_id] = Invoice(
            swap.swap_id,
            status,
            "lnert1",
            swap.payment_hash,
            swap.total_price_msat,
            NOW + 60,
        )

    async def invoice(self, label: str) -> Invoice:
        """As put."""
        return self.found.get(label, Invoice(label, InvoiceStatus.ABSENT))


class Lost:
    """A seller who funded three swaps at height 90 and lost the database; the tip is 100."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(**settings_values(folder))
        self.path = self.settings.rescue_journal_path
        self.journal = RescueJournal(self.path)
        self.chain = Ledger()
        self.lightning = Invoices()
        self.database = Database(migrated(self.settings.database), StillClock())
        plan = plan_funding(
            [make_swap(n, **UNFUNDED) for n in range(3)], [coin for coin, _ in STOCK]
        )
        self.funding = plan.signed
        self.swaps = [
            make_swap(
                n,
                funding_txid=plan.signed.txid,
                asset_vout=plan.vouts[make_swap(n).swap_id][0],
                subsidy_vout=plan.vouts[make_swap(n).swap_id][1],
            )
            for n in range(3)
        ]
        self.journal.append(
            [
                journal_file.tx_line(plan.signed.txid, plan.signed.raw, next_change_index=2),
                *journal_file.lines_of(self.swaps),
            ]
        )
        self.chain.see(plan.signed.raw, 90)

    async def plan(self, keys: Keychain = SELLER) -> RescuePlan:
        """What would be stored now."""
        facts = await self.database.read(survey)
        journal = read_journal(self.path, keys, self.settings, NOW)
        swaps = [line.swap for lines in journal.lines.values() for line in lines]
        cursors = dict(facts.cursors)
        known = {b: cursors.get(name, 0) for b, name in NEXT_INDEX.items()}
        known[CHANGE] = max(known[CHANGE], journal.next_change_index)
        self.picture = await read_rescue(self.chain, self.lightning, keys, swaps, known)
        return plan_rescue(journal, facts, self.picture, POLICY, POLICY_ASSET)

    async def rescue(self) -> dict[str, Finding]:
        """Plan and store; the findings by swap id."""
        plan = await self.plan()
        await self.database.write(lambda session: apply(session, plan, self.picture))
        return {finding.swap_id: finding for finding in plan.findings}

    async def load(self, number: int) -> Swap | None:
        """A swap as it is stored."""
        swap_id = self.swaps[number].swap_id
        return await self.database.read(lambda session: swap_store.get(session, swap_id))

    async def stored(self, number: int) -> Swap:
        """The same for one that must be there."""
        swap = await self.load(number)
        assert swap is not None
        return swap

    def mark(self, number: int, mark: InvoiceMark) -> None:
        """A mark line."""
        self.journal.note_marks({self.swaps[number].swap_id: mark})

    def replace_lines(self, **changes: object) -> None:
        """Write the swap lines anew with other values; a value of ... removes it."""
        records = list(journal_file.records(self.path))
        self.path.unlink()
        for record in records:
            if journal_file.is_swap(record):
                for name, value in changes.items():
                    if value is ...:
                        record.pop(name, None)
                    else:
                        record[name] = value
        RescueJournal(self.path).append([json.dumps(r) for r in records])

    def as_format_1(self) -> None:
        """Make the journal one that a program before the marks wrote."""
        gone = ("kind", "max_total_price_msat", "max_ln_cltv_blocks", "created_at")
        self.replace_lines(v=1, **dict.fromkeys((*gone, "fee_share_sats"), ...))
        lines = [r for r in journal_file.records(self.path) if r["v"] == 1]
        self.path.unlink()
        RescueJournal(self.path).append([json.dumps(r) for r in lines])


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    """The seller without a database."""
    world = Lost(tmp_path)
    yield world
    world.database.close()


async def test_swaps_coins_and_transactions_are_rebuilt(lost: Lost) -> None:
    """Claimed, refunded and open swaps, every coin, and an exact audit afterwards."""
    lost.chain.see(claim_of(lost.swaps[1], 1).raw, 100)
    lost.chain.see(refund_of(lost.swaps[2]).signed.raw, 95)
    lost.lightning.put(lost.swaps[0], InvoiceStatus.UNPAID)
    findings = await lost.rescue()
    swaps = [await lost.stored(n) for n in range(3)]
    assert [s.state for s in swaps] == [State.FUNDED, State.CLAIMED, State.REFUNDED]
    # The refunded one is final once the daemon has seen that its invoice is not payable.
    assert [s.finished for s in swaps] == [False, False, False]
    assert [s.invoice_mark for s in swaps] == [
        InvoiceMark.ASKED,
        InvoiceMark.PAID,
        InvoiceMark.REFUNDING,
    ]
    assert swaps[0].bolt11 == "lnert1"
    assert {f.action for f in findings.values()} == {"rebuilt"}
    facts = await lost.database.read(survey)
    assert {(o.purpose, o.state) for o in facts.own_txs} == {
        (Purpose.FUNDING, TxState.CONFIRMED),
        (Purpose.REFUND, TxState.CONFIRMED),
    }
    assert dict(facts.cursors) == {NEXT_SWAP: 3, **{NEXT_INDEX[RECEIVE]: 3, NEXT_INDEX[CHANGE]: 4}}

    assert await differences(lost) == ()


async def differences(lost: Lost) -> tuple[Difference, ...]:
    """What the audit finds in the rebuilt database."""

    async def read() -> StoreFacts:
        return await lost.database.read(survey)

    report = await take_audit(read, lost.chain, SELLER, settle_secs=0)
    return report.differences


async def test_a_second_rescue_changes_nothing(lost: Lost) -> None:
    """All tables are the same after it, and every swap is unchanged."""
    lost.chain.see(claim_of(lost.swaps[1], 1).raw, 100)
    lost.lightning.put(lost.swaps[0], InvoiceStatus.UNPAID)
    lost.mark(2, InvoiceMark.ASKED)
    await lost.rescue()
    before = await lost.database.read(survey)
    plan = await lost.plan()
    assert (plan.own_txs, plan.swaps) == ((), ())
    findings = await lost.rescue()
    assert {f.action for f in findings.values()} == {"unchanged"}
    assert await lost.database.read(survey) == before


async def test_the_request_is_remembered_with_its_parameters(lost: Lost) -> None:
    """A buyer who asks again gets the same swap; with another price cap it is an error."""
    await lost.rescue()
    swap = await lost.stored(0)
    request = Request(
        swap.request_id,
        swap.asset_id,
        swap.asset_amount,
        swap.buyer_claim_address,
        swap.min_funding_confs,
        200_000,
    )
    [found] = await lost.database.read(lambda s: swap_store.swaps_of_requests(s, [request]))
    assert isinstance(found, Swap)
    assert found.swap_id == swap.swap_id
    other = replace(request, max_total_price_msat=200_001)
    [conflict] = await lost.database.read(lambda s: swap_store.swaps_of_requests(s, [other]))
    assert not isinstance(conflict, Swap | None)


MARKS = {
    "paid": (None, InvoiceStatus.PAID, InvoiceMark.PAID, False),
    "unpaid": (InvoiceMark.ASKED, InvoiceStatus.UNPAID, InvoiceMark.ASKED, False),
    "expired": (InvoiceMark.ASKED, InvoiceStatus.EXPIRED, InvoiceMark.ASKED, False),
    "never asked for": (None, InvoiceStatus.ABSENT, InvoiceMark.NONE, False),
    "asked for and gone": (InvoiceMark.ASKED, InvoiceStatus.ABSENT, InvoiceMark.LOST, True),
    "deleted by us": (InvoiceMark.CLOSED, InvoiceStatus.ABSENT, InvoiceMark.CLOSED, False),
    "being deleted by us": (InvoiceMark.CLOSED, InvoiceStatus.UNPAID, InvoiceMark.CLOSED, False),
    "closed and paid": (InvoiceMark.CLOSED, InvoiceStatus.PAID, InvoiceMark.PAID, False),
    "a refund was due": (
        InvoiceMark.REFUNDING, InvoiceStatus.ABSENT, InvoiceMark.REFUNDING, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MARKS)
async def test_an_invoice_that_is_gone_is_unpaid_only_by_our_doing(lost: Lost, case: str) -> None:
    """Money rule 4 across the loss: the journal's marks tell our deletion from anybody else's."""
    mark, status, wanted, needs_operator = MARKS[case]
    if mark is not None:
        lost.mark(0, mark)
    if status is not InvoiceStatus.ABSENT:
        lost.lightning.put(lost.swaps[0], status)
    finding = (await lost.rescue())[lost.swaps[0].swap_id]
    assert (await lost.stored(0)).invoice_mark is wanted
    assert finding.needs_operator is needs_operator


@pytest.mark.parametrize(("height", "wanted"), [(90, InvoiceMark.LOST), (None, InvoiceMark.NONE)])
async def test_a_journal_of_format_1_is_read_carefully(
    lost: Lost, height: int | None, wanted: InvoiceMark
) -> None:
    """It holds no marks: an absent invoice of a locked swap may have been paid."""
    lost.as_format_1()
    lost.chain.see(lost.funding.raw, height)
    await lost.rescue()
    swap = await lost.stored(0)
    assert swap.invoice_mark is wanted
    assert swap.state is (State.FUNDED if height else State.CREATED)


async def test_a_paid_swap_past_its_lock_height_is_shown_to_the_operator(lost: Lost) -> None:
    """As without the loss: paid and unclaimed, never refunded by the daemon itself."""
    lost.chain.height = LOCK_HEIGHT + 5
    lost.lightning.put(lost.swaps[0], InvoiceStatus.PAID)
    await lost.rescue()
    assert (await lost.stored(0)).paid_unclaimed


async def test_a_foreign_invoice_under_the_label_is_nobody_knows_what(lost: Lost) -> None:
    """Its hash is not the swap's, so it says nothing of the swap's payment."""
    lost.lightning.put(replace(lost.swaps[0], payment_hash=bytes(32)), InvoiceStatus.UNPAID)
    await lost.rescue()
    assert (await lost.stored(0)).invoice_mark is InvoiceMark.LOST


async def test_a_funding_that_no_node_has_is_sent_again(lost: Lost) -> None:
    """Its bytes come from the journal; its coins and its change are the wallet's as before."""
    lost.chain.unsee(lost.funding.txid)
    findings = await lost.rescue()
    assert "sends the same bytes again" in findings[lost.swaps[0].swap_id].next
    facts = await lost.database.read(survey)
    [own] = facts.own_txs
    assert (own.raw, own.state) == (lost.funding.raw, TxState.SIGNED)
    assert (await lost.stored(0)).state is State.CREATED
    assert len([c for c in facts.coins if c.coin.outpoint.txid == own.txid]) == 2
    assert len([b for b in facts.bindings if b.live]) == 2


async def test_without_its_bytes_nobody_can_say(lost: Lost) -> None:
    """A line of format 1 whose funding no node shows is left out, and the operator is told."""
    lost.as_format_1()
    lost.chain.unsee(lost.funding.txid)
    findings = await lost.rescue()
    assert [f.needs_operator for f in findings.values()] == [True] * 3
    assert await lost.load(0) is None


async def test_a_funding_whose_coin_is_spent_otherwise_locked_nothing(lost: Lost) -> None:
    """Buried, it is over: the swap is FAILED, so that its request id is not funded anew."""
    lost.chain.unsee(lost.funding.txid)
    deposit = STOCK[0][0]
    rival = tx.sign(
        [tx.wallet_spend(deposit.outpoint, deposit.value, SELLER.wallet_key(RECEIVE, 1))],
        [tx.Output(bytes(22), deposit.asset_id, deposit.value)],
        policy_asset=POLICY_ASSET,
        fee=0,
    )
    lost.chain.see(rival.raw, 99)
    findings = await lost.rescue()
    assert (await lost.stored(0)).state is State.FAILED
    assert "cannot confirm" in findings[lost.swaps[0].swap_id].found


async def test_only_the_last_funding_that_was_signed_can_have_been_sent(lost: Lost) -> None:
    """One that was journaled and not stored, before a crash, is not sent in place of the next."""
    plan = plan_funding(
        [replace(s, **UNFUNDED) for s in lost.swaps],  # type: ignore[arg-type]
        [coin for coin, _ in STOCK],
        LOCK_HEIGHT + 1,
    )
    later = [
        replace(s, funding_txid=plan.signed.txid, refund_lock_height=LOCK_HEIGHT + 1)
        for s in lost.swaps
    ]
    line = journal_file.tx_line(plan.signed.txid, plan.signed.raw, next_change_index=2)
    lost.journal.append([line, *journal_file.lines_of(later)])
    lost.chain.unsee(lost.funding.txid)
    await lost.rescue()
    assert (await lost.stored(0)).funding_txid == plan.signed.txid
    facts = await lost.database.read(survey)
    assert [o.txid for o in facts.own_txs] == [plan.signed.txid]


async def test_coins_that_a_later_funding_took_were_not_spent_before(lost: Lost) -> None:
    """Of two fundings of the same coins only the later can have been stored and sent."""
    other = make_swap(5, **UNFUNDED)
    plan = plan_funding([other], [coin for coin, _ in STOCK])
    txid = plan.signed.txid
    line = journal_file.tx_line(txid, plan.signed.raw, next_change_index=2)
    funded = make_swap(5, funding_txid=txid, asset_vout=0, subsidy_vout=1)
    lost.journal.append([line, *journal_file.lines_of([funded])])
    lost.chain.unsee(lost.funding.txid)
    findings = await lost.rescue()
    assert (await lost.stored(0)).state is State.FAILED
    assert "later funding" in findings[lost.swaps[0].swap_id].found
    facts = await lost.database.read(survey)
    assert [(o.txid, o.state) for o in facts.own_txs] == [(txid, TxState.SIGNED)]


def bumped(lost: Lost) -> tx.Signed:
    """Journal a dearer funding in place of the first one; it is on no chain yet."""
    plan = plan_funding(
        [replace(s, **UNFUNDED) for s in lost.swaps],  # type: ignore[arg-type]
        [coin for coin, _ in STOCK],
        rate=200,
    )
    signed = plan.signed
    line = journal_file.tx_line(
        signed.txid, signed.raw, next_change_index=2, replaces=lost.funding.txid
    )
    later = [replace(s, funding_txid=signed.txid) for s in lost.swaps]
    lost.journal.append([line, *journal_file.lines_of(later)])
    return signed


async def test_the_funding_that_confirmed_counts_whatever_was_signed_later(lost: Lost) -> None:
    """A dearer replacement lost against it."""
    bumped(lost)
    await lost.rescue()
    assert (await lost.stored(0)).funding_txid == lost.funding.txid
    facts = await lost.database.read(survey)
    assert [o.txid for o in facts.own_txs] == [lost.funding.txid]


async def test_what_a_replacement_replaced_is_kept(lost: Lost) -> None:
    """It may confirm after all, and then the swaps must be pointed back to it."""
    newer = bumped(lost)
    lost.chain.unsee(lost.funding.txid)
    lost.chain.see(newer.raw, None)
    await lost.rescue()
    assert (await lost.stored(0)).funding_txid == newer.txid
    facts = await lost.database.read(survey)
    assert {o.txid: o.state for o in facts.own_txs} == {
        newer.txid: TxState.SIGNED,
        lost.funding.txid: TxState.REPLACED,
    }


async def test_an_older_copy_moves_on_to_the_replacement(lost: Lost) -> None:
    """In the copy the first funding stands; taken for dead it would be made up for by a second."""
    await lost.rescue()
    newer = bumped(lost)
    lost.chain.unsee(lost.funding.txid)
    lost.chain.see(newer.raw, 92)
    findings = await lost.rescue()
    assert {f.action for f in findings.values()} == {"updated"}
    assert {(await lost.stored(n)).funding_txid for n in range(3)} == {newer.txid}
    assert await differences(lost) == ()


MISMATCHES: dict[str, tuple[dict[str, object], str]] = {
    "another swap id": ({"swap_id": "00000000-0000-4000-8000-000000009999"}, "another mnemonic"),
    "another index": ({"key_index": 77}, "another mnemonic"),
    "another address": (
        {"buyer_claim_address": "ert1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqvcxd6l"}, "of the network",
    ),
    "another amount": ({"asset_amount": 49_999}, "is not the asset"),
    "another lock height": ({"refund_lock_height": 999}, "is not the asset"),
    "a missing value": ({"payment_hash": ...}, "lacks a value"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISMATCHES)
async def test_a_journal_that_does_not_fit_is_refused_whole(lost: Lost, case: str) -> None:
    """Nothing is planned, let alone written, when one line does not follow from the keys."""
    changes, words = MISMATCHES[case]
    lost.replace_lines(**changes)
    with pytest.raises(JournalMismatch, match=words):
        await lost.plan()


@pytest.mark.parametrize(
    ("words", "network"), [(BUYER_WORDS, SELLER.network), ("abandon " * 11 + "about", MAINNET)]
)
async def test_another_mnemonic_or_network_is_refused(
    lost: Lost, words: str, network: object
) -> None:
    """By the payment hashes, by the addresses."""
    with pytest.raises(JournalMismatch):
        await lost.plan(Keychain(words, network))  # type: ignore[arg-type]


async def test_an_older_copy_learns_of_a_funding(lost: Lost) -> None:
    """A swap that waits in the copy gets the one that it has on the chain, and no second one."""
    waiting = replace(lost.swaps[0], **UNFUNDED)  # type: ignore[arg-type]

    def store(session: Transaction) -> None:
        put_swap(session, OldSwap(waiting, None, "", None, None, bytes(32)))
        session.add(ReservationRow(**reservation_values(waiting)))

    await lost.database.write(store)
    findings = await lost.rescue()
    assert findings[waiting.swap_id].action == "updated"
    swap = await lost.stored(0)
    assert (swap.state, swap.funding_txid) == (State.FUNDED, lost.funding.txid)
    assert await lost.database.read(lambda s: swap_store.waiting(s, 10)) == []
    assert await differences(lost) == ()


async def test_a_half_written_line_is_passed_over_and_told(lost: Lost) -> None:
    """A power cut leaves one; more than that may be swaps."""
    with lost.path.open("a") as file:
        file.write('{"v":2,"kind":"swap","swap_id":"0')
    plan = await lost.plan()
    assert len(plan.findings) == 3
    assert any("cannot be read" in note for note in plan.notes)


async def test_a_funding_without_lines_is_told(lost: Lost) -> None:
    """Our own transaction locks outputs that no line explains: a part of the journal is missing."""
    records = [r for r in journal_file.records(lost.path) if r.get("key_index") != 2]
    lost.path.unlink()
    RescueJournal(lost.path).append([json.dumps(r) for r in records])
    plan = await lost.plan()
    assert any("lines of the journal are missing" in note for note in plan.notes)


async def test_a_history_that_cannot_be_read_leaves_its_swap_out(lost: Lost) -> None:
    """A spend may hide in it; the others are rebuilt."""
    lost.chain.refused = {output_script(lost.swaps[1])}
    findings = await lost.rescue()
    assert [findings[s.swap_id].action for s in lost.swaps] == ["rebuilt", "left out", "rebuilt"]
    assert await lost.load(1) is None
