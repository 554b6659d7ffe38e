"""What must be true of a lab after every scenario: nothing crashed, nothing left, books balance."""

import json
import re
from pathlib import Path

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.programs import ProgramError, run_program
from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault, tell_proxies
from lnlab.lab import Lab
from lnlab.scenarios.sale import ScenarioError, require

PYTHON_FAULTS = re.compile(r"^Traceback|^Fatal Python|\bERROR\b|never awaited", re.MULTILINE)
FAULTS = {
    # It logs what a scenario does to it as errors too; what it should never do looks like this.
    "lnliquid": re.compile(r"^Traceback|internal error", re.MULTILINE),
    "elementsd": re.compile(r"EXCEPTION|Assertion|\*\*\* ?[A-Z]|Corrupt|Segmentation"),
    "electrs": re.compile(r"panicked|Assertion|Segmentation"),
    "lightningd": re.compile(r"\*\*BROKEN\*\*|FATAL SIGNAL|Segmentation"),
}
"""By the log's name up to the first dash: what must not be in it. Others: PYTHON_FAULTS."""


class Aftermath:
    """Made before a scenario; `check` afterwards reads what the logs got since."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._read: dict[str, int] = {path.name: path.stat().st_size for path in self._logs()}

    def _logs(self) -> list[Path]:
        if self._lab.containers is not None:
            for service in self._lab.containers.states():
                self._lab.containers.save_log(service, self._lab.directory)
        return sorted(self._lab.directory.glob("*.log"))

    async def check(self, daemon: SellerDaemon | None) -> None:
        """Raise ScenarioError, or NodeDiedError for a dead node.

        With a daemon: it runs, its faults are ended, and its audit is exact. None where the
        scenario ended its own and did the audit itself.
        """
        self._lab.check_alive()
        self._check_logs()
        if daemon is not None:
            daemon.check_alive()
            await self._check_faults()
            await _check_books(daemon)

    def _check_logs(self) -> None:
        for path in self._logs():
            with path.open(errors="replace") as log:
                log.seek(self._read.get(path.name, 0))
                new = log.read()
            wrong = FAULTS.get(path.stem.partition("-")[0], PYTHON_FAULTS).search(new)
            if wrong is not None:
                start = new.rfind("\n", 0, wrong.start()) + 1
                line = new[start:].partition("\n")[0]
                raise ScenarioError(f"{path} got an error during the scenario: {line[:500]}")

    async def _check_faults(self) -> None:
        if self._lab.nodes.proxied:
            told = await tell_proxies(self._lab.directory, {})
            left = {name: one["fault"] for name, one in told.items() if one["fault"] != Fault.NONE}
            require(not left, f"faults are left behind: {left}")
        if self._lab.nodes.kind == "embedded":
            held = await Faults(self._lab).held_payments()
            require(not held, f"payments are left held: {held}")


async def _check_books(daemon: SellerDaemon) -> None:
    """Store and chain agree coin by coin, as the operator's command finds."""
    try:
        printed = await run_program("lnliquid", "audit", "--config", str(daemon.config), "--json")
    except ProgramError as error:
        raise ScenarioError(f"the audit does not balance: {error}") from None
    report = json.loads(printed)
    require(report["exact"] is True, f"the audit does not balance: {report['differences']}")
