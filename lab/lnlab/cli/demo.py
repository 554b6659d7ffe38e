"""`lnlab demo`: the main job from nothing to a finished sale, told to a newcomer."""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import TICKER, SellerDaemon
from lnlab.cli.base import DEFAULT_DIRECTORY, AsJson, Directory, Nodes, NodesKind, show
from lnlab.lab import Kind, Lab
from lnlab.scenarios.sale import Sale, sale

AMOUNT = 2_50_000_000
"""2.5 DEMO in its smallest unit."""

UNIT = 100_000_000


def units(amount: int) -> str:
    """An amount of the demo asset as people write it."""
    return f"{amount / UNIT:.8f}".rstrip("0").rstrip(".") + f" {TICKER}"


async def demo(
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Nodes = NodesKind.EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Start a lab and the seller, sell an asset over Lightning, show every step, end the lab.

    Example: `lnlab demo --nodes process`
    """
    done = await sell(directory, nodes.value)
    if as_json:
        show("", asdict(done), as_json=True)


async def sell(directory: Path, kind: Kind) -> Sale:
    """Start a lab, sell, check, end the lab; prints a line for each step on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {text}")

    what = "elementsd, electrs and two lightningd" if kind == "process" else "embedded nodes"
    console.print("[bold]Pay a Lightning invoice, receive a Liquid asset: a sale on regtest.[/]")
    say(f"lab     starting {what} in {directory}")
    lab = await Lab.start(directory, kind=kind)
    try:
        say(f"lab     chain, Electrum server and two Lightning nodes are up: {lab.electrum_url}")
        say(f"seller  issuing {TICKER}, funding the seller's wallet, starting `lnliquid serve`")
        async with await SellerDaemon.create(lab, wait=False) as daemon:
            buyer = Buyer(daemon)
            # Programs take longest to load: the buyer's does so beside the seller's.
            _, before = await asyncio.gather(daemon.wait_ready(), buyer.balance())
            say(f"seller  ready on {daemon.address} (process {daemon.pid})")
            say(f"buyer   has {units(before)}; buys {units(AMOUNT)}")
            done = await sale(
                daemon, buyer, AMOUNT, before=before, say=lambda line: say(_buyers(line))
            )
            _agree(console, done)
            return done
    finally:
        await lab.stop()


def _agree(console: Console, done: Sale) -> None:
    console.print(
        f"\n[bold green]The sale is complete[/] in {done.secs:.1f} s.\n"
        f"  The buyer's balance went from {units(done.balance_before)} "
        f"to {units(done.balance_after)}.\n"
        f"  The seller's invoice is {done.invoice_status}.\n"
        f"  The seller's record says {done.state}; the claim is transaction {done.claim_txid}.\n"
    )


def _buyers(line: str) -> str:
    """A line of the buyer's: steps stand right-aligned in eight columns, all else beside them."""
    is_step = line[:8].strip().isalpha() and line[7:10].endswith("  ") and line[7] != " "
    return f"buyer {line if is_step else ' ' * 10 + line}"
