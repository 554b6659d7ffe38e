"""A seller without sockets: the service's own code over the lab's embedded chain, in one process.

The chain judges every transaction as elementsd would. Lightning always says yes: no figure here is
about it.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnlab.nodes.embedded import chain as embedded
from lnlab.nodes.embedded.chain import Rejected
from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnlab.nodes.embedded.txmodel import Tx, electrum_scripthash
from lnliquid.config import Settings
from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.ports import Chain, HistoryItem, Invoice, InvoiceStatus, NodeInfo
from lnliquid.domain.swap import Request, Tip
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import RECEIVE, Key, Keychain
from lnliquid.liquid.networks import REGTEST
from lnliquid.seller.create import Seller
from lnliquid.seller.readiness import Readiness
from lnliquid.store.database import Database
from lnliquid.watchers.fee_bump import Bumper
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.invoices import Invoices
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.refunds import Refunds
from lnliquid.watchers.swaps import Watcher
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

ASSET = "a5" * 32
WORDS = "abandon " * 11 + "about"
BUYER_KEY = Key(hashlib.sha256(b"every buyer of a bench").digest())
BUYER_ADDRESS = p2wpkh_address(BUYER_KEY.key_hash, REGTEST)
AMOUNT = 1_000
MAX_PRICE_MSAT = 10**9
LANE_ASSET = 10**9
LANE_SATS = 10**8
FIRST_HEIGHT = 10
OP_TRUE = b"\x51"
OPEN_SCRIPT = b"\x00\x20" + hashlib.sha256(OP_TRUE).digest()
STOCK_FEE_SATS = 10_000
P2WSH_SIZE = 34


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())


class ChainClient:
    """`ports.Chain` over the embedded chain, without a server between them."""

    def __init__(self, chain: embedded.Chain, notices: Notices) -> None:
        self._chain = chain
        self._scripts: dict[str, bytes] = {}
        self._changed: set[bytes] = set()
        self._notices = notices
        chain.subscribe(self._heard)

    def _heard(self, event: embedded.ChainEvent) -> None:
        self._changed.update(
            self._scripts[name] for name in event.scripthashes & self._scripts.keys()
        )
        self._notices.wake_watcher()

    async def tip(self) -> Tip:
        """See `ports.Chain`."""
        height = self._chain.tip_height
        block_id = (await self.block_ids([height]))[height]
        return Tip(height, block_id, self._chain.block_time(height))

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        for script in scripts:
            if self._scripts.setdefault(electrum_scripthash(script), script) is script:
                self._changed.add(script)

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        for script in scripts:
            self._scripts.pop(electrum_scripthash(script), None)
            self._changed.discard(script)

    def take_changed(self) -> set[bytes]:
        """See `ports.Chain`."""
        changed, self._changed = self._changed, set()
        return changed

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        self._changed.update(scripts)

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """See `ports.Chain`."""
        return {
            script: tuple(
                HistoryItem(item.txid, item.height if item.height > 0 else None)
                for item in self._chain.history(electrum_scripthash(script))
            )
            for script in scripts
        }

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """See `ports.Chain`."""
        found = {}
        for txid in txids:
            try:
                found[txid], _ = self._chain.raw_tx(txid)
            except LookupError:
                continue
        return found

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """See `ports.Chain`."""
        return {h: hashlib.sha256(self._chain.header(h)).hexdigest() for h in heights}

    async def broadcast(self, raw: bytes) -> None:
        """See `ports.Chain`."""
        try:
            self._chain.submit(raw)
        except Rejected as refusal:
            raise BackendRejected("embedded", refusal.reason) from None

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """No estimate: the floor."""
        return None


class YesLightning:
    """A Core Lightning with endless capacity that makes every invoice."""

    def __init__(self) -> None:
        self.made: dict[str, Invoice] = {}

    async def info(self) -> NodeInfo:
        """A node of the chain's network."""
        return NodeInfo("02" * 33, REGTEST.name, "bench", 10**9)

    async def receivable_msat(self) -> int:
        """More than anything costs."""
        return 10**15

    async def options(self) -> dict[str, bool | int | str]:
        """Nothing is set."""
        return {}

    async def create_invoice(
        self,
        *,
        label: str,
        amount_msat: int,
        preimage: bytes,
        description: str,
        expiry_secs: int,
        cltv_blocks: int,
    ) -> Invoice:
        """An invoice in form only."""
        expires_at = int(time.time()) + expiry_secs
        payment_hash = hashlib.sha256(preimage).digest()
        return self.made.setdefault(
            label,
            Invoice(
                label, InvoiceStatus.UNPAID, "lnert1bench", payment_hash, amount_msat, expires_at
            ),
        )

    async def invoice(self, label: str) -> Invoice:
        """As made."""
        return self.made.get(label, Invoice(label, InvoiceStatus.ABSENT))

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """Gone."""
        return self.made.pop(label, None) is not None

    async def wait_paid(self, after_pay_index: int, wait_secs: int) -> Invoice | None:
        """No payment ever comes."""
        return None


@dataclass
class Daemon:
    """The parts of a seller, put together as `lnliquid.daemon` does."""

    inventory: Inventory
    funder: Funder
    watcher: Watcher
    seller: Seller


def put_together(
    settings: Settings,
    keys: Keychain,
    database: Database,
    chain: Chain,
    lightning: YesLightning,
    notices: Notices,
) -> Daemon:
    """A seller on these; none of its tasks run yet."""
    inventory = Inventory(database, chain, keys)
    outbox = Outbox(database, chain)
    funder = Funder(database, chain, inventory, outbox, keys, settings, notices)
    refunds = Refunds(database, chain, inventory, outbox, keys, settings)
    bumper = Bumper(database, chain, inventory, outbox, keys, settings, notices)
    invoices = Invoices(database, lightning, keys, settings, SystemClock())
    watcher = Watcher(
        database,
        chain,
        invoices,
        inventory,
        outbox,
        refunds,
        funder,
        bumper,
        settings,
        notices,
    )
    readiness = Readiness(database, chain, lightning, inventory, settings, SystemClock())
    seller = Seller(database, readiness, funder, keys, settings, notices)
    return Daemon(inventory, funder, watcher, seller)


@dataclass
class World:
    """A seller with its parts, and the chain under it."""

    chain: embedded.Chain
    client: ChainClient
    lightning: YesLightning
    database: Database
    inventory: Inventory
    funder: Funder
    watcher: Watcher
    seller: Seller
    notices: Notices
    settings: Settings
    keys: Keychain

    def request(self, number: int) -> Request:
        """A request of its own number."""
        return Request(
            request_id=f"00000000-0000-4000-8000-{number:012d}",
            asset_id=ASSET,
            asset_amount=AMOUNT,
            buyer_claim_address=BUYER_ADDRESS,
            min_funding_confs=1,
            max_total_price_msat=MAX_PRICE_MSAT,
        )

    async def create(self, numbers: Iterable[int]) -> None:
        """Make these swaps, all at once."""
        await asyncio.gather(*(self.seller.create_swap(self.request(n)) for n in numbers))

    async def all_sent(self, swaps: int) -> int:
        """Wait until so many swaps have a funding in the mempool; returns how many fundings."""
        changed = asyncio.Event()
        unsubscribe = self.chain.subscribe(lambda _event: changed.set())
        try:
            while True:
                changed.clear()
                pool = [self.chain.mempool_entry(txid).tx for txid in self.chain.mempool_txids()]
                if sum(map(swaps_funded_by, pool)) >= swaps:
                    return len(pool)
                await changed.wait()
        finally:
            unsubscribe()


@asynccontextmanager
async def world(
    folder: Path, *, lanes: int = 1, lane_asset: int = LANE_ASSET, **settings: Any
) -> AsyncIterator[World]:
    """A ready seller whose inventory is this many coin pairs; its files are in `folder`."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    values: dict[str, Any] = {
        "network": REGTEST.name,
        "asset_id": ASSET,
        "price_msat_per_asset_unit": 300_000_000,
        "min_swap_amount": 1,
        "allow_sales_below_cost": True,
        "database": folder / "seller.sqlite",
        "mnemonic_file": folder / "unused",
        "electrum_url": "tcp://127.0.0.1:1",
        "lightning_rpc": folder / "unused",
        "lightning_chain": "liquid",
        "lanes": lanes,
        "max_inflight_swaps": 100_000,
        "funding_confs": 1,
        "create_wait_secs": 0,
    } | settings
    made = Settings(**values)
    keys = Keychain(WORDS, REGTEST)
    chain = embedded.Chain()
    chain.generate(FIRST_HEIGHT)
    stock(chain, keys, lanes, lane_asset)
    chain.generate(made.final_confs)
    notices = Notices()
    client = ChainClient(chain, notices)
    database = Database(made.database, SystemClock())
    lightning = YesLightning()
    parts = put_together(made, keys, database, client, lightning, notices)
    try:
        await parts.watcher.round()
        yield World(
            chain,
            client,
            lightning,
            database,
            parts.inventory,
            parts.funder,
            parts.watcher,
            parts.seller,
            notices,
            made,
            keys,
        )
    finally:
        database.close()


def swaps_funded_by(transaction: Tx) -> int:
    """HTLC pairs in a transaction of the wallet, whose other outputs are P2WPKH and the fee."""
    return sum(1 for output in transaction.outputs if len(output.script) == P2WSH_SIZE) // 2


def stock(chain: embedded.Chain, keys: Keychain, lanes: int, lane_asset: int) -> None:
    """Pay coin pairs to the wallet, each to an address of its own."""
    lbtc = REGTEST.policy_asset
    inputs = [
        embedded.Coin("01" * 32, 0, ASSET, lanes * lane_asset, OPEN_SCRIPT, 1),
        embedded.Coin("02" * 32, 0, lbtc, lanes * LANE_SATS + STOCK_FEE_SATS, OPEN_SCRIPT, 1),
    ]
    chain.ledger.add(inputs)
    scripts = [
        htlc.p2wpkh_script(keys.wallet_key(RECEIVE, number).key_hash) for number in range(lanes)
    ]
    outputs = [encode_output(ASSET, lane_asset, script) for script in scripts]
    outputs += [encode_output(lbtc, LANE_SATS, script) for script in scripts]
    outputs.append(encode_output(lbtc, STOCK_FEE_SATS))
    chain.submit(
        encode_tx(
            [encode_input((coin.txid, coin.vout)) for coin in inputs],
            outputs,
            witnesses=[(OP_TRUE,)] * 2,
        )
    )
