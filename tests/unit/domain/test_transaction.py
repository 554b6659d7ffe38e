"""`domain.transaction` against embit, on transactions that elementsd has judged."""

import json
from typing import Any

import pytest
from embit.liquid.transaction import LTransaction

from lnliquid.domain.transaction import parse_transaction

from ..builders import ROOT

VECTORS = ROOT / "tests" / "vectors"


def raws(value: Any) -> set[str]:
    """Every transaction in a vector file, hex."""
    if isinstance(value, dict):
        return set().union(*map(raws, value.values()))
    if isinstance(value, list):
        return set().union(*map(raws, value))
    return {value} if isinstance(value, str) and value.startswith("02000000") else set()


RECORDED = sorted(
    raw
    for file in ("elementsd_mempool.json", "elementsd_mempool_more.json")
    for raw in raws(json.loads((VECTORS / file).read_text()))
)


def test_there_are_recorded_transactions() -> None:
    """Otherwise the tests below would look at nothing."""
    assert len(RECORDED) > 100


def test_recorded_transactions_read_as_embit_reads_them() -> None:
    """Txid, inputs with their witnesses, outputs explicit and blinded, lock time."""
    for raw in map(bytes.fromhex, RECORDED):
        found, other = parse_transaction(raw), LTransaction.parse(raw)
        assert found.txid == other.txid().hex()
        assert [
            (i.outpoint.txid, i.outpoint.vout, i.sequence, i.witness) for i in found.inputs
        ] == [
            (i.txid.hex(), i.vout, i.sequence, [bytes(w) for w in i.witness.script_witness.items])
            for i in other.vin
        ]
        assert [(o.script_pubkey, o.asset_id, o.value) for o in found.outputs] == [
            (
                bytes(o.script_pubkey.data),
                o.asset[::-1].hex() if len(o.asset) == 32 else None,
                o.value if isinstance(o.value, int) else None,
            )
            for o in other.vout
        ]
        assert found.lock_time == other.locktime


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda _: b""])
def test_bytes_that_are_not_exactly_one_transaction_are_refused(change: Any) -> None:
    """Cut off, with something behind, or nothing."""
    for raw in map(bytes.fromhex, RECORDED):
        with pytest.raises(ValueError, match="transaction"):
            parse_transaction(change(raw))


def test_a_size_has_one_form_only() -> None:
    """A longer form of the same number would be another transaction with the same meaning."""
    raw = bytes.fromhex(RECORDED[0])
    assert raw[5] < 0xFD
    with pytest.raises(ValueError, match="shortest"):
        parse_transaction(raw[:5] + b"\xfd" + bytes([raw[5], 0]) + raw[6:])
