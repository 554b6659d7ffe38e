"""The daemon on a database that is not the one of its rescue journal: it spoils nothing."""

import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnliquid.cli import command_line
from lnliquid.errors import NotReady, SettingsError
from lnliquid.seller import older_copy
from lnliquid.seller.create import Seller
from lnliquid.seller.journal import RescueJournal, indexes_line, line_of, mark_line, records
from lnliquid.seller.readiness import Readiness
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.creation import NEXT_SWAP
from lnliquid.store.rows import FIELDS
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import Purpose, SwapRow, TxState
from lnliquid.swap import InvoiceMark, State

from .builders import (
    SELLER,
    SELLER_WORDS,
    Spenders,
    StillClock,
    make_request,
    make_swap,
    migrated,
    new_swap,
    settings_values,
    stock,
)
from .fakes import FakeChain, FakeLightning

DEADLINE_SECS = 10
NOTHING = dict.fromkeys(("funding_txid", "asset_vout", "subsidy_vout", "refund_lock_height"))


class Copy:
    """A database with one swap, and a journal that the test writes."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(**settings_values(folder, create_wait_secs=0))
        self.database = Database(migrated(self.settings.database), StillClock())
        self.path = self.settings.rescue_journal_path

    async def sell(self, number: int) -> int:
        """T1; returns the swap's key index."""
        new = new_swap(make_request(number))
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        return swap.key_index

    def journal(self, *lines: str) -> RescueJournal:
        """Write lines and open the journal, as a start does."""
        RescueJournal(self.path).append(lines)
        return RescueJournal(self.path)

    async def check(self) -> None:
        """What a start does."""
        await older_copy.check(self.database, RescueJournal(self.path), SELLER, self.settings)

    async def next_index(self) -> int:
        """The key index of the next swap."""
        return await self.database.read(lambda s: coin_store.cursor(s, NEXT_SWAP))


@pytest.fixture
async def copy(tmp_path: Path) -> AsyncIterator[Copy]:
    """With coins."""
    made = Copy(tmp_path)
    await stock(made.database)
    yield made
    made.database.close()


def line(number: int, **changes: object) -> str:
    """A line of swap `number`, whose hash follows from the seller's keys."""
    swap = make_swap(number, **changes)
    return line_of(swap, "aa" * 32, 500, (0, 1))


async def test_no_key_index_of_the_journal_is_given_away_again(copy: Copy) -> None:
    """Else the forgotten swap could not be rebuilt: an index belongs to one swap."""
    assert await copy.sell(0) == 0
    copy.journal(line(7))
    await copy.check()
    assert await copy.sell(1) == 8
    copy.journal(indexes_line(20, 4))
    await copy.check()
    assert await copy.next_index() == 20


async def test_an_index_that_does_not_fit_the_keys_is_not_believed(copy: Copy) -> None:
    """A damaged digit, or the journal of another wallet, must not use the indexes up."""
    await copy.sell(0)
    copy.journal(line(3), line(9, payment_hash=bytes(32)), indexes_line(2**31, 4))
    await copy.check()
    assert await copy.next_index() == 4


async def test_an_up_to_date_database_is_left_as_it_is(copy: Copy) -> None:
    """No commit at a start that has nothing to mend."""
    await copy.sell(0)
    copy.journal(line(0))
    before = copy.database.commits
    await copy.check()
    assert copy.database.commits == before


async def test_a_request_that_the_journal_names_is_not_sold_again(copy: Copy) -> None:
    """Its swap may be funded and unknown here; other requests are served."""
    swap = make_swap(5)
    rescue = copy.journal(line(5))
    chain = FakeChain()
    parts = Spenders(copy.database, chain, copy.settings)
    readiness = Readiness(
        copy.database, chain, FakeLightning(), parts.inventory, copy.settings, rescue
    )
    seller = Seller(copy.database, readiness, parts.funder, SELLER, copy.settings, parts.notices)
    with pytest.raises(NotReady, match="lnliquid rescue"):
        await seller.create_swap(make_request(5, request_id=swap.request_id))
    assert await copy.database.read(swap_store.holds_none)
    assert (await seller.create_swap(make_request(6))).key_index == 0


async def test_an_empty_database_beside_a_journal_with_swaps_is_refused(copy: Copy) -> None:
    """Both files and the way out are named."""
    copy.journal(line(0), line(1), mark_line(make_swap(0).swap_id, InvoiceMark.ASKED))
    with pytest.raises(SettingsError) as refused:
        await copy.check()
    told = str(refused.value)
    assert all(
        words in told
        for words in (
            str(copy.settings.database),
            str(copy.path),
            "names 2 that",
            "`lnliquid rescue`",
            "move the journal away",
        )
    )


async def test_an_empty_journal_lets_a_new_seller_start(copy: Copy) -> None:
    """Without a file, and with one that only holds indexes."""
    await copy.check()
    copy.journal(indexes_line(3, 4))
    await copy.check()
    assert await copy.next_index() == 3


def test_serve_refuses_an_empty_database_with_exit_code_2(tmp_path: Path) -> None:
    """Before it listens or asks a node; nothing of the journal is changed."""
    mnemonic, config = tmp_path / "mnemonic", tmp_path / "seller.toml"
    mnemonic.write_text(SELLER_WORDS)
    mnemonic.chmod(0o600)
    values = settings_values(tmp_path)
    config.write_text(
        "".join(
            f"{name} = {json.dumps(value if isinstance(value, int) else str(value))}\n"
            for name, value in values.items()
        )
    )
    journal = Settings(**values).rescue_journal_path
    RescueJournal(journal).append([line(0)])
    before = journal.read_bytes()
    result = CliRunner().invoke(command_line("serve"), ["serve", "--config", str(config)])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "`lnliquid rescue`" in result.stderr
    assert str(journal) in result.stderr.replace("\n", "")
    assert journal.read_bytes() == before


class Held(dict[str, str | None]):
    """Final swaps; looking one up waits, so that the file has been read and not yet written."""

    def __init__(self, swaps: dict[str, str | None]) -> None:
        super().__init__(swaps)
        self.reached, self.opened = threading.Event(), threading.Event()

    def __contains__(self, key: object) -> bool:
        self.reached.set()
        assert self.opened.wait(DEADLINE_SECS)
        return super().__contains__(key)


def test_a_mark_that_comes_while_the_journal_is_rewritten_is_kept(tmp_path: Path) -> None:
    """The watcher writes marks while the funder trims; a lost ASKED would pass for never asked."""
    journal = RescueJournal(tmp_path / "rescue")
    journal.append([line(n) for n in range(1_100)])
    swaps = (make_swap(n).swap_id for n in range(1_099))
    final = Held(dict.fromkeys(swaps, "aa" * 32))
    trimming = threading.Thread(
        target=journal.trim, args=(final, frozenset(), indexes_line(2_000, 4))
    )
    swap_id = make_swap(1_099).swap_id
    marking = threading.Thread(target=journal.note_marks, args=({swap_id: InvoiceMark.ASKED},))
    trimming.start()
    assert final.reached.wait(DEADLINE_SECS)
    marking.start()
    marking.join(0.2)  # without a lock it is through by now, into the file that is thrown away
    final.opened.set()
    trimming.join(DEADLINE_SECS)
    marking.join(DEADLINE_SECS)
    kept = list(records(journal.path))
    assert [r["swap_id"] for r in kept if r.get("kind") == "swap"] == [swap_id]
    assert [r["mark"] for r in kept if r.get("kind") == "mark"] == ["ASKED"]


def test_only_what_would_allow_a_refund_is_corrected(tmp_path: Path) -> None:
    """A payment after ASKED needs no line; after CLOSED it does, once."""
    journal = RescueJournal(tmp_path / "rescue")
    cases = [
        (None, InvoiceMark.PAID, False),
        (InvoiceMark.ASKED, InvoiceMark.PAID, False),
        (InvoiceMark.CLOSED, InvoiceMark.PAID, True),
        (InvoiceMark.CLOSED, InvoiceMark.LOST, True),
        (InvoiceMark.CLOSED, InvoiceMark.ASKED, False),
        (InvoiceMark.REFUNDING, InvoiceMark.PAID, True),
        (InvoiceMark.PAID, InvoiceMark.PAID, False),
    ]
    for number, (last, mark, wanted) in enumerate(cases):
        if last is not None:
            journal.note_marks({str(number): last})
        assert journal.needs_correction(str(number), mark) is wanted


async def test_the_funder_moves_only_what_its_store_proves_final(copy: Copy) -> None:
    """As the daemon runs it: what is open or unknown stays, and the next indexes are kept."""
    await copy.sell(1)
    copy.journal(line(1), *(line(n) for n in range(100, 1_200)))
    waiting = await copy.database.read(lambda s: swap_store.waiting(s, 9))
    final = [make_swap(n, finished=True, state=State.FAILED, **NOTHING) for n in range(100, 1_190)]

    def store(session: Transaction) -> None:
        for swap in final:
            session.add(SwapRow(**{name: getattr(swap, name) for name in FIELDS}))

    await copy.database.write(store)
    before = copy.path.read_bytes()
    await Spenders(copy.database, FakeChain(), copy.settings).funder.trim_journal()
    assert copy.path.read_bytes() == before, "a funding that the store does not know may be locked"
    await copy.database.write(lambda s: give_up(s, "aa" * 32))
    parts = Spenders(copy.database, FakeChain(), copy.settings)
    await parts.funder.trim_journal()
    parts.rescue.note_marks({waiting[0].swap_id: InvoiceMark.ASKED})
    kept = list(records(copy.path))
    assert kept[0]["next_swap_index"] == await copy.next_index()
    left = {r["swap_id"] for r in kept if r["kind"] == "swap"}
    assert left == {make_swap(n).swap_id for n in (1, *range(1_190, 1_200))}
    assert kept[-1]["mark"] == "ASKED"


def give_up(session: Transaction, txid: str) -> None:
    """Store a funding as given up."""
    own_tx_store.add(
        session, txid=txid, raw=b"", purpose=Purpose.FUNDING, fee_sats=0, vsize=1, signed_height=1
    )
    own_tx_store.set_state(session, txid, TxState.ABANDONED)
