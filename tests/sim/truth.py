"""What the store must say when nothing is under way: the truth (rules 5, 7 and 10)."""

import sqlite3
from collections.abc import Iterable

from lnliquid.domain.reconcile import MIN_INVOICE_SECS
from lnliquid.domain.swap import InvoiceMark, Outpoint, State
from lnliquid.store.tables import LIVING, PENDING, Purpose, TxState

from .books import read_branch
from .clockwork import Violation
from .ground import parsed
from .rules import Row, Rules


class Truth:
    """Compares the committed store with the world, once the daemon has nothing left to do."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._settings = rules.settings
        self._ground = rules.ground
        self._node = rules.node

    def check(self) -> None:
        """Nothing is under way and no fault left: the store must say what the world is (rule 5)."""
        self._rules.committed()
        for row in self._rules.rows.values():
            if row["state"] == State.FAILED:
                self._is_failed(row)
            elif row["finished"] and row["funding_txid"]:
                self._is_final(row)
            elif row["funding_txid"]:
                self._is_true(row)
            self._nothing_hidden_is_payable(row)
        self._coins_are_true()
        self._withdrawals_are_sent()

    def _is_failed(self, row: Row) -> None:
        """Of a swap that failed nothing is locked: else no one would take it back (rule 7)."""
        locked = [t for t in self._rules.books.fundings_of(row["swap_id"]) if self._ground.find(t)]
        if locked or not row["finished"]:
            raise Violation(7, f"swap {row['key_index']} is FAILED, its fundings: {locked}")

    def _is_final(self, row: Row) -> None:
        """What was called final is so still: a deep reorg reopens it (rule 6)."""
        self._rules.buried(row)
        state, spend_txid = self.expected(row)
        if (State(row["state"]), row["spend_txid"]) != (state, spend_txid):
            raise Violation(6, f"final swap {row['key_index']} is {state.name} on the chain")

    def _nothing_hidden_is_payable(self, row: Row) -> None:
        """Of no swap, finished ones too, is there an invoice to be paid but one that is shown."""
        is_shown = row["bolt11"] is not None and row["invoice_mark"] == InvoiceMark.ASKED
        if self._node.accepts(row["payment_hash"]) is None:
            return
        if row["state"] != State.FUNDED or not is_shown:
            name, state = f"swap {row['key_index']}", State(row["state"]).name
            raise Violation(3, f"{name} is {state} and its hidden invoice can be paid")

    def expected(self, row: Row) -> tuple[State, str | None]:
        """State and spender of a funded swap, from the chain alone."""
        spender = self._ground.spender(row["funding_txid"], row["asset_vout"])
        if spender is not None:
            witness = next(
                i.witness
                for i in spender.inputs
                if i.outpoint == (row["funding_txid"], row["asset_vout"])
            )
            branch = read_branch(witness, row["payment_hash"])
            return (State.CLAIMED if branch == "claim" else State.REFUNDED), spender.txid
        confs, needed = self._rules.confirmations(row)
        return (State.FUNDED if confs >= needed else State.CREATED), None

    def _is_true(self, row: Row) -> None:
        state, spend_txid = self.expected(row)
        name = f"swap {row['key_index']}"
        if (State(row["state"]), row["spend_txid"]) != (state, spend_txid):
            raise Violation(
                5, f"{name} is {State(row['state']).name}, the chain says {state.name} {spend_txid}"
            )
        deal = self._rules.deals.get(row["request_id"])
        is_open = self._ground.chain.tip_height >= row["refund_lock_height"]
        lost = row["invoice_mark"] == InvoiceMark.LOST
        paid = lost or bool(deal and deal.paid)
        stuck = state is State.FUNDED and is_open and paid
        if state is State.CREATED and paid:
            # While its funding may confirm again it may stay shown; once that is dead it must be.
            dead = self._rules.never(row["funding_txid"]) is not None
            stuck = dead or bool(row["paid_unclaimed"])
        if bool(row["paid_unclaimed"]) != stuck:
            raise Violation(5, f"{name}: paid_unclaimed is {row['paid_unclaimed']}, not {stuck}")
        spends = [
            self._ground.spender(row["funding_txid"], v)
            for v in (row["asset_vout"], row["subsidy_vout"])
        ]
        if all(s and self._ground.confirmations(s.txid) >= self._settings.final_confs
               for s in spends):  # fmt: skip
            raise Violation(5, f"{name} is final on the chain and not finished")
        record = self._node.book.with_label(row["swap_id"])
        if state is State.CREATED and record is not None and record.status == "unpaid":
            raise Violation(3, f"{name} is CREATED and its invoice can be paid")
        if state is State.FUNDED and not (lost or (deal and deal.paid)):
            self._is_moving(row, name)

    def _is_moving(self, row: Row, name: str) -> None:
        """A lock that nobody paid for waits for its height with an invoice, then is refunded."""
        lock_height, height = row["refund_lock_height"], self._ground.chain.tip_height
        if height >= lock_height:
            if not self._is_outbid(row):
                raise Violation(10, f"{name} can be refunded and is not")
            return
        lifetime = self._settings.timelocks.invoice_lifetime_secs(height, lock_height)
        record = self._node.book.with_label(row["swap_id"])
        missing = record is None or (record.status == "unpaid" and row["bolt11"] != record.bolt11)
        if lifetime >= MIN_INVOICE_SECS and row["invoice_mark"] <= InvoiceMark.ASKED and missing:
            raise Violation(10, f"{name} is FUNDED and has no invoice")

    def _is_outbid(self, row: Row) -> bool:
        """Whether a refund of this and others is signed, and waits until what took one is buried.

        Another wallet with the same seed refunded one of them at a higher fee.
        """
        owners = self._rules.ask(
            "SELECT raw FROM own_tx JOIN reserved_outpoint ON owner_txid = own_tx.txid "
            "WHERE live = 1 AND reserved_outpoint.txid = ? AND vout = ?",
            row["funding_txid"],
            row["asset_vout"],
        )
        rivals = (
            self._ground.spender(*txin.outpoint)
            for own in owners
            for txin in parsed(own["raw"]).inputs
        )
        return any(
            rival is not None
            and self._ground.confirmations(rival.txid) < self._settings.final_confs
            for rival in rivals
        )

    def _coins_are_true(self) -> None:
        """The stored unspent coins are those that the chain shows (rule 7 from the store)."""
        # What an abandoned one paid the wallet is kept, should it come back, and counts nowhere.
        own = {
            r["txid"]
            for r in self._rules.ask("SELECT * FROM own_tx")
            if r["state"] in LIVING
            or (r["state"] == TxState.ABANDONED and r["purpose"] != Purpose.DEPOSIT)
        }
        stored = {
            (r["txid"], r["vout"]): (r["asset_id"], r["value"])
            for r in self._rules.ask("SELECT * FROM coin WHERE spent_txid IS NULL")
            if self._ground.find(r["txid"]) or r["txid"] not in own
        }
        shown = {
            (c.txid, c.vout): (c.asset, c.value)
            for scripthash in self._rules.books.wallet.scripts.values()
            for c in self._ground.chain.unspent(scripthash)
        }
        if stored != shown:
            only_stored, only_shown = stored.items() - shown.items(), shown.items() - stored.items()
            raise Violation(7, f"coins only stored: {only_stored}; only on chain: {only_shown}")

    def _withdrawals_are_sent(self) -> None:
        """What was promised is on its way as soon as the chain would take one of its versions."""
        chain, withdrawals = self._ground.chain, self._rules.books.withdrawals
        query = (
            "SELECT request_id, txid FROM withdrawal "
            "JOIN own_tx ON own_tx.family = withdrawal.family"
        )
        for row in self._rules.ask(query):
            withdrawals.ordered[row["request_id"]].txids.add(row["txid"])
        withdrawals.at_rest(lambda txid: chain.test_accept(self._rules.raws[txid]).allowed)

    def nothing_is_frozen(self, available: Iterable[Outpoint]) -> None:
        """After a long quiet time every coin is available, and all business is done (rule 7).

        What was paid and not claimed is with the operator. `available`: the coins that the store
        would spend now.
        """
        frozen = [
            f"{Purpose(own['purpose']).name} {own['txid'][:8]} is signed and confirms never"
            for own in self._rules.ask("SELECT * FROM own_tx")
            if own["state"] in PENDING
        ]
        for row in self._rules.rows.values():
            name, state = f"swap {row['key_index']}", State(row["state"])
            if not row["finished"] and not row["paid_unclaimed"]:
                frozen.append(f"{name} is {state.name} for ever")
        spendable = {(o.txid, o.vout) for o in available}
        frozen += [
            f"{coin.value} of {coin.asset[:4]} in {coin.txid[:8]}:{coin.vout} is not available"
            for scripthash in self._rules.books.wallet.scripts.values()
            for coin in self._ground.chain.unspent(scripthash)
            if (coin.txid, coin.vout) not in spendable
        ]
        if frozen:
            raise Violation(7, "frozen: " + "; ".join(frozen))

    def available_can_confirm(self, available: Iterable[Outpoint]) -> None:
        """No coin counts as available that can never be (rule 7)."""
        for outpoint in available:
            why = self._rules.never(outpoint.txid)
            if why:
                raise Violation(7, f"{outpoint} is available and can never be: {why}")

    def owner_is_unique(self) -> None:
        """Rule 2 by the constraint alone: a second live owner of an outpoint is refused."""
        [*live] = self._rules.ask("SELECT txid, vout FROM reserved_outpoint WHERE live = 1 LIMIT 1")
        if not live:
            return
        try:
            self._rules.store.execute(
                "INSERT INTO reserved_outpoint (txid, vout, owner_txid, live) VALUES (?, ?, ?, 1)",
                (live[0]["txid"], live[0]["vout"], "ff" * 32),
            )
        except sqlite3.IntegrityError:
            return
        finally:
            self._rules.store.rollback()
        raise Violation(2, "the store takes a second live owner of an outpoint")

    def survey(self) -> list[str]:
        """What the store holds and what the chain says to it, for a report."""
        chain = self._ground.chain
        lines = [f"the chain is at {chain.tip_height}"]
        for row in self._rules.rows.values():
            if not row["finished"]:
                told = (State(row["state"]).name, InvoiceMark(row["invoice_mark"]).name)
                lines.append(
                    f"swap {row['key_index']}: {told}, funding {str(row['funding_txid'])[:8]}, "
                    f"lock height {row['refund_lock_height']}, {self._rules.confirmations(row)}"
                )
        for own in self._rules.ask("SELECT * FROM own_tx ORDER BY rowid"):
            if own["state"] in PENDING or self._ground.confirmations(own["txid"]) < 3:
                spends = [f"{i.outpoint[0][:8]}:{i.outpoint[1]}" for i in parsed(own["raw"]).inputs]
                lines.append(
                    f"{Purpose(own['purpose']).name} {own['txid'][:8]}, "
                    f"{TxState(own['state']).name}, replaces {str(own['replaces'])[:8]}, "
                    f"spends {spends}, confirmations {self._ground.confirmations(own['txid'])}, "
                    f"now: {chain.test_accept(own['raw']).reject_reason}"
                )
        return lines
