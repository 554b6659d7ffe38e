"""What goes wrong in the world, and gets well again: actions of a step like any other."""

from lnliquid.swap import Tip

from .world import World


async def clock_jumps(world: World) -> str:
    """The clock of the daemon's machine is set wrong, or right again."""
    world.clock.offset_secs = world.rng.choice([0, 0, -3_600, 7_200, 90, -45])
    return f"{world.clock.offset_secs} s off"


async def server_fault(world: World) -> str:
    """The Electrum server gets worse."""
    server, chain, rng = world.server, world.ground.chain, world.rng
    match rng.randrange(7):
        case 0:
            server.up = False
            return "down"
        case 1:
            server.behind = chain.tip_height
            return "falls behind"
        case 2:
            server.stale_tip = Tip(chain.tip_height, chain.tip_hash)
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


async def lightning_fault(world: World) -> str:
    """Core Lightning gets worse."""
    node, rng = world.node, world.rng
    match rng.randrange(4):
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
    """The disk fills up."""
    world.disk.full = True
    return "full"


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
        world.disk.full = False
        told.append("disk")
    if luck > 0.8:
        world.ground.send_deposits_again()
        told.append("deposits")
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
