"""`config`: where values come from, and which are refused in words that help."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lnliquid.addresses import is_local
from lnliquid.config import ENV_PREFIX, Settings, load_settings
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.terms import CLAIM_VSIZE, fee_sats
from lnliquid.domain.timelock import LightningChain, largest_cltv

from .builders import settings_values


def write_toml(folder: Path, **changes: Any) -> Path:
    """A settings file of safe values, changed; a value of None is left out."""
    lines = []
    for name, value in settings_values(folder, **changes).items():
        if value is not None:
            shown = str(value).lower() if isinstance(value, bool | int | float) else f'"{value}"'
            lines.append(f"{name} = {shown}")
    path = folder / "seller.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def problems(folder: Path, **changes: Any) -> str:
    """What the operator is told about these values."""
    with pytest.raises(SettingsError) as caught:
        load_settings(write_toml(folder, **changes))
    return str(caught.value)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Variables put in here are in the environment until the end of the test."""

    class Environment(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            os.environ[name] = value
            super().__setitem__(name, value)

    made = Environment()
    yield made
    for name in made:
        del os.environ[name]


def test_a_file_with_the_required_values_is_enough(tmp_path: Path) -> None:
    """Everything else has a default."""
    settings = load_settings(write_toml(tmp_path))
    assert settings.asset_id == "a5" * 32
    assert settings.database == tmp_path / "seller.sqlite"
    assert settings.allow_nonlocal_listen is False


def test_defaults_are_safe_on_bitcoin_block_times(tmp_path: Path) -> None:
    """The inequality holds for the defaults over bitcoin, with hours of room.

    A buyer who pays in the invoice's last second, after a funding as late as it may be, still has a
    `maxdelay` of 120 or more.
    """
    settings = load_settings(write_toml(tmp_path, lightning_chain=None))
    locks = settings.timelocks
    assert locks.lightning_chain is LightningChain.BITCOIN
    assert locks.budget.is_safe
    assert locks.budget.margin_secs > 3_600
    before = locks.budget.parts[:3]
    left = locks.refund_delta_blocks - -(-sum(secs for _, secs in before) // 60)
    sent = (("payment sent", 60),)
    assert largest_cltv(left, locks.lightning_chain, 60, most=144, before=sent) >= 120
    assert is_local(settings.listen)
    assert settings.fee_subsidy_sats >= fee_sats(CLAIM_VSIZE, settings.fee_cap_sats_per_kvb)
    assert settings.final_confs == 2


def test_every_knob_is_described() -> None:
    """The help of `serve` is made of these descriptions."""
    assert [n for n, f in Settings.model_fields.items() if not f.description] == []


def test_the_environment_wins_over_the_file(tmp_path: Path, environment: dict[str, str]) -> None:
    """One value is replaced; those that only the file has stay."""
    environment[ENV_PREFIX + "FINAL_CONFS"] = "5"
    settings = load_settings(write_toml(tmp_path, final_confs=3, funding_confs=4))
    assert (settings.final_confs, settings.funding_confs) == (5, 4)


def test_the_environment_alone_is_enough(tmp_path: Path, environment: dict[str, str]) -> None:
    """No file is needed."""
    for name, value in settings_values(tmp_path).items():
        environment[ENV_PREFIX + name.upper()] = str(value)
    assert load_settings(None).network == "liquid-regtest"


def test_a_bad_value_of_the_environment_is_refused(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """It does not fall back to the file's good one."""
    environment[ENV_PREFIX + "FINAL_CONFS"] = "two"
    with pytest.raises(SettingsError, match=r"^final_confs: "):
        load_settings(write_toml(tmp_path, final_confs=3))


def test_an_unknown_variable_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    """A knob that does not exist is refused in the environment as it is in the file."""
    environment[ENV_PREFIX + "REFUND_DELTA_BLOCK"] = "5000"
    with pytest.raises(SettingsError):
        load_settings(write_toml(tmp_path))


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    """A misspelt knob of the file is an error, not a default."""
    assert problems(tmp_path, refund_delta_block=5_000) == "refund_delta_block is not a setting"
    assert "`replica` has taken its place" in problems(tmp_path, rescue_journal="x")
    assert "`lightning_chain` has taken" in problems(tmp_path, lightning_block_secs=600)
    assert "always takes 60 s" in problems(tmp_path, liquid_block_secs=60)
    assert "`stall_after_secs` has taken" in problems(tmp_path, stall_after_blocks=20)


def test_missing_values_are_all_named_with_both_ways_to_set_them(tmp_path: Path) -> None:
    """The operator can repair everything in one go."""
    told = problems(tmp_path, asset_id=None, electrum_url=None).splitlines()
    assert told == [
        f"{name} is not set; put it into the settings file or set LNLIQUID_{name.upper()}"
        for name in ("asset_id", "electrum_url")
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """And so is one that is not TOML."""
    with pytest.raises(SettingsError, match=r"^there is no settings file .*/none\.toml$"):
        load_settings(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("network = ")
    with pytest.raises(SettingsError, match=r"broken\.toml is not valid TOML: "):
        load_settings(broken)
    broken.write_bytes(b"network = '\xff'")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load_settings(broken)


def test_unsafe_time_locks_are_refused_with_the_numbers(tmp_path: Path) -> None:
    """The message holds both sides, every part, and by how much to raise the delta."""
    told = problems(tmp_path, refund_delta_blocks=100)
    assert told == (
        "unsafe time locks: refund_delta 100 blocks = 6000 s < 17280 s = funding confirmations 360 "
        "+ create slack 600 + invoice expiry 3600 + payment held 144 + 8 blocks of liquid 9120 "
        "+ claim margin 3600; raise refund_delta_blocks to at least 288"
    )
    assert load_settings(write_toml(tmp_path, refund_delta_blocks=288)).refund_delta_blocks == 288
    assert "to at least 288" in problems(tmp_path, refund_delta_blocks=287)


def test_locks_that_the_mean_block_time_would_allow_are_refused_over_bitcoin(
    tmp_path: Path,
) -> None:
    """Money rule 11: time is a distribution. The old default lock is far too short."""
    told = problems(tmp_path, lightning_chain="bitcoin", refund_delta_blocks=2_160)
    assert "payment held 144 + 8 blocks of bitcoin 206429" in told
    assert "to at least 3577" in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_swap_amount": 11, "max_swap_amount": 10}, "min_swap_amount = 11 is above"),
        ({"fee_floor_sats_per_kvb": 1_001}, "fee_floor_sats_per_kvb is above fee_cap"),
        ({"funding_confs": 7}, "funding_confs is above max_min_funding_confs"),
        ({"max_ln_cltv_blocks": 20, "invoice_cltv_blocks": 21}, "invoice_cltv_blocks is above"),
        ({"fee_subsidy_sats": 392}, "392 does not pay for a claim .* 393 sat are needed"),
    ],
)
def test_values_that_are_unsafe_together(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """Each would be fine alone."""
    with pytest.raises(SettingsError, match=words):
        load_settings(write_toml(tmp_path, **changes))


BELOW_COST = (
    "min_swap_amount = 373000 sells below cost: its price is 1119 sat, and a swap can cost 1120 "
    "sat of L-BTC; the least amount that covers this is 373001"
)


def test_no_sale_is_below_cost_unless_it_is_allowed(tmp_path: Path) -> None:
    """Left out, the least amount covers subsidy and fee share; given, it must, or be allowed."""
    safe = {"allow_sales_below_cost": None}
    settings = load_settings(write_toml(tmp_path, min_swap_amount=None, **safe))
    assert (settings.min_swap_amount, settings.least_swap_amount) == (None, 373_001)
    assert load_settings(write_toml(tmp_path, min_swap_amount=373_001, **safe)).least_swap_amount
    assert BELOW_COST in problems(tmp_path, min_swap_amount=373_000, **safe)
    allowed = write_toml(tmp_path, min_swap_amount=1, allow_sales_below_cost=True)
    assert load_settings(allowed).least_swap_amount == 1


def test_a_largest_amount_below_the_cost_is_refused(tmp_path: Path) -> None:
    """Nothing could be sold: the message names both amounts and what a swap can cost."""
    changes = {"min_swap_amount": None, "allow_sales_below_cost": None}
    told = problems(tmp_path, max_swap_amount=373_000, **changes)
    assert told.startswith("max_swap_amount = 373000 is below 373001, the least amount whose price")
    assert "covers the 1120 sat of L-BTC" in told
    exact = load_settings(write_toml(tmp_path, max_swap_amount=373_001, **changes))
    assert exact.least_swap_amount == exact.max_swap_amount


def test_all_unsafe_combinations_are_told_at_once(tmp_path: Path) -> None:
    """One start shows the whole list."""
    told = problems(tmp_path, listen="0.0.0.0:1", refund_delta_blocks=1, funding_confs=7)
    assert [line.split(" ")[0] for line in told.splitlines()] == [
        "listen", "unsafe", "funding_confs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", "liquidregtest"),
        ("asset_id", "A5" * 32),
        ("asset_id", "a5" * 31),
        ("asset_id", "a5" * 32 + "\\n"),
        ("asset_precision", 9),
        ("price_msat_per_asset_unit", 0),
        ("max_swap_amount", 2_100_000_000_000_001),
        ("min_swap_amount", 0),
        ("electrum_url", "http://127.0.0.1:1"),
        ("electrum_url", "tcp://127.0.0.1:1,"),
        ("electrum_url", "tcp://127.0.0.1"),
        ("final_confs", 0),
        ("funding_confs", 0),
        ("max_min_funding_confs", 7),
        ("poll_interval_secs", 0),
        ("fee_floor_sats_per_kvb", 99),
        ("claim_margin_blocks", 1),
        ("invoice_expiry_secs", 9),
        ("refund_delta_blocks", "soon"),
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:65536"),
        ("listen", ":50051"),
        ("listen", "127.0.0.1:²"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    """The message begins with the knob and shows no class of the program."""
    told = problems(tmp_path, **{name: value})
    assert told.startswith(f"{name}: ")
    assert "pydantic" not in told
    assert "Error" not in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.9.9.9:1", True),
        ("[::1]:50051", True),
        ("localhost:50051", True),
        ("unix:/run/seller.sock", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("192.168.1.2:50051", False),
        ("10.0.0.1:50051", False),
        ("localhost.example.org:50051", False),
        ("127.0.0.1.example.org:1", False),
        ("*:50051", False),
    ],
)
def test_listening_beyond_this_machine_needs_a_switch(
    tmp_path: Path, address: str, local: bool
) -> None:
    """Loopback and unix sockets are fine; all else is refused until it is allowed."""
    assert is_local(address) is local
    if not local:
        assert "reachable from other machines" in problems(tmp_path, listen=address)
    allowed = load_settings(write_toml(tmp_path, listen=address, allow_nonlocal_listen=not local))
    assert allowed.listen == address


def test_a_home_directory_is_expanded(tmp_path: Path) -> None:
    """`~` in a path is the operator's home, not a folder of that name."""
    settings = load_settings(write_toml(tmp_path, mnemonic_file="~/words"))
    assert settings.mnemonic_file == Path.home() / "words"


def test_settings_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    """What was checked together stays together."""
    settings = load_settings(write_toml(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        settings.refund_delta_blocks = 1


def test_the_policy_asset_is_not_for_sale(tmp_path: Path) -> None:
    """Reservations and fundings take the asset and L-BTC from different coins."""
    with pytest.raises(SettingsError):
        load_settings(
            write_toml(
                tmp_path,
                asset_id="ceb851388a62039c49710566bc8b0b229eaa8a92bafbca512d8f7fd363b9e75c",
            )
        )
