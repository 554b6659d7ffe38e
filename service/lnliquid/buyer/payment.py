"""Paying the invoice exactly once.

`pay` is called only right after a clean verdict, and only when no earlier payment can still be
under way: after a crash or a time-out the payment hash is looked up first, and a payment that the
node may still be trying is waited for.
"""

import hashlib

from lnliquid.buyer.errors import BuyerError, OtherNode, PaymentFailed
from lnliquid.buyer.journal import Step
from lnliquid.buyer.purchase import Purchase
from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import Payment, PaymentStatus


async def pay(purchase: Purchase) -> None:
    """CREATED, with a clean verdict of this moment → PAYING → PAID, if the node says so at once.

    `max_delay_blocks` of the record is the one that the verdict was made with.

    Stays PAYING when the outcome is unknown. Raises `PaymentFailed` when it is known to be none.
    """
    record, swap = purchase.record, purchase.swap
    node = await purchase.lightning.info()
    purchase.save(
        step=Step.PAYING,
        paying_until=purchase.clock.now() + purchase.settings.pay_patience_secs,
        paying_node_id=node.node_id,
        may_be_paid_late=True,
    )
    purchase.say(
        "pay",
        f"paying {swap.total_price_msat} msat over Lightning; it can be held for {record.hold}",
    )
    try:
        payment = await purchase.lightning.pay(
            swap.bolt11,
            max_delay_blocks=record.max_delay_blocks,
            max_fee_msat=record.order.max_fee_msat,
            wait_secs=purchase.settings.pay_wait_secs,
        )
    except BackendUnavailable:
        _nothing_paid(purchase)  # the node never got the request
        raise
    except BackendTimeout as timeout:
        purchase.say("pay", f"{timeout}; the payment may be under way")
        return
    except BackendRejected as rejected:
        payment = Payment(PaymentStatus.FAILED, failure=rejected.message)
    if payment.status is PaymentStatus.COMPLETE:
        take_preimage(purchase, payment)
    elif payment.status is PaymentStatus.FAILED:
        await _after_failure(purchase, payment)


async def _after_failure(purchase: Purchase, failed: Payment) -> None:
    """The node gave up: believe it only when the look-up says the same."""
    seen = await purchase.lightning.payment(bytes.fromhex(purchase.swap.payment_hash))
    match seen.status:
        case PaymentStatus.COMPLETE:
            take_preimage(purchase, seen)
        case PaymentStatus.PENDING:
            purchase.say("pay", "a part of the payment is still under way")
        case PaymentStatus.FAILED | PaymentStatus.ABSENT:
            why = failed.failure or seen.failure or "no reason given"
            _nothing_paid(purchase, why)
            raise PaymentFailed(purchase.request_id, why)


async def look_up(purchase: Purchase) -> None:
    """PAYING → PAID when the payment is complete, → CREATED when it is known that there is none.

    Waits while it is pending, and as long as the node may still be trying.
    """
    wait_secs = max(0, purchase.record.paying_until - purchase.clock.now())
    purchase.say(
        "pay",
        "looking up what became of the payment"
        + (f"; the node may be trying for another {wait_secs} s" if wait_secs else ""),
    )
    payment_hash = bytes.fromhex(purchase.swap.payment_hash)

    async def outcome() -> Payment | None:
        node = await purchase.lightning.info()
        if purchase.record.paying_node_id not in ("", node.node_id):
            raise OtherNode(purchase.request_id, purchase.record.paying_node_id, node.node_id)
        payment = await purchase.lightning.payment(payment_hash)
        if payment.status is PaymentStatus.PENDING:
            return None
        if payment.status is PaymentStatus.COMPLETE:
            return payment
        return payment if purchase.clock.now() >= purchase.record.paying_until else None

    payment = await purchase.until("the payment", outcome)
    if payment.status is PaymentStatus.COMPLETE:
        take_preimage(purchase, payment)
    else:
        _nothing_paid(purchase)
        purchase.say("pay", "nothing was paid yet; checking everything again")


async def was_found(purchase: Purchase) -> bool:
    """Does the node know of a payment for this swap? → PAID when complete, PAYING while pending.

    Asked before it is said that nothing was paid, whatever the seller or a check says (money rule
    12): a payment may have gone through late, or was made by hand or by another program.

    Raises the kinds of `BackendError` when the node cannot be asked.
    """
    swap = purchase.swap
    if not swap.payment_hash:
        return False
    payment = await purchase.lightning.payment(bytes.fromhex(swap.payment_hash))
    if payment.status is PaymentStatus.COMPLETE:
        take_preimage(purchase, payment)
    elif payment.status is PaymentStatus.PENDING:
        node = await purchase.lightning.info()
        purchase.save(step=Step.PAYING, paying_node_id=node.node_id)
    return payment.status in (PaymentStatus.COMPLETE, PaymentStatus.PENDING)


def take_from_elsewhere(purchase: Purchase, preimage: bytes) -> None:
    """→ PAID with a preimage that another wallet got. Raises `BuyerError` when it is another's."""
    if hashlib.sha256(preimage).hexdigest() != purchase.swap.payment_hash:
        raise BuyerError(
            f"this is not the preimage of {purchase.request_id}: its payment hash is "
            f"{purchase.swap.payment_hash}"
        )
    take_preimage(purchase, Payment(PaymentStatus.COMPLETE, preimage=preimage))


def _nothing_paid(purchase: Purchase, why: str = "") -> None:
    """PAYING → CREATED: it is known that no payment was made and none is under way."""
    purchase.save(step=Step.CREATED, paying_until=0, paying_node_id="", note=why)


def take_preimage(purchase: Purchase, payment: Payment) -> None:
    """Store the preimage: from here on the asset can be claimed, whatever else is lost."""
    expected = bytes.fromhex(purchase.swap.payment_hash)
    if payment.preimage is None or hashlib.sha256(payment.preimage).digest() != expected:
        raise BuyerError(
            "the Lightning node says that the payment is complete, but what it gives as the "
            f"preimage does not match; the payment hash is {purchase.swap.payment_hash}. "
            f"Look at the node's `listpays`, then `lnliquid resume {purchase.request_id}`"
        )
    purchase.save(
        step=Step.PAID,
        preimage=payment.preimage.hex(),
        amount_sent_msat=payment.amount_sent_msat,
        note="",
    )
    purchase.say("paid", "paid; the preimage is stored")
