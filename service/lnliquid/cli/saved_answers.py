"""Reading what a buyer has saved: a seller's answer, an offer, a raw transaction.

A swap comes in one of two forms: protobuf JSON of the schema, as `grpcurl` prints it (`Swap` alone,
or an answer with the field `swap`), or what `lnliquid buy`, `show` and `resume` print with
`--json`. Both are read through the schema, so a value of a wrong kind or size is noticed here.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer import KnownTerms, Offer, SwapReply
from lnliquid.buyer.answers import from_printed, read, read_offer, read_swap
from lnliquid.buyer.errors import WrongUsage


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell what is wrong with a value that is read from this file."""
    try:
        yield
    except ValueError as error:
        raise WrongUsage(f"{path}: {error}") from None


def answer_in(path: Path) -> tuple[SwapReply, KnownTerms | None]:
    """The swap of a file in either form, and the buyer's terms where those stand beside it.

    Raises `WrongUsage`.
    """
    values = _json_object(path)
    if "order" in values and "claim_address" in values:
        return _purchase(path, values)
    with _reading(path):
        swap = read_swap(values.get("swap", values))
    if not swap.swap_id:
        raise WrongUsage(f"{path}: it holds no swap; save what GetSwap or CreateSwap answers")
    return swap, None


def offer_in(path: Path) -> Offer:
    """The offer that GetOffer or `lnliquid offer --json` printed. Raises `WrongUsage`."""
    values = _json_object(path)
    with _reading(path):
        offer = read_offer(values.get("offer", values))
    if not offer.lightning_node_id:
        raise WrongUsage(f"{path}: it holds no offer; save what GetOffer answers")
    return offer


def transaction_in(path: Path) -> bytes:
    """A raw transaction in hex; white space does not matter. Raises `WrongUsage`."""
    try:
        return bytes.fromhex("".join(_text(path).split()))
    except ValueError:
        raise WrongUsage(f"{path}: it is not a raw transaction in hex") from None


def _purchase(path: Path, values: dict[str, Any]) -> tuple[SwapReply, KnownTerms]:
    """What our own commands print: the buyer's order stands beside the seller's reply."""
    if not values.get("swap"):
        raise WrongUsage(f"{path}: the seller had not replied yet when this was saved")
    try:
        swap, order = from_printed(values["swap"]), values["order"]
        request = {
            "request_id": order["request_id"],
            "asset_id": order["asset_id"],
            "asset_amount": order["amount"],
            "max_total_price_msat": order["max_price_msat"],
            "min_funding_confs": order["min_confs"],
            "buyer_claim_address": values["claim_address"],
        }
        network, offer = str(values["network"]), values["offer"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongUsage(f"{path}: it is damaged: {type(error).__name__} {error}") from None
    with _reading(path):
        asked = read(request, pb.CreateSwapRequest())  # which checks kinds and sizes of the values
        terms = KnownTerms(
            network=network,
            offer=read_offer(offer),
            request_id=asked.request_id,
            asset_id=asked.asset_id,
            amount=asked.asset_amount,
            max_price_msat=asked.max_total_price_msat,
            min_confs=asked.min_funding_confs,
            claim_address=asked.buyer_claim_address,
        )
        return read_swap(swap), terms


def _json_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(_text(path))
    except (ValueError, RecursionError):
        raise WrongUsage(f"{path}: it is not JSON") from None
    if not isinstance(values, dict):
        raise WrongUsage(f"{path}: it is not a JSON object")
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except ValueError:
        raise WrongUsage(f"{path}: it is not text") from None
