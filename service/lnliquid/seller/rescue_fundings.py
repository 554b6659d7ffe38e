"""Which funding of a swap counts, and which of our transactions a rescue stores. Pure.

A journal names every funding that was ever signed for a swap: one that was never stored, one that
was given up, and the dearer one that replaced it. At most one of them can hold the coins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from lnliquid.liquid import tx
from lnliquid.seller.observe import output_script
from lnliquid.seller.reconcile import Policy, confirmations
from lnliquid.seller.rescue_lines import JournalFacts, JournalMismatch, Line
from lnliquid.seller.rescue_reading import RescuePicture, in_order
from lnliquid.store.rebuild import OldTx
from lnliquid.store.survey import StoreFacts
from lnliquid.store.tables import Purpose, TxState
from lnliquid.swap import Coin, Outpoint


class Fate(Enum):
    """What became of a swap's funding."""

    SEEN = "seen"
    """Chain or mempool have it."""
    STORED = "stored"
    """No node shows it; the database has its bytes and the daemon sends them again."""
    SENDABLE = "sendable"
    """No node shows it; the journal has its bytes, and nothing spent its inputs."""
    NEVER = "never"
    """It never was in a block and cannot come into one: nothing is locked."""
    UNRESOLVED = "unresolved"
    """Nobody can say; nothing is stored of it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The line that counts for a swap, None when nothing is locked or nobody can say; and why."""

    fate: Fate
    line: Line | None
    why: str


class Fundings:
    """All fundings of a journal against chain and database."""

    def __init__(
        self,
        journal: JournalFacts,
        store: StoreFacts,
        picture: RescuePicture,
        policy: Policy,
        policy_asset: str,
    ) -> None:
        self._journal = journal
        self._picture = picture
        self._policy = policy
        self._policy_asset = policy_asset
        self._stored = {o.txid: o for o in store.own_txs}
        self._rows = {s.swap_id: s for s in store.swaps}
        self._spenders = {
            i.outpoint: txid for txid, t in picture.transactions.items() for i in t.inputs
        }
        self._unseen = {
            txid: self._parsed(txid, stored.raw)
            for txid, stored in journal.txs.items()
            if txid not in picture.transactions
        }
        self._fates: dict[str, tuple[Fate, str]] = {}
        self._chosen: set[str] = set()

    @staticmethod
    def _parsed(txid: str, raw: bytes) -> tx.Transaction:
        try:
            transaction = tx.parse(raw)
        except ValueError:
            raise JournalMismatch(f"the bytes of funding {txid} are damaged") from None
        if transaction.txid != txid:
            raise JournalMismatch(f"the bytes of funding {txid} are those of {transaction.txid}")
        return transaction

    def choose(self, swap_id: str) -> Choice:
        """The funding that counts. Raises `JournalMismatch` when it does not pay the swap."""
        lines = self._journal.lines[swap_id]
        refused = [s for s in map(_script, lines) if s in self._picture.refused]
        if refused:
            why = f"its history cannot be read: {self._picture.refused[refused[0]]}"
            return Choice(Fate.UNRESOLVED, None, why)
        seen = [line for line in lines if _txid(line) in self._picture.transactions]
        for line in seen:
            self._check(line, self._picture.transactions[_txid(line)])
        if seen:
            # A confirmed one before one of the mempool, which cannot confirm beside it.
            best = max(seen, key=lambda line: self._picture.heights[_txid(line)] is not None)
            several = len({_txid(line) for line in seen}) > 1
            return Choice(Fate.SEEN, best, "it was funded more than once" if several else "")
        newest = lines[-1]
        row = self._rows.get(swap_id)
        own = self._stored.get(_txid(newest))
        if row is not None and row.funding_txid == _txid(newest) and own and own.is_living:
            return Choice(Fate.STORED, newest, "")
        fate, why = self._fate_of(_txid(newest))
        if fate is not Fate.SENDABLE:
            return Choice(fate, newest if fate is Fate.NEVER else None, why)
        self._check(newest, self._unseen[_txid(newest)])
        self._chosen.add(_txid(newest))
        return Choice(fate, newest, "")

    def _check(self, line: Line, transaction: tx.Transaction) -> None:
        swap = line.swap
        for what, vout, asset_id, value in (
            ("asset", swap.asset_vout, swap.asset_id, swap.asset_amount),
            ("subsidy", swap.subsidy_vout, self._policy_asset, swap.subsidy_sats),
        ):
            outputs = transaction.outputs
            found = outputs[vout] if vout is not None and vout < len(outputs) else None
            wanted = (_script(line), asset_id, value)
            if found is None or (found.script_pubkey, found.asset_id, found.value) != wanted:
                raise JournalMismatch(
                    f"output {vout} of {transaction.txid} is not the {what} of swap "
                    f"{swap.swap_id}: script, asset or amount is another one"
                )

    def _fate_of(self, txid: str) -> tuple[Fate, str]:
        """What became of a funding that no node shows. Its parents are asked first."""
        if txid not in self._fates:
            self._fates[txid] = (Fate.UNRESOLVED, "its inputs depend on each other")  # no loops
            self._fates[txid] = self._judge(txid)
        return self._fates[txid]

    def _judge(self, txid: str) -> tuple[Fate, str]:
        transaction = self._unseen.get(txid)
        if transaction is None:
            return Fate.UNRESOLVED, (
                f"no node shows its funding {txid}, and the journal, which an older program "
                "wrote, does not hold its bytes; should it appear, run `lnliquid rescue` again"
            )
        for found in self._journal.lines.values():
            if any(_txid(line) == txid for line in found[:-1]) and _txid(found[-1]) != txid:
                return Fate.NEVER, "its funding was never sent: another was signed after it"
        inputs = {i.outpoint for i in transaction.inputs}
        later = list(self._journal.txs)[list(self._journal.txs).index(txid) + 1 :]
        for other in later:
            parsed = self._unseen.get(other) or self._picture.transactions[other]
            if inputs & {i.outpoint for i in parsed.inputs}:
                return Fate.NEVER, f"its coins went into the later funding {other}"
        for outpoint in sorted(inputs):
            problem = self._problem_of(outpoint)
            if problem is not None:
                return problem
        return Fate.SENDABLE, ""

    def _problem_of(self, outpoint: Outpoint) -> tuple[Fate, str] | None:
        """Why this input cannot be spent any more, None when it can."""
        rival = self._spenders.get(outpoint)
        if rival is not None:
            height = self._picture.heights.get(rival)
            if confirmations(height, self._picture.tip) >= self._policy.final_confs:
                return Fate.NEVER, f"its funding cannot confirm: {rival} spent {outpoint}"
            return Fate.UNRESOLVED, (
                f"{rival} spends its input {outpoint} and is not buried; run `lnliquid rescue` "
                "again after some blocks"
            )
        if outpoint.txid in self._picture.transactions:
            return None
        own = self._stored.get(outpoint.txid)
        if own is not None and own.is_living:
            return None
        if outpoint.txid in self._unseen:
            fate, why = self._fate_of(outpoint.txid)
            if fate is Fate.SENDABLE:
                self._chosen.add(outpoint.txid)
                return None
            return fate, why
        return Fate.UNRESOLVED, (
            f"its funding spends {outpoint}, which no node shows; should it appear, run "
            "`lnliquid rescue` again"
        )

    def own_txs(self) -> Iterator[OldTx]:
        """Transactions to store, parents first. Call it when every swap was chosen for."""
        for txid, raw in self._picture.own.items():
            if txid not in self._stored:
                yield from self._with_older(txid, raw, self._picture.transactions[txid])
        sendable = {txid: self._unseen[txid] for txid in self._chosen if txid not in self._stored}
        for txid in in_order(sendable, {}):
            yield from self._with_older(txid, self._journal.txs[txid].raw, sendable[txid])

    def _with_older(self, txid: str, raw: bytes, transaction: tx.Transaction) -> Iterator[OldTx]:
        """A transaction after those that it replaced, which may still confirm in its place."""
        line = self._journal.txs.get(txid)
        older = line.replaces if line is not None else None
        known = older is not None and older in self._stored
        if older is not None and older in self._unseen and not known:
            replaced = self._journal.txs[older]
            for old in self._with_older(older, replaced.raw, self._unseen[older]):
                yield old if old.txid != older else _as(old, TxState.REPLACED)
            known = True
        is_seen = txid in self._picture.transactions
        height = self._picture.heights.get(txid)
        yield OldTx(
            txid=txid,
            raw=raw,
            purpose=purpose_of(transaction),
            state=TxState.SIGNED if height is None else TxState.CONFIRMED,
            fee_sats=transaction.fee_sats,
            vsize=transaction.vsize,
            height=height,
            inputs=tuple(i.outpoint for i in transaction.inputs),
            replaces=older if known else None,
            own_coins=() if is_seen else tuple(self._coins(transaction)),
        )

    def _coins(self, transaction: tx.Transaction) -> Iterator[Coin]:
        for vout, output in enumerate(transaction.outputs):
            address = self._picture.addresses.get(output.script_pubkey)
            if address is not None and output.asset_id and output.value is not None:
                outpoint = Outpoint(transaction.txid, vout)
                yield Coin(outpoint, output.asset_id, output.value, *address, None)


def _as(old: OldTx, state: TxState) -> OldTx:
    return replace(old, state=state, height=None, own_coins=())


def _txid(line: Line) -> str:
    return line.swap.funding_txid or ""


def _script(line: Line) -> bytes:
    return output_script(line.swap)


def purpose_of(transaction: tx.Transaction) -> Purpose:
    """What a transaction of ours is for: HTLC outputs, HTLC inputs, or neither."""
    if any(is_htlc_like(o) for o in transaction.outputs):
        return Purpose.FUNDING
    wallet_witness = 2  # signature and key; the refund of an HTLC has four items (BIP141)
    if any(len(i.witness) != wallet_witness for i in transaction.inputs):
        return Purpose.REFUND
    return Purpose.LANES


def is_htlc_like(output: tx.TxOutput) -> bool:
    """True for an output to a script hash (P2WSH), which only HTLCs of ours are."""
    return len(output.script_pubkey) == 34 and output.script_pubkey[:2] == b"\x00\x20"
