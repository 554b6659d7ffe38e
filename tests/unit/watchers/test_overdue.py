"""`watchers.observe`: which swaps are read again because their news may have been lost."""

from dataclasses import replace

from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.reconcile import ChainFacts, Spend
from lnliquid.domain.swap import InvoiceMark, State, Swap, Tip
from lnliquid.watchers.observe import (
    LOOKS_A_BLOCK,
    NEVER,
    SILENT_BLOCKS,
    expected_history,
    is_elsewhere,
    overdue,
    waiting_for,
)

from ..builders import make_swap, txid_of

CLAIM = txid_of(900)
CONFIRMED = ChainFacts(True, 50)
IN_MEMPOOL = ChainFacts(True, 50, Spend(CLAIM, None, SpendKind.CLAIM), None)
BURIED = ChainFacts(True, 50, Spend(CLAIM, 60, SpendKind.CLAIM), None)


def tip(height: int) -> Tip:
    """A tip at this height."""
    return Tip(height, f"block {height}")


READ_AT = tip(100)


def chosen(
    *swaps: tuple[Swap, ChainFacts], read_at: Tip = READ_AT, now: int = 100 + SILENT_BLOCKS
) -> list[str]:
    """Ids of the swaps that are read again when all of these were read under one tip."""
    read = {swap.swap_id: (facts, read_at) for swap, facts in swaps}
    waiting = waiting_for([swap for swap, _ in swaps], read)
    return [swap.swap_id for swap in overdue(waiting, read, tip(now))]


FUNDED = make_swap(1, state=State.FUNDED)
PAID = make_swap(2, state=State.FUNDED, invoice_mark=InvoiceMark.PAID)
CREATED = make_swap(3, state=State.CREATED)
CLAIMED = make_swap(4, state=State.CLAIMED)


def test_what_waits_for_nothing_is_left_alone() -> None:
    """An unpaid swap, and one whose spend is in a block already, need no reading."""
    assert chosen((FUNDED, CONFIRMED), (CLAIMED, BURIED)) == []


def test_what_waits_and_hears_nothing_is_read() -> None:
    """A funding or a spend that has to get into a block, and the claim of a paid swap."""
    waiting = ((CREATED, ChainFacts(True)), (CLAIMED, IN_MEMPOOL), (PAID, CONFIRMED))
    assert set(chosen(*waiting)) == {swap.swap_id for swap, _ in waiting}


def test_what_was_read_lately_is_not_read_again() -> None:
    """Its notification comes with the block, as a rule; a lower tip is another matter."""
    assert chosen((CLAIMED, IN_MEMPOOL), now=100 + SILENT_BLOCKS - 1) == []
    assert chosen((CLAIMED, IN_MEMPOOL), now=99) == [CLAIMED.swap_id]
    assert chosen((PAID, CONFIRMED), read_at=NEVER) == [PAID.swap_id]


def test_one_swap_of_a_transaction_is_read_for_all() -> None:
    """A funding is for hundreds of swaps, and so is a refund."""
    others = [replace(make_swap(n), funding_txid=CREATED.funding_txid) for n in range(10, 20)]
    assert len(chosen(*((swap, ChainFacts(True)) for swap in (CREATED, *others)))) == 1


def test_a_few_at_most_and_those_read_longest_ago_first() -> None:
    """A block's cost stays bounded, and every swap gets its turn."""
    swaps = [make_swap(n, state=State.CLAIMED) for n in range(3 * LOOKS_A_BLOCK)]
    read = {
        swap.swap_id: (
            ChainFacts(True, 50, Spend(txid_of(900 + n), None, SpendKind.CLAIM), None),
            tip(100 - n),
        )
        for n, swap in enumerate(swaps)
    }
    found = overdue(waiting_for(swaps, read), read, tip(110))
    assert found == swaps[: -LOOKS_A_BLOCK - 1 : -1]


def test_what_is_elsewhere_than_it_was_read_is_known_by_its_transactions() -> None:
    """Funding and spend, out of a block as well as into one; other transactions tell nothing."""
    funding = CREATED.funding_txid
    assert funding is not None
    assert is_elsewhere(CREATED, ChainFacts(True), {funding: 51})
    assert is_elsewhere(FUNDED, CONFIRMED, {FUNDED.funding_txid or "": None})
    assert is_elsewhere(CLAIMED, IN_MEMPOOL, {CLAIM: 60})
    assert not is_elsewhere(CREATED, ChainFacts(True), {funding: None, CLAIM: 60})
    assert not is_elsewhere(CLAIMED, BURIED, {CLAIM: 60})
    assert not is_elsewhere(CREATED, ChainFacts(True), {})


def test_expected_is_the_funding_alone_where_the_record_says_so() -> None:
    """With a spend, or a funding whose height is not stored, nothing is expected."""
    assert FUNDED.funding_txid is not None
    heights = {FUNDED.funding_txid: 50}
    assert expected_history(FUNDED, heights) == (HistoryItem(FUNDED.funding_txid, 50),)
    assert expected_history(FUNDED, {}) == ()
    assert expected_history(replace(FUNDED, spend_txid=CLAIM), heights) == ()
