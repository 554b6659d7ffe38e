"""`seller.withdraw`: coins go out once for each request, and never those that others need."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.config import Settings
from lnliquid.domain.errors import (
    BackendUnavailable,
    InvalidRequest,
    NotReady,
    NotWithdrawable,
    RequestConflict,
    TooManyAddresses,
)
from lnliquid.domain.swap import Coin
from lnliquid.domain.terms import REFUND_VSIZE, fee_sats
from lnliquid.domain.transaction import parse_transaction
from lnliquid.domain.withdrawal import Order, Withdrawal
from lnliquid.liquid.address import p2wpkh_address, payable_script
from lnliquid.liquid.keys import CHANGE, RECEIVE
from lnliquid.liquid.networks import REGTEST
from lnliquid.seller.withdraw import Withdrawer
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database
from lnliquid.store.survey import survey
from lnliquid.store.tables import Purpose
from lnliquid.watchers.wallet import GAP

from ..builders import (
    ASSET,
    BUYER,
    POLICY_ASSET,
    SELLER,
    Judge,
    Spenders,
    StillClock,
    make_request,
    migrated,
    new_swap,
    put_coins,
    settings_values,
    uuid_of,
    wallet_coin,
)
from ..fakes import FakeChain

AWAY = p2wpkh_address(BUYER.wallet_key(RECEIVE, 0).key_hash, REGTEST)
ASSETS = [wallet_coin(1, 100_000, ASSET), wallet_coin(2, 50_000, ASSET)]
LBTC = [wallet_coin(3, 1_000_000), wallet_coin(4, 200_000)]
HELD = sum(c.value for c in LBTC)


def order(asset: str = ASSET, amount: int | None = 120_000, number: int = 1) -> Order:
    """To another wallet."""
    return Order(uuid_of(number), asset, amount, AWAY)


class World:
    """A wallet with coins, judged by the embedded chain."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(**settings_values(folder, fee_cap_sats_per_kvb=1_000))
        self.database = Database(
            migrated(self.settings.database), StillClock(), folder / "replica.sqlite"
        )
        self.chain = FakeChain()
        self.sent: list[bytes] = []
        self.spenders = Spenders(self.database, self.chain, self.settings)
        self.withdrawer = Withdrawer(
            self.database,
            self.chain,
            self.spenders.inventory,
            self.spenders.outbox,
            SELLER,
            self.settings,
        )
        self.judge = Judge()
        self.judge.give([*ASSETS, *LBTC])

    async def give(self, *coins: Coin) -> None:
        """Put coins into the wallet."""
        await self.database.write(lambda s: put_coins(s, coins))

    async def reserve(self, number: int, amount: int) -> None:
        """A swap that waits for funding."""
        new = new_swap(make_request(number, asset_amount=amount))
        await self.database.write(lambda s: swap_store.create(s, new))

    async def raws(self) -> list[bytes]:
        """What was signed."""
        stored = (await self.database.read(survey)).own_txs
        return [o.raw for o in stored if o.purpose is Purpose.WITHDRAWAL]

    async def reservable(self) -> tuple[int, int]:
        """Of the asset and of L-BTC."""
        return await self.database.read(
            lambda s: (
                coin_store.reservable(s, ASSET),
                coin_store.reservable_lbtc(s, POLICY_ASSET),
            )
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Two coins of each asset."""
    made = World(tmp_path)
    await made.give(*ASSETS, *LBTC)
    yield made
    made.database.close()


@pytest.mark.parametrize(
    ("asset", "amount", "receives"),
    [
        (ASSET, 120_000, 120_000),
        (ASSET, 100_000, 100_000),  # one coin, no change
        (ASSET, None, 150_000),
        (POLICY_ASSET, 700_000, 700_000),
        (POLICY_ASSET, 1_100_000, 1_100_000),
        (POLICY_ASSET, None, None),  # all but the fee
    ],
)
async def test_the_address_receives_it(
    world: World, asset: str, amount: int | None, receives: int | None
) -> None:
    """The chain takes the transaction; what is left comes back and can be sold at once."""
    made = await world.withdrawer.withdraw(order(asset, amount))
    [raw] = await world.raws()
    assert world.judge.verdict(raw).allowed
    parsed = parse_transaction(raw)
    fee = parsed.fee_sats
    expected = HELD - fee if receives is None else receives
    paid = parsed.outputs[0]
    assert (paid.script_pubkey, paid.asset_id, paid.value) == (
        payable_script(AWAY, REGTEST), asset, expected,
    )  # fmt: skip
    assert (made.amount, made.fee_sats, made.txid) == (expected, fee, parsed.txid)
    assert fee == fee_sats(parsed.vsize, 100)
    gone = {ASSET: 0, POLICY_ASSET: fee}
    gone[asset] += expected
    assert await world.reservable() == (150_000 - gone[ASSET], HELD - gone[POLICY_ASSET])


async def test_a_quote_is_what_is_sent_and_sends_nothing(world: World) -> None:
    """The same amount and fee."""
    quote = await world.withdrawer.quote(order(POLICY_ASSET, None))
    assert await world.raws() == []
    made = await world.withdrawer.withdraw(order(POLICY_ASSET, None))
    assert (quote.amount, quote.fee_sats) == (made.amount, made.fee_sats)


async def test_the_same_request_sends_once(world: World) -> None:
    """One after another, all at once, and after a restart; with other parameters it is refused."""
    first = await world.withdrawer.withdraw(order())
    again: list[Withdrawal] = await asyncio.gather(
        *(world.withdrawer.withdraw(order()) for _ in range(5))
    )
    assert again == [first] * 5
    both = await asyncio.gather(
        *(world.withdrawer.withdraw(order(POLICY_ASSET, 5_000, number=2)) for _ in range(2)),
        return_exceptions=True,
    )
    # The other of the two may be told to ask again; it is answered then.
    assert [m for m in both if isinstance(m, Withdrawal)]
    assert len(await world.raws()) == 2
    for changed in (
        replace(order(), amount=119_999),
        replace(order(), amount=None),
        replace(order(), asset_id=POLICY_ASSET),
        replace(order(), address=p2wpkh_address(BUYER.wallet_key(RECEIVE, 1).key_hash, REGTEST)),
    ):
        with pytest.raises(RequestConflict):
            await world.withdrawer.withdraw(changed)


async def test_what_is_reserved_stays(world: World) -> None:
    """Of the asset, and of L-BTC for subsidies and fees; `all` leaves it too."""
    await world.reserve(1, 40_000)
    before = await world.reservable()
    with pytest.raises(NotWithdrawable) as refused:
        await world.withdrawer.withdraw(order(amount=110_001))
    assert refused.value.available == 110_000
    made = await world.withdrawer.withdraw(order(amount=None))
    assert made.amount == 110_000
    assert await world.reservable() == (0, before[1] - made.fee_sats)


async def test_all_of_lbtc_leaves_what_swaps_reserved(world: World) -> None:
    """To the sat, when the operator takes the reserve for refunds too."""
    await world.reserve(1, 40_000)
    _, free = await world.reservable()
    made = await world.withdrawer.withdraw(order(POLICY_ASSET, None), take_reserve=True)
    assert made.amount + made.fee_sats == free
    assert await world.reservable() == (110_000, 0)


async def test_refunds_keep_what_their_fees_may_need(world: World) -> None:
    """At the fee cap, for each open swap; unless the operator says otherwise."""
    await world.reserve(1, 40_000)
    await world.reserve(2, 40_000)
    kept = 2 * fee_sats(REFUND_VSIZE, world.settings.fee_cap_sats_per_kvb)
    _, free = await world.reservable()
    first = await world.withdrawer.withdraw(order(POLICY_ASSET, None))
    assert first.amount + first.fee_sats == free - kept
    with pytest.raises(NotWithdrawable, match="kept for the fees of refunds"):
        await world.withdrawer.withdraw(order(POLICY_ASSET, 100, number=2))


async def test_a_swap_that_comes_meanwhile_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reserved is not sent: nothing is stored, and the operator asks again."""
    tip = world.chain.tip

    async def reserve_and_tip() -> object:
        await world.reserve(1, 140_000)
        return await tip()

    monkeypatch.setattr(world.chain, "tip", reserve_and_tip)
    with pytest.raises(NotReady, match="reserved"):
        await world.withdrawer.withdraw(order())
    assert await world.raws() == []
    assert (await world.reservable())[0] == 10_000


@pytest.mark.parametrize(
    ("asset", "amount", "match"),
    [
        (ASSET, 150_001, "150000 can be withdrawn"),
        (POLICY_ASSET, HELD, f"{HELD - 26} can be withdrawn; its fee"),
        (POLICY_ASSET, HELD + 1, f"{HELD} can be withdrawn; the rest"),
        ("b6" * 32, 1, "0 can be withdrawn"),
        ("b6" * 32, None, "0 can be withdrawn"),
    ],
)
async def test_more_than_there_is(world: World, asset: str, amount: int | None, match: str) -> None:
    """It says what can be had."""
    with pytest.raises(NotWithdrawable, match=match):
        await world.withdrawer.withdraw(order(asset, amount))
    assert await world.raws() == []


OWN = [
    p2wpkh_address(SELLER.wallet_key(b, i).key_hash, REGTEST)
    for b in (RECEIVE, CHANGE)
    for i in (0, 7)
]
BLINDED = (
    "el1qqw3e3mk4ng3ks43mh54udznuekaadh9lgwef3mwgzrfzakmdwcvqqkzwm0hasr7wqcgvgwe0kwyx4rd2lnkgyeexl"
    "yfy7dgdy"
)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        *((address, "the daemon's own wallet") for address in OWN),
        ("ex1qdmyccgwajggl2cg2yyah7hr6sz8djdqu63vrtr", "of the network liquidv1"),
        ("not an address", "not an address of liquid-regtest"),
        (AWAY[:-1] + ("q" if AWAY[-1] != "q" else "p"), "checksum"),
        (BLINDED, "blinded"),
    ],
)
async def test_addresses_that_are_refused(world: World, address: str, match: str) -> None:
    """Before anything is planned."""
    with pytest.raises(InvalidRequest, match=match):
        await world.withdrawer.withdraw(replace(order(), address=address))


async def test_nothing_is_sent_without_the_replica_or_the_chain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored on both files first, and planned at a tip that is known."""
    world.chain.broken = BackendUnavailable("electrum", "not connected")
    with pytest.raises(NotReady, match="not connected"):
        await world.withdrawer.withdraw(order())
    world.chain.broken = None
    world.spenders.inventory.synced = False
    with pytest.raises(NotReady, match="not known yet"):
        await world.withdrawer.withdraw(order())
    assert await world.raws() == []


async def test_fresh_addresses(world: World) -> None:
    """Each is another one and is watched; 20 unpaid ones in a row are the limit."""
    given = [await world.withdrawer.new_address() for _ in range(GAP)]
    assert len({*given}) == GAP
    with pytest.raises(TooManyAddresses):
        await world.withdrawer.new_address()
    await world.give(wallet_coin(20, 5_000))
    more = [await world.withdrawer.new_address() for _ in range(16)]  # 20 behind the one paid
    assert not {*more} & {*given}
    with pytest.raises(TooManyAddresses):
        await world.withdrawer.new_address()
