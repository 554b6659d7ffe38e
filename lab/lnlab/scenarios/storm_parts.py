"""What a storm is made of: its plan, its requests, the answers, the result."""

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from embit import bech32
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from ln_liquid_swap.v1 import swap_pb2 as pb


@dataclass(frozen=True)
class StormPlan:
    """What to do. `clients` 0: as many as calls. `inventory_for` None: enough for all."""

    swaps: int = 200
    clients: int = 0
    duplicate_rate: float = 0.2
    kill_every_secs: float | None = None
    inventory_for: int | None = None
    lanes: int = 4
    seed: int = 1
    timeout_secs: float = 300.0

    @property
    def amount(self) -> int:
        """Amount of each swap; lanes share the inventory without a rest."""
        return 1_000 * self.lanes

    @property
    def inventory(self) -> int:
        """The seller's amount of the asset."""
        return (self.inventory_for or 2 * self.swaps) * self.amount


@dataclass(frozen=True)
class Answer:
    """How one client's call ended: with a swap, or with a reason of refusal."""

    request_id: str
    swap: pb.Swap | None
    refusal: str | None
    secs: float
    attempts: int


@dataclass(frozen=True)
class Progress:
    """How far it is: calls answered of all, and a remark."""

    answered: int
    calls: int
    remark: str


@dataclass
class StormResult:
    """What came out. Times in seconds; percentiles of all calls, and of the replays afterwards."""

    requests: int
    calls: int
    funded: int
    refused: dict[str, int]
    attempts: int
    kills: int
    transactions: int
    blocks: int
    secs: float
    call_secs: dict[str, float]
    replay_secs: dict[str, float]
    audit: dict[str, Any] = field(default_factory=dict)


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99 (nearest rank), and the greatest."""
    ordered = sorted(values)
    ranks = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {k: round(ordered[min(last, int(r * len(ordered)))], 3) for k, r in ranks.items()}


def requests_of(plan: StormPlan, asset_id: str) -> tuple[list[pb.CreateSwapRequest], list[int]]:
    """The distinct requests, and the calls as indexes of them: each once, duplicates besides.

    Every second duplicate is sent right beside its original, the others anywhere.
    """
    dice = random.Random(plan.seed)
    requests = [
        pb.CreateSwapRequest(
            asset_id=asset_id,
            asset_amount=plan.amount,
            buyer_claim_address=bech32.encode("ert", 0, dice.randbytes(20)),
            min_funding_confs=1,
            max_total_price_msat=10**12,
            request_id=str(uuid.UUID(bytes=dice.randbytes(16), version=4)),
        )
        for _ in range(plan.swaps)
    ]
    calls = list(range(plan.swaps))
    for number in range(round(plan.swaps * plan.duplicate_rate)):
        chosen = dice.randrange(plan.swaps)
        beside = calls.index(chosen) if number % 2 == 0 else dice.randrange(len(calls))
        calls.insert(beside, chosen)
    return requests, calls


def refusal_of(error: grpc.aio.AioRpcError) -> str:
    """Status code and, where the server gave one, the reason of its ErrorInfo."""
    reasons = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    reasons.append(info.reason)
    return " ".join([error.code().name, *(reasons or [error.details() or ""])])
