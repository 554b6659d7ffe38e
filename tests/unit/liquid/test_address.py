"""`liquid.address`: what is paid, what is refused, and what the buyer is told to do instead."""

import pytest
from embit import base58, bech32, ec
from embit.liquid import addresses, blech32
from embit.script import Script
from hypothesis import example, given
from hypothesis import strategies as st

from lnliquid.domain import htlc
from lnliquid.liquid.address import (
    AddressError,
    p2wpkh_address,
    p2wpkh_key_hash,
    script_address,
)
from lnliquid.liquid.networks import MAINNET, NETWORKS_BY_NAME, REGTEST, TESTNET, Network

NETWORKS = list(NETWORKS_BY_NAME.values())
KEY_HASH = bytes(range(20))
SCRIPT_HASH = bytes(range(32))
BLINDING_KEY = ec.PrivateKey(b"\x09" * 32).get_public_key()
P2WPKH, P2WSH = b"\x00\x14" + KEY_HASH, b"\x00\x20" + SCRIPT_HASH
TAPROOT = b"\x51\x20" + SCRIPT_HASH

every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


def refusal(address: str, network: Network = REGTEST) -> str:
    """What the buyer is told."""
    with pytest.raises(AddressError) as caught:
        p2wpkh_key_hash(address, network)
    return str(caught.value)


def blinded(script: bytes, network: Network) -> str:
    """embit's blinded address of an output script."""
    return str(addresses.address(Script(script), BLINDING_KEY, network.embit))


@every_network
def test_an_unblinded_p2wpkh_address_is_read_and_written(network: Network) -> None:
    """The same text both ways, as embit writes it, and with the network's prefix."""
    address = p2wpkh_address(KEY_HASH, network)
    assert address.startswith(network.hrp + "1")
    assert address == addresses.address(Script(P2WPKH), network=network.embit)
    assert p2wpkh_key_hash(address, network) == KEY_HASH
    assert script_address(P2WPKH, network) == address
    assert htlc.p2wpkh_script(KEY_HASH) == P2WPKH


def test_the_prefixes_are_those_of_the_chains() -> None:
    """From Elements' chain parameters."""
    assert [(n.hrp, n.blinded_hrp) for n in (MAINNET, TESTNET, REGTEST)] == [
        ("ex", "lq"), ("tex", "tlq"), ("ert", "el"),
    ]  # fmt: skip


@every_network
def test_capitals_and_outer_spaces_are_fine(network: Network) -> None:
    """A QR code is in capitals; a pasted address brings spaces and line ends."""
    address = p2wpkh_address(KEY_HASH, network)
    for text in (address.upper(), f"  {address}\n", f"\t{address.upper()} "):
        assert p2wpkh_key_hash(text, network) == KEY_HASH


@every_network
def test_a_blinded_address_is_refused_with_its_unblinded_form(network: Network) -> None:
    """The form that is named is the one that embit unblinds to, and is then accepted."""
    address = blinded(P2WPKH, network)
    for text in (address, address.upper(), f" {address} "):
        told = refusal(text, network)
        named = told.split()[-1]
        assert "blinded addresses are not supported" in told
        assert named == p2wpkh_address(KEY_HASH, network)
        assert addresses.to_unconfidential(address) == named
        assert p2wpkh_key_hash(named, network) == KEY_HASH


@every_network
def test_a_damaged_blinded_address_is_not_unblinded(network: Network) -> None:
    """No address is suggested that nobody checked."""
    address = blinded(P2WPKH, network)
    told = refusal(address[:-1] + ("q" if address[-1] != "q" else "p"), network)
    assert "blinded" in told
    assert "checksum does not match" in told
    assert network.hrp + "1" not in told


@every_network
def test_a_blinded_script_hash_is_not_offered_as_an_answer(network: Network) -> None:
    """P2WSH cannot claim, blinded or not; the unblinded form is refused in its turn."""
    told = refusal(blinded(P2WSH, network), network)
    assert "blinded" in told
    assert "P2WPKH" in refusal(script_address(P2WSH, network), network)


@pytest.mark.parametrize("here", NETWORKS, ids=lambda n: n.name)
@pytest.mark.parametrize("there", NETWORKS, ids=lambda n: n.name)
def test_an_address_of_another_network_is_refused_by_name(here: Network, there: Network) -> None:
    """Both networks are named, and how addresses begin here; blinded or not."""
    if here is there:
        return
    for address in (p2wpkh_address(KEY_HASH, there), blinded(P2WPKH, there)):
        for text in (address, address.upper()):
            told = refusal(text, here)
            assert f"of the network {there.name}; this seller is on {here.name}" in told
            assert f"{here.hrp}1" in told


@every_network
@pytest.mark.parametrize(
    ("script", "version", "size"), [(P2WSH, 0, 32), (TAPROOT, 1, 32)], ids=["P2WSH", "taproot"]
)
def test_other_segwit_kinds_are_refused(
    network: Network, script: bytes, version: int, size: int
) -> None:
    """The message says what the address is and what is wanted."""
    told = refusal(script_address(script, network), network)
    assert told == (
        "only P2WPKH addresses (witness version 0, 20 bytes) can claim; "
        f"this one has version {version} and {size} bytes"
    )


def test_a_key_hash_under_a_later_version_is_refused() -> None:
    """20 bytes alone do not make P2WPKH: version 1 would be anyone's to spend."""
    assert "version 1 and 20 bytes" in refusal(bech32.encode("ert", 1, KEY_HASH))


def test_version_0_with_the_checksum_of_bech32m_is_refused() -> None:
    """BIP350: version 0 has the old checksum."""
    data = [0, *bech32.convertbits(KEY_HASH, 8, 5)]
    text = bech32.bech32_encode(bech32.Encoding.BECH32M, "ert", data)
    assert "checksum" in refusal(text)


@every_network
def test_legacy_addresses_are_refused(network: Network) -> None:
    """P2PKH and P2SH, and their blinded forms, each called by its kind."""
    for prefix in ("p2pkh", "p2sh"):
        told = refusal(base58.encode_check(network.embit[prefix] + KEY_HASH), network)
        assert told == f"a legacy address; give an unblinded P2WPKH address ({network.hrp}1…)"
    told = refusal(
        base58.encode_check(network.embit["bp2sh"] + BLINDING_KEY.sec() + KEY_HASH), network
    )
    assert told.startswith("a blinded legacy address")


@every_network
def test_each_single_wrong_character_is_noticed(network: Network) -> None:
    """At every position behind the prefix."""
    address = p2wpkh_address(KEY_HASH, network)
    for place in range(len(network.hrp) + 1, len(address)):
        other = "q" if address[place] != "q" else "p"
        told = refusal(address[:place] + other + address[place + 1 :], network)
        assert "checksum does not match" in told


def test_a_missing_or_added_character_is_noticed() -> None:
    """Also where bech32's checksum alone would let a `q` before a final `p` pass."""
    address = p2wpkh_address(KEY_HASH, REGTEST)
    for text in (address[:-1], address + "q", address[:-1] + "q" + address[-1]):
        assert refusal(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "1", "ert1", "el1", "lq1", "1q", "bitcoin",
     "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
     "ert1" + "q" * 120, "\x00", "ért1qqqq", "0x" + "ab" * 20, "ERT1qqqqqqqqqq"],
)  # fmt: skip
def test_garbage_is_refused(text: str) -> None:
    """With a sentence, and without an exception of the libraries below."""
    assert len(refusal(text)) > 20


def test_mixed_case_is_refused() -> None:
    """As BIP173 demands; no guess is made."""
    address = p2wpkh_address(KEY_HASH, REGTEST)
    for text in (address[:10] + address[10:].upper(), "ERT" + address[3:]):
        assert "checksum" in refusal(text)


@given(st.text(max_size=130), st.sampled_from(NETWORKS))
@example("el1qq", REGTEST)
@example("ert1\x7f" + "q" * 10, REGTEST)
def test_no_text_does_anything_but_be_refused(text: str, network: Network) -> None:
    """Random text is never an address and never a crash."""
    with pytest.raises(AddressError):
        p2wpkh_key_hash(text, network)


@given(st.sampled_from(["ert1", "el1", "lq1", "tex1"]), st.text("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_no_text_of_the_right_letters_is_a_crash(prefix: str, rest: str) -> None:
    """Right prefix and alphabet, wrong everything else."""
    with pytest.raises(AddressError):
        p2wpkh_key_hash(prefix + rest, REGTEST)


@given(st.binary(min_size=20, max_size=20), st.sampled_from(NETWORKS))
def test_any_key_hash_survives_the_way_there_and_back(key_hash: bytes, network: Network) -> None:
    """Address of a hash, hash of the address."""
    assert p2wpkh_key_hash(p2wpkh_address(key_hash, network), network) == key_hash


def test_blech32_payloads_of_odd_sizes_are_refused() -> None:
    """A right checksum over too short a payload names no unblinded form."""
    text = blech32.encode("el", 0, BLINDING_KEY.sec())
    if text is None:
        text = blech32.bech32_encode("el", [0] * 54)
    assert "checksum does not match" in refusal(text)
