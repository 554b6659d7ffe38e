"""`liquid.keys`: derivation that never changes, secrets that do not show, private files."""

import hashlib
import hmac
import stat
import traceback
from pathlib import Path

import pytest
from embit import bip32, bip39

from lnliquid.domain import htlc
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.swap import Outpoint
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import (
    CHANGE,
    RECEIVE,
    Key,
    Keychain,
    hash160,
    new_mnemonic,
    read_mnemonic,
    require_native_secp256k1,
    write_mnemonic,
)
from lnliquid.liquid.networks import MAINNET, NETWORKS_BY_NAME, REGTEST, TESTNET

from ..builders import BUYER, SELLER, SELLER_WORDS, txid_of

ROOT_KEY = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(SELLER_WORDS))


def secret_at(path: str) -> bytes:
    """Private key at a path of the fixed mnemonic, by embit alone."""
    return bytes(ROOT_KEY.derive(path).key.secret)


def public_key(secret: bytes) -> bytes:
    """33-byte public key of a secret."""
    return Key(secret).public_key


@pytest.mark.parametrize("index", [0, 1, 19, 2**31 - 1])
def test_keys_are_at_the_documented_paths(index: int) -> None:
    """Wallet, refund key and preimage, recomputed from the path as it is written in the docs."""
    assert SELLER.wallet_key(RECEIVE, index).public_key == public_key(
        secret_at(f"m/84h/1h/0h/0/{index}")
    )
    assert SELLER.wallet_key(CHANGE, index).public_key == public_key(
        secret_at(f"m/84h/1h/0h/1/{index}")
    )
    assert SELLER.refund_key(index).public_key == public_key(secret_at(f"m/9737h/1h/0h/{index}h"))
    source = secret_at(f"m/9737h/1h/1h/{index}h")
    message = b"ln_liquid_swap preimage v1 some-swap"
    preimage = hmac.new(source, message, hashlib.sha256).digest()
    assert SELLER.preimage(index, "some-swap") == preimage
    assert SELLER.payment_hash(index, "some-swap") == hashlib.sha256(preimage).digest()


def test_derivation_never_changes() -> None:
    """Recorded once: a change here would lose the coins and swaps of every existing seed."""
    assert (
        SELLER.wallet_key(RECEIVE, 0).key_hash.hex() == "d0c4a3ef09e997b6e99e397e518fe3e41a118ca1"
    )
    assert SELLER.refund_key(0).key_hash.hex() == "85b3da9e672e286b00291f72c3420a93178fec64"
    assert SELLER.payment_hash(0, "swap").hex() == (
        "ef8e609e14b00c16907fac4f53a01dbd52e4f303eb47c8d033ce2aafe1827550"
    )


def test_bip84_gives_its_own_example() -> None:
    """The first Bitcoin address of BIP84's test mnemonic, to pin seed and purpose."""
    key = Key(secret_at("m/84h/0h/0h/0/0"))
    assert key.public_key.hex() == (
        "0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c"
    )


def test_networks_do_not_share_keys() -> None:
    """Mainnet has its own coin type; testnet and regtest share theirs, as is custom."""
    chains = {name: Keychain(SELLER_WORDS, n) for name, n in NETWORKS_BY_NAME.items()}
    main, test = chains[MAINNET.name], chains[TESTNET.name]
    assert main.wallet_key(RECEIVE, 0).key_hash != test.wallet_key(RECEIVE, 0).key_hash
    assert main.refund_key(0).key_hash != test.refund_key(0).key_hash
    assert main.preimage(0, "swap") != test.preimage(0, "swap")
    assert main.wallet_key(RECEIVE, 0).public_key == public_key(secret_at("m/84h/1776h/0h/0/0"))


def test_no_two_keys_or_preimages_are_the_same() -> None:
    """Over branches, indexes and purposes."""
    seen = [SELLER.wallet_key(b, i).key_hash for b in (RECEIVE, CHANGE) for i in range(20)]
    seen += [SELLER.refund_key(i).key_hash for i in range(20)]
    seen += [SELLER.payment_hash(i, "swap") for i in range(10)]
    seen += [SELLER.payment_hash(0, f"swap {i}") for i in range(10)]
    seen += [BUYER.wallet_key(RECEIVE, i).key_hash for i in range(20)]
    assert len(set(seen)) == len(seen) == 100


def secrets_of(index: int) -> list[bytes]:
    """Everything secret that belongs to one swap of the fixed mnemonic, and the seed."""
    return [
        secret_at(f"m/84h/1h/0h/0/{index}"),
        secret_at(f"m/9737h/1h/0h/{index}h"),
        secret_at(f"m/9737h/1h/1h/{index}h"),
        SELLER.preimage(index, "swap"),
        bip39.mnemonic_to_seed(SELLER_WORDS),
    ]


def assert_no_secret(text: str) -> None:
    """No secret in hex, in Python's own form, or as words."""
    for secret in secrets_of(0):
        assert secret.hex() not in text.lower()
        assert repr(secret)[2:-1] not in text
    assert "abandon" not in text
    assert "xprv" not in text
    assert "tprv" not in text


def test_nothing_secret_is_shown() -> None:
    """`repr`, `str` and formats of keys, keychain, and of what is built with them."""
    script = htlc.witness_script(SELLER.payment_hash(0, "swap"), b"\x01" * 20, b"\x02" * 20, 700)
    outpoint = Outpoint(txid_of(1), 0)
    shown = [
        SELLER.refund_key(0),
        SELLER.wallet_key(RECEIVE, 0),
        SELLER,
        SELLER.wallet_key,
        SELLER.refund_key,
        tx_builder.refund_spend(outpoint, 5, SELLER.refund_key(0), script),
        tx_builder.wallet_spend(outpoint, 5, SELLER.wallet_key(RECEIVE, 0)),
        tx_builder.claim_spend(
            outpoint, 5, BUYER.wallet_key(RECEIVE, 0), script, SELLER.preimage(0, "swap")
        ),
    ]
    for item in shown:
        assert_no_secret(f"{item!r} {item} {[item]}")
    assert repr(SELLER.refund_key(0)) == f"Key({SELLER.refund_key(0).key_hash.hex()})"
    assert repr(SELLER) == "Keychain(liquid-regtest)"


def test_errors_do_not_repeat_the_mnemonic() -> None:
    """A wrong word is not printed, nor are the right ones, in message or traceback."""
    for words in (SELLER_WORDS[:-5] + "zebra", "abandon " * 12, "", "zzzz " * 12):
        with pytest.raises(SettingsError, match="not valid BIP39") as caught:
            Keychain(words, REGTEST)
        told = "".join(traceback.format_exception(caught.value))
        assert "abandon abandon" not in told
        assert "zebra" not in str(caught.value)
        assert "zzzz zzzz" not in told


def test_a_key_has_no_listing_of_its_attributes() -> None:
    """Tools that print `vars` of what they meet find nothing in a key."""
    assert not hasattr(SELLER.refund_key(0), "__dict__")


def test_hash160_is_bitcoins() -> None:
    """The address hash of the generator point's public key, known from everywhere."""
    generator = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    assert hash160(generator).hex() == "751e76e8199196d454941c45d1b3a323f1433bd6"
    assert Key((1).to_bytes(32, "big")).public_key == generator
    assert Key((1).to_bytes(32, "big")).key_hash == hash160(generator)


def test_the_c_library_is_in_use() -> None:
    """On the machine of the tests too; the fallback is 20 times slower."""
    require_native_secp256k1()


def test_a_written_mnemonic_is_read_back(tmp_path: Path) -> None:
    """Mode 0600, twelve valid words, never over an existing file."""
    path = tmp_path / "new" / "mnemonic"
    words = write_mnemonic(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_mnemonic(path) == words
    assert len(words.split()) == 12
    assert bip39.mnemonic_is_valid(words)
    with pytest.raises(FileExistsError):
        write_mnemonic(path)
    assert read_mnemonic(path) == words


def test_new_mnemonics_differ() -> None:
    """They come from the system's random source."""
    assert len({new_mnemonic() for _ in range(10)}) == 10


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601, 0o644, 0o777])
def test_a_mnemonic_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """The message tells mode and remedy, not the words."""
    path = tmp_path / "mnemonic"
    path.write_text(SELLER_WORDS)
    path.chmod(mode)
    with pytest.raises(
        SettingsError, match=rf"can be read by others \(mode {mode:04o}\)"
    ) as caught:
        read_mnemonic(path)
    assert "chmod 600" in caught.value.hint
    assert "abandon" not in f"{caught.value!r} {caught.value}"


def test_spaces_and_line_breaks_in_a_mnemonic_do_not_matter(tmp_path: Path) -> None:
    """As people write them down."""
    path = tmp_path / "mnemonic"
    path.touch(0o600)
    path.write_text("  abandon\n" * 11 + "\tabout\r\n\n")
    assert read_mnemonic(path) == SELLER_WORDS


def test_a_mnemonic_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a directory, or not text: the operator is told which file and why."""
    with pytest.raises(SettingsError, match="none cannot be read: No such file") as caught:
        read_mnemonic(tmp_path / "none")
    assert "lnliquid init" in caught.value.hint
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_mnemonic(tmp_path)
    binary = tmp_path / "binary"
    binary.touch(0o600)
    binary.write_bytes(b"\xff\xfe\x00secret")
    with pytest.raises(SettingsError, match="binary cannot be read") as caught:
        read_mnemonic(binary)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
