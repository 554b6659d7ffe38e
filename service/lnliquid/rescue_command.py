"""The operator's command for a lost database: `rescue`. It runs while the daemon is stopped."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lnliquid.buyer import terminal
from lnliquid.errors import SettingsError, StoreFailure
from lnliquid.lightning.cln import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import CHANGE, Keychain, read_mnemonic, require_native_secp256k1
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.operator_options import ConfigOption, JsonOption
from lnliquid.seller import identity
from lnliquid.seller.inventory import NEXT_INDEX
from lnliquid.seller.journal import archive_of
from lnliquid.seller.readiness import LIGHTNING_NETWORKS
from lnliquid.seller.reconcile import Policy
from lnliquid.seller.rescue import RescuePlan, plan_rescue
from lnliquid.seller.rescue_lines import JournalFacts, JournalMismatch, read_journal
from lnliquid.seller.rescue_reading import RescuePicture, read_rescue
from lnliquid.settings import Settings, load_settings
from lnliquid.store import rebuild
from lnliquid.store import swaps as swap_store
from lnliquid.store.process import MachineClock, only_process, opened
from lnliquid.store.sqlite import Transaction
from lnliquid.store.survey import StoreFacts, survey

EXIT_NEEDS_OPERATOR = 1

EPILOG = """\b
Example:
  lnliquid rescue --config seller.toml --dry-run

\b
Exit codes:
  0  every swap of the journal is in the database, the daemon can go on
  1  the same, but some swaps need the operator; they are named
  2  wrong usage or settings, the daemon runs, or the journal is of another mnemonic or network
  3  the Electrum server or the Lightning node cannot be reached"""


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    cli.command("rescue", epilog=EPILOG, rich_help_panel="Operator")(rescue)


def rescue(
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a lost database, or bring an older copy up to date, while the daemon is stopped.

    From the mnemonic, the rescue journal, the chain and Core Lightning. Nothing is written when the
    journal does not belong to mnemonic and network. Doing it again changes nothing.
    """
    terminal.quiet_log()
    with terminal.clean_errors(as_json):
        settings = load_settings(config)
        require_native_secp256k1()
        keys = Keychain(read_mnemonic(settings.mnemonic_file), NETWORKS_BY_NAME[settings.network])
        try:
            journal = _journal(settings, keys)
            with only_process(settings.database, settings.mnemonic_file):
                facts = _survey(settings, keys)
                plan, picture = asyncio.run(_plan(settings, keys, journal, facts))
                if not dry_run:

                    def store(session: Transaction) -> None:
                        identity.adopt(session, keys, settings)
                        apply(session, plan, picture)

                    with opened(settings.database) as database:
                        asyncio.run(database.write(store))
        except JournalMismatch as error:
            raise SettingsError(
                (f"rescue journal {settings.rescue_journal_path}: {error}",),
                hint="nothing was written; look at mnemonic_file, network and rescue_journal",
            ) from None
        except StoreFailure as error:
            raise SettingsError(
                (f"database {settings.database}: {error}",),
                hint="nothing was written; if it is damaged move it away, with -wal and -shm",
            ) from None
    if as_json:
        terminal.show_json(as_values(plan, dry_run))
    else:
        _show(plan, dry_run)
    if any(finding.needs_operator for finding in plan.findings):
        raise typer.Exit(EXIT_NEEDS_OPERATOR)


def _journal(settings: Settings, keys: Keychain) -> JournalFacts:
    path = settings.rescue_journal_path
    if not path.is_file() and not archive_of(path).is_file():
        raise SettingsError(
            (f"there is no rescue journal {path}",),
            hint="name the one that the daemon wrote as rescue_journal",
        )
    return read_journal(path, keys, settings, MachineClock().now())


def _survey(settings: Settings, keys: Keychain) -> StoreFacts:
    """What the database holds. It is read in a copy, which can be migrated without touching it.

    Raises `SettingsError` when it is of another wallet or network.
    """

    def work(session: Transaction) -> StoreFacts:
        identity.is_known(session, keys, settings)
        return survey(session)

    with _copy(settings.database) as copy:
        if copy is None:
            return StoreFacts()
        with opened(copy) as opened_copy:
            return asyncio.run(opened_copy.read(work))


@contextmanager
def _copy(database: Path) -> Iterator[Path | None]:
    log = database.with_name(database.name + "-wal")
    if not database.is_file():
        if log.exists():
            raise SettingsError(
                (f"{log} is there and the database that it belongs to is not",),
                hint="move it away; SQLite would mix it into the new database",
            )
        yield None
        return
    with TemporaryDirectory(dir=database.parent, prefix=".rescue-") as folder:
        copy = Path(folder) / database.name
        shutil.copyfile(database, copy)
        if log.exists():
            shutil.copyfile(log, copy.with_name(log.name))
        yield copy


async def _plan(
    settings: Settings, keys: Keychain, journal: JournalFacts, facts: StoreFacts
) -> tuple[RescuePlan, RescuePicture]:
    cursors = dict(facts.cursors)
    swaps = [line.swap for lines in journal.lines.values() for line in lines]
    swaps += [s for s in facts.swaps if s.funding_txid is not None and not s.finished]
    known_indexes = {b: cursors.get(name, 0) for b, name in NEXT_INDEX.items()}
    known_indexes[CHANGE] = max(known_indexes[CHANGE], journal.next_change_index)
    deadline = settings.backend_deadline_secs
    chain = ElectrumChain(settings.electrum_url, deadline_secs=deadline)
    lightning = CoreLightning(settings.lightning_rpc, deadline_secs=deadline)
    await chain.start()
    try:
        await chain.wait_connected(deadline)
        node = await lightning.info()
        if node.network not in LIGHTNING_NETWORKS[settings.network]:
            raise SettingsError(
                (f"the Lightning node is on {node.network}, not on {settings.network}'s",)
            )
        picture = await read_rescue(chain, lightning, keys, swaps, known_indexes)
    finally:
        await chain.close()
        await lightning.close()
    policy = Policy(settings.funding_confs, settings.final_confs, settings.timelocks)
    plan = plan_rescue(journal, facts, picture, policy, keys.network.policy_asset)
    return plan, picture


def apply(session: Transaction, plan: RescuePlan, picture: RescuePicture) -> None:
    """Store it all, in one transaction."""
    for own in plan.own_txs:
        rebuild.put_own_tx(session, own, picture.tip.height)
    for swap in plan.swaps:
        rebuild.put_swap(session, swap)
    swap_store.fail_held(session)
    rebuild.put_coins(session, picture.coins.items())
    for name, least in plan.cursors.items():
        rebuild.raise_cursor(session, name, least)


def as_values(plan: RescuePlan, dry_run: bool) -> dict[str, Any]:
    """The outcome as JSON."""
    return {
        "dry_run": dry_run,
        "swaps": [asdict(finding) for finding in plan.findings],
        "actions": counts(plan),
        "transactions": len(plan.own_txs),
        "needs_operator": [f.swap_id for f in plan.findings if f.needs_operator],
        "notes": list(plan.notes),
    }


def counts(plan: RescuePlan) -> dict[str, int]:
    """How many swaps were rebuilt, updated, left unchanged, left out."""
    names = ("rebuilt", "updated", "unchanged", "left out")
    return {name: sum(f.action == name for f in plan.findings) for name in names}


def _show(plan: RescuePlan, dry_run: bool) -> None:
    for finding in plan.findings:
        terminal.show(f"{finding.swap_id}  {finding.state or '-'}  {finding.action}")
        terminal.show(f"    found: {finding.found}")
        terminal.show(f"    next:  {finding.next}")
    for note in plan.notes:
        terminal.say(f"note: {note}", style="yellow")
    told = ", ".join(f"{number} {name}" for name, number in counts(plan).items() if number)
    terminal.show(f"{len(plan.findings)} swaps in the journal: {told or 'nothing to do'}")
    needing = sum(finding.needs_operator for finding in plan.findings)
    if needing:
        terminal.say(f"{needing} of them need you, see `next: operator` above", style="bold red")
    if dry_run:
        terminal.show("nothing was written (--dry-run)")
    else:
        terminal.show("the database is ready: start the daemon with `lnliquid serve`")
