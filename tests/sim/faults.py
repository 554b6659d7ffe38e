"""What goes wrong in the world, and gets well again: actions of a step like any other."""

from .chain_side import UNCONFIRMED
from .world import World


async def clock_jumps(world: World) -> str:
    """The clock of the daemon's machine is set wrong, or right again."""
    world.clock.offset_secs = world.rng.choice([0, 0, -3_600, 7_200, 90, -45])
    return f"{world.clock.offset_secs} s off"


async def server_fault(world: World) -> str:
    """The Electrum server gets worse."""
    server, chain, rng = world.server, world.ground.chain, world.rng
    match rng.randrange(9):
        case 7 | 8:
            return _lie(world)
        case 0:
            server.up = False
            return "down"
        case 1:
            server.behind = chain.tip_height
            return "falls behind"
        case 2:
            server.stale_tip = world.ground.tip_at(chain.tip_height)
            return "tells an old tip"
        case 3:
            scripts = [lock.script for lock in world.rules.books.locked.values()]
            if scripts:
                server.refused.add(rng.choice(scripts))
            return "refuses the script of a lock"
        case 4:
            server.refused.add(rng.choice([*world.rules.books.wallet.scripts]))
            return "refuses a script of the wallet"
        case 5:
            sent = [*world.rules.books.sent, *(d.txid for d in world.ground.deposits)]
            server.withheld.update(rng.sample(sent, min(1, len(sent))))
            return "withholds a transaction"
        case _:
            server.trouble = rng.choice([0.05, 0.3])
            return f"fails {server.trouble:.0%} of calls"


def _lie(world: World) -> str:
    """Its index is broken: histories leave transactions out, or show them at wrong heights."""
    rules = world.rules
    known = [own["txid"] for own in rules.ask("SELECT txid FROM own_tx ORDER BY rowid")][-12:]
    known += [deposit.txid for deposit in world.ground.deposits[-3:]]
    known += [txid for deal in world.deals.values() for txid in deal.claim_txids[-1:]][-5:]
    for txid in world.rng.sample(known, min(len(known), world.rng.randrange(1, 4))):
        world.server.lies[txid] = world.rng.choice([None, None, 1, UNCONFIRMED])
        world.server.lied.add(txid)
    world.coverage.everywhere("server lies")
    return f"lies about {len(world.server.lies)}"


async def fees_rise(world: World) -> str:
    """Miners take what pays well only; nodes may take in less, and forget what they had."""
    pool, rng = world.ground.pool, world.rng
    pool.miner_rate = rng.choice([150, 300, 450, 600])
    pool.relay_rate = rng.choice([0, 0, 150, 300])
    world.coverage.everywhere("fees rise")
    for entry in [*pool.entries.values()]:
        if entry.fee_sats * 1000 < pool.relay_rate * entry.vsize and rng.random() < 0.5:
            world.ground.forget(entry.tx.txid)
    return f"miners take {pool.miner_rate}, nodes {pool.relay_rate} sat/kvB"


async def lightning_fault(world: World) -> str:
    """Core Lightning gets worse."""
    node, rng = world.node, world.rng
    match rng.randrange(6):
        case 4:
            node.slow_secs = rng.choice([0.2, 2.0, 6.0])
            return f"needs {node.slow_secs} s a call"
        case 5:
            node.hung = True
            return "hangs"
        case 0:
            node.up = False
            return "down"
        case 1:
            node.hung = True
            return "hangs"
        case 2:
            node.trouble = rng.choice([0.1, 0.4])
            return f"fails {node.trouble:.0%} of calls"
        case _:
            node.restart()
            return "restarted"


async def disk_fault(world: World) -> str:
    """A disk fills up: that of the database, or that of its replica."""
    if world.rng.random() < 0.5:
        world.disk.full = True
        return "full"
    world.disk.replica_full = True
    return "replica full"


async def recovery(world: World) -> str:
    """What was bad may be well again."""
    luck, told = world.rng.random(), []
    if luck < 0.7:
        world.server.heal()
        world.daemon.chain.resync()
        told.append("server")
    if luck > 0.3:
        world.node.trouble = 0.0
        world.node.wake()
        told.append("Lightning")
    if luck < 0.5:
        world.disk.empty()
        told.append("disks")
    if luck > 0.8:
        world.ground.send_deposits_again()
        told.append("deposits")
    if 0.3 < luck < 0.5:
        world.ground.pool.miner_rate = world.ground.pool.relay_rate = 0
        told.append("fees")
    return " and ".join(told)


async def late_news(world: World) -> str:
    """Notifications that were under way arrive, or all statuses are compared."""
    if world.rng.random() < 0.5:
        world.daemon.chain.deliver_late()
        return "delivered"
    world.daemon.chain.resync()
    return "compared"


async def paid_news(world: World) -> str:
    """The wait for a paid invoice ends, with or without one."""
    world.node.paid.set()
    return ""
