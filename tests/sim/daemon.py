"""One life of the seller daemon: its real parts put together as in `daemon`, on simulated sides."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnliquid.config import Settings
from lnliquid.domain.swap import Outpoint
from lnliquid.liquid.keys import Keychain
from lnliquid.seller.create import Seller
from lnliquid.seller.operator import Operator
from lnliquid.seller.readiness import Readiness
from lnliquid.seller.withdraw import Withdrawer
from lnliquid.store import coins as coin_store
from lnliquid.watchers.chain_view import TipMoved
from lnliquid.watchers.fee_bump import Bumper
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.invoices import Invoices
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.refunds import Refunds
from lnliquid.watchers.swaps import Watcher
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from .chain_side import WATCHER, Server, SimChain
from .clockwork import HEALTH, Chance, Life, SimClock, Violation
from .coverage import Coverage
from .ground import ASSET, Ground
from .lightning_side import Node, SimLightning
from .store_side import Disk, SimDatabase

SELLER_WORDS = "abandon " * 11 + "about"


class SimKeychain(Keychain):
    """The seller's keys. Preimages leave out the swap's id, which is random, so replays agree."""

    def preimage(self, index: int, swap_id: str) -> bytes:
        """Preimage of the swap with this index."""
        return super().preimage(index, "sim")


@dataclass
class Sides:
    """What outlives the daemon: the world it runs in, and who looks over its shoulder."""

    ground: Ground
    server: Server
    node: Node
    disk: Disk
    clock: SimClock
    chance: Chance
    keys: SimKeychain
    settings: Settings
    committed: Callable[[], None]
    broadcasting: Callable[[bytes], None]
    making: Callable[[str], None]
    chain_meddle: Callable[[str], None]
    lightning_meddle: Callable[[str], None]
    name_of: Callable[[str], object]
    coverage: Coverage


class SimReadiness(Readiness):
    """Judges itself: ready said while an order could not be funded, paid or refunded is wrong."""

    def __init__(
        self,
        sides: Sides,
        database: SimDatabase,
        chain: SimChain,
        lightning: SimLightning,
        inventory: Inventory,
    ) -> None:
        super().__init__(database, chain, lightning, inventory, sides.settings, sides.clock)
        self._sides = sides

    async def _look(self) -> None:
        """See `Readiness`; in the caller's own turn."""
        self._store_problem = self._probe_paths()

    async def problem(self) -> str | None:
        """See `Readiness`. Raises `Violation`."""
        found = await super().problem()
        sides = self._sides
        wrong = {
            "the disk is full, and a write has shown it": sides.disk.full and sides.disk.has_shown,
            "the replica lacks commits": self._database.replica_problem is not None,
            "Lightning does not answer": sides.node.hung or not sides.node.up,
            "the Electrum server is down": not sides.server.up,
        }
        for what, is_so in wrong.items():
            if found is None and is_so:
                raise Violation(HEALTH, f"ready, though {what}")
        return found


def make_settings(folder: Path, seed: int) -> Settings:
    """Short time locks that are safe, and knobs that differ from seed to seed."""
    values: dict[str, Any] = {
        "network": "liquid-regtest",
        "asset_id": ASSET,
        "price_msat_per_asset_unit": 300_000_000,
        "min_swap_amount": 1,
        "allow_sales_below_cost": True,
        "database": folder / "seller.sqlite",
        "mnemonic_file": folder / "mnemonic",
        "electrum_url": "tcp://127.0.0.1:50001",
        "lightning_rpc": folder / "lightning-rpc",
        "refund_delta_blocks": 46,
        "invoice_expiry_secs": 600,
        "max_ln_cltv_blocks": 20,
        "invoice_cltv_blocks": 9,
        "lightning_chain": "liquid",
        "claim_margin_blocks": 3,
        "create_slack_secs": 120,
        "max_min_funding_confs": 3,
        "funding_confs": 1 + seed % 2,
        "final_confs": 2 + seed % 3,
        "lanes": 1 + seed % 4,
        "bump_after_blocks": 2 + seed % 2,
        "max_inflight_swaps": 12,
        "create_wait_secs": 0,
    }
    return Settings(**values)


class Daemon:
    """The parts that `daemon` puts together, without its loops: they are stepped from outside."""

    def __init__(self, sides: Sides) -> None:
        settings, keys = sides.settings, sides.keys
        self.life = Life(sides.chance)
        self.database = SimDatabase(
            settings.database,
            settings.replica_path,
            sides.clock,
            self.life,
            sides.disk,
            sides.chance,
            sides.committed,
        )
        self.notices = Notices()
        self.chain = SimChain(
            sides.ground,
            sides.server,
            sides.chance,
            self.life,
            sides.chain_meddle,
            sides.broadcasting,
            sides.coverage,
        )
        self.lightning = SimLightning(
            sides.node,
            sides.chance,
            self.life,
            sides.lightning_meddle,
            sides.making,
            sides.name_of,
            sides.coverage,
        )
        self._sides = sides
        self.inventory = Inventory(self.database, self.chain, keys)
        outbox = Outbox(self.database, self.chain)
        self.funder = Funder(
            self.database, self.chain, self.inventory, outbox, keys, settings, self.notices
        )
        refunds = Refunds(self.database, self.chain, self.inventory, outbox, keys, settings)
        bumper = Bumper(
            self.database, self.chain, self.inventory, outbox, keys, settings, self.notices
        )
        self.invoices = Invoices(self.database, self.lightning, keys, settings, sides.clock)
        self.watcher = Watcher(
            self.database,
            self.chain,
            self.invoices,
            self.inventory,
            outbox,
            refunds,
            self.funder,
            bumper,
            settings,
            self.notices,
        )
        self.renew_seller()
        self.operator = Operator(self.database, keys, settings, self.notices)
        self.withdrawer = Withdrawer(
            self.database, self.chain, self.inventory, outbox, keys, settings
        )
        self.must_reload = True
        """As in `Watcher.run`: a round failed, or none was done yet."""
        self._paid = asyncio.get_running_loop().create_task(
            self.invoices.run_paid(self.notices.watcher), name="paid"
        )

    def renew_seller(self) -> None:
        """Make a fresh front half: `Readiness` remembers its answers for seconds of real time."""
        sides = self._sides
        self.readiness = SimReadiness(
            sides, self.database, self.chain, self.lightning, self.inventory
        )
        self.seller = Seller(
            self.database, self.readiness, self.funder, sides.keys, sides.settings, self.notices
        )

    def available(self) -> list[Outpoint]:
        """The coins that a new transaction would spend."""
        return [coin.outpoint for coin in self.database.look(coin_store.available_coins)]

    async def watch(self, reload_all: bool) -> None:
        """One round of the watcher. Raises what `Watcher.round` raises."""
        self.database.heal()
        round_ = self.watcher.round(reload_all or self.must_reload)
        try:
            await asyncio.get_running_loop().create_task(round_, name=WATCHER)
        except TipMoved:
            raise  # the next round goes on as this one would have
        except Exception:
            self.must_reload = True
            raise
        self.must_reload = False

    async def fund(self) -> None:
        """What `Funder.run` does when it is woken, once the watcher has caught up."""
        if not self.notices.caught_up.is_set():
            return
        while await self.funder.fund_waiting():
            pass
        await self.funder.even_lanes()

    async def bury(self) -> None:
        """Take away all that was in memory; the files stay."""
        self.life.dead = True
        self._paid.cancel()
        with contextlib.suppress(BaseException):
            await self._paid
        self.chain.disconnect()
        self.database.close()
