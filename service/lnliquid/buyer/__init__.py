"""Buying an asset: the library behind `lnliquid buy`.

`connect` opens the backends and gives a `Buyer`; `verify` alone is pure and needs none.
"""

from lnliquid.buyer.client import Buyer, Outcome, new_request_id, quote_msat
from lnliquid.buyer.errors import BuyerError
from lnliquid.buyer.facts import Check, Expectations, FundingView, SwapReply, Verdict
from lnliquid.buyer.journal import Journal, Order, Record, Step
from lnliquid.buyer.session import connect
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.buyer.verify import verify
from lnliquid.buyer.work import Progress

__all__ = [
    "Buyer",
    "BuyerError",
    "BuyerSettings",
    "Check",
    "Expectations",
    "FundingView",
    "Journal",
    "Order",
    "Outcome",
    "Progress",
    "Record",
    "Step",
    "SwapReply",
    "Verdict",
    "connect",
    "new_request_id",
    "quote_msat",
    "verify",
]
