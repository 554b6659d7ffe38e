"""elementsd's RPC methods on the embedded chain: those that lab, Electrum server and tests use.

Names of methods, parameters and fields and error codes are elementsd's (``rpc/blockchain.cpp``,
``rpc/rawtransaction.cpp``). Amounts are JSON numbers in whole units.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from lnlab.nodes.embedded.block import Block
from lnlab.nodes.embedded.chain import Chain, Coin, Rejected
from lnlab.nodes.embedded.rpc_values import (
    DECODE_FAILED,
    MAX_FEE_RATE,
    TYPE_ERROR,
    CallError,
    address_script,
    descriptor_script,
    exceeds_rate,
    hash_argument,
    parse_header,
    rate_argument,
    raw_argument,
    rejection,
    whole_argument,
    whole_units,
)
from lnlab.nodes.rpc import RpcCode


class NodeMethods:
    """The methods; ``methods`` maps each RPC name to its function. ``on_stop`` serves ``stop``."""

    def __init__(self, chain: Chain, on_stop: Callable[[], None]) -> None:
        self._chain = chain
        self._on_stop = on_stop
        self.methods: dict[str, Callable[..., Any]] = {
            "estimatesmartfee": self.estimatesmartfee,
            "generateblock": self.generateblock,
            "generatetoaddress": self.generatetoaddress,
            "generatetodescriptor": self.generatetodescriptor,
            "getbestblockhash": self.getbestblockhash,
            "getblock": self.getblock,
            "getblockchaininfo": self.getblockchaininfo,
            "getblockcount": self.getblockcount,
            "getblockhash": self.getblockhash,
            "getblockheader": self.getblockheader,
            "getrawmempool": self.getrawmempool,
            "getrawtransaction": self.getrawtransaction,
            "gettxout": self.gettxout,
            "invalidateblock": self.invalidateblock,
            "reconsiderblock": self.reconsiderblock,
            "scantxoutset": self.scantxoutset,
            "sendrawtransaction": self.sendrawtransaction,
            "stop": self.stop,
            "testmempoolaccept": self.testmempoolaccept,
        }

    def getblockchaininfo(self) -> dict[str, Any]:
        """Return name, height and tip of the chain."""
        height = self._chain.tip_height
        return {
            "chain": "liquid-regtest",
            "blocks": height,
            "headers": height,
            "bestblockhash": self._chain.tip_hash,
            "time": self._chain.block_time(height),
            "mediantime": self._chain.median_time(height),
            "verificationprogress": 1,
            "initialblockdownload": height == 0,
            "pruned": False,
            "trim_headers": False,
            "warnings": "",
        }

    def getblockcount(self) -> int:
        """Return the height of the tip."""
        return self._chain.tip_height

    def getbestblockhash(self) -> str:
        """Return the hash of the tip."""
        return self._chain.tip_hash

    def getblockhash(self, height: object) -> str:
        """Return the block hash at ``height`` of the active chain."""
        wanted = whole_argument(height)
        if not 0 <= wanted <= self._chain.tip_height:
            raise CallError(RpcCode.INVALID_PARAMETER, "Block height out of range")
        return self._chain.block_hash(wanted)

    def _block(self, blockhash: object, name: str) -> Block:
        try:
            return self._chain.block(hash_argument(blockhash, name))
        except LookupError:
            raise CallError(RpcCode.INVALID_ADDRESS_OR_KEY, "Block not found") from None

    def getblockheader(self, blockhash: object, verbose: object = True) -> object:
        """Return a block's header, as an object or (``verbose`` false) in hex.

        A stale block has -1 confirmations.
        """
        block = self._block(blockhash, "hash")
        if not verbose:
            return block.header.hex()
        active = self._chain.block_height(block.hash) is not None
        header: dict[str, Any] = {
            "hash": block.hash,
            "confirmations": self._chain.tip_height - block.height + 1 if active else -1,
            "height": block.height,
            **parse_header(block.header),
            "mediantime": block.median_time_secs,
            "nTx": len(block.txs),
        }
        if block.previous is not None:
            header["previousblockhash"] = block.previous.hash
        if active and block.height < self._chain.tip_height:
            header["nextblockhash"] = self._chain.block_hash(block.height + 1)
        return header

    def getblock(self, blockhash: object, verbosity: object = 1) -> object:
        """Return the header with the block's txids (only verbosity 1)."""
        if verbosity not in (1, True):
            raise CallError(RpcCode.INVALID_PARAMETER, "The embedded node has verbosity 1 only")
        block = self._block(blockhash, "blockhash")
        header = self.getblockheader(block.hash)
        assert isinstance(header, dict)
        return {**header, "tx": self._chain.block_txids(block.hash)}

    def getrawmempool(self, verbose: object = False) -> list[str]:
        """Return the txids in the mempool."""
        if verbose:
            raise CallError(RpcCode.INVALID_PARAMETER, "The embedded node lists txids only")
        return self._chain.mempool_txids()

    def getrawtransaction(
        self, txid: object, verbose: object = 0, _blockhash: object = None
    ) -> object:
        """Return a transaction's hex, or with ``verbose`` an object with its place in the chain."""
        key = hash_argument(txid, "parameter 1")
        try:
            raw, block = self._chain.raw_tx(key)
        except LookupError:
            raise CallError(
                RpcCode.INVALID_ADDRESS_OR_KEY,
                "No such mempool or blockchain transaction. "
                "Use gettransaction for wallet transactions.",
            ) from None
        if not verbose:
            return raw.hex()
        result: dict[str, Any] = {"txid": key, "size": len(raw), "hex": raw.hex()}
        if block is not None:
            result["blockhash"] = block
            height = self._chain.block_height(block)
            depth = 0 if height is None else self._chain.tip_height - height + 1
            result["confirmations"] = depth
            if height is not None:
                time = self._chain.block_time(height)
                result |= {"time": time, "blocktime": time}
        return result

    def gettxout(self, txid: object, n: object, include_mempool: object = True) -> object:
        """Return an unspent output, or None when spent or unknown."""
        coin = self._chain.coin(
            hash_argument(txid, "txid"), whole_argument(n), include_mempool is True
        )
        if coin is None:
            return None
        return {
            "bestblock": self._chain.tip_hash,
            "confirmations": 0 if coin.height is None else self._chain.tip_height - coin.height + 1,
            "value": whole_units(coin.value),
            "asset": coin.asset,
            "commitmentnonce": "",
            "scriptPubKey": {"hex": coin.script_pubkey.hex()},
            "coinbase": self._is_coinbase(coin),
        }

    def _is_coinbase(self, coin: Coin) -> bool:
        if not coin.height:  # unconfirmed, or the free coins of the genesis block
            return False
        return self._chain.block_txids(self._chain.block_hash(coin.height))[0] == coin.txid

    def scantxoutset(self, action: object, scanobjects: object = None) -> dict[str, Any]:
        """Return the confirmed unspent outputs of descriptors; all assets, unnamed, as there."""
        if action != "start" or not isinstance(scanobjects, list):
            raise CallError(RpcCode.INVALID_PARAMETER, f"Invalid action '{action}'")
        found = [
            (str(descriptor), coin)
            for descriptor in scanobjects
            for coin in self._chain.coins_with_script(descriptor_script(descriptor))
        ]
        return {
            "success": True,
            "height": self._chain.tip_height,
            "bestblock": self._chain.tip_hash,
            "unspents": [
                {
                    "txid": coin.txid,
                    "vout": coin.vout,
                    "scriptPubKey": coin.script_pubkey.hex(),
                    "desc": descriptor,
                    "amount": whole_units(coin.value),
                    "height": coin.height,
                }
                for descriptor, coin in found
            ],
            "total_unblinded_bitcoin_amount": whole_units(sum(coin.value for _, coin in found)),
        }

    def estimatesmartfee(
        self, conf_target: object, _estimate_mode: object = None
    ) -> dict[str, Any]:
        """Return the fee rate in whole L-BTC a kvB, or an error list while there is no data."""
        blocks = whole_argument(conf_target)
        rate = self._chain.fee_rate()
        if rate is None:
            return {"errors": ["Insufficient data or no feerate found"], "blocks": blocks}
        return {"feerate": rate, "blocks": blocks}

    def testmempoolaccept(
        self, rawtxs: object, maxfeerate: object = MAX_FEE_RATE
    ) -> list[dict[str, Any]]:
        """Return the mempool's verdict on each transaction, taken alone (no packages)."""
        if not isinstance(rawtxs, list):
            raise CallError(TYPE_ERROR, "Expected type array")
        if not 1 <= len(rawtxs) <= 25:
            raise CallError(
                RpcCode.INVALID_PARAMETER, "Array must contain between 1 and 25 transactions."
            )
        return [self._verdict(raw, rate_argument(maxfeerate)) for raw in rawtxs]

    def _verdict(self, raw_hex: object, max_rate: float) -> dict[str, Any]:
        failed = f"TX decode failed: {raw_hex} Make sure the tx has at least one input."
        raw = raw_argument(raw_hex, failed)
        try:
            verdict = self._chain.test_accept(raw)
        except ValueError:
            raise CallError(RpcCode.DESERIALIZATION, failed) from None
        result: dict[str, Any] = {
            "txid": verdict.txid,
            "wtxid": hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1].hex(),
        }
        if not verdict.allowed:
            reason = (verdict.reject_reason or "").partition(", ")[0]
            return {**result, "allowed": False, "reject-reason": reason}
        assert verdict.vsize is not None
        assert verdict.fee_sats is not None
        if exceeds_rate(verdict.fee_sats, verdict.vsize, max_rate):
            return {**result, "allowed": False, "reject-reason": "max-fee-exceeded"}
        return {
            **result,
            "allowed": True,
            "vsize": verdict.vsize,
            "fees": {"base": whole_units(verdict.fee_sats)},
        }

    def sendrawtransaction(self, hexstring: object, maxfeerate: object = MAX_FEE_RATE) -> str:
        """Put a transaction into the mempool and return its txid."""
        raw = raw_argument(hexstring)
        try:
            verdict = self._chain.test_accept(raw)
            if verdict.allowed and exceeds_rate(
                verdict.fee_sats or 0, verdict.vsize or 0, rate_argument(maxfeerate)
            ):
                raise CallError(
                    RpcCode.TRANSACTION_ERROR,
                    "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
                )
            return self._chain.submit(raw)
        except ValueError:
            raise CallError(RpcCode.DESERIALIZATION, DECODE_FAILED) from None
        except Rejected as error:
            raise CallError(*rejection(error.reason)) from None

    def generatetodescriptor(
        self, num_blocks: object, descriptor: object, _maxtries: object = None
    ) -> list[str]:
        """Mine blocks that pay to ``raw(hex)`` or ``addr(address)``; return their hashes."""
        return self._chain.generate(whole_argument(num_blocks), descriptor_script(descriptor))

    def generatetoaddress(
        self, nblocks: object, address: object, _maxtries: object = None
    ) -> list[str]:
        """Mine blocks that pay to an address; return their hashes."""
        return self._chain.generate(whole_argument(nblocks), address_script(address))

    def generateblock(self, output: object, transactions: object) -> dict[str, str]:
        """Mine a block of just these mempool transactions (txids, parents first)."""
        if not isinstance(transactions, list):
            raise CallError(TYPE_ERROR, "Expected type array")
        txids = [hash_argument(txid, "txid") for txid in transactions]
        try:
            hashes = self._chain.generate(1, descriptor_script(output), txids)
        except LookupError as error:
            reason = f"Transaction {error.args[0]} not in mempool."
            raise CallError(RpcCode.INVALID_ADDRESS_OR_KEY, reason) from None
        return {"hash": hashes[0]}

    def invalidateblock(self, blockhash: object) -> None:
        """Take a block and all after it out of the chain."""
        self._with_block(self._chain.invalidate, blockhash)

    def reconsiderblock(self, blockhash: object) -> None:
        """Undo ``invalidateblock``."""
        self._with_block(self._chain.reconsider, blockhash)

    def _with_block(self, change: Callable[[str], None], blockhash: object) -> None:
        try:
            change(hash_argument(blockhash, "blockhash"))
        except LookupError:
            raise CallError(RpcCode.INVALID_ADDRESS_OR_KEY, "Block not found") from None
        except ValueError as error:  # the genesis block
            raise CallError(RpcCode.INVALID_PARAMETER, str(error)) from None

    def stop(self) -> str:
        """Ask the process to stop."""
        self._on_stop()
        return "Elements Core stopping"
