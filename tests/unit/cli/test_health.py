"""`lnliquid health`: alive or not, ready or not, in words and as an exit code."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lnliquid.api.server import SWAP_SERVICE as NAME_ON_THE_WIRE
from lnliquid.api.server import Listener, listen
from lnliquid.cli import command_line
from lnliquid.cli.health import SWAP_SERVICE, asked_at
from lnliquid.domain.errors import SettingsError

from ..api.test_swap_service import FakeSeller
from .test_commands import closed_port


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A daemon's listener for buyers that is alive and not ready."""
    started = listen(FakeSeller(), "127.0.0.1:0")
    await started.start()
    yield started
    await started.stop(0)


async def health(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run the command beside the listener."""
    return await asyncio.to_thread(
        CliRunner().invoke, command_line(), ["health", *arguments], env=env
    )


def settings(listen_at: str) -> dict[str, str]:
    """The daemon's settings as environment variables."""
    return {
        "LNLIQUID_NETWORK": "liquid-regtest",
        "LNLIQUID_ASSET_ID": "5a" * 32,
        "LNLIQUID_PRICE_MSAT_PER_ASSET_UNIT": "1000",
        "LNLIQUID_DATABASE": "not-opened",
        "LNLIQUID_MNEMONIC_FILE": "not-read",
        "LNLIQUID_ELECTRUM_URL": "tcp://127.0.0.1:1",
        "LNLIQUID_LIGHTNING_RPC": "not-asked",
        "LNLIQUID_LISTEN": listen_at,
        "LNLIQUID_ALLOW_NONLOCAL_LISTEN": "true",
    }


def test_it_asks_for_the_service_that_the_daemon_serves() -> None:
    """The name is written out there, so that a health check need not load the schema."""
    assert SWAP_SERVICE == NAME_ON_THE_WIRE


async def test_alive_and_not_ready(listener: Listener) -> None:
    """A supervisor sees a daemon to be left alone; who asks for readiness learns that it is not."""
    env = settings(f"127.0.0.1:{listener.port}")
    alive = await health(env=env)
    assert (alive.exit_code, alive.stdout) == (0, f"alive: 127.0.0.1:{listener.port}\n")
    waiting = await health("--ready", env=env)
    assert (waiting.exit_code, waiting.stdout) == (1, "")
    assert waiting.stderr.startswith("not ready: running, but not accepting swaps")
    await listener.set_ready(True)
    ready = await health("--ready", env=env)
    assert (ready.exit_code, ready.stdout[:5]) == (0, "ready")


async def test_a_daemon_on_every_address_is_asked_by_loopback(listener: Listener) -> None:
    """As in a container, where the settings say 0.0.0.0; a proxy for the world is not used."""
    env = {**settings(f"0.0.0.0:{listener.port}"), "http_proxy": "http://127.0.0.1:1"}
    assert (await health(env=env)).exit_code == 0


async def test_an_address_needs_no_settings(tmp_path: Path) -> None:
    """The operator's socket answers too."""
    address = f"unix:{tmp_path}/s"
    started = listen(FakeSeller(), address)
    await started.start()
    assert (await health("--address", address)).stdout == f"alive: {address}\n"
    await started.stop(0)


async def test_an_ending_daemon_takes_no_calls(listener: Listener) -> None:
    """From the stop signal on it is neither alive nor ready for a supervisor."""
    await listener._health.enter_graceful_shutdown()
    ending = await health("--address", f"127.0.0.1:{listener.port}")
    assert (ending.exit_code, ending.stderr[:6]) == (1, "ending")


async def test_nothing_answers() -> None:
    """The address and the reason are told; no traceback."""
    address = f"127.0.0.1:{closed_port()}"
    nobody = await health("--address", address)
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith(f"no daemon answers at {address}: ")
    assert len(nobody.stderr.splitlines()) == 1


async def test_wrong_settings_are_named() -> None:
    """Exit code 2, and which setting it is."""
    wrong = await health(env={**settings("127.0.0.1:5"), "LNLIQUID_NETWORK": "testnet"})
    assert wrong.exit_code == 2
    assert "network" in wrong.stderr


@pytest.mark.parametrize(
    ("listen_at", "expected"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:50051", "[::1]:50051"),
        ("10.1.2.3:50051", "10.1.2.3:50051"),
        ("unix:/run/s", "unix:/run/s"),
    ],
)
def test_where_a_daemon_is_asked(listen_at: str, expected: str) -> None:
    """Where it listens, or loopback for every address."""
    assert asked_at(listen_at) == expected


def test_a_port_that_the_system_picks_cannot_be_asked() -> None:
    """Better said than asked in vain."""
    with pytest.raises(SettingsError, match="--address"):
        asked_at("127.0.0.1:0")


def test_a_health_check_loads_little() -> None:
    """It runs for years, every few seconds, in a container with limits."""
    script = "import sys, lnliquid.cli.health; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert {name.split(".")[0] for name in loaded} & {
        "sqlalchemy",
        "embit",
        "rich",
        "pyln",
    } == set()
