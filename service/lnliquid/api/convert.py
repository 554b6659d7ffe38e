"""Between the schema's messages and the domain's types."""

from importlib.metadata import version

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.config import Settings
from lnliquid.domain.next_step import Outlook, PayWindow
from lnliquid.domain.price import Price
from lnliquid.domain.swap import Coin, Event, InvoiceMark, Offer, Request, State, Swap
from lnliquid.domain.timelock import LIQUID_BLOCK_SECS, LightningChain, mean_block_secs
from lnliquid.domain.withdrawal import Order, Withdrawal
from lnliquid.metrics.backends import Backend
from lnliquid.seller.operator import Holding
from lnliquid.seller.overview import Status
from lnliquid.watchers.observe import witness_script


def request_from(message: pb.CreateSwapRequest) -> Request:
    """The domain's request. UUIDs are compared without regard to case."""
    return Request(
        request_id=message.request_id.lower(),
        asset_id=message.asset_id,
        asset_amount=message.asset_amount,
        buyer_claim_address=message.buyer_claim_address,
        min_funding_confs=message.min_funding_confs,
        max_total_price_msat=message.max_total_price_msat,
    )


def offer_to(offer: Offer, chain: LightningChain) -> pb.Offer:
    """The offer as a message. `chain`: the one that carries the seller's channels."""
    return pb.Offer(
        network=offer.network,
        asset_id=offer.asset_id,
        asset_precision=offer.asset_precision,
        price_msat_per_asset_unit=offer.price_msat_per_asset_unit,
        price_valid_until=offer.price_valid_until,
        min_swap_amount=offer.min_swap_amount,
        max_swap_amount=offer.max_swap_amount,
        available_amount=offer.available_amount,
        fee_subsidy_sats=offer.fee_subsidy_sats,
        refund_delta_blocks=offer.refund_delta_blocks,
        invoice_expiry_secs=offer.invoice_expiry_secs,
        max_min_funding_confs=offer.max_min_funding_confs,
        max_ln_cltv_blocks=offer.max_ln_cltv_blocks,
        claim_margin_blocks=offer.claim_margin_blocks,
        liquid_block_secs=LIQUID_BLOCK_SECS,
        lightning_block_secs=mean_block_secs(chain),
        lightning_node_id=offer.lightning_node_id,
    )


def swap_to(swap: Swap, window: PayWindow) -> pb.Swap:
    """The swap as a message. Its invoice is shown from FUNDED on (rule 3) until it is closed."""
    message = pb.Swap(
        swap_id=swap.swap_id,
        request_id=swap.request_id,
        state=pb.SwapState.ValueType(swap.state),
        asset_id=swap.asset_id,
        asset_amount=swap.asset_amount,
        fee_subsidy_sats=swap.subsidy_sats,
        total_price_msat=swap.total_price_msat,
        min_funding_confs=swap.min_funding_confs,
        buyer_claim_address=swap.buyer_claim_address,
        payment_hash=swap.payment_hash.hex(),
        seller_key_hash=swap.seller_key_hash.hex(),
        max_ln_cltv_blocks=swap.max_ln_cltv_blocks,
        spend_txid=swap.spend_txid or "",
        is_final=swap.finished,
        created_at=swap.created_at,
        payable_until_height=window.last_height,
        payment_closed=window.is_over,
    )
    if swap.funding_txid is not None:
        message.funding_txid = swap.funding_txid
        message.refund_lock_height = swap.refund_lock_height or 0
        message.asset_vout = swap.asset_vout or 0
        message.subsidy_vout = swap.subsidy_vout or 0
        message.witness_script = witness_script(swap)
    payable = swap.invoice_mark in (InvoiceMark.NONE, InvoiceMark.ASKED, InvoiceMark.PAID)
    if swap.bolt11 is not None and swap.state is not State.CREATED and payable:
        message.bolt11 = swap.bolt11
        message.invoice_expires_at = swap.invoice_expires_at or 0
    return message


def operator_swap_to(swap: Swap, window: PayWindow, ahead: Outlook | None) -> pb.OperatorSwap:
    """The swap with what only the operator is shown."""
    message = pb.OperatorSwap(
        swap=swap_to(swap, window),
        paid_unclaimed=swap.paid_unclaimed,
        forced_refund_reason=swap.forced_refund_reason or "",
    )
    if ahead is not None:
        message.outlook.CopyFrom(
            pb.Outlook(
                awaited=ahead.awaited,
                actor=pb.Actor.ValueType(ahead.actor),
                by_height=max(0, ahead.by_height or 0),
                otherwise=ahead.otherwise,
            )
        )
    return message


def holding_to(held: Holding) -> pb.AssetInventory:
    """What is held of one asset, as a message."""
    price = held.price or Price(0)
    return pb.AssetInventory(
        asset_id=held.asset_id,
        available=held.available,
        reserved=held.reserved,
        locked=held.locked,
        coins=held.coins,
        lanes=held.lanes,
        lanes_wanted=held.lanes_wanted,
        price_msat_per_asset_unit=price.msat_per_unit,
        price_valid_until=price.valid_until or 0,
        price_set_at=price.set_at or 0,
    )


def backend_to(backend: Backend, breaker: str) -> pb.Backend:
    """The record of a node, as a message."""
    return pb.Backend(
        name=backend.name,
        is_up=backend.is_up,
        height=backend.height,
        lag_secs=backend.lag_secs,
        calls=backend.calls,
        errors=backend.errors,
        last_error=backend.last_error,
        last_error_at=backend.last_error_at,
        breaker=breaker,
        mean_call_ms=backend.mean_call_ms,
    )


def status_to(status: Status, settings: Settings) -> pb.GetStatusResponse:
    """How the daemon is, as a message."""
    return pb.GetStatusResponse(
        problem=status.problem or "",
        paused=status.paused,
        network=settings.network,
        tip_height=status.tip_height or 0,
        now=status.now,
        started_at=status.started_at,
        version=version("lnliquid"),
        counts=[
            pb.StateCount(
                state=pb.SwapState.ValueType(state), swaps=status.counts.by_state.get(state, 0)
            )
            for state in State
        ],
        unfinished=status.counts.unfinished,
        paid_unclaimed=status.counts.paid_unclaimed,
        backends=[backend_to(b, status.breakers[b.name]) for b in status.backends],
        assets=[holding_to(h) for h in status.holdings],
        asset_precision=settings.asset_precision,
        events=[pb.StatusEvent(swap_id=e.swap_id, event=event_to(e)) for e in status.events],
        deadlines=[operator_swap_to(*seen) for seen in status.deadlines],
    )


def event_to(event: Event) -> pb.SwapEvent:
    """An event as a message."""
    return pb.SwapEvent(
        seq=event.seq,
        from_state=pb.SwapState.ValueType(event.from_state or 0),
        to_state=pb.SwapState.ValueType(event.to_state),
        cause=event.cause,
        txid=event.txid or "",
        height=event.height or 0,
        at=event.at,
    )


def order_from(message: pb.WithdrawRequest) -> Order:
    """The order of a withdrawal. UUIDs are compared without regard to case."""
    return Order(
        message.request_id.lower(), message.asset_id, message.amount or None, message.address
    )


def withdrawal_to(withdrawal: Withdrawal) -> pb.Withdrawal:
    """A withdrawal as a message."""
    state = pb.WithdrawalState.WITHDRAWAL_STATE_SENT
    if withdrawal.is_abandoned:
        state = pb.WithdrawalState.WITHDRAWAL_STATE_ABANDONED
    elif withdrawal.height is not None:
        state = pb.WithdrawalState.WITHDRAWAL_STATE_CONFIRMED
    return pb.Withdrawal(
        request_id=withdrawal.order.request_id,
        asset_id=withdrawal.order.asset_id,
        amount=withdrawal.amount,
        address=withdrawal.order.address,
        txid=withdrawal.txid,
        fee_sats=withdrawal.fee_sats,
        state=state,
        height=withdrawal.height or 0,
        created_at=withdrawal.created_at,
    )


def deposit_to(coin: Coin, address: str) -> pb.Deposit:
    """A coin at a receive address, as a message."""
    return pb.Deposit(
        txid=coin.outpoint.txid,
        vout=coin.outpoint.vout,
        asset_id=coin.asset_id,
        amount=coin.value,
        address=address,
        height=coin.height or 0,
    )
