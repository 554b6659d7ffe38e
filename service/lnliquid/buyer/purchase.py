"""One purchase in progress: its record, the backends, and how to wait."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lnliquid.buyer.checks import SwapReply
from lnliquid.buyer.errors import SellerUnavailable, Unfinished
from lnliquid.buyer.journal import Journal, Record
from lnliquid.buyer.seller import SellerClient
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.domain.errors import BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import BuyerLightning, Chain, Clock
from lnliquid.domain.swap import Offer
from lnliquid.liquid.keys import RECEIVE, Key, Keychain

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Progress:
    """A line for the person: the step in one word, and a sentence."""

    step: str
    text: str


@dataclass(kw_only=True)
class Parts:
    """What a buyer works with, in each of its purchases."""

    settings: BuyerSettings
    journal: Journal
    keys: Keychain
    seller: SellerClient
    chain: Chain
    lightning: BuyerLightning
    clock: Clock
    on_progress: Callable[[Progress], None]


@dataclass(kw_only=True)
class Purchase(Parts):
    """One purchase, as its steps share it. The record is only changed through `save`."""

    record: Record

    @property
    def request_id(self) -> str:
        """Names the purchase in the journal."""
        return self.record.order.request_id

    @property
    def offer(self) -> Offer:
        """The offer that the order was made on."""
        return self.record.terms

    @property
    def swap(self) -> SwapReply:
        """The seller's last reply; only from the step CREATED on."""
        if self.record.reply is None:
            raise LookupError("the seller has not replied yet")
        return self.record.reply

    @property
    def key(self) -> Key:
        """The key that claims."""
        return self.keys.wallet_key(RECEIVE, self.record.key_index)

    def say(self, step: str, text: str) -> None:
        """Announce progress."""
        self.on_progress(Progress(step, text))

    def save(self, **changes: Any) -> None:
        """Change the record and store it durably, before anything that relies on it is done."""
        for name, value in changes.items():
            setattr(self.record, name, value)
        self.journal.save(self.record)

    async def until(self, what: str, probe: Callable[[], Awaitable[Found | None]]) -> Found:
        """Repeat `probe` until it finds something. `what` completes "still waiting for …".

        A backend or seller that is away is asked again for `outage_secs`, or `unpaid_outage_secs`
        while nothing is paid, then its error is raised; after `wait_secs` in all `Unfinished` is.
        """
        now = asyncio.get_running_loop().time
        ends = now() + self.settings.wait_secs
        outage_ends: float | None = None
        while True:
            try:
                found = await probe()
            except (SellerUnavailable, BackendUnavailable, BackendTimeout) as error:
                if outage_ends is None:
                    outage_ends = now() + self.patience_secs
                    self.say("wait", f"{error}; trying again")
                if now() >= outage_ends:
                    raise
            else:
                outage_ends = None
                if found is not None:
                    return found
            if now() >= ends:
                raise Unfinished(self.request_id, f"still waiting for {what}")
            await asyncio.sleep(self.settings.poll_secs)

    @property
    def patience_secs(self) -> float:
        """For how long an outage is waited out; shorter while nothing is paid."""
        unpaid = self.settings.unpaid_outage_secs
        if unpaid is None or self.record.step.may_be_paid:
            return self.settings.outage_secs
        return unpaid
