"""What elementsd says of transactions: verdict, reason, size, fee; and what sending them gives."""

from .cases import case
from .money import (
    FINAL,
    OPEN_COIN_SATS,
    REPLACEABLE,
    SELLER_KEY,
    STRANGER_KEY,
    Coin,
    change_of,
    script_of,
    spend,
    txid_of,
)
from .world import World

LOCK_BLOCKS = 6
CHAIN_LIMIT = 25


async def verdict(w: World, why: str, raw: bytes) -> bool:
    """Ask for the verdict on one transaction; tells whether it would be taken."""
    (answer,) = await w.elementsd(why, "testmempoolaccept", [raw.hex()])
    return bool(answer["allowed"])


async def send(w: World, why: str, raw: bytes) -> str | None:
    """Send it through elementsd; the txid, None when it is refused."""
    txid: str | None = await w.elementsd(why, "sendrawtransaction", raw.hex())
    return txid


@case
async def htlc_claim(w: World) -> None:
    """A claim is taken at once, and only with the buyer's key and the preimage."""
    locked = await w.money.lock(w.start_height + LOCK_BLOCKS)
    await verdict(w, "claim of an unconfirmed funding", locked.claim())
    await w.lab.mine()
    await verdict(w, "claim", locked.claim())
    await verdict(w, "claim that signals replacement", locked.claim(sequence=REPLACEABLE))
    await verdict(w, "claim with another preimage", locked.claim(preimage=bytes(32)))
    await verdict(w, "claim with a preimage of 31 bytes", locked.claim(preimage=bytes(31)))
    await verdict(w, "claim signed by a stranger", locked.claim(key=STRANGER_KEY))
    await verdict(w, "claim signed by the seller", locked.claim(key=SELLER_KEY))
    await verdict(w, "claim with a fee under the floor", locked.claim(fee_sats=39))
    await verdict(w, "claim with a fee at the floor", locked.claim(fee_sats=40))
    await verdict(w, "claim without a fee", locked.claim(fee_sats=0))
    claim = locked.claim()
    await send(w, "send the claim", claim)
    await verdict(w, "the same claim again", claim)
    await send(w, "send the same claim again", claim)
    await verdict(w, "another claim beside a final one", locked.claim(fee_sats=500))
    await w.lab.mine()
    await verdict(w, "the confirmed claim again", claim)
    await send(w, "send the confirmed claim again", claim)
    await verdict(w, "another claim of a spent output", locked.claim(fee_sats=500))
    await send(w, "send another claim of a spent output", locked.claim(fee_sats=500))


@case
async def htlc_refund(w: World) -> None:
    """A refund is taken from the lock height on, and only with the seller's key."""
    locked = await w.money.lock(w.start_height + LOCK_BLOCKS)
    await w.lab.mine()
    await w.lab.mine(LOCK_BLOCKS - 2)
    refund = locked.refund()
    await verdict(w, "refund one block early", refund)
    await send(w, "send it one block early", refund)
    early = locked.refund(lock_time=locked.lock_height - 1)
    await verdict(w, "refund with an earlier lock time", early)
    await w.lab.mine()
    await verdict(w, "refund at the lock height", refund)
    await verdict(w, "refund with a final sequence", locked.refund(sequence=FINAL))
    await verdict(w, "refund signed by a stranger", locked.refund(key=STRANGER_KEY))
    await verdict(w, "claim at the lock height", locked.claim())
    later = locked.refund(lock_time=locked.lock_height + 1)
    await verdict(w, "refund with a later lock time", later)
    await send(w, "send the refund", refund)
    await verdict(w, "claim beside an unconfirmed refund, dearer", locked.claim(fee_sats=600))
    await verdict(w, "claim beside an unconfirmed refund, as dear", locked.claim())


@case
async def claim_against_refund(w: World) -> None:
    """A claim that signals replacement can be replaced by a refund, a final one cannot."""
    final = await w.money.lock(w.start_height + 2)
    open_one = await w.money.lock(w.start_height + 2)
    await w.lab.mine(2)
    await send(w, "send a final claim", final.claim())
    await verdict(w, "dear refund beside a final claim", final.refund(fee_sats=1_500))
    await send(w, "send a replaceable claim", open_one.claim(sequence=REPLACEABLE))
    await verdict(w, "cheap refund beside a replaceable claim", open_one.refund(fee_sats=101))
    await verdict(w, "dear refund beside a replaceable claim", open_one.refund(fee_sats=1_500))
    await send(w, "send the dear refund", open_one.refund(fee_sats=1_500))
    await verdict(w, "the claim that was replaced", open_one.claim(sequence=REPLACEABLE))


@case
async def fee_floor(w: World) -> None:
    """The floor is 100 sat a kvB, a zero fee is out of range, too much needs no argument here."""
    coin = await w.money.coin()
    for fee_sats in (0, 1, 17, 18, 19, 20, 1_000):
        await verdict(w, f"fee of {fee_sats} sat", spend([coin], fee_sats=fee_sats))
    await verdict(w, "a tenth of a coin in fees", spend([coin], fee_sats=OPEN_COIN_SATS // 10))


@case
async def outputs(w: World) -> None:
    """Dust, amounts that do not add up, and scripts that are not standard."""
    coin = await w.money.coin()
    rest = OPEN_COIN_SATS - 1_000
    for sats in (13, 14):
        parts = [(sats, script_of(1)), (rest - sats, script_of(1))]
        await verdict(w, f"{sats} sat to P2WPKH", spend([coin], parts))
    for sats in (14, 15):
        parts = [(sats, b"\x00\x20" + bytes(32)), (rest - sats, script_of(1))]
        await verdict(w, f"{sats} sat to P2WSH", spend([coin], parts))
    await verdict(w, "a satoshi too much", spend([coin], [(rest + 1, script_of(1))]))
    await verdict(w, "a satoshi too little", spend([coin], [(rest - 1, script_of(1))]))
    await verdict(w, "to a script that is not standard", spend([coin], [(rest, b"\x52\x53")]))
    await verdict(w, "to OP_RETURN", spend([coin], [(rest, b"\x6a\x04abcd")]))


@case
async def inputs(w: World) -> None:
    """Coins that are unknown, used twice or spent, and witnesses that are wrong."""
    coin = await w.money.coin()
    await verdict(w, "unknown coin", spend([Coin("ab" * 32, 0, OPEN_COIN_SATS)]))
    await send(w, "send: unknown coin", spend([Coin("ab" * 32, 0, OPEN_COIN_SATS)]))
    await verdict(w, "unknown output", spend([Coin(coin.txid, 99, OPEN_COIN_SATS)]))
    await verdict(w, "one coin twice", spend([coin, coin]))
    await verdict(w, "no witness", spend([coin], witness=()))
    await verdict(w, "another witness script", spend([coin], witness=(b"\x51",)))
    await verdict(w, "an item too many", spend([coin], witness=(b"\x01", b"\x52")))
    await verdict(w, "version 3", spend([coin], version=3))
    await verdict(w, "lock time ahead", spend([coin], lock_time=w.start_height + 50))
    await verdict(
        w,
        "lock time ahead, final sequence",
        spend([coin], lock_time=w.start_height + 50, sequence=FINAL),
    )
    await verdict(w, "one block of relative lock time", spend([coin], sequence=1))
    await verdict(w, "many blocks of relative lock time", spend([coin], sequence=5_000))


@case
async def unconfirmed_chain(w: World) -> None:
    """25 transactions in one unconfirmed chain are taken, the 26th is not."""
    coin = await w.money.coin()
    for _ in range(CHAIN_LIMIT - 1):
        raw = spend([coin])
        await w.lab.rpc.call("sendrawtransaction", raw.hex())
        coin = change_of(raw, [coin])
    last = spend([coin])
    await verdict(w, "number 25", last)
    await send(w, "send number 25", last)
    over = spend([change_of(last, [coin])])
    await verdict(w, "number 26", over)
    await send(w, "send number 26", over)
    await w.lab.mine()
    await verdict(w, "number 26 after a block", over)


@case
async def replacement(w: World) -> None:
    """A replacement pays more in fees and rate, for what it evicts and for itself."""
    coin, beside = await w.money.coin(), await w.money.coin()
    first = spend([coin], fee_sats=1_000)
    await send(w, "send the first", first)
    child = spend([change_of(first, [coin])], fee_sats=2_000)
    await verdict(w, "the same fee", spend([coin], [(1, b"\x6a"), (998_999, script_of(2))]))
    await verdict(w, "a satoshi more", spend([coin], fee_sats=1_001))
    await verdict(w, "the increment more", spend([coin], fee_sats=1_020))
    await send(w, "send a child", child)
    await verdict(w, "more than the parent only", spend([coin], fee_sats=1_500))
    await verdict(w, "more than parent and child", spend([coin], fee_sats=3_100))
    await verdict(w, "with a further coin", spend([coin, beside], fee_sats=5_000))
    unconfirmed = change_of(child, [Coin("", 0, OPEN_COIN_SATS - 1_000)], fee_sats=2_000)
    await verdict(w, "with what it replaces", spend([coin, unconfirmed], fee_sats=9_000))
    await send(w, "send the replacement", spend([coin], fee_sats=3_100))
    await verdict(w, "the replaced one", first)
    await verdict(w, "the replaced one's child", child)


@case
async def final_sequence(w: World) -> None:
    """What does not signal replacement is not replaced, whatever is paid."""
    coin = await w.money.coin()
    await send(w, "send a final one", spend([coin], sequence=FINAL))
    await verdict(w, "ten times the fee", spend([coin], fee_sats=10_000))
    await send(w, "send ten times the fee", spend([coin], fee_sats=10_000))


@case
async def malformed(w: World) -> None:
    """What is no transaction is refused with elementsd's codes."""
    raw = spend([await w.money.coin()]).hex()
    for why, text in (
        ("not hex", "zz"),
        ("empty", ""),
        ("cut short", raw[:-2]),
        ("followed by more", raw + "00"),
        ("an odd number of digits", raw[:-1]),
    ):
        await w.elementsd(f"{why}: verdict", "testmempoolaccept", [text])
        await w.elementsd(f"{why}: send", "sendrawtransaction", text)
    await w.elementsd("nothing to judge", "testmempoolaccept", [])
    await w.elementsd("a fee rate over the maximum: verdict", "testmempoolaccept", [raw], 0.000001)
    await w.elementsd("a fee rate over the maximum: send", "sendrawtransaction", raw, 0.000001)


@case
async def queries(w: World) -> None:
    """Calls of lab and operator about blocks, transactions and coins, and their errors."""
    coin = await w.money.coin()
    raw = spend([coin], [(OPEN_COIN_SATS - 1_000, script_of(3))])
    txid = txid_of(raw)
    unknown = "cd" * 32
    await w.elementsd("a coin", "gettxout", coin.txid, coin.vout)
    await send(w, "send", raw)
    await w.elementsd("the mempool", "getrawmempool")
    await w.elementsd("unconfirmed", "getrawtransaction", txid)
    await w.elementsd("a coin that the mempool spends", "gettxout", coin.txid, coin.vout)
    await w.elementsd("the same, confirmed only", "gettxout", coin.txid, coin.vout, False)
    await w.elementsd("an unconfirmed coin", "gettxout", txid, 0)
    await w.lab.mine()
    await w.elementsd("confirmed", "getrawtransaction", txid)
    await w.elementsd("unknown transaction", "getrawtransaction", unknown)
    await w.elementsd("txid that is not hex", "getrawtransaction", "zz")
    await w.elementsd("txid that is too short", "getrawtransaction", "ab")
    await w.elementsd("a confirmed coin", "gettxout", txid, 0)
    await w.elementsd("no such output", "gettxout", txid, 9)
    await w.elementsd("height", "getblockhash", w.at(1))
    await w.elementsd("height above the tip", "getblockhash", w.at(50))
    await w.elementsd("negative height", "getblockhash", -1)
    tip = (await w.lab.tip()).block_hash
    await w.elementsd("header in hex", "getblockheader", tip, False)
    await w.elementsd("unknown header", "getblockheader", unknown)
    await w.elementsd("unknown block", "getblock", unknown)
    await w.elementsd("block's transactions", "getblock", tip, 1)
    await w.elementsd("invalidate an unknown block", "invalidateblock", unknown)
    await w.elementsd("unknown method", "nosuchmethod")
