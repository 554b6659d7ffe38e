"""The operator's commands against a real listener: lists, timelines, switches, exit codes."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lnliquid.cli import command_line, error_report, watch_swap
from lnliquid.cli.operator import span
from lnliquid.cli.views import when
from lnliquid.domain.swap import State

from ..builders import uuid_of
from ..seller_world import LOCK_HEIGHT, SellerWorld, until


async def run(world: SellerWorld, *arguments: str) -> Result:
    """Run a command beside the daemon, as a process of its own would."""
    env = {"LNLIQUID_OPERATOR": world.address}
    result = await asyncio.to_thread(CliRunner().invoke, command_line(), list(arguments), env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


async def values(world: SellerWorld, *arguments: str) -> dict[str, Any]:
    """Its JSON, when it is done without an error."""
    result = await run(world, *arguments, "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def listed(told: dict[str, Any]) -> list[str]:
    """Swap ids of a list."""
    return [item["swap"]["swap_id"] for item in told["swaps"]]


async def test_swaps_are_filtered_by_state_age_and_need(world: SellerWorld) -> None:
    """Each filter alone; ids are whole in the table too."""
    world.clock.at = 1_000_000_000  # long ago
    old = await world.sell(1)
    import time

    world.clock.at = int(time.time()) - 600
    late = await world.pay_late(await world.sell(2))
    new = await world.reserve(3)
    every = [new.swap_id, late.swap_id, old.swap_id]
    assert listed(await values(world, "swaps")) == every
    assert listed(await values(world, "swaps", "--state", "CREATED")) == [new.swap_id]
    assert listed(await values(world, "swaps", "--paid-unclaimed")) == [late.swap_id]
    assert listed(await values(world, "swaps", "--older-than", "1h")) == [old.swap_id]
    assert listed(await values(world, "swaps", "--newer-than", "30m")) == every[:2]
    assert listed(await values(world, "swaps", "--newer-than", "5m")) == []
    await world.change(new, cause="gone", state=State.FAILED, finished=True)
    assert listed(await values(world, "swaps", "--unfinished")) == every[1:]
    table = await run(world, "swaps")
    assert all(swap_id in table.stdout for swap_id in every)
    assert "you" in table.stdout
    assert "PAID, NOT CLAIMED" in table.stdout
    assert (await run(world, "swaps", "--state", "REFUNDED")).stdout == "no swaps\n"


@pytest.mark.parametrize("text", ["2", "h", "-2h", "2 w", "1.5h", ""])
async def test_a_span_that_is_none_is_refused(world: SellerWorld, text: str) -> None:
    """With the forms that are taken."""
    result = await run(world, "swaps", f"--older-than={text}")
    assert (result.exit_code, "30m" in result.stderr) == (2, True)


def test_spans_and_heights_for_people() -> None:
    """What is typed and what is shown."""
    assert [span(t) for t in ("90s", "30m", "2h", "7d")] == [90, 1_800, 7_200, 604_800]
    assert [when(120, tip) for tip in (0, 118, 119, 120, 122)] == [
        "block 120",
        "block 120, 2 blocks from now",
        "block 120, 1 block from now",
        "block 120, now",
        "block 120, 2 blocks ago",
    ]


async def test_a_swap_is_told_with_its_past_and_its_future(world: SellerWorld) -> None:
    """What happened, what is awaited, by which block, who acts, and what follows otherwise."""
    swap = await world.sell(1)
    told = await values(world, "swap", swap.swap_id)
    assert [event["to_state"] for event in told["events"]] == [
        "SWAP_STATE_CREATED",
        "SWAP_STATE_FUNDED",
    ]
    ahead = told["swap"]["outlook"]
    assert (ahead["awaited"], ahead["actor"]) == ("the buyer pays", "ACTOR_BUYER")
    assert 100 < ahead["by_height"] < LOCK_HEIGHT + 1
    text = (await run(world, "swap", swap.swap_id)).stdout
    for words in (
        swap.swap_id,
        "inventory reserved",
        "the funding has 2 of 2 confirmations",
        "the buyer pays",
        f"block {ahead['by_height']:,}, {ahead['by_height'] - 100:,} blocks from now",
        "refunded at its lock height",
    ):
        assert words in text


async def test_a_swap_is_told_while_its_nodes_are_down(world: SellerWorld) -> None:
    """That is when it is asked for."""
    swap = await world.sell(1)
    world.break_nodes()
    result = await run(world, "swap", swap.swap_id)
    assert result.exit_code == 0
    assert "not reachable" in result.stdout


async def test_a_swap_that_is_final_awaits_nothing(world: SellerWorld) -> None:
    """And says so."""
    swap = await world.reserve(1)
    await world.change(swap, cause="the inventory is gone", state=State.FAILED, finished=True)
    text = (await run(world, "swap", swap.swap_id)).stdout
    assert "nothing: this swap is final" in text
    assert "the inventory is gone" in text


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watching looks again ten times as often."""
    monkeypatch.setattr(watch_swap, "EVERY_SECS", watch_swap.EVERY_SECS / 10)


async def test_watch_follows_a_swap_to_its_end_across_a_restart(
    world: SellerWorld, quick: None
) -> None:
    """Every change once, as a line of JSON; a daemon that is away is waited for."""
    swap = await world.reserve(1)
    watching = asyncio.create_task(run(world, "swap", swap.swap_id, "--watch", "--json"))
    await asyncio.sleep(0)
    before = world.chain.calls.count("tip")
    await until(lambda: world.chain.calls.count("tip") > before + 4, "it has looked twice")
    await world.shut()
    await world.open()
    await world.change(swap, cause="the inventory is gone", state=State.FAILED, finished=True)
    async with asyncio.timeout(30):
        result = await watching
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["swap"]["swap"]["state"] for line in lines] == [
        "SWAP_STATE_CREATED",
        "SWAP_STATE_FAILED",
    ]
    assert result.exit_code == 0


async def test_watch_as_text_tells_each_event_once(world: SellerWorld, quick: None) -> None:
    """With what is awaited; it ends with the swap."""
    swap = await world.reserve(1)
    watching = asyncio.create_task(run(world, "swap", swap.swap_id, "--watch"))
    before = world.chain.calls.count("tip")
    await until(lambda: world.chain.calls.count("tip") > before + 4, "it has looked twice")
    await world.change(swap, cause="the inventory is gone", state=State.FAILED, finished=True)
    async with asyncio.timeout(30):
        result = await watching
    assert result.stdout.count("inventory reserved") == 1
    assert result.stdout.count("the inventory is gone") == 1
    assert "awaited: the funding transaction is signed (daemon)" in result.stdout


async def test_inventory_shows_what_is_free_kept_locked_and_its_lanes(
    world: SellerWorld,
) -> None:
    """For the asset and for L-BTC."""
    await world.reserve(1)
    told = await values(world, "inventory")
    asset, lbtc = told["assets"]
    assert (asset["available"], asset["reserved"], asset["locked"]) == ("998000", "2000", "0")
    assert (asset["lanes"], asset["lanes_wanted"]) == (1, 4)
    assert lbtc["available"] == str(1_000_000 - 500 - 620)
    text = (await run(world, "inventory")).stdout
    assert "1 of 4" in text
    assert "0.00998" in text
    assert "L-BTC" in text


async def test_pause_and_resume_sales(world: SellerWorld) -> None:
    """As text and as JSON; the inventory says that sales are paused."""
    assert (await values(world, "pause")) == {"paused": True}
    assert "paused" in (await run(world, "inventory")).stdout
    assert (await values(world, "resume-sales")) == {"paused": False}
    assert "paused" not in (await run(world, "inventory")).stdout
    assert "resume-sales" in (await run(world, "pause")).stdout


async def test_refund_is_ordered_for_a_paid_swap_only(world: SellerWorld) -> None:
    """Any other is refused with the daemon's words and exit code 1."""
    late, other = await world.pay_late(await world.sell(1)), await world.sell(2)
    told = await values(world, "refund", late.swap_id, "--reason", "ticket 71")
    assert told["swap"]["forced_refund_reason"] == "ticket 71"
    assert told["swap"]["outlook"]["actor"] == "ACTOR_DAEMON"
    refused = await run(world, "refund", other.swap_id, "--reason", "ticket 72", "--json")
    assert refused.exit_code == 1
    assert "only a paid, unclaimed swap" in json.loads(refused.stdout)["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("swaps",),
        ("swap", uuid_of(1)),
        ("inventory",),
        ("pause",),
        ("resume-sales",),
        ("refund", uuid_of(1), "--reason", "why not"),
    ],
    ids=lambda arguments: arguments[0],
)
async def test_a_daemon_that_is_away_ends_every_command_with_3(
    world: SellerWorld, arguments: tuple[str, ...]
) -> None:
    """The address is named; with --json stdout is one object."""
    await world.shut()
    result = await run(world, *arguments, "--json")
    assert result.exit_code == 3
    assert world.address in result.stderr
    assert json.loads(result.stdout)["exit_code"] == 3


async def test_a_wrong_id_is_refused_in_words(world: SellerWorld) -> None:
    """An unknown swap and something that is no id."""
    result = await run(world, "swap", uuid_of(77))
    assert (result.exit_code, "no swap has the id" in result.stderr) == (1, True)
    result = await run(world, "swap", "latest")
    assert (result.exit_code, "swap_id" in result.stderr) == (1, True)


async def test_top_without_a_terminal_says_what_to_use(world: SellerWorld) -> None:
    """Exit code 2, nothing on stdout."""
    result = await run(world, "top")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "needs a terminal" in result.stderr


def test_shell_completion_can_be_installed() -> None:
    """And completes the commands."""
    assert "--install-completion" in CliRunner().invoke(command_line(), ["--help"]).output
    env = {"_LNLIQUID_COMPLETE": "complete_bash", "COMP_WORDS": "lnliquid re", "COMP_CWORD": "1"}
    result = CliRunner().invoke(command_line(), [], env=env, prog_name="lnliquid")
    assert {"refund", "resume", "resume-sales"} <= set(result.stdout.split())


def secretive() -> None:
    """Fails with a secret in a local variable and in the exception."""
    preimage = "11" * 32
    raise RuntimeError(f"broken with {preimage}")


def test_a_fault_of_a_command_is_told_by_an_id_that_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state_home: Path
) -> None:
    """No traceback and no text of the exception on the screen; the file is private."""
    with pytest.raises(RuntimeError) as caught:
        secretive()
    assert error_report.report(caught.value) == error_report.EXIT_FAULT
    said = capsys.readouterr().err
    log = state_home / "lnliquid" / "errors.log"
    log_id = said.split("log id ")[1][:8]
    assert str(log) in said
    assert "Traceback" not in said
    assert "11" * 32 not in said
    assert f"log id {log_id}\nTraceback" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_fault_is_written_elsewhere_when_its_file_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state_home: Path
) -> None:
    """The person is told where."""
    state_home.write_text("a file where a directory is wanted")
    error_report.report(RuntimeError("x"))
    path = Path(capsys.readouterr().err.split("; ")[0].split(": ")[-1].split(" ")[-1])
    assert path != state_home
