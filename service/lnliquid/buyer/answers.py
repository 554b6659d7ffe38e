"""The seller's answers: from the schema to what the checks read, and back from the journal.

Stored is the schema's own JSON. It is read tolerantly, because the program that wrote it may be
older or newer: an unknown field is ignored, a missing one is empty.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer.checks import SwapReply
from lnliquid.domain.swap import Offer, State

M = TypeVar("M", bound=Message)

_STATES = {state.value for state in State}
_RENAMED = {"subsidy_sats": "fee_subsidy_sats", "claim_address": "buyer_claim_address"}
"""Fields of `SwapReply` that have another name in the schema."""


def offer_of(message: pb.Offer) -> Offer:
    """The schema's offer as the domain has it."""
    return Offer(**{field.name: getattr(message, field.name) for field in fields(Offer)})


def swap_of(message: pb.Swap) -> SwapReply:
    """The schema's swap as the checks read it."""
    names = [field.name for field in fields(SwapReply)]
    values = {name: getattr(message, _RENAMED.get(name, name)) for name in names}
    state = State(message.state) if message.state in _STATES else None
    return SwapReply(**values | {"state": state})


def to_json(message: Message) -> dict[str, Any]:
    """The schema's JSON, every field in it."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def offer_to_json(offer: Offer) -> dict[str, Any]:
    """The offer in the schema's JSON."""
    return to_json(pb.Offer(**asdict(offer)))


def read(values: Any, message: M) -> M:
    """Fill a message from the schema's JSON. Raises `ValueError` when it does not fit."""
    if not isinstance(values, dict):
        raise ValueError("it does not fit the schema: an object is needed")
    try:
        return json_format.ParseDict(values, message, ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"it does not fit the schema: {error}") from None


def read_offer(values: Any) -> Offer:
    """An offer from the schema's JSON. Raises `ValueError`."""
    return offer_of(read(values, pb.Offer()))


def read_swap(values: Any) -> SwapReply:
    """A swap from the schema's JSON. Raises `ValueError`."""
    return swap_of(read(values, pb.Swap()))


def from_printed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The schema's JSON of a swap in the form of `SwapReply.to_dict`.

    The commands print that form, and journals of format 1 hold it. Raises `KeyError`, `TypeError`
    and `ValueError` when it is none.
    """
    schema = {_RENAMED.get(name, name): value for name, value in values.items()}
    script, state = bytes.fromhex(schema["witness_script"]), schema["state"]
    return schema | {
        "witness_script": base64.b64encode(script).decode(),
        "state": int(State[state]) if state else 0,
    }
