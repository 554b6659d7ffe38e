"""The command line: help with examples, clean errors, exit codes, JSON alone on stdout."""

import json
import re
import socket
import stat
from pathlib import Path

import pytest
from embit import bech32
from typer.testing import CliRunner, Result

from lnliquid.buyer import Journal, Order, Record, Step
from lnliquid.cli import command_line
from lnliquid.liquid.keys import read_mnemonic

cli = command_line()
ASSET = "5a" * 32
REQUEST_ID = "7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11"
COMMANDS = [
    command.name or command.callback.__name__
    for command in cli.registered_commands
    if command.callback
]
WORDS = "abandon " * 11 + "about"


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run a command in this process; only exits may come out of it."""
    result = CliRunner().invoke(cli, list(arguments), env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def mnemonic(tmp_path: Path) -> Path:
    """A mnemonic file, as `init` makes it."""
    path = tmp_path / "mnemonic"
    path.write_text(WORDS)
    path.chmod(0o600)
    return path


@pytest.fixture
def config(tmp_path: Path, mnemonic: Path) -> Path:
    """A complete settings file."""
    path = tmp_path / "seller.toml"
    path.write_text(
        f'network = "liquid-regtest"\nasset_id = "{ASSET}"\nprice_msat_per_asset_unit = 1000\n'
        f'database = "{tmp_path}/db"\nmnemonic_file = "{mnemonic}"\n'
        f'electrum_url = "tcp://127.0.0.1:1"\nlightning_rpc = "{tmp_path}/rpc"\n'
    )
    return path


@pytest.fixture
def buyer_options(tmp_path: Path) -> dict[str, str]:
    """The buyer's common options in the environment, with nothing behind the addresses."""
    return {
        "LNLIQUID_BUYER_SELLER": f"127.0.0.1:{closed_port()}",
        "LNLIQUID_BUYER_ELECTRUM": f"tcp://127.0.0.1:{closed_port()}",
        "LNLIQUID_BUYER_LIGHTNING_RPC": str(tmp_path / "no-rpc"),
        "LNLIQUID_BUYER_NETWORK": "liquid-regtest",
        "LNLIQUID_BUYER_DIR": str(tmp_path / "buyer"),
        "LNLIQUID_BUYER_ASSET": ASSET,
    }


def store(directory: Path, **changes: object) -> None:
    """Put a record into the journal."""
    values: dict[str, object] = {
        "order": Order(REQUEST_ID, ASSET, 1_000, 150_000, 2, 5_000),
        "network": "liquid-regtest",
        "seller": "127.0.0.1:1",
        "key_index": 0,
        "claim_address": "ert1qexample",
        "created_at": 1_800_000_000,
        "offer": {},
        "preimage": "11" * 32,
    }
    Journal(directory).save(Record(**values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_shows_an_example(command: str) -> None:
    """An example that starts as the user has to type it."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Example:\n\s+lnliquid {command}\b", result.output)


def test_the_overview_names_every_command() -> None:
    """Nothing is hidden."""
    output = run("--help").output
    assert all(f"  {command} " in output for command in COMMANDS)
    assert {"serve", "init", "check-config", "address", "offer", "buy", "resume", "history"} <= set(
        COMMANDS
    )


def test_the_help_of_serve_lists_every_knob() -> None:
    """The settings' hint sends people there."""
    from lnliquid.config import Settings

    output = run("serve", "--help").output
    assert all(f" {name}: " in output for name in Settings.model_fields)


@pytest.mark.parametrize("command", ["buy", "resume", "offer", "balance"])
def test_the_help_of_buyer_commands_states_the_exit_codes(command: str) -> None:
    """Scripts need them."""
    assert "4  unfinished" in run(command, "--help").output


def test_serve_with_wrong_settings_names_each_problem_and_exits_with_2(tmp_path: Path) -> None:
    """One line a problem on stderr, a hint, no traceback, nothing on stdout."""
    path = tmp_path / "seller.toml"
    path.write_text('network = "moon"\ncolour = "red"\n')
    result = run("serve", "--config", str(path))
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert any(line.startswith("network: ") for line in lines)
    assert "colour is not a setting" in lines
    assert any(line.startswith("asset_id is not set") for line in lines)
    assert lines[-1].startswith("hint: ")


def test_serve_without_its_file_says_so() -> None:
    """A wrong path is named."""
    result = run("serve", "--config", "missing.toml")
    assert (result.exit_code, "no settings file missing.toml" in result.stderr) == (2, True)


def test_check_config_prints_all_knobs_and_the_budget(config: Path) -> None:
    """What the daemon would run with, the environment counted in, the buyer's variables not."""
    env = {"LNLIQUID_FUNDING_CONFS": "1", "LNLIQUID_BUYER_NETWORK": "liquidv1"}
    result = run("check-config", "--config", str(config), env=env)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    rows = {words[0]: words[1:] for words in reversed(lines)}
    assert rows["funding_confs"][:3] == ["1", "confs", "LNLIQUID_FUNDING_CONFS"]
    assert rows["network"][:2] == ["liquid-regtest", "file"]
    assert rows["needed"][:1] == ["214,589"]
    assert "259,200" in result.stdout
    assert "the daemon would start with this" in result.stdout


def test_init_makes_a_private_mnemonic_and_never_overwrites_it(tmp_path: Path) -> None:
    """The second time it refuses, and the words stay as they are and out of the output."""
    path = tmp_path / "new" / "mnemonic"
    result = run("init", "--mnemonic-file", str(path))
    words = read_mnemonic(path)
    assert (result.exit_code, len(words.split())) == (0, 12)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert words not in result.output
    again = run("init", "--mnemonic-file", str(path))
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)
    assert read_mnemonic(path) == words


def test_init_prints_the_first_receive_address_of_a_network(tmp_path: Path) -> None:
    """The one that `address` prints; for no such network nothing is made."""
    path = str(tmp_path / "mnemonic")
    made = run("init", "--mnemonic-file", path, "--network", "liquid-regtest", "--json")
    assert made.exit_code == 0, made.output
    same = run("address", "--mnemonic-file", path, "--network", "liquid-regtest", "--json")
    assert json.loads(made.stdout) == {"mnemonic_file": path} | json.loads(same.stdout)
    other = run("init", "--mnemonic-file", f"{path}2", "--network", "liquidv9")
    assert (other.exit_code, "is not one of" in other.stderr) == (2, True)
    assert not (tmp_path / "mnemonic2").exists()


def test_address_is_the_same_by_config_and_by_mnemonic(config: Path, mnemonic: Path) -> None:
    """One address alone on stdout, of the first receive key."""
    by_config = run("address", "--config", str(config))
    by_words = run("address", "--mnemonic-file", str(mnemonic), "--network", "liquid-regtest")
    assert by_config.exit_code == by_words.exit_code == 0
    assert by_config.stdout == by_words.stdout
    # What wallets show for these words on Bitcoin's testnet, which has the same path (BIP84).
    _, key_hash = bech32.decode("tb", "tb1q6rz28mcfaxtmd6v789l9rrlrusdprr9pqcpvkl")
    assert by_words.stdout == bech32.encode("ert", 0, key_hash) + "\n"
    as_json = json.loads(run("address", "--config", str(config), "--json").stdout)
    assert as_json == {"address": by_words.stdout.strip(), "network": "liquid-regtest"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--network", "liquid-regtest"), "belong together"),
        (("--mnemonic-file", "/nowhere", "--network", "moon"), "is not one of"),
        (("--mnemonic-file", "/nowhere", "--network", "liquidv1"), "lnliquid init"),
    ],
)
def test_address_explains_what_is_missing(arguments: tuple[str, ...], said: str) -> None:
    """Half of the options, an unknown network, a file that is not there."""
    result = run("address", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--amount", "0"), "--amount"),
        (("--amount", str(2**63)), "--amount"),
        (("--amount", "5", "--asset", "xyz"), "64 hex digits"),
        (("--amount", "5", "--request-id", "1", "--yes", "--max-price-msat", "9"), "not a UUID"),
        (("--amount", "5", "--confs", "7"), "--confs"),
        (("--amount", "5", "--yes"), "--max-price-msat"),
        (("--amount", "5"), "--yes"),
        (("--amount", "5", "--network", "moon", "--dry-run"), "is not one of"),
        (("--amount", "5", "--electrum", "http://x", "--dry-run"), "tcp://host:port"),
    ],
)
def test_buy_refuses_wrong_usage_with_2(
    arguments: tuple[str, ...], said: str, buyer_options: dict[str, str]
) -> None:
    """The message names what is wrong; nothing is stored as a purchase."""
    result = run("buy", *arguments, env=buyer_options)
    assert result.exit_code == 2
    assert said in result.stderr
    directory = Path(buyer_options["LNLIQUID_BUYER_DIR"])
    assert not list(directory.glob("swaps/*.json"))


def test_buy_names_a_missing_option() -> None:
    """Without the environment each option has to be given."""
    result = run("buy", "--amount", "5", "--asset", ASSET)
    assert (result.exit_code, "--seller" in result.stderr) == (2, True)


def test_an_unreachable_seller_ends_with_3(buyer_options: dict[str, str]) -> None:
    """The address is named; with --json stdout is one JSON object."""
    result = run("offer", "--json", env=buyer_options)
    assert result.exit_code == 3
    assert buyer_options["LNLIQUID_BUYER_SELLER"] in result.stderr
    assert json.loads(result.stdout)["exit_code"] == 3


def test_history_and_show_need_no_connection_and_show_no_secret(tmp_path: Path) -> None:
    """The journal is readable as text and as JSON, without the preimage."""
    directory = tmp_path / "buyer"
    store(directory, step=Step.DONE, spend_txid="ab" * 32)
    for arguments in (("history",), ("show", REQUEST_ID)):
        text = run(*arguments, "--dir", str(directory))
        values = run(*arguments, "--dir", str(directory), "--json")
        assert text.exit_code == values.exit_code == 0
        assert REQUEST_ID in text.stdout
        assert "done" in text.stdout
        assert "11" * 32 not in text.output + values.output
        assert json.loads(values.stdout)


def test_history_of_a_new_buyer_is_empty(tmp_path: Path) -> None:
    """No error, and a sentence."""
    result = run("history", "--dir", str(tmp_path / "buyer"))
    assert (result.exit_code, result.stdout) == (0, "no purchases yet\n")


def test_history_names_damaged_files_and_shows_the_rest(tmp_path: Path) -> None:
    """One broken file hides no purchase."""
    directory = tmp_path / "buyer"
    store(directory)
    (directory / "swaps" / "00000000-0000-4000-8000-000000000000.json").write_text("{")
    result = run("history", "--dir", str(directory))
    assert REQUEST_ID in result.stdout
    assert "is damaged" in result.stderr


def test_show_of_an_unknown_swap_is_a_clear_error(tmp_path: Path) -> None:
    """The message says where to look."""
    result = run("show", REQUEST_ID, "--dir", str(tmp_path / "buyer"))
    assert (result.exit_code, "lnliquid history" in result.stderr) == (2, True)


def test_resume_with_nothing_to_do_is_fine(buyer_options: dict[str, str]) -> None:
    """Finished purchases and dry runs are left alone, and no backend is asked for them."""
    directory = Path(buyer_options["LNLIQUID_BUYER_DIR"])
    store(directory, step=Step.DONE)
    result = run("resume", env=buyer_options)
    assert (result.exit_code, result.stdout) == (0, "nothing is unfinished\n")
    store(directory, step=Step.CREATED, dry_run=True)
    assert run("resume", env=buyer_options).stdout == "nothing is unfinished\n"


def test_control_characters_of_others_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """A seller's text cannot rewrite what a person reads."""
    directory = tmp_path / "buyer"
    store(directory, step=Step.DECLINED, note="no\x1b[2Jway")
    result = run("show", REQUEST_ID, "--dir", str(directory))
    assert "\x1b" not in result.stdout
    assert "no�[2Jway" in result.stdout
