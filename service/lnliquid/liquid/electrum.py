"""The Liquid chain over the Electrum protocol 1.4: `ElectrumChain` fits `ports.Chain`."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aiorpcx import RPCError

from lnliquid.domain.errors import BackendRejected, BackendTimeout
from lnliquid.domain.htlc import electrum_scripthash
from lnliquid.domain.ports import HistoryItem
from lnliquid.liquid.electrum_connection import RENEW_AT, ElectrumConnection
from lnliquid.liquid.electrum_pace import Pace
from lnliquid.liquid.electrum_protocol import (
    ALREADY_THERE,
    BACKEND,
    NOT_FOUND,
    TransactionCache,
    is_refusal,
    raise_refusal,
    read_history,
    read_tip,
    read_transaction,
)
from lnliquid.liquid.electrum_session import BUSY_CODES, ConnectionLost

TRANSACTIONS_AT_ONCE = 50
HEADERS_AT_ONCE = 50
CACHE_BYTES = 16_000_000


class ElectrumChain(ElectrumConnection):
    """What the chain tells, by one Electrum server at a time; what it says is checked here."""

    def __init__(self, urls: str, **options: Any) -> None:
        """Arguments of `ElectrumConnection`."""
        super().__init__(urls, **options)
        self._transactions_pace = Pace(TRANSACTIONS_AT_ONCE)
        self._cache = TransactionCache(CACHE_BYTES)

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Without a connection it succeeds too: the next one subscribes."""
        wanted = self._watches.add(scripts)
        try:
            while wanted and self._newest is not None:
                chunk = wanted[: self._scripts_pace.at_once]
                await self._subscribe(self._newest, chunk)
                del wanted[: len(chunk)]
        except (ConnectionLost, TimeoutError):
            self._attention.set()  # still pending; the connection's own task goes on with it

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Protocol 1.4 cannot unsubscribe: later notifications are ignored."""
        self._watches.drop(scripts)
        if self._watches.dropped > max(RENEW_AT, len(self._watches)):
            self._attention.set()

    def take_changed(self) -> set[bytes]:
        """See `ports.Chain`."""
        return self._watches.take_changed()

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Scripts that are no longer watched are left out."""
        self._watches.mark_changed(scripts)

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """See `ports.Chain`. `BackendRejected` when the server refuses one of the scripts."""
        method = "blockchain.scripthash.get_history"
        wanted = {electrum_scripthash(script): script for script in scripts}
        answers = await self._ask_all(method, [(h,) for h in wanted], self._scripts_pace)
        result: dict[bytes, tuple[HistoryItem, ...]] = {}
        for (scripthash, script), answer in zip(wanted.items(), answers, strict=True):
            raise_refusal(f"history of {scripthash}", answer)
            result[script], status = read_history(answer)
            self._watches.was_read(scripthash, status)
        return result

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """See `ports.Chain`."""
        method = "blockchain.block.header"
        answers = await self._ask_all(method, [(h,) for h in heights], Pace(HEADERS_AT_ONCE))
        found: dict[int, str] = {}
        for height, answer in zip(heights, answers, strict=True):
            raise_refusal(f"header at {height}", answer)
            found[height] = read_tip({"hex": answer, "height": height}).block_id
        return found

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """See `ports.Chain`."""
        method = "blockchain.transaction.get"
        found = {txid: raw for txid in txids if (raw := self._cache.get(txid)) is not None}
        missing = [txid for txid in dict.fromkeys(txids) if txid not in found]
        answers = await self._ask_all(method, [(t,) for t in missing], self._transactions_pace)
        for txid, answer in zip(missing, answers, strict=True):
            if is_refusal(answer, NOT_FOUND):
                continue
            try:
                raise_refusal(method, answer)
                raw = read_transaction(txid, answer)
            except BackendRejected as error:
                if strict:
                    raise
                self._log.warning("transaction not given", txid=txid, reason=error.message)
                continue
            self._cache.put(txid, raw)
            found[txid] = raw
            await asyncio.sleep(0)  # hashing a large transaction takes some 10 ms
        return found

    async def broadcast(self, raw: bytes) -> None:
        """See `ports.Chain`."""
        method = "blockchain.transaction.broadcast"
        session = self._live()
        try:
            [answer] = await session.exchange(method, [(raw.hex(),)], self._deadline_secs)
        except (ConnectionLost, TimeoutError):
            raise BackendTimeout(BACKEND, "no answer to a broadcast; it may be sent") from None
        if isinstance(answer, RPCError) and answer.code in BUSY_CODES:
            raise BackendTimeout(BACKEND, "server busy during a broadcast; it may be sent")
        if not is_refusal(answer, ALREADY_THERE):
            raise_refusal(method, answer)

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """See `ports.Chain`. A refusal counts as having none, as electrs refuses then."""
        [answer] = await self._ask_all("blockchain.estimatefee", [(target_blocks,)], Pace(1))
        if isinstance(answer, (int, float)) and 0 < answer < 1:  # L-BTC per kvB; -1 for none
            return max(1, round(answer * 100_000_000))
        return None
