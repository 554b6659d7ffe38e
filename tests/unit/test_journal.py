"""The rescue journal: whole lines, synced, nothing secret, rewritten when most of it is past."""

import json
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from lnliquid.seller.journal import (
    JournalFailure,
    RescueJournal,
    archive_of,
    divide,
    indexes_line,
    line_of,
    mark_line,
    read_lines,
    records,
    tx_line,
)
from lnliquid.swap import InvoiceMark

from .builders import make_swap


def test_lines_survive_and_half_lines_are_passed_over(tmp_path: Path) -> None:
    """A power cut in the middle of a line costs that line only, and the next begins afresh."""
    path = tmp_path / "rescue"
    RescueJournal(path).append([json.dumps({"v": 1, "n": 1})])
    with path.open("a") as file:
        file.write('{"v":1,"n":')
    journal = RescueJournal(path)
    assert journal.lines == 1
    journal.append([json.dumps({"v": 1, "n": 2}), json.dumps({"v": 1, "n": 3})])
    assert [line["n"] for line in read_lines(path)] == [1, 2, 3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def swap_line(number: int, **changes: object) -> str:
    """A line of swap `number`."""
    swap = make_swap(number, **changes)
    return line_of(swap, swap.funding_txid or "", 123, (0, 1))


def test_only_what_is_proved_final_leaves_the_file(tmp_path: Path) -> None:
    """Final swaps move to the file beside it; what the store does not know stays, always."""
    path = tmp_path / "rescue"
    journal = RescueJournal(path)
    final = {make_swap(n).swap_id: make_swap(n).funding_txid for n in range(1_100)}
    unknown = [swap_line(n) for n in range(2_000, 2_003)]
    journal.append([*(swap_line(n) for n in range(1_100)), *unknown])
    assert journal.wants_rewrite()
    assert journal.trim(final, frozenset(), indexes_line(3_000, 40))
    kept = [r["swap_id"] for r in read_lines(path)]
    assert kept == [make_swap(n).swap_id for n in range(2_000, 2_003)]
    assert [r["swap_id"] for r in read_lines(archive_of(path))] == list(final)
    assert journal.lines == 4
    assert next(iter(records(path)))["next_swap_index"] == 3_000
    assert not journal.wants_rewrite()


def test_a_store_that_is_an_older_copy_takes_no_line_away(tmp_path: Path) -> None:
    """It knows none of the swaps that came after it, so the file stays as it is."""
    journal = RescueJournal(tmp_path / "rescue")
    journal.append([swap_line(n) for n in range(1_100)])
    before = (tmp_path / "rescue").read_bytes()
    assert journal.wants_rewrite()
    assert not journal.trim({}, frozenset(), indexes_line(0, 0))
    assert (tmp_path / "rescue").read_bytes() == before
    assert not journal.wants_rewrite(), "it would be read again at each funding"


def test_a_funding_that_the_store_does_not_know_keeps_its_line() -> None:
    """A swap may be final with one funding while another one of it is on the chain."""
    final = make_swap(1, funding_txid="aa" * 32)
    other = swap_line(1, funding_txid="bb" * 32)
    line = swap_line(1, funding_txid="aa" * 32)
    known = {final.swap_id: "aa" * 32}
    assert divide([line, other], known, frozenset(), "i") == (["i", other], [line])
    assert divide([line, other], known, frozenset({"bb" * 32}), "i") == (["i"], [line])


def test_bytes_and_marks_stay_as_long_as_their_swap() -> None:
    """The bytes of what a live funding replaced stay too; of the others they go."""
    live = swap_line(1, funding_txid="bb" * 32)
    texts = [
        tx_line("aa" * 32, b"1", next_change_index=2),
        tx_line("bb" * 32, b"2", next_change_index=2, replaces="aa" * 32),
        tx_line("cc" * 32, b"3", next_change_index=4),
        live,
        mark_line(make_swap(1).swap_id, InvoiceMark.ASKED),
        mark_line(make_swap(2).swap_id, InvoiceMark.ASKED),
        indexes_line(1, 1),
        "half a li",
    ]
    kept, done = divide(texts, {}, frozenset(), "i")
    assert kept == ["i", texts[0], texts[1], live, texts[4], texts[7]]
    assert done == []


def test_a_mark_is_written_once(tmp_path: Path) -> None:
    """Again only when another one came between, also across a restart."""
    path, swap_id = tmp_path / "rescue", make_swap(1).swap_id
    journal = RescueJournal(path)
    for mark in (InvoiceMark.ASKED, InvoiceMark.ASKED, InvoiceMark.CLOSED, InvoiceMark.ASKED):
        journal.note_marks({swap_id: mark})
    RescueJournal(path).note_marks({swap_id: InvoiceMark.ASKED})
    assert [r["mark"] for r in records(path)] == ["ASKED", "CLOSED", "ASKED"]


def test_lines_of_an_older_program_are_read(tmp_path: Path) -> None:
    """Format 1 has no kinds: every line is a swap's."""
    path = tmp_path / "rescue"
    path.write_text(json.dumps({"v": 1, "swap_id": "s"}) + "\n" + json.dumps({"v": 99}) + "\n")
    assert [line["swap_id"] for line in read_lines(path)] == ["s"]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """Without its line nothing may be funded, so the failure is an error of its own."""
    journal = RescueJournal(tmp_path / "missing" / "rescue")
    with pytest.raises(JournalFailure, match=r"rescue journal .+: No such file"):
        journal.append(["{}"])


class SlowDisk(RescueJournal):
    """A journal whose disk takes as long as the test wants, and then may be full."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.at_it, self.go_on = threading.Event(), threading.Event()
        self.full = False

    def _append(self, path: Path, lines: Sequence[str]) -> None:  # type: ignore[override]
        self.at_it.set()
        assert self.go_on.wait(10)
        if self.full:
            raise JournalFailure("No space left on device")
        super()._append(path, lines)


def test_a_journal_that_is_being_written_has_not_failed(tmp_path: Path) -> None:
    """Readiness asks from another thread: a sync under way refuses no buyer, a full disk does."""
    journal = SlowDisk(tmp_path / "rescue")
    writing = threading.Thread(target=journal.append, args=(["{}"],))
    writing.start()
    assert journal.at_it.wait(10)
    assert not journal.failed
    journal.go_on.set()
    writing.join(10)
    assert not journal.failed
    journal.full = True
    with pytest.raises(JournalFailure):
        journal.append(["{}"])
    assert journal.failed, "new swaps are refused until a line can be written"
    journal.at_it.clear()
    journal.go_on.clear()
    writing = threading.Thread(target=journal.append, args=(["{}"],))
    journal.full = False
    writing.start()
    assert journal.at_it.wait(10)
    assert journal.failed, "still: nothing was written since"
    journal.go_on.set()
    writing.join(10)
    assert not journal.failed


def test_a_line_holds_what_the_script_needs_and_no_secret() -> None:
    """Index, hashes, amounts, height and outpoints; the preimage follows from the seed."""
    swap = make_swap()
    line = json.loads(line_of(swap, "ab" * 32, 123, (4, 5)))
    assert line["refund_lock_height"] == 123
    assert (line["funding_txid"], line["asset_vout"], line["subsidy_vout"]) == ("ab" * 32, 4, 5)
    assert line["swap_id"] == swap.swap_id
    assert line["key_index"] == swap.key_index
    assert not any("preimage" in name or "secret" in name for name in line)
