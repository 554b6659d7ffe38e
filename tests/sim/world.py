"""Everything there is: chain, Lightning, buyers, the daemon, its log, and who watches it."""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.nodes.embedded.txmodel import Tx
from lnliquid.domain import htlc
from lnliquid.domain.timelock import LIQUID_BLOCK_SECS
from lnliquid.liquid.keys import RECEIVE
from lnliquid.liquid.networks import REGTEST
from lnliquid.log import configure_log
from lnliquid.store import swaps as swap_store
from lnliquid.store.restore import restore

from . import buyers, foreign
from .buyers import Deal
from .chain_side import Server
from .clockwork import Chance, SimClock, SimLoop, Violation
from .coverage import Coverage
from .daemon import SELLER_WORDS, Daemon, Sides, SimKeychain, make_settings
from .ground import Ground, Held, nothing_held
from .lightning_side import Node
from .rules import Rules
from .store_side import Disk

DEFECTS = ("swap cannot be judged", "watching failed", "funding failed", "payments failed")
"""Log lines that say that the program itself is wrong."""
MEDDLES_A_STEP = 2
HIGHEST_CLAIM_RATE = 1_000
"""sat/kvB; what the subsidy pays for."""
REORGS = {"tip": 0.015, "histories answered": 0.02}
"""How likely a reorg comes just then."""


class LogLines:
    """What the daemon wrote to its log, taken line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.recent: deque[str] = deque(maxlen=25)

    def __call__(self, *_: object) -> "LogLines":
        """A logger factory that always gives this logger."""
        return self

    def msg(self, line: str) -> None:
        """Take a line."""
        self.lines.append(line)
        self.recent.append(line)

    log = debug = info = warning = warn = error = critical = exception = fatal = msg

    def take(self) -> list[str]:
        """The lines since the last time."""
        lines, self.lines = self.lines, []
        return lines


@contextlib.contextmanager
def captured_log() -> Iterator[LogLines]:
    """Configure the log as the daemon does, in JSON, and catch what it writes."""
    before = structlog.get_config()
    log = LogLines()
    configure_log("json")
    structlog.configure(logger_factory=log)
    try:
        yield log
    finally:
        structlog.configure(**before)


def _delete(database: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{database}{end}").unlink(missing_ok=True)


class World:
    """The state of one simulation. `rng` is the luck of the current step's action."""

    def __init__(self, seed: int, folder: Path, loop: SimLoop, log: LogLines) -> None:
        self.seed = seed
        self.loop = loop
        self.log = log
        self.chance = Chance(seed)
        self.rng = random.Random(seed)
        self.clock = SimClock()
        self.settings = make_settings(folder, seed)
        self.keys = SimKeychain(SELLER_WORDS, REGTEST)
        self.ground = Ground(self.clock.true, self.pass_time, LIQUID_BLOCK_SECS)
        self.server = Server()
        self.node = Node(lambda: self.ground.chain.tip_height, self.clock.true, self.pass_time)
        self.disk = Disk()
        self.deals: dict[str, Deal] = {}
        """By request id."""
        self.coverage = Coverage()
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.quiet = False
        """True while nothing but the daemon itself may move."""
        self._meddled = 0
        self._daemon: Daemon | None = None
        self._rules: Rules | None = None
        self._shown: dict[str, Any] = {}

    @property
    def daemon(self) -> Daemon:
        """The running daemon."""
        assert self._daemon is not None, "started before anything is done"
        return self._daemon

    @property
    def rules(self) -> Rules:
        """The watchers of the money rules."""
        assert self._rules is not None, "made with the first daemon"
        return self._rules

    # ---- life

    def start(self) -> None:
        """Start the daemon on what the disk holds."""
        self._daemon = Daemon(
            Sides(
                self.ground,
                self.server,
                self.node,
                self.disk,
                self.clock,
                self.chance,
                self.keys,
                self.settings,
                committed=lambda: self._guard("committed"),
                broadcasting=lambda raw: self._guard("broadcasting", raw),
                making=lambda label: self._guard("making", label),
                chain_meddle=self._chain_meddle,
                lightning_meddle=self._lightning_meddle,
                name_of=lambda label: self._rules.name_of(label) if self._rules else "",
                coverage=self.coverage,
            )
        )
        if self._rules is None:
            self._rules = Rules(
                self.settings, self.ground, self.server, self.node, self.keys, self.deals
            )
            self._rules.coverage = self.coverage.follow(self._rules)

    def _guard(self, check: str, *arguments: Any) -> None:
        if self._rules is not None:
            self._rules.guarded(getattr(self._rules, check))(*arguments)

    async def crash(self) -> None:
        """Kill the daemon and start it again, perhaps with one of its two files lost."""
        self.coverage.everywhere("crash")
        dead, self._daemon = self.daemon, None
        await dead.bury()
        self._lose_a_file(self.chance.number("file lost"), dead.database.replica_problem is None)
        self.start()

    def _lose_a_file(self, luck: float, is_whole: bool) -> None:
        database, replica = self.settings.database, self.settings.replica_path
        if luck < 0.1:
            self.note("    the replica is lost")
            _delete(replica)
        # One that lacks commits is no help: those were told to nobody who needs the replica.
        elif luck < 0.3 and is_whole:
            self.note("    the database is lost")
            _delete(database)
            restore(database, replica, None, self.clock.now())
            self.rules.store.close()
            self.rules.open()

    async def close(self) -> None:
        """End it all."""
        if self._daemon is not None:
            await self._daemon.bury()
        if self._rules is not None:
            self._rules.close()

    def pass_time(self, secs: float) -> None:
        """Time goes by for everybody."""
        self.clock.true_secs += secs
        self.loop.seconds += secs

    async def settle(self) -> None:
        """Let background tasks and due timers run."""
        for _ in range(6):
            await asyncio.sleep(0)

    def note(self, what: str) -> None:
        """Add to the trace."""
        self.trace.append(what)

    # ---- while the daemon reads

    def begin_step(self, step: int) -> None:
        """A new step with luck of its own."""
        self.chance.begin(step)
        self.coverage.begin_step()
        self.rng = random.Random(f"{self.seed}/{step}")
        self._meddled = 0
        self.daemon.renew_seller()

    def _meddles(self, probability: float, *name: object) -> bool:
        if (
            self.quiet
            or self._meddled >= MEDDLES_A_STEP
            or not self.chance.happens(probability, *name)
        ):
            return False
        self._meddled += 1
        return True

    def _chain_meddle(self, method: str) -> None:
        """Before a read of the watcher is answered, the world may have moved on."""
        if self._meddles(0.01, "block comes", method):
            self.note(f"    … a block comes: {method}")
            self.ground.mine()
        if self._meddles(REORGS.get(method, 0.004), "reorg comes", method):
            self.note(f"    … a reorg comes: {method}")
            self.reorg(1 + self.chance.below(3, "depth"))
        if method == "histories" and self._meddles(0.03, "claim comes"):
            self.claim_one("    … during a read: ")

    def _lightning_meddle(self, label: str) -> None:
        """Before Lightning answers about an invoice, that may have been paid."""
        deal = next((d for d in self.deals.values() if d.swap_id == label), None)
        if deal is not None and self._meddles(0.05, "payment comes", deal.number):
            self.pay(deal, "    … during a call: ", hold=False)

    # ---- buyers

    def pay(self, deal: Deal, prefix: str, *, hold: bool) -> None:
        """The buyer pays, if it would."""
        height = self.ground.chain.tip_height
        timelocks = self.settings.timelocks
        if buyers.wants_to_pay(deal, self.ground, timelocks, self.clock.true()) is None:
            return
        longest = 20 if self.chance.happens(0.2, "holds long", deal.number) else 5
        hold_blocks = 1 + self.chance.below(longest, "hold", deal.number)
        outcome = buyers.start_payment(deal, self.node, height, hold_blocks)
        if outcome == "offered" and not hold:
            outcome = self.settle_payment(deal)
        self.note(f"{prefix}{deal.name} pays: {outcome}")

    def settle_payment(self, deal: Deal) -> str:
        """A held payment is taken or goes back."""
        outcome = buyers.settle_payment(deal, self.node, self.ground.chain.tip_height)
        self.coverage.swap(f"payment {outcome}", deal.swap_id)
        if outcome == "paid" and not self.chance.happens(0.2, "payment news lost", deal.number):
            self.node.paid.set()
        return outcome

    def claim_one(self, prefix: str) -> None:
        """Some buyer who paid claims, in some way."""
        able = [d for d in self.deals.values() if d.paid and d.claims and d.outpoints]
        if not able:
            return
        deal = able[self.chance.below(len(able), "who claims")]
        outputs = ("both", "both", "both", "asset", "subsidy")[self.chance.below(5, "outputs")]
        final = not self.chance.happens(0.3, "replaceable")
        rate = max(100 + self.chance.below(400, "claim rate"), self._outbids(deal))
        raw = buyers.claim(deal, self.ground, outputs, rate, final=final)
        txid = self.ground.send(raw) if raw else None
        if txid is not None:
            self.coverage.swap("claim sent", deal.swap_id)
            deal.claim_txids.append(txid)
        kind = f"{outputs}, {'final' if final else 'replaceable'}"
        self.note(f"{prefix}{deal.name} claims {kind}: {'sent' if txid else 'refused'}")

    def _outbids(self, deal: Deal) -> int:
        """A rate above that of a refund that is in the way; 0 when there is none."""
        rivals = (self.ground.pool.spenders.get(outpoint) for outpoint in deal.outpoints or ())
        entries = [self.ground.pool.entries[txid] for txid in rivals if txid]
        rates = [entry.fee_sats * 1000 // entry.vsize for entry in entries]
        return min(max(rates) + 150, HIGHEST_CLAIM_RATE) if rates else 0

    # ---- the chain

    def reorg(self, depth: int, more: int = 0) -> int:
        """Undo blocks; each transaction in them comes back, is forgotten, or is replaced."""
        deep = depth > self.settings.final_confs
        self.coverage.everywhere("deep reorg" if deep else "shallow reorg")

        def between(gone: list[Tx]) -> None:
            for n, tx in enumerate(gone):
                luck = self.chance.number("fate", n)
                if luck < 0.55:
                    continue
                self.ground.forget(tx.txid)
                if luck < 0.8:
                    continue
                foreign.replace(self, tx)

        held: Held = nothing_held
        if self.chance.happens(0.3, "left out"):
            held = self.some_held
        return self.ground.reorg(depth, more, held, between)

    def some_held(self, txid: str) -> bool:
        """A miner's whim: about half of the mempool is left out, for this step."""
        return int(txid[:4], 16) % 2 == int(self.chance.number("whim") < 0.5)

    def deposit(self, asset: int, lbtc: int) -> str | None:
        """The operator pays into the wallet."""
        index = len(self.ground.deposits) % 50
        script = htlc.p2wpkh_script(self.keys.wallet_key(RECEIVE, index).key_hash)
        return self.ground.deposit(script, asset, lbtc)

    # ---- after each step

    def messages(self) -> dict[str, bytes]:
        """API messages of the swaps that changed, as bytes. Rule 3: no invoice before FUNDED."""
        found: dict[str, bytes] = {}
        for swap_id, row in self.rules.rows.items():
            if self._shown.get(swap_id) is row:
                continue
            self._shown[swap_id] = row
            swap = self.daemon.database.look(lambda s, i=swap_id: swap_store.get(s, i))  # type: ignore[misc]
            assert swap is not None, "its row was just read"
            message = buyers.shown(swap)
            if message.state == pb.SwapState.SWAP_STATE_CREATED and message.bolt11:
                raise Violation(3, f"the API shows an invoice of swap {row['key_index']}, CREATED")
            found[swap_id] = message.SerializeToString() + str(message).encode()
        return found

    def check(self) -> None:
        """Every money rule, now."""
        lines = self.log.take()
        for line in lines:
            if any(defect in line for defect in DEFECTS):
                raise Violation(10, f"the daemon reports a defect of its own: {line}")
        self.rules.committed()
        self.rules.after_step(lines, self.messages())
