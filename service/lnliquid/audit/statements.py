"""Store and chain side by side: each statement is what the one and the other say of one thing.

What the store does not say, the chain is believed for; so a difference is one of facts. Pure.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from lnliquid.audit.evidence import Evidence, Fate
from lnliquid.domain.swap import Outpoint, State, Swap
from lnliquid.store.survey import OwnTx, StoreFacts
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.observe import output_script

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that should not be. `rule` names the kind of fact, `text` says what was found."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What store and chain say of a `subject`, by name; None: nothing is known of it there."""

    rule: str
    subject: str
    store: Facts | None
    chain: Facts | None

    def differences(self) -> Iterator[Difference]:
        """One for each fact that is not told alike."""
        if self.store is None or self.chain is None:
            known, place = self.store or self.chain or {}, "stored, not on the chain"
            if self.store is None:
                place = "on the chain, not stored"
            words = ", ".join(f"{name} {_words(value)}" for name, value in known.items())
            yield Difference(self.rule, f"{self.subject} is {place}: {words}")
            return
        for name, told in self.store.items():
            seen = self.chain[name]
            if told != seen:
                words = f"{_words(told)} by the store, {_words(seen)} by the chain"
                yield Difference(self.rule, f"{self.subject}: {name} is {words}")


def _words(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value))) or "nothing"
    return value.value if isinstance(value, Fate) else str(value)


class Sides:
    """The statements of all coins, HTLC outputs and transactions of ours."""

    def __init__(self, store: StoreFacts, seen: Evidence, policy_asset: str) -> None:
        self._store, self._seen, self._policy_asset = store, seen, policy_asset
        self.living = {o.txid: o for o in store.own_txs if o.is_living and o.txid not in seen.dead}
        self._live = [b for b in store.bindings if b.live]
        self._bound = {
            b.outpoint: b.owner_txid for b in self._live if b.owner_txid not in seen.dead
        }
        self.coins = {
            c.coin.outpoint: c
            for c in store.coins
            if c.coin.outpoint.txid not in seen.stored or c.coin.outpoint.txid in self.living
        }
        """Stored coins without those that only dead transactions would make."""

    def statements(self) -> Iterator[Statement]:
        """All of them."""
        yield from self._transactions()
        yield from self._swaps()
        yield from self._coins()

    def problems(self) -> Iterator[Difference]:
        """What is wrong by itself, with nothing beside it."""
        for outpoint, times in Counter(b.outpoint for b in self._live).items():
            if times > 1:
                yield Difference("binding", f"{outpoint} is bound {times} times")
        for outpoint, spenders in self._seen.spenders.items():
            if len(spenders) > 1:
                yield Difference(
                    "unknown tx", f"{outpoint} is spent by {_words(frozenset(spenders))}"
                )
        for outpoint, out in self._seen.htlcs.items():
            if out.odd_witness:
                yield Difference("swap", f"{outpoint} was spent by neither branch of its script")
        outputs = (
            o for s in self._store.swaps for o in (s.asset_outpoint, s.subsidy_outpoint) if o
        )
        for outpoint, times in Counter(outputs).items():
            if times > 1:
                yield Difference("funding", f"{outpoint} belongs to {times} swaps")

    def spender(self, outpoint: Outpoint) -> str | None:
        """What spends a stored coin, as the store has it."""
        return self._bound.get(outpoint) or self.coins[outpoint].spent_txid

    def _coins(self) -> Iterator[Statement]:
        seen = self._seen
        for outpoint in sorted(self.coins.keys() | seen.wallet, key=str):
            told: Facts | None = None
            if outpoint in self.coins:
                coin = self.coins[outpoint].coin
                told = {"asset": coin.asset_id, "value": coin.value, "height": coin.height}
                told["spender"] = self.spender(outpoint)
            shown: Facts | None = None
            if outpoint in seen.wallet:
                asset_id, value = seen.explicit[outpoint]
                shown = {"asset": asset_id, "value": value, "height": seen.height(outpoint.txid)}
                shown["spender"] = seen.spender(outpoint)
            yield Statement("coin", f"coin {outpoint}", told, shown)

    def _transactions(self) -> Iterator[Statement]:
        seen = self._seen
        owned: dict[str, set[Outpoint]] = defaultdict(set)
        for binding in self._live:
            owned[binding.owner_txid].add(binding.outpoint)
        spent_by_family: dict[str, set[Outpoint]] = defaultdict(set)
        for own in self._store.own_txs:
            spent_by_family[own.family] |= seen.parsed[own.txid].input_of.keys()
        for own in self._store.own_txs:
            transaction, subject = seen.parsed[own.txid], f"transaction {own.txid}"
            told: Facts = {"txid of its bytes": own.txid, "fee": own.fee_sats, "place": _place(own)}
            shown: Facts = {"txid of its bytes": transaction.txid, "fee": transaction.fee_sats}
            shown["place"] = self._seen_place(own)
            yield Statement("own tx", subject, told, shown)
            # What an older version spends may stay bound: that one may confirm after all.
            mine = owned.pop(own.txid, set())
            spent = set(transaction.input_of) | (mine & spent_by_family[own.family])
            if own.txid in seen.dead:
                continue  # a note says so; its coins are bound until it is abandoned
            bound: Facts = {"what it spends": frozenset(mine)}
            spends: Facts = {"what it spends": frozenset(spent if own.is_living else ())}
            yield Statement("binding", subject, bound, spends)
        for txid, outpoints in owned.items():
            yield Statement(
                "binding", f"transaction {txid}", {"what it spends": frozenset(outpoints)}, None
            )
        for txid in sorted(seen.ours - seen.stored.keys()):
            spends = {"what it spends": frozenset(seen.transactions[txid].input_of)}
            yield Statement(
                "unknown tx", f"transaction {txid}, which spends our coins,", None, spends
            )

    def _seen_place(self, own: OwnTx) -> str:
        height = self._seen.height(own.txid)
        if height is not None:
            return f"block {height}"
        is_here = own.is_living and own.state is not TxState.CONFIRMED
        if is_here or not self._seen.is_seen(own.txid):
            return "no block" if is_here else "nowhere"
        return "the mempool"

    def _swaps(self) -> Iterator[Statement]:
        last_states = dict(self._store.last_states)
        fundings: dict[str, set[str]] = defaultdict(set)
        for outpoint, out in self._seen.htlcs.items():
            fundings[out.swap.swap_id].add(outpoint.txid)
        for swap in self._store.swaps:
            subject, last = f"swap {swap.swap_id}", last_states.get(swap.swap_id)
            log: Facts = {"end of its event log": last.name if last else "nothing"}
            yield Statement("swap", subject, log, {"end of its event log": swap.state.name})
            if swap.funding_txid is None:
                if swap.state not in (State.CREATED, State.FAILED):
                    told: Facts = {"state": swap.state.name}
                    yield Statement("swap", subject, told, {"state": "without a funding"})
                continue
            if len(txids := fundings[swap.swap_id]) > 1:
                yield Statement(
                    "funding",
                    subject,
                    {"funding": swap.funding_txid},
                    {"funding": frozenset(txids)},
                )
            yield from self._funding(swap)
            yield from self._fates(swap)

    def outputs_of(self, swap: Swap) -> Iterator[tuple[str, Outpoint, str, int]]:
        """(name, outpoint, asset, value) of the HTLC outputs that a swap's record names."""
        if swap.asset_outpoint is not None:
            yield "asset", swap.asset_outpoint, swap.asset_id, swap.asset_amount
        if swap.subsidy_outpoint is not None:
            yield "subsidy", swap.subsidy_outpoint, self._policy_asset, swap.subsidy_sats

    def _funding(self, swap: Swap) -> Iterator[Statement]:
        seen, txid = self._seen, swap.funding_txid or ""
        own = seen.stored.get(txid)
        is_unlocked = swap.state in (State.CREATED, State.FAILED)
        if own is not None and own.state is TxState.ABANDONED and is_unlocked:
            return  # nothing is locked, and nothing may be locked again
        is_funding = own is not None and own.purpose is Purpose.FUNDING and own.is_living
        stored_as = "not stored" if own is None else f"{own.purpose.name}, {own.state.name}"
        subject = f"swap {swap.swap_id} ({swap.state.name})"
        told: Facts = {f"its funding {txid}": "a living FUNDING"}
        shown: Facts = {f"its funding {txid}": "a living FUNDING" if is_funding else stored_as}
        if txid not in seen.dead:  # a note says so; the swap waits until it is given up
            needs_block = swap.state is not State.CREATED and seen.height(txid) is None
            told["block of its funding"], shown["block of its funding"] = "any", "any"
            if needs_block:
                shown["block of its funding"] = "none"
            outputs = seen.transactions[txid].outputs if txid in seen.transactions else ()
            script = output_script(swap)
            for name, outpoint, asset_id, value in self.outputs_of(swap):
                what = f"the {name} at {outpoint}"
                told[what] = f"{value} of {asset_id} in its HTLC"
                shown[what] = "not there"
                if outpoint.vout < len(outputs):
                    found = outputs[outpoint.vout]
                    place = "its HTLC" if found.script_pubkey == script else "another script"
                    shown[what] = f"{found.value} of {found.asset_id} in {place}"
        yield Statement("funding", subject, told, shown)

    def _fates(self, swap: Swap) -> Iterator[Statement]:
        for name, outpoint, _, _ in self.outputs_of(swap):
            out = self._seen.htlcs.get(outpoint)
            if out is None:
                continue
            told: Facts = {"fate": self.fate(outpoint)}
            shown: Facts = {"fate": out.fate}
            if name == "asset" and swap.state.is_settled:
                told["spender"], shown["spender"] = swap.spend_txid, out.spender
            subject = f"the {name} of swap {swap.swap_id} ({swap.state.name})"
            yield Statement("swap", subject, told, shown)

    def fate(self, outpoint: Outpoint) -> Fate:
        """Where an HTLC output's money is by the store.

        Of the subsidy the store says only whether a transaction of ours takes it back, and that it
        is not locked any more once the swap is final; for the rest the chain is believed.
        """
        out = self._seen.htlcs.get(outpoint)
        if out is None:
            return Fate.LOCKED
        swap, is_asset = out.swap, outpoint == out.swap.asset_outpoint
        if is_asset and swap.state is State.CLAIMED:
            return Fate.CLAIMED
        if outpoint in self._bound or (is_asset and swap.state is State.REFUNDED):
            return Fate.REFUNDED
        is_over = swap.finished or out.fate is Fate.CLAIMED
        return Fate.CLAIMED if is_over and not is_asset else Fate.LOCKED


def _place(own: OwnTx) -> str:
    if own.state is TxState.CONFIRMED:
        return f"block {own.height}"
    return "no block" if own.is_living else "nowhere"
