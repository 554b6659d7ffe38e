"""The power is cut: whatever part of the write-ahead log reached the disk, the store is sound.

A database is built through the real `Database`, creation and funding by the real seller, without a
checkpoint, so that all of it is in the log. Then the log is cut at every frame's end and inside
every frame, and what `Database` makes of it is compared with what was reported done by then.
"""

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from sqlalchemy import text

from lnliquid.config import Settings
from lnliquid.domain.swap import InvoiceMark, State, Swap
from lnliquid.domain.transaction import parse_transaction
from lnliquid.seller.create import Seller
from lnliquid.seller.readiness import Readiness
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.replica import COMMITS
from lnliquid.store.tables import Purpose

from ..builders import (
    ASSET,
    NOW,
    SELLER,
    Spenders,
    StillClock,
    make_request,
    new_swap,
    put_coins,
    settings_values,
    wallet_coin,
)
from ..fakes import FakeChain, FakeLightning, Gate

LOG_HEADER, FRAME_HEADER = 32, 24
"""Bytes (SQLite file format, section 4.1)."""

TABLES = (
    "swap", "reserved_outpoint", "coin", "own_tx", "event", "cursor",
)  # fmt: skip

Picture = dict[str, list[dict[str, Any]]]


def picture(session: Transaction) -> Picture:
    """Every row there is, but for the count of commits."""
    found = {t: session.execute(text(f"SELECT * FROM {t} ORDER BY 1, 2")) for t in TABLES}
    rows = {table: [dict(row) for row in rows.mappings()] for table, rows in found.items()}
    rows["cursor"] = [row for row in rows["cursor"] if row["name"] != COMMITS]
    return rows


class NotedChain(FakeChain):
    """Takes what is broadcast; that its T2 was reported done is noted before."""

    def __init__(self, stored: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._stored = stored

    async def broadcast(self, raw: bytes) -> None:
        """Note, and take it."""
        await self._stored()


class Builder:
    """Builds the database step by step, one commit each, and notes what was done by when."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "seller.sqlite"
        self.log = folder / "seller.sqlite-wal"
        self.database = Database(self.path, StillClock())
        with closing(connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the tables are not of interest
        chain = NotedChain(self.note)
        settings = Settings(**settings_values(folder, create_wait_secs=0))
        parts = Spenders(self.database, chain, settings)
        self.funder = parts.funder
        readiness = Readiness(
            self.database, chain, FakeLightning(), parts.inventory, settings, StillClock()
        )
        self.seller = Seller(self.database, readiness, self.funder, SELLER, settings, parts.notices)
        self.done: list[tuple[int, Picture]] = []
        """Size of the log when a step was reported done, and all rows at that moment."""

    async def step(self, work: Awaitable[object], commits: int = 1) -> None:
        """Take a step of one commit; an empty one does not count."""
        before = self.database.commits
        await work
        assert self.database.commits == before + commits
        await self.note()

    async def note(self) -> None:
        """What is in the log by now was reported done."""
        self.done.append((self.log.stat().st_size, await self.database.read(picture)))

    async def keep_log(self) -> None:
        """No checkpoint from now on."""
        await self.database.write(
            lambda s: s.connection().exec_driver_sql("PRAGMA wal_autocheckpoint = 0").close()
        )
        self.done.append((0, await self.database.read(picture)))

    async def swap(self, number: int) -> Swap:
        """The swap of a request, as stored."""
        swap = await self.database.read(
            lambda s: swap_store.swap_of_request(s, make_request(number))
        )
        assert swap is not None
        return swap

    async def move(self, number: int, **changes: Any) -> None:
        """Save a changed swap, as the watcher does."""
        before = await self.swap(number)
        after = replace(before, **changes)
        await self.step(self.database.write(lambda s: swap_store.save(s, before, after)))

    async def group(self, numbers: Iterable[int]) -> None:
        """Several writes in one commit, after the empty one of the gate."""
        gate = Gate()
        writes: list[asyncio.Task[Any]] = [asyncio.create_task(self.database.write(gate))]
        await gate.reached()
        for number in numbers:
            new = new_swap(make_request(number))
            create = partial(swap_store.create, new=new)
            writes.append(asyncio.create_task(self.database.write(create)))
        await asyncio.sleep(0)  # one turn of the loop: every task has queued its write
        gate.open()
        await asyncio.gather(*writes)

    async def build(self) -> None:
        """Two fundings, the second with the first one's change, and every kind of end."""
        await self.keep_log()
        coins = [wallet_coin(1, 10_000, ASSET), wallet_coin(2, 100_000)]
        await self.step(self.database.write(lambda s: put_coins(s, coins)))
        for number in range(3):
            await self.step(self.seller.create_swap(make_request(number)))
        await self.step(self.funder.fund_waiting(), commits=2)  # T2, and the answer
        paid = {"invoice_mark": InvoiceMark.ASKED, "bolt11": "lnert1", "invoice_expires_at": NOW}
        await self.move(0, state=State.FUNDED, **paid)
        for number in (3, 4):
            await self.step(self.seller.create_swap(make_request(number)))
        lost = await self.swap(4)
        await self.step(self.database.write(lambda s: swap_store.fail_waiting(s, lost, "a test")))
        await self.step(self.funder.fund_waiting(), commits=2)  # T2, and the answer
        await self.move(0, state=State.CLAIMED, spend_txid="c1" * 32)
        await self.move(0, finished=True)
        await self.step(self.group(range(5, 8)), commits=2)


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Builder]:
    """The database, still open, as the log vanishes when it is closed."""
    folder = tmp_path / "built"
    folder.mkdir()
    builder = Builder(folder)
    try:
        await builder.build()
        yield builder
    finally:
        builder.database.close()


def cuts(log: bytes) -> list[int]:
    """Sizes to cut the log to: every frame's end, and a place inside every frame."""
    page_size = struct.unpack(">I", log[8:12])[0]
    frame = FRAME_HEADER + page_size
    count, rest = divmod(len(log) - LOG_HEADER, frame)
    assert rest == 0
    inside = (1, FRAME_HEADER, FRAME_HEADER + 1, page_size // 2, frame - 1)
    ends = [LOG_HEADER + n * frame for n in range(count + 1)]
    torn = [end + inside[n % len(inside)] for n, end in enumerate(ends[:-1])]
    return sorted({0, LOG_HEADER // 2, *ends, *torn})


def check_sound(rows: Picture) -> None:
    """What must be true of the money's records whenever the daemon starts."""
    swaps = rows["swap"]
    raws = {row["txid"]: row["raw"] for row in rows["own_tx"]}
    deposits = {row["txid"] for row in rows["own_tx"] if row["purpose"] == Purpose.DEPOSIT}
    live = [
        ((row["txid"], row["vout"]), row["owner_txid"])
        for row in rows["reserved_outpoint"]
        if row["live"]
    ]
    assert len(dict(live)) == len(live), "an outpoint has two live owners"
    spent = set()
    for txid, raw in raws.items():
        parsed = parse_transaction(raw)
        assert parsed.txid == txid
        if txid in deposits:
            continue  # others made it, from coins of theirs
        spent |= {((i.outpoint.txid, i.outpoint.vout), txid) for i in parsed.inputs}
    assert set(live) == spent
    for swap in swaps:
        unfunded = swap["funding_txid"] is None
        assert unfunded or swap["funding_txid"] in raws
        assert not (unfunded and swap["state"] in (State.FUNDED, State.CLAIMED))
        events = [e for e in rows["event"] if e["swap_id"] == swap["swap_id"]]
        came_from = [None, *(e["to_state"] for e in events)]
        assert [*(e["from_state"] for e in events), swap["state"]] == came_from
    counted = {c["name"]: c["value"] for c in rows["cursor"]}
    assert counted.get("next_swap_index", 0) == len(swaps)


async def test_a_log_cut_anywhere_leaves_what_was_reported_done(
    built: Builder, tmp_path: Path
) -> None:
    """All of a commit or nothing of it, and never less than was reported done by then."""
    log = built.log.read_bytes()
    assert built.done[-1][0] == len(log)
    seen = []
    for cut in cuts(log):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        shutil.copy(built.path, folder)
        (folder / built.log.name).write_bytes(log[:cut])
        database = Database(folder / built.path.name, StillClock())
        try:
            rows = await database.read(picture)
            assert (
                await database.read(
                    lambda s: s.execute(text("PRAGMA integrity_check")).scalar_one()
                )
                == "ok"
            )
        finally:
            database.close()
        step = max(n for n, (size, _) in enumerate(built.done) if size <= cut)
        assert rows == built.done[step][1], f"the log cut to {cut} bytes"
        check_sound(rows)
        seen.append(step)
        shutil.rmtree(folder)
    assert seen == sorted(seen)
    assert set(seen) == set(range(len(built.done)))
