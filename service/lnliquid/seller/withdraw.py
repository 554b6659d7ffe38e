"""Money out: withdrawals by the operator, and fresh addresses for deposits.

A withdrawal is a transaction of ours as any other: stored whole on both files before it is sent
(T2), followed, sent again, raised when it is stuck. It takes what neither a waiting swap has
reserved nor the refunds of open swaps may need for their fees.
"""

import asyncio
from dataclasses import dataclass, replace

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain import htlc
from lnliquid.domain.errors import (
    BackendError,
    FieldViolation,
    InvalidRequest,
    NotReady,
    NotWithdrawable,
    TooManyAddresses,
)
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Coin
from lnliquid.domain.terms import REFUND_VSIZE, fee_sats
from lnliquid.domain.withdrawal import Order, Withdrawal
from lnliquid.liquid.address import AddressError, p2wpkh_address, payable_script
from lnliquid.liquid.coin_selection import NotEnoughCoins
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.liquid.withdrawal import CHANGES, WithdrawalPlan, plan_withdrawal
from lnliquid.store import coins as coin_store
from lnliquid.store import queries
from lnliquid.store import withdrawals as withdrawal_store
from lnliquid.store.coins import CoinsGone
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose
from lnliquid.watchers.funding import fee_rate
from lnliquid.watchers.outbox import Outbox, ToStore
from lnliquid.watchers.wallet import GAP, NEXT_INDEX, Inventory

log = structlog.get_logger()

LEAST_LBTC_SATS = 100
"""Nothing smaller is withdrawn; elementsd's dust limits are below it for every kind of address."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a withdrawal would send, and its fee in sat."""

    amount: int
    fee_sats: int


@dataclass(eq=False)
class Withdrawer:
    """Sends coins of the wallet to an address that the operator gives."""

    database: Database
    chain: Chain
    inventory: Inventory
    outbox: Outbox
    keys: Keychain
    settings: Settings

    async def quote(self, order: Order, *, take_reserve: bool = False) -> Quote:
        """What `withdraw` would do now. Stores nothing; raises the same."""
        script = await self._script(order)
        async with self.inventory.spending:
            plan, _, _ = await self._plan(order, script, take_reserve)
        return Quote(plan.amount, plan.signed.fee_sats)

    async def withdraw(self, order: Order, *, take_reserve: bool = False) -> Withdrawal:
        """Send it, once for each request id. `take_reserve`: also what refunds may need for fees.

        Raises `InvalidRequest`, `RequestConflict`, `NotWithdrawable`, `NotReady`, `StoreFailure`.
        """
        known = await self.database.read(lambda s: withdrawal_store.of_order(s, order))
        if known is not None:
            return known
        script = await self._script(order)
        async with self.inventory.spending:
            plan, next_change, height = await self._plan(order, script, take_reserve)
            reach("withdraw.planned")
            try:
                made = await self._store(order, script, plan, next_change, height, take_reserve)
            except CoinsGone as error:
                raise NotReady(f"the coins changed meanwhile: {error}", 1.0) from None
            except BackendError as error:
                raise NotReady(str(error)) from None
        reach("withdraw.stored")
        if made.txid != plan.signed.txid:
            return made  # the same request came twice at once
        log.info(
            "withdrawal signed",
            txid=made.txid,
            asset_id=order.asset_id,
            amount=made.amount,
            fee_sats=made.fee_sats,
            address=order.address,
            request_id=order.request_id,
        )
        if await self.outbox.first_send(plan.signed):
            reach("withdraw.sent")
        return await self.database.read(lambda s: withdrawal_store.of_order(s, order)) or made

    async def _store(
        self,
        order: Order,
        script: bytes,
        plan: WithdrawalPlan,
        next_change: int,
        height: int,
        take_reserve: bool,
    ) -> Withdrawal:
        """T2 with the withdrawal's row. What was promised meanwhile stays covered, or it fails."""
        to_store = ToStore(
            plan.signed, Purpose.WITHDRAWAL, plan.inputs, plan.change, (next_change, CHANGES)
        )
        made: list[Withdrawal] = []

        def also(session: Transaction) -> None:
            known = withdrawal_store.of_order(session, order)
            if known is not None:
                raise CoinsGone("this withdrawal was made already")
            withdrawal_store.add(
                session,
                order,
                amount=plan.amount,
                script_pubkey=script,
                txid=plan.signed.txid,
            )
            for asset_id in {order.asset_id, self.keys.network.policy_asset}:
                if self._free(session, asset_id, take_reserve) < 0:
                    raise CoinsGone("swaps have reserved them")
            found = withdrawal_store.of_order(session, order)
            made.extend([found] if found else [])

        await self.outbox.store([to_store], height, also)
        return made[-1]

    async def _plan(
        self, order: Order, script: bytes, take_reserve: bool
    ) -> tuple[WithdrawalPlan, int, int]:
        """A signed plan, the first of its change indexes, and the tip's height."""
        self.database.require_replica()
        if not self.inventory.synced:
            raise NotReady("the wallet's coins are not known yet")
        policy_asset = self.keys.network.policy_asset

        def look(session: Transaction) -> tuple[list[Coin], int, int, int]:
            return (
                coin_store.available_coins(session),
                self._free(session, order.asset_id, take_reserve),
                self._free(session, policy_asset, take_reserve),
                coin_store.cursor(session, NEXT_INDEX[CHANGE]),
            )

        coins, free, free_lbtc, next_change = await self.database.read(look)
        is_lbtc, is_all = order.asset_id == policy_asset, order.amount is None
        confirmed = sum(
            c.value for c in coins if c.asset_id == order.asset_id and c.height is not None
        )
        most = max(0, min(free, confirmed))
        why = "the rest is reserved for swaps, kept for the fees of refunds, or not confirmed yet"
        wanted = most if order.amount is None else order.amount
        if wanted > most or wanted == 0:
            raise NotWithdrawable(order.asset_id, wanted, most, why)
        try:
            tip = await self.chain.tip()
            rate = await fee_rate(self.chain, self.settings)
        except BackendError as error:
            raise NotReady(str(error)) from None
        try:
            plan = await asyncio.to_thread(
                plan_withdrawal,
                coins,
                asset_id=order.asset_id,
                amount=wanted,
                script_pubkey=script,
                keys=self.keys,
                change_indexes=range(next_change, next_change + CHANGES),
                rate_sats_per_kvb=rate,
                fee_included=is_lbtc and is_all,
            )
            spent_lbtc = plan.signed.fee_sats + (plan.amount if is_lbtc else 0)
            if spent_lbtc > free_lbtc:
                raise NotEnoughCoins(policy_asset, spent_lbtc, free_lbtc, ", which is not reserved")
        except NotEnoughCoins as error:
            if is_lbtc and not is_all:
                rest, _, _ = await self._plan(replace(order, amount=None), script, take_reserve)
                most, reason = rest.amount, "its fee is paid from the rest"
            else:
                reason = f"for it and its fee {error}"
            raise NotWithdrawable(order.asset_id, wanted, most, reason) from None
        return plan, next_change, tip.height

    def _free(self, session: Transaction, asset_id: str, take_reserve: bool) -> int:
        """What nothing needs; below 0 when more is promised than is there."""
        if asset_id != self.keys.network.policy_asset:
            return coin_store.reservable(session, asset_id)
        # A refund pays its fee from the subsidy that it takes back; with that alone it may be
        # short when fees rise to the cap.
        each = fee_sats(REFUND_VSIZE, self.settings.fee_cap_sats_per_kvb)
        kept = 0 if take_reserve else each * queries.to_refund(session)
        return coin_store.reservable_lbtc(session, asset_id) - kept

    async def _script(self, order: Order) -> bytes:
        """The output script of the order's address, checked. Raises `InvalidRequest`."""

        def invalid(name: str, problem: str) -> InvalidRequest:
            return InvalidRequest((FieldViolation(name, problem),))

        try:
            script = payable_script(order.address, self.keys.network)
        except AddressError as error:
            raise invalid("address", str(error)) from None
        if order.asset_id == self.keys.network.policy_asset and (
            order.amount is not None and order.amount < LEAST_LBTC_SATS
        ):
            raise invalid("amount", f"must be at least {LEAST_LBTC_SATS} sat of L-BTC")
        ends = await self.database.read(
            lambda s: {b: coin_store.cursor(s, name) + GAP for b, name in NEXT_INDEX.items()}
        )
        if await asyncio.to_thread(_is_of_wallet, self.keys, script, ends):
            raise invalid("address", "this is an address of the daemon's own wallet")
        return script

    async def listed(self, limit: int) -> list[Withdrawal]:
        """The newest withdrawals, newest first."""
        return await self.database.read(lambda s: withdrawal_store.listed(s, limit))

    async def deposits(self, limit: int) -> list[tuple[Coin, str]]:
        """Coins that pay receive addresses, spent ones too, each with its address; newest first."""
        coins = await self.database.read(lambda s: coin_store.paid_to(s, RECEIVE, limit))
        return [(coin, self._address(coin.index)) for coin in coins]

    async def new_address(self) -> str:
        """A receive address that was not given out before. Raises `TooManyAddresses`."""

        def take(session: Transaction) -> int:
            paid = coin_store.paid_addresses(session, RECEIVE)
            index = max(paid, coin_store.cursor(session, NEXT_INDEX[RECEIVE]))
            if index - paid >= GAP:
                raise TooManyAddresses(GAP)
            coin_store.set_cursor(session, NEXT_INDEX[RECEIVE], index + 1)
            return index

        index = await self.database.write(take, on_replica=True)
        return self._address(index)

    def _address(self, index: int) -> str:
        key = self.keys.wallet_key(RECEIVE, index)
        return p2wpkh_address(key.key_hash, self.keys.network)


def _is_of_wallet(keys: Keychain, script: bytes, ends: dict[int, int]) -> bool:
    return any(
        htlc.p2wpkh_script(keys.wallet_key(branch, index).key_hash) == script
        for branch, end in ends.items()
        for index in range(end)
    )
