"""Shows at the end how many states were searched, however many processes did it."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each search."""
    lines = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in getattr(report, "user_properties", ())
        if report.when == "call" and name == "model"
    ]
    if lines:
        terminalreporter.section("model")
        for line in lines:
            terminalreporter.write_line(line)
