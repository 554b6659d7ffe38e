"""What the operator sees: swaps with what comes next, backends, inventory, events and deadlines.

It reads and never writes. It answers while the backends are down, because that is when it is asked.
"""

from dataclasses import dataclass

from lnliquid.config import Settings
from lnliquid.domain.errors import BackendError, SwapNotFound
from lnliquid.domain.next_step import Outlook, outlook
from lnliquid.domain.ports import Chain, Clock
from lnliquid.domain.reconcile import Policy
from lnliquid.domain.swap import Event, Swap
from lnliquid.metrics.backends import Backend
from lnliquid.seller.operator import Holding, Operator
from lnliquid.seller.readiness import Readiness
from lnliquid.store import queries
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.queries import Filter as Filter

Seen = tuple[Swap, Outlook | None]
"""A swap, and what comes next for it."""


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
        chain: Chain,
        backends: tuple[Backend, Backend],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._operator = operator
        self._readiness = readiness
        self._chain = chain
        self._backends = backends
        self.settings = settings
        self._clock = clock
        self._started_at = clock.now()
        self._policy = Policy(settings.funding_confs, settings.final_confs, settings.timelocks)

    async def tip_height(self) -> int | None:
        """Height of the chain, None while that is not known."""
        try:
            return (await self._chain.tip()).height
        except BackendError:
            return None

    async def swaps(self, wanted: Filter, limit: int) -> list[Seen]:
        """Swaps, newest first, with what comes next for each."""
        tip_height = await self.tip_height()
        return [self._seen(s, tip_height) for s in await self._operator.swaps(wanted, limit)]

    async def inspect(self, swap_id: str) -> tuple[Seen, list[Event], int | None]:
        """One swap, its event log, and the height under which its outlook was made.

        Raises `SwapNotFound`.
        """
        tip_height = await self.tip_height()
        swap, events = await self._database.read(
            lambda tx: (swap_store.get(tx, swap_id), swap_store.events(tx, swap_id))
        )
        if swap is None:
            raise SwapNotFound(swap_id)
        return self._seen(swap, tip_height), events, tip_height

    async def refund(self, swap_id: str, reason: str) -> Seen:
        """See `Operator.refund`; the swap with what comes next now."""
        return self._seen(await self._operator.refund(swap_id, reason), await self.tip_height())

    def _seen(self, swap: Swap, tip_height: int | None) -> Seen:
        return swap, outlook(swap, tip_height, self._clock.now(), self._policy)

    async def status(self, after_event: int, limit: int) -> Status:
        """Everything else, read in one transaction. Raises `StoreFailure`."""

        def look(tx: Transaction) -> tuple[queries.Counts, list[Event], list[Swap]]:
            return (
                queries.counts(tx),
                queries.newest_events(tx, after_event, limit),
                queries.next_to_refund(tx, limit),
            )

        problem = await self._readiness.problem()
        tip_height = await self.tip_height()
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
