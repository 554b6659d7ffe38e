"""Reading and writing Liquid addresses of one network, with errors a person can act on."""

from embit import base58, bech32
from embit.liquid import addresses, blech32
from embit.script import Script

from lnliquid.liquid.networks import NETWORKS_BY_NAME, Network


class AddressError(ValueError):
    """The text is not an address that can be paid here; the message says why and what to do."""


def p2wpkh_address(key_hash: bytes, network: Network) -> str:
    """Unblinded P2WPKH address (BIP173) of a 20-byte key hash."""
    return str(bech32.encode(network.hrp, 0, key_hash))


def script_address(script_pubkey: bytes, network: Network) -> str:
    """Unblinded address of a segwit or P2SH output script."""
    return str(addresses.address(Script(script_pubkey), network=network.embit))


def payable_script(address: str, network: Network) -> bytes:
    """Output script of any unblinded address of `network`, segwit or legacy.

    Raises `AddressError` as `p2wpkh_key_hash` does.
    """
    text = address.strip()
    if text.lower().startswith(f"{network.hrp}1"):
        version, program = bech32.decode(network.hrp, text)
        if version is None:
            raise AddressError("the checksum does not match: a character is wrong or missing")
        opcode = bytes([0x50 + version if version else 0])
        return opcode + bytes([len(program)]) + bytes(program)
    try:
        payload = bytes(base58.decode_check(text))
    except Exception:  # any failure means that this is no base58 address
        payload = b""
    if len(payload) == 21:
        if payload[0] == network.p2pkh_prefix:
            return b"\x76\xa9\x14" + payload[1:] + b"\x88\xac"
        if payload[0] == network.p2sh_prefix:
            return b"\xa9\x14" + payload[1:] + b"\x87"
    p2wpkh_key_hash(text, network)  # raises with what is wrong with any other text
    raise AddressError("the address has a form that is not known here")


def p2wpkh_key_hash(address: str, network: Network) -> bytes:
    """The 20-byte key hash of an unblinded P2WPKH address of `network`.

    Raises `AddressError` for anything else: blinded (naming the unblinded form), of another
    network, of another kind, or not an address at all.
    """
    text = address.strip()
    hrp = text.rsplit("1", 1)[0].lower() if "1" in text else ""
    if hrp == network.blinded_hrp:
        raise AddressError(_blinded_message(text, network))
    for other in NETWORKS_BY_NAME.values():
        if other.name != network.name and hrp in (other.hrp, other.blinded_hrp):
            raise AddressError(
                f"this address is of the network {other.name}; this seller is on {network.name}, "
                f"whose addresses start with {network.hrp}1"
            )
    if hrp == network.hrp:
        version, program = bech32.decode(network.hrp, text)
        if version is None:
            raise AddressError("the checksum does not match: a character is wrong or missing")
        if version == 0 and len(program) == 20:
            return bytes(program)
        raise AddressError(
            "only P2WPKH addresses (witness version 0, 20 bytes) can claim; "
            f"this one has version {version} and {len(program)} bytes"
        )
    raise AddressError(_other_form_message(text, network))


def _blinded_message(text: str, network: Network) -> str:
    try:
        version, payload = blech32.decode(network.blinded_hrp, text.lower())
    except Exception:  # embit raises several kinds for damaged input; each means the same here
        version, payload = None, None
    if version is None or payload is None or len(payload) < 34:
        return "a blinded address, and its checksum does not match; give an unblinded P2WPKH one"
    unblinded = bech32.encode(network.hrp, version, bytes(payload[33:]))
    return (
        "blinded addresses are not supported: outputs are explicit so that both sides can check "
        f"them; the unblinded form of this address is {unblinded}"
    )


def _other_form_message(text: str, network: Network) -> str:
    try:
        payload = base58.decode_check(text)
    except Exception:  # same: any failure means that this is no base58 address
        return f"not an address of {network.name}; expected one that starts with {network.hrp}1"
    if payload[:2] == network.embit["bp2sh"] or len(payload) > 22:
        return "a blinded legacy address; give an unblinded P2WPKH address " + f"({network.hrp}1…)"
    return f"a legacy address; give an unblinded P2WPKH address ({network.hrp}1…)"
