"""The money rules of the design (section 1), checked against the world and the committed store.

Nothing here believes the daemon: the chain and Lightning are asked themselves, and the store is
read over a connection of its own, which sees only what is committed.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from lnliquid.config import Settings
from lnliquid.domain import htlc
from lnliquid.domain.swap import State
from lnliquid.domain.terms import total_price_msat
from lnliquid.store.tables import Purpose

from .books import Books, Locked, Wallet
from .buyers import Deal
from .chain_side import Server
from .clockwork import Violation
from .coverage import Coverage
from .daemon import SimKeychain
from .ground import ASSET, LBTC, Ground, parsed
from .lightning_side import Node

Row = dict[str, Any]


class Rules:
    """Checks at each commit, each broadcast, each invoice and after each step."""

    def __init__(
        self,
        settings: Settings,
        ground: Ground,
        server: Server,
        node: Node,
        keys: SimKeychain,
        deals: Mapping[str, Deal],
    ) -> None:
        self.settings = settings
        self.ground = ground
        self.server = server
        self.node = node
        self.coverage = Coverage()
        self._keys = keys
        self.deals = deals
        self._path = settings.database
        self.open()
        self._version = -1
        self.books = Books(ground, Wallet(keys))
        self.rows: dict[str, Row] = {}
        """Every swap as committed, by id."""
        self._told: dict[str, tuple[tuple[Any, ...], Row]] = {}
        self.refunding: set[str] = set()
        """Swaps for whose asset output a refund was signed."""
        self._burials: dict[str, set[str]] = {}
        """Of each final swap the blocks that hold its spends, by hash."""
        self.raws: dict[str, bytes] = {}
        """Bytes of every transaction that was ever stored, by txid."""
        self.secrets: dict[str, str] = {}
        """Preimages in hex, with whose they are."""
        self._unsubscribe = ground.chain.subscribe(self._moved)
        self._moves, self._moves_checked = 1, 0
        self.problem: Violation | None = None

    def open(self) -> None:
        """Read the file that is the database now."""
        self.store = sqlite3.connect(self._path)
        self.store.row_factory = sqlite3.Row

    def close(self) -> None:
        """Let go of file and chain."""
        self._unsubscribe()
        self.store.close()

    def _moved(self, _event: object) -> None:
        self._moves += 1

    def ask(self, query: str, *values: object) -> list[Row]:
        """Rows of the store, as committed."""
        return [dict(row) for row in self.store.execute(query, values)]

    def name_of(self, swap_id: str) -> object:
        """A name for a swap that is the same in every replay."""
        row = self.rows.get(swap_id)
        return row["key_index"] if row else ""

    def guarded(self, check: Callable[..., None]) -> Callable[..., None]:
        """The same check, its finding kept too: the daemon might catch what it raises."""

        def run(*arguments: Any) -> None:
            try:
                check(*arguments)
            except Violation as found:
                self.problem = self.problem or found
                raise

        return run

    def _commits(self) -> int:
        """A number that changes with every commit of the daemon."""
        return int(self.store.execute("PRAGMA data_version").fetchone()[0])

    def stamp(self) -> tuple[int, int]:
        """Changes with every commit of the daemon, and whenever the chain or its mempool does."""
        return self._commits(), self._moves

    # ---- at a commit

    def committed(self) -> None:
        """Something may have been committed: what changed must be true of the world now."""
        version = self._commits()
        if version == self._version:
            return
        self._version = version
        before, self.rows = self.rows, self._read_swaps()
        self._new_own_txs()
        for swap_id, row in self.rows.items():
            old = before.get(swap_id)
            if old is row:
                continue
            if old is None:
                preimage = self._keys.preimage(row["key_index"], swap_id)
                self.secrets[preimage.hex()] = f"the preimage of swap {row['key_index']}"
            self._changed(old, row)
        if len({r["request_id"] for r in self.rows.values()}) != len(self.rows):
            raise Violation(8, "two swaps have one request id")
        twice = self.ask(
            "SELECT txid, vout FROM reserved_outpoint WHERE live = 1 "
            "GROUP BY txid, vout HAVING count(*) > 1"
        )
        if twice:
            raise Violation(2, f"{twice[0]} has two live owners")
        outputs = [
            (r["funding_txid"], vout)
            for r in self.rows.values()
            if r["funding_txid"]
            for vout in (r["asset_vout"], r["subsidy_vout"])
        ]
        if len(set(outputs)) != len(outputs):
            raise Violation(2, "one output belongs to two swaps")

    def _read_swaps(self) -> dict[str, Row]:
        """All rows by swap id; a row that did not change stays the very same object."""
        query = self.store.execute("SELECT * FROM swap")
        names = [column[0] for column in query.description]
        id_at = names.index("swap_id")
        found: dict[str, Row] = {}
        for values in map(tuple, query):
            swap_id = values[id_at]
            known = self._told.get(swap_id)
            if known is None or known[0] != values:
                known = self._told[swap_id] = (values, dict(zip(names, values, strict=True)))
            found[swap_id] = known[1]
        return found

    def _price_counted(self, row: Row) -> None:
        """A new swap has a price that stood when it was made, and its buyer's cap is kept."""
        settings, amount = self.settings, row["asset_amount"]
        newest = self.ask("SELECT * FROM price ORDER BY seq DESC LIMIT 2")
        prices = [
            p["msat_per_unit"] or settings.price_msat_per_asset_unit
            for p in newest
            if p["valid_until"] is None or row["created_at"] < p["valid_until"]
        ]
        if len(newest) < 2:  # one of the two may have come with the very same commit
            prices.append(settings.price_msat_per_asset_unit)
        totals = {total_price_msat(amount, p, settings.asset_precision) for p in prices}
        if row["total_price_msat"] not in totals:
            name = f"swap {row['key_index']}"
            raise Violation(8, f"{name} costs {row['total_price_msat']}, and not one of {totals}")
        if row["total_price_msat"] > row["max_total_price_msat"]:
            raise Violation(8, f"swap {row['key_index']} costs more than its buyer's cap")

    def _blocks_at(self, heights: set[int], decided_at: int) -> set[str]:
        """Nothing but a reorg of one of these blocks may open what became final on them again.

        Those of the chain now, and the one that the daemon decided on: that may be replaced by now.
        """
        remembered = self.ask("SELECT block_id FROM block WHERE height = ?", decided_at)
        now = {self.ground.chain.block_hash(height) for height in heights}
        return now | {row["block_id"] for row in remembered}

    def _changed(self, old: Row | None, row: Row) -> None:
        state, name = State(row["state"]), f"swap {row['key_index']}"
        if old is None:
            self._price_counted(row)
        if state is State.FUNDED and (old is None or old["state"] != row["state"]):
            confs, needed = self.confirmations(row)
            if confs < needed:
                raise Violation(3, f"{name} is FUNDED with {confs} of {needed} confirmations")
        if row["finished"] and not (old and old["finished"]):
            if state is State.FAILED:
                if any(self.ground.find(t) for t in self.books.fundings_of(row["swap_id"])):
                    raise Violation(6, f"{name} is FAILED and its funding exists")
                buried = {self.ground.chain.tip_height - self.settings.final_confs + 1}
                self._burials[row["swap_id"]] = self._blocks_at(buried, row["final_height"])
                return
            # A server that lies may have told another height; a reorg of that block opens it too.
            told = {min(row["final_height"], self.ground.chain.tip_height)}
            blocks = self._blocks_at(told, row["final_height"])
            self._burials[row["swap_id"]] = self.buried(row) | blocks
        elif old and old["finished"] and not row["finished"]:
            blocks = self._burials[row["swap_id"]]
            if all(self.ground.chain.block_height(block) is not None for block in blocks):
                raise Violation(6, f"{name} was finished and is not any more, its blocks stand")

    def buried(self, row: Row) -> set[str]:
        """The blocks that a final swap's spends are in. Each must be deep enough (rule 6)."""
        blocks: set[str] = set()
        for vout in (row["asset_vout"], row["subsidy_vout"]):
            spender = self.ground.spender(row["funding_txid"], vout)
            confs = self.ground.confirmations(spender.txid) if spender else 0
            if confs < self.settings.final_confs:
                name = f"swap {row['key_index']}"
                raise Violation(6, f"{name} is finished, a spend has {confs} confirmations")
            blocks.add(self.ground.chain.block_hash(self.ground.chain.tip_height - confs + 1))
        return blocks

    def confirmations(self, row: Row) -> tuple[int, int]:
        """Confirmations that a swap's funding has, and needs."""
        needed = max(row["min_funding_confs"], self.settings.funding_confs)
        txid = row["funding_txid"]
        return (self.ground.confirmations(txid) if txid else 0), needed

    def _new_own_txs(self) -> None:
        for own in self.ask("SELECT txid, raw, purpose, replaces FROM own_tx"):
            known = self.raws.get(own["txid"])
            if known is not None:
                if known != own["raw"]:
                    raise Violation(1, f"the stored bytes of {own['txid']} were changed")
                continue
            self.raws[own["txid"]] = own["raw"]
            self.coverage.own("bumped" if own["replaces"] else "signed", own["txid"])
            if own["purpose"] == Purpose.REFUND:
                self._refund_signed(own)
        cursor = self.ask("SELECT value FROM cursor WHERE name = 'next_change_index'")
        self.books.wallet.extend(cursor[0]["value"] if cursor else 0)

    def _refund_signed(self, own: Row) -> None:
        """Money rule 4 at the moment of signing."""
        tx = parsed(own["raw"])
        height = self.ground.chain.tip_height
        for txin in tx.inputs:
            lock = self.books.locked.get(txin.outpoint)
            if lock is None:
                continue
            row = self.rows[lock.swap_id]
            name = f"swap {row['key_index']}"
            self.coverage.swap("refund signed", lock.swap_id)
            if height < lock.lock_height:
                raise Violation(4, f"{name}: refund signed at {height}, before {lock.lock_height}")
            spender = self.ground.spender(*txin.outpoint)
            is_shown = spender is not None and self._is_shown(spender.txid)
            if spender is not None and is_shown and self.books.is_claim(spender, txin.outpoint):
                raise Violation(4, f"{name}: refund signed against a claim that is known")
            if txin.outpoint != (row["funding_txid"], row["asset_vout"]):
                continue
            self.refunding.add(lock.swap_id)
            deal = self.deals.get(row["request_id"])
            if deal is not None and deal.paid and row["forced_refund_reason"] is None:
                raise Violation(4, f"{name}: refund signed though it is paid")
            record = self.node.book.with_label(lock.swap_id)
            if record is not None and row["forced_refund_reason"] is None:
                raise Violation(4, f"{name}: refund signed, its invoice is {record.status}")

    def _is_shown(self, txid: str) -> bool:
        """Whether the server lets the daemon know of it: it does not lie, and is not behind."""
        found, behind = self.ground.find(txid), self.server.behind
        if found is None or txid in self.server.lied:
            return False
        return behind is None or (found[1] is not None and found[1] <= behind)

    # ---- at a broadcast, at an invoice

    def broadcasting(self, raw: bytes) -> None:
        """The daemon sends this: its bytes must be committed, its outputs known (rules 1, 7)."""
        tx = parsed(raw)
        stored = self.ask("SELECT raw, purpose FROM own_tx WHERE txid = ?", tx.txid)
        if not stored or stored[0]["raw"] != raw:
            raise Violation(1, f"{tx.txid} is sent, its bytes are not committed")
        if stored[0]["purpose"] == Purpose.DEPOSIT:
            return  # others made it; it is sent again as it was
        scripts = []
        if stored[0]["purpose"] == Purpose.FUNDING and tx.txid not in self.books.sent:
            for row in self.rows.values():
                if row["funding_txid"] == tx.txid:
                    scripts.append(self._lock(row))
        scripts += [lock.script for o, lock in self.books.locked.items() if o[0] == tx.txid]
        if stored[0]["purpose"] == Purpose.WITHDRAWAL:
            scripts += self.books.withdrawals.scripts
        self.books.all_known(tx, scripts)
        self.books.sent[tx.txid] = tx

    def _lock(self, row: Row) -> bytes:
        """Note the HTLC outputs of a funding, after looking that they are what they must be."""
        script = htlc.output_script(
            htlc.witness_script(
                row["payment_hash"],
                row["buyer_key_hash"],
                row["seller_key_hash"],
                row["refund_lock_height"],
            )
        )
        tx = parsed(self.raws[row["funding_txid"]])
        for vout, asset, value in (
            (row["asset_vout"], ASSET, row["asset_amount"]),
            (row["subsidy_vout"], LBTC, row["subsidy_sats"]),
        ):
            out = tx.outputs[vout]
            if (out.asset, out.value, out.script) != (asset, value, script):
                raise Violation(2, f"output {vout} of {tx.txid} is not that of its swap")
            self.books.locked[tx.txid, vout] = Locked(
                row["swap_id"], asset, value, script, row["refund_lock_height"], row["payment_hash"]
            )
        return script

    def making(self, label: str) -> None:
        """The daemon asks for an invoice: the lock must be confirmed now (rule 3)."""
        row = self.rows[label]
        confs, needed = self.confirmations(row)
        if confs < needed:
            raise Violation(
                3, f"swap {row['key_index']}: invoice at {confs} of {needed} confirmations"
            )
        if label in self.refunding:
            raise Violation(4, f"swap {row['key_index']}: invoice made after a refund was signed")

    # ---- after a step

    def after_step(self, logs: list[str], messages: Mapping[str, bytes]) -> None:
        """What must hold at any time. `messages`: API answers of this step, by swap id."""
        if self.problem is not None:
            raise self.problem
        self.committed()
        self._paid_and_refunded()
        if self._moves_checked != self._moves:
            self._moves_checked = self._moves
            self._one_lock_each()
            self.books.balance()
            self.books.withdrawals.check()
        for line in logs:
            self._no_secret(line)
        for swap_id, message in messages.items():
            secret = self._keys.preimage(self.rows[swap_id]["key_index"], swap_id)
            if secret in message or secret.hex().encode() in message:
                raise Violation(9, "an API message holds a preimage")

    def _no_secret(self, line: str) -> None:
        for word in re.findall("[0-9a-f]{64}", line.lower()):
            if word in self.secrets:
                raise Violation(9, f"a log line holds {self.secrets[word]}")
        if "abandon abandon" in line:
            raise Violation(9, "a log line holds the mnemonic")

    def _paid_and_refunded(self) -> None:
        for deal in self.deals.values():
            row = self.rows.get(deal.swap_id or "")
            if row is None or not row["funding_txid"] or row["forced_refund_reason"] is not None:
                continue
            name = f"swap {row['key_index']}"
            if row["swap_id"] in self.refunding and deal.shown:
                record = self.node.book.with_label(row["swap_id"])
                if record is not None and record.status == "unpaid":
                    raise Violation(4, f"{name} can be paid and a refund of it is signed")
            if deal.paid:
                spender = self.ground.spender(row["funding_txid"], row["asset_vout"])
                outpoint = (row["funding_txid"], row["asset_vout"])
                if spender and not self.books.is_claim(spender, outpoint):
                    raise Violation(4, f"{name} is paid and refunded")

    def never(self, txid: str) -> str | None:
        """Why a transaction can never confirm without a deep reorg; None while it may."""
        if self.ground.find(txid) is not None:
            return None
        deposits = {d.txid: d.raw for d in self.ground.deposits}
        raw = self.raws.get(txid) or deposits.get(txid)
        if raw is None:
            return f"{txid[:8]} does not exist"
        for txin in parsed(raw).inputs:
            spender = self.ground.spender(*txin.outpoint)
            if spender is not None:
                if self.ground.confirmations(spender.txid) >= self.settings.final_confs:
                    return f"an input of {txid[:8]} is spent by {spender.txid[:8]}, buried"
            elif self.ground.chain.coin(*txin.outpoint) is None:
                why = self.never(txin.outpoint[0])
                if why:
                    return why
        return None

    def _one_lock_each(self) -> None:
        for swap_id in {lock.swap_id for lock in self.books.locked.values()}:
            alive = [t for t in self.books.fundings_of(swap_id) if self.ground.find(t)]
            if len(alive) > 1:
                raise Violation(2, f"{self.name_of(swap_id)} is locked twice: {alive}")
