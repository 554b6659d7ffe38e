"""Storms as scenarios: each starts a seller of its own on a lab of its own."""

from lnlab.lab import Lab
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.storm import storm_on
from lnlab.scenarios.storm_parts import Progress, StormPlan

REFUSED = "FAILED_PRECONDITION INSUFFICIENT_INVENTORY"
SWAPS, DUPLICATE_RATE = 100, 0.2
STOCK = 70


async def storm(lab: Lab, say: Say, seed: int) -> None:
    """Very many requests at once, one in five sent twice: one swap each, in a single block."""
    plan = StormPlan(swaps=SWAPS, duplicate_rate=DUPLICATE_RATE, seed=seed)
    result = await storm_on(lab, plan, tell=_Steps(say))
    require(result.funded == SWAPS, f"{result.funded} of {SWAPS} were funded")
    require(not result.refused, f"some were refused: {result.refused}")
    say(f"{result.calls} calls, {result.funded} swaps in {result.transactions} transactions")


async def oversell(lab: Lab, say: Say, seed: int) -> None:
    """More is asked for at once than there is: what there is is sold, the rest refused clearly."""
    plan = StormPlan(swaps=SWAPS, inventory_for=STOCK, lanes=2, seed=seed)
    result = await storm_on(lab, plan, tell=_Steps(say))
    require(result.funded == STOCK, f"{result.funded} were funded, there was stock for {STOCK}")
    require(result.refused == {REFUSED: SWAPS - STOCK}, f"the refusals were {result.refused}")
    say(f"{result.funded} funded, {SWAPS - STOCK} refused with {REFUSED}")


async def killed(lab: Lab, say: Say, seed: int) -> None:
    """The daemon dies again and again under many requests: each is funded once, none is lost."""
    plan = StormPlan(swaps=60, clients=10, kill_every_secs=0.5, duplicate_rate=0.2, seed=seed)
    result = await storm_on(lab, plan, tell=_Steps(say))
    require(result.kills > 0, "the daemon was never killed")
    require(result.funded == plan.swaps, f"{result.funded} of {plan.swaps} were funded")
    say(f"killed {result.kills} times, {result.funded} swaps, each funded once")


class _Steps:
    """Passes on remarks about the storm's steps, not about every answer."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told = ""

    def __call__(self, progress: Progress) -> None:
        """Say a remark once."""
        if progress.remark and progress.remark != self._told:
            self._told = progress.remark
            self._say(progress.remark)
