"""Blocks of a custom Elements chain before dynamic federations, signed by OP_TRUE.

Sources: `primitives/block.h`, `chainparams.cpp` (CCustomParams, genesis), `node/miner.cpp`.
Genesis is that of `elementsd -chain=liquid-regtest -initialfreecoins=2100000000000000`.
"""

import hashlib
from dataclasses import dataclass, field

from lnlab.nodes.embedded.encode import (
    encode_input,
    encode_issuance,
    encode_output,
    encode_tx,
    with_size,
)
from lnlab.nodes.embedded.txmodel import (
    NULL_HASH,
    NULL_INDEX,
    Coin,
    Tx,
    compact_size,
    issued_assets,
    parse_tx,
    sha256d,
)

CHAIN_NAME = "liquid-regtest"
FREE_COINS_SATS = 2_100_000_000_000_000
GENESIS_TIME_SECS = 1_296_688_602
_PARENT_GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
_OP_TRUE, _OP_RETURN = b"\x51", b"\x6a"


@dataclass(eq=False)
class Block:
    """A block and, while it is in the active chain, the coins it spent.

    `sequence` counts blocks as they came: of two equally long chains the first seen is kept.
    `rates_sats_per_kvb` are the fee rates of its transactions.
    """

    hash: str
    height: int
    previous: "Block | None"
    time_secs: int
    median_time_secs: int
    header: bytes
    txs: tuple[Tx, ...]
    sequence: int
    rates_sats_per_kvb: tuple[int, ...] = ()
    invalid: bool = False
    spent: list[Coin] = field(default_factory=list)


def make_block(
    previous: Block | None,
    time_secs: int,
    txs: tuple[Tx, ...],
    sequence: int,
    rates_sats_per_kvb: tuple[int, ...] = (),
) -> Block:
    """Put transactions, coinbase first, into a block on top of another."""
    height = previous.height + 1 if previous else 0
    signed = (
        (1 if previous is None else 0x20000000).to_bytes(4, "little")
        + bytes.fromhex(previous.hash if previous else NULL_HASH)[::-1]
        + _merkle_root(txs)
        + time_secs.to_bytes(4, "little")
        + height.to_bytes(4, "little")
        + with_size(_OP_TRUE)
    )
    times = [time_secs]
    block = previous
    while block and len(times) < 11:
        times.append(block.time_secs)
        block = block.previous
    return Block(
        hash=sha256d(signed)[::-1].hex(),
        height=height,
        previous=previous,
        time_secs=time_secs,
        median_time_secs=sorted(times)[len(times) // 2],
        header=signed + compact_size(0),  # the proof's solution is not hashed
        txs=txs,
        sequence=sequence,
        rates_sats_per_kvb=rates_sats_per_kvb,
    )


def genesis() -> tuple[Block, str]:
    """The first block and the policy asset, which follows from the chain's parameters."""
    commitment = hashlib.sha256(
        CHAIN_NAME.encode() + _OP_TRUE.hex().encode() + _OP_TRUE.hex().encode()
    ).digest()
    null_asset = bytes(32).hex()
    coinbase = encode_tx(
        [encode_input((NULL_HASH, NULL_INDEX), script_sig=with_size(commitment))],
        [encode_output(null_asset, 0, _OP_RETURN)],
        version=1,
    )
    contract_hash = bytes.fromhex(_PARENT_GENESIS)[::-1]
    issuing_input = encode_input(
        (commitment[::-1].hex(), 0), issuance=encode_issuance(FREE_COINS_SATS, 0, contract_hash)
    )
    # The asset id depends on the outpoint and the contract hash alone, so any output does here.
    draft = parse_tx(encode_tx([issuing_input], [encode_output(null_asset, 0)])).inputs[0]
    if draft.issuance is None:
        raise AssertionError("the genesis transaction issues the policy asset")
    asset = issued_assets(draft.outpoint, draft.issuance)[0]
    free_coins = encode_output(asset, FREE_COINS_SATS, _OP_TRUE)
    issue = encode_tx([issuing_input], [free_coins], version=1)
    txs = (parse_tx(coinbase), parse_tx(issue))
    return make_block(None, GENESIS_TIME_SECS, txs, 0), asset


def make_coinbase(height: int, nonce: int, policy_asset: str, fees_sats: int, script: bytes) -> Tx:
    """The transaction that pays a block's fees to a script; `nonce` keeps sister blocks apart."""
    script_sig = _push_number(height) + _push_number(nonce)
    # An output of nothing must be one that nobody can spend.
    output = encode_output(policy_asset, fees_sats, script if fees_sats else _OP_RETURN)
    null_input = encode_input((NULL_HASH, NULL_INDEX), script_sig=script_sig)
    return parse_tx(encode_tx([null_input], [output]))


def _push_number(number: int) -> bytes:
    """A script number; small ones have opcodes of their own."""
    if number <= 16:
        return bytes([0x50 + number]) if number else b"\x00"
    data = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return bytes([len(data)]) + data


def _merkle_root(txs: tuple[Tx, ...]) -> bytes:
    level = [bytes.fromhex(tx.txid)[::-1] for tx in txs]
    while len(level) > 1:
        level += level[-1:] * (len(level) % 2)
        level = [sha256d(level[at] + level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]
