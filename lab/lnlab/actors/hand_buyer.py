"""A buyer that takes single steps, also late, partial or doubled ones, as a script tells it.

It shares no code with the service: gRPC, the buyer's Lightning node, elementsd, and transactions
built with embit. `lnlab.actors.buyer` is the one that behaves.
"""

import asyncio
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from embit import bech32, ec
from embit.hashes import hash160
from embit.liquid.transaction import (
    LSIGHASH,
    LTransaction,
    LTransactionInput,
    LTransactionOutput,
    TxInWitness,
)
from embit.script import Script, Witness

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.faucet import Payment
from lnlab.nodes.lightning import lightning_call
from lnlab.nodes.record import POLICY_ASSET
from lnlab.scenarios.sale import require

PRICE_CAP_MSAT = 10**12
CLAIM_FEE_SATS = 100
FINAL, REPLACEABLE = 0xFFFFFFFF, 0xFFFFFFFD
PAY_SECS = 10


@dataclass(frozen=True)
class LooseCoin:
    """L-BTC on the buyer's own address, for a claim that leaves the subsidy where it is."""

    txid: str
    vout: int
    sats: int


class HandBuyer:
    """One buyer with one key, a fresh one."""

    def __init__(self, daemon: SellerDaemon) -> None:
        self.daemon = daemon
        self.lab = daemon.lab
        self._key = ec.PrivateKey(secrets.token_bytes(32))
        self._public_key: bytes = self._key.sec()
        self._key_hash: bytes = hash160(self._public_key)
        self.script = b"\x00\x14" + self._key_hash
        self.address: str = bech32.encode("ert", 0, self._key_hash)

    def request(
        self, amount: int = 1_000, *, confs: int = 1, request_id: str | None = None
    ) -> pb.CreateSwapRequest:
        """A request for a swap, to be sent as it is or changed first."""
        return pb.CreateSwapRequest(
            asset_id=self.daemon.asset_id,
            asset_amount=amount,
            buyer_claim_address=self.address,
            min_funding_confs=confs,
            max_total_price_msat=PRICE_CAP_MSAT,
            request_id=request_id or str(uuid.uuid4()),
        )

    async def create(self, request: pb.CreateSwapRequest, *, timeout_secs: float = 60) -> pb.Swap:
        """Send it and return the swap; raises `grpc.aio.AioRpcError`."""
        reply = await self.daemon.stub().CreateSwap(request, timeout=timeout_secs)
        swap: pb.Swap = reply.swap
        return swap

    async def order(self, amount: int = 1_000, *, confs: int = 1) -> pb.Swap:
        """Create a swap, mine as many blocks as its funding needs, return it with its invoice.

        Raises `ScenarioError` when it has none, `grpc.aio.AioRpcError` when it is refused.
        """
        (swap,) = await self.order_many(1, amount, confs=confs)
        return swap

    async def order_many(self, count: int, amount: int = 1_000, *, confs: int = 1) -> list[pb.Swap]:
        """The same for several swaps at once."""
        before = set(await self._mempool())
        creating = [
            asyncio.create_task(self.create(self.request(amount, confs=confs)))
            for _ in range(count)
        ]

        async def funded_or_failed() -> bool:
            return any(t.done() for t in creating) or bool(set(await self._mempool()) - before)

        try:
            while not all(task.done() for task in creating):
                # Several fundings may follow each other: one block for each that shows up.
                await self.lab.wait_for(
                    funded_or_failed, timeout_secs=40, message="a funding is sent"
                )
                await self.lab.mine(confs)
                await asyncio.wait(creating, timeout=3)
                before = set()
            swaps = [task.result() for task in creating]
        finally:
            for task in creating:
                task.cancel()
        late = [swap.swap_id for swap in swaps if not swap.bolt11]
        require(not late, f"no invoice when CreateSwap returned: {late}")
        return swaps

    async def pay(self, swap: pb.Swap) -> bytes:
        """Pay the invoice and return the preimage. Raises `LightningRpcError` when that fails."""
        await self.wait_for_lightning()
        paid = await lightning_call(
            self.lab.lightning["buyer"],
            "pay",
            bolt11=swap.bolt11,
            maxdelay=swap.max_ln_cltv_blocks,
            retry_for=PAY_SECS,
        )
        return bytes.fromhex(paid["payment_preimage"])

    async def wait_for_lightning(self) -> None:
        """Wait until both Lightning nodes have seen the tip: payments carry heights."""

        async def synced() -> bool:
            height = (await self.lab.tip()).height
            infos = [await lightning_call(s, "getinfo") for s in self.lab.lightning.values()]
            return all(info["blockheight"] >= height for info in infos)

        await self.lab.wait_for(synced, timeout_secs=30, message="Lightning follows the chain")

    def claim(
        self,
        swap: pb.Swap,
        preimage: bytes,
        *,
        with_subsidy: bool = True,
        coin: LooseCoin | None = None,
        fee_sats: int = CLAIM_FEE_SATS,
        sequence: int = FINAL,
    ) -> bytes:
        """The signed claim. Without the subsidy its fee comes from `coin`."""
        assert with_subsidy or coin is not None, "something must pay the fee"
        htlc = [preimage, b"\x01", swap.witness_script]
        spent = [_Input(swap.funding_txid, swap.asset_vout, swap.asset_amount, htlc)]
        lbtc_sats = 0
        if with_subsidy:
            spent.append(_Input(swap.funding_txid, swap.subsidy_vout, swap.fee_subsidy_sats, htlc))
            lbtc_sats += swap.fee_subsidy_sats
        if coin is not None:
            spent.append(_Input(coin.txid, coin.vout, coin.sats, []))
            lbtc_sats += coin.sats
        outputs = [
            Payment(self.script, swap.asset_id, swap.asset_amount),
            Payment(self.script, POLICY_ASSET, lbtc_sats - fee_sats),
            Payment(b"", POLICY_ASSET, fee_sats),
        ]
        return self._sign(spent, outputs, sequence)

    def _sign(self, spent: Sequence["_Input"], outputs: Sequence[Payment], sequence: int) -> bytes:
        transaction = LTransaction(
            version=2,
            vin=[
                LTransactionInput(bytes.fromhex(one.txid), one.vout, sequence=sequence)
                for one in spent
            ],
            vout=[
                LTransactionOutput(bytes.fromhex(o.asset)[::-1], o.value, Script(o.script))
                for o in outputs
            ],
            locktime=0,
        )
        own_code = b"\x76\xa9\x14" + self._key_hash + b"\x88\xac"  # BIP143 for P2WPKH
        for index, one in enumerate(spent):
            code = Script(one.htlc[-1] if one.htlc else own_code)
            digest = transaction.sighash_segwit(index, code, one.value, LSIGHASH.ALL)
            signature = self._key.sign(digest).serialize() + bytes([LSIGHASH.ALL])
            items = [signature, self._public_key, *one.htlc]
            transaction.vin[index].witness = TxInWitness(script_witness=Witness(items))
        raw: bytes = transaction.serialize()
        return raw

    async def loose_coin(self, sats: int = 1_000) -> LooseCoin:
        """Get L-BTC from the faucet, unconfirmed."""
        txid = await self.lab.faucet.fund(self.script, [(POLICY_ASSET, sats)])
        return LooseCoin(txid, 0, sats)

    async def send(self, raw: bytes) -> str:
        """Broadcast and return the txid. Raises `NodeRpcError` when elementsd refuses it."""
        return str(await self.lab.rpc.call("sendrawtransaction", raw.hex()))

    async def _mempool(self) -> list[str]:
        txids: list[str] = await self.lab.rpc.call("getrawmempool")
        return txids


@dataclass(frozen=True)
class _Input:
    """An outpoint to spend. `htlc`: witness after signature and key; empty for the own address."""

    txid: str
    vout: int
    value: int
    htlc: list[bytes]
