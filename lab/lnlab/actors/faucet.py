"""The lab's source of coins: issues assets and pays any script, on any kind of nodes.

Its coins are anyone-can-spend outputs, so nothing needs a wallet or a signature: the free
coins of the genesis block (bare OP_TRUE) and P2WSH outputs of OP_TRUE. The latter have a witness,
without which elementsd accepts no issuance (``confidential_validation.cpp``, VerifyAmounts).

State is ``DIR/faucet.json``: coins not yet spent, unconfirmed change included, and the ids of
issued assets by ticker. Coins are looked up on the chain when the file is missing or wrong.

elementsd counts all explicit outputs of a transaction, over all assets, against 21 million whole
units. So the genesis coin is split first, and an issuance spends one of the small coins.
"""

import asyncio
import fcntl
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitcointx.core import COutPoint
from elementstx.core import calculate_asset, generate_asset_entropy
from embit.liquid.transaction import (
    AssetIssuance,
    LTransaction,
    LTransactionInput,
    LTransactionOutput,
    TxInWitness,
)
from embit.script import Script, Witness, address_to_scriptpubkey

from lnlab.nodes.record import POLICY_ASSET, write_json
from lnlab.nodes.rpc import NodeRpc, NodeRpcError, RpcCode, to_sats
from lnlab.wait import wait_for

FILE_NAME = "faucet.json"
OP_TRUE = b"\x51"
FAUCET_SCRIPT = b"\x00\x20" + hashlib.sha256(OP_TRUE).digest()
FEE_SATS_PER_BYTE = 1
MAX_FEE_SATS = 1_000_000
MAX_OUTPUT_TOTAL = 21_000_000 * 100_000_000
SPLIT_COUNT = 20
SPLIT_SATS = 10_000 * 100_000_000
ISSUE_COIN_COUNT = 10
COINBASE_MATURITY_BLOCKS = 100


class FaucetError(Exception):
    """The faucet cannot pay; the text says what was asked, what there is and what to do."""


@dataclass(frozen=True)
class Payment:
    """An output to make: ``value`` is in the asset's smallest units (satoshi for L-BTC)."""

    script: bytes
    asset: str
    value: int


@dataclass(frozen=True)
class FaucetCoin:
    """An unspent output of FAUCET_SCRIPT, or of OP_TRUE if ``bare``."""

    txid: str
    vout: int
    asset: str
    value: int
    bare: bool = False

    def as_input(self) -> LTransactionInput:
        """Return the input that spends the coin, with its witness."""
        spending = LTransactionInput(bytes.fromhex(self.txid), self.vout, Script(b""))
        if not self.bare:
            spending.witness = TxInWitness(script_witness=Witness([OP_TRUE]))
        return spending


def asset_id_of(txid: str, vout: int) -> str:
    """Return the id of the asset issued by spending an outpoint, with an all-zero contract hash.

    Source: Elements ``issuance.cpp`` (GenerateAssetEntropy, CalculateAsset).
    """
    entropy = generate_asset_entropy(COutPoint(bytes.fromhex(txid)[::-1], vout), bytes(32))
    return bytes(calculate_asset(entropy).data)[::-1].hex()


def _output(payment: Payment) -> LTransactionOutput:
    asset = bytes.fromhex(payment.asset)[::-1]
    return LTransactionOutput(asset, payment.value, Script(payment.script))


class Faucet:
    """Pays from anyone-can-spend coins of the node behind ``rpc``; state is in ``directory``.

    Transactions are sent, not mined. Several tasks and processes may use one faucet.
    """

    def __init__(self, rpc: NodeRpc, directory: Path) -> None:
        self._rpc = rpc
        self.directory = directory
        self._path = directory / FILE_NAME
        self._own_turn = asyncio.Lock()

    def assets(self) -> dict[str, str]:
        """Return the ids of issued assets by ticker."""
        return dict(self._read()["assets"])

    async def has_coins(self) -> bool:
        """Tell whether there is anything to spend, looking at the chain."""
        async with self._state() as state:
            return bool(await self._coins(state, rescan=True))

    async def split(self) -> str:
        """Split the genesis coin into coins of 10,000 L-BTC and return the txid; mine it next."""
        async with self._state() as state:
            big = max(await self._coins(state, rescan=True), key=lambda coin: coin.value)
            parts = [Payment(FAUCET_SCRIPT, POLICY_ASSET, SPLIT_SATS)] * SPLIT_COUNT
            return await self._send(state, [big], parts)

    async def fund(self, script: bytes, amounts: Sequence[tuple[str, int]]) -> str:
        """Pay several (asset id, value) outputs to one script in one transaction; see ``pay``."""
        return await self.pay([Payment(script, asset, value) for asset, value in amounts])

    async def pay(self, payments: Sequence[Payment]) -> str:
        """Make ``payments`` in one transaction, outputs in that order first, and return its txid.

        Raises FaucetError when there are not enough coins and NodeRpcError when the node refuses.
        """
        async with self._state() as state:
            try:
                return await self._pay(state, payments, rescan=False)
            except NodeRpcError as error:
                if not _coin_is_gone(error):
                    raise
            # Spent behind our back, or undone by a reorg: look again, once.
            return await self._pay(state, payments, rescan=True)

    async def _pay(
        self, state: dict[str, Any], payments: Sequence[Payment], *, rescan: bool
    ) -> str:
        needs: dict[str, int] = {POLICY_ASSET: MAX_FEE_SATS}
        for payment in payments:
            needs[payment.asset] = needs.get(payment.asset, 0) + payment.value
        coins = await self._coins(state, rescan=rescan)
        chosen = [coin for asset, value in needs.items() for coin in _choose(coins, asset, value)]
        return await self._send(state, chosen, payments)

    async def issue(self, ticker: str, amount: int) -> str:
        """Issue ``amount`` smallest units of a new asset into the faucet and return its id.

        A ticker that was issued before gives its asset again, whatever the amount.
        """
        async with self._state() as state:
            if ticker in state["assets"]:
                return str(state["assets"][ticker])
            coins = await self._coins(state, rescan=True)
            coin = _choose(coins, POLICY_ASSET, MAX_FEE_SATS)[0]
            asset = asset_id_of(coin.txid, coin.vout)
            part = amount // ISSUE_COIN_COUNT
            values = [part] * ISSUE_COIN_COUNT + [amount - part * ISSUE_COIN_COUNT]
            issued = [Payment(FAUCET_SCRIPT, asset, value) for value in values if value]
            await self._send(state, [coin], issued, issue=(asset, amount))
            state["assets"][ticker] = asset
            return asset

    async def _send(
        self,
        state: dict[str, Any],
        spent: Sequence[FaucetCoin],
        payments: Sequence[Payment],
        *,
        issue: tuple[str, int] | None = None,
    ) -> str:
        """Spend ``spent`` to payments, change and fee; send that; bring ``state`` up to date."""
        left = Counter[str]()
        for coin in spent:
            left[coin.asset] += coin.value
        if issue is not None:
            left[issue[0]] += issue[1]
        if (total := left.total()) > MAX_OUTPUT_TOTAL:
            raise FaucetError(
                f"one transaction can hold 21,000,000 whole units over all assets, this one has "
                f"{total / 100_000_000:,.8f}: ask for less at a time"
            )
        for payment in payments:
            left[payment.asset] -= payment.value
        issuance = None if issue is None else AssetIssuance(None, None, issue[1])

        def build(fee_sats: int) -> tuple[LTransaction, list[Payment]]:
            change = {**left, POLICY_ASSET: left[POLICY_ASSET] - fee_sats}
            outputs = [
                *payments,
                *(Payment(FAUCET_SCRIPT, *item) for item in change.items() if item[1]),
            ]
            fee = Payment(b"", POLICY_ASSET, fee_sats)
            inputs = [coin.as_input() for coin in spent]
            inputs[0].asset_issuance = issuance
            vout = [_output(payment) for payment in [*outputs, fee]]
            return LTransaction(version=2, vin=inputs, vout=vout, locktime=0), outputs

        size_bytes = len(build(MAX_FEE_SATS)[0].serialize())
        transaction, outputs = build(FEE_SATS_PER_BYTE * size_bytes)
        txid = str(await self._rpc.call("sendrawtransaction", transaction.serialize().hex()))
        gone = {(coin.txid, coin.vout) for coin in spent}
        kept = [coin for coin in state["coins"] if (coin["txid"], coin["vout"]) not in gone]
        made = [
            asdict(FaucetCoin(txid, vout, output.asset, output.value))
            for vout, output in enumerate(outputs)
            if output.script == FAUCET_SCRIPT
        ]
        state["coins"] = [*kept, *made]
        return txid

    async def _coins(self, state: dict[str, Any], *, rescan: bool) -> list[FaucetCoin]:
        if rescan or not state["coins"]:
            found = [asdict(coin) for coin in await self._scan()]
            known = {(coin["txid"], coin["vout"]) for coin in found}
            unconfirmed = [
                coin
                for coin in state["coins"]
                if (coin["txid"], coin["vout"]) not in known
                and await self._rpc.call("gettxout", coin["txid"], coin["vout"]) is not None
            ]
            state["coins"] = found + unconfirmed
        return [FaucetCoin(**coin) for coin in state["coins"]]

    async def _scan(self) -> list[FaucetCoin]:
        """Return confirmed coins that no mempool transaction spends."""
        scripts = [f"raw({script.hex()})" for script in (OP_TRUE, FAUCET_SCRIPT)]
        answer = await self._rpc.call("scantxoutset", "start", scripts)
        coins = []
        for found in answer["unspents"]:
            if not found["amount"]:
                continue
            # A scan leaves out the asset and what the mempool spends.
            output = await self._rpc.call("gettxout", found["txid"], found["vout"])
            if output is None or (
                output["coinbase"] and output["confirmations"] < COINBASE_MATURITY_BLOCKS
            ):
                continue
            value, bare = to_sats(output["value"]), found["scriptPubKey"] == OP_TRUE.hex()
            coins.append(FaucetCoin(found["txid"], found["vout"], output["asset"], value, bare))
        return coins

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {"coins": [], "assets": {}}
        return state

    @asynccontextmanager
    async def _state(self) -> AsyncIterator[dict[str, Any]]:
        """Give one user at a time the state; write it back if the block succeeds."""
        async with self._own_turn:
            with self._path.with_suffix(".lock").open("w") as lock:
                await wait_for(lambda: _try_lock(lock.fileno()), message="turn at the faucet")
                state = self._read()
                yield state
                write_json(self._path, state)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _coin_is_gone(error: NodeRpcError) -> bool:
    conflict = error.code == RpcCode.TRANSACTION_REJECTED and "conflict" in error.reason
    return conflict or error.code == RpcCode.TRANSACTION_ERROR


def _choose(coins: Sequence[FaucetCoin], asset: str, value: int) -> list[FaucetCoin]:
    """Return coins of ``asset`` worth at least ``value``: one if possible, the longest unused one.

    Taking turns keeps payments independent of each other's unconfirmed change (elementsd allows 25
    in a row, and learns fees from independent ones only). What is left of the genesis coin is kept
    for last. Raises FaucetError when all of them together are too little.
    """
    mine = [coin for coin in coins if coin.asset == asset]
    if asset == POLICY_ASSET:
        mine.sort(key=lambda coin: coin.value > SPLIT_SATS)
    for coin in mine:
        if coin.value >= value:
            return [coin]
    chosen: list[FaucetCoin] = []
    for coin in sorted(mine, key=lambda coin: -coin.value):
        chosen.append(coin)
        if sum(coin.value for coin in chosen) >= value:
            return chosen
    have = sum(coin.value for coin in mine)
    raise FaucetError(f"the faucet has {have} of asset {asset}, {value} were asked for")


def script_of(address: str) -> bytes:
    """Return an address's script. Raises ValueError for anything but ``ert1…``."""
    try:
        if not address.startswith("ert1"):
            raise ValueError
        return bytes(address_to_scriptpubkey(address).data)
    except Exception:  # embit raises whatever its decoder meets
        raise ValueError(
            f"{address} is no unblinded address of this chain: it should start with ert1"
        ) from None
