"""Closing asyncio's servers so that nobody is left hanging who connects at that moment."""

import asyncio

ACCEPT_TURNS = 10
"""More than the loop's turns from accepting a connection to calling its handler (CPython 3.11)."""


async def close_server(server: asyncio.Server) -> None:
    """Close ``server``. Every connection that it took has a handler then, to be ended by who calls.

    ``Server.close`` alone forgets connections that are on their way to their handler: they stay
    open, with nobody at this end, until they are collected as garbage.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())  # no more are taken
    for _ in range(ACCEPT_TURNS):
        await asyncio.sleep(0)
    server.close()
