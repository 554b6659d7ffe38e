"""Elements transactions with explicit amounts, as bytes. Nothing here signs.

Enough for coins that need no signature (the genesis OP_TRUE output) and for blocks. Asset ids and
txids are hex in display order, amounts satoshi.
"""

from collections.abc import Sequence

from lnlab.nodes.embedded.txmodel import ISSUANCE_FLAG, SEQUENCE_FINAL, Outpoint, compact_size


def with_size(data: bytes) -> bytes:
    """A byte string after its length."""
    return compact_size(len(data)) + data


def encode_amount(value_sats: int) -> bytes:
    """An explicit amount."""
    return b"\x01" + value_sats.to_bytes(8, "big", signed=True)


def encode_output(asset: str, value_sats: int, script: bytes = b"") -> bytes:
    """An explicit output; an empty script makes it a fee."""
    asset_field = b"\x01" + bytes.fromhex(asset)[::-1]
    return asset_field + encode_amount(value_sats) + b"\x00" + with_size(script)


def encode_issuance(amount_sats: int, token_sats: int | None, contract_hash: bytes) -> bytes:
    """A first issuance; `token_sats` None makes no reissuance token."""
    tokens = b"\x00" if token_sats is None else encode_amount(token_sats)
    return bytes(32) + contract_hash + encode_amount(amount_sats) + tokens


def encode_input(
    outpoint: Outpoint,
    *,
    script_sig: bytes = b"",
    sequence: int = SEQUENCE_FINAL,
    issuance: bytes = b"",
) -> bytes:
    """An input, with an issuance attached if given."""
    txid, vout = outpoint
    index = vout | (ISSUANCE_FLAG if issuance else 0)
    return (
        bytes.fromhex(txid)[::-1]
        + index.to_bytes(4, "little")
        + with_size(script_sig)
        + sequence.to_bytes(4, "little")
        + issuance
    )


def encode_tx(
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    *,
    witnesses: Sequence[Sequence[bytes]] = (),
    version: int = 2,
    lock_time: int = 0,
) -> bytes:
    """A transaction; without `witnesses`, or with empty ones only, it gets no witness section."""
    has_witness = any(witnesses)
    parts = [version.to_bytes(4, "little", signed=True), bytes([has_witness])]
    parts += [compact_size(len(inputs)), *inputs, compact_size(len(outputs)), *outputs]
    parts.append(lock_time.to_bytes(4, "little"))
    if has_witness:
        for stack in witnesses:
            items = b"".join(map(with_size, stack))
            # Empty issuance and token proofs before, an empty peg-in witness after.
            parts.append(b"\x00\x00" + compact_size(len(stack)) + items + b"\x00")
        parts.append(bytes(2 * len(outputs)))
    return b"".join(parts)
