"""The buyer: offer → create → verify → pay → claim, to be resumed after a crash at any point.

A purchase is a row of steps (`journal.Step`). Each has one function, which does its act and stores
the next step; what an act needs is stored before it. So whatever dies in between, running the
function of the stored step goes on from there.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from lnliquid.buyer import claim, payment
from lnliquid.buyer import order as ordering
from lnliquid.buyer.answers import offer_to_json
from lnliquid.buyer.chain_view import read_coins
from lnliquid.buyer.checks import Verdict
from lnliquid.buyer.errors import BuyerError, OrderDiffers, OtherWallet, SellerUnavailable
from lnliquid.buyer.journal import Journal, Order, Record, Step
from lnliquid.buyer.payment import take_from_elsewhere, was_found
from lnliquid.buyer.purchase import Parts, Progress, Purchase
from lnliquid.buyer.seller import SellerClient
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.clock import SystemClock
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.swap import Offer
from lnliquid.domain.terms import total_price_msat
from lnliquid.domain.timelock import (
    CLAIM_MARGIN_BLOCKS,
    Hold,
    LightningChain,
    chain_of_node,
    largest_cltv,
)
from lnliquid.lightning.core_lightning import CoreLightning
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import (
    RECEIVE,
    Keychain,
    read_mnemonic,
    require_native_secp256k1,
    write_mnemonic,
)


class Outcome:
    """How far a purchase has come, without its secrets. Amounts in msat.

    `swap_id`: the seller's name for it, None before the seller has answered. `price_msat`: what the
    seller asks; before it has answered, the most that was agreed to. `paid_msat`: what left the
    Lightning node, routing fees included; None while nothing is known to. `claim_txid`: what spends
    the asset output, None while nothing does. `claimed`: the claim is seen by the network,
    confirmed or not. `verdict`: the checks as last run, None when it did not come to them.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.request_id = record.order.request_id
        self.swap_id = record.reply.swap_id if record.reply else None
        self.step = record.step
        self.price_msat = record.price_msat
        self.paid_msat = record.amount_sent_msat
        self.claim_txid = record.spend_txid or None
        self.claimed = record.step in (Step.CLAIMING, Step.DONE) and bool(record.spend_txid)
        self.verdict = record.checks

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.record.public_dict() | {"claimed": self.claimed}


class Buyer:
    """Buys from one seller, with the buyer's own chain backend, Lightning node and journal.

    `connect` makes one. Methods raise the kinds of `BuyerError` and
    `BackendError`; after any of them `resume` goes on.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.settings = parts.settings
        self.journal = parts.journal

    async def offer(self, asset_id: str) -> Offer:
        """The seller's offer of this asset."""
        return await self.parts.seller.offer(asset_id)

    async def lightning_chain(self) -> LightningChain:
        """The chain that carries the channels of the buyer's own node."""
        return chain_of_node((await self.parts.lightning.info()).network)

    async def buy(
        self, order: Order, *, offer: Offer | None = None, dry_run: bool = False
    ) -> Outcome:
        """Buy, or go on with the purchase of the same request id.

        With `dry_run` the swap is created and checked, and nothing is paid; `buy` without it, with
        the same order, goes on from there. `offer`: the one the order was made on, to save a call.
        """
        with self.journal.lock(order.request_id):
            record = self.journal.find(order.request_id)
            if record is None:
                record = await self._new_record(order, offer)
            elif differing := _differing(record.order, order):
                raise OrderDiffers(order.request_id, differing)
            return await self._run(record, dry_run)

    async def check(self, order: Order, *, offer: Offer | None = None) -> Verdict:
        """Have the swap made and run every check on it; nothing is paid. `buy` then pays.

        Raises `VerdictNotClean`, which holds the verdict, when a check fails.
        """
        outcome = await self.buy(order, offer=offer, dry_run=True)
        if outcome.verdict is None:
            raise BuyerError(f"{order.request_id} ended as {outcome.step.value}, before any check")
        return outcome.verdict

    async def resume(
        self, name: str, *, preimage: bytes | None = None, pay_ended: bool = True
    ) -> Outcome:
        """Go on with a purchase of the journal, a dry run too; an ended one is looked at again.

        `name`: its request id or swap id. `preimage`: from another wallet that paid its invoice.
        Without `pay_ended` one that ended unpaid goes on only if it was paid after all.
        """
        request_id = self.journal.load(name).order.request_id
        with self.journal.lock(request_id):
            record = self.journal.load(request_id)
            if record.step is Step.DONE:
                record.step = Step.CLAIMING  # a reorg may have undone the claim since
            if preimage is not None:
                take_from_elsewhere(self._purchase(record), preimage)
            elif (
                record.step in (Step.REFUSED, Step.DECLINED)
                and not pay_ended
                and not await was_found(self._purchase(record))
            ):
                return Outcome(record)
            return await self._run(record, dry_run=False)

    async def balance(self, asset_id: str) -> int:
        """What the buyer's claim addresses hold of the asset, unconfirmed coins too."""
        coins = await read_coins(self.parts.chain, self.parts.keys, self.journal.index_count())
        return sum(coin.value for coin in coins if coin.asset_id == asset_id)

    async def _new_record(self, order: Order, offer: Offer | None) -> Record:
        """Check what can be checked without the seller, then store the order before it is sent."""
        offer = offer or await self.parts.seller.offer(order.asset_id)
        if offer.network != self.settings.network:
            raise BuyerError(
                f"the seller is on {offer.network}, this buyer on {self.settings.network}"
            )
        if not offer.lightning_node_id:
            # Whether the invoice is the seller's own could never be checked.
            raise SellerUnavailable(
                self.parts.seller.address, "its Lightning node has not answered it"
            )
        price_msat = quote_msat(offer, order.amount)
        if price_msat > order.max_price_msat:
            raise BuyerError(
                f"the price is {price_msat} msat, above your limit of {order.max_price_msat}"
            )
        # Without them the seller's coins would be locked for nothing.
        await self.parts.chain.tip()
        if not offered_hold(offer, order, await self.lightning_chain()).blocks:
            raise BuyerError(
                f"the seller locks for {offer.refund_delta_blocks} blocks only, which leaves no "
                "time to pay and claim before the refund opens"
            )
        index = self.journal.take_index()
        return Record(
            order=order,
            network=self.settings.network,
            seller=self.parts.seller.address,
            key_index=index,
            claim_address=self._address(index),
            created_at=self.parts.clock.now(),
            offer=offer_to_json(offer),
        )

    def _address(self, index: int) -> str:
        key_hash = self.parts.keys.wallet_key(RECEIVE, index).key_hash
        return p2wpkh_address(key_hash, self.settings.chain)

    def _require_own(self, record: Record) -> None:
        """Nothing may be signed with another wallet's keys or for another chain."""
        request_id = record.order.request_id
        if record.network != self.settings.network:
            raise OtherWallet(
                f"{request_id} is a purchase on {record.network}, and --network is "
                f"{self.settings.network}"
            )
        if self._address(record.key_index) != record.claim_address:
            raise OtherWallet(
                f"{request_id} was ordered with another mnemonic than the one in "
                f"{self.journal.mnemonic_file}: put the right one back"
            )

    def _purchase(self, record: Record) -> Purchase:
        self._require_own(record)
        return Purchase(record=record, **vars(self.parts))

    async def _run(self, record: Record, dry_run: bool) -> Outcome:
        """Go from step to step until it is over, or claimed and seen, or checked (`dry_run`)."""
        _reopen(record)
        purchase = self._purchase(record)
        purchase.save(dry_run=dry_run and record.step in (Step.REQUESTED, Step.CREATED))
        while not record.step.is_over:
            match record.step:
                case Step.REQUESTED:
                    await ordering.create(purchase)
                case Step.CREATED:
                    await ordering.check(purchase)
                    if record.step is not Step.CREATED:
                        continue  # it was paid after all
                    if dry_run:
                        break
                    await payment.pay(purchase)
                case Step.PAYING:
                    await payment.look_up(purchase)
                case Step.PAID:
                    await claim.build(purchase)
                case Step.CLAIMING:
                    await claim.follow(purchase)
                    if record.step is Step.CLAIMING:
                        break  # in the mempool, and seen by the seller
        return Outcome(record)


@asynccontextmanager
async def connect(
    settings: BuyerSettings, on_progress: Callable[[Progress], None] = lambda _: None
) -> AsyncIterator[Buyer]:
    """A buyer with real backends, open for as long as the context lasts.

    Raises `BackendUnavailable` when the Electrum server cannot be reached within `call_secs`, and
    `SettingsError` for an address that is none.
    """
    require_native_secp256k1()
    try:
        chain = ElectrumChain(settings.electrum_url, deadline_secs=settings.call_secs)
    except ValueError as error:
        raise SettingsError((str(error),), hint="") from None
    lightning = CoreLightning(settings.lightning_rpc, deadline_secs=settings.call_secs)
    seller = SellerClient(settings.seller, call_secs=settings.call_secs)
    try:
        await chain.start()
        await chain.wait_connected(settings.call_secs)
        journal = Journal(settings.directory)
        yield Buyer(
            Parts(
                settings=settings,
                journal=journal,
                keys=open_keychain(journal, settings),
                seller=seller,
                chain=chain,
                lightning=lightning,
                clock=SystemClock(),
                on_progress=on_progress,
            )
        )
    finally:
        await chain.close()
        await lightning.close()
        await seller.close()


def quote_msat(offer: Offer, amount: int) -> int:
    """Price of an amount under an offer, without Lightning fees. `BuyerError` on a bad offer."""
    if not 0 <= offer.asset_precision <= 8:
        raise BuyerError(f"the offer's asset_precision of {offer.asset_precision} is not possible")
    return total_price_msat(amount, offer.price_msat_per_asset_unit, offer.asset_precision)


def offered_hold(offer: Offer, order: Order, chain: LightningChain) -> Hold:
    """For how long a payment could be held that is made as soon as the order is funded."""
    blocks = largest_cltv(
        offer.refund_delta_blocks - order.min_confs,
        chain,
        CLAIM_MARGIN_BLOCKS,
        most=min(offer.max_ln_cltv_blocks, order.max_hold_blocks),
    )
    return Hold(blocks, chain)


def new_request_id() -> str:
    """A fresh name for a purchase."""
    return str(uuid.uuid4())


def open_keychain(journal: Journal, settings: BuyerSettings) -> Keychain:
    """The buyer's keys; the mnemonic is made at the first use. `OtherWallet` when it is gone."""
    if not journal.mnemonic_file.exists():
        if journal.index_count():
            raise OtherWallet(
                f"{journal.mnemonic_file} is not there, and the purchases beside it were made with "
                "it: put it back"
            )
        write_mnemonic(journal.mnemonic_file)
    return Keychain(read_mnemonic(journal.mnemonic_file), settings.chain)


def _reopen(record: Record) -> None:
    """Look again at what ended badly. Raises `BuyerError` where the seller never made a swap."""
    match record.step:
        case Step.REFUSED:
            # A payment can only have been started after a clean verdict, which stores this.
            record.step = Step.PAYING if record.funding_raw else Step.CREATED
        case Step.LOST:
            record.step = Step.CLAIMING
        case Step.DECLINED if record.swap is not None:
            record.step = Step.PAYING if record.funding_raw else Step.CREATED
        case Step.DECLINED:
            raise BuyerError(f"{record.order.request_id} ended before: {record.note}")


def _differing(stored: Order, asked: Order) -> tuple[str, ...]:
    before, now = asdict(stored), asdict(asked)
    return tuple(name for name in before if before[name] != now[name])
