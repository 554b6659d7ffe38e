"""Settings of a buyer. The command line has options and environment variables for some."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lnliquid.buyer.checks import Expectations
from lnliquid.buyer.journal import Order
from lnliquid.domain.errors import SettingsError
from lnliquid.liquid.networks import NETWORKS_BY_NAME, REGTEST, Network


@dataclass(frozen=True)
class BuyerSettings:
    """Where the buyer's parts are, what it assumes, and how long it waits.

    `directory` holds the journal and the mnemonic. `seller` is host:port or unix:/path.
    """

    directory: Path
    network: str
    seller: str = ""
    electrum_url: str = ""
    lightning_rpc: Path = Path()

    liquid_block_secs: int = 60
    """The buyer's own estimate; a seller's larger one is not believed."""
    lightning_block_secs: int | None = None
    """The same for the chain that carries the channels; None: 600, on regtest 60."""
    min_claim_margin_blocks: int = 10
    """Blocks to keep free for the claim, when the seller keeps fewer."""

    pay_wait_secs: int = 30
    """How long the node looks for a route; until this is over a failed payment is not final."""
    poll_secs: float = 0.5
    """Pause between two looks at chain, seller or payment."""
    outage_secs: float = 30
    """Give up (to be resumed) when a backend or the seller cannot be reached for this long."""
    unpaid_outage_secs: float | None = None
    """The same while nothing is paid, where giving up costs nothing. None: `outage_secs`."""
    wait_secs: float = 3_600
    """Give up (to be resumed) when blocks or a held payment take longer than this."""
    call_secs: float = 10
    """Deadline of one call."""

    def __post_init__(self) -> None:
        if self.network not in NETWORKS_BY_NAME:
            names = ", ".join(NETWORKS_BY_NAME)
            raise SettingsError((f"network {self.network!r} is not one of {names}",), hint="")

    @property
    def chain(self) -> Network:
        """Parameters of the Liquid chain."""
        return NETWORKS_BY_NAME[self.network]

    def expectations(
        self,
        order: Order,
        *,
        claim_address: str,
        claim_key_hash: bytes,
        claim_rate_sats_per_kvb: int,
    ) -> Expectations:
        """What the checks compare with: an order and the buyer's own assumptions."""
        lightning_block_secs = self.lightning_block_secs
        if lightning_block_secs is None:  # regtest has its channels on Liquid
            lightning_block_secs = self.liquid_block_secs if self.chain is REGTEST else 600
        return Expectations(
            network=self.network,
            request_id=order.request_id,
            asset_id=order.asset_id,
            asset_amount=order.amount,
            claim_address=claim_address,
            claim_key_hash=claim_key_hash,
            max_total_price_msat=order.max_price_msat,
            min_funding_confs=order.min_confs,
            claim_rate_sats_per_kvb=claim_rate_sats_per_kvb,
            liquid_block_secs=self.liquid_block_secs,
            lightning_block_secs=lightning_block_secs,
            min_claim_margin_blocks=self.min_claim_margin_blocks,
            pay_wait_secs=self.pay_wait_secs,
        )

    def trying_for(self, outage_secs: float) -> Self:
        """The same with this patience in an outage, but for no less than the default once paid.

        Giving up costs nothing before, and may cost the asset afterwards.
        """
        paid = max(outage_secs, type(self).outage_secs)
        return replace(self, unpaid_outage_secs=outage_secs, outage_secs=paid)
