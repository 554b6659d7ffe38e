"""A log that says the same trouble each second for an hour stays small, and says all of it."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from lnliquid.log_repeats import OVER_SECS, SAID, SUMMARY_SECS, Repeats

HOUR = 3_600


class Log:
    """A log with a clock that the test moves."""

    def __init__(self) -> None:
        self.at = 0.0
        self.lines: list[dict[str, Any]] = []
        self.repeats = Repeats(lambda: self.at)
        self._log = structlog.wrap_logger(
            structlog.ReturnLogger(),
            processors=[structlog.processors.add_log_level, self.repeats, self._keep],
        )

    def _keep(self, _logger: Any, _method: str, line: Any) -> Any:
        self.lines.append(dict(line))
        return line

    def each_second(self, secs: int, say: Callable[[Any], None]) -> None:
        """Say it once a second, as the watchers do."""
        for _ in range(secs):
            say(self._log)
            self.repeats.flush(self._log)
            self.at += 1

    def times(self) -> int:
        """What the last line with a count says."""
        return next(int(line["times"]) for line in reversed(self.lines) if "times" in line)


def broken(log: Any) -> None:
    """An error with a traceback, that has another id each time."""
    try:
        raise RuntimeError("x")
    except RuntimeError as error:
        log.error("internal error", log_id=str(id(error)), exc_info=error)


@pytest.mark.parametrize(
    "say",
    [
        lambda log: log.warning("watching is delayed", reason="malformed"),
        lambda log: log.warning("backing off", reason="x", attempts=object(), retry_secs=3),
        broken,
    ],
    ids=["a reason", "a count", "a traceback"],
)
def test_an_hour_of_one_trouble_is_few_lines_with_its_count(say: Callable[[Any], None]) -> None:
    """And a last one when it is over."""
    log = Log()
    log.each_second(HOUR, say)
    assert len(log.lines) <= SAID + HOUR / SUMMARY_SECS
    log.each_second(int(OVER_SECS) + 2, lambda _: None)
    assert (log.lines[-1]["event"], log.times()) == ("trouble over", HOUR)
    say(log._log)
    assert log.lines[-1]["event"] != "trouble over"


def test_what_differs_or_is_no_trouble_is_said_each_time() -> None:
    """Another swap, another reason, a change, progress."""
    log = Log()

    def say(one: Any) -> None:
        one.warning("broadcast failed", txid=str(log.at))
        one.info("swap funded")
        one.warning("not ready", reason="paused")

    log.each_second(100, say)
    assert len(log.lines) == 300


def test_what_came_a_few_times_has_no_end_to_tell() -> None:
    """Each was said."""
    log = Log()
    log.each_second(SAID, lambda one: one.warning("electrum slow"))
    log.each_second(int(OVER_SECS) + 2, lambda _: None)
    assert [line["event"] for line in log.lines] == ["electrum slow"] * SAID
