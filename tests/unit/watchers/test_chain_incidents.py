"""Which blocks were replaced, and what the daemon remembers and undoes because of it."""

import sqlite3
from collections.abc import AsyncIterator, Iterable, MutableMapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from structlog.testing import capture_logs

from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.swap import Coin, State, Swap, Tip
from lnliquid.store import blocks as block_store
from lnliquid.store import coins as coin_store
from lnliquid.store import database, schema
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database
from lnliquid.watchers.chain_incidents import (
    FILLED_A_BLOCK,
    ChainIncidents,
    find_fork,
    pause_reason,
)
from lnliquid.watchers.chain_view import TipMoved
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from ..builders import (
    SELLER,
    StillClock,
    make_request,
    migrated,
    new_swap,
    put_coins,
    stock,
    wallet_coin,
)
from ..fakes import FakeChain

OLD_CHANGE = 3
"""An index of a change address that is not looked at any more."""


class ForkedChain(FakeChain):
    """Blocks that are named by the chain that they belong to; those from `fork` on by `name`."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.fork = "a", 0
        self.asked: list[int] = []
        self.changed: set[bytes] = set()
        self.watched: set[bytes] = set()

    def _id(self, height: int) -> str:
        return f"{self.name if height >= self.fork else 'a'} {height}"

    async def tip(self) -> Tip:
        """The best block."""
        return Tip(self.height, self._id(self.height))

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """As the chain is now."""
        self.asked += heights
        if max(heights, default=0) > self.height:
            raise BackendRejected("electrum", "missing header")
        return {height: self._id(height) for height in heights}

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """Remember which."""
        self.watched.update(scripts)

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """Remember which."""
        self.changed.update(scripts)


class Place:
    """A database with a final swap, and a chain that can fork."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(migrated(folder / "seller.sqlite"), StillClock())
        self.chain = ForkedChain()
        self.inventory = Inventory(self.database, self.chain, SELLER)
        self.notices = Notices()
        self.log: list[MutableMapping[str, Any]] = []
        self.restart()

    def restart(self) -> None:
        """What was in memory is gone."""
        self.incidents = ChainIncidents(self.database, self.chain, self.inventory, self.notices)

    async def check(self, height: int | None = None) -> None:
        """The tip moves, to this height, and the daemon sees it."""
        self.chain.height = height or self.chain.height
        await self.incidents.check(await self.chain.tip())

    def replace_from(self, height: int, name: str = "b") -> None:
        """Blocks from this height on are others."""
        self.chain.fork, self.chain.name = height, name

    async def remembered(self) -> dict[int, str]:
        """What is stored."""
        return await self.database.read(block_store.remembered)

    async def reason(self) -> str | None:
        """Why sales are paused."""
        return await self.database.read(pause_reason)

    async def final_swap(self, number: int, final_height: int) -> Swap:
        """A swap that was claimed and is final."""
        new = new_swap(make_request(number, asset_amount=1_000))
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        funded = replace(swap, state=State.FUNDED)
        done = replace(funded, state=State.CLAIMED, finished=True, final_height=final_height)
        await self.database.write(lambda s: swap_store.save(s, swap, funded))
        await self.database.write(lambda s: swap_store.save(s, funded, done))
        return done


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Nothing is remembered yet."""
    place = Place(tmp_path)
    await stock(place.database, 10**6, 10**6)
    with capture_logs() as place.log:
        yield place
    place.database.close()


@pytest.mark.parametrize("heights", [range(10), range(40, 57), (0, 1000, 2000, 2001, 2002), (7,)])
async def test_the_fork_is_above_the_highest_block_that_stands(heights: Sequence[int]) -> None:
    """Wherever it is: between any two remembered blocks, below all of them, or nowhere."""
    remembered = {height: f"a {height}" for height in heights}
    for fork in range(heights[-1] + 2):
        chain = ForkedChain()
        chain.height, chain.fork, chain.name = heights[-1], fork, "b"
        standing = [h for h in heights if h < fork]
        expected = None if len(standing) == len(heights) else max(standing, default=-1) + 1
        assert await find_fork(remembered, chain.block_ids) == expected
        assert len(chain.asked) <= 2 + len(heights).bit_length()


async def test_without_memory_nothing_was_replaced() -> None:
    """A first start compares nothing."""
    assert await find_fork({}, ForkedChain().block_ids) is None


async def test_a_first_start_and_a_long_absence_are_filled_in_over_some_blocks(
    place: Place,
) -> None:
    """The newest first, so many at each block, until none is missing."""
    await place.check(250)
    assert set(await place.remembered()) == set(range(150, 251))
    await place.check(251)
    await place.check(252)
    assert set(await place.remembered()) == set(range(253))
    place.chain.asked.clear()
    await place.check(253)
    await place.check(253)
    assert place.chain.asked == [252], "at a usual block one header is read"
    await place.check(253 + FILLED_A_BLOCK + 50)
    assert 254 not in await place.remembered()
    await place.check(253 + FILLED_A_BLOCK + 51)
    assert set(await place.remembered()) == set(range(253 + FILLED_A_BLOCK + 52))


async def test_blocks_of_three_days_are_kept_and_milestones_for_ever(place: Place) -> None:
    """Of 60 s each; below them a fork is found to a thousand blocks."""
    assert block_store.KEPT >= 3 * 24 * 60
    height = 3 * block_store.KEPT
    await place.database.write(
        lambda s: block_store.remember(s, {h: f"a {h}" for h in range(height + 1)})
    )
    kept = await place.remembered()
    oldest = height - block_store.KEPT + 1
    assert set(kept) == {*range(0, oldest, block_store.MILESTONE), *range(oldest, height + 1)}
    swaps = [await place.final_swap(n, h) for n, h in enumerate((2_999, 3_500, height - 9))]
    place.replace_from(3_700)
    await place.check(height)
    [low, *undone] = await place.database.read(swap_store.everything)
    assert low.finished
    assert not any(s.finished for s in undone)
    assert place.notices.news == {s.swap_id for s in swaps[1:]}
    errors = {e.get("swap_id") for e in place.log if e["log_level"] == "error"}
    assert errors - {None} == place.notices.news
    reason = "blocks from height 3001 were replaced, 2 finished swaps reopened"
    assert reason in (await place.reason() or "")


async def test_another_incident_is_added_to_the_first(place: Place) -> None:
    """The reason tells of all that was replaced and reopened since the operator resumed."""
    await place.check(90)
    await place.final_swap(0, 50)
    await place.final_swap(1, 60)
    place.replace_from(55)
    await place.check(91)
    assert "height 55 were replaced, 1 finished swap reopened" in (await place.reason() or "")
    place.replace_from(45, "c")
    await place.check(92)
    assert "height 45 were replaced, 2 finished swaps reopened" in (await place.reason() or "")


async def test_a_tip_that_goes_back_says_nothing_of_the_blocks_above_it(place: Place) -> None:
    """A server that lags is no incident; another block in their place is, and is not hidden."""
    await place.check(100)
    await place.final_swap(0, 95)
    before = await place.remembered()
    for height in (80, 81, 90):
        await place.check(height)
        place.restart()
    assert await place.remembered() == before
    assert await place.reason() is None
    place.replace_from(93)
    await place.check(94)
    assert "height 93 were replaced" in (await place.reason() or "")
    assert (await place.remembered())[94] == "b 94"
    assert max(await place.remembered()) == 94


async def test_nothing_is_filled_in_below_a_tip_that_went_back(place: Place) -> None:
    """A gap filled from another chain would hide where that one forked."""
    await place.database.write(lambda s: block_store.remember(s, {10: "a 10", 50: "a 50"}))
    swap = await place.final_swap(0, 20)
    place.replace_from(15)
    await place.check(40)
    assert set(await place.remembered()) == {10, 50}
    await place.check(50)
    assert not (await place.database.read(lambda s: swap_store.get(s, swap.swap_id))).finished  # type: ignore[union-attr]


async def test_a_tip_that_is_not_in_the_chain_is_not_believed(place: Place) -> None:
    """The server knows better by now: nothing is stored, and the round begins anew."""
    await place.check(100)
    before = await place.remembered()
    old = await place.chain.tip()
    place.chain.height = 103
    place.replace_from(101)
    with pytest.raises(TipMoved):
        await place.incidents.check(Tip(102, "a 102"))
    assert await place.remembered() == before
    place.chain.height = 99
    with pytest.raises(BackendRejected):
        await place.incidents.check(replace(old, height=100, block_id="c 100"))
    assert await place.remembered() == before


async def test_coins_of_replaced_blocks_are_unconfirmed_until_they_are_read(place: Place) -> None:
    """A deposit is not available meanwhile; an address of old change is watched once more."""
    deposit = replace(wallet_coin(7, 5_000), height=90)
    gone = replace(wallet_coin(8, 5_000), branch=1, index=OLD_CHANGE, height=60)
    await place.database.write(lambda s: put_coins(s, [deposit, gone, wallet_coin(9, 5_000)]))

    def spend(session: database.Transaction) -> None:
        coin_store.set_cursor(session, "next_change_index", 500)
        seen = coin_store.SeenCoin(gone.outpoint, gone.asset_id, gone.value, 60, "e" * 64, 61)
        coin_store.replace_script_coins(session, 1, OLD_CHANGE, [seen])
        last = replace(seen, outpoint=wallet_coin(9, 5_000).outpoint, height=10, spent_height=95)
        coin_store.replace_script_coins(session, 0, 9, [last])

    await place.database.write(spend)
    await place.database.write(lambda s: coin_store.set_cursor(s, coin_store.BURIED_HEIGHT, 99))
    await place.check(100)
    await place.inventory.extend()
    watched = set(place.chain.watched)
    place.replace_from(61)
    await place.check(98)
    available = await place.database.read(coin_store.available_coins)
    assert deposit.outpoint not in {c.outpoint for c in available}
    # Nor when it is read with one confirmation, in a shorter chain than the one that was.
    await place.database.write(lambda s: _show(s, replace(deposit, height=98)))
    available = await place.database.read(coin_store.available_coins)
    assert deposit.outpoint not in {c.outpoint for c in available}
    deposit_script = _script(deposit.branch, deposit.index)
    assert deposit_script in place.chain.changed
    await place.inventory.extend()
    assert place.chain.watched - watched == {_script(1, OLD_CHANGE)}
    assert await place.reason() is None, "nothing final rested on them"


def _show(session: database.Transaction, coin: Coin) -> None:
    """The chain is read, and shows it there."""
    seen = coin_store.SeenCoin(coin.outpoint, coin.asset_id, coin.value, coin.height, None, None)
    coin_store.replace_script_coins(session, coin.branch, coin.index, [seen])


def _script(branch: int, index: int) -> bytes:
    return htlc.p2wpkh_script(SELLER.wallet_key(branch, index).key_hash)


def test_a_swap_that_was_final_before_heights_were_kept_is_reopened_too(tmp_path: Path) -> None:
    """The migration puts it at the tip at which the daemon last looked: no spend is above that."""
    path = tmp_path / "seller.sqlite"
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003-1")
        connection.exec_driver_sql("INSERT INTO cursor VALUES ('own_txs_checked_height', 90)")
        columns = (
            "swap_id, request_id, key_index, state, asset_id, asset_amount, subsidy_sats, "
            "total_price_msat, max_total_price_msat, min_funding_confs, max_ln_cltv_blocks, "
            "buyer_claim_address, buyer_key_hash, seller_key_hash, payment_hash, created_at, "
            "fee_share_sats, paid_unclaimed, invoice_mark, finished, funding_txid"
        )
        for row in ("'claimed', 'a', 1, 3, 1, 'f'", "'failed', 'b', 2, 5, 1, NULL"):
            swap_id, request, index, state, finished, funding = row.split(", ")
            connection.exec_driver_sql(
                f"INSERT INTO swap ({columns}) VALUES ({swap_id}, {request}, {index}, {state}, "
                f"'a', 1, 1, 1, 1, 1, 1, 'b', x'', x'', x'0{index}', 0, 0, 0, 0, {finished}, "
                f"{funding})"
            )
    engine.dispose()
    Database(path, StillClock()).close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT swap_id, final_height FROM swap ORDER BY swap_id")
        assert rows.fetchall() == [("claimed", 90), ("failed", None)]
