"""`lnlab storm`: very many buyers at once, a progress bar, and a table of what came out."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lnlab.cli.base import DEFAULT_DIRECTORY, AsJson, Directory, Nodes, NodesKind, Seed, show

if TYPE_CHECKING:
    from lnlab.scenarios.storm_parts import StormResult


async def storm(
    swaps: Annotated[int, typer.Option(min=1, help="Distinct requests.")] = 200,
    clients: Annotated[
        int, typer.Option(min=0, help="Buyers at once; 0: as many as there are calls.")
    ] = 0,
    duplicate_rate: Annotated[
        float, typer.Option(min=0, max=5, help="Further calls that repeat a request id.")
    ] = 0.2,
    kill_every: Annotated[
        float | None,
        typer.Option(min=0.5, help="Kill the daemon whenever it was up for so many seconds."),
    ] = None,
    inventory_for: Annotated[
        int | None, typer.Option(min=1, help="Stock for this many swaps; enough if left out.")
    ] = None,
    lanes: Annotated[int, typer.Option(min=1, max=20, help="Coin pairs of the seller.")] = 4,
    seed: Seed = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Give up after so many seconds.")] = 300,
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Nodes = NodesKind.EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Start a lab and a seller, let very many buyers loose on it, check everything, end the lab.

    Example: `lnlab storm --swaps 1000 --duplicate-rate 0.2 --kill-every 2`
    """
    from lnlab.scenarios.storm import storm as play  # scenarios are loaded only to be played
    from lnlab.scenarios.storm_parts import Progress as StormProgress
    from lnlab.scenarios.storm_parts import StormPlan

    plan = StormPlan(
        swaps=swaps,
        clients=clients,
        duplicate_rate=duplicate_rate,
        kill_every_secs=kill_every,
        inventory_for=inventory_for,
        lanes=lanes,
        seed=seed,
        timeout_secs=timeout,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[remark]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("calls answered", total=None, remark="")

        def tell(progress: StormProgress) -> None:
            bar.update(
                task,
                completed=progress.answered,
                total=progress.calls or None,
                remark=progress.remark,
            )

        result = await play(directory, nodes.value, plan, tell=tell)
    show(table_of(result), asdict(result), as_json=as_json)


def table_of(result: "StormResult") -> Table:
    """The result for people."""
    table = Table(box=box.SIMPLE, title="Storm", show_header=False)
    table.add_column()
    table.add_column(justify="right")

    def times(values: dict[str, float]) -> str:
        return "  ".join(f"{name} {secs:.3f}" for name, secs in values.items())

    rows = [
        ("asked: distinct requests", str(result.requests)),
        ("calls, duplicates included", str(result.calls)),
        ("attempts, retries included", str(result.attempts)),
        ("funded", str(result.funded)),
        *((f"refused: {reason}", str(count)) for reason, count in result.refused.items()),
        ("daemon killed", f"{result.kills} times"),
        ("funding transactions", str(result.transactions)),
        ("blocks that hold them", str(result.blocks)),
        ("seconds, first call to last answer", f"{result.secs:.2f}"),
        ("CreateSwap until FUNDED, s", times(result.call_secs)),
        ("same request again, s", times(result.replay_secs)),
        ("audit", "exact" if result.audit.get("exact") else "[red]not exact[/]"),
    ]
    for what, value in rows:
        table.add_row(what, value)
    return table
