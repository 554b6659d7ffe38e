"""A buyer with real backends: Electrum over TCP, Core Lightning on its socket, gRPC."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from lnliquid.buyer.client import Buyer
from lnliquid.buyer.seller import Seller
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.buyer.work import Progress
from lnliquid.errors import SettingsError
from lnliquid.lightning.cln import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import require_native_secp256k1


class SystemClock:
    """`ports.Clock` of the machine."""

    def now(self) -> int:
        """Unix seconds, UTC."""
        return int(time.time())


@asynccontextmanager
async def connect(
    settings: BuyerSettings, on_progress: Callable[[Progress], None] = lambda _: None
) -> AsyncIterator[Buyer]:
    """Open the backends for as long as the context lasts.

    Raises `BackendUnavailable` when the Electrum server cannot be reached within `call_secs`, and
    `SettingsError` for an address that is none.
    """
    require_native_secp256k1()
    try:
        chain = ElectrumChain(settings.electrum_url, deadline_secs=settings.call_secs)
    except ValueError as error:
        raise SettingsError((str(error),), hint="") from None
    lightning = CoreLightning(settings.lightning_rpc, deadline_secs=settings.call_secs)
    seller = Seller(settings.seller, call_secs=settings.call_secs)
    try:
        await chain.start()
        await chain.wait_connected(settings.call_secs)
        yield Buyer(
            settings,
            seller=seller,
            chain=chain,
            lightning=lightning,
            clock=SystemClock(),
            on_progress=on_progress,
        )
    finally:
        await chain.close()
        await lightning.close()
        await seller.close()
