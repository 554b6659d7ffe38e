"""What a buyer can run into, each with a message for a person and an exit code for a script."""

from lnliquid.buyer.checks import Verdict
from lnliquid.domain.errors import (
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    EXIT_UNFINISHED,
    EXIT_USAGE,
    KnownError,
)


class BuyerError(KnownError):
    """The purchase did not go as asked. No message holds a preimage or a key."""

    exit_code = EXIT_FAILED


class SwapBusy(BuyerError):
    """Another process works on this swap."""

    exit_code = EXIT_UNFINISHED

    def __init__(self, request_id: str) -> None:
        super().__init__(f"another process is working on {request_id}; wait for it to end")


class WrongUsage(BuyerError):
    """An id, a directory or a file that was given cannot be used."""

    exit_code = EXIT_USAGE


class OrderDiffers(WrongUsage):
    """The request id is in the journal with another order."""

    def __init__(self, request_id: str, fields: tuple[str, ...]) -> None:
        super().__init__(
            f"request id {request_id} was used with another {', '.join(fields)}; leave "
            "--request-id out to buy again"
        )


class SellerDeclined(BuyerError):
    """The seller answered no. `code` is the gRPC status; nothing is locked and nothing is paid."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the seller declines ({code}): {message}")
        self.code = code


class SellerUnavailable(BuyerError):
    """The seller cannot be reached, or cannot serve now. What was asked may have been done."""

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, seller: str, message: str) -> None:
        super().__init__(f"the seller at {seller} is not available: {message}")


class VerdictNotClean(BuyerError):
    """The checks found something wrong; nothing is paid."""

    def __init__(self, verdict: Verdict) -> None:
        names = ", ".join(check.name for check in verdict.failed)
        super().__init__(f"nothing was paid, because these checks failed: {names}")
        self.verdict = verdict


class HashChanged(BuyerError):
    """The seller tells of another payment hash than before for the same swap: it is not paid."""

    def __init__(self, before: str, now: str) -> None:
        super().__init__(
            f"nothing more is paid: the seller changed the payment hash of this swap from {before} "
            f"to {now}, and a payment of the first may still go through; look at your node's "
            "`listpays`"
        )


class TooLateToPay(BuyerError):
    """Too few blocks are left to pay this swap; no invoice of it will come."""

    def __init__(self, request_id: str, why: str, refund_lock_height: int) -> None:
        lock = f" at block {refund_lock_height}" if refund_lock_height else ""
        super().__init__(
            f"it is too late to pay {request_id}: {why}; the asset goes back to the seller{lock}; "
            "buy again without --request-id"
        )


class OtherNode(WrongUsage):
    """The payment was started on another Lightning node, which alone can tell what came of it."""

    def __init__(self, request_id: str, paying_node_id: str, node_id: str) -> None:
        super().__init__(
            f"{request_id} is being paid, or was, by the Lightning node {paying_node_id}, and "
            f"--lightning-rpc leads to {node_id}: with another node it could be paid twice"
        )


class OtherWallet(WrongUsage):
    """The mnemonic or the network is not the one that the purchase was ordered with."""


class PaymentFailed(BuyerError):
    """Lightning could not pay; no money left. The swap can still be resumed while it lasts."""

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(
            f"the payment failed and nothing was paid: {why}; once that is solved, "
            f"`lnliquid resume {request_id}` checks everything again and pays"
        )


class Unfinished(BuyerError):
    """Something takes longer than this process waits. Everything needed to go on is stored."""

    exit_code = EXIT_UNFINISHED

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(f"{why}; go on with `lnliquid resume {request_id}`")


class AssetLost(BuyerError):
    """Paid, but the seller's refund took the asset."""

    def __init__(self, request_id: str, refund_txid: str) -> None:
        super().__init__(
            f"paid but not received: the seller's refund {refund_txid} took the asset of "
            f"{request_id} before the claim; ask the seller for it, the journal is your proof"
        )
