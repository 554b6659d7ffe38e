"""The seller daemon put together: settings, adapters, tasks, signals, exit code."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from lnliquid import descriptors
from lnliquid.api.server import Listener, listen, listen_operator
from lnliquid.clock import SystemClock
from lnliquid.config import Settings
from lnliquid.domain.errors import BackendError, SettingsError
from lnliquid.domain.ports import Chain, SellerLightning
from lnliquid.ending import GRACE_SECS, SIGNALS, Ending
from lnliquid.lightning.core_lightning import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain, read_mnemonic, require_native_secp256k1
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.log import QueuedStderr, configure_log
from lnliquid.log_repeats import REPEATS
from lnliquid.metrics.backends import Backend, observed
from lnliquid.metrics.gauges import Gauges
from lnliquid.metrics.instruments import Instruments
from lnliquid.seller import identity
from lnliquid.seller.create import Seller
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Overview
from lnliquid.seller.readiness import Readiness
from lnliquid.seller.withdraw import Withdrawer
from lnliquid.store import writable
from lnliquid.store.database import Database
from lnliquid.store.single_instance import Held, only_process
from lnliquid.watchers.fee_bump import Bumper
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.invoices import Invoices
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.refunds import Refunds
from lnliquid.watchers.swaps import Watcher
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

log = structlog.get_logger()

READINESS_SECS = 1.0
STARTING_SECS = 0.1
FIRST_CONNECT_SECS = 2.0


async def serve(settings: Settings, stderr: QueuedStderr | None) -> int:
    """Run the daemon until SIGINT or SIGTERM. Returns the exit code.

    `stderr`: that of the process, which the daemon then owns and ends in time; None when it is
    only a part of one.

    Raises `SettingsError` when it cannot start as configured. A backend that is down does not keep
    it from starting: it answers UNAVAILABLE until the backend is there.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    on_stop = partial(loop.call_soon_threadsafe, stop.set)
    ending = None if stderr is None else Ending(on_stop, stderr)
    for name in SIGNALS:  # should a library's thread, which blocks no signal, be given one
        loop.add_signal_handler(name, stop.set)
    configure_log(settings.log_format)
    require_native_secp256k1()
    descriptors.raise_limit()
    network = NETWORKS_BY_NAME[settings.network]
    keys = Keychain(read_mnemonic(settings.mnemonic_file), network)
    writable.check(settings)
    for text in writable.warnings(settings):
        log.warning("replica is not safe", reason=text)
    with only_process(settings.database, settings.mnemonic_file) as held:
        clock = SystemClock()
        database = Database(settings.database, clock, settings.replica_path)
        try:
            return await _serve(settings, keys, database, clock, held, stop, ending)
        except SettingsError:
            raise
        except Exception as error:
            log.error("internal error", log_id=secrets.token_hex(4), exc_info=error)
            return 1
        finally:
            if ending is not None:
                ending.begin(1)
            database.close()


async def _serve(
    settings: Settings,
    keys: Keychain,
    database: Database,
    clock: SystemClock,
    held: Held,
    stop: asyncio.Event,
    ending: Ending | None,
) -> int:
    await identity.check(database, keys, settings)
    notices = Notices()
    deadline = settings.backend_deadline_secs
    instruments = Instruments()
    if ending is not None:
        instruments.log_dropped.set_function(partial(getattr, ending.stderr, "dropped"))
    electrum = ElectrumChain(
        settings.electrum_url, deadline_secs=deadline, on_wake=notices.wake_watcher
    )
    core_lightning = CoreLightning(settings.lightning_rpc, deadline_secs=deadline)
    backends = (
        Backend("electrum", instruments, clock),
        Backend("lightning", instruments, clock, answers_are_news=True),
    )
    chain: Chain = observed(electrum, backends[0])
    lightning: SellerLightning = observed(core_lightning, backends[1])
    inventory = Inventory(database, chain, keys)
    outbox = Outbox(database, chain)
    funder = Funder(database, chain, inventory, outbox, keys, settings, notices, instruments)
    refunds = Refunds(database, chain, inventory, outbox, keys, settings)
    bumper = Bumper(database, chain, inventory, outbox, keys, settings, notices)
    invoices = Invoices(database, lightning, keys, settings, clock)
    watcher = Watcher(
        database,
        chain,
        invoices,
        inventory,
        outbox,
        refunds,
        funder,
        bumper,
        settings,
        notices,
    )
    readiness = Readiness(database, chain, lightning, inventory, settings, clock, held.problem)
    seller = Seller(database, readiness, funder, keys, settings, notices, instruments)
    operator = Operator(database, keys, settings, notices)
    withdrawer = Withdrawer(database, chain, inventory, outbox, keys, settings)
    overview = Overview(database, operator, readiness, backends, settings, clock)
    gauges = Gauges(database, overview, instruments)
    listeners: list[Listener] = []
    try:
        for address, make in (
            (settings.listen, lambda at: listen(seller, at)),
            (
                settings.operator_address,
                lambda at: listen_operator(operator, overview, withdrawer, seller, at),
            ),
        ):
            listeners.append(_bind(make, address))
        if settings.metrics_listen is not None:
            _serve_metrics(gauges, settings.metrics_listen)
    except BaseException:
        for listener in listeners:
            listener.release()
        raise

    await electrum.start()
    for listener in listeners:
        await listener.start()
    log.info(
        "serving",
        listen=_shown(settings.listen, listeners[0].port),
        operator=settings.operator_address,
        network=settings.network,
        wallet=keys.fingerprint,
    )
    tasks = [
        asyncio.create_task(work, name=name)
        for name, work in (
            ("watcher", watcher.run()),
            ("paid invoices", invoices.run_paid(notices.watcher)),
            ("funder", funder.run()),
            ("readiness", _show_readiness(readiness, listeners, electrum)),
            *([("metrics", gauges.run())] if settings.metrics_listen else []),
            ("stop", stop.wait()),
        )
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        log.info("stopping")
        if ending is not None:
            ending.begin(1)  # a task ended; after a signal it has begun already
        await asyncio.gather(*(listener.stop(GRACE_SECS) for listener in listeners))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await electrum.close()
        await core_lightning.close()
    return max(_exit_code(task) for task in done)


def _exit_code(task: "asyncio.Task[object]") -> int:
    """0 for the stop signal; a task that ended by itself is a fault, told and not hidden."""
    if task.get_name() == "stop":
        return 0
    log.error("task ended", task=task.get_name(), exc_info=task.exception())
    return 1


def _serve_metrics(gauges: Gauges, address: str) -> None:
    try:
        gauges.serve(address)
    except (OSError, ValueError):
        raise SettingsError((f"cannot serve metrics on {address}: is it in use?",)) from None


def _bind(make: Callable[[str], Listener], address: str) -> Listener:
    try:
        return make(address)
    except RuntimeError:
        raise SettingsError(
            (f"cannot listen on {address}: is it in use, is the path too long?",)
        ) from None


async def _show_readiness(
    readiness: Readiness, listeners: Sequence[Listener], chain: ElectrumChain
) -> None:
    """Keep gRPC health what readiness is, and log each change."""
    last: str | None = "starting"
    with contextlib.suppress(BackendError):
        await chain.wait_connected(FIRST_CONNECT_SECS)  # or the log begins with a false alarm
    while True:
        problem = await readiness.problem()
        if problem != last:
            for listener in listeners:
                await listener.set_ready(problem is None)
            if problem is None:
                log.info("ready")
            else:
                log.warning("not ready", reason=problem)
            last = problem
        REPEATS.flush(log)
        await asyncio.sleep(READINESS_SECS if problem is None else STARTING_SECS)


def _shown(listen: str, port: int) -> str:
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
