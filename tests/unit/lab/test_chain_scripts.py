"""Script evaluation: signature hashes against elementstx, HTLC spends, and the speed of both."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from bitcointx.core.key import CKey
from elementstx.core import CConfidentialValue, CElementsTransaction
from elementstx.core.script import SIGVERSION_WITNESS_V0, CElementsScript

from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnlab.nodes.embedded.sighash import Spend
from lnlab.nodes.embedded.txmodel import Tx, electrum_scripthash, parse_tx

from .chainkit import COIN_SATS, OPEN_SCRIPT, REPLACEABLE, Kit, p2wsh

VECTORS = Path(__file__).parents[2] / "vectors" / "elementsd_mempool.json"
KEY = CKey(hashlib.sha256(b"a throwaway key").digest())
KEY_HASH = hashlib.new("ripemd160", hashlib.sha256(bytes(KEY.pub)).digest()).digest()
LOCK_HEIGHT = 20
MAX_BATCH = 634
"""HTLC pairs in one standard transaction."""


def htlc(number: int) -> bytes:
    """A swap's script, with the same key on both branches."""
    pay_to_key = b"\x76\xa9\x14" + KEY_HASH + b"\x88\xac"
    hashlock = hashlib.sha256(number.to_bytes(32, "big")).digest()
    return (
        b"\x63\x82\x01\x20\x88\xa8\x20" + hashlock + b"\x88" + pay_to_key
        + b"\x67\x01" + bytes([LOCK_HEIGHT]) + b"\xb1\x75" + pay_to_key + b"\x68"
    )  # fmt: skip


def signature(raw: bytes, index: int, script: bytes, sats: int) -> bytes:
    """A signature over everything, for one input."""
    amount = b"\x01" + sats.to_bytes(8, "big")
    digest = Spend(parse_tx(raw)).signature_hash(script, index, 1, amount)
    return bytes(KEY.sign(digest)) + b"\x01"


@pytest.fixture(scope="module")
def read_twice() -> list[tuple[Tx, Any]]:
    """The recorded transactions as read here, each beside elementstx's reading."""
    recordings = json.loads(VECTORS.read_text())["vectors"]
    raws = [bytes.fromhex(recording["tx"]) for recording in recordings]
    return [(parse_tx(raw), CElementsTransaction.deserialize(raw)) for raw in raws]


@pytest.mark.parametrize("hash_type", [0x01, 0x02, 0x03, 0x81, 0x82, 0x83])
def test_signature_hash_equals_elementstx(hash_type: int, read_twice: list[tuple[Tx, Any]]) -> None:
    """On the inputs of every recorded transaction, two implementations hash the same."""
    for tx, theirs in read_twice:
        for index in range(min(len(tx.inputs), 3)):
            code = bytes([index]) * 40
            ours = Spend(tx).signature_hash(code, index, hash_type, b"\x01" + bytes(6) + b"\x10\0")
            assert ours == CElementsScript(code).sighash(
                theirs, index, hash_type, CConfidentialValue(0x1000), SIGVERSION_WITNESS_V0
            )


def test_parsed_transactions_equal_elementstx(read_twice: list[tuple[Tx, Any]]) -> None:
    """Txid, amounts, scripts and witnesses are read as elementstx reads them."""
    for tx, theirs in read_twice:
        assert tx.txid == theirs.GetTxid()[::-1].hex()
        assert [(out.asset, out.value, out.script) for out in tx.outputs] == [
            (out.nAsset.to_asset().to_hex(), out.nValue.to_amount(), bytes(out.scriptPubKey))
            for out in theirs.vout
        ]
        assert [txin.witness for txin in tx.inputs] == [
            tuple(wit.scriptWitness.stack) for wit in theirs.wit.vtxinwit
        ]


def test_refund_from_the_lock_height_on() -> None:
    """Our lock-time check: too early is non-final, a lower lock time or final input fails."""
    script = htlc(0)
    kit = Kit(coin_count=5, scripts=[script])
    coin = kit.coin_of(script)

    def refund(lock_time: int, sequence: int = REPLACEABLE) -> bytes:
        draft = kit.tx([coin], lock_time=lock_time, sequence=sequence)
        sig = signature(draft, 0, script, COIN_SATS)
        witness = [sig, bytes(KEY.pub), b"", script]
        return kit.tx([coin], lock_time=lock_time, sequence=sequence, witness=witness)

    unmet = "mempool-script-verify-flag-failed (Locktime requirement not satisfied)"
    assert kit.reason(refund(LOCK_HEIGHT)) == "non-final"
    assert kit.reason(refund(1)) == unmet
    kit.chain.generate(LOCK_HEIGHT - kit.chain.tip_height)
    assert kit.reason(refund(LOCK_HEIGHT)) is None
    assert kit.reason(refund(LOCK_HEIGHT - 1)) == unmet
    assert kit.reason(refund(LOCK_HEIGHT, sequence=0xFFFFFFFF)) == unmet


def test_largest_batches_are_fast() -> None:
    """Funding 634 pairs and refunding 300 stay within the time that tests of storms allow."""
    kit = Kit(coin_count=5)
    outs = [(kit.asset, 1000, p2wsh(htlc(n // 2))) for n in range(2 * MAX_BATCH)]
    # One coin is too small for them all, so the batch spends two.
    coins = [kit.coin(), kit.coin()]
    outs.append((kit.asset, 2 * COIN_SATS - 1000 * len(outs) - 20_000, OPEN_SCRIPT))
    funding = kit.tx(coins, outs, fee_sats=20_000)
    started = time.process_time()
    txid = kit.chain.submit(funding)
    submitted = time.process_time()
    kit.chain.generate()
    mined = time.process_time()
    assert submitted - started < 0.5
    assert mined - submitted < 0.25
    name = electrum_scripthash(p2wsh(htlc(7)))
    assert [coin.vout for coin in kit.chain.unspent(name)] == [14, 15]

    kit.chain.generate(LOCK_HEIGHT)
    inputs = [encode_input((txid, vout), sequence=REPLACEABLE) for vout in range(600)]
    paid = [
        encode_output(kit.asset, 600_000 - 20_000, OPEN_SCRIPT),
        encode_output(kit.asset, 20_000),
    ]
    draft = encode_tx(inputs, paid, lock_time=LOCK_HEIGHT)
    spend, amount = Spend(parse_tx(draft)), b"\x01" + (1000).to_bytes(8, "big")
    witnesses = []
    for vout in range(600):
        script = htlc(vout // 2)
        sig = bytes(KEY.sign(spend.signature_hash(script, vout, 1, amount))) + b"\x01"
        witnesses.append([sig, bytes(KEY.pub), b"", script])
    started = time.process_time()
    verdict = kit.chain.test_accept(
        encode_tx(inputs, paid, lock_time=LOCK_HEIGHT, witnesses=witnesses)
    )
    assert verdict.allowed, verdict
    assert time.process_time() - started < 1.5
