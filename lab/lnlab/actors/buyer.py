"""A buyer in the lab: the command line `lnliquid buy` on the lab's buyer node."""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.programs import run_program


class Buyer:
    """Has a directory of its own, with its wallet and journal, below the lab's."""

    def __init__(self, daemon: SellerDaemon, name: str = "wallet") -> None:
        self._daemon = daemon
        self.directory: Path = daemon.lab.directory / f"buyer-{name}"

    @property
    def options(self) -> dict[str, str]:
        """The environment variables that stand for the common options."""
        lab = self._daemon.lab
        return {
            "LNLIQUID_BUYER_SELLER": self._daemon.address,
            "LNLIQUID_BUYER_ELECTRUM": lab.electrum_url,
            "LNLIQUID_BUYER_LIGHTNING_RPC": lab.lightning["buyer"],
            "LNLIQUID_BUYER_NETWORK": "liquid-regtest",
            "LNLIQUID_BUYER_DIR": str(self.directory),
            "LNLIQUID_BUYER_ASSET": self._daemon.asset_id,
        }

    async def run(
        self,
        *arguments: str,
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run one buyer command with `--json`. Raises `ProgramError` unless it ends with 0."""
        output = await run_program(
            "lnliquid",
            *arguments,
            "--json",
            env={**os.environ, **self.options, **(env or {})},
            on_line=on_line,
        )
        values: dict[str, Any] = json.loads(output)
        return values

    async def buy(
        self,
        amount: int,
        *,
        max_price_msat: int,
        confs: int = 1,
        request_id: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Buy and return what the command printed."""
        return await self.run(
            "buy",
            "--yes",
            f"--amount={amount}",
            f"--max-price-msat={max_price_msat}",
            f"--confs={confs}",
            f"--request-id={request_id or uuid.uuid4()}",
            on_line=on_line,
        )

    async def balance(self) -> int:
        """How much of the asset the buyer's addresses hold."""
        return int((await self.run("balance"))["balance"])
