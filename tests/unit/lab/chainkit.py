"""A chain with small anyone-can-spend coins, and unsigned transactions that move them."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import count

from lnlab.nodes.embedded.chain import Chain, Coin
from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnlab.nodes.embedded.policy import MAX_MONEY_SATS
from lnlab.nodes.embedded.txmodel import parse_tx

OP_TRUE = b"\x51"
"""The witness script of every coin here."""
COIN_SATS = 1_000_000
REPLACEABLE = 0xFFFFFFFD
START_SECS = 1_800_000_000

Output = tuple[str, int, bytes]
"""Asset, satoshi, script."""


def p2wsh(witness_script: bytes) -> bytes:
    """The output script that pays to a witness script."""
    return b"\x00\x20" + hashlib.sha256(witness_script).digest()


OPEN_SCRIPT = p2wsh(OP_TRUE)


class ManualClock:
    """A clock that tests set; each reading is a minute later than the one before."""

    def __init__(self) -> None:
        self.secs = START_SECS

    def __call__(self) -> int:
        """Tell the time."""
        self.secs += 60
        return self.secs


class Kit:
    """A chain at height 2 with `coin_count` coins of `COIN_SATS`, handed out by `coin`."""

    def __init__(self, coin_count: int = 150, scripts: Sequence[bytes] = ()) -> None:
        self.clock = ManualClock()
        self.chain = Chain(clock=self.clock)
        self.asset = self.chain.policy_asset
        self.chain.generate()
        free_txid = self.chain.block_txids(self.chain.block_hash(0))[1]
        paid = [OPEN_SCRIPT] * coin_count + [p2wsh(script) for script in scripts]
        outputs = [encode_output(self.asset, COIN_SATS, script) for script in paid]
        rest_sats = MAX_MONEY_SATS - len(paid) * COIN_SATS - 100_000
        outputs += [
            encode_output(self.asset, rest_sats, OP_TRUE),
            encode_output(self.asset, 100_000),
        ]
        self.root = self.chain.submit(encode_tx([encode_input((free_txid, 0))], outputs))
        self.chain.generate()
        self._next = count()
        self._scripts = {script: coin_count + at for at, script in enumerate(scripts)}

    def coin(self) -> Coin:
        """A coin nobody has used."""
        return self._coin(next(self._next))

    def coin_of(self, witness_script: bytes) -> Coin:
        """The coin that pays to a script given at the start."""
        return self._coin(self._scripts[witness_script])

    def _coin(self, vout: int) -> Coin:
        coin = self.chain.coin(self.root, vout)
        assert coin is not None
        return coin

    def tx(
        self,
        coins: Iterable[Coin],
        outputs: Sequence[Output] | None = None,
        *,
        fee_sats: int = 1000,
        change_count: int = 1,
        sequence: int = REPLACEABLE,
        lock_time: int = 0,
        version: int = 2,
        witness: Sequence[bytes] = (OP_TRUE,),
        issuance: bytes = b"",
    ) -> bytes:
        """Spend coins to outputs; by default all L-BTC to open coins of about equal size."""
        spent = list(coins)
        if outputs is None:
            total_sats = sum(coin.value for coin in spent if coin.asset == self.asset) - fee_sats
            each_sats = total_sats // change_count
            amounts = [each_sats] * (change_count - 1)
            amounts.append(total_sats - sum(amounts))
            outputs = [(self.asset, amount, OPEN_SCRIPT) for amount in amounts]
        encoded = [encode_output(*output) for output in outputs]
        if fee_sats:
            encoded.append(encode_output(self.asset, fee_sats))
        inputs = [encode_input((coin.txid, coin.vout), sequence=sequence) for coin in spent]
        if issuance:
            first = (spent[0].txid, spent[0].vout)
            inputs[0] = encode_input(first, sequence=sequence, issuance=issuance)
        return encode_tx(
            inputs,
            encoded,
            witnesses=[witness] * len(spent),
            version=version,
            lock_time=lock_time,
        )

    def send(self, raw: bytes) -> list[Coin]:
        """Submit a transaction; returns the coins it makes."""
        self.chain.submit(raw)
        return parse_tx(raw).coins(None)

    def pass_on(self, coin: Coin, times: int, **options: int) -> list[Coin]:
        """A line of transactions, each spending the one before; returns the coin after each."""
        line = []
        for _ in range(times):
            coin = self.send(self.tx([coin], **options))[0]  # type: ignore[arg-type]  # ints only
            line.append(coin)
        return line

    def reason(self, raw: bytes) -> str | None:
        """Why a transaction is refused; None when it is not."""
        return self.chain.test_accept(raw).reject_reason
