"""Storm: very many buyers at once, the same request sent by several of them, the daemon killed.

Each client calls `CreateSwap` and, as the schema tells buyers, calls again with the same request id
after any broken connection, until it has an invoice or a refusal. A block is mined only when every
request that is on its way is funded in the mempool, so that the number of blocks shows how many the
funding needed. Nothing but the API, the command line and the chain is looked at.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc
from lnlab.actors.daemon import CHANNEL_OPTIONS, SellerDaemon
from lnlab.actors.programs import run_program
from lnlab.lab import Kind, Lab
from lnlab.scenarios.fundings import Fundings
from lnlab.scenarios.sale import require
from lnlab.scenarios.storm_parts import (
    Answer,
    Progress,
    StormPlan,
    StormResult,
    percentiles,
    refusal_of,
    requests_of,
)

CALL_SECS = 30.0
AGAIN_CODES = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
"""After these a client cannot know what became of its request and asks again."""
CHANNELS = 8
STALL_SECS = 10.0
"""A block is mined as well when nothing moved for so long: fundings may wait for one."""
KILLING_SHARE = 1 / 3
"""Of the storm's time: later the daemon lives, or a slow machine would never see the end."""
CONFLICTS = 10
REPLAYS_AT_ONCE = 100


async def storm(
    directory: Path, kind: Kind, plan: StormPlan, *, tell: Callable[[Progress], None]
) -> StormResult:
    """Start a lab and a daemon, let the storm loose, check everything, end the lab.

    Raises `ScenarioError` when a promise was not kept, `ProgramError` when the audit is not exact.
    """
    tell(Progress(0, 0, "starting nodes and seller"))
    lab = await Lab.start(directory, kind=kind)
    try:
        return await storm_on(lab, plan, tell=tell)
    finally:
        await lab.stop()


async def storm_on(
    lab: Lab, plan: StormPlan, *, tell: Callable[[Progress], None] = lambda _: None
) -> StormResult:
    """The same on a lab that runs and has no seller daemon yet."""
    settings = {
        "max_inflight_swaps": plan.swaps + 100,
        "create_wait_secs": 60,
        "lanes": plan.lanes,
    }
    async with await SellerDaemon.create(
        lab, settings=settings, asset_amount=plan.inventory, coins=plan.lanes
    ) as daemon:
        result = await _Storm(daemon, plan, tell).run()
        daemon.check_log()
        return result


class _Storm:
    def __init__(
        self, daemon: SellerDaemon, plan: StormPlan, tell: Callable[[Progress], None]
    ) -> None:
        self._daemon = daemon
        self._lab = daemon.lab
        self._plan = plan
        self._tell = tell
        self._requests, self._calls = requests_of(plan, daemon.asset_id)
        self._clients = plan.clients or len(self._calls)
        self._dice = random.Random(plan.seed)
        self._under_way: Counter[str] = Counter()
        self._answers: list[Answer] = []
        self._fundings = Fundings(self._lab, daemon.asset_id)
        self._over = asyncio.Event()
        self._kills = 0
        self._blocks = 0

    async def run(self) -> StormResult:
        channels = [self._channel() for _ in range(min(CHANNELS, self._clients))]
        stubs = [swap_pb2_grpc.SwapServiceStub(channel) for channel in channels]
        try:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._plan.timeout_secs):
                    await self._let_loose(stubs)
            except TimeoutError:
                require(False, f"not over after {self._plan.timeout_secs:g} s: {self._state()}")
            secs = time.monotonic() - started
            await self._daemon.wait_ready()
            self._say("sending every request again")
            replays = await self._replay(stubs)
            await self._conflicts(stubs[0])
            return await self._judge(stubs[0], replays, secs)
        finally:
            for channel in channels:
                await channel.close()

    def _channel(self) -> grpc.aio.Channel:
        # Otherwise all channels of a process share one connection.
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.insecure_channel(self._daemon.address, options=options)

    async def _let_loose(self, stubs: list[Any]) -> None:
        queue = iter(self._calls)

        async def client(number: int) -> None:
            for index in queue:
                request = self._requests[index]
                self._under_way[request.request_id] += 1
                answer = await self._ask(stubs[number % len(stubs)], request)
                self._answers.append(answer)
                self._under_way[request.request_id] -= 1
                self._say(answer.refusal or "")

        async def all_clients() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(self._clients):
                        group.create_task(client(number))
            finally:
                self._over.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(all_clients())
            group.create_task(self._mine())
            if self._plan.kill_every_secs is not None:
                group.create_task(self._kill_every(self._plan.kill_every_secs))

    async def _ask(self, stub: Any, request: pb.CreateSwapRequest) -> Answer:
        """Call until there is an answer that is final for a buyer."""
        started, attempts = time.monotonic(), 0
        while True:
            attempts += 1
            try:
                # Without a connection the call waits for one; trying again would only cost power.
                reply = await stub.CreateSwap(request, timeout=CALL_SECS, wait_for_ready=True)
                swap = reply.swap
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN_CODES:
                    secs = time.monotonic() - started
                    return Answer(request.request_id, None, refusal_of(error), secs, attempts)
                await asyncio.sleep(self._dice.uniform(0.5, 1.0) * min(2.0, 0.1 * 2**attempts))
                continue
            if swap.bolt11 or swap.state > pb.SWAP_STATE_FUNDED:
                secs = time.monotonic() - started
                return Answer(request.request_id, swap, None, secs, attempts)

    async def _mine(self) -> None:
        """Mine when all that is under way is funded in the mempool, or when nothing moves."""
        moved_at, last = time.monotonic(), (0, 0)
        while not self._over.is_set():
            waiting = await self._fundings.look()
            here = (self._fundings.pairs, len(self._answers))
            if here != last:
                moved_at, last = time.monotonic(), here
            stalled = time.monotonic() - moved_at > STALL_SECS
            if waiting and (stalled or self._fundings.pairs >= self._wanted_pairs()):
                self._say(f"mining a block, {self._fundings.pairs} swaps funded")
                for block_hash in await self._lab.mine():
                    self._blocks += await self._fundings.mined(block_hash)
                moved_at = time.monotonic()
            try:
                await asyncio.wait_for(self._over.wait(), 0.1)
            except TimeoutError:
                self._lab.check_alive()

    def _wanted_pairs(self) -> int:
        """Swaps that must be in a funding by now: those answered with one, those under way."""
        ids = {a.request_id for a in self._answers if a.swap}
        refused = {a.request_id for a in self._answers if a.refusal}
        under_way = {request_id for request_id, count in self._under_way.items() if count}
        if len(self._under_way) < len(self._requests) and self._under_way.total() < self._clients:
            return len(self._requests)  # clients are still setting out
        return len(ids | (under_way - refused))

    async def _kill_every(self, secs: float) -> None:
        """Let each daemon live for so long from when it answers; starting Python is no life."""
        until = time.monotonic() + self._plan.timeout_secs * KILLING_SHARE
        while time.monotonic() < until:
            await self._lab.wait_for(
                self._is_up_or_over, timeout_secs=60, message="the daemon listens again"
            )
            try:
                await asyncio.wait_for(self._over.wait(), secs)
                return
            except TimeoutError:
                await self._daemon.kill()
                self._kills += 1
                await self._daemon.launch()
                self._say(f"killed {self._kills} times")

    async def _is_up_or_over(self) -> bool:
        if self._over.is_set():
            return True
        stub = health_pb2_grpc.HealthStub(self._daemon.channel())
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def _replay(self, stubs: list[Any]) -> list[Answer]:
        gate = asyncio.Semaphore(REPLAYS_AT_ONCE)

        async def again(number: int, request: pb.CreateSwapRequest) -> Answer:
            async with gate:
                return await self._ask(stubs[number % len(stubs)], request)

        return await asyncio.gather(*(again(n, r) for n, r in enumerate(self._requests)))

    async def _conflicts(self, stub: Any) -> None:
        """Other parameters under a request id that has a swap are an error that names the field."""
        sold = {a.request_id for a in self._answers if a.swap}
        for request in [r for r in self._requests if r.request_id in sold][:CONFLICTS]:
            other = pb.CreateSwapRequest()
            other.CopyFrom(request)
            other.asset_amount += 1
            answer = await self._ask(stub, other)
            require(
                answer.refusal == "ALREADY_EXISTS REQUEST_ID_REUSED",
                f"another amount under {request.request_id} was answered {answer}",
            )

    async def _judge(self, stub: Any, replays: list[Answer], secs: float) -> StormResult:
        by_request: dict[str, list[Answer]] = {r.request_id: [] for r in self._requests}
        for answer in [*self._answers, *replays]:
            by_request[answer.request_id].append(answer)
        swaps: dict[str, pb.Swap] = {}
        refused: Counter[str] = Counter()
        for request_id, answers in by_request.items():
            ends = {a.swap.swap_id if a.swap else a.refusal for a in answers}
            require(len(ends) == 1, f"request {request_id} was answered with {ends}")
            swap = answers[0].swap
            if swap is None:
                refused[str(answers[0].refusal)] += 1
                continue
            require(swap.request_id == request_id, f"{request_id} got the swap {swap}")
            require(swap.state == pb.SWAP_STATE_FUNDED, f"{request_id} has {swap}")
            swaps[swap.swap_id] = swap
        funded = len(swaps)
        require(
            funded + refused.total() == len(self._requests),
            f"{funded} swaps and {refused.total()} refusals for {len(self._requests)} requests",
        )
        await self._fundings.look()
        outputs = {
            (s.funding_txid, v) for s in swaps.values() for v in (s.asset_vout, s.subsidy_vout)
        }
        require(len(outputs) == 2 * funded, "two swaps have the same HTLC output")
        require(
            {txid for txid, _ in outputs} == set(self._fundings.confirmed),
            f"swaps are in {len({t for t, _ in outputs})} transactions, the chain has "
            f"{len(self._fundings.confirmed)} fundings",
        )
        require(
            self._fundings.pairs == funded,
            f"{self._fundings.pairs} HTLC pairs are on the chain for {funded} swaps",
        )
        offer = await stub.GetOffer(pb.GetOfferRequest(asset_id=self._daemon.asset_id))
        left = self._plan.inventory - funded * self._plan.amount
        require(
            offer.offer.available_amount == left,
            f"{offer.offer.available_amount} is on offer, {left} should be left",
        )
        self._say("audit")
        audit = await self._audit()
        require(audit["reservations"] == 0, f"{audit['reservations']} reservations are left over")
        require(audit["swaps"] == {"FUNDED": funded}, f"the store has {audit['swaps']}")
        return StormResult(
            requests=len(self._requests),
            calls=len(self._calls),
            funded=funded,
            refused=dict(refused),
            attempts=sum(a.attempts for a in self._answers),
            kills=self._kills,
            transactions=len(self._fundings.confirmed),
            blocks=self._blocks,
            secs=round(secs, 2),
            call_secs=percentiles(a.secs for a in self._answers),
            replay_secs=percentiles(a.secs for a in replays),
            audit=audit,
        )

    async def _audit(self) -> dict[str, Any]:
        config = str(self._daemon.config)
        printed = await run_program("lnliquid", "audit", "--config", config, "--json")
        values: dict[str, Any] = json.loads(printed)
        require(values["exact"] is True, f"the audit says {values['differences']}")
        return values

    def _state(self) -> str:
        open_ids = [request_id for request_id, count in self._under_way.items() if count]
        return (
            f"{len(self._answers)} of {len(self._calls)} calls answered, {len(open_ids)} requests "
            f"open, {self._fundings.pairs} pairs on chain, {self._kills} kills; one open request: "
            f"{open_ids[0] if open_ids else 'none'}"
        )

    def _say(self, remark: str) -> None:
        self._tell(Progress(len(self._answers), len(self._calls), remark))
