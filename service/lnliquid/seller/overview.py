"""What the operator sees: swaps with what comes next, backends, inventory, events and deadlines.

It reads and never writes. It answers while the backends are down, because that is when it is asked.
"""

from dataclasses import dataclass

from lnliquid.config import Settings
from lnliquid.domain.errors import SwapNotFound
from lnliquid.domain.next_step import Outlook, PayWindow, outlook, pay_window
from lnliquid.domain.ports import Clock
from lnliquid.domain.reconcile import Policy
from lnliquid.domain.swap import Event, Swap
from lnliquid.metrics.backends import Backend
from lnliquid.seller.operator import Holding, Operator
from lnliquid.seller.readiness import Readiness
from lnliquid.store import queries
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.queries import Filter as Filter

Seen = tuple[Swap, PayWindow, Outlook | None]
"""A swap, until when it can be paid, and what comes next for it."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon is. `tip_height` is None while the Liquid backend cannot be reached.

    `breakers`: for each backend why new swaps are refused because of it, empty when they are not.
    """

    problem: str | None
    paused: bool
    tip_height: int | None
    now: int
    started_at: int
    counts: queries.Counts
    backends: tuple[Backend, ...]
    breakers: dict[str, str]
    holdings: list[Holding]
    events: list[Event]
    deadlines: list[Seen]


class Overview:
    """Everything a live view shows."""

    def __init__(
        self,
        database: Database,
        operator: Operator,
        readiness: Readiness,
        backends: tuple[Backend, Backend],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._operator = operator
        self._readiness = readiness
        self._backends = backends
        self.settings = settings
        self._clock = clock
        self._started_at = clock.now()
        self._policy = Policy(settings.funding_confs, settings.final_confs, settings.timelocks)

    async def swaps(self, wanted: Filter, limit: int) -> list[Seen]:
        """Swaps, newest first, with what comes next for each."""
        tip_height = await self._readiness.tip_height()
        return [self._seen(s, tip_height) for s in await self._operator.swaps(wanted, limit)]

    async def inspect(self, swap_id: str) -> tuple[Seen, list[Event], int | None]:
        """One swap, its event log, and the height under which its outlook was made.

        Raises `SwapNotFound`.
        """
        tip_height = await self._readiness.tip_height()
        swap, events = await self._database.read(
            lambda tx: (swap_store.get(tx, swap_id), swap_store.events(tx, swap_id))
        )
        if swap is None:
            raise SwapNotFound(swap_id)
        return self._seen(swap, tip_height), events, tip_height

    async def refund(self, swap_id: str, reason: str) -> Seen:
        """See `Operator.refund`; the swap with what comes next now."""
        swap = await self._operator.refund(swap_id, reason)
        return self._seen(swap, await self._readiness.tip_height())

    def _seen(self, swap: Swap, tip_height: int | None) -> Seen:
        now, policy = self._clock.now(), self._policy
        window = pay_window(swap, tip_height, now, policy.timelocks)
        return swap, window, outlook(swap, tip_height, now, policy)

    async def status(self, after_event: int, limit: int) -> Status:
        """Everything else, read in one transaction. Raises `StoreFailure`."""

        def look(tx: Transaction) -> tuple[queries.Counts, list[Event], list[Swap]]:
            return (
                queries.counts(tx),
                queries.newest_events(tx, after_event, limit),
                queries.next_to_refund(tx, limit),
            )

        problem = await self._readiness.problem()
        tip_height = await self._readiness.tip_height()
        counts, events, deadlines = await self._database.read(look)
        electrum, lightning = self._backends
        return Status(
            problem=problem,
            paused=await self._operator.paused(),
            tip_height=tip_height,
            now=self._clock.now(),
            started_at=self._started_at,
            counts=counts,
            backends=self._backends,
            breakers={
                electrum.name: self._readiness.chain_problem or "",
                lightning.name: self._readiness.lightning_problem or "",
            },
            holdings=await self._operator.holdings(),
            events=events,
            deadlines=[self._seen(swap, tip_height) for swap in deadlines],
        )
