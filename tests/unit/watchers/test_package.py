"""`watchers.package`: what builds on what, where the roots are, in which order a package goes."""

from collections.abc import Mapping

import pytest

from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnliquid.domain.swap import Outpoint
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.families import OwnTx
from lnliquid.watchers.package import Graph

from ..builders import POLICY_ASSET, txid_of

FOREIGN = Outpoint(txid_of(1), 0)
P2WPKH = b"\x00\x14" + bytes(20)


def member(*inputs: Outpoint, value: int = 1_000, fee: int = 50, vsize: int = 500) -> OwnTx:
    """A transaction of two outputs that spends these."""
    outputs = [encode_output(POLICY_ASSET, value + n, P2WPKH) for n in range(2)]
    raw = encode_tx(
        [encode_input((i.txid, i.vout)) for i in inputs],
        [*outputs, encode_output(POLICY_ASSET, fee)],
        witnesses=[()] * len(inputs),
    )
    txid = parse_transaction(raw).txid
    return OwnTx(txid, TxState.ACCEPTED, None, txid, Purpose.FUNDING, raw, fee, vsize, 100)


def output(parent: OwnTx, vout: int = 0) -> Outpoint:
    """One of its outputs."""
    return Outpoint(parent.txid, vout)


ROOT = member(FOREIGN)
OTHER_ROOT = member(Outpoint(txid_of(2), 0))
LEFT = member(output(ROOT, 0))
RIGHT = member(output(ROOT, 1))
JOIN = member(output(LEFT), output(RIGHT), output(OTHER_ROOT))
ALONE = member(Outpoint(txid_of(3), 0))
ALL = {
    "root": ROOT,
    "other root": OTHER_ROOT,
    "left": LEFT,
    "right": RIGHT,
    "join": JOIN,
    "alone": ALONE,
}
NAMES = {m.txid: name for name, m in ALL.items()}


def graph(stands: Mapping[str, str] | None = None, *, but: str | None = None) -> Graph:
    """All of these, `but` one that has confirmed."""
    members = [m for name, m in ALL.items() if name != but]
    return Graph(members, stands or {})


@pytest.mark.parametrize(
    ("name", "roots", "package", "children"),
    [
        ("root", ["root"], ["root", "left", "right", "join"], ["left", "right"]),
        ("other root", ["other root"], ["other root", "join"], ["join"]),
        ("left", ["root"], ["left", "join"], ["join"]),
        ("join", ["other root", "root"], ["join"], []),
        ("alone", ["alone"], ["alone"], []),
    ],
)
def test_a_package_goes_from_its_root_to_what_builds_on_it(
    name: str, roots: list[str], package: list[str], children: list[str]
) -> None:
    """Parents before their children, each once, however many ways lead there."""
    made = graph()
    txid = ALL[name].txid
    assert sorted(NAMES[m.txid] for m in made.roots([txid])) == roots
    assert [NAMES[m.txid] for m in made.package(txid)] == package
    assert [NAMES[m.txid] for m in made.children(txid)] == children


def test_roots_of_several_are_named_once() -> None:
    """In a graph of any order of storing."""
    everything = [m.txid for m in reversed(ALL.values())]
    roots = [NAMES[m.txid] for m in graph().roots(everything)]
    assert sorted(roots) == ["alone", "other root", "root"]


def test_what_confirmed_is_no_root() -> None:
    """Those that built on it begin packages of their own."""
    made = graph(but="root")
    assert sorted(NAMES[m.txid] for m in made.roots([JOIN.txid])) == [
        "left", "other root", "right",
    ]  # fmt: skip


def test_parents_come_first_even_when_stored_last() -> None:
    """A replacement of a parent is stored after the child of the older version."""
    made = Graph([JOIN, RIGHT, LEFT, OTHER_ROOT, ROOT], {})
    order = [NAMES[m.txid] for m in made.package(ROOT.txid)]
    assert order[0] == "root"
    assert order[-1] == "join"
    assert sorted(order) == ["join", "left", "right", "root"]


def test_an_output_is_that_of_the_version_that_stands() -> None:
    """What was built on an older version of a parent is a child of the newer one."""
    older = member(FOREIGN, value=900)
    child = member(output(older, 1))
    made = Graph([ROOT, child], {older.txid: ROOT.txid, ROOT.txid: ROOT.txid})
    assert made.as_it_stands(output(older, 1)) == output(ROOT, 1)
    assert made.as_it_stands(output(ROOT, 1)) == output(ROOT, 1)
    assert made.as_it_stands(FOREIGN) == FOREIGN
    assert [m.txid for m in made.children(ROOT.txid)] == [child.txid]
    assert [m.txid for m in made.roots([child.txid])] == [ROOT.txid]


@pytest.mark.parametrize(
    ("fee", "vsize", "rate"), [(49, 483, 102), (50, 500, 100), (1, 1_000, 1), (101, 1_000, 101)]
)
def test_a_rate_is_rounded_up(fee: int, vsize: int, rate: int) -> None:
    """In sat per 1,000 vbytes."""
    assert member(FOREIGN, fee=fee, vsize=vsize).rate == rate
