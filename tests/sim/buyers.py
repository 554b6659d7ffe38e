"""Buyers: what they ask for, pay and claim, from what the API showed and their own keys."""

from dataclasses import dataclass, field, replace

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.nodes.embedded.lightning.bolt11 import decode
from lnliquid.api import convert
from lnliquid.domain import htlc
from lnliquid.domain.next_step import PayWindow
from lnliquid.domain.swap import Outpoint, Request, Swap
from lnliquid.domain.timelock import Timelocks
from lnliquid.liquid import tx_builder
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import RECEIVE, Keychain
from lnliquid.liquid.networks import REGTEST

from .ground import ASSET, LBTC, OP_TRUE, Ground
from .lightning_side import Node

BUYER_WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
KEYS = Keychain(BUYER_WORDS, REGTEST)
DEAR_MSAT = 10**12


@dataclass
class Deal:
    """One buyer's business. `number` is its key index; `message` what the API showed last."""

    number: int
    request: Request
    careful: bool
    """Checks chain and heights before it pays; another one pays whenever it can."""
    claims: bool
    """Claims what it paid for; another one never does."""
    late: bool = False
    """Pays only when the invoice is about to be closed, or could be already."""
    swap_id: str | None = None
    message: pb.Swap | None = None
    row_seen: object = None
    """The stored row, as it was when the API showed it last."""
    shown: set[str] = field(default_factory=set)
    """Every invoice that the API showed."""
    holding_until: int | None = None
    """A payment of it is held by the node, at most to this height."""
    preimage: bytes | None = None
    claim_txids: list[str] = field(default_factory=list)

    @property
    def paid(self) -> bool:
        """True once the seller's node took the payment."""
        return self.preimage is not None

    @property
    def name(self) -> str:
        """How the trace calls it."""
        return f"deal {self.number}"

    def see(self, message: pb.Swap) -> None:
        """Remember what the API showed."""
        self.message = message
        if message.bolt11:
            self.shown.add(message.bolt11)

    @property
    def outpoints(self) -> tuple[tuple[str, int], tuple[str, int]] | None:
        """Asset and subsidy output, as the API shows them."""
        if self.message is None or not self.message.funding_txid:
            return None
        m = self.message
        return (m.funding_txid, m.asset_vout), (m.funding_txid, m.subsidy_vout)


def new_deal(
    number: int, amount: int, confs: int, *, careful: bool, claims: bool, late: bool = False
) -> Deal:
    """A buyer with a key and a request of its own."""
    request = Request(
        request_id=f"00000000-0000-4000-8000-{number:012d}",
        asset_id=ASSET,
        asset_amount=amount,
        buyer_claim_address=p2wpkh_address(KEYS.wallet_key(RECEIVE, number).key_hash, REGTEST),
        min_funding_confs=confs,
        max_total_price_msat=DEAR_MSAT,
    )
    return Deal(number, request, careful, claims, late)


def shown(swap: Swap) -> pb.Swap:
    """A swap as the API tells it, with no time after which it cannot be paid."""
    return convert.swap_to(swap, PayWindow(0, is_over=False))


def wants_to_pay(deal: Deal, ground: Ground, timelocks: Timelocks, now: int) -> str | None:
    """The invoice that this buyer would pay now, None when it would not."""
    if deal.paid or deal.holding_until is not None or deal.message is None:
        return None
    bolt11 = deal.message.bolt11
    if not bolt11 or decode(bolt11).expires_at < now:
        return None
    left = deal.message.refund_lock_height - ground.chain.tip_height
    least = timelocks.blocks_to_pay_and_claim
    if deal.late and left > least + 1:
        return None
    if not deal.careful:
        return bolt11
    message, outpoints = deal.message, deal.outpoints
    if outpoints is None or ground.confirmations(outpoints[0][0]) < message.min_funding_confs:
        return None
    if any(ground.chain.coin(*outpoint) is None for outpoint in outpoints):
        return None
    return bolt11 if left >= least else None


def start_payment(deal: Deal, node: Node, height: int, hold_blocks: int) -> str:
    """Offer the HTLC to the seller's node; held until `settle_payment`."""
    assert deal.message is not None
    if node.working and node.accepts(bytes.fromhex(deal.message.payment_hash)) is None:
        return "refused"
    deal.holding_until = height + hold_blocks
    return "offered"


def settle_payment(deal: Deal, node: Node, height: int) -> str:
    """Let the node take the held payment, or give it back."""
    assert deal.message is not None
    assert deal.holding_until is not None
    if height >= deal.holding_until:
        deal.holding_until = None
        return "timed out"
    if not node.working:
        return "held"
    deal.holding_until = None
    deal.preimage = node.settle(bytes.fromhex(deal.message.payment_hash))
    return "refused" if deal.preimage is None else "paid"


def claim(
    deal: Deal, ground: Ground, outputs: str, rate_sats_per_kvb: int, *, final: bool
) -> bytes | None:
    """A claim of "both", "asset" or "subsidy"; None when the outputs are not there."""
    if deal.preimage is None or deal.message is None or deal.outpoints is None:
        return None
    message = deal.message
    key = KEYS.wallet_key(RECEIVE, deal.number)
    script = htlc.p2wpkh_script(key.key_hash)
    asset_at, subsidy_at = (Outpoint(*outpoint) for outpoint in deal.outpoints)

    def spend(outpoint: Outpoint, value: int) -> tx_builder.Spend:
        assert deal.preimage is not None
        made = tx_builder.claim_spend(outpoint, value, key, message.witness_script, deal.preimage)
        return made if final else replace(made, sequence=tx_builder.SEQUENCE_REPLACEABLE)

    asset_spend = spend(asset_at, message.asset_amount)
    subsidy_spend = spend(subsidy_at, message.fee_subsidy_sats)
    if outputs == "both":
        return tx_builder.claim(
            spends=[asset_spend, subsidy_spend],
            asset_id=ASSET,
            asset_amount=message.asset_amount,
            subsidy_sats=message.fee_subsidy_sats,
            script_pubkey=script,
            policy_asset=LBTC,
            rate_sats_per_kvb=rate_sats_per_kvb,
        ).raw
    fee = 400
    if outputs == "subsidy":
        rest = tx_builder.Output(script, LBTC, message.fee_subsidy_sats - fee)
        return tx_builder.sign([subsidy_spend], [rest], policy_asset=LBTC, fee=fee).raw
    coin = ground.mint(LBTC, fee)
    bank = tx_builder.Spend(
        Outpoint(coin.txid, coin.vout),
        fee,
        tx_builder.SEQUENCE_FINAL if final else tx_builder.SEQUENCE_REPLACEABLE,
        key,
        OP_TRUE,
        lambda _signature: [OP_TRUE],
    )
    pays = [tx_builder.Output(script, ASSET, message.asset_amount)]
    return tx_builder.sign([asset_spend, bank], pays, policy_asset=LBTC, fee=fee).raw
