"""Who has how long: the hold of a Lightning payment, and the time lock that must outlast it. Pure.

Money rule 11: a held payment may outlive the lock with a probability of 1e-9 at most.

The lock counts Liquid blocks. One comes every 60 s, never faster; when they stop, the lock stops
too. A payment is held for a number of blocks of the chain that carries the Lightning channels.
Where that is Liquid itself, both count the same blocks. Where it is bitcoin, blocks are a Poisson
process: the time T of n blocks is Gamma distributed with shape n and scale `mean`, and E[exp(tT)] =
(1 - t·mean)^-n. Markov's inequality for exp(tT), at the best t = (1 - 1/x) / mean, is Chernoff's
bound of its tail (Boucheron, Lugosi, Massart, "Concentration Inequalities", 2013, section 2.2):

    P(T > x·n·mean) <= exp(-n·(x - 1 - ln x))    for x > 1
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

LIQUID_BLOCK_SECS = 60
"""Seconds of a Liquid block."""

BITCOIN_BLOCK_SECS = 840
"""Stressed mean of a bitcoin block: 1.4 times 600 s, as difficulty lags behind lost hash rate.

In July 2021 the mean was 833 s for a while.
"""

TAIL = 1e-9
"""Probability with which a payment may be held longer than `hold_secs`."""

SENDING_BLOCKS = 1
"""An HTLC's expiry counts from the next block (Core Lightning, `plugins/xpay/xpay.c`)."""
DEADLINE_BLOCKS = 1
"""A node goes on chain a block after the expiry (Core Lightning, `lightningd/peer_htlcs.c`)."""
ONCHAIN_MARGIN_BLOCKS = 6
"""Then a direct peer can still take the HTLC with the preimage, until its time-out confirms."""
EXTRA_BLOCKS = SENDING_BLOCKS + DEADLINE_BLOCKS + ONCHAIN_MARGIN_BLOCKS
"""Blocks that a payment may be held beyond its CLTV (`maxdelay`)."""

CLAIM_MARGIN_BLOCKS = 60
"""Least Liquid blocks that a buyer keeps for its claim."""
STALE_TIP_SECS = 20 * LIQUID_BLOCK_SECS
"""A newest block older than this is not the chain's: its server may be cut off."""


class LightningChain(Enum):
    """The chain that carries the Lightning channels."""

    BITCOIN = "bitcoin"
    LIQUID = "liquid"


_LIQUID_CURRENCIES = frozenset({"ex", "tex", "ert"})


def chain_of_invoice(currency: str) -> LightningChain:
    """The chain of an invoice with this currency, which follows `ln` in it.

    An unknown currency counts as bitcoin's, where a payment is held for longer. Source: Core
    Lightning `bitcoin/chainparams.c`.
    """
    is_liquid = currency in _LIQUID_CURRENCIES
    return LightningChain.LIQUID if is_liquid else LightningChain.BITCOIN


def chain_of_node(network: str) -> LightningChain:
    """The chain of a Core Lightning node on this `network`, as `getinfo` names it."""
    is_liquid = network.startswith("liquid")
    return LightningChain.LIQUID if is_liquid else LightningChain.BITCOIN


def mean_block_secs(chain: LightningChain) -> int:
    """Mean seconds of a block that the bound of `hold_secs` is made with."""
    return BITCOIN_BLOCK_SECS if chain is LightningChain.BITCOIN else LIQUID_BLOCK_SECS


def tail_secs(blocks: int, mean_secs: int, tail: float) -> float:
    """Seconds that so many Poisson blocks of this mean exceed with a probability below `tail`.

    The bound is x·blocks·mean_secs with the least x > 1 for which blocks·(x - 1 - ln x) >= ln(1 /
    tail); it is too large by a factor of at most 1 + 1e-9.
    """
    exponent = -math.log(tail) / blocks
    low, high = 1.0, 2.0
    while high - 1 - math.log(high) < exponent:
        low, high = high, 2 * high
    while high - low > 1e-9:
        middle = (low + high) / 2
        if middle - 1 - math.log(middle) < exponent:
            low = middle
        else:
            high = middle
    return high * blocks * mean_secs


@cache
def hold_secs(blocks: int, chain: LightningChain) -> int:
    """Seconds that this many blocks of the Lightning chain take at the longest, but for `TAIL`."""
    if blocks <= 0:
        return 0
    if chain is LightningChain.LIQUID:
        return blocks * LIQUID_BLOCK_SECS
    return math.ceil(tail_secs(blocks, BITCOIN_BLOCK_SECS, TAIL))


@dataclass(frozen=True, slots=True)
class Hold:
    """The longest hold of a payment with a CLTV (`maxdelay`) of these blocks of this chain."""

    blocks: int
    chain: LightningChain

    @property
    def secs(self) -> int:
        """Seconds, those of `EXTRA_BLOCKS` too."""
        return hold_secs(self.blocks + EXTRA_BLOCKS, self.chain)

    def __str__(self) -> str:
        hours = -(-self.secs // 360) / 10
        return f"{hours:,.1f} hours ({self.blocks} + {EXTRA_BLOCKS} blocks of {self.chain.value})"


@dataclass(frozen=True, slots=True)
class Budget:
    """A time lock: what must fit before the refund opens, by name in seconds, and its blocks."""

    parts: tuple[tuple[str, int], ...]
    available_blocks: int

    @property
    def needed_secs(self) -> int:
        """Sum of all that may happen, each as late as it can, before the refund opens."""
        return sum(secs for _, secs in self.parts)

    @property
    def available_secs(self) -> int:
        """What the blocks of the lock take at the least."""
        return self.available_blocks * LIQUID_BLOCK_SECS

    @property
    def needed_blocks(self) -> int:
        """Liquid blocks that hold all of it, rounded up."""
        return -(-self.needed_secs // LIQUID_BLOCK_SECS)

    @property
    def margin_secs(self) -> int:
        """What is left over; negative when it does not fit."""
        return self.available_secs - self.needed_secs

    @property
    def is_safe(self) -> bool:
        """True when the refund cannot open before the buyer had its time."""
        return self.margin_secs >= 0

    def __str__(self) -> str:
        parts = " + ".join(f"{name} {secs}" for name, secs in self.parts)
        sign = ">=" if self.is_safe else "<"
        return (
            f"{self.available_blocks} blocks = {self.available_secs} s {sign} "
            f"{self.needed_secs} s = {parts}"
        )


def budget(
    blocks: int,
    cltv_blocks: int,
    chain: LightningChain,
    claim_margin_blocks: int,
    before: Iterable[tuple[str, int]] = (),
) -> Budget:
    """The budget of a lock of this many Liquid blocks, for seller, offer and buyer alike.

    `before`: what happens until the payment is sent, in seconds. `cltv_blocks`: its `maxdelay`.
    """
    return Budget(
        (
            *before,
            (
                f"payment held {cltv_blocks} + {EXTRA_BLOCKS} blocks of {chain.value}",
                Hold(cltv_blocks, chain).secs,
            ),
            ("claim margin", claim_margin_blocks * LIQUID_BLOCK_SECS),
        ),
        blocks,
    )


def largest_cltv(
    blocks: int,
    chain: LightningChain,
    claim_margin_blocks: int,
    *,
    most: int,
    before: Iterable[tuple[str, int]] = (),
) -> int:
    """The largest `maxdelay`, at most `most`, whose budget fits these blocks; 0 when none does."""
    parts = tuple(before)

    def is_unsafe(cltv_blocks: int) -> bool:
        return not budget(blocks, cltv_blocks, chain, claim_margin_blocks, parts).is_safe

    return bisect.bisect_left(range(1, most + 1), True, key=is_unsafe)


@dataclass(frozen=True, slots=True)
class Timelocks:
    """The seller's settings that decide how long each side has. Blocks are Liquid's unless `ln`."""

    refund_delta_blocks: int
    max_funding_confs: int
    create_slack_secs: int
    invoice_expiry_secs: int
    max_ln_cltv_blocks: int
    claim_margin_blocks: int
    lightning_chain: LightningChain

    @property
    def hold(self) -> Hold:
        """The longest hold of a payment that the offer allows."""
        return Hold(self.max_ln_cltv_blocks, self.lightning_chain)

    @property
    def budget(self) -> Budget:
        """From the signing of the funding to the refund; a seller must not start unless it fits."""
        return budget(
            self.refund_delta_blocks,
            self.max_ln_cltv_blocks,
            self.lightning_chain,
            self.claim_margin_blocks,
            (
                ("funding confirmations", self.max_funding_confs * LIQUID_BLOCK_SECS),
                ("create slack", self.create_slack_secs),
                ("invoice expiry", self.invoice_expiry_secs),
            ),
        )

    @property
    def blocks_to_pay_and_claim(self) -> int:
        """Liquid blocks that must be left before the lock height when a payment *starts*.

        It can be held for its whole CLTV before the preimage comes back; the claim then still has
        to confirm.
        """
        return budget(
            0, self.max_ln_cltv_blocks, self.lightning_chain, self.claim_margin_blocks
        ).needed_blocks

    def last_height_to_pay(self, refund_lock_height: int) -> int:
        """The highest tip at which a payment may start."""
        return refund_lock_height - self.blocks_to_pay_and_claim

    def invoice_lifetime_secs(self, tip_height: int, refund_lock_height: int) -> int:
        """How long an invoice made now may be payable; 0 or less when it is too late for any."""
        spare_blocks = self.last_height_to_pay(refund_lock_height) - tip_height
        return min(self.invoice_expiry_secs, spare_blocks * LIQUID_BLOCK_SECS)
