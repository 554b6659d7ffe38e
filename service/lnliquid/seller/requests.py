"""Which swap a request stands for. Repeated requests are answered without the disk."""

from collections.abc import Sequence

from lnliquid.domain.errors import SwapError
from lnliquid.domain.swap import Request, Swap
from lnliquid.seller.batch import Gather
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database

MAX_REMEMBERED = 4_096


class Requests:
    """Looks requests up, and remembers what was found for as long as nothing is written.

    Any commit at all forgets everything, so that an answer from memory is the one that the store
    would give at that moment.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read = Gather(self._read_all)
        self._stamp: int | None = None
        self._found: dict[Request, Swap] = {}

    async def swap_of(self, request: Request) -> Swap | None:
        """The swap that this request named before, None if it is new. Raises `RequestConflict`."""
        if self._stamp is not None and self._stamp == self._database.stamp:
            found = self._found.get(request)
            if found is not None:
                return found
        return await self._read(request)

    async def _read_all(self, requests: Sequence[Request]) -> Sequence[Swap | SwapError | None]:
        stamp = self._database.stamp  # of before the read, so that no commit is missed
        found = await self._database.read(lambda tx: swap_store.swaps_of_requests(tx, requests))
        if stamp is not None:
            if stamp != self._stamp or len(self._found) >= MAX_REMEMBERED:
                self._stamp, self._found = stamp, {}
            for request, swap in zip(requests, found, strict=True):
                if isinstance(swap, Swap):
                    self._found[request] = swap
        return found
