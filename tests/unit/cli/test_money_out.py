"""`lnliquid withdraw`, `withdrawals`, `deposits`, `address --new` and `price` beside the daemon."""

import pytest

from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import RECEIVE
from lnliquid.liquid.networks import REGTEST

from ..builders import ASSET, BUYER, POLICY_ASSET, uuid_of, wallet_coin
from ..builders import put_coins as put
from ..seller_world import SellerWorld
from .test_operator import run, values

AWAY = p2wpkh_address(BUYER.wallet_key(RECEIVE, 0).key_hash, REGTEST)


async def stock(world: SellerWorld) -> None:
    """Two coins."""
    coins = [wallet_coin(1, 100_000, ASSET), wallet_coin(2, 1_000_000)]
    await world.database.write(lambda s: put(s, coins))


@pytest.mark.parametrize(("asset", "asset_id"), [("l-btc", POLICY_ASSET), (ASSET.upper(), ASSET)])
async def test_sent_once_and_listed(world: SellerWorld, asset: str, asset_id: str) -> None:
    """By the name of L-BTC or an asset id; the same request id is answered alike."""
    await stock(world)
    order = ("withdraw", asset, "5_000", AWAY, "--yes", "--request-id", uuid_of(1))
    made = (await values(world, *order))["withdrawal"]
    assert (made["asset_id"], made["amount"], made["address"]) == (asset_id, "5000", AWAY)
    assert (await values(world, *order))["withdrawal"] == made
    assert (await values(world, "withdrawals"))["withdrawals"] == [made]
    text = (await run(world, "withdrawals")).stdout
    assert AWAY in text
    assert made["txid"] in text
    changed = await run(world, *order[:2], "5001", *order[3:])
    assert (changed.exit_code, "already names a withdrawal" in changed.stderr) == (1, True)


async def test_nothing_is_sent_without_a_yes(world: SellerWorld) -> None:
    """What would be sent is shown, and a program is told to agree by an option."""
    await stock(world)
    result = await run(world, "withdraw", "L-BTC", "all", AWAY)
    assert result.exit_code == 1
    assert "fee" in result.stderr
    assert "--yes" in result.stderr
    assert (await values(world, "withdrawals"))["withdrawals"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("DEMO", "5", AWAY), 2, "neither L-BTC nor an asset id"),
        (("L-BTC", "0", AWAY), 2, "neither an amount"),
        (("L-BTC", "-5", AWAY), 2, "No such option"),
        (("L-BTC", "5000", "el1qq"), 1, "blinded"),
        (("L-BTC", "2000000", AWAY), 1, "1000000 can be withdrawn"),
    ],
)
async def test_refused(
    world: SellerWorld, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Wrong usage is 2, a refusal of the daemon 1, each with its reason."""
    await stock(world)
    result = await run(world, "withdraw", *arguments, "--yes")
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


async def test_an_answer_that_is_lost(world: SellerWorld) -> None:
    """What to type again is said, with the id that sends nothing twice."""
    await stock(world)
    await world.shut()
    result = await run(world, "withdraw", "L-BTC", "5000", AWAY, "--yes")
    assert result.exit_code == 3


async def test_deposits_and_fresh_addresses(world: SellerWorld) -> None:
    """Each address once; what they were paid."""
    await stock(world)
    assert len((await values(world, "deposits"))["deposits"]) == 2
    given = {(await values(world, "address", "--new"))["address"] for _ in range(3)}
    assert len(given) == 3


async def test_the_price(world: SellerWorld) -> None:
    """Shown, set with an end, and cleared."""
    [shown] = (await values(world, "price"))["prices"]
    assert (shown["asset_id"], shown["price_set_at"]) == (ASSET, 0)
    made = await values(world, "price", ASSET, "51000000", "--for", "10m")
    assert made["price_msat_per_asset_unit"] == "51000000"
    assert "51,000 sat a unit" in (await run(world, "inventory")).stdout
    await run(world, "price", ASSET, "--clear")
    assert (await values(world, "price"))["prices"] == [shown]
    for wrong in (("--clear",), (ASSET, "--for", "3m"), (ASSET, "5", "--clear")):
        assert (await run(world, "price", *wrong)).exit_code == 2
    assert (await run(world, "price", "b6" * 32, "5")).exit_code == 1
