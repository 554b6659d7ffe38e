"""Read calls of the embedded Electrum server: each answers from the chain alone.

Shapes and error texts are those of mempool/electrs (``src/electrum/server.rs``); the protocol is
electrumx ``docs/protocol-methods.rst``, version 1.4.
"""

import hashlib
import json
import re
from typing import Any

from lnlab.nodes.embedded import rpc_values
from lnlab.nodes.embedded.chain import Chain, Coin, HistoryItem
from lnlab.nodes.embedded.rpc_methods import NodeMethods

HISTORY_LIMIT = 500
MAX_HEADERS = 2016
RELAY_FEE_PER_KVB = 0.000001
"""elementsd's floor of 100 sat/kvB in whole L-BTC."""

SERVER_VERSION = "lnlab-electrs 1"
PROTOCOL_VERSION = "1.4"


class CallError(Exception):
    """A call failed; electrs sends the text as the error, a plain string."""


class HistoryTooLongError(CallError):
    """A script has more history than the server reads."""

    def __init__(self) -> None:
        super().__init__(
            f"Too many history transactions (>{HISTORY_LIMIT}). Contact support to raise limits."
        )


def status_hash(history: list[HistoryItem]) -> str | None:
    """Return a script's Electrum status: sha256 over ``txid:height:`` in order, None if empty."""
    if not history:
        return None
    text = "".join(f"{item.txid}:{item.height}:" for item in history)
    return hashlib.sha256(text.encode()).hexdigest()


def merkle_branch(txids: list[str], position: int) -> list[str]:
    """Return the sibling hashes (display order) that lead from ``txids[position]`` to the root."""
    level = [bytes.fromhex(txid)[::-1] for txid in txids]
    branch = []
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        branch.append(level[position ^ 1][::-1].hex())
        level = [
            hashlib.sha256(hashlib.sha256(left + right).digest()).digest()
            for left, right in zip(level[::2], level[1::2], strict=True)
        ]
        position //= 2
    return branch


def whole(value: object, name: str) -> int:
    """Check a non-negative integer parameter; None stands for one that was left out."""
    if value is None:
        raise CallError(f"missing {name}")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CallError(f"non-integer {name}")
    return value


def hash_parameter(value: object, name: str) -> str:
    """Check a 256-bit hash parameter in hex and return it in lower case."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise CallError(f"bad {name}")
    return value.lower()


class ElectrumCalls:
    """The calls that need no connection state. ``node`` is asked as electrs asks elementsd."""

    def __init__(self, chain: Chain, node: NodeMethods) -> None:
        self._chain = chain
        self._node = node

    def tip(self) -> dict[str, Any]:
        """Return header and height of the tip, as headers.subscribe tells them."""
        height = self._chain.tip_height
        return {"hex": self._chain.header(height).hex(), "height": height}

    def history(self, scripthash: str) -> list[HistoryItem]:
        """Return a script's history. Raises HistoryTooLongError over 500 entries."""
        history = self._chain.history(scripthash)
        if len(history) > HISTORY_LIMIT:
            raise HistoryTooLongError
        return history

    def _header(self, height: int) -> str:
        try:
            return self._chain.header(height).hex()
        except LookupError:
            raise CallError("missing header") from None

    def block_header(self, height: object = None) -> str:
        """Return one header of the active chain in hex (no checkpoint proofs)."""
        return self._header(whole(height, "height"))

    def block_headers(self, start_height: object = None, count: object = None) -> dict[str, Any]:
        """Return up to 2016 headers in one hex string."""
        start = whole(start_height, "start_height")
        end = min(start + min(whole(count, "count"), MAX_HEADERS), self._chain.tip_height + 1)
        headers = [self._header(height) for height in range(start, end)]
        return {"count": len(headers), "hex": "".join(headers), "max": MAX_HEADERS}

    def estimatefee(self, blocks: object = None) -> float:
        """Return the fee rate in whole L-BTC a kvB; on a regtest chain electrs gives the floor."""
        whole(blocks, "blocks_count")
        return RELAY_FEE_PER_KVB

    def get_history(self, scripthash: object = None) -> list[dict[str, Any]]:
        """Return confirmed transactions in chain order, then unconfirmed ones."""
        items = self.history(hash_parameter(scripthash, "script_hash"))
        return [_history_json(item) for item in items]

    def listunspent(self, scripthash: object = None) -> list[dict[str, Any]]:
        """Return unspent outputs; unconfirmed ones have height 0."""
        coins = self._chain.unspent(hash_parameter(scripthash, "script_hash"))
        if len(coins) > HISTORY_LIMIT:
            raise CallError(
                f"Too many unspent transaction outputs (>{HISTORY_LIMIT}). "
                "Contact support to raise limits."
            )
        return [_coin_json(coin) for coin in coins]

    def broadcast(self, raw: object = None) -> str:
        """Hand a transaction to the node and return its txid."""
        if raw is None:
            raise CallError("missing tx")
        if not isinstance(raw, str):
            raise CallError("non-string tx")
        try:
            return self._node.sendrawtransaction(raw)
        except rpc_values.CallError as error:
            answer = json.dumps(
                {"code": int(error.code), "message": error.reason}, separators=(",", ":")
            )
            raise CallError(f"sendrawtransaction RPC error: {answer}") from None

    def transaction_get(self, txid: object = None, verbose: object = False) -> str:
        """Return a raw transaction in hex."""
        key = hash_parameter(txid, "tx_hash")
        if not isinstance(verbose, bool):
            raise CallError("non-bool verbose value")
        if verbose:
            raise CallError("verbose transactions are currently unsupported")
        try:
            return self._chain.raw_tx(key)[0].hex()
        except LookupError:
            raise CallError("missing transaction") from None

    def get_merkle(self, txid: object = None, height: object = None) -> dict[str, Any]:
        """Return the Merkle branch of a confirmed transaction."""
        key, wanted = hash_parameter(txid, "tx_hash"), whole(height, "height")
        try:
            block = self._chain.raw_tx(key)[1]
        except LookupError:
            block = None
        height = None if block is None else self._chain.block_height(block)
        if block is None or height is None:
            raise CallError("tx not found or is unconfirmed")
        if height != wanted:
            raise CallError("invalid confirmation height provided")
        txids = self._chain.block_txids(block)
        position = txids.index(key)
        branch = merkle_branch(txids, position)
        return {"block_height": wanted, "merkle": branch, "pos": position}

    def id_from_pos(
        self, height: object = None, tx_pos: object = None, merkle: object = False
    ) -> object:
        """Return the txid at a place in a block, with its Merkle branch if wanted."""
        wanted, position = whole(height, "height"), whole(tx_pos, "tx_pos")
        try:
            txids = self._chain.block_txids(self._chain.block_hash(wanted))
            txid = txids[position]
        except LookupError:
            raise CallError(f"No tx in position #{position} in block #{wanted}") from None
        if merkle is not True:
            return txid
        return {"tx_hash": txid, "merkle": merkle_branch(txids, position)}


def _history_json(item: HistoryItem) -> dict[str, Any]:
    entry: dict[str, Any] = {"tx_hash": item.txid, "height": item.height}
    if item.height <= 0:
        # electrs has the other regtest chain's L-BTC id built in: it finds no fee here.
        entry["fee"] = 0
    return entry


def _coin_json(coin: Coin) -> dict[str, Any]:
    """Return a coin as electrs prints it: explicit values and assets as pairs with a leading 1.

    The amount's bytes are swapped (rust-elements ``confidential.rs``, serialisation of Value): read
    amounts from the transaction instead.
    """
    swapped = int.from_bytes(coin.value.to_bytes(8, "little"), "big")
    return {
        "tx_hash": coin.txid,
        "tx_pos": coin.vout,
        "height": coin.height or 0,
        "value": [1, swapped],
        "asset": [1, coin.asset],
        "nonce": [0],
    }
