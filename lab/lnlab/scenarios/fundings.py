"""Finding the seller's funding transactions on the chain, whoever made them, for whatever swap."""

import io
from typing import Any

from embit.liquid.transaction import LTransaction

from lnlab.actors.faucet import FAUCET_SCRIPT
from lnlab.lab import Lab
from lnlab.nodes.rpc import NodeRpcError


class Fundings:
    """Counts HTLC pairs: P2WSH outputs that hold the sold asset, in mempool and mined blocks.

    Made before the first sale; blocks are told by `mined`.
    """

    def __init__(self, lab: Lab, asset_id: str) -> None:
        self._lab = lab
        self._asset = bytes.fromhex(asset_id)[::-1]
        self._pairs_of: dict[str, int] = {}
        self._waiting: set[str] = set()
        self.confirmed: set[str] = set()
        """Funding transactions in blocks."""

    @property
    def pairs(self) -> int:
        """HTLC pairs in mempool and blocks, as last looked."""
        return sum(self._pairs_of[txid] for txid in self.confirmed | self._waiting)

    async def look(self) -> int:
        """Read the mempool; returns how many fundings are in it."""
        waiting = set()
        for txid in await self._lab.rpc.call("getrawmempool"):
            if await self._pairs(txid):
                waiting.add(txid)
        self._waiting = waiting
        return len(waiting)

    async def mined(self, block_hash: str) -> int:
        """Take a block in; returns 1 when it holds a funding, else 0."""
        block: dict[str, Any] = await self._lab.rpc.call("getblock", block_hash, 1)
        found = {txid for txid in block["tx"] if await self._pairs(txid, block_hash)}
        self.confirmed |= found
        self._waiting -= found
        return 1 if found else 0

    async def _pairs(self, txid: str, block_hash: str | None = None) -> int:
        if txid not in self._pairs_of:
            where = [] if block_hash is None else [block_hash]
            try:
                raw = await self._lab.rpc.call("getrawtransaction", txid, False, *where)
            except NodeRpcError:
                return 0  # it left the mempool a moment ago, into a block or replaced
            transaction = LTransaction.read_from(io.BytesIO(bytes.fromhex(raw)))
            scripts = [
                bytes(o.script_pubkey.data) for o in transaction.vout if o.asset == self._asset
            ]
            self._pairs_of[txid] = sum(s[:2] == b"\x00\x20" and s != FAUCET_SCRIPT for s in scripts)
        return self._pairs_of[txid]
