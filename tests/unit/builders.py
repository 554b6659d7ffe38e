"""What unit tests build over and over: keys, swaps, settings, a database, coins on a judging chain.

Everything is deterministic: fixed mnemonics, a clock that stands still, a chain of empty blocks.
"""

import functools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from lnlab.nodes.embedded.chain import Chain, Verdict
from lnlab.nodes.embedded.chain import Coin as ChainCoin
from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnliquid.config import Settings
from lnliquid.domain import htlc
from lnliquid.domain.next_step import PayWindow
from lnliquid.domain.ports import Chain as ChainPort
from lnliquid.domain.reconcile import Policy
from lnliquid.domain.swap import Coin, Outpoint, Request, State, Swap
from lnliquid.domain.timelock import LightningChain, Timelocks
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.keys import RECEIVE, Keychain
from lnliquid.liquid.mempool_limits import Chains
from lnliquid.liquid.networks import REGTEST
from lnliquid.store import coins as coin_store
from lnliquid.store.coins import SeenCoin
from lnliquid.store.database import Database, Transaction
from lnliquid.store.swaps import NewSwap
from lnliquid.watchers.chain_view import ChainView
from lnliquid.watchers.fee_bump import Bumper
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.invoices import Invoices
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.refund_gate import RefundGate
from lnliquid.watchers.refunds import Refunds
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from .fakes import DEPOSITS, FakeLightning

ROOT = Path(__file__).resolve().parents[2]
VECTORS: list[dict[str, Any]] = json.loads(
    (ROOT / "tests" / "vectors" / "elementsd_mempool.json").read_text()
)["vectors"]
"""The recorded verdicts of elementsd."""

SELLER_WORDS = "abandon " * 11 + "about"
BUYER_WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
SELLER = Keychain(SELLER_WORDS, REGTEST)
BUYER = Keychain(BUYER_WORDS, REGTEST)
POLICY_ASSET = REGTEST.policy_asset
ASSET = "a5" * 32
NOW = 1_800_000_000
LOCK_HEIGHT = 1_000
BURIED = 10
"""Coins at this height or below may be spent, once `put_coins` stored some."""

TIMELOCKS = Timelocks(
    refund_delta_blocks=500,
    max_funding_confs=6,
    create_slack_secs=600,
    invoice_expiry_secs=3_600,
    max_ln_cltv_blocks=100,
    claim_margin_blocks=20,
    lightning_chain=LightningChain.LIQUID,
)
"""Safe; 128 blocks must be left when a payment starts."""
ANY_TIME = PayWindow(0, is_over=False)
"""For messages of a swap whose time does not matter."""


class StillClock:
    """A clock that shows what the test sets."""

    def __init__(self, at: int = NOW) -> None:
        self.at = at

    def now(self) -> int:
        """Unix seconds."""
        return self.at


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seller.sqlite"
        Database(path, StillClock()).close()
        return path.read_bytes()


def migrated(path: Path) -> Path:
    """`path` with an empty database as all migrations leave it, ready to be opened.

    They run once a process: they take ten times what opening takes, and hundreds of tests open one.
    """
    assert not path.exists(), "a restart opens what is there"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty_database())
    return path


def uuid_of(number: int) -> str:
    """A UUID that nothing else uses."""
    return f"00000000-0000-4000-8000-{number:012d}"


def txid_of(number: int) -> str:
    """A txid that nothing else uses."""
    return f"{number:064x}"


def make_swap(number: int = 0, **changes: Any) -> Swap:
    """A swap whose funding is signed, with keys of index `number`; any field can be changed."""
    swap_id = changes.get("swap_id", uuid_of(1_000 + number))
    swap = Swap(
        swap_id=swap_id,
        request_id=uuid_of(number),
        key_index=number,
        state=State.CREATED,
        asset_id=ASSET,
        asset_amount=50_000,
        subsidy_sats=500,
        total_price_msat=150_000,
        max_total_price_msat=200_000,
        min_funding_confs=2,
        max_ln_cltv_blocks=TIMELOCKS.max_ln_cltv_blocks,
        buyer_claim_address=address_of(BUYER, number),
        buyer_key_hash=BUYER.wallet_key(RECEIVE, number).key_hash,
        seller_key_hash=SELLER.refund_key(number).key_hash,
        payment_hash=SELLER.payment_hash(number, swap_id),
        created_at=NOW,
        fee_share_sats=620,
        refund_lock_height=LOCK_HEIGHT,
        funding_txid="f1" * 32,
        asset_vout=2 * number,
        subsidy_vout=2 * number + 1,
    )
    return replace(swap, **changes)


def preimage_of(swap: Swap) -> bytes:
    """The preimage of a swap that `make_swap` made."""
    return SELLER.preimage(swap.key_index, swap.swap_id)


def address_of(keys: Keychain, index: int = 0) -> str:
    """A receive address of a wallet."""
    from lnliquid.liquid.address import p2wpkh_address

    return p2wpkh_address(keys.wallet_key(RECEIVE, index).key_hash, keys.network)


def make_request(number: int = 0, **changes: Any) -> Request:
    """What a buyer asks for; any field can be changed."""
    request = Request(
        request_id=uuid_of(number),
        asset_id=ASSET,
        asset_amount=1_000,
        buyer_claim_address=address_of(BUYER),
        min_funding_confs=2,
        max_total_price_msat=200_000,
    )
    return replace(request, **changes)


def new_swap(request: Request, **changes: Any) -> NewSwap:
    """What `CreateSwap` hands to T1: subsidy 500, fee share 620, headroom 375 sat."""
    swap_id = request.request_id.replace("4000", "4001")
    new = NewSwap(
        request=request,
        swap_id=swap_id,
        buyer_key_hash=BUYER.wallet_key(RECEIVE, 0).key_hash,
        subsidy_sats=500,
        fee_share_sats=620,
        refund_headroom_sats=375,
        price_msat=lambda _tx: 3_000,
        max_ln_cltv_blocks=100,
        policy_asset=POLICY_ASSET,
        max_inflight=100,
        keys=lambda index: (
            SELLER.payment_hash(index, swap_id),
            SELLER.refund_key(index).key_hash,
        ),
    )
    return replace(new, **changes)


def settings_values(folder: Path, **changes: Any) -> dict[str, Any]:
    """Values that make safe settings: those that have no default, and leave to sell crumbs."""
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
        "lightning_chain": "liquid",
    }
    return {**values, **changes}


def wallet_coin(
    number: int, value: int, asset_id: str = POLICY_ASSET, height: int | None = BURIED
) -> Coin:
    """A coin at receive address `number`, in a transaction of its own."""
    return Coin(
        Outpoint(_deposit(number, value, asset_id), 0), asset_id, value, RECEIVE, number, height
    )


@functools.cache
def _deposit(number: int, value: int, asset_id: str) -> str:
    """Make a transaction that others pay to receive address `number`. Returns its txid."""
    script = htlc.p2wpkh_script(SELLER.wallet_key(RECEIVE, number).key_hash)
    raw = encode_tx(
        [encode_input((txid_of(number), 0))],
        [encode_output(asset_id, value, script)],
        witnesses=[()],
    )
    txid = parse_transaction(raw).txid
    DEPOSITS[txid] = raw
    return txid


def put_coins(session: Transaction, coins: Sequence[Coin]) -> None:
    """Store coins as the chain would show them, unspent."""
    coin_store.set_cursor(session, coin_store.BURIED_HEIGHT, BURIED)
    for coin in coins:
        seen = SeenCoin(coin.outpoint, coin.asset_id, coin.value, coin.height, None, None)
        coin_store.replace_script_coins(session, coin.branch, coin.index, [seen])


async def stock(database: Database, asset: int = 10_000, lbtc: int = 100_000) -> None:
    """Give the wallet one coin of the asset and one of L-BTC."""
    coins = [wallet_coin(1, asset, ASSET), wallet_coin(2, lbtc)]
    await database.write(lambda session: put_coins(session, coins))


class Spenders:
    """What spends the wallet's coins, put together as `lnliquid.daemon` does."""

    def __init__(
        self,
        database: Database,
        chain: ChainPort,
        settings: Settings,
        lightning: FakeLightning | None = None,
    ) -> None:
        self.notices = Notices()
        self.outbox = Outbox(database, chain)
        self.inventory = Inventory(database, chain, SELLER)
        self.inventory.synced = True
        base = (database, chain, self.inventory, self.outbox)
        self.funder = Funder(*base, SELLER, settings, self.notices)
        self.bumper = Bumper(*base, SELLER, settings, self.notices)
        self.refunds = Refunds(*base, SELLER, settings)
        backoff = self.inventory.backoff
        self.view = ChainView(database, chain, self.notices, backoff, lambda _swap_id: None)
        self.gate = RefundGate(
            chain,
            self.view,
            Invoices(database, lightning or FakeLightning(), SELLER, settings, StillClock()),
            Policy(settings.funding_confs, settings.final_confs, settings.timelocks),
        )


def claim_of(swap: Swap, *, asset: bool = True, subsidy: bool = True) -> tx_builder.Signed:
    """The buyer's claim of these HTLC outputs; the subsidy alone pays its own fee."""
    key = BUYER.wallet_key(RECEIVE, 0)
    script = coin_selection.htlc_script(swap, swap.refund_lock_height or 0)
    asset_out, subsidy_out = outpoints(swap)
    wanted = [(asset_out, swap.asset_amount)] * asset + [(subsidy_out, swap.subsidy_sats)] * subsidy
    return tx_builder.claim(
        spends=[
            tx_builder.claim_spend(o, value, key, script, preimage_of(swap)) for o, value in wanted
        ],
        asset_id=swap.asset_id,
        asset_amount=swap.asset_amount * asset,
        subsidy_sats=swap.subsidy_sats * subsidy,
        script_pubkey=htlc.p2wpkh_script(key.key_hash),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=100,
    )


def count_rows(session: Transaction) -> dict[str, int]:
    """Number of rows of every table."""
    tables = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
    return {t: session.scalar(text(f"SELECT count(*) FROM {t}")) or 0 for t in tables}


class Judge:
    """The embedded chain as an independent judge of what our code signs."""

    def __init__(self, height: int = 100) -> None:
        self.chain = Chain(clock=lambda: NOW)
        self.chain.generate(height)

    def give(self, coins: Sequence[Coin], keys: Keychain = SELLER) -> None:
        """Put wallet coins on the chain."""
        self.chain.ledger.add(
            [
                ChainCoin(
                    c.outpoint.txid,
                    c.outpoint.vout,
                    c.asset_id,
                    c.value,
                    htlc.p2wpkh_script(keys.wallet_key(c.branch, c.index).key_hash),
                    c.height,
                )
                for c in coins
            ]
        )

    def verdict(self, raw: bytes) -> Verdict:
        """What the chain says of a transaction now."""
        return self.chain.test_accept(raw)

    def fund(self, *swaps: Swap, lock_height: int = LOCK_HEIGHT) -> list[Swap]:
        """Fund swaps with our own wallet code and bury the funding; returns them as stored."""
        coins = [
            wallet_coin(501, sum(s.asset_amount for s in swaps) + 7, ASSET),
            wallet_coin(502, 1_000_000),
        ]
        self.give(coins)
        plan = plan_funding(swaps, coins, lock_height)
        self.chain.submit(plan.signed.raw)
        self.chain.generate(2)
        return [
            replace(
                s,
                funding_txid=plan.signed.txid,
                refund_lock_height=lock_height,
                asset_vout=plan.vouts[s.swap_id][0],
                subsidy_vout=plan.vouts[s.swap_id][1],
            )
            for s in swaps
        ]


def plan_funding(
    swaps: Sequence[Swap], coins: Sequence[Coin], lock_height: int = LOCK_HEIGHT, rate: int = 100
) -> coin_selection.FundingPlan:
    """A funding by the seller's keys with change indexes 0 and 1, nothing being unconfirmed."""
    planner = coin_selection.FundingPlanner(
        coins,
        Chains([]),
        keys=SELLER,
        refund_lock_height=lock_height,
        change_indexes=(0, 1),
        rate_sats_per_kvb=rate,
    )
    return planner.plan(swaps)


def outpoints(swap: Swap) -> tuple[Outpoint, Outpoint]:
    """Both HTLC outputs of a funded swap."""
    assert swap.asset_outpoint is not None
    assert swap.subsidy_outpoint is not None
    return swap.asset_outpoint, swap.subsidy_outpoint
