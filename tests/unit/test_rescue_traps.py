"""Rescue in bad company: a store that moved on, a funding with rivals, a store that was served."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.liquid import tx
from lnliquid.liquid.keys import CHANGE, RECEIVE
from lnliquid.ports import InvoiceStatus
from lnliquid.seller import journal as journal_file
from lnliquid.seller.rescue_lines import JournalMismatch
from lnliquid.store import swaps as swap_store
from lnliquid.store.rebuild import OldSwap, put_swap
from lnliquid.store.rows import reservation_values
from lnliquid.store.sqlite import Transaction
from lnliquid.store.survey import survey
from lnliquid.store.tables import ReservationRow, TxState
from lnliquid.swap import InvoiceMark, Outpoint, State, Swap

from .builders import POLICY_ASSET, SELLER, make_swap, plan_funding, uuid_of
from .test_audit import STOCK, wallet_script
from .test_rescue_plan import UNFUNDED, Lost, bumped, differences


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    """The seller without a database."""
    world = Lost(tmp_path)
    yield world
    world.database.close()


async def put(lost: Lost, swap: Swap) -> None:
    """Store a swap as it is; one that waits gets its reservation."""

    def store(session: Transaction) -> None:
        put_swap(session, OldSwap(swap, None, "", None, None, bytes(32)))
        if swap.state is State.CREATED and swap.funding_txid is None:
            session.add(ReservationRow(**reservation_values(swap)))

    await lost.database.write(store)


def waiting(swap: Swap) -> Swap:
    """The swap before anything was signed for it."""
    return replace(swap, **UNFUNDED)  # type: ignore[arg-type]


def failed(swap: Swap) -> Swap:
    """The swap, given up."""
    return replace(waiting(swap), state=State.FAILED, finished=True)


async def states(lost: Lost) -> dict[str, TxState]:
    """Our transactions as stored."""
    return {o.txid: o.state for o in (await lost.database.read(survey)).own_txs}


async def test_a_funding_is_not_sent_for_a_swap_that_failed_without_it(lost: Lost) -> None:
    """It was journaled, and the program died before it was stored: nobody would follow its HTLC."""
    lost.chain.unsee(lost.funding.txid)
    await put(lost, failed(lost.swaps[0]))
    await put(lost, waiting(lost.swaps[1]))
    await put(lost, waiting(lost.swaps[2]))
    await lost.rescue()
    assert await states(lost) == {}
    assert [(await lost.stored(n)).state for n in range(3)] == [
        State.FAILED,
        State.CREATED,
        State.CREATED,
    ]
    assert len(await lost.database.read(lambda s: swap_store.waiting(s, 9))) == 2


async def test_a_failed_swap_whose_funding_is_on_the_chain_is_told(lost: Lost) -> None:
    """The daemon follows no failed swap, so the operator must build the database anew."""
    await put(lost, failed(lost.swaps[0]))
    finding = (await lost.rescue())[lost.swaps[0].swap_id]
    assert finding.needs_operator
    assert "move the database away" in finding.next


async def test_a_stored_replacement_keeps_its_swaps_while_the_older_one_is_seen(lost: Lost) -> None:
    """It will be sent and replace the older one, and then only it holds the coins."""
    lost.chain.unsee(lost.funding.txid)
    newer = bumped(lost)
    await lost.rescue()
    assert (await lost.stored(0)).funding_txid == newer.txid
    lost.chain.see(lost.funding.raw, None)
    findings = await lost.rescue()
    assert {(await lost.stored(n)).funding_txid for n in range(3)} == {newer.txid}
    assert {f.action for f in findings.values()} == {"unchanged"}
    lost.path.write_text("\n".join(lost.path.read_text().splitlines()[:4]))
    await lost.rescue()  # also when the journal is the one that is behind
    assert {(await lost.stored(n)).funding_txid for n in range(3)} == {newer.txid}


async def test_a_replacement_that_no_node_shows_is_stored_beside_the_older_one(lost: Lost) -> None:
    """Whichever of the two confirms, the daemon knows both; it sends the dearer one."""
    lost.chain.see(lost.funding.raw, None)
    newer = bumped(lost)
    await lost.rescue()
    assert (await lost.stored(0)).funding_txid == newer.txid
    assert await states(lost) == {newer.txid: TxState.SIGNED, lost.funding.txid: TxState.REPLACED}
    facts = await lost.database.read(survey)
    assert {b.owner_txid for b in facts.bindings if b.live} == {newer.txid}
    plan = await lost.plan()
    assert (plan.own_txs, plan.swaps) == ((), ())


def child(lost: Lost) -> tuple[Swap, tx.Signed]:
    """Journal a funding of a fourth swap out of the change of the first one."""
    change = {
        output.asset_id: (vout, output)
        for vout, output in enumerate(tx.parse(lost.funding.raw).outputs)
        if len(output.script_pubkey) == 22
    }
    coins = [
        replace(
            STOCK[0][0],
            outpoint=Outpoint(lost.funding.txid, vout),
            asset_id=asset_id or "",
            value=output.value or 0,
            branch=CHANGE,
            index=next(
                i
                for i in (0, 1)
                if SELLER.wallet_key(CHANGE, i).key_hash == output.script_pubkey[2:]
            ),
        )
        for asset_id, (vout, output) in change.items()
    ]
    swap = make_swap(3, **UNFUNDED)
    plan = plan_funding([swap], coins)
    vouts = plan.vouts[swap.swap_id]
    funded = make_swap(3, funding_txid=plan.signed.txid, asset_vout=vouts[0], subsidy_vout=vouts[1])
    line = journal_file.tx_line(plan.signed.txid, plan.signed.raw, next_change_index=4)
    lost.journal.append([line, *journal_file.lines_of([funded])])
    return funded, plan.signed


@pytest.mark.parametrize("in_mempool", [True, False])
async def test_a_replacement_that_was_never_stored_displaces_nothing(
    lost: Lost, in_mempool: bool
) -> None:
    """What was built on the older one afterwards proves that the older one stood."""
    bumped(lost)
    swap, built_on = child(lost)
    lost.chain.unsee(lost.funding.txid)
    if in_mempool:
        lost.chain.see(lost.funding.raw, None)
        lost.chain.see(built_on.raw, None)
    await lost.rescue()
    assert await states(lost) == {
        lost.funding.txid: TxState.SIGNED,
        built_on.txid: TxState.SIGNED,
    }
    assert (await lost.stored(0)).funding_txid == lost.funding.txid
    found = await lost.database.read(lambda s: swap_store.get(s, swap.swap_id))
    assert found is not None
    assert (found.state, found.funding_txid) == (State.CREATED, built_on.txid)


async def test_a_funding_that_only_the_store_knows_is_not_displaced(lost: Lost) -> None:
    """The journal lacks its line: an older one of the same swaps must not take its coins."""
    await lost.rescue()
    lost.chain.unsee(lost.funding.txid)
    lost.path.unlink()
    older = plan_funding(
        [waiting(s) for s in lost.swaps], [coin for coin, _ in STOCK], 900, rate=150
    ).signed
    lines = [
        replace(s, funding_txid=older.txid, refund_lock_height=900, swap_id=s.swap_id)
        for s in lost.swaps
    ]
    lost.journal.append(
        [
            journal_file.tx_line(older.txid, older.raw, next_change_index=2),
            *journal_file.lines_of(lines),
        ]
    )
    await lost.rescue()
    assert (await lost.stored(0)).funding_txid == lost.funding.txid
    assert older.txid not in await states(lost)


async def test_what_the_mempool_still_shows_beside_a_block_takes_no_coin(lost: Lost) -> None:
    """A server that lags shows a rival of what is confirmed; the confirmed one owns the coins."""
    rival = plan_funding([make_swap(7, **UNFUNDED)], [coin for coin, _ in STOCK], rate=300).signed
    lost.chain.see(rival.raw, None)
    await lost.rescue()
    assert await states(lost) == {lost.funding.txid: TxState.CONFIRMED}
    facts = await lost.database.read(survey)
    assert {b.owner_txid for b in facts.bindings if b.live} == {lost.funding.txid}


@pytest.mark.parametrize("same", ["key_index", "request_id"])
async def test_a_swap_whose_place_is_taken_stops_no_other(lost: Lost, same: str) -> None:
    """An older copy was served before the rescue and gave its index or request away again."""
    taker = waiting(make_swap(8, swap_id=uuid_of(4_000), **{same: getattr(lost.swaps[0], same)}))
    await put(lost, taker)
    findings = await lost.rescue()
    assert [findings[s.swap_id].action for s in lost.swaps] == ["left out", "rebuilt", "rebuilt"]
    finding = findings[lost.swaps[0].swap_id]
    assert finding.needs_operator
    assert taker.swap_id in finding.found


async def test_a_damaged_number_is_a_mismatch_and_no_traceback(lost: Lost) -> None:
    """Whole lines with a value that is none end the rescue in words."""
    lost.journal.append(['{"v":2,"kind":"tx","txid":"00","raw":"00","replaces":null}'])
    with pytest.raises(JournalMismatch, match="lacks a value"):
        await lost.plan()


async def test_what_was_corrected_in_the_journal_counts(lost: Lost) -> None:
    """Closed, and then seen gone by somebody else's doing or paid: it is not refunded."""
    lost.mark(0, InvoiceMark.CLOSED)
    lost.mark(0, InvoiceMark.LOST)
    lost.mark(1, InvoiceMark.REFUNDING)
    lost.mark(1, InvoiceMark.PAID)
    lost.lightning.put(lost.swaps[2], InvoiceStatus.UNPAID)
    lost.mark(2, InvoiceMark.CLOSED)
    lost.mark(2, InvoiceMark.LOST)
    await lost.rescue()
    assert [(await lost.stored(n)).invoice_mark for n in range(3)] == [
        InvoiceMark.LOST,
        InvoiceMark.PAID,
        InvoiceMark.ASKED,
    ]


async def test_rescued_books_balance_with_a_replacement(lost: Lost) -> None:
    """After the dearer funding confirmed the audit of the rebuilt database is exact."""
    lost.chain.see(lost.funding.raw, None)
    newer = bumped(lost)
    await lost.rescue()
    lost.chain.unsee(lost.funding.txid)
    lost.chain.see(newer.raw, 92)
    await lost.rescue()
    texts = [d.text for d in await differences(lost)]
    assert not [t for t in texts if POLICY_ASSET in t and "nowhere" in t], texts


async def test_addresses_that_cannot_be_read_stop_no_rescue(lost: Lost) -> None:
    """A funding that the journal names is ours, also when nothing is known of what it spends."""
    lost.chain.refused = {wallet_script(RECEIVE, 1), wallet_script(RECEIVE, 2)}
    await lost.rescue()
    assert {(await lost.stored(n)).state for n in range(3)} == {State.FUNDED}
    assert await states(lost) == {lost.funding.txid: TxState.CONFIRMED}
