"""Coins and transactions for the cases, the same on all kinds of nodes.

Open coins pay to P2WSH of OP_2, which anybody spends and no faucet takes for its own. HTLCs are
funded, claimed and refunded with the code that seller and buyer run.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from embit.liquid.transaction import LTransaction

from lnlab.actors.faucet import Payment
from lnlab.lab import Lab
from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnlab.nodes.record import POLICY_ASSET
from lnliquid.domain import htlc
from lnliquid.domain.swap import Outpoint
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import CHANGE, RECEIVE, Key, Keychain
from lnliquid.liquid.networks import NETWORKS_BY_NAME

OP_2 = b"\x52"
OPEN_SCRIPT = b"\x00\x20" + hashlib.sha256(OP_2).digest()
OPEN_COIN_SATS = 1_000_000
OPEN_COINS_AT_ONCE = 40

FINAL, REPLACEABLE = 0xFFFFFFFF, 0xFFFFFFFD
SIGNATURE_BYTES = 71
"""Of most signatures with a low R and a low S, sighash byte included."""

_CHAIN = NETWORKS_BY_NAME["liquid-regtest"]
_KEYS = Keychain(
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
    _CHAIN,
)
SELLER_KEY, BUYER_KEY, STRANGER_KEY = (_KEYS.wallet_key(RECEIVE, index) for index in range(3))
PREIMAGE = hashlib.sha256(b"a preimage for conformance").digest()


def script_of(number: int) -> bytes:
    """A P2WPKH script that no other case uses; nobody can spend it."""
    return b"\x00\x14" + number.to_bytes(4, "big") * 5


def scripthash_of(script: bytes) -> str:
    """The Electrum name of a script."""
    return htlc.electrum_scripthash(script)


@dataclass(frozen=True)
class Coin:
    """An output that a case may spend."""

    txid: str
    vout: int
    value: int
    asset: str = POLICY_ASSET

    @property
    def outpoint(self) -> Outpoint:
        """Where it is."""
        return Outpoint(self.txid, self.vout)


@dataclass(frozen=True)
class Locked:
    """An HTLC pair on the chain or in the mempool."""

    script: bytes
    asset: Coin
    subsidy: Coin
    lock_height: int

    def claim(
        self,
        *,
        key: Key = BUYER_KEY,
        preimage: bytes = PREIMAGE,
        fee_sats: int = 100,
        sequence: int = FINAL,
    ) -> bytes:
        """The buyer's spend of both outputs."""
        spends = [
            tx_builder.claim_spend(coin.outpoint, coin.value, key, self.script, preimage)
            for coin in (self.asset, self.subsidy)
        ]
        return self._sign(spends, sequence, fee_sats, 0)

    def refund(
        self,
        *,
        key: Key = SELLER_KEY,
        fee_sats: int = 100,
        lock_time: int | None = None,
        sequence: int = REPLACEABLE,
    ) -> bytes:
        """The seller's spend of both outputs."""
        spends = [
            tx_builder.refund_spend(coin.outpoint, coin.value, key, self.script)
            for coin in (self.asset, self.subsidy)
        ]
        height = self.lock_height if lock_time is None else lock_time
        return self._sign(spends, sequence, fee_sats, height)

    def _sign(
        self, spends: list[tx_builder.Spend], sequence: int, fee_sats: int, lock_time: int
    ) -> bytes:
        """Sign to the first address with signatures of the usual length: sizes are compared."""
        spends = [replace(spend, sequence=sequence) for spend in spends]
        for index in range(100):
            script = htlc.p2wpkh_script(_KEYS.wallet_key(CHANGE, index).key_hash)
            outputs = [
                tx_builder.Output(script, self.asset.asset, self.asset.value),
                tx_builder.Output(script, POLICY_ASSET, self.subsidy.value - fee_sats),
            ]
            raw = tx_builder.sign(
                spends, outputs, policy_asset=POLICY_ASSET, fee=fee_sats, lock_time=lock_time
            ).raw
            signatures = {len(one.witness[0]) for one in parse_transaction(raw).inputs}
            if signatures == {SIGNATURE_BYTES}:
                break
        return raw


def txid_of(raw: bytes) -> str:
    """The txid of a transaction."""
    txid: str = LTransaction.parse(raw).txid().hex()
    return txid


@dataclass
class Money:
    """The cases' purse on a lab."""

    lab: Lab
    _open: list[Coin] = field(default_factory=list)
    _asset: str | None = None

    async def coin(self) -> Coin:
        """A confirmed open coin that nothing spends."""
        if not self._open:
            payments = [Payment(OPEN_SCRIPT, POLICY_ASSET, OPEN_COIN_SATS)] * OPEN_COINS_AT_ONCE
            txid = await self.lab.faucet.pay(payments)
            self._open = [Coin(txid, n, OPEN_COIN_SATS) for n in range(OPEN_COINS_AT_ONCE)]
            await self.lab.mine()
        return self._open.pop()

    async def asset(self) -> str:
        """The id of an issued asset."""
        if self._asset is None:
            self._asset = await self.lab.faucet.issue("CONF", 10**12)
            await self.lab.mine()
        return self._asset

    async def lock(self, lock_height: int, *, subsidy_sats: int = 2_000) -> Locked:
        """An HTLC pair in the mempool; mine it."""
        script = htlc.witness_script(
            hashlib.sha256(PREIMAGE).digest(),
            BUYER_KEY.key_hash,
            SELLER_KEY.key_hash,
            lock_height,
        )
        output, asset = htlc.output_script(script), await self.asset()
        txid = await self.lab.faucet.pay(
            [Payment(output, asset, 7_000), Payment(output, POLICY_ASSET, subsidy_sats)]
        )
        return Locked(script, Coin(txid, 0, 7_000, asset), Coin(txid, 1, subsidy_sats), lock_height)


def spend(
    coins: Sequence[Coin],
    outputs: Sequence[tuple[int, bytes]] | None = None,
    *,
    fee_sats: int = 1_000,
    sequence: int = REPLACEABLE,
    lock_time: int = 0,
    version: int = 2,
    witness: Sequence[bytes] = (OP_2,),
) -> bytes:
    """Spend open coins to (satoshi, script); by default all to one open coin."""
    if outputs is None:
        outputs = [(sum(coin.value for coin in coins) - fee_sats, OPEN_SCRIPT)]
    encoded = [encode_output(POLICY_ASSET, value, script) for value, script in outputs]
    if fee_sats:
        encoded.append(encode_output(POLICY_ASSET, fee_sats))
    return encode_tx(
        [encode_input((coin.txid, coin.vout), sequence=sequence) for coin in coins],
        encoded,
        witnesses=[witness] * len(coins),
        version=version,
        lock_time=lock_time,
    )


def change_of(raw: bytes, coins: Sequence[Coin], *, fee_sats: int = 1_000) -> Coin:
    """The open coin that `spend` made by default."""
    return Coin(txid_of(raw), 0, sum(coin.value for coin in coins) - fee_sats)
