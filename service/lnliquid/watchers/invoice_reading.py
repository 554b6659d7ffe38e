"""Reading many invoices of a node that answers one call at a time, fast or slowly."""

import asyncio
import math
from collections.abc import Sequence

from lnliquid.domain.errors import BackendError, BackendUnavailable
from lnliquid.domain.ports import Invoice, SellerLightning

AT_ONCE = 4
"""Calls under way at once: more would take the node's time and the client's threads from others."""


async def read_invoices(
    lightning: SellerLightning, labels: Sequence[str], within_secs: float = math.inf
) -> dict[str, Invoice | BackendError]:
    """What Lightning said of each label, in this order; missing are those that were not asked.

    No call begins after `within_secs`, or once the node turned out to be down. One call a label:
    the node may hold far more invoices of others than are asked for here, and only a label is
    looked up by an index.
    """
    answers: dict[str, Invoice | BackendError] = {}
    clock = asyncio.get_running_loop().time
    ends = clock() + within_secs
    left = iter(dict.fromkeys(labels))
    is_down = False

    async def ask() -> None:
        nonlocal is_down
        while not is_down and clock() < ends and (label := next(left, None)) is not None:
            try:
                answers[label] = await lightning.invoice(label)
            except BackendError as error:
                answers[label] = error
                is_down = is_down or isinstance(error, BackendUnavailable)

    # Every call is waited for, also when one of them fails: none may go on after this.
    for result in await asyncio.gather(*(ask() for _ in range(AT_ONCE)), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    return answers


async def every_invoice(lightning: SellerLightning, labels: Sequence[str]) -> dict[str, Invoice]:
    """All of them, however long it takes. Raises `BackendError` when one cannot be read."""
    found: dict[str, Invoice] = {}
    for label, answer in (await read_invoices(lightning, labels)).items():
        if isinstance(answer, BackendError):
            raise answer
        found[label] = answer
    return found
