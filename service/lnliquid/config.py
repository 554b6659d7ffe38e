"""Every setting of the daemon: type, default, bounds, meaning; the name ends with the unit.

Read from the environment (`LNLIQUID_<NAME>`) and from a TOML file; the environment wins. Values
that are each fine but unsafe together are refused with the numbers printed (design section 6).
"""

import os
import tomllib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lnliquid.addresses import is_local, is_same
from lnliquid.domain.electrum_servers import parse_servers
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.terms import (
    CLAIM_VSIZE,
    FEE_FLOOR_SATS_PER_KVB,
    MAX_AMOUNT,
    POLICY_ASSETS,
    SINGLE_FUNDING_VSIZE,
    fee_sats,
    least_amount,
    total_price_msat,
)
from lnliquid.domain.timelock import STALE_TIP_SECS, LightningChain, Timelocks

ENV_PREFIX = "LNLIQUID_"
OTHER_VARIABLES = ("LNLIQUID_BUYER_", "LNLIQUID_OPERATOR", "LNLIQUID_CRASH_AT")
"""Variables with the same beginning that are read elsewhere."""

UNITS = (
    ("_sats_per_kvb", "sat/kvB"),
    ("_msat_per_asset_unit", "msat/unit"),
    ("_msat", "msat"),
    ("_sats", "sat"),
    ("_secs", "s"),
    ("_blocks", "blocks"),
    ("_confs", "confs"),
    ("swap_amount", "smallest unit"),
    ("asset_precision", "digits"),
    ("max_inflight_swaps", "swaps"),
    ("lanes", "coin pairs"),
)
"""Ends of the names of settings, each with the unit that it stands for."""

Amount = Annotated[int, Field(gt=0, le=MAX_AMOUNT)]

REPLACED = {
    "rescue_journal": ": `replica` has taken its place, a second copy of the database; the old "
    "journal is not read any more",
    "liquid_block_secs": ": a Liquid block always takes 60 s",
    "lightning_block_secs": ": `lightning_chain` has taken its place, and the time of its blocks "
    "follows from that",
    "stall_after_blocks": ": `stall_after_secs` has taken its place, in seconds",
}
"""What became of settings of older programs."""


class Settings(BaseModel):
    """Settings of one seller daemon. See each field for unit and meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["liquidv1", "liquidtestnet", "liquid-regtest"] = Field(
        description="Liquid chain; must be the one that the backends are on"
    )
    asset_id: str = Field(
        pattern="^[0-9a-f]{64}$", description="asset that is sold, 64 hex digits, display order"
    )
    asset_precision: int = Field(
        8, ge=0, le=8, description="one asset unit is 10^this of the smallest unit"
    )
    price_msat_per_asset_unit: int = Field(
        gt=0, le=MAX_AMOUNT * 1000, description="price of one asset unit"
    )
    fee_subsidy_sats: int = Field(
        500, ge=100, le=100_000, description="L-BTC locked for the buyer's claim fee"
    )
    min_swap_amount: int | None = Field(
        None,
        gt=0,
        le=MAX_AMOUNT,
        description="smallest amount of a swap "
        "(none given: the least whose price covers the L-BTC that a swap can cost)",
    )
    max_swap_amount: Amount = Field(MAX_AMOUNT // 10, description="largest amount of a swap")
    allow_sales_below_cost: bool = Field(
        False,
        description="needed for a min_swap_amount at which a buyer can take more L-BTC than "
        "the price",
    )

    database: Path = Field(description="SQLite file; made at first start, mode 0600")
    replica: Path | None = Field(
        None,
        description="second copy of the database, which gets every commit; put it on another disk "
        "(none given: beside the database, with the ending .replica)",
    )
    mnemonic_file: Path = Field(description="BIP39 mnemonic, mode 0600; `lnliquid init` makes one")
    listen: str = Field("127.0.0.1:50051", description="gRPC for buyers: host:port, or unix:/path")
    operator_listen: str | None = Field(
        None,
        description="gRPC for the operator, unix:/path or host:port "
        "(none given: the socket operator.sock beside the database)",
    )
    metrics_listen: str | None = Field(
        None, description="host:port for Prometheus over HTTP; none given: no metrics"
    )
    allow_nonlocal_listen: bool = Field(
        False, description="needed to listen on anything but loopback or a unix socket"
    )
    electrum_url: str = Field(
        description="Electrum server of Liquid, tcp://host:port or ssl://host:port; several "
        "separated by commas, the preferred one first"
    )
    lightning_rpc: Path = Field(description="unix socket of the seller's Core Lightning")

    refund_delta_blocks: int = Field(
        4_320, ge=1, le=100_000, description="lock height = tip when funding is signed + this"
    )
    invoice_expiry_secs: int = Field(
        3_600, ge=10, le=604_800, description="how long the invoice is payable"
    )
    max_ln_cltv_blocks: int = Field(
        144, ge=20, le=2_016, description="longest hold of a payment, blocks of the Lightning chain"
    )
    invoice_cltv_blocks: int = Field(
        18, ge=9, le=144, description="final CLTV of the invoice, blocks of the Lightning chain"
    )
    claim_margin_blocks: int = Field(
        60, ge=2, le=10_000, description="time for the claim to confirm"
    )
    lightning_chain: Literal["bitcoin", "liquid"] = Field(
        "bitcoin",
        description="chain that carries the Lightning node's channels; the time of its blocks "
        "follows from it",
    )
    create_slack_secs: int = Field(
        600, ge=0, le=86_400, description="from signing the funding to its first block"
    )

    funding_confs: int = Field(2, ge=1, le=100, description="least confirmations before an invoice")
    max_min_funding_confs: int = Field(
        6, ge=1, le=6, description="largest min_funding_confs a buyer may ask for"
    )
    final_confs: int = Field(2, ge=1, le=100, description="confirmations that make a spend final")
    lanes: int = Field(
        4, ge=1, le=32, description="lanes that the inventory is kept as, for bursts"
    )
    stall_after_secs: int = Field(
        STALE_TIP_SECS,
        ge=1,
        le=864_000,
        description="newest block older than this, by its header: no new swaps",
    )
    bump_after_blocks: int = Field(
        3, ge=1, le=1_000, description="unconfirmed for this many blocks, a fee is raised"
    )
    max_inflight_swaps: int = Field(1_000, ge=1, le=100_000, description="limit on open swaps")
    create_wait_secs: float = Field(
        90.0, ge=0, le=3_600, description="longest that CreateSwap waits for FUNDED"
    )
    poll_interval_secs: float = Field(
        15.0, gt=0, le=600, description="slow timer of the watcher, in case news was lost"
    )
    backend_deadline_secs: float = Field(
        10.0, gt=0, le=300, description="deadline of one call to Electrum or Lightning"
    )
    fee_floor_sats_per_kvb: int = Field(
        FEE_FLOOR_SATS_PER_KVB,
        ge=FEE_FLOOR_SATS_PER_KVB,
        le=100_000,
        description="lowest feerate of a transaction",
    )
    fee_cap_sats_per_kvb: int = Field(
        1_000,
        ge=FEE_FLOOR_SATS_PER_KVB,
        le=1_000_000,
        description="highest feerate of a transaction",
    )
    log_format: Literal["text", "json"] = Field("text", description="form of the log on stderr")

    @field_validator("database", "mnemonic_file", "lightning_rpc", "replica")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @field_validator("electrum_url")
    @classmethod
    def _electrum_form(cls, value: str) -> str:
        parse_servers(value)
        return value

    @field_validator("listen", "operator_listen", "metrics_listen")
    @classmethod
    def _address_form(cls, value: str | None) -> str | None:
        if value is None or value.startswith("unix:"):
            return value
        host, colon, port = value.rpartition(":")
        if not (colon and host and port.isdigit() and int(port) < 65_536):
            raise ValueError(f"{value!r} is neither host:port nor unix:/path")
        return value

    @model_validator(mode="after")
    def _safe_together(self) -> "Settings":
        problems = [
            f"{name} = {address!r} is reachable from other machines and the API has no "
            "authentication; set allow_nonlocal_listen = true if the network is closed"
            for name, address in self.listeners.items()
            if not self.allow_nonlocal_listen and not is_local(address)
        ]
        problems += [
            f"{one} = {self.listeners[one]!r} and {other} = {self.listeners[other]!r} are one "
            "address; buyers, operator and metrics each need their own"
            for one, other in combinations(self.listeners, 2)
            if is_same(self.listeners[one], self.listeners[other])
        ]
        budget = self.timelocks.budget
        if not budget.is_safe:
            problems.append(
                f"unsafe time locks: refund_delta {budget}; raise refund_delta_blocks to at least "
                f"{budget.needed_blocks}"
            )
        if self.asset_id == POLICY_ASSETS[self.network]:
            problems.append(
                "asset_id is L-BTC itself, which pays fees and subsidies and cannot be sold too"
            )
        problems += self._unsafe_amounts()
        if self.fee_floor_sats_per_kvb > self.fee_cap_sats_per_kvb:
            problems.append("fee_floor_sats_per_kvb is above fee_cap_sats_per_kvb")
        if self.funding_confs > self.max_min_funding_confs:
            problems.append("funding_confs is above max_min_funding_confs")
        if self.invoice_cltv_blocks > self.max_ln_cltv_blocks:
            problems.append("invoice_cltv_blocks is above max_ln_cltv_blocks")
        claim_fee = fee_sats(CLAIM_VSIZE, self.fee_cap_sats_per_kvb)
        if self.fee_subsidy_sats < claim_fee:
            problems.append(
                f"fee_subsidy_sats = {self.fee_subsidy_sats} does not pay for a claim at "
                f"fee_cap_sats_per_kvb = {self.fee_cap_sats_per_kvb}: {claim_fee} sat are needed"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _unsafe_amounts(self) -> list[str]:
        """What is wrong with the smallest and the largest amount."""
        cost, least, given = (
            self.lbtc_per_swap_sats,
            self.cost_covering_amount,
            self.min_swap_amount,
        )
        if given is None and least > self.max_swap_amount:
            return [
                f"max_swap_amount = {self.max_swap_amount} is below {least}, the least amount "
                f"whose price covers the {cost} sat of L-BTC that a swap can cost; raise "
                "max_swap_amount or the price"
            ]
        if given is None:
            return []
        problems = []
        if given > self.max_swap_amount:
            problems.append(
                f"min_swap_amount = {given} is above max_swap_amount = {self.max_swap_amount}"
            )
        if given < least and not self.allow_sales_below_cost:
            price = total_price_msat(given, self.price_msat_per_asset_unit, self.asset_precision)
            problems.append(
                f"min_swap_amount = {given} sells below cost: its price is {price // 1000} sat, "
                f"and a swap can cost {cost} sat of L-BTC; the least amount that covers this is "
                f"{least}, which is also taken when min_swap_amount is left out; "
                "allow_sales_below_cost = true allows it all the same"
            )
        return problems

    @property
    def cost_covering_amount(self) -> int:
        """The least amount whose price covers the L-BTC that is reserved for a swap."""
        return self._cost_covering(self.price_msat_per_asset_unit)

    def _cost_covering(self, price_msat_per_asset_unit: int) -> int:
        return least_amount(
            self.lbtc_per_swap_sats, price_msat_per_asset_unit, self.asset_precision
        )

    @property
    def least_swap_amount(self) -> int:
        """The smallest amount that is offered and taken at the price of the settings."""
        return self.least_amount_at(self.price_msat_per_asset_unit)

    def least_amount_at(self, price_msat_per_asset_unit: int) -> int:
        """The smallest amount that is offered and taken at this price."""
        least = self._cost_covering(price_msat_per_asset_unit)
        if self.min_swap_amount is None:
            return least
        return (
            self.min_swap_amount
            if self.allow_sales_below_cost
            else max(self.min_swap_amount, least)
        )

    @property
    def operator_address(self) -> str:
        """Where the operator's service listens."""
        return self.operator_listen or f"unix:{self.database.absolute().parent}/operator.sock"

    @property
    def listeners(self) -> dict[str, str]:
        """Settings of addresses to be listened on, with what each of them is."""
        given = {"listen": self.listen, "operator_listen": self.operator_address}
        return given | ({"metrics_listen": self.metrics_listen} if self.metrics_listen else {})

    @property
    def replica_path(self) -> Path:
        """Where the replica is kept."""
        return self.replica or self.database.with_name(self.database.name + ".replica")

    @property
    def fee_share_sats(self) -> int:
        """L-BTC reserved for a swap's share of its funding fee: one swap alone, at the fee cap."""
        return fee_sats(SINGLE_FUNDING_VSIZE, self.fee_cap_sats_per_kvb)

    @property
    def lbtc_per_swap_sats(self) -> int:
        """L-BTC reserved for each swap: subsidy and fee share."""
        return self.fee_subsidy_sats + self.fee_share_sats

    @property
    def timelocks(self) -> Timelocks:
        """The settings of the timelock inequality."""
        return Timelocks(
            refund_delta_blocks=self.refund_delta_blocks,
            max_funding_confs=self.max_min_funding_confs,
            create_slack_secs=self.create_slack_secs,
            invoice_expiry_secs=self.invoice_expiry_secs,
            max_ln_cltv_blocks=self.max_ln_cltv_blocks,
            claim_margin_blocks=self.claim_margin_blocks,
            lightning_chain=LightningChain(self.lightning_chain),
        )


def unit_of(name: str) -> str:
    """The unit of a setting, empty where it has none."""
    return next((unit for ending, unit in UNITS if name.endswith(ending)), "")


def read_sources(config: Path | None) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Values of the file, and of the environment by setting, as they are written there.

    Raises `SettingsError` when there is no such file or it is not TOML.
    """
    values: Mapping[str, Any] = {}
    if config is not None:
        if not config.is_file():
            raise SettingsError((f"there is no settings file {config}",))
        try:
            values = tomllib.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:  # not TOML, or not text
            raise SettingsError((f"{config} is not valid TOML: {error}",)) from None
    given = {
        name.upper().removeprefix(ENV_PREFIX).lower(): value
        for name, value in os.environ.items()
        if name.upper().startswith(ENV_PREFIX)
    }
    return values, {name: given[name] for name in Settings.model_fields if name in given}


def load_settings(config: Path | None) -> Settings:
    """Read the file, if one is given, and the environment. Raises `SettingsError`."""
    in_file, in_environment = read_sources(config)
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(ENV_PREFIX)
        and name.removeprefix(ENV_PREFIX).lower() not in Settings.model_fields
        and not name.startswith(OTHER_VARIABLES)
    )
    if unknown:
        raise SettingsError(
            tuple(
                f"{name} in the environment names no setting"
                f"{REPLACED.get(name.removeprefix(ENV_PREFIX).lower(), '')}"
                for name in unknown
            )
        )
    try:
        return Settings(**{**in_file, **in_environment})
    except ValidationError as error:
        raise SettingsError(tuple(_problem(dict(e)) for e in error.errors())) from None


def _problem(error: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{name} is not set; put it into the settings file or set {ENV_PREFIX}{name.upper()}"
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting{REPLACED.get(name, '')}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
