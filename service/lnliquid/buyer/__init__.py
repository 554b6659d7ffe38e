"""Buying an asset: the library behind `lnliquid buy`.

`connect` opens the backends and gives a `Buyer`; `verify` and `verify_offline` are pure and need
none. What goes wrong is raised as a kind of `BuyerError`, `BackendError` or `SettingsError`.
`docs/examples/buy.py` is a whole program.
"""

from lnliquid.buyer.checks import Check, Evidence, Expectations, FundingView, SwapReply, Verdict
from lnliquid.buyer.client import (
    Buyer,
    Outcome,
    connect,
    new_request_id,
    offered_hold,
    quote_msat,
)
from lnliquid.buyer.errors import (
    AssetLost,
    BuyerError,
    HashChanged,
    OrderDiffers,
    OtherNode,
    OtherWallet,
    PaymentFailed,
    SellerDeclined,
    SellerUnavailable,
    SwapBusy,
    TooLateToPay,
    Unfinished,
    VerdictNotClean,
)
from lnliquid.buyer.journal import Journal, Order, Record, Step
from lnliquid.buyer.offline import KnownTerms, OfflineVerdict, verify_offline
from lnliquid.buyer.purchase import Progress
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.buyer.verify import verify
from lnliquid.domain.errors import BackendError, SettingsError
from lnliquid.domain.swap import Offer

__all__ = [
    "AssetLost",
    "BackendError",
    "Buyer",
    "BuyerError",
    "BuyerSettings",
    "Check",
    "Evidence",
    "Expectations",
    "FundingView",
    "HashChanged",
    "Journal",
    "KnownTerms",
    "Offer",
    "OfflineVerdict",
    "Order",
    "OrderDiffers",
    "OtherNode",
    "OtherWallet",
    "Outcome",
    "PaymentFailed",
    "Progress",
    "Record",
    "SellerDeclined",
    "SellerUnavailable",
    "SettingsError",
    "Step",
    "SwapBusy",
    "SwapReply",
    "TooLateToPay",
    "Unfinished",
    "Verdict",
    "VerdictNotClean",
    "connect",
    "new_request_id",
    "offered_hold",
    "quote_msat",
    "verify",
    "verify_offline",
]
