"""What a measurement comes to, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """A ratio: what was measured to what it is compared with, both of this run.

    `target` is the least ratio, or the most if `at_most`.
    """

    name: str
    unit: str
    measured: float
    baseline: float
    baseline_name: str
    target: float
    at_most: bool = False

    @property
    def ratio(self) -> float:
        """Measured over baseline."""
        return self.measured / self.baseline

    @property
    def is_met(self) -> bool:
        """True when the ratio is on the right side of the target."""
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def table_of(figures: Sequence[Figure]) -> Table:
    """One line a figure."""
    table = Table(title="Ratios of this run", show_lines=True)
    for name in ("figure", "measured", "baseline", "ratio", "target", ""):
        table.add_column(name, justify="left" if name in ("figure", "") else "right")
    for figure in figures:
        table.add_row(
            f"{figure.name}\n[dim]against {figure.baseline_name}[/]",
            f"{_number(figure.measured)} {figure.unit}".rstrip(),
            f"{_number(figure.baseline)} {figure.unit}".rstrip(),
            f"{_number(figure.ratio)}x",
            f"{'≤' if figure.at_most else '≥'} {figure.target:g}x",
            "[green]OK[/]" if figure.is_met else "[bold red]MISSED[/]",
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
