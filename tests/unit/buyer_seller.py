"""A scripted seller for the buyer's tests: real HTLCs on the embedded chain, real invoices."""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from coincurve import PrivateKey
from embit.liquid.transaction import (
    AssetIssuance,
    LTransaction,
    LTransactionInput,
    LTransactionOutput,
    TxInWitness,
)
from embit.script import Script, Witness

from ln_liquid_swap.v1 import swap_pb2, swap_pb2_grpc
from lnlab.actors.faucet import FAUCET_SCRIPT, OP_TRUE, asset_id_of
from lnlab.nodes.embedded.chain import Chain as EmbeddedChain
from lnlab.nodes.embedded.lightning import bolt11
from lnliquid.buyer.answers import swap_of
from lnliquid.domain import htlc
from lnliquid.liquid import tx_builder
from lnliquid.liquid.address import p2wpkh_key_hash
from lnliquid.liquid.keys import Keychain
from lnliquid.liquid.networks import REGTEST

POLICY_ASSET = REGTEST.policy_asset
SELLER_WORDS = "abandon " * 11 + "about"
NODE_KEY = PrivateKey(bytes(31) + b"\x07")
NODE_ID = NODE_KEY.public_key.format().hex()
START_TIME = 1_800_000_000
AMOUNT, SUBSIDY_SATS, PRICE_MSAT = 1_000, 500, 150_000
REFUND_FEE_SATS = 60


class ScriptedSeller(swap_pb2_grpc.SwapServiceServicer):
    """A seller that funds real HTLCs on the embedded chain; `tamper` and `tell` make it a crook.

    `refusals` are answered (status, text) before anything else, one each; None lets one pass.
    """

    def __init__(self, chain: EmbeddedChain) -> None:
        self.chain = chain
        self.keys = Keychain(SELLER_WORDS, REGTEST)
        self.swaps: dict[str, swap_pb2.Swap] = {}
        self.created = 0
        self.blocks_after_funding = 2
        self.funded_after_reads = 0
        self.refusals: list[tuple[grpc.StatusCode, str] | None] = []
        self.tamper: Callable[[swap_pb2.Swap], None] = lambda swap: None
        self.tell: Callable[[swap_pb2.Swap], None] = lambda swap: None
        self.coin, self.asset_id = _stock(chain)
        self.asset_left = self.sats_left = 1_000_000
        self.offer = swap_pb2.Offer(
            network="liquid-regtest",
            asset_id=self.asset_id,
            asset_precision=2,
            price_msat_per_asset_unit=15_000,
            min_swap_amount=1,
            max_swap_amount=1_000_000,
            available_amount=1_000_000,
            fee_subsidy_sats=SUBSIDY_SATS,
            refund_delta_blocks=200,
            invoice_expiry_secs=600,
            max_min_funding_confs=6,
            max_ln_cltv_blocks=144,
            claim_margin_blocks=10,
            lightning_node_id=NODE_ID,
        )

    def preimage_of(self, payment_hash: bytes) -> bytes:
        """What paying the invoice reveals."""
        for index in range(1, self.created + 1):
            preimage = _preimage(index)
            if hashlib.sha256(preimage).digest() == payment_hash:
                return preimage
        raise LookupError(payment_hash.hex())

    async def GetOffer(self, request: swap_pb2.GetOfferRequest, context: Any) -> Any:  # noqa: N802
        """The one offer."""
        await self._refuse(context)
        return swap_pb2.GetOfferResponse(offer=self.offer)

    async def CreateSwap(self, request: swap_pb2.CreateSwapRequest, context: Any) -> Any:  # noqa: N802
        """Fund, or give the swap of this request again."""
        await self._refuse(context)
        if request.request_id not in self.swaps:
            self.created += 1
            self.swaps[request.request_id] = self.fund(request, self.created)
        return swap_pb2.CreateSwapResponse(swap=self.seen(self.swaps[request.request_id]))

    async def GetSwap(self, request: swap_pb2.GetSwapRequest, context: Any) -> Any:  # noqa: N802
        """The swap as the chain now has it."""
        await self._refuse(context)
        for swap in self.swaps.values():
            if swap.swap_id == request.swap_id:
                self.funded_after_reads -= 1
                return swap_pb2.GetSwapResponse(swap=self.seen(swap))
        return await context.abort(grpc.StatusCode.NOT_FOUND, "no such swap")

    async def WatchSwap(self, request: swap_pb2.WatchSwapRequest, context: Any) -> Any:  # noqa: N802
        """Not used by the buyer."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in this world")
        yield swap_pb2.WatchSwapResponse()

    def refund(self, request_id: str, *, with_asset: bool = True) -> str:
        """Take the coins back, or the subsidy alone, once the lock height is reached."""
        swap = self.swaps[request_id]
        key = self.keys.refund_key(self.created)
        reply = swap_of(swap)
        parts = [(reply.subsidy_outpoint, SUBSIDY_SATS)]
        outputs = [tx_builder.Output(FAUCET_SCRIPT, POLICY_ASSET, SUBSIDY_SATS - REFUND_FEE_SATS)]
        if with_asset:
            parts.append((reply.asset_outpoint, AMOUNT))
            outputs.append(tx_builder.Output(FAUCET_SCRIPT, self.asset_id, AMOUNT))
        spends = [
            tx_builder.refund_spend(outpoint, value, key, reply.witness_script)
            for outpoint, value in parts
        ]
        signed = tx_builder.sign(
            spends,
            outputs,
            policy_asset=POLICY_ASSET,
            fee=REFUND_FEE_SATS,
            lock_time=swap.refund_lock_height,
        )
        return self.chain.submit(signed.raw)

    def pay_lbtc(self, script_pubkey: bytes, sats: int) -> None:
        """Send L-BTC out of the stock and mine it."""
        self.sats_left -= sats + 1_000
        outputs = [
            (FAUCET_SCRIPT, self.asset_id, self.asset_left),
            (FAUCET_SCRIPT, POLICY_ASSET, self.sats_left),
            (script_pubkey, POLICY_ASSET, sats),
        ]
        self.coin = self.chain.submit(anyone_spends([(self.coin, 0), (self.coin, 1)], outputs))
        self.chain.generate()

    async def _refuse(self, context: Any) -> None:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            await context.abort(*refusal)

    def fund(self, request: swap_pb2.CreateSwapRequest, index: int) -> swap_pb2.Swap:
        """Lock the coins for this request, with the preimage and key of this index."""
        payment_hash = hashlib.sha256(_preimage(index)).digest()
        seller_key_hash = self.keys.refund_key(index).key_hash
        height = self.chain.tip_height + self.offer.refund_delta_blocks
        buyer_key_hash = p2wpkh_key_hash(request.buyer_claim_address, REGTEST)
        script = htlc.witness_script(payment_hash, buyer_key_hash, seller_key_hash, height)
        script_pubkey = htlc.output_script(script)
        self.asset_left -= AMOUNT
        self.sats_left -= SUBSIDY_SATS + 1_000
        raw = anyone_spends(
            [(self.coin, 0), (self.coin, 1)],
            [
                (FAUCET_SCRIPT, self.asset_id, self.asset_left),
                (FAUCET_SCRIPT, POLICY_ASSET, self.sats_left),
                (script_pubkey, self.asset_id, AMOUNT),
                (script_pubkey, POLICY_ASSET, SUBSIDY_SATS),
            ],
        )
        txid = self.coin = self.chain.submit(raw)
        self.chain.generate(self.blocks_after_funding)
        swap = swap_pb2.Swap(
            swap_id=str(uuid.uuid4()),
            request_id=request.request_id,
            state=swap_pb2.SWAP_STATE_FUNDED,
            asset_id=request.asset_id,
            asset_amount=request.asset_amount,
            fee_subsidy_sats=SUBSIDY_SATS,
            total_price_msat=PRICE_MSAT,
            min_funding_confs=request.min_funding_confs,
            buyer_claim_address=request.buyer_claim_address,
            payment_hash=payment_hash.hex(),
            seller_key_hash=seller_key_hash.hex(),
            refund_lock_height=height,
            witness_script=script,
            funding_txid=txid,
            asset_vout=2,
            subsidy_vout=3,
            bolt11=invoice(payment_hash),
            max_ln_cltv_blocks=144,
        )
        self.tamper(swap)
        return swap

    def seen(self, swap: swap_pb2.Swap) -> swap_pb2.Swap:
        """What the seller tells of it."""
        seen = swap_pb2.Swap()
        seen.CopyFrom(swap)
        if self.funded_after_reads > 0:
            seen.state, seen.bolt11 = swap_pb2.SWAP_STATE_CREATED, ""
        elif swap.state == swap_pb2.SWAP_STATE_FUNDED and self.chain.spender(
            swap.funding_txid, swap.asset_vout
        ):
            seen.state = swap_pb2.SWAP_STATE_CLAIMED
        self.tell(seen)
        return seen


def read_invoice(text: str) -> bytes:
    """Payment hash of an invoice, read with the lab's code."""
    return bytes.fromhex(bolt11.decode(text).payment_hash)


def _preimage(index: int) -> bytes:
    return hashlib.sha256(b"preimage %d" % index).digest()


def invoice(
    payment_hash: bytes,
    *,
    amount_msat: int | None = PRICE_MSAT,
    created_at: int = START_TIME,
    key: PrivateKey = NODE_KEY,
    cltv_blocks: int = 18,
) -> str:
    """An invoice as Core Lightning writes it."""
    return bolt11.encode(
        key,
        amount_msat=amount_msat,
        created_at=created_at,
        payment_hash=payment_hash,
        payment_secret=bytes(32),
        description="swap",
        hash_description=False,
        expiry_secs=600,
        min_final_cltv_blocks=cltv_blocks,
    )


def anyone_spends(
    coins: Sequence[tuple[str, int]],
    outputs: Sequence[tuple[bytes, str, int]],
    *,
    fee_sats: int = 1_000,
    bare: bool = False,
    issue: int | None = None,
) -> bytes:
    """A transaction that spends outputs of OP_TRUE, in P2WSH or bare; `issue` units of an asset."""
    inputs = []
    for txid, vout in coins:
        spending = LTransactionInput(bytes.fromhex(txid), vout, Script(b""))
        if not bare:
            spending.witness = TxInWitness(script_witness=Witness([OP_TRUE]))
        inputs.append(spending)
    if issue is not None:
        inputs[0].asset_issuance = AssetIssuance(None, None, issue)
    return bytes(
        LTransaction(
            version=2,
            vin=inputs,
            vout=[
                LTransactionOutput(bytes.fromhex(asset)[::-1], value, Script(script))
                for script, asset, value in [*outputs, (b"", POLICY_ASSET, fee_sats)]
            ],
            locktime=0,
        ).serialize()
    )


def _stock(chain: EmbeddedChain) -> tuple[str, str]:
    """Txid with a million units of a new asset (output 0) and a million sat (output 1); asset."""
    chain.generate()
    free = chain.coins_with_script(OP_TRUE)[0]
    small = 3_000_000
    split = chain.submit(
        anyone_spends(
            [(free.txid, free.vout)],
            [
                (FAUCET_SCRIPT, POLICY_ASSET, small),
                (FAUCET_SCRIPT, POLICY_ASSET, free.value - small - 1_000),
            ],
            bare=True,
        )
    )
    asset_id = asset_id_of(split, 0)
    stock = chain.submit(
        anyone_spends(
            [(split, 0)],
            [
                (FAUCET_SCRIPT, asset_id, 1_000_000),
                (FAUCET_SCRIPT, POLICY_ASSET, 1_000_000),
                (FAUCET_SCRIPT, POLICY_ASSET, small - 1_000_000 - 1_000),
            ],
            issue=1_000_000,
        )
    )
    chain.generate()
    return stock, asset_id
