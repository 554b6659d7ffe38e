"""Checks of one transaction that need no mempool: consensus basics, standardness, amounts.

Each function raises `Rejected` with elementsd 23.3.3's reason. Sources: `consensus/tx_check.cpp`,
`consensus/tx_verify.cpp`, `policy/policy.cpp`, `confidential_validation.cpp`, with the parameters
of a custom chain such as liquid-regtest. What elementsd can do and this chain cannot (confidential
amounts, peg-ins, Taproot spends) is refused with a reason that starts with `lab-`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from lnlab.nodes.embedded.txmodel import (
    NULL_HASH,
    NULL_INDEX,
    Coin,
    Rejected,
    Tx,
    TxIn,
    TxOut,
    is_unspendable,
    issued_assets,
)

MAX_MONEY_SATS = 21_000_000 * 100_000_000
MAX_STANDARD_WEIGHT = 400_000
MIN_STANDARD_BASE_SIZE = 82
MAX_STANDARD_SCRIPT_SIG = 1650
MAX_DATA_CARRIER = 83
MAX_STANDARD_SIGOPS_COST = 16_000
MAX_P2SH_SIGOPS = 15
BYTES_PER_SIGOP = 20
RELAY_SATS_PER_KVB = 100
"""Minimum relay rate, replacement increment and dust rate: all three are 100 on Elements."""

ScriptType = Literal[
    "fee", "true", "p2sh", "p2wpkh", "p2wsh", "taproot", "witness_unknown", "nulldata",
    "pubkey", "p2pkh", "multisig", "nonstandard",
]  # fmt: skip


def fee_at(sats_per_kvb: int, vsize: int) -> int:
    """Fee of a size at a rate, rounded up (policy/feerate.cpp)."""
    return -(-sats_per_kvb * vsize // 1000)


def script_ops(script: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcodes with the data they push; ValueError where a push runs past the end."""
    at = 0
    while at < len(script):
        opcode = script[at]
        at += 1
        width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
        size = int.from_bytes(script[at : at + width], "little") if width else opcode
        if opcode > 0x4E:
            yield opcode, b""
            continue
        at += width
        if at + size > len(script):
            raise ValueError("push past the end of the script")
        yield opcode, script[at : at + size]
        at += size


def is_push_only(script: bytes) -> bool:
    """Whether a script holds nothing but pushes, all of them whole."""
    try:
        return all(opcode <= 0x60 for opcode, _ in script_ops(script))
    except ValueError:
        return False


def witness_program(script: bytes) -> tuple[int, bytes] | None:
    """Version and program of a segwit output script, None for any other (BIP141)."""
    if not 4 <= len(script) <= 42 or script[1] + 2 != len(script):
        return None
    if script[0] == 0:
        return 0, script[2:]
    return (script[0] - 0x50, script[2:]) if 0x51 <= script[0] <= 0x60 else None


def is_p2sh(script: bytes) -> bool:
    """Pay to script hash (BIP16)."""
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87


def script_type(script: bytes) -> ScriptType:
    """elementsd's classification of output scripts (script/standard.cpp, Solver)."""
    if not script:
        return "fee"
    if script == b"\x51":
        return "true"
    if is_p2sh(script):
        return "p2sh"
    if program := witness_program(script):
        match program[0], len(program[1]):
            case 0, 20:
                return "p2wpkh"
            case 0, 32:
                return "p2wsh"
            case 1, 32:
                return "taproot"
            case 0, _:
                return "nonstandard"
            case _:
                return "witness_unknown"
    if script[0] == 0x6A:
        return "nulldata" if is_push_only(script[1:]) else "nonstandard"
    if script[-1] == 0xAC and script[0] == len(script) - 2 and _is_public_key(script[1:-1]):
        return "pubkey"
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return "p2pkh"
    return "multisig" if _is_standard_multisig(script) else "nonstandard"


def _is_public_key(data: bytes) -> bool:
    return len(data) == {2: 33, 3: 33, 4: 65, 6: 65, 7: 65}.get(data[0] if data else 0, -1)


def _is_standard_multisig(script: bytes) -> bool:
    try:
        ops = list(script_ops(script))
    except ValueError:
        return False
    if len(ops) < 4 or ops[-1][0] != 0xAE:
        return False
    required, total = ops[0][0] - 0x50, ops[-2][0] - 0x50
    keys = [data for _, data in ops[1:-2]]
    return 1 <= required <= total <= 3 and len(keys) == total and all(map(_is_public_key, keys))


def check_transaction(tx: Tx) -> None:
    """Consensus rules of a transaction by itself, then what the lab cannot judge."""
    if not tx.inputs:
        raise Rejected("bad-txns-vin-empty")
    if not tx.outputs:
        raise Rejected("bad-txns-vout-empty")
    if len(tx.base) * 4 > 4_000_000:
        raise Rejected("bad-txns-oversize")
    total_sats = 0
    for out in tx.outputs:
        if out.value is None:
            continue
        if out.value < 0:
            raise Rejected("bad-txns-vout-negative")
        if out.value > MAX_MONEY_SATS:
            raise Rejected("bad-txns-vout-toolarge")
        total_sats += out.value  # over all assets together
        if total_sats > MAX_MONEY_SATS:
            raise Rejected("bad-txns-txouttotal-toolarge")
    if len({txin.outpoint for txin in tx.inputs}) != len(tx.inputs):
        raise Rejected("bad-txns-inputs-duplicate")
    if tx.is_coinbase:
        if not 2 <= len(tx.inputs[0].script_sig) <= 100:
            raise Rejected("bad-cb-length")
        if any(out.is_fee for out in tx.outputs):
            raise Rejected("bad-cb-fee")
    elif any(txin.outpoint == (NULL_HASH, NULL_INDEX) for txin in tx.inputs):
        raise Rejected("bad-txns-prevout-null")


def check_supported(tx: Tx) -> None:
    """Refuse what only a real node can verify."""
    if any(out.asset is None or out.value is None for out in tx.outputs) or any(
        txin.issuance and txin.issuance.is_confidential for txin in tx.inputs
    ):
        raise Rejected("lab-confidential", "the embedded chain takes explicit amounts only")
    if any(txin.is_pegin for txin in tx.inputs):
        raise Rejected("lab-pegin", "the embedded chain has no parent chain")


def check_standard(tx: Tx, policy_asset: str) -> None:
    """Relay policy on the transaction's own form (IsStandardTx and the size floor)."""
    if not 1 <= tx.version <= 2:
        raise Rejected("version")
    if tx.weight > MAX_STANDARD_WEIGHT:
        raise Rejected("tx-size")
    for txin in tx.inputs:
        if len(txin.script_sig) > MAX_STANDARD_SCRIPT_SIG:
            raise Rejected("scriptsig-size")
        if not is_push_only(txin.script_sig):
            raise Rejected("scriptsig-not-pushonly")
    data_outputs = 0
    for out in tx.outputs:
        kind = script_type(out.script)
        if kind == "nonstandard" or (kind == "nulldata" and len(out.script) > MAX_DATA_CARRIER):
            raise Rejected("scriptpubkey")
        if kind == "nulldata":
            data_outputs += 1
        elif out.asset == policy_asset and is_dust(out):
            raise Rejected("dust")
    if data_outputs > 1:
        raise Rejected("multi-op-return")


def check_issuance_range_and_base_size(tx: Tx) -> None:
    """Issued amounts in range, and no transaction that could pass for a Merkle node."""
    for txin in tx.inputs:
        amounts = (txin.issuance.amount_sats, txin.issuance.token_sats) if txin.issuance else ()
        if any(amount is not None and not 0 <= amount <= MAX_MONEY_SATS for amount in amounts):
            raise Rejected("issuance-out-of-range")
    if len(tx.base) < MIN_STANDARD_BASE_SIZE:
        raise Rejected("tx-size-small")


def is_dust(out: TxOut) -> bool:
    """Whether spending the output would cost more than it holds, at the dust rate."""
    if out.value is None or is_unspendable(out.script):
        return False
    spend_size = 32 + 4 + 1 + (107 // 4 if witness_program(out.script) else 107) + 4
    return out.value < fee_at(RELAY_SATS_PER_KVB, len(out.raw) + spend_size)


def is_final(tx: Tx, height: int, median_time_secs: int) -> bool:
    """Whether the lock time allows the transaction in a block of that height (BIP113 time)."""
    limit = height if tx.lock_time < 500_000_000 else median_time_secs
    return tx.lock_time < limit or all(txin.sequence == 0xFFFFFFFF for txin in tx.inputs)


def check_amounts(tx: Tx, coins: Sequence[Coin]) -> None:
    """Fee outputs in range, and value in (with issuances) = value out for each asset."""
    if any(out.is_fee and out.value == 0 for out in tx.outputs):
        raise Rejected("bad-txns-fee-outofrange")
    balance: Counter[str] = Counter()
    for coin in coins:
        balance[coin.asset] += coin.value
    valid = all(map(_add_issuance, [balance] * len(tx.inputs), tx.inputs, [tx] * len(tx.inputs)))
    for out in tx.outputs:
        if out.asset is None or out.value is None:
            raise AssertionError("confidential outputs are refused before amounts are added up")
        # An output of nothing may only be one that nobody can spend.
        valid = valid and (out.value > 0 or is_unspendable(out.script))
        balance[out.asset] -= out.value
    valid = valid and not any(map(any, tx.output_proofs))  # proofs belong to blinded outputs only
    if not valid or any(balance.values()):
        raise Rejected("bad-txns-in-ne-out", "value in != value out")


def _add_issuance(balance: Counter[str], txin: TxIn, tx: Tx) -> bool:
    """Add what an input issues; False where Elements' VerifyAmounts refuses it."""
    issuance = txin.issuance
    if issuance is None:
        return True
    # Reissuing takes the spend of a blinded token, and no coin here is blinded. Elements also
    # refuses issuance in a transaction without any witness.
    amounts = [issuance.amount_sats, issuance.token_sats]
    if issuance.is_reissuance or not tx.has_witness or txin.has_issuance_proof:
        return False
    for asset, amount in zip(issued_assets(txin.outpoint, issuance), amounts, strict=True):
        if amount is not None:
            if amount <= 0:
                return False
            balance[asset] += amount
    return True


def check_inputs_standard(tx: Tx, coins: Sequence[Coin]) -> None:
    """Relay policy on the coins spent and the witness limits (IsWitnessStandard)."""
    for txin, coin in zip(tx.inputs, coins, strict=True):
        kind = script_type(coin.script_pubkey)
        redeem = last_push(txin.script_sig)
        if kind in ("nonstandard", "witness_unknown") or (
            kind == "p2sh" and (redeem is None or count_sigops(redeem, True) > MAX_P2SH_SIGOPS)
        ):
            raise Rejected("bad-txns-nonstandard-inputs")
    for txin, coin in zip(tx.inputs, coins, strict=True):
        if txin.witness and not _is_witness_standard(txin, coin):
            raise Rejected("bad-witness-nonstandard")


def _is_witness_standard(txin: TxIn, coin: Coin) -> bool:
    script: bytes | None = coin.script_pubkey
    if is_p2sh(coin.script_pubkey):
        script = last_push(txin.script_sig)
    program = witness_program(script) if script is not None else None
    if program is None:
        return False
    if program[0] == 0 and len(program[1]) == 32:
        items = txin.witness[:-1]
        return (
            len(txin.witness[-1]) <= 3600
            and len(items) <= 100
            and all(len(item) <= 80 for item in items)
        )
    return True


def last_push(script_sig: bytes) -> bytes | None:
    """What a push-only scriptSig leaves on top of the stack; None when nothing is pushed."""
    top: bytes | None = None
    for opcode, data in script_ops(script_sig):
        top = data if opcode <= 0x4E else bytes([(opcode - 0x50) % 256])
    return top


def count_sigops(script: bytes, accurate: bool) -> int:
    """Signature operations, counting a multisig by its key number only if `accurate`."""
    count, previous = 0, 0
    try:
        for opcode, _ in script_ops(script):
            if opcode in (0xAC, 0xAD, 0xC1, 0xC2):
                count += 1
            elif opcode in (0xAE, 0xAF):
                count += previous - 0x50 if accurate and 0x51 <= previous <= 0x60 else 20
            previous = opcode
    except ValueError:
        pass  # elementsd counts what stands before the broken push
    return count


def sigops_cost(tx: Tx, coins: Sequence[Coin]) -> int:
    """BIP141 signature operation cost."""
    cost = 4 * sum(count_sigops(txin.script_sig, False) for txin in tx.inputs)
    cost += 4 * sum(count_sigops(out.script, False) for out in tx.outputs)
    for txin, coin in zip(tx.inputs, coins, strict=True):
        script = coin.script_pubkey
        if is_p2sh(script):
            script = last_push(txin.script_sig) or b""
            cost += 4 * count_sigops(script, True)
        program = witness_program(script)
        if program and program[0] == 0:
            if len(program[1]) == 20:
                cost += 1
            elif txin.witness:
                cost += count_sigops(txin.witness[-1], True)
    return cost
