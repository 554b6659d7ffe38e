"""Parameters of the Liquid chains: address forms, policy asset, Lightning currency.

Sources: Elements `src/chainparams.cpp`; bech32 is BIP173, SLIP-0044 gives the coin types.
"""

from dataclasses import dataclass
from typing import Any

from embit.liquid.networks import NETWORKS


@dataclass(frozen=True)
class Network:
    """One chain. `embit_name` selects embit's prefixes; `bolt11_currencies`: what
    follows `ln` in its invoices.

    The first currency is the default; on mainnet and testnet the invoice may be of Bitcoin's
    Lightning network or of Liquid's.
    """

    name: str
    embit_name: str
    policy_asset: str
    coin_type: int
    bolt11_currencies: tuple[str, ...]

    @property
    def embit(self) -> dict[str, Any]:
        """embit's table for this chain."""
        params: dict[str, Any] = NETWORKS[self.embit_name]
        return params

    @property
    def hrp(self) -> str:
        """Human-readable part of unblinded segwit addresses."""
        return str(self.embit["bech32"])

    @property
    def blinded_hrp(self) -> str:
        """Human-readable part of blinded segwit addresses (blech32)."""
        return str(self.embit["blech32"])


MAINNET = Network(
    "liquidv1",
    "liquidv1",
    "6f0279e9ed041c3d710a9f57d0c02928416460c4b722ae3457a11eec381c526d",
    1776,
    ("bc", "ex"),
)
TESTNET = Network(
    "liquidtestnet",
    "liquidtestnet",
    "144c654344aa716d6f3abcc1ca90e5641e4e2a7f633bc09fe3baf64585819a49",
    1,
    ("tb", "tex"),
)
REGTEST = Network(
    "liquid-regtest",
    "elementsregtest",
    # Of the chain named `liquid-regtest`, the only one Core Lightning accepts.
    "ceb851388a62039c49710566bc8b0b229eaa8a92bafbca512d8f7fd363b9e75c",
    1,
    ("ert",),
)

NETWORKS_BY_NAME = {n.name: n for n in (MAINNET, TESTNET, REGTEST)}
