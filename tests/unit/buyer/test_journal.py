"""The buyer's journal: durable, private, whole after a crash, one process a swap."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.buyer import Journal, Order, Record, Step
from lnliquid.buyer.errors import BuyerError, SwapBusy, WrongUsage

REQUEST_ID = "7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11"
ORDER = Order(REQUEST_ID, "5a" * 32, 1_000, 150_000, 2, 5_000)


def record(**changes: object) -> Record:
    """A record with everything set."""
    base = Record(
        order=ORDER,
        network="liquid-regtest",
        seller="127.0.0.1:50051",
        key_index=3,
        claim_address="ert1q",
        created_at=1_800_000_000,
        offer={"asset_precision": 2},
        step=Step.CLAIMING,
        swap={"swap_id": "a0000000-0000-4000-8000-000000000000"},
        preimage="11" * 32,
        claims=[{"txid": "ab" * 32, "raw": "0200"}],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    """Nothing is lost or changed on the way through the file."""
    Journal(tmp_path).save(record())
    assert Journal(tmp_path).find(REQUEST_ID) == record()


def test_a_record_is_found_by_request_id_and_by_swap_id(tmp_path: Path) -> None:
    """Either name that a person may have at hand will do; another one is an error."""
    journal = Journal(tmp_path)
    journal.save(record())
    assert journal.load(REQUEST_ID.upper()) == record()
    assert journal.load("a0000000-0000-4000-8000-000000000000") == record()
    with pytest.raises(WrongUsage, match="no swap b0"):
        journal.load("b0000000-0000-4000-8000-000000000000")


def test_a_swap_id_stands_for_no_other_purchase(tmp_path: Path) -> None:
    """Sellers choose swap ids: a request id is looked for first, and a doubled one is refused."""
    journal = Journal(tmp_path)
    other = "b0000000-0000-4000-8000-000000000000"
    lying = record(created_at=1, swap={"swap_id": other})
    honest = record(order=replace(ORDER, request_id=other))
    for one in (lying, honest):
        journal.save(one)
    assert journal.load(other) == honest
    journal.save(replace(lying, swap=honest.swap))
    assert honest.swap is not None
    with pytest.raises(BuyerError, match="names several purchases"):
        journal.load(honest.swap["swap_id"])


def test_only_the_owner_can_read_the_journal(tmp_path: Path) -> None:
    """Files hold preimages: 0600, in directories of 0700, whatever the umask."""
    before = os.umask(0)
    try:
        journal = Journal(tmp_path / "buyer")
        journal.save(record())
        journal.take_index()
        with journal.lock(REQUEST_ID):
            pass
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "buyer").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert stat.S_IMODE((tmp_path / "buyer").stat().st_mode) == 0o700


def test_what_is_shown_holds_no_secret(tmp_path: Path) -> None:
    """Neither the text nor the public form of a record holds the preimage or a raw claim."""
    shown = json.dumps(record().public_dict()) + repr(record())
    assert "11" * 32 not in shown
    assert "0200" not in shown
    assert "ab" * 32 in shown


def test_a_half_written_file_is_never_seen(tmp_path: Path) -> None:
    """A process killed while it writes, again and again, leaves a whole record each time."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from lnliquid.buyer import Journal
        journal = Journal(Path(sys.argv[1]))
        [record] = journal.all()
        record.funding_raw = "00" * 200_000
        while True:
            record.created_at += 1
            journal.save(record)
        """
    )
    Journal(tmp_path).save(record())
    path = tmp_path / "swaps" / f"{REQUEST_ID}.json"
    for _ in range(3):
        first = path.stat().st_ino
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
        try:
            wait_until_replaced(path, first, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        [found] = Journal(tmp_path).all()
        assert found.preimage == "11" * 32
        assert Journal(tmp_path).damaged() == []


def wait_until_replaced(path: Path, inode: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the file was replaced at least once."""
    deadline = time.monotonic() + 20
    while path.stat().st_ino == inode:
        assert process.poll() is None, "the writer died"
        assert time.monotonic() < deadline, "the file is not replaced"
        os.sched_yield()


def test_a_second_process_is_turned_away_until_the_first_one_dies(tmp_path: Path) -> None:
    """The lock is the process's: kill -9 frees it, and nothing has to be cleaned up."""
    program = (
        "import sys, time; from pathlib import Path; from lnliquid.buyer import Journal\n"
        f"with Journal(Path(sys.argv[1])).lock({REQUEST_ID!r}):\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(SwapBusy), Journal(tmp_path).lock(REQUEST_ID):
            pytest.fail("two processes have the lock")
        process.send_signal(signal.SIGKILL)
    with Journal(tmp_path).lock(REQUEST_ID):
        pass


def test_an_index_is_never_given_twice(tmp_path: Path) -> None:
    """Not by other journals of the directory, and not when the counter is lost."""
    taken = [Journal(tmp_path).take_index() for _ in range(4)]
    assert taken == [0, 1, 2, 3]
    Journal(tmp_path).save(record(key_index=9))
    (tmp_path / "next_index").unlink()
    assert Journal(tmp_path).take_index() == 10
    assert Journal(tmp_path).index_count() == 11


def test_a_damaged_file_is_named_and_stops_no_other_swap(tmp_path: Path) -> None:
    """The rest of the journal stays usable, and the damaged swap is not overwritten silently."""
    journal = Journal(tmp_path)
    journal.save(record())
    other = "00000000-0000-4000-8000-000000000000"
    (tmp_path / "swaps" / f"{other}.json").write_text('{"format": 1, "ord')
    assert journal.all() == [record()]
    assert "is damaged" in journal.damaged()[0]
    with pytest.raises(BuyerError, match="is damaged"):
        journal.find(other)


@pytest.mark.parametrize("newer", ['"format": 3', '"format": 2, "released_at": 5'])
def test_a_file_of_a_newer_program_is_refused(tmp_path: Path, newer: str) -> None:
    """What an older program would misread, or lose when it stores it, is not read at all."""
    journal = Journal(tmp_path)
    journal.save(record())
    path = tmp_path / "swaps" / f"{REQUEST_ID}.json"
    path.write_text(path.read_text().replace('"format": 2', newer))
    with pytest.raises(BuyerError, match="another version"):
        journal.find(REQUEST_ID)


@pytest.mark.parametrize("name", ["../escape", "", REQUEST_ID.upper(), "x" * 36])
def test_a_name_that_is_no_uuid_makes_no_file(tmp_path: Path, name: str) -> None:
    """Request ids become file names, so nothing else may."""
    journal = Journal(tmp_path)
    with pytest.raises(BuyerError, match="UUID"), journal.lock(name):
        pytest.fail("locked")
    assert list((tmp_path / "swaps").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way gives a clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongUsage, match="choose another --dir"):
        Journal(tmp_path / "file" / "buyer")


def test_an_index_lock_that_is_never_released_is_told(tmp_path: Path) -> None:
    """As of a process that was stopped with Ctrl-Z: nothing waits for ever, nothing is ordered."""
    journal = Journal(tmp_path)
    assert journal.take_index() == 0
    with (tmp_path / "next_index.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BuyerError, match="nothing was ordered"):
            journal.take_index()
    assert journal.take_index() == 1
