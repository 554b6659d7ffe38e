"""Keys and preimages from a BIP39 mnemonic, all by derivation path.

    m/84'/coin'/0'/branch/index    wallet addresses (BIP84): branch 0 receive, branch 1 change
    m/9737'/coin'/0'/index'        refund key of the swap with this index
    m/9737'/coin'/1'/index'        source of that swap's preimage, with the swap's id

The last two are hardened, so that one leaked child key tells nothing of the others. Nothing secret
is ever part of `repr` (money rule 9).
"""

import hashlib
import hmac
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from embit import bip32, bip39
from embit.util import secp256k1

from lnliquid.domain.errors import SettingsError
from lnliquid.liquid.networks import Network

RECEIVE, CHANGE = 0, 1
"""Branches of the wallet's addresses."""

_SWAP_PURPOSE = 9737
_HARDENED = 0x80000000


def hash160(data: bytes) -> bytes:
    """RIPEMD-160 of SHA-256, as `OP_HASH160` computes it."""
    from embit import hashes

    return bytes(hashes.hash160(data))


class Key:
    """A private key that signs with low-R, low-S signatures of one fixed length."""

    __slots__ = ("_secret", "key_hash", "public_key")

    SIGNATURE_SIZE = 71
    """Bytes of every signature made here, DER (70) and the sighash byte."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.public_key = bytes(secp256k1.ec_pubkey_serialize(secp256k1.ec_pubkey_create(secret)))
        """33 bytes, compressed."""
        self.key_hash = hash160(self.public_key)
        """20 bytes, as in P2WPKH and in the HTLC."""

    def sign(self, digest: bytes) -> bytes:
        """DER signature of a 32-byte digest, always 70 bytes.

        Signing is repeated with a counter (RFC 6979 extra data) until the length is 70, because
        fees are computed before signing and must be exact.
        """
        extra: bytes | None = None
        for counter in range(1, 1 << 16):
            der = bytes(
                secp256k1.ecdsa_signature_serialize_der(
                    secp256k1.ecdsa_sign(digest, self._secret, None, extra)
                )
            )
            if len(der) == self.SIGNATURE_SIZE - 1:
                return der
            extra = counter.to_bytes(32, "little")
        raise ArithmeticError("no signature of 70 bytes was found; the digest cannot be one")

    def __repr__(self) -> str:
        return f"Key({self.key_hash.hex()})"


class WalletKeys(Protocol):
    """What signs for the wallet's coins."""

    def wallet_key(self, branch: int, index: int) -> Key:
        """Key of a wallet address."""
        ...


class Keychain:
    """All keys of one mnemonic on one network; the seller's and the buyer's are separate ones."""

    def __init__(self, mnemonic: str, network: Network) -> None:
        if not bip39.mnemonic_is_valid(mnemonic):
            raise SettingsError(
                ("the mnemonic is not valid BIP39: a word or the checksum is wrong",)
            )
        root = bip32.HDKey.from_seed(
            bip39.mnemonic_to_seed(mnemonic), version=network.embit["xprv"]
        )
        coin = network.coin_type + _HARDENED
        self.network = network
        self.fingerprint: str = root.my_fingerprint.hex()
        """Names the wallet: BIP32 fingerprint of the master key, 8 hex digits, no secret."""
        self._account = root.derive([84 + _HARDENED, coin, _HARDENED])
        self._branches = {b: self._account.child(b) for b in (RECEIVE, CHANGE)}
        swaps = root.derive([_SWAP_PURPOSE + _HARDENED, coin])
        self._refunds = swaps.child(0, hardened=True)
        self._preimages = swaps.child(1, hardened=True)
        # Derivation costs about 0.1 ms; scripts are asked for again and again.
        self.wallet_key = lru_cache(maxsize=4096)(self._wallet_key)
        self.refund_key = lru_cache(maxsize=4096)(self._refund_key)

    def _wallet_key(self, branch: int, index: int) -> Key:
        """Key of a wallet address: `branch` RECEIVE or CHANGE."""
        return _key(self._branches[branch].child(index))

    def _refund_key(self, index: int) -> Key:
        """Key that refunds the swap with this index."""
        return Key(_hardened_child(self._refunds, index))

    def preimage(self, index: int, swap_id: str) -> bytes:
        """The 32-byte preimage of a swap. A secret until the buyer has paid.

        The swap's id goes in beside its index: after a database was lost or restored an index may
        come again, and a preimage that some old buyer knows must not.
        """
        message = b"ln_liquid_swap preimage v1 " + swap_id.encode()
        return hmac.new(_hardened_child(self._preimages, index), message, hashlib.sha256).digest()

    def payment_hash(self, index: int, swap_id: str) -> bytes:
        """SHA-256 of the preimage: the invoice's payment hash and the script's hashlock."""
        return hashlib.sha256(self.preimage(index, swap_id)).digest()

    def __repr__(self) -> str:
        return f"Keychain({self.network.name})"


def _key(node: Any) -> Key:
    return Key(bytes(node.key.secret))


def _hardened_child(parent: Any, index: int) -> bytes:
    """Secret of the hardened child of an `HDKey`, by BIP32 (private parent to private child).

    embit's `child` also works out the parent's fingerprint, which costs more than all the rest.
    """
    secret = parent.key.secret
    data = b"\x00" + secret + (index + _HARDENED).to_bytes(4, "big")
    tweak = hmac.new(parent.chain_code, data, hashlib.sha512).digest()[:32]
    return bytes(secp256k1.ec_privkey_add(tweak, secret))


def require_native_secp256k1() -> None:
    """Refuse to run on embit's pure Python fallback, which is about 20 times slower.

    embit falls back silently when its C library does not load. Raises `SettingsError`.
    """
    if not secp256k1.ecdsa_sign.__module__.endswith("ctypes_secp256k1"):
        raise SettingsError(
            (
                "embit's libsecp256k1 could not be loaded on this machine, and its pure Python "
                "fallback is too slow and not constant-time; install on Linux x86_64 or aarch64",
            )
        )


def new_mnemonic() -> str:
    """A fresh mnemonic of 12 words from the system's random source."""
    return str(bip39.mnemonic_from_bytes(os.urandom(16)))


def read_mnemonic(path: Path) -> str:
    """Read a mnemonic from a file that only its owner can read. `SettingsError` otherwise."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except OSError as error:
        raise SettingsError(
            (f"mnemonic_file {path} cannot be read: {error.strerror}",),
            hint="make one with `lnliquid init`",
        ) from None
    except UnicodeDecodeError:  # its own text shows what the file holds
        raise SettingsError((f"mnemonic_file {path} cannot be read: it is not text",)) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            (f"mnemonic_file {path} can be read by others (mode {mode & 0o777:04o})",),
            hint=f"run `chmod 600 {path}`",
        )
    return " ".join(text.split())


def write_mnemonic(path: Path) -> str:
    """Make a mnemonic and write it to a new file of mode 0600. Raises `FileExistsError`.

    The file appears whole or not at all, also when the power is cut.
    """
    mnemonic = new_mnemonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(mnemonic + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(unfinished)  # unlike a rename, this never overwrites
    finally:
        unfinished.unlink()
    return mnemonic
