"""`lnliquid check-config`: value, unit and source of every setting, the budget, the refusals."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lnlab.nodes.embedded.lightning import LightningNetwork
from lnliquid.cli import command_line
from lnliquid.cli.check_config import ask_nodes, limits
from lnliquid.config import Settings, load_settings, unit_of

from ..builders import settings_values
from ..test_config import write_toml

WORDS = "abandon " * 11 + "about"


def check(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the command."""
    result = CliRunner().invoke(command_line(), ["check-config", "--json", *arguments], env=env)
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file that the daemon would start with."""
    words = tmp_path / "mnemonic"
    words.write_text(WORDS)
    words.chmod(0o600)
    return write_toml(tmp_path, final_confs=3)


def test_every_setting_is_told_with_value_source_unit_and_meaning(config: Path) -> None:
    """From the file, from a variable by its name, or the default."""
    code, told = check("--config", str(config), env={"LNLIQUID_FUNDING_CONFS": "1"})
    assert (code, told["refused"], told["file"]) == (0, [], str(config))
    assert list(told["settings"]) == list(Settings.model_fields)
    by_name = {name: (s["value"], s["source"], s["unit"]) for name, s in told["settings"].items()}
    assert by_name["funding_confs"] == (1, "LNLIQUID_FUNDING_CONFS", "confs")
    assert by_name["final_confs"] == (3, "file", "confs")
    assert by_name["lanes"] == (4, "default", "coin pairs")
    assert by_name["replica"] == (None, "default", "")
    assert all(s["meaning"] for s in told["settings"].values())
    assert WORDS not in json.dumps(told)


def test_a_setting_that_is_a_number_has_a_unit() -> None:
    """All of them."""
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    numbers = [name for name, kind in kinds.items() if kind in (int, float)]
    assert [name for name in numbers if not unit_of(name)] == []


def test_the_budget_is_told_in_numbers_that_add_up(config: Path) -> None:
    """The parts are the need; what there is less the need is to spare."""
    _, told = check("--config", str(config))
    budget = told["timelock_budget"]
    assert sum(budget["parts_secs"].values()) == budget["needed_secs"]
    assert budget["available_secs"] - budget["needed_secs"] == budget["spare_secs"] >= 0
    settings = load_settings(config)
    assert budget["needed_secs"] == settings.timelocks.budget.needed_secs
    assert budget["hold_secs"] == (144 + 8) * 60
    assert budget["blocks_to_pay_and_claim"] == 144 + 8 + 60


def test_the_hold_is_told_in_hours(tmp_path: Path) -> None:
    """With the chain, the blocks on top of the CLTV, and the margin in hours and blocks."""
    config = write_toml(tmp_path, lightning_chain="bitcoin")
    text = CliRunner().invoke(command_line(), ["check-config", "--config", str(config)]).stdout
    words = " ".join(text.split())
    assert "A payment can be held for 57.4 hours (144 + 8 blocks of bitcoin)" in words
    assert "with a probability of 1e-09" in words
    assert "fewer than 3,501 Liquid blocks left" in words
    assert re.search(r"margin +44,611 +12\.4 +743\.5", text)


@pytest.mark.parametrize("least", [None, 373_001])
def test_the_edges_are_those_of_the_daemon(tmp_path: Path, least: int | None) -> None:
    """Each setting at its edge is taken, and one step behind it is refused."""
    safe = {"min_swap_amount": least, "allow_sales_below_cost": False}
    settings = Settings(**settings_values(tmp_path, **safe))
    found = limits(settings)
    assert len(found) == 11
    for edge in found:
        edge_value, step = (edge.least, -1) if edge.least is not None else (edge.most, 1)
        assert edge_value is not None
        bounds = Settings.model_fields[edge.name].metadata
        low = next((rule.ge for rule in bounds if hasattr(rule, "ge")), None)
        high = next((rule.le for rule in bounds if hasattr(rule, "le")), None)
        if (low is None or low <= edge_value) and (high is None or edge_value <= high):
            Settings(**settings_values(tmp_path, **safe | {edge.name: edge_value}))
        with pytest.raises(ValueError, match=r"."):
            Settings(**settings_values(tmp_path, **safe | {edge.name: edge_value + step}))


def test_the_smallest_swap_is_told_with_its_price_and_what_it_can_cost(config: Path) -> None:
    """Also where no setting gives it, and in the text."""
    write_toml(config.parent, min_swap_amount=None, allow_sales_below_cost=None)
    _, told = check("--config", str(config))
    assert told["settings"]["min_swap_amount"]["value"] is None
    assert told["least_swap"] == {"amount": 373_001, "price_msat": 1_120_000, "cost_sats": 1_120}
    assert told["refused_when"]["min_swap_amount"] == {
        "now": 373_001, "below": 373_001, "above": None,
    }  # fmt: skip
    text = CliRunner().invoke(command_line(), ["check-config", "--config", str(config)]).stdout
    assert "The smallest swap is 373,001 of the smallest unit, for 1,120 sat;" in text


def test_settings_that_are_refused_are_shown_with_every_reason(config: Path) -> None:
    """The values as written and where from; exit code 2."""
    env = {"LNLIQUID_REFUND_DELTA_BLOCKS": "10", "LNLIQUID_FEE_SUBSIDY_SATS": "100"}
    code, told = check("--config", str(config), env=env)
    assert code == 2
    assert "unsafe time locks" in told["refused"][0]
    assert "does not pay for a claim" in told["refused"][0]
    shown = told["settings"]["refund_delta_blocks"]
    assert (shown["value"], shown["source"]) == ("10", "LNLIQUID_REFUND_DELTA_BLOCKS")
    result = CliRunner().invoke(command_line(), ["check-config", "--config", str(config)], env=env)
    assert (result.exit_code, "refused: unsafe time locks" in result.stderr) == (2, True)
    assert "the daemon would not start with this" in result.stderr


def test_a_mnemonic_that_cannot_be_read_is_refused(config: Path, tmp_path: Path) -> None:
    """As the daemon would, with its own words."""
    (tmp_path / "mnemonic").unlink()
    code, told = check("--config", str(config))
    assert code == 2
    assert "lnliquid init" in "".join(told["refused"])


def test_a_file_that_is_not_there_ends_with_2() -> None:
    """It is named."""
    code, told = check("--config", "missing.toml")
    assert (code, "missing.toml" in told["error"]) == (2, True)


async def test_a_node_with_an_unsafe_option_is_named(tmp_path: Path) -> None:
    """The daemon would start, and sell nothing."""
    network = LightningNetwork(block_height=lambda: 100, clock=lambda: 1_800_000_000)
    node = network.add_node("seller", tmp_path / "seller.rpc")
    values = settings_values(tmp_path) | {"backend_deadline_secs": 2}
    settings = Settings(**values | {"lightning_rpc": tmp_path / "seller.rpc"})
    await network.start()
    try:
        _, before = await ask_nodes(settings)
        node.configs["invoices-onchain-fallback"] = {"set": True, "source": "cmdline"}
        _, after = await ask_nodes(settings)
    finally:
        await network.stop()
    assert (before.ok, after.ok) == (True, False)
    assert "invoices-onchain-fallback" in after.text


def test_nodes_are_asked_only_when_wanted(config: Path, tmp_path: Path) -> None:
    """With --connect each is named with why it is of no use; exit code 3."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        "LNLIQUID_ELECTRUM_URL": f"tcp://127.0.0.1:{port}",
        "LNLIQUID_LIGHTNING_RPC": str(tmp_path / "no-rpc"),
        "LNLIQUID_BACKEND_DEADLINE_SECS": "0.5",
    }
    code, told = check("--config", str(config), env=env)
    assert (code, "nodes" in told) == (0, False)
    code, told = check("--config", str(config), "--connect", env=env)
    assert code == 3
    assert {name: node["ok"] for name, node in told["nodes"].items()} == {
        "electrum": False,
        "lightning": False,
    }
    assert str(port) in told["nodes"]["electrum"]["answer"]
