"""`watchers.outbox`: T2 takes and gives everything at once; the node's answer is stored."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.domain.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.swap import Coin, Outpoint
from lnliquid.liquid.keys import CHANGE
from lnliquid.store import coins as coin_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import OutpointRow, OwnTxRow, Purpose, TxState
from lnliquid.watchers.families import Standing
from lnliquid.watchers.family_store import family_with, settle
from lnliquid.watchers.outbox import Outbox, ToStore
from lnliquid.watchers.wallet import NEXT_INDEX

from ..builders import (
    ASSET,
    BURIED,
    StillClock,
    count_rows,
    make_swap,
    migrated,
    plan_funding,
    put_coins,
    txid_of,
    wallet_coin,
)
from ..fakes import DEPOSITS, FakeChain

COINS = [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)]
PLAN = plan_funding([make_swap(0)], COINS)
TO_STORE = ToStore(PLAN.signed, Purpose.FUNDING, PLAN.inputs, PLAN.change, indexes=(0, 2))
TXID, RAW = PLAN.signed.txid, PLAN.signed.raw
HTLC = Outpoint(txid_of(9), 0)


class World:
    """An outbox over a wallet of two deposits."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(migrated(folder / "seller.sqlite"), StillClock())
        self.chain = FakeChain()
        self.outbox = Outbox(self.database, self.chain)

    async def states(self) -> dict[str, tuple[Purpose, TxState, int | None]]:
        """Of all that is stored."""
        rows = await self.database.read(
            lambda s: [(r.txid, r.purpose, r.state, r.height) for r in s.query(OwnTxRow)]
        )
        return {txid: (Purpose(p), TxState(state), height) for txid, p, state, height in rows}

    async def counts(self) -> dict[str, int]:
        """Rows of every table."""
        return await self.database.read(count_rows)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing is signed yet."""
    made = World(tmp_path)
    await made.database.write(lambda s: put_coins(s, COINS))
    yield made
    made.database.close()


async def test_t2_takes_and_gives_everything_at_once(world: World) -> None:
    """Bytes, coins, outpoints, change and indexes, and what the caller writes; nothing is sent."""

    def also(session: Transaction) -> None:
        coin_store.set_cursor(session, "also", 1)

    before = world.database.commits
    await world.outbox.store([replace(TO_STORE, outpoints=(HTLC,))], 77, also)
    assert world.database.commits == before + 1
    assert "broadcast" not in world.chain.calls

    def look(session: Transaction) -> None:
        [row] = tx_store.versions(session, TXID)
        assert (row.raw, row.fee_sats, row.vsize, row.signed_height, row.family) == (
            RAW, PLAN.signed.fee_sats, PLAN.signed.vsize, 77, TXID,
        )  # fmt: skip
        taken = [c.outpoint for c in COINS] + [HTLC]
        assert coin_store.bound_outpoints(session, taken) == set(taken)
        assert coin_store.coins_of(session, {TXID}) == list(PLAN.change)
        assert coin_store.cursor(session, NEXT_INDEX[CHANGE]) == 2
        assert coin_store.cursor(session, "also") == 1

    await world.database.read(look)


async def test_the_deposits_that_it_spends_are_kept_with_their_bytes(world: World) -> None:
    """In the same commit, where the chain has them; those that are known are not asked for."""
    await world.outbox.store([TO_STORE], 77)
    confirmed = (Purpose.DEPOSIT, TxState.CONFIRMED, BURIED)
    assert await world.states() == {
        TXID: (Purpose.FUNDING, TxState.SIGNED, None),
        **{c.outpoint.txid: confirmed for c in COINS},
    }
    for coin in COINS:
        [row] = await world.database.read(
            lambda s: tx_store.versions(s, coin.outpoint.txid)  # noqa: B023
        )
        assert row.raw == DEPOSITS[coin.outpoint.txid]
    world.chain.calls.clear()
    await world.outbox.send(TXID, RAW)
    second = plan_funding([make_swap(0)], [*PLAN.change, wallet_coin(3, 50_000, ASSET)])
    world.chain.calls.clear()
    spare: tuple[Coin, ...] = second.inputs
    assert any(c.outpoint.txid == TXID for c in spare)
    await world.database.write(lambda s: put_coins(s, [wallet_coin(3, 50_000, ASSET)]))
    await world.outbox.store(
        [ToStore(second.signed, Purpose.FUNDING, spare, second.change, indexes=(2, 2))], 78
    )
    assert world.chain.calls == ["transactions"]
    assert len(await world.states()) == 5


class LosingChain(FakeChain):
    """A chain that has lost a transaction."""

    lost = ""

    async def transactions(self, txids: object, *, strict: bool = False) -> dict[str, bytes]:
        """All but that one."""
        found = await super().transactions(txids, strict=strict)  # type: ignore[arg-type]
        return {txid: raw for txid, raw in found.items() if txid != self.lost}


async def test_a_deposit_that_comes_back_binds_nothing_of_its_sender(world: World) -> None:
    """What it spends is not ours; the audit knows no owner of that name."""
    await world.outbox.store([TO_STORE], 77)
    deposit = COINS[0].outpoint.txid

    def come_back(session: Transaction) -> list[str]:
        settle(session, family_with(session, deposit), Standing(deposit, TxState.CONFIRMED, 78))
        return [row.txid for row in session.query(OutpointRow).filter_by(owner_txid=deposit)]

    assert await world.database.write(come_back) == []
    assert (await world.states())[deposit] == (Purpose.DEPOSIT, TxState.CONFIRMED, 78)


async def test_nothing_is_built_on_a_deposit_that_is_missing(world: World) -> None:
    """A reorg may have undone it a moment ago."""
    chain = LosingChain()
    chain.lost = COINS[0].outpoint.txid
    before = await world.counts()
    with pytest.raises(coin_store.CoinsGone, match=chain.lost):
        await Outbox(world.database, chain).store([TO_STORE], 77)
    assert await world.counts() == before


@pytest.mark.parametrize("cause", ["coin", "index", "also", "chain"])
async def test_what_cannot_be_stored_leaves_nothing(world: World, cause: str) -> None:
    """Of any part of it."""
    error: type[Exception] = RuntimeError
    if cause == "coin":
        error = coin_store.CoinsGone
        gone = COINS[1].outpoint.txid
        await world.database.write(lambda s: coin_store.drop_coins_of(s, gone))
    if cause == "index":
        await world.database.write(lambda s: coin_store.set_cursor(s, NEXT_INDEX[CHANGE], 1))
    if cause == "chain":
        error, world.chain.broken = BackendError, BackendTimeout("electrum", "no answer")

    def also(_session: Transaction) -> None:
        if cause == "also":
            raise RuntimeError("no")

    before = await world.counts()
    with pytest.raises(error):
        await world.outbox.store([TO_STORE], 77, also)
    assert await world.counts() == before


@pytest.mark.parametrize(
    ("answer", "said", "state", "underpaid"),
    [
        (None, True, TxState.ACCEPTED, False),
        (BackendTimeout("electrum", "no answer"), None, TxState.SIGNED, False),
        (BackendRejected("electrum", "bad-txns-inputs-missing"), False, TxState.REFUSED, False),
        (BackendRejected("electrum", "min relay fee not met"), False, TxState.REFUSED, True),
        (BackendRejected("electrum", "insufficient fee, rejecting"), False, TxState.REFUSED, True),
        (
            BackendRejected("electrum", "the transaction was rejected: mempool min fee not met"),
            False,
            TxState.REFUSED,
            True,
        ),
    ],
    ids=str,
)
async def test_the_answer_of_the_node_is_stored(
    world: World, answer: BackendError | None, said: bool | None, state: TxState, underpaid: bool
) -> None:
    """When there is none nothing is known; those that pay too little are noted."""
    await world.outbox.store([TO_STORE], 77)
    if answer is not None:
        world.chain.unsent[RAW] = answer
    assert await world.outbox.send(TXID, RAW) is said
    assert (await world.states())[TXID] == (Purpose.FUNDING, state, None)
    assert world.outbox.underpaid == ({TXID} if underpaid else set())
    assert await world.outbox.first_send(PLAN.signed) is (said is True)


async def test_without_a_connection_nothing_is_stored(world: World) -> None:
    """The first broadcast is left to the watcher; the watcher goes on when there is one."""
    await world.outbox.store([TO_STORE], 77)
    world.chain.unsent[RAW] = BackendUnavailable("electrum", "not connected")
    with pytest.raises(BackendUnavailable):
        await world.outbox.send(TXID, RAW)
    assert not await world.outbox.first_send(PLAN.signed)
    assert (await world.states())[TXID][1] is TxState.SIGNED
