"""`bench.figures`: a ratio is met on one side of its target only."""

import pytest
from rich.console import Console

from bench.figures import Figure, table_of


@pytest.mark.parametrize(
    ("measured", "at_most", "met"),
    [(40, False, True), (39.9, False, False), (40, True, True), (40.1, True, False)],
)
def test_a_target_is_met_or_missed(measured: float, at_most: bool, met: bool) -> None:
    """The target itself is met; the table says which, with measured value and baseline."""
    figure = Figure("speed", "/s", measured, 2, "a snail", 20, at_most)
    assert figure.is_met is met
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table_of([figure]))
    assert ("OK" if met else "MISSED") in shown.get()
    assert "a snail" in shown.get()
    assert f"{'≤' if at_most else '≥'} 20x" in shown.get()
