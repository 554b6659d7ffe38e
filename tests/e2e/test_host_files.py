"""The host makes trouble: files change hands, descriptors run out, a second daemon starts."""

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.scenarios import host_files
from lnlab.scenarios.aftermath import Aftermath
from lnlab.scenarios.catalogue import Run

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "scenario",
    [host_files.file_replaced, host_files.two_daemons, host_files.descriptors],
    ids=lambda s: s.__name__,
)
async def test_the_host(scenario: Run, daemon: SellerDaemon) -> None:
    """Each ends with an exact audit."""
    aftermath = Aftermath(daemon.lab)
    await scenario(daemon, print)
    await aftermath.check(daemon)
