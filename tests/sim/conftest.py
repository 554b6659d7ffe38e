"""Adds up what the simulations did and shows it at the end, however many processes they ran in."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Steps, actions and what became of the swaps, over all seeds."""
    told: dict[str, Counter[str]] = {"actions": Counter(), "swaps": Counter()}
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if report.when == "call" and name in told and isinstance(value, dict):
                told[name].update(value)
    actions = told["actions"]
    if not actions:
        return
    terminalreporter.section("simulation")
    terminalreporter.write_line(f"{actions.total() - actions['death']} steps")
    for counts in told.values():
        terminalreporter.write_line(", ".join(f"{n} {name}" for name, n in counts.most_common()))
