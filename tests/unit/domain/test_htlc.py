"""`domain.htlc`: script bytes against recorded ones, and reading a spender's witness."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnliquid.domain import htlc
from lnliquid.domain.htlc import (
    MAX_LOCK_HEIGHT,
    SpendKind,
    SpendWitness,
    push_number,
    read_spend_witness,
    witness_script,
)
from lnliquid.domain.transaction import parse_transaction

from ..builders import VECTORS

BUYER_HASH, SELLER_HASH = b"\x0b" * 20, b"\x5e" * 20
PREIMAGE = b"\x01" * 32
PAYMENT_HASH = hashlib.sha256(PREIMAGE).digest()
SCRIPT = witness_script(PAYMENT_HASH, BUYER_HASH, SELLER_HASH, 700)
PADDED = "claim under padded locktime push"


def reference_push(value: int) -> bytes:
    """Script number of BIP62 written in the other way: byte by byte, then the sign byte."""
    if value <= 16:
        return bytes([0x50 + value])
    data = []
    while value:
        data.append(value & 0xFF)
        value >>= 8
    if data[-1] & 0x80:
        data.append(0)
    return bytes([len(data), *data])


def recorded_spends() -> list[tuple[str, bool, bytes, list[bytes]]]:
    """(vector, allowed, script of the spent coin, witness) of each recorded HTLC spend."""
    found = []
    for vector in VECTORS:
        coins = {(c["txid"], c["vout"]): c for c in vector["coins"]}
        for item in parse_transaction(bytes.fromhex(vector["tx"])).inputs:
            coin = coins.get((item.outpoint.txid, item.outpoint.vout))
            if coin and coin["script_pubkey"].startswith("0020") and len(item.witness) in (4, 5):
                script_pubkey = bytes.fromhex(coin["script_pubkey"])
                found.append((vector["name"], vector["allowed"], script_pubkey, item.witness))
    return found


SPENDS = recorded_spends()


def parts(script: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Payment hash, buyer's and seller's key hash, lock height, by position in the template."""
    push = script[66:]
    if push[0] > 0x50:
        height, rest = push[0] - 0x50, push[1:]
    else:
        height, rest = int.from_bytes(push[1 : 1 + push[0]], "little"), push[1 + push[0] :]
    return script[7:39], script[43:63], rest[5:25], height


def test_the_recordings_hold_claims_and_refunds() -> None:
    """The tests below have something to compare with."""
    lengths = [len(witness) for _, _, _, witness in SPENDS]
    assert lengths.count(5) > 20
    assert lengths.count(4) > 10


@pytest.mark.parametrize("spend", SPENDS, ids=lambda s: s[0])
def test_scripts_that_elementsd_saw_are_rebuilt_byte_for_byte(
    spend: tuple[str, bool, bytes, list[bytes]],
) -> None:
    """From hashes and height alone; only the padded push and a foreign script differ."""
    name, _, script_pubkey, witness = spend
    recorded = witness[-1]
    rebuilt = witness_script(*parts(recorded))
    assert (rebuilt == recorded) is (name != PADDED)
    committed = htlc.output_script(recorded) == script_pubkey
    assert committed is (name != "claim with another script")


@pytest.mark.parametrize("spend", [s for s in SPENDS if s[1]], ids=lambda s: s[0])
def test_accepted_spends_are_read_as_what_they_are(
    spend: tuple[str, bool, bytes, list[bytes]],
) -> None:
    """A claim of five items with its preimage, a refund of four without."""
    name, _, _, witness = spend
    read = read_spend_witness(witness, witness[-1], parts(witness[-1])[0])
    if len(witness) == 5:
        assert read == SpendWitness(SpendKind.CLAIM, witness[2]), name
    else:
        assert read == SpendWitness(SpendKind.REFUND, None), name


def test_push_number_is_minimal_for_every_height_of_years() -> None:
    """1 to 70,000 against the reference."""
    assert [v for v in range(1, 70_001) if push_number(v) != reference_push(v)] == []


@given(st.integers(1, MAX_LOCK_HEIGHT))
def test_push_number_is_minimal_for_any_height(value: int) -> None:
    """Up to the last number that is a height."""
    assert push_number(value) == reference_push(value)


@pytest.mark.parametrize(
    ("value", "pushed"),
    [
        (1, "51"), (16, "60"), (17, "0111"), (127, "017f"), (128, "028000"), (255, "02ff00"),
        (256, "020001"), (32_767, "02ff7f"), (32_768, "03008000"), (65_535, "03ffff00"),
        (8_388_607, "03ffff7f"), (8_388_608, "0400008000"), (499_999_999, "04ff64cd1d"),
    ],
)  # fmt: skip
def test_push_number_at_the_edges_of_its_sizes(value: int, pushed: str) -> None:
    """A byte is added when the top bit would be a sign."""
    assert push_number(value).hex() == pushed


@pytest.mark.parametrize("value", [-1, 0, 500_000_000, 2**32])
def test_what_is_not_a_lock_height_is_refused(value: int) -> None:
    """From 500,000,000 on it would be a time (BIP65)."""
    with pytest.raises(ValueError, match="lock height"):
        push_number(value)


def test_the_template_is_that_of_the_design() -> None:
    """Written out opcode by opcode."""
    assert SCRIPT.hex() == (
        "63" "820120" "88" "a820" + PAYMENT_HASH.hex() + "88"
        "76a914" + BUYER_HASH.hex() + "88ac"
        "67" "02bc02" "b175"
        "76a914" + SELLER_HASH.hex() + "88ac" "68"
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [(31, 20, 20), (33, 20, 20), (32, 19, 20), (32, 20, 33)])
def test_hashes_of_another_size_are_refused(sizes: tuple[int, int, int]) -> None:
    """A script with them would lock the coins for ever."""
    with pytest.raises(ValueError, match="32 bytes"):
        witness_script(bytes(sizes[0]), bytes(sizes[1]), bytes(sizes[2]), 700)


def test_each_part_changes_the_script() -> None:
    """No argument is ignored or swapped with another."""
    others = {
        witness_script(b"\x02" * 32, BUYER_HASH, SELLER_HASH, 700),
        witness_script(PAYMENT_HASH, SELLER_HASH, BUYER_HASH, 700),
        witness_script(PAYMENT_HASH, BUYER_HASH, BUYER_HASH, 700),
        witness_script(PAYMENT_HASH, BUYER_HASH, SELLER_HASH, 701),
        SCRIPT,
    }
    assert len(others) == 5


def test_output_scripts_and_scripthash() -> None:
    """P2WSH, P2WPKH and the name Electrum servers use, as their documents give them."""
    assert htlc.output_script(b"") == b"\x00\x20" + hashlib.sha256(b"").digest()
    assert htlc.p2wpkh_script(BUYER_HASH) == b"\x00\x14" + BUYER_HASH
    # The example of the Electrum protocol's documentation (P2PKH of the genesis coinbase).
    genesis = bytes.fromhex("76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac")
    assert htlc.electrum_scripthash(genesis) == (
        "8b01df4e368ea28f8dc0423bcf7a4923e3a12d307c875e47a0cfbf90b5c39161"
    )


SIG, KEY = b"\x30" * 71, b"\x02" * 33


def test_our_own_witnesses_are_read_back() -> None:
    """Both forms."""
    claim = htlc.claim_witness(SIG, KEY, PREIMAGE, SCRIPT)
    assert claim == [SIG, KEY, PREIMAGE, b"\x01", SCRIPT]
    assert read_spend_witness(claim, SCRIPT, PAYMENT_HASH) == SpendWitness(
        SpendKind.CLAIM, PREIMAGE
    )
    refund = htlc.refund_witness(SIG, KEY, SCRIPT)
    assert refund == [SIG, KEY, b"", SCRIPT]
    assert read_spend_witness(refund, SCRIPT, PAYMENT_HASH) == SpendWitness(SpendKind.REFUND, None)


@pytest.mark.parametrize(
    "witness",
    [
        [],
        [SCRIPT],
        [SIG, KEY],
        [SIG, KEY, PREIMAGE, b"\x01", SCRIPT + b"\x00"],
        [SIG, KEY, b"\x02" * 32, b"\x01", SCRIPT],
        [SIG, KEY, PREIMAGE[:31], b"\x01", SCRIPT],
        [SIG, KEY, PREIMAGE, b"", SCRIPT],
        [SIG, KEY, PREIMAGE, SCRIPT],
        [SIG, KEY, b"\x01", SCRIPT],
        [SIG, KEY, b"", b"", SCRIPT],
        [SIG, KEY, b"", SCRIPT, b""],
        [SIG, KEY, PREIMAGE, b"\x01", SCRIPT, b"\x50"],
        [b"", SIG, KEY, PREIMAGE, b"\x01", SCRIPT],
    ],
)
def test_other_witnesses_are_not_taken_for_either(witness: list[bytes]) -> None:
    """Wrong preimage, selector, script or number of items."""
    assert read_spend_witness(witness, SCRIPT, PAYMENT_HASH) is None


def test_a_witness_of_another_swap_is_not_read() -> None:
    """The script must be this swap's, whatever the rest is."""
    other = witness_script(PAYMENT_HASH, BUYER_HASH, SELLER_HASH, 701)
    claim = htlc.claim_witness(SIG, KEY, PREIMAGE, SCRIPT)
    assert read_spend_witness(claim, other, PAYMENT_HASH) is None
