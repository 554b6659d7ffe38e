"""`store.coins`: what may be spent, what may be promised, and one owner per coin."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from lnliquid.domain.errors import StoreFailure
from lnliquid.domain.swap import Coin, Outpoint, Pending
from lnliquid.liquid.keys import CHANGE, RECEIVE
from lnliquid.store import coins as store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions
from lnliquid.store.coins import SeenCoin
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import CoinRow, OutpointRow, Purpose, TxState

from ..builders import (
    ASSET,
    BURIED,
    POLICY_ASSET,
    StillClock,
    make_request,
    migrated,
    new_swap,
    put_coins,
    stock,
    txid_of,
    wallet_coin,
)

OWN, RIVAL = txid_of(700), txid_of(701)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A fresh database."""
    made = Database(migrated(tmp_path / "seller.sqlite"), StillClock())
    yield made
    made.close()


def store_tx(session: Transaction, txid: str = OWN, purpose: Purpose = Purpose.FUNDING) -> None:
    """Keep a transaction of ours."""
    transactions.add(
        session, txid=txid, raw=b"r", purpose=purpose, fee_sats=49, vsize=483, signed_height=1
    )


def change_of(txid: str, value: int = 70, index: int = 3) -> Coin:
    """An output of a transaction of ours to a change address."""
    return Coin(Outpoint(txid, 2), POLICY_ASSET, value, CHANGE, index, None)


async def available(database: Database) -> list[int]:
    """Values of the coins that may be spent."""
    return [c.value for c in await database.read(store.available_coins)]


async def reservable(database: Database) -> tuple[int, int]:
    """What may be promised, of the asset and of L-BTC."""
    return await database.read(
        lambda s: (store.reservable(s, ASSET), store.reservable_lbtc(s, POLICY_ASSET))
    )


async def test_confirmed_coins_may_be_spent_largest_first(database: Database) -> None:
    """As they were put in, with key and height."""
    coins = [wallet_coin(1, 10), wallet_coin(2, 30), wallet_coin(3, 20, ASSET)]
    await database.write(lambda s: put_coins(s, coins))
    assert await database.read(store.available_coins) == [coins[1], coins[2], coins[0]]
    assert await reservable(database) == (20, 40)


async def test_a_deposit_is_not_spent_before_it_is_buried(database: Database) -> None:
    """Its sender may replace it, or a reorg undo it; it counts once it is deep enough."""
    await database.write(lambda s: put_coins(s, [wallet_coin(1, 10, height=None)]))
    assert await available(database) == []
    assert await reservable(database) == (0, 0)
    await database.write(lambda s: put_coins(s, [wallet_coin(1, 10, height=BURIED + 1)]))
    assert await available(database) == []
    assert await reservable(database) == (0, 0)
    assert [c.value for c in await database.read(store.unsure_coins)] == [10]
    await database.write(lambda s: store.set_cursor(s, store.BURIED_HEIGHT, BURIED + 1))
    assert await available(database) == [10]
    assert await reservable(database) == (0, 10)
    assert await database.read(store.unsure_coins) == []


@pytest.mark.parametrize(
    ("purpose", "state", "usable", "counted"),
    [
        (Purpose.FUNDING, TxState.SIGNED, False, True),  # until a node has it
        (Purpose.FUNDING, TxState.ACCEPTED, True, True),
        (Purpose.FUNDING, TxState.REFUSED, False, False),
        (Purpose.FUNDING, TxState.CONFIRMED, True, True),
        (Purpose.FUNDING, TxState.ABANDONED, False, False),
        (Purpose.FUNDING, TxState.REPLACED, False, False),
        (Purpose.LANES, TxState.SIGNED, False, True),
        (Purpose.LANES, TxState.ACCEPTED, True, True),
        (Purpose.LANES, TxState.REFUSED, False, False),
        (Purpose.LANES, TxState.CONFIRMED, True, True),
        (Purpose.REFUND, TxState.SIGNED, False, False),
        (Purpose.REFUND, TxState.ACCEPTED, False, False),
        (Purpose.REFUND, TxState.CONFIRMED, True, True),
        (Purpose.DEPOSIT, TxState.ACCEPTED, False, False),
        (Purpose.DEPOSIT, TxState.CONFIRMED, False, False),  # not buried
    ],
    ids=lambda v: getattr(v, "name", v),
)
async def test_outputs_of_our_own(
    database: Database, purpose: Purpose, state: TxState, usable: bool, counted: bool
) -> None:
    """Change of a living funding is as sure as it is; a refund may lose against a claim.

    Nothing is built on what no node has taken, but what was just signed may be promised.
    """

    def write(session: Transaction) -> None:
        store_tx(session, purpose=purpose)
        store.add_own_coins(session, [change_of(OWN)])
        transactions.set_state(session, OWN, state)

    await database.write(write)
    assert await available(database) == ([70] if usable else [])
    assert await reservable(database) == (0, 70 if counted else 0)


async def test_bound_and_spent_coins_are_not_available(database: Database) -> None:
    """Until the transaction that has them is given up, or its spend is undone."""
    await database.write(lambda s: put_coins(s, [wallet_coin(1, 10), wallet_coin(2, 20)]))
    await database.write(lambda s: store.bind_outpoints(s, [wallet_coin(1, 10).outpoint], OWN))
    assert await available(database) == [20]
    spent = SeenCoin(wallet_coin(2, 20).outpoint, POLICY_ASSET, 20, 10, RIVAL, None)
    await database.write(lambda s: store.replace_script_coins(s, RECEIVE, 2, [spent]))
    assert await available(database) == []
    assert await reservable(database) == (0, 0)
    await database.write(lambda s: store.free_outpoints(s, OWN))
    await database.write(lambda s: put_coins(s, [wallet_coin(2, 20)]))
    assert await available(database) == [20, 10]


async def test_reservations_are_taken_off_what_may_be_promised(database: Database) -> None:
    """Asset by asset; L-BTC for subsidy and fee share of all swaps, whatever they sell."""
    await stock(database, asset=5_000, lbtc=9_000)
    for number in range(3):
        new = new_swap(make_request(number, asset_amount=1_000 + number))
        await database.write(lambda s: swap_store.create(s, new))  # noqa: B023
    assert await reservable(database) == (5_000 - 3_003, 9_000 - 3 * 1_120)
    other = await database.read(lambda s: store.reservable(s, "b6" * 32))
    assert other == 0


async def test_at_t2_the_reservation_becomes_inputs_and_change(database: Database) -> None:
    """What may be promised then is the rest: nothing is counted twice, nothing is lost."""
    await stock(database, asset=5_000, lbtc=9_000)
    swap, _ = await database.write(lambda s: swap_store.create(s, new_swap(make_request())))
    fee = 49

    def t2(session: Transaction) -> None:
        store_tx(session)
        coins = store.available_coins(session)
        store.bind_outpoints(session, [c.outpoint for c in coins], OWN)
        changes = [
            Coin(Outpoint(OWN, 2), ASSET, 4_000, CHANGE, 0, None),
            Coin(Outpoint(OWN, 3), POLICY_ASSET, 9_000 - 500 - fee, CHANGE, 1, None),
        ]
        store.add_own_coins(session, changes)
        swap_store.bind_funding(session, OWN, [swap_store.FundedSwap(swap.swap_id, 600, 0, 1)])

    await database.write(t2)
    assert await reservable(database) == (4_000, 9_000 - 500 - fee)
    await database.write(lambda s: transactions.mark_sent(s, OWN, TxState.ACCEPTED))
    assert await reservable(database) == (4_000, 9_000 - 500 - fee)
    assert sorted(await available(database)) == [4_000, 9_000 - 500 - fee]


async def test_a_coin_has_one_live_owner(database: Database) -> None:
    """The UNIQUE index refuses the second one and undoes its whole transaction."""
    coin = wallet_coin(1, 10).outpoint
    await database.write(lambda s: store.bind_outpoints(s, [coin], OWN))

    def second(session: Transaction) -> None:
        store_tx(session, RIVAL)
        store.bind_outpoints(session, [wallet_coin(2, 5).outpoint, coin], RIVAL)

    with pytest.raises(StoreFailure, match=r"UNIQUE .*reserved_outpoint\.txid"):
        await database.write(second)
    rows = await database.read(lambda s: s.query(OutpointRow).count())
    assert rows == 1
    assert await database.read(lambda s: transactions.moving(s, 0)) == []


async def test_a_coin_that_was_given_back_may_be_bound_again(database: Database) -> None:
    """Only live owners count; of a race for it one wins."""
    coin = wallet_coin(1, 10).outpoint
    await database.write(lambda s: store.bind_outpoints(s, [coin], OWN))
    await database.write(lambda s: store.free_outpoints(s, OWN))
    outcomes = await asyncio.gather(
        *(
            database.write(lambda s, n=n: store.bind_outpoints(s, [coin], txid_of(800 + n)))  # type: ignore[misc]
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StoreFailure) for outcome in outcomes) == 9


async def test_bound_outpoints_and_children(database: Database) -> None:
    """Coins and HTLC outputs alike; those that were given back are free."""
    mine = [Outpoint(OWN, 0), Outpoint(OWN, 1)]
    await database.write(lambda s: store.bind_outpoints(s, [mine[0]], RIVAL))
    asked = [*mine, Outpoint(RIVAL, 0)]
    assert await database.read(lambda s: store.bound_outpoints(s, asked)) == {mine[0]}
    assert await database.read(lambda s: store.live_children(s, OWN)) == {RIVAL}
    await database.write(lambda s: store.free_outpoints(s, RIVAL))
    assert await database.read(lambda s: store.bound_outpoints(s, asked)) == set()
    assert await database.read(lambda s: store.live_children(s, OWN)) == set()


async def test_the_store_follows_what_the_chain_shows_of_an_address(database: Database) -> None:
    """New coins come, spends are noted and undone, vanished ones go; other addresses stay."""
    other = wallet_coin(2, 99)
    await database.write(lambda s: put_coins(s, [wallet_coin(1, 10), other]))
    outpoint = wallet_coin(1, 10).outpoint
    for seen in (
        [SeenCoin(outpoint, POLICY_ASSET, 10, 10, RIVAL, 12)],
        [SeenCoin(outpoint, POLICY_ASSET, 10, None, None, None)],
        [],
    ):
        await database.write(lambda s: store.replace_script_coins(s, RECEIVE, 1, seen))  # noqa: B023
        rows = await database.read(
            lambda s: [
                (r.txid, r.height, r.spent_txid, r.spent_height)
                for r in s.query(CoinRow).filter_by(key_index=1)
            ]
        )
        assert rows == [(c.outpoint.txid, c.height, c.spent_txid, c.spent_height) for c in seen]
    assert await available(database) == [99]


async def statements(database: Database, seen: Sequence[SeenCoin]) -> tuple[int, int]:
    """How many statements one read of an address makes the writer run, and how many change rows."""
    told: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        told.append(statement.split()[0])

    def write(session: Transaction) -> None:
        event.listen(session.connection(), "before_cursor_execute", note)
        store.replace_script_coins(session, RECEIVE, 1, seen)
        session.flush()
        event.remove(session.connection(), "before_cursor_execute", note)

    await database.write(write)
    return len(told), len(told) - told.count("SELECT")


async def test_an_address_full_of_dust_costs_the_writer_little(database: Database) -> None:
    """A read that shows nothing new writes nothing; one that does takes a handful of statements.

    Everybody else's writes wait for this one, and whoever knows an address can send dust to it.
    """
    dust = [SeenCoin(Outpoint(txid_of(1 + n), 0), ASSET, 1, None, None, None) for n in range(1_000)]
    confirmed = [replace(coin, height=10) for coin in dust]
    spent = [replace(coin, spent_txid=RIVAL, spent_height=11) for coin in confirmed]
    for seen in (dust, confirmed, spent, [], dust[:1], confirmed[:999]):
        count, writes = await statements(database, seen)
        assert 0 < writes <= count <= 6
        assert await statements(database, seen) == (1, 0)
        rows = await database.read(lambda s: s.query(CoinRow).count())
        assert rows == len(seen)


@pytest.mark.parametrize("state", list(TxState))
async def test_outputs_of_our_own_stay_while_their_transaction_lives(
    database: Database, state: TxState
) -> None:
    """A reorg, or a server that has not seen it yet, does not take change away from us."""

    def write(session: Transaction) -> None:
        store_tx(session)
        store.add_own_coins(session, [change_of(OWN)])
        transactions.set_state(session, OWN, state, 9)
        confirmed = SeenCoin(Outpoint(OWN, 2), POLICY_ASSET, 70, 9, RIVAL, 10)
        store.replace_script_coins(session, CHANGE, 3, [confirmed])

    await database.write(write)
    await database.write(lambda s: store.replace_script_coins(s, CHANGE, 3, []))
    rows = await database.read(lambda s: [(r.height, r.spent_txid) for r in s.query(CoinRow)])
    assert rows == ([(None, None)] if state is not TxState.REPLACED else [])


async def test_outputs_of_a_given_up_transaction_are_forgotten(database: Database) -> None:
    """Only its own."""
    await database.write(lambda s: store.add_own_coins(s, [change_of(OWN), change_of(RIVAL)]))
    await database.write(lambda s: store.drop_coins_of(s, OWN))
    assert await database.read(lambda s: [r.txid for r in s.query(CoinRow)]) == [RIVAL]


async def test_addresses_that_may_hold_coins_are_named(database: Database) -> None:
    """Unspent, spent in the mempool, or spent so shallowly that a reorg may undo it."""
    spends: list[tuple[int, str | None, int | None]] = [
        (1, None, None), (2, RIVAL, None), (3, RIVAL, 21), (4, RIVAL, 20),
    ]  # fmt: skip
    for index, spent_txid, spent_height in spends:
        coin = SeenCoin(Outpoint(txid_of(index), 0), ASSET, 1, 15, spent_txid, spent_height)
        await database.write(
            lambda s: store.replace_script_coins(s, RECEIVE, index, [coin])  # noqa: B023
        )
    found = await database.read(lambda s: store.addresses_with_coins(s, 20))
    assert sorted(found) == [(RECEIVE, 1), (RECEIVE, 2), (RECEIVE, 3)]
    assert await database.read(store.last_spent_height) == 21


async def test_derivation_indexes_are_taken_once(database: Database) -> None:
    """A plan that was made on an old number is refused, and nothing of it is stored."""
    assert await database.read(lambda s: store.cursor(s, "next")) == 0
    await database.write(lambda s: store.take_indexes(s, "next", 0, 2))
    assert await database.read(lambda s: store.cursor(s, "next")) == 2

    def stale(session: Transaction) -> None:
        store_tx(session)
        store.take_indexes(session, "next", 0, 2)

    with pytest.raises(RuntimeError, match="next moved on from 0"):
        await database.write(stale)
    assert await database.read(lambda s: store.cursor(s, "next")) == 2
    assert await database.read(lambda s: transactions.moving(s, 0)) == []


async def test_unconfirmed_transactions_of_ours_are_known_with_their_parents(
    database: Database,
) -> None:
    """Those that are not in a block, each with those of them that it lives from."""

    def write(session: Transaction) -> None:
        for number in range(1, 5):
            store_tx(session, txid_of(number))
        store.bind_outpoints(session, [Outpoint(txid_of(1), n) for n in (2, 3)], txid_of(2))
        store.bind_outpoints(session, [Outpoint(txid_of(9), 0)], txid_of(1))
        store.bind_outpoints(session, [Outpoint(txid_of(8), 0)], txid_of(3))
        transactions.set_state(session, txid_of(3), TxState.CONFIRMED, 7)
        transactions.set_state(session, txid_of(4), TxState.REPLACED)

    await database.write(write)
    assert set(await database.read(store.pending_own_txs)) == {
        Pending(txid_of(1), 483, frozenset()),
        Pending(txid_of(2), 483, frozenset({txid_of(1)})),
    }


async def test_outputs_of_a_transaction_to_the_wallet(database: Database) -> None:
    """By output index."""
    coins = [replace(change_of(OWN), outpoint=Outpoint(OWN, vout)) for vout in (3, 2)]
    await database.write(lambda s: store.add_own_coins(s, [*coins, change_of(RIVAL)]))
    assert await database.read(lambda s: store.coins_of(s, {OWN})) == coins[::-1]


async def test_a_replacement_has_the_coins_of_what_it_replaced(database: Database) -> None:
    """With the values that its outputs have; each once, also when the chain showed them before."""
    coins = [replace(change_of(OWN, 40 + vout), outpoint=Outpoint(OWN, vout)) for vout in (2, 3)]

    def write(session: Transaction) -> None:
        store.add_own_coins(session, [*coins, change_of(txid_of(900))])
        shown = SeenCoin(Outpoint(RIVAL, 3), POLICY_ASSET, 33, 12, None, None)
        store.replace_script_coins(session, RECEIVE, 9, [shown])
        store.move_coins(session, OWN, RIVAL, {0: 1, 1: None, 2: 22, 3: 33})

    await database.write(write)
    found = await database.read(lambda s: store.coins_of(s, {OWN, RIVAL, txid_of(900)}))
    assert sorted((c.outpoint, c.value, c.branch, c.index, c.height) for c in found) == [
        (Outpoint(RIVAL, 2), 22, CHANGE, 3, None),
        (Outpoint(RIVAL, 3), 33, RECEIVE, 9, 12),
        (Outpoint(txid_of(900), 2), 70, CHANGE, 3, None),
    ]


async def test_what_is_buried_keeps_only_what_it_spends(database: Database) -> None:
    """What older versions of it spent besides is free; other owners keep theirs."""
    spent, other, foreign = (Outpoint(txid_of(n), 0) for n in (1, 2, 3))

    def write(session: Transaction) -> None:
        store.bind_outpoints(session, [spent, other], OWN)
        store.bind_outpoints(session, [foreign], RIVAL)
        store.keep_outpoints(session, OWN, {spent})

    await database.write(write)
    asked = [spent, other, foreign]
    assert await database.read(lambda s: store.bound_outpoints(s, asked)) == {spent, foreign}
    await database.write(lambda s: store.bind_outpoints(s, [other], RIVAL))


async def test_what_is_bound_already_stays(database: Database) -> None:
    """A replacement is given all that it spends, and has most of it by then."""
    first, second = (Outpoint(txid_of(n), 0) for n in (1, 2))
    for outpoints in ([first], [first, second]):
        await database.write(lambda s: store.bind_outpoints(s, outpoints, OWN))  # noqa: B023
    assert await database.read(lambda s: s.query(OutpointRow).count()) == 2


@pytest.mark.parametrize("broken", ["bound", "spent", "gone", "not buried", "refused"])
async def test_a_coin_that_may_not_be_spent_any_more_is_not_bound(
    database: Database, broken: str
) -> None:
    """Nothing of the write is there."""
    coin = change_of(OWN) if broken == "refused" else wallet_coin(1, 10)

    def write(session: Transaction) -> None:
        put_coins(session, [])
        if broken == "refused":
            store_tx(session)
            store.add_own_coins(session, [coin])
            transactions.mark_sent(session, OWN, TxState.REFUSED)
        else:
            put_coins(session, [coin])
        if broken == "bound":
            store.bind_outpoints(session, [coin.outpoint], RIVAL)
        if broken == "spent":
            seen = SeenCoin(coin.outpoint, POLICY_ASSET, 10, 10, RIVAL, None)
            store.replace_script_coins(session, RECEIVE, 1, [seen])
        if broken == "gone":
            store.replace_script_coins(session, RECEIVE, 1, [])
        if broken == "not buried":
            store.set_cursor(session, store.BURIED_HEIGHT, BURIED - 1)

    await database.write(write)
    rows = await database.read(lambda s: s.query(OutpointRow).count())
    wanted = [wallet_coin(2, 20), coin]
    await database.write(
        lambda s: store.replace_script_coins(
            s, RECEIVE, 2, [SeenCoin(wanted[0].outpoint, POLICY_ASSET, 20, 1, None, None)]
        )
    )
    with pytest.raises(store.CoinsGone, match=str(coin.outpoint)):
        await database.write(lambda s: store.bind_coins(s, wanted, txid_of(702)))
    assert await database.read(lambda s: s.query(OutpointRow).count()) == rows
    await database.write(lambda s: store.bind_coins(s, wanted[:1], txid_of(702)))
