"""Funding, claim and refund taken back by reorgs."""

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.scenarios import reorg

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 10])
async def test_funding_reorged_out(daemon: SellerDaemon, depth: int) -> None:
    """Back to CREATED without an invoice, then FUNDED with one again, paid, claimed."""
    await reorg.funding_reorged(daemon, depth, print)


async def test_claim_reorged_out(daemon: SellerDaemon) -> None:
    """A claim that loses its block is not final; forgotten it is FUNDED again, then claimed."""
    await reorg.claim_reorged(daemon, print)


async def test_refund_reorged_out(daemon: SellerDaemon) -> None:
    """A refund that loses its block is not final, and the same bytes are sent again."""
    await reorg.refund_reorged(daemon, print)


async def test_final_claim_reorged_out(daemon: SellerDaemon) -> None:
    """Deeper than final: reopened, named, sales stopped until the operator resumes them."""
    await reorg.deep_reorg(daemon, print)
