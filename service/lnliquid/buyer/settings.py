"""Settings of a buyer. The command line has options and environment variables for some."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lnliquid.buyer.checks import Expectations
from lnliquid.buyer.journal import Order
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.timelock import CLAIM_MARGIN_BLOCKS
from lnliquid.liquid.networks import NETWORKS_BY_NAME, Network

_GRACE_CALLS = 3
"""The request may wait for its turn, for the invoice to be read and for the node to take it."""


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

    claim_margin_blocks: int = CLAIM_MARGIN_BLOCKS
    """Liquid blocks to keep free for the claim; no fewer than the default."""

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
        if self.claim_margin_blocks < CLAIM_MARGIN_BLOCKS:
            raise SettingsError(
                (
                    f"claim_margin_blocks = {self.claim_margin_blocks} is below "
                    f"{CLAIM_MARGIN_BLOCKS}: the claim might not confirm before the refund opens",
                ),
                hint="",
            )

    @property
    def chain(self) -> Network:
        """Parameters of the Liquid chain."""
        return NETWORKS_BY_NAME[self.network]

    @property
    def pay_patience_secs(self) -> int:
        """How long after the checks the node may still send the payment."""
        return self.pay_wait_secs + round(_GRACE_CALLS * self.call_secs)

    def expectations(
        self,
        order: Order,
        *,
        claim_address: str,
        claim_key_hash: bytes,
        claim_rate_sats_per_kvb: int,
        node_height: int = 0,
    ) -> Expectations:
        """What the checks compare with: an order and what the buyer knows by itself."""
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
            max_hold_blocks=order.max_hold_blocks,
            claim_margin_blocks=self.claim_margin_blocks,
            pay_wait_secs=self.pay_patience_secs,
            node_height=node_height,
        )

    def trying_for(self, outage_secs: float) -> Self:
        """The same with this patience in an outage, but for no less than the default once paid.

        Giving up costs nothing before, and may cost the asset afterwards.
        """
        paid = max(outage_secs, type(self).outage_secs)
        return replace(self, unpaid_outage_secs=outage_secs, outage_secs=paid)
