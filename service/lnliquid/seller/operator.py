"""What the operator can ask of the running daemon."""

from dataclasses import dataclass, replace

import structlog

from lnliquid.config import Settings
from lnliquid.domain.errors import AssetNotOffered, NotPaidUnclaimed, SwapNotFound
from lnliquid.domain.price import Price
from lnliquid.domain.swap import Swap
from lnliquid.liquid.keys import Keychain
from lnliquid.liquid.lanes import lanes_wanted, useful_lanes
from lnliquid.seller.readiness import PAUSED
from lnliquid.store import coins as coin_store
from lnliquid.store import prices as price_store
from lnliquid.store import queries
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.watchers.chain_incidents import lift_pause
from lnliquid.watchers.funding import LANE_SWAPS
from lnliquid.watchers.wakeups import Notices

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held of one asset, in its smallest unit; `coins` are the available ones."""

    asset_id: str
    available: int
    reserved: int
    locked: int
    coins: tuple[int, ...]
    lanes: int
    """Coins large enough to count as a lane, and how many of those there should be."""
    lanes_wanted: int
    price: Price | None
    """At which it is sold; None for L-BTC."""


class Operator:
    """Lists, pause switch, and the refund by hand."""

    def __init__(
        self, database: Database, keys: Keychain, settings: Settings, notices: Notices
    ) -> None:
        self._database = database
        self._policy_asset = keys.network.policy_asset
        self._settings = settings
        self._notices = notices

    async def swaps(self, wanted: queries.Filter, limit: int) -> list[Swap]:
        """Swaps, newest first."""
        return await self._database.read(lambda tx: queries.listed(tx, wanted, limit))

    async def holdings(self) -> list[Holding]:
        """The asset that is sold, and L-BTC."""

        def look(session: Transaction) -> list[Holding]:
            coins = coin_store.available_coins(session)
            locked_asset, locked_lbtc = queries.locked(session)
            s = self._settings
            result = []
            for asset, locked, least in (
                (s.asset_id, locked_asset, s.least_swap_amount),
                (self._policy_asset, locked_lbtc, LANE_SWAPS * s.lbtc_per_swap_sats),
            ):
                values = sorted((c.value for c in coins if c.asset_id == asset), reverse=True)
                free = (
                    coin_store.reservable_lbtc(session, asset)
                    if asset == self._policy_asset
                    else coin_store.reservable(session, asset)
                )
                wanted = lanes_wanted(sum(values), s.lanes, least)
                result.append(
                    Holding(
                        asset,
                        max(0, free),
                        sum(values) - free,
                        locked,
                        tuple(values),
                        useful_lanes(values, wanted),
                        wanted,
                        None if asset == self._policy_asset else self._price(session),
                    )
                )
            return result

        return await self._database.read(look)

    def _price(self, session: Transaction) -> Price:
        s = self._settings
        return price_store.at_present(session, s.asset_id, s.price_msat_per_asset_unit)

    async def set_price(self, asset_id: str, msat_per_unit: int, valid_secs: int) -> Price:
        """Set the price from now on, for so long, 0 for ever; a price of 0: that of the settings.

        Returns the one that counts now. Raises `AssetNotOffered`, `StoreFailure`.
        """
        if asset_id != self._settings.asset_id:
            raise AssetNotOffered(asset_id)

        def store(session: Transaction) -> Price:
            until = session.now + valid_secs if msat_per_unit and valid_secs else None
            price_store.put(session, asset_id, msat_per_unit or None, until)
            return self._price(session)

        price = await self._database.write(store, on_replica=True)
        log.warning(
            "price set" if price.set_at else "price of the settings restored",
            asset_id=asset_id,
            price_msat_per_asset_unit=price.msat_per_unit,
            valid_until=price.valid_until,
        )
        return price

    async def paused(self) -> bool:
        """True while no new swaps are taken at the operator's word."""
        return bool(await self._database.read(lambda tx: coin_store.cursor(tx, PAUSED)))

    async def set_paused(self, paused: bool) -> None:
        """Stop or go on taking new swaps, also across restarts. Refunds go on either way.

        To go on lifts the pause after a chain incident as well.
        """

        def switch(session: Transaction) -> None:
            coin_store.set_cursor(session, PAUSED, int(paused))
            if not paused:
                lift_pause(session)

        await self._database.write(switch)
        log.warning("paused by the operator" if paused else "resumed by the operator")

    async def refund(self, swap_id: str, reason: str) -> Swap:
        """Order the refund of a swap that was paid and not claimed; the watcher carries it out.

        Raises `SwapNotFound`, `NotPaidUnclaimed`.
        """

        def order(session: Transaction) -> Swap:
            swap = swap_store.get(session, swap_id)
            if swap is None:
                raise SwapNotFound(swap_id)
            if swap.forced_refund_reason is not None:
                return swap
            if not swap.paid_unclaimed:
                raise NotPaidUnclaimed(swap_id, swap.state.name)
            after = replace(swap, forced_refund_reason=reason)
            swap_store.save(session, swap, after)
            return after

        swap = await self._database.write(order)
        log.warning("refund ordered by the operator", **swap.ids, reason=reason)
        self._notices.swaps_changed([swap_id])
        return swap
