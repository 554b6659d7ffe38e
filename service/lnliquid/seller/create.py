"""CreateSwap's front half: check, reserve, and wait for what the funder and the watcher do."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain.errors import (
    AssetNotOffered,
    FieldViolation,
    InvalidRequest,
    PriceAboveCap,
    SwapError,
    SwapNotFound,
)
from lnliquid.domain.next_step import PayWindow, pay_window
from lnliquid.domain.price import Price
from lnliquid.domain.swap import Event, Offer, Request, State, Swap
from lnliquid.domain.terms import REFUND_VSIZE, fee_sats, total_price_msat
from lnliquid.domain.timelock import LightningChain
from lnliquid.liquid.address import AddressError, p2wpkh_key_hash
from lnliquid.liquid.keys import Keychain
from lnliquid.metrics.instruments import Instruments
from lnliquid.seller.batch import Gather
from lnliquid.seller.readiness import Readiness
from lnliquid.seller.requests import Requests
from lnliquid.store import coins as coin_store
from lnliquid.store import prices as price_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.swaps import NewSwap
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.wakeups import Notices

log = structlog.get_logger()


class Seller:
    """What a buyer can ask of the daemon."""

    def __init__(
        self,
        database: Database,
        readiness: Readiness,
        funder: Funder,
        keys: Keychain,
        settings: Settings,
        notices: Notices,
        instruments: Instruments | None = None,
    ) -> None:
        self._database = database
        self._readiness = readiness
        self._funder = funder
        self._keys = keys
        self._settings = settings
        self._notices = notices
        self._instruments = instruments or Instruments()
        self._requests = Requests(database)
        self._reserve = Gather(self._reserve_all)
        self._read = Gather(self._read_all)

    @property
    def lightning_chain(self) -> LightningChain:
        """The chain that carries the seller's channels."""
        return self._settings.timelocks.lightning_chain

    async def offer(self, asset_id: str) -> Offer:
        """The terms for this asset now. Raises `AssetNotOffered`, `PriceStale`."""
        self._require_offered(asset_id)
        await self._readiness.problem()  # a buyer comes: look at the nodes, and at this tip
        s = self._settings
        available, price, now = await self._database.read(
            lambda tx: (coin_store.reservable(tx, asset_id), self._price(tx), tx.now)
        )
        price.require_valid(now)
        return Offer(
            network=s.network,
            asset_id=asset_id,
            asset_precision=s.asset_precision,
            price_msat_per_asset_unit=price.msat_per_unit,
            min_swap_amount=s.least_amount_at(price.msat_per_unit),
            max_swap_amount=s.max_swap_amount,
            available_amount=max(0, available),
            fee_subsidy_sats=s.fee_subsidy_sats,
            refund_delta_blocks=s.refund_delta_blocks,
            invoice_expiry_secs=s.invoice_expiry_secs,
            max_min_funding_confs=s.max_min_funding_confs,
            max_ln_cltv_blocks=s.max_ln_cltv_blocks,
            claim_margin_blocks=s.claim_margin_blocks,
            lightning_node_id=await self._readiness.node_id(),
            price_valid_until=price.valid_until or 0,
        )

    async def create_swap(self, request: Request) -> Swap:
        """The swap of this request, new or known, once it is FUNDED or `create_wait` is over.

        Raises the `SwapError` kinds that the schema lists for CreateSwap. A caller that goes away
        after T1 cancels nothing.
        """
        swap = await self._requests.swap_of(request)
        if swap is None:
            began = time.monotonic()
            new = self._new(request)
            self._notices.begin_creating()
            try:
                # A client that hangs up while T1 is on its way does not lose the wake-up.
                swap = await self._reserve(new)
            finally:
                self._notices.end_creating()
            self._instruments.create_secs.observe(time.monotonic() - began)
        return await self._until_payable(swap)

    def _new(self, request: Request) -> NewSwap:
        """What T1 stores, without the price. Raises what is wrong with the request itself."""
        buyer_key_hash = self._check(request)
        s = self._settings
        swap_id = str(uuid.uuid4())
        return NewSwap(
            request=request,
            swap_id=swap_id,
            buyer_key_hash=buyer_key_hash,
            subsidy_sats=s.fee_subsidy_sats,
            fee_share_sats=s.fee_share_sats,
            refund_headroom_sats=fee_sats(REFUND_VSIZE, s.fee_cap_sats_per_kvb),
            max_ln_cltv_blocks=s.max_ln_cltv_blocks,
            policy_asset=self._keys.network.policy_asset,
            max_inflight=s.max_inflight_swaps,
            keys=lambda index: (
                self._keys.payment_hash(index, swap_id),
                self._keys.refund_key(index).key_hash,
            ),
            price_msat=lambda tx: self._total_price(tx, request),
        )

    def _price(self, tx: Transaction) -> Price:
        s = self._settings
        return price_store.at_present(tx, s.asset_id, s.price_msat_per_asset_unit)

    def _total_price(self, tx: Transaction, request: Request) -> int:
        """The price at this moment. Raises `PriceStale`, `InvalidRequest`, `PriceAboveCap`."""
        price, s = self._price(tx), self._settings
        price.require_valid(tx.now)
        least = s.least_amount_at(price.msat_per_unit)
        if not least <= request.asset_amount <= s.max_swap_amount:
            text = f"must be between {least} and {s.max_swap_amount} here"
            raise InvalidRequest((FieldViolation("asset_amount", text),))
        total = total_price_msat(request.asset_amount, price.msat_per_unit, s.asset_precision)
        if total > request.max_total_price_msat:
            raise PriceAboveCap(total, request.max_total_price_msat)
        return total

    async def _reserve_all(self, news: Sequence[NewSwap]) -> Sequence[Swap | SwapError]:
        """T1 for all that came meanwhile: the swap or the refusal of each."""
        costs = await self._database.read(lambda tx: self._estimates(tx, news))
        refusals = await self._readiness.refusals(costs)
        ready = [new for new, refusal in zip(news, refusals, strict=True) if refusal is None]
        if not ready:
            return [refusal for refusal in refusals if refusal is not None]
        reach("create.checked")
        outcomes = iter(
            await self._database.write(lambda tx: swap_store.create_all(tx, ready), on_replica=True)
        )
        return [refusal or self._told(next(outcomes)) for refusal in refusals]

    def _estimates(self, tx: Transaction, news: Sequence[NewSwap]) -> list[int]:
        """What Lightning must be able to receive for each; T1 decides what it costs, and whether.

        Raises `PriceStale`.
        """
        price, precision = self._price(tx), self._settings.asset_precision
        price.require_valid(tx.now)
        requests = [new.request for new in news]
        return [
            min(
                total_price_msat(r.asset_amount, price.msat_per_unit, precision),
                r.max_total_price_msat,
            )
            for r in requests
        ]

    def _told(self, outcome: tuple[Swap, bool] | SwapError) -> Swap | SwapError:
        """Set going what a new swap needs."""
        if isinstance(outcome, SwapError):
            return outcome
        swap, is_new = outcome
        if is_new:
            log.info(
                "swap created",
                **swap.ids,
                amount=swap.asset_amount,
                price_msat=swap.total_price_msat,
            )
            reach("create.reserved")
            self._funder.wake()
        return swap

    async def swap(self, swap_id: str) -> tuple[Swap, list[Event]]:
        """A swap and its event log. Raises `SwapNotFound`."""
        swap, events = await self._database.read(
            lambda tx: (swap_store.get(tx, swap_id), swap_store.events(tx, swap_id))
        )
        if swap is None:
            raise SwapNotFound(swap_id)
        return swap, events

    async def watch(
        self, swap_id: str, after_event: int
    ) -> AsyncGenerator[tuple[Swap, Event | None], None]:
        """The events after this one, then each change; ends when the swap is final.

        The event is None when something else changed. Raises `SwapNotFound`.
        """
        changed = self._notices.subscribe(swap_id)
        shown: Swap | None = None
        try:
            while True:
                changed.clear()
                swap, events = await self.swap(swap_id)
                fresh = [event for event in events if event.seq > after_event]
                for event in fresh:
                    after_event = event.seq
                    yield swap, event
                if not fresh and swap != shown:
                    yield swap, None
                shown = swap
                if swap.finished:
                    return
                await changed.wait()
        finally:
            self._notices.unsubscribe(swap_id, changed)

    async def pay_window(self, swap: Swap) -> PayWindow:
        """Until when this swap can be paid, by the chain and the clock of now."""
        readiness = self._readiness
        tip_height, timelocks = await readiness.tip_height(), self._settings.timelocks
        return pay_window(swap, tip_height, readiness.clock.now(), timelocks)

    async def _until_payable(self, swap: Swap) -> Swap:
        """Wait, at most `create_wait`, until there is an invoice or the swap has moved on."""
        if await self._is_answer(swap):
            return swap
        changed = self._notices.subscribe(swap.swap_id)
        try:
            async with asyncio.timeout(self._settings.create_wait_secs):
                while True:
                    changed.clear()
                    swap = await self._read(swap.swap_id)
                    if await self._is_answer(swap):
                        return swap
                    await changed.wait()
        except TimeoutError:
            return swap
        finally:
            self._notices.unsubscribe(swap.swap_id, changed)

    async def _is_answer(self, swap: Swap) -> bool:
        """True when there is nothing to wait for: it can be paid, or it is over."""
        if (swap.state is State.FUNDED and swap.bolt11 is not None) or swap.state > State.FUNDED:
            return True
        return (await self.pay_window(swap)).is_over

    async def _read_all(self, swap_ids: Sequence[str]) -> list[Swap]:
        wanted = set(swap_ids)
        swaps = await self._database.read(lambda tx: swap_store.get_all(tx, wanted))
        return [swaps[swap_id] for swap_id in swap_ids]

    def _require_offered(self, asset_id: str) -> None:
        if asset_id != self._settings.asset_id:
            raise AssetNotOffered(asset_id)

    def _check(self, request: Request) -> bytes:
        """Check what the schema cannot; returns the buyer's key hash."""
        self._require_offered(request.asset_id)
        s = self._settings
        violations = []
        key_hash = b""
        try:
            key_hash = p2wpkh_key_hash(request.buyer_claim_address, self._keys.network)
        except AddressError as error:
            violations.append(FieldViolation("buyer_claim_address", str(error)))
        least = s.min_swap_amount or 1  # T1 knows the price, and with it the least that pays
        if not least <= request.asset_amount <= s.max_swap_amount:
            text = f"must be between {least} and {s.max_swap_amount} here"
            violations.append(FieldViolation("asset_amount", text))
        if request.min_funding_confs > s.max_min_funding_confs:
            violations.append(
                FieldViolation(
                    "min_funding_confs", f"must be at most {s.max_min_funding_confs} here"
                )
            )
        if violations:
            raise InvalidRequest(tuple(violations))
        return key_hash
