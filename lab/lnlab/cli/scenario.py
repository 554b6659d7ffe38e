"""`lnlab scenario`: list the scenarios, and play them."""

from typing import Annotated

import typer

from lnlab.cli.base import (
    DEFAULT_DIRECTORY,
    AsJson,
    Directory,
    Nodes,
    NodesKind,
    Seed,
    command,
    show,
)

app = typer.Typer(no_args_is_help=True, help="Play whole flows with their checks.")


@app.command("list")
@command
def scenario_list(as_json: AsJson = False) -> None:
    """List the scenarios and what each shows.

    Example: `lnlab scenario list`
    """
    from lnlab.scenarios.catalogue import SCENARIOS  # loaded only when needed: it takes long

    scenarios = SCENARIOS.values()
    rows = [{"name": one.name, "shows": one.promise, "limits": one.limits} for one in scenarios]
    lines = []
    for one in scenarios:
        lines.append(f"{one.name:<20} {one.promise}")
        if one.limits:
            lines.append(f"{'':<20} ({one.limits})")
    show("\n".join(lines), {"scenarios": rows}, as_json=as_json)


@app.command("run")
@command
async def scenario_run(
    names: Annotated[list[str] | None, typer.Argument(help="All of them if left out.")] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Nodes = NodesKind.EMBEDDED,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Start a lab and a seller, play scenarios, end the lab. Exit code 1 when one fails.

    After each one every node is checked and the audit must balance. When one fails its lab's data
    and logs are kept.

    Example: `lnlab scenario run refund late-payment --nodes process`
    """
    from lnlab.scenarios.runner import play

    results = await play(directory, names or [], nodes.value, seed)
    show(
        f"[bold green]{len(results)} scenarios ended as they should[/] on {nodes.value} nodes.",
        {"nodes": nodes.value, "seed": seed, "scenarios": results},
        as_json=as_json,
    )
