"""Script evaluation: python-bitcointx's interpreter, with the Elements rules it does not know.

The interpreter runs the opcodes. This module adds what it leaves out: Elements' signature hash and
hash types, BIP65 and BIP112 lock times, minimal pushes, and the segwit v0 and P2SH framing of
VerifyScript with its error names (`script/interpreter.cpp`, `script/script_error.cpp`).
elementsd's standard flags are always on. Opcodes that Elements has and Bitcoin has not are
refused, as are Taproot spends.
"""

import hashlib
import platform
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import bitcointx
from bitcointx.core import ValidationError
from bitcointx.core.script import SIGVERSION_BASE, SIGVERSION_WITNESS_V0
from bitcointx.core.scripteval import (
    SCRIPT_VERIFY_DERSIG,
    SCRIPT_VERIFY_LOW_S,
    SCRIPT_VERIFY_MINIMALIF,
    SCRIPT_VERIFY_NULLDUMMY,
    SCRIPT_VERIFY_NULLFAIL,
    SCRIPT_VERIFY_P2SH,
    SCRIPT_VERIFY_WITNESS,
    SCRIPT_VERIFY_WITNESS_PUBKEYTYPE,
    EvalScript,
    VerifyOpFailedError,
)
from elementstx.core.script import CElementsScript

from lnlab.nodes.embedded.policy import is_p2sh, witness_program
from lnlab.nodes.embedded.sighash import ANYONECANPAY, RANGEPROOF, SINGLE, Spend
from lnlab.nodes.embedded.txmodel import Coin, Tx

_library = f"libsecp256k1_{platform.system().lower()}_{platform.machine().lower()}"
for _path in (files("embit.util") / "prebuilt").iterdir():
    if _path.name.startswith(_library):  # otherwise bitcointx looks for the system's library
        bitcointx.set_custom_secp256k1_path(str(_path))

# STRICTENC is left out: its hash type rule does not know RANGEPROOF, so `raw_sighash` has it.
_FLAGS = {
    SCRIPT_VERIFY_P2SH,
    SCRIPT_VERIFY_WITNESS,
    SCRIPT_VERIFY_DERSIG,
    SCRIPT_VERIFY_LOW_S,
    SCRIPT_VERIFY_MINIMALIF,
    SCRIPT_VERIFY_NULLDUMMY,
    SCRIPT_VERIFY_NULLFAIL,
    SCRIPT_VERIFY_WITNESS_PUBKEYTYPE,
}
_OP_IF, _OP_NOTIF, _OP_ELSE, _OP_ENDIF, _OP_CODESEPARATOR = 0x63, 0x64, 0x67, 0x68, 0xAB
_OP_CHECKSIG, _OP_CHECKSIGVERIFY, _OP_CLTV, _OP_CSV = 0xAC, 0xAD, 0xB1, 0xB2
_ELEMENTS_OPS = frozenset(
    {0x7E, 0x7F, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x98, 0x99, *range(0xC0, 0xC4)}
)
"""Opcodes that Elements has before Taproot and the interpreter has not."""
_NUMBERS_TAKEN = {
    **dict.fromkeys(range(0x8B, 0x93), 1),
    **dict.fromkeys(range(0x93, 0xA5), 2),
    **dict.fromkeys((0x79, 0x7A, 0xAE, 0xAF), 1),  # PICK, ROLL, CHECKMULTISIG (its key count)
    0xA5: 3,
}
"""How many stack items an opcode reads as numbers."""
_OTHER_NOPS = frozenset({0xB0, *range(0xB3, 0xBA)})
_PUSH_FALSE_WRONG = frozenset({0xA5, 0xAC, 0xAE})
"""WITHIN, CHECKSIG, CHECKMULTISIG: the interpreter pushes 00 for false, Script pushes empty."""
_DISABLE_FLAG, _TYPE_FLAG, _LOCK_MASK = 1 << 31, 1 << 22, 0xFFFF


class ScriptFailed(Exception):
    """A script did not succeed. The message is elementsd's name of the error."""


def check_scripts(tx: Tx, coins: Sequence[Coin]) -> None:
    """Run the scripts of every input against the coins it spends; `ScriptFailed` on the first."""
    spend = Spend(tx)
    for index, coin in enumerate(coins):
        _check_input(spend, index, coin)


class _Script(CElementsScript):  # type: ignore[misc]  # elementstx ships no types
    """A script that answers the interpreter's calls with this module's rules.

    While it runs, `run_stack` is the interpreter's stack: `raw_iter` sees it before each opcode.
    """

    run_stack: list[bytes]
    run_spend: Spend
    run_index: int
    run_segwit: bool

    def raw_sighash(
        self, spend: Spend, index: int, hash_type: int, amount: Any = None, sigversion: Any = None
    ) -> tuple[bytes, str | None]:
        if not _is_hash_type(hash_type):
            raise ScriptFailed("Signature hash type missing or not understood")
        if sigversion == SIGVERSION_WITNESS_V0:
            # The interpreter's cut starts at the separator, the rule's cut after it.
            code = self[1:] if self[:1] == bytes([_OP_CODESEPARATOR]) else self
            return spend.signature_hash(bytes(code), index, hash_type, amount), None
        if hash_type & RANGEPROOF:
            raise ScriptFailed("the embedded chain hashes output proofs in segwit only")
        hashed: tuple[bytes, str | None] = super().raw_sighash(
            spend.legacy, index, hash_type, sigversion=SIGVERSION_BASE
        )
        return hashed

    def raw_iter(self) -> Iterator[tuple[int, bytes | None, int]]:
        if "run_stack" not in vars(self):  # a piece cut out for hashing, not the running script
            yield from super().raw_iter()
            return
        stack, previous = self.run_stack, 0
        branches: list[bool] = []  # as the interpreter's own: is each open IF being executed?
        for opcode, data, position in super().raw_iter():
            executing = all(branches)
            if executing and previous in _PUSH_FALSE_WRONG and stack and stack[-1] == b"\0":
                stack[-1] = b""
            if opcode == _OP_CODESEPARATOR and not self.run_segwit:
                raise ScriptFailed("Using OP_CODESEPARATOR in non-witness script")
            if opcode in _ELEMENTS_OPS:
                raise ScriptFailed("the embedded chain has Bitcoin's opcodes only")
            if executing:
                self._check_before(int(opcode), data)
            if opcode in (_OP_IF, _OP_NOTIF):
                taken = executing and bool(stack) and _is_true(stack[-1])
                branches.append(executing and taken == (opcode == _OP_IF))
            elif opcode == _OP_ELSE and branches:
                branches[-1] = not branches[-1]
            elif opcode == _OP_ENDIF and branches:
                branches.pop()
            previous = int(opcode) if executing else 0
            yield opcode, data, position

    def _check_before(self, opcode: int, data: bytes | None) -> None:
        """Rules on an opcode about to run that the interpreter does not have."""
        stack = self.run_stack
        if data is not None and not _is_minimal_push(opcode, data):
            raise ScriptFailed("Data push larger than necessary")
        if opcode in _OTHER_NOPS:
            raise ScriptFailed("NOPx reserved for soft-fork upgrades")
        if opcode in (_OP_IF, _OP_NOTIF) and not stack:
            raise ScriptFailed("Invalid OP_IF construction")
        for item in stack[-_NUMBERS_TAKEN[opcode] :] if opcode in _NUMBERS_TAKEN else ():
            _script_number(item, 4)
        if opcode in (_OP_CHECKSIG, _OP_CHECKSIGVERIFY) and len(stack) >= 2:
            self._check_public_key(stack[-1], stack[-2])
        if opcode not in (_OP_CLTV, _OP_CSV):
            return
        if not stack:
            raise ScriptFailed("Operation not valid with the current stack size")
        operand = _script_number(stack[-1], 5)
        if operand < 0:
            raise ScriptFailed("Negative locktime")
        tx, sequence = self.run_spend.tx, self.run_spend.tx.inputs[self.run_index].sequence
        if opcode == _OP_CLTV:
            met = _lock_time_met(operand, tx.lock_time, sequence)
        else:
            met = _sequence_met(operand, tx.version, sequence)
        if not met:
            raise ScriptFailed("Locktime requirement not satisfied")

    def _check_public_key(self, key: bytes, signature: bytes) -> None:
        """Key encodings are judged even beside an empty signature, but after a hash type."""
        if signature and not _is_hash_type(signature[-1]):
            return
        prefix = key[0] if key else 0
        if len(key) != {2: 33, 3: 33, 4: 65}.get(prefix, -1):
            raise ScriptFailed("Public key is neither compressed or uncompressed")
        if self.run_segwit and prefix == 4:
            raise ScriptFailed("Using non-compressed keys in segwit")


def _is_hash_type(hash_type: int) -> bool:
    return 1 <= hash_type & ~(ANYONECANPAY | RANGEPROOF) <= SINGLE


def _lock_time_met(operand: int, lock_time: int, sequence: int) -> bool:
    """BIP65: same kind (height or time), reached, and the input not final."""
    same_kind = (operand < 500_000_000) == (lock_time < 500_000_000)
    return same_kind and operand <= lock_time and sequence != 0xFFFFFFFF


def _sequence_met(operand: int, version: int, sequence: int) -> bool:
    """BIP112: the input's own relative lock is of the same kind and at least as long."""
    if operand & _DISABLE_FLAG:
        return True
    if not 0 <= version < 2 and not sequence & _DISABLE_FLAG:
        same_kind = (operand & _TYPE_FLAG) == (sequence & _TYPE_FLAG)
        return same_kind and operand & _LOCK_MASK <= sequence & _LOCK_MASK
    return False


def _script_number(data: bytes, max_size: int) -> int:
    """A number, minimally encoded; anything else is an "unknown error" of elementsd."""
    if len(data) > max_size or (
        data and not data[-1] & 0x7F and (len(data) < 2 or data[-2] < 0x80)
    ):
        raise ScriptFailed("unknown error")
    if data and data[-1] & 0x80:
        return -int.from_bytes(data[:-1] + bytes([data[-1] & 0x7F]), "little")
    return int.from_bytes(data, "little")


def _is_minimal_push(opcode: int, data: bytes) -> bool:
    if not data:
        return opcode == 0
    if len(data) == 1 and (1 <= data[0] <= 16 or data[0] == 0x81):
        return False
    if len(data) <= 75:
        return opcode == len(data)
    return opcode == (0x4C if len(data) <= 255 else 0x4D)


def _is_true(item: bytes) -> bool:
    return any(item) and not (item[-1] == 0x80 and not any(item[:-1]))


def _run(spend: Spend, index: int, stack: list[bytes], code: bytes, value: bytes | None) -> None:
    """Evaluate one script on a stack; a `value` (the spent amount) means segwit v0."""
    script = _Script(code)
    script.run_stack, script.run_spend, script.run_index = stack, spend, index
    script.run_segwit = value is not None
    version = SIGVERSION_BASE if value is None else SIGVERSION_WITNESS_V0
    try:
        EvalScript(stack, script, spend, index, flags=_FLAGS, amount=value, sigversion=version)
    except ValidationError as error:
        raise ScriptFailed(_error_text(error)) from error


def _check_input(spend: Spend, index: int, coin: Coin) -> None:
    """VerifyScript of Elements with the standard flags, for one input."""
    txin = spend.tx.inputs[index]
    value = b"\x01" + coin.value.to_bytes(8, "big")
    stack: list[bytes] = []
    _run(spend, index, stack, txin.script_sig, None)
    pushed = stack.copy()
    _run(spend, index, stack, coin.script_pubkey, None)
    _require_true(stack)
    program = witness_program(coin.script_pubkey)
    if program and txin.script_sig:
        raise ScriptFailed("Witness requires empty scriptSig")
    if is_p2sh(coin.script_pubkey):  # policy has made sure that the scriptSig only pushes
        stack = pushed
        redeem = stack.pop()
        _run(spend, index, stack, redeem, None)
        _require_true(stack)
        program = witness_program(redeem)
        if program and txin.script_sig != bytes([len(redeem)]) + redeem:
            raise ScriptFailed("Witness requires only-redeemscript scriptSig")
    if program:
        _check_witness(spend, index, program, value)
    elif len(stack) != 1:
        raise ScriptFailed("Stack size must be exactly one after execution")
    elif txin.witness:
        raise ScriptFailed("Witness provided for non-witness script")


def _check_witness(spend: Spend, index: int, program: tuple[int, bytes], value: bytes) -> None:
    """VerifyWitnessProgram for version 0 (BIP141)."""
    version, commitment = program
    stack = list(spend.tx.inputs[index].witness)
    if version:
        raise ScriptFailed("the embedded chain evaluates segwit version 0 only")
    if len(commitment) == 20:
        if len(stack) != 2:
            raise ScriptFailed("Witness program hash mismatch")
        code = b"\x76\xa9\x14" + commitment + b"\x88\xac"
    else:
        if not stack:
            raise ScriptFailed("Witness program was passed an empty witness")
        code = stack.pop()
        if hashlib.sha256(code).digest() != commitment:
            raise ScriptFailed("Witness program hash mismatch")
    if any(len(item) > 520 for item in stack):
        raise ScriptFailed("Push value size limit exceeded")
    _run(spend, index, stack, code, value)
    if len(stack) != 1:
        raise ScriptFailed("Stack size must be exactly one after execution")
    _require_true(stack)


def _require_true(stack: list[bytes]) -> None:
    if not stack or not _is_true(stack[-1]):
        raise ScriptFailed(
            "Script evaluated without error but finished with a false/empty top stack element"
        )


_VERIFY_OPS = {
    0x69: "OP_VERIFY",
    0x88: "OP_EQUALVERIFY",
    0x9D: "OP_NUMEQUALVERIFY",
    0xAD: "OP_CHECKSIGVERIFY",
    0xAF: "OP_CHECKMULTISIGVERIFY",
}
_ERROR_TEXTS = {
    # A part of the interpreter's message: elementsd's name of the same error.
    "OP_FROMALTSTACK": "Operation not valid with the current altstack size",
    "missing arguments": "Operation not valid with the current stack size",
    "max opcode count": "Operation limit exceeded",
    "not strictly valid": "Non-canonical DER signature",
    "not low-S": "Non-canonical signature: S value is unnecessarily high",
    "pubkey is not compressed": "Using non-compressed keys in segwit",
    "MINIMALIF": "OP_IF/NOTIF argument must be minimal",
    "signature check failed": "Signature must be zero for failed CHECK(MULTI)SIG operation",
    "dummy value not": "Dummy CHECKMULTISIG argument must be zero",
    "keys count": "Pubkey count negative or limit exceeded",
    "sigs count": "Signature count negative or greater than pubkey count",
    "on stack": "Operation not valid with the current stack size",
    "PUSHDATA of length": "Push value size limit exceeded",
    "script too large": "Script is too big",
    "max stack items": "Stack size limit exceeded",
    "without prior IF": "Invalid OP_IF construction",
    "Unterminated IF": "Invalid OP_IF construction",
    "OP_RETURN called": "OP_RETURN was encountered",
    "CScript": "Opcode missing or not understood",
    "out of bounds": "Operation not valid with the current stack size",
    "is disabled": "Attempted to use a disabled opcode",
    "unsupported opcode": "Opcode missing or not understood",
}


def _error_text(error: Exception) -> str:
    if isinstance(error, VerifyOpFailedError):
        return f"Script failed an {_VERIFY_OPS[int(error.state.sop)]} operation"
    message = str(error)
    return next((text for part, text in _ERROR_TEXTS.items() if part in message), "unknown error")
