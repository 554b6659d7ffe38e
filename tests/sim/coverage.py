"""Which events met which states: what the random schedules really try.

A state is one of a swap, of a wallet transaction or of a deposit. An event that concerns one of
them is counted with its state only, one that concerns everything with every state there is.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING

from lnliquid.domain.swap import InvoiceMark, State
from lnliquid.store.tables import Purpose, TxState

if TYPE_CHECKING:
    from .rules import Row, Rules

Cell = tuple[str, str]
"""State and event."""

SWAPS = (
    "swap waiting", "swap sent", "swap reverted", "swap without invoice", "swap payable",
    "swap closed", "swap paid", "swap invoice lost", "swap stuck", "swap ordered", "swap claimed",
    "swap refunded",
)  # fmt: skip
OWN = tuple(
    f"{purpose.name.lower()} {state}"
    for purpose in Purpose
    for state in ("signed", "bumped", "confirmed", "replaced", "older confirmed", "abandoned")
)
DEPOSITS = ("deposit unconfirmed", "deposit confirmed", "deposit undone")
EVERYWHERE = (
    "crash", "shallow reorg", "deep reorg", "electrum timeout", "server lies", "version mined",
    "fees rise",
)  # fmt: skip
"""Events that concern everything."""
NEVER_LOST = tuple(state for state in SWAPS if state != "swap invoice lost")
"""In no schedule another process deletes an invoice; `test_narrow` does that."""
REACHABLE: frozenset[Cell] = frozenset(
    {
        *product(NEVER_LOST, EVERYWHERE),
        *product(("funding signed", "funding bumped", "funding confirmed"), EVERYWHERE),
        *product(("refund signed", "refund bumped", "refund confirmed"), EVERYWHERE),
        *product(("lanes signed", "lanes confirmed"), EVERYWHERE),
        *product(DEPOSITS, EVERYWHERE),
        *product(("funding older confirmed", "refund older confirmed"), ("shallow reorg", "crash")),
        *product(("funding bumped", "refund bumped"), ("bumped", "broadcast refused")),
        *product(
            ("funding signed", "refund signed", "lanes signed"), ("signed", "broadcast refused")
        ),
        ("funding signed", "broadcast timeout"),
        *product(
            ("swap payable",),
            ("payment paid", "payment held", "payment refused", "payment timed out"),
        ),
        ("swap reverted", "payment paid"),
        *product(("swap paid", "swap stuck", "swap ordered", "swap claimed"), ("claim sent",)),
        *product(("swap closed", "swap ordered", "swap claimed"), ("refund signed",)),
        *product(("swap closed", "swap reverted"), ("invoice deleted", "delinvoice timed out")),
        ("swap without invoice", "invoice timed out"),
        *product(
            ("swap without invoice", "swap payable", "swap closed"), ("listinvoices timed out",)
        ),
        ("deposit unconfirmed", "undone by its sender"),
    }
)
"""What 90 seeds of 400 steps reached, and what differs from it by chance only. An own transaction
is confirmed or replaced as stored; what is buried counts no more."""


class Coverage:
    """Counts cells. `rules` knows the states; None before there are any."""

    def __init__(self) -> None:
        self.cells: Counter[Cell] = Counter()
        self.rules: Rules | None = None
        self._met: set[str] = set()

    def follow(self, rules: "Rules") -> "Coverage":
        """Read the states from there."""
        self.rules = rules
        return self

    def begin_step(self) -> None:
        """An event that concerns everything counts once a step."""
        self._met.clear()

    def everywhere(self, event: str) -> None:
        """An event that concerns everything."""
        if self.rules is None or event in self._met:
            return
        self._met.add(event)
        self.cells.update((state, event) for state in set(self._all_states(self.rules)))

    def swap(self, event: str, swap_id: str | None) -> None:
        """An event of one swap."""
        row = self.rules.rows.get(swap_id or "") if self.rules else None
        if row is not None:
            self.cells[swap_state(row) or "swap final", event] += 1

    def own(self, event: str, txid: str) -> None:
        """An event of one transaction of ours."""
        if self.rules is not None:
            for name, state in _own_states(self.rules).items():
                if name == txid:
                    self.cells[state, event] += 1

    def deposit(self, event: str, txid: str) -> None:
        """An event of one deposit."""
        if self.rules is not None:
            self.cells[_deposit_state(self.rules, txid), event] += 1

    def _all_states(self, rules: "Rules") -> Iterable[str]:
        for row in rules.rows.values():
            state = swap_state(row)
            if state is not None:
                yield state
        yield from _own_states(rules).values()
        for deposit in rules.ground.deposits:
            yield _deposit_state(rules, deposit.txid)


def swap_state(row: "Row") -> str | None:
    """What a swap counts as; None once it is final."""
    state, mark = State(row["state"]), InvoiceMark(row["invoice_mark"])
    if row["finished"]:
        return None
    if state in (State.CREATED, State.FUNDED) and row["forced_refund_reason"] is not None:
        return "swap ordered"
    if row["paid_unclaimed"]:
        return "swap stuck"
    match state:
        case State.CREATED if row["funding_txid"] is None:
            return "swap waiting"
        case State.FAILED:
            return "swap reverted"  # reopened
        case State.CREATED:
            return "swap sent" if mark is InvoiceMark.NONE else "swap reverted"
        case State.FUNDED if mark is InvoiceMark.PAID:
            return "swap paid"
        case State.FUNDED if mark is InvoiceMark.LOST:
            return "swap invoice lost"
        case State.FUNDED if mark in (InvoiceMark.CLOSED, InvoiceMark.REFUNDING):
            return "swap closed"
        case State.FUNDED:
            return "swap payable" if row["bolt11"] else "swap without invoice"
        case State.CLAIMED:
            return "swap claimed"
        case _:
            return "swap refunded"


def _own_states(rules: "Rules") -> dict[str, str]:
    """By txid, of those that are not buried."""
    rows = rules.ask("SELECT txid, purpose, state, height, replaces FROM own_tx")
    older = {row["replaces"] for row in rows}
    buried_at = rules.ground.chain.tip_height - rules.settings.final_confs
    found = {}
    for row in rows:
        is_abandoned = row["state"] == TxState.ABANDONED
        if not is_abandoned and row["height"] is not None and row["height"] <= buried_at:
            continue
        match TxState(row["state"]):
            case TxState.SIGNED:
                state = "bumped" if row["replaces"] else "signed"
            case TxState.CONFIRMED:
                state = "older confirmed" if row["txid"] in older else "confirmed"
            case other:
                state = other.name.lower()
        found[row["txid"]] = f"{Purpose(row['purpose']).name.lower()} {state}"
    return found


def _deposit_state(rules: "Rules", txid: str) -> str:
    found = rules.ground.find(txid)
    if found is None:
        return "deposit undone"
    return "deposit unconfirmed" if found[1] is None else "deposit confirmed"


def table(cells: Counter[Cell]) -> list[str]:
    """The table as lines: states down, events across, with what is empty and need not be."""
    states = [s for s in (*SWAPS, "swap final", *OWN, *DEPOSITS) if any(c[0] == s for c in cells)]
    events = sorted({event for _, event in (*cells, *REACHABLE)})
    width = max(map(len, states), default=0)
    lines = [f"{n:>3}  {event}" for n, event in enumerate(events)]
    lines.append(" " * width + "".join(f"{n:>7}" for n in range(len(events))))
    for state in states:
        counts = (cells[state, event] for event in events)
        lines.append(f"{state:<{width}}" + "".join(f"{n or '·':>7}" for n in counts))
    return lines


def missing(cells: Counter[Cell]) -> list[str]:
    """Cells that can be reached and were not."""
    return sorted(f"{state} × {event}" for state, event in REACHABLE if not cells[state, event])
