"""Which funding of a swap counts, and which of our transactions a rescue stores. Pure.

A journal names every funding that was ever signed for a swap: one that was never stored, one that
was given up, and the dearer one that replaced it. At most one of them can hold the coins.
"""

from collections.abc import Iterator, Sequence
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
from lnliquid.swap import Coin, Outpoint, Swap


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
        confirmed_last = sorted(picture.transactions, key=lambda t: picture.heights[t] is not None)
        self._spenders = {
            i.outpoint: txid for txid in confirmed_last for i in picture.transactions[txid].inputs
        }
        self._seen = {t for t in picture.transactions if not self._is_outdone(t)}
        self._unseen = {
            txid: self._parsed(txid, stored.raw)
            for txid, stored in journal.txs.items()
            if txid not in self._seen
        }
        self._built_on = {b.outpoint.txid for b in store.bindings if b.live}
        self._built_on |= {o.txid for o, spender in self._spenders.items() if spender in self._seen}
        self._void = {txid for txid in self._unseen if self._is_void(txid)}
        self._lines = {
            swap_id: tuple(line for line in lines if _txid(line) not in self._void) or lines
            for swap_id, lines in journal.lines.items()
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

    def _is_outdone(self, txid: str) -> bool:
        """True for what a lagging mempool still shows while a block holds a rival of it."""
        spends = self._picture.transactions[txid].inputs
        rivals = {self._spenders[i.outpoint] for i in spends} - {txid}
        heights = self._picture.heights
        return heights[txid] is None and any(heights[r] is not None for r in rivals)

    def _is_void(self, txid: str) -> bool:
        """True for a replacement that was journaled and never stored.

        What it was to replace was built on afterwards, and nothing is built on what was replaced.
        """
        older = self._journal.txs[txid].replaces
        if older is None:
            return False
        later = (self._transaction(other) for other in self._later(txid))
        return older in self._built_on or any(
            i.outpoint.txid == older for t in later for i in t.inputs
        )

    def _later(self, txid: str) -> list[str]:
        """The fundings that were journaled after this one."""
        names = list(self._journal.txs)
        return names[names.index(txid) + 1 :]

    def _transaction(self, txid: str) -> tx.Transaction:
        return self._unseen.get(txid) or self._picture.transactions[txid]

    def _replaced_by(self, txid: str) -> set[str]:
        """All that this funding replaced, back to the first."""
        older: set[str] = set()
        line = self._journal.txs.get(txid)
        while line is not None and line.replaces is not None and line.replaces not in older:
            older.add(line.replaces)
            line = self._journal.txs.get(line.replaces)
        return older

    def choose(self, swap_id: str) -> Choice:
        """The funding that counts. Raises `JournalMismatch` when it does not pay the swap."""
        lines = self._journal.lines[swap_id]
        refused = [s for s in map(_script, lines) if s in self._picture.refused]
        if refused:
            why = f"its history cannot be read: {self._picture.refused[refused[0]]}"
            return Choice(Fate.UNRESOLVED, None, why)
        seen = [line for line in lines if _txid(line) in self._seen]
        for line in seen:
            self._check(line, self._picture.transactions[_txid(line)])
        newest = self._lines[swap_id][-1]
        row = self._rows.get(swap_id)
        if seen:
            # A confirmed one before one of the mempool, which cannot confirm beside it.
            best = max(seen, key=lambda line: self._picture.heights[_txid(line)] is not None)
            several = len({_txid(line) for line in seen}) > 1
            if not several and self._picture.heights[_txid(best)] is None:
                better = self._replacement(best, newest, row, lines)
                if better is not None:
                    return better
            return Choice(Fate.SEEN, best, "it was funded more than once" if several else "")
        if row is not None and self._is_living(row.funding_txid):
            if row.funding_txid == _txid(newest):
                return Choice(Fate.STORED, newest, "")
            if all(_txid(line) != row.funding_txid for line in lines):
                return Choice(Fate.STORED, None, "")  # the journal is the one that is behind
        fate, why = self._fate_of(_txid(newest))
        if fate is not Fate.SENDABLE:
            return Choice(fate, newest if fate is Fate.NEVER else None, why)
        self._check(newest, self._unseen[_txid(newest)])
        self._chosen.add(_txid(newest))
        return Choice(fate, newest, "")

    def _replacement(
        self, best: Line, newest: Line, row: Swap | None, lines: Sequence[Line]
    ) -> Choice | None:
        """The dearer funding that is to replace this one of the mempool, None when there is none.

        The daemon sends it and knows both from then on, so that either may confirm.
        """
        if row is not None and (row.finished or _txid(best) == row.funding_txid):
            return None
        older = self._stored.get(_txid(best))
        if row is not None and older is not None and older.state is TxState.REPLACED:
            stored = (line for line in lines if _txid(line) == row.funding_txid)
            return Choice(Fate.STORED, next(stored, None), "")
        if _txid(best) not in self._replaced_by(_txid(newest)):
            return None
        fate, why = self._fate_of(_txid(newest))
        if fate is not Fate.SENDABLE:
            return None
        self._check(newest, self._unseen[_txid(newest)])
        self._chosen.add(_txid(newest))
        return Choice(fate, newest, why)

    def _is_living(self, txid: str | None) -> bool:
        own = self._stored.get(txid or "")
        return own is not None and own.is_living

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
        for swap_id, found in self._lines.items():
            if all(_txid(line) != txid for line in found):
                continue
            if _txid(found[-1]) != txid:
                return Fate.NEVER, "its funding was never sent: another was signed after it"
            row = self._rows.get(swap_id)
            if row is not None and row.finished and row.funding_txid != txid:
                return Fate.NEVER, f"its funding was never sent: swap {swap_id} ended without it"
        inputs = {i.outpoint for i in transaction.inputs}
        for other in self._later(txid):
            spent = {i.outpoint for i in self._transaction(other).inputs}
            if other not in self._void and inputs & spent:
                return Fate.NEVER, f"its coins went into the later funding {other}"
        for outpoint in sorted(inputs):
            problem = self._problem_of(txid, outpoint)
            if problem is not None:
                return problem
        return Fate.SENDABLE, ""

    def _problem_of(self, txid: str, outpoint: Outpoint) -> tuple[Fate, str] | None:
        """Why this funding cannot spend this input any more, None when it can."""
        rival = self._spenders.get(outpoint)
        if rival is not None:
            height = self._picture.heights.get(rival)
            if height is None and rival in self._replaced_by(txid):
                return None
            if confirmations(height, self._picture.tip) >= self._policy.final_confs:
                return Fate.NEVER, f"its funding cannot confirm: {rival} spent {outpoint}"
            return Fate.UNRESOLVED, (
                f"{rival} spends its input {outpoint} and is not buried; run `lnliquid rescue` "
                "again after some blocks"
            )
        if outpoint.txid in self._seen:
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
        seen = [t for t in self._picture.own if t in self._seen]
        sendable = {t: self._unseen[t] for t in self._chosen if t not in self._stored}
        replaced = set[str]().union(*map(self._replaced_by, (*seen, *sendable)))
        told: set[str] = set()
        for txid in (*seen, *in_order(sendable, {})):
            if txid not in self._stored and txid not in replaced:
                for old in self._with_older(txid):
                    if old.txid not in told:
                        told.add(old.txid)
                        yield old

    def _with_older(self, txid: str) -> Iterator[OldTx]:
        """A transaction after those that it replaced, which may still confirm in its place."""
        transaction = self._transaction(txid)
        line = self._journal.txs.get(txid)
        older = line.replaces if line is not None else None
        known = older is not None and older in self._stored
        if (
            older is not None
            and not known
            and (older in self._unseen or older in self._picture.own)
        ):
            for old in self._with_older(older):
                yield old if old.txid != older else _as(old, TxState.REPLACED)
            known = True
        is_seen = txid in self._seen
        height = self._picture.heights.get(txid)
        yield OldTx(
            txid=txid,
            raw=line.raw if line is not None else self._picture.own[txid],
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
