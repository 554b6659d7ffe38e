"""Replay of recorded mempool verdicts: the situation a node was in, and what it said.

A recording is one element of `vectors` in `tests/vectors/elementsd_mempool.json`: the coins that
the transaction spends, transactions confirmed before it (`chain`) or unconfirmed (`mempool`), the
height of the tip, and the transaction. elementsd had accepted all but the last, so only that one is
checked.
"""

from collections.abc import Mapping
from typing import Any

from lnlab.nodes.embedded.chain import Chain, Coin, Verdict
from lnlab.nodes.embedded.pool import Entry
from lnlab.nodes.embedded.txmodel import Tx, parse_tx


def replay(recording: Mapping[str, Any], chain: Chain | None = None) -> Verdict:
    """Bring a fresh chain into the recorded situation; returns its verdict on the transaction."""
    chain = chain or Chain()
    confirmed = [parse_tx(bytes.fromhex(raw)) for raw in recording["chain"]]
    unconfirmed = [parse_tx(bytes.fromhex(raw)) for raw in recording["mempool"]]
    chain.generate(recording["tip_height"] - bool(confirmed))
    made = {tx.txid for tx in confirmed + unconfirmed}
    coins = [
        Coin(
            coin["txid"],
            coin["vout"],
            coin["asset"],
            coin["value"],
            bytes.fromhex(coin["script_pubkey"]),
            coin["height"],
        )
        for coin in recording["coins"]
        if coin["txid"] not in made
    ]
    chain.ledger.add(coins)
    _add_unrecorded_inputs(chain, confirmed + unconfirmed, made)
    for tx in confirmed:
        _add_unchecked(chain, tx)
    if confirmed:
        chain.generate()
    for tx in unconfirmed:
        _add_unchecked(chain, tx)
    return chain.test_accept(bytes.fromhex(recording["tx"]))


def _add_unrecorded_inputs(chain: Chain, txs: list[Tx], made: set[str]) -> None:
    """Coins that earlier transactions spent are not recorded; something must stand for them."""
    for tx in txs:
        for txin in tx.inputs:
            if txin.outpoint[0] not in made and chain.confirmed_coin(txin.outpoint) is None:
                txid, vout = txin.outpoint
                chain.ledger.add([Coin(txid, vout, chain.policy_asset, 1, b"\x51", 1)])


def _add_unchecked(chain: Chain, tx: Tx) -> None:
    coins = [chain.mempool.find_coin(txin.outpoint) for txin in tx.inputs]
    spent = tuple(coin for coin in coins if coin is not None)
    fee_sats = tx.fee_sats(chain.policy_asset)
    chain.mempool.add(Entry(tx, spent, fee_sats, (tx.weight + 3) // 4))
