"""The operator of the simulation takes coins out, and asks again when no answer came."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lnlab.nodes.embedded.txmodel import Tx, electrum_scripthash
from lnliquid.domain import htlc
from lnliquid.domain.withdrawal import Order
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.networks import REGTEST

from .clockwork import Violation
from .ground import ASSET, LBTC, Ground

if TYPE_CHECKING:
    from .world import World

MOST_ORDERS = 25
MOST = {ASSET: 40_000, LBTC: 30_000}
"""Smallest units; so that there is something left to sell."""


@dataclass
class Ordered:
    """An order, the script that it alone pays, and the versions of its transaction."""

    order: Order
    script: bytes
    txids: set[str] = field(default_factory=set)


@dataclass
class Withdrawals:
    """All that was ordered, by request id."""

    ground: Ground
    ordered: dict[str, Ordered] = field(default_factory=dict)

    @property
    def scripts(self) -> set[bytes]:
        """What they pay."""
        return {o.script for o in self.ordered.values()}

    def paid(self, tx: Tx) -> Counter[str]:
        """What a transaction pays to them, by asset."""
        found: Counter[str] = Counter()
        for out in tx.outputs:
            if out.script in self.scripts:
                found[out.asset or ""] += out.value or 0
        return found

    def check(self) -> None:
        """No order is paid twice, and each is paid what it says (rules 7 and 8)."""
        for name, ordered in self.ordered.items():
            coins = list(self.ground.chain.unspent(electrum_scripthash(ordered.script)))
            if len(coins) > 1:
                raise Violation(8, f"withdrawal {name[-2:]} is paid {len(coins)} times")
            for coin in coins:
                wanted = ordered.order.amount or coin.value
                if (coin.asset, coin.value) != (ordered.order.asset_id, wanted):
                    raise Violation(7, f"withdrawal {name[-2:]} is paid {coin.value}, not {wanted}")

    def at_rest(self, can_be_sent: Callable[[str], bool]) -> None:
        """Each one that was answered is on its way, unless something else has its coins now."""
        for name, ordered in self.ordered.items():
            coins = list(self.ground.chain.unspent(electrum_scripthash(ordered.script)))
            if not coins and any(map(can_be_sent, ordered.txids)):
                raise Violation(7, f"withdrawal {name[-2:]} was promised and is not sent")

    def order(self, asset: str, amount: int | None) -> Ordered:
        """A new one, to an address of its own."""
        number = len(self.ordered)
        key_hash = hashlib.sha256(b"away %d" % number).digest()[:20]
        request_id = f"00000000-0000-4000-9000-{number:012d}"
        order = Order(request_id, asset, amount, p2wpkh_address(key_hash, REGTEST))
        ordered = self.ordered[request_id] = Ordered(order, htlc.p2wpkh_script(key_hash))
        return ordered

    def unanswered(self) -> list[Ordered]:
        """Those that the operator asks for again."""
        return [o for o in self.ordered.values() if not o.txids]


async def ask(world: "World") -> str:
    """A new withdrawal, or one that was ordered before, which must not be sent again."""
    withdrawals, rng = world.rules.books.withdrawals, world.rng
    orders, unanswered = withdrawals.ordered, withdrawals.unanswered()
    if len(orders) < MOST_ORDERS and (not unanswered or rng.random() < 0.5):
        asset = rng.choice((ASSET, LBTC))
        amount = None if rng.random() < 0.03 else rng.randrange(1_000, MOST[asset])
        ordered = withdrawals.order(asset, amount)
    else:
        ordered = rng.choice(unanswered or list(orders.values()))
    return await send(world, ordered, take_reserve=rng.random() < 0.3)


async def send(world: "World", ordered: Ordered, *, take_reserve: bool = False) -> str:
    """The operator asks for this one."""
    made = await world.daemon.withdrawer.withdraw(ordered.order, take_reserve=take_reserve)
    ordered.txids.add(made.txid)
    return f"{made.amount} of {made.order.asset_id[:4]}"
