"""What a block costs in Electrum calls, counted by the server: `bench.scale` in small."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.open_swaps import Crowd, crowd
from bench.scale import CountingServer, connected, serving
from bench.world import Daemon
from lnlab.wait import wait_for
from lnliquid.domain.swap import State, Swap
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.watchers.observe import LOOKS_A_BLOCK
from lnliquid.watchers.wakeups import Notices

SWAPS = 200
"""10 each are CREATED, CLAIMED in the mempool, CLAIMED in half, REFUNDED; the rest is FUNDED."""
FEW = SWAPS // 20
OWN_UNCONFIRMED = 2
"""Transactions of ours in the mempool: one funding, one refund; each is asked for at a block."""
OF_A_BLOCK = 3
"""The new header, and for the connection and the remembered blocks each whether the old one is
still below it."""
REMEMBERED = 1
"""At a start: whether the last remembered block is still in the chain."""


class Watching:
    """A daemon that has caught up over TCP and is stepped by the test."""

    def __init__(
        self,
        made: Crowd,
        server: CountingServer,
        daemon: Daemon,
        chain: ElectrumChain,
        notices: Notices,
    ) -> None:
        self.made, self.server = made, server
        self.daemon, self.chain, self.notices = daemon, chain, notices
        self._counted = 0

    def calls(self) -> int:
        """Requests since this was last asked."""
        before, self._counted = self._counted, self.server.requests
        return self._counted - before

    async def settle(self) -> None:
        """Rounds until there is no news."""
        while self.notices.watcher.is_set():
            self.notices.watcher.clear()
            await self.daemon.watcher.round(reload_all=False)

    async def claim(self, swaps: list[Swap]) -> None:
        """The buyers claim, and the daemon sees it."""
        self.made.claim(swaps)
        watched = self.daemon.watcher.swaps

        async def all_seen() -> bool:
            await self.settle()
            return all(watched[swap.swap_id].state is State.CLAIMED for swap in swaps)

        await wait_for(all_seen)

    async def block(self) -> None:
        """A block of what is not parked, and all that follows from it."""
        self.made.mine()
        height = self.made.seller.chain.tip_height

        async def seen() -> bool:
            # The answer with the new tip comes after the notifications of its scripts.
            return (await self.chain.tip()).height == height

        await wait_for(seen)
        await self.settle()


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Watching]:
    """A daemon over so many open swaps, some blocks after its start."""
    async with (
        crowd(folder / "open", SWAPS) as made,
        serving(made.seller.chain) as (server, url),
        connected(made, url) as (daemon, chain, notices),
    ):
        await daemon.watcher.round()
        found = Watching(made, server, daemon, chain, notices)
        for _ in range(3):
            await found.block()
        found.calls()
        yield found


async def test_a_block_costs_calls_for_what_changed_and_not_for_what_is_open(
    tmp_path: Path,
) -> None:
    """A claim: history and transaction in the mempool, its block, and once more when it is final.

    Beside that: the block itself, our own unconfirmed transactions, and a few that wait for long.
    """
    async with watching(tmp_path) as world:
        each_block = OF_A_BLOCK + OWN_UNCONFIRMED + LOOKS_A_BLOCK
        await world.block()
        assert world.calls() == each_block
        swaps = world.made.waiting_for_payment()[:2]
        await world.claim(swaps)
        assert world.calls() == 2 * len(swaps)
        await world.block()
        assert world.calls() == each_block + len(swaps)
        await world.block()
        assert world.calls() == each_block + len(swaps)
        assert not {swap.swap_id for swap in swaps} & world.daemon.watcher.swaps.keys()
        await world.block()
        assert world.calls() == each_block


async def test_a_start_reads_only_what_is_not_as_it_was_stored(tmp_path: Path) -> None:
    """Each script is subscribed; read are those whose status is not that of the funding alone.

    A claim that came while nobody watched is found, and a claim needs its transaction too.
    """
    async with (
        crowd(tmp_path / "open", SWAPS) as made,
        serving(made.seller.chain) as (server, url),
    ):
        [claimed] = made.waiting_for_payment()[:1]
        made.claim([claimed])
        async with connected(made, url) as (daemon, _chain, _notices):
            server.requests = 0
            await daemon.inventory.sync(set())
            of_the_wallet = server.requests
            await daemon.watcher.round()
        states = {swap.state for swap in daemon.watcher.swaps.values()}
        assert daemon.watcher.swaps[claimed.swap_id].state is State.CLAIMED
        assert states == {State.CREATED, State.FUNDED, State.CLAIMED, State.REFUNDED}
        histories = 4 * FEW + 1
        transactions = 2 * FEW + 1  # claims; the wallet has read the refund, which pays it
        assert server.requests - of_the_wallet == (
            SWAPS + histories + transactions + OWN_UNCONFIRMED + REMEMBERED
        )
