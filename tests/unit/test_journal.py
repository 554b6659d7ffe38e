"""The rescue journal: whole lines, synced, nothing secret, rewritten when most of it is past."""

import json
import stat
from pathlib import Path

import pytest

from lnliquid.seller.journal import JournalFailure, RescueJournal, line_of, read_lines

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


def test_rewrite_keeps_the_live_lines_only(tmp_path: Path) -> None:
    """Growth is bounded: past twice the live lines and a slack, the file is written anew."""
    journal = RescueJournal(tmp_path / "rescue")
    journal.append([json.dumps({"v": 1, "n": n}) for n in range(1_030)])
    assert not journal.wants_rewrite(live=20)
    assert journal.wants_rewrite(live=10)
    journal.rewrite([json.dumps({"v": 1, "n": 7})])
    assert [line["n"] for line in read_lines(tmp_path / "rescue")] == [7]
    assert journal.lines == 1


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """Without its line nothing may be funded, so the failure is an error of its own."""
    journal = RescueJournal(tmp_path / "missing" / "rescue")
    with pytest.raises(JournalFailure, match=r"rescue journal .+: No such file"):
        journal.append(["{}"])


def test_a_line_holds_what_the_script_needs_and_no_secret() -> None:
    """Index, hashes, amounts, height and outpoints; the preimage follows from the seed."""
    swap = make_swap()
    line = json.loads(line_of(swap, "ab" * 32, 123, (4, 5)))
    assert line["refund_lock_height"] == 123
    assert (line["funding_txid"], line["asset_vout"], line["subsidy_vout"]) == ("ab" * 32, 4, 5)
    assert line["swap_id"] == swap.swap_id
    assert line["key_index"] == swap.key_index
    assert not any("preimage" in name or "secret" in name for name in line)
