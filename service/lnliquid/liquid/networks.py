"""Parameters of the Liquid chains: address forms, policy asset, Lightning currency.

Sources: Elements `src/chainparams.cpp`; bech32 is BIP173, SLIP-0044 gives the coin types.
"""

from dataclasses import dataclass
from typing import Any

from embit.liquid.networks import NETWORKS

from lnliquid.domain.terms import POLICY_ASSETS


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
    p2pkh_prefix: int
    p2sh_prefix: int
    """First bytes of unblinded legacy addresses. (embit's p2pkh ones are those of bitcoin.)"""
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
    POLICY_ASSETS["liquidv1"],
    1776,
    57,
    39,
    ("bc", "ex"),
)
TESTNET = Network(
    "liquidtestnet",
    "liquidtestnet",
    POLICY_ASSETS["liquidtestnet"],
    1,
    36,
    19,
    ("tb", "tex"),
)
REGTEST = Network(
    "liquid-regtest",
    "elementsregtest",
    POLICY_ASSETS["liquid-regtest"],
    1,
    235,
    75,
    ("ert",),
)

NETWORKS_BY_NAME = {n.name: n for n in (MAINNET, TESTNET, REGTEST)}
