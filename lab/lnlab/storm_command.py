"""`lnlab storm`: options, a progress bar on standard error, a table of what came out."""

from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lnlab.commands import show
from lnlab.lab import Kind
from lnlab.scenarios.storm import storm
from lnlab.scenarios.storm_parts import Progress as StormProgress
from lnlab.scenarios.storm_parts import StormPlan, StormResult


async def run_storm(directory: Path, kind: Kind, plan: StormPlan, *, as_json: bool) -> None:
    """Run it and print the result."""
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

        result = await storm(directory, kind, plan, tell=tell)
    show(table_of(result), asdict(result), as_json=as_json)


def table_of(result: StormResult) -> Table:
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
