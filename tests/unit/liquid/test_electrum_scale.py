"""`ElectrumChain` with much to watch: what it need not read, and what it must compare again."""

import asyncio
from typing import Any

import pytest

from lnlab.wait import wait_for
from lnliquid.domain.errors import BackendTimeout
from lnliquid.domain.htlc import electrum_scripthash
from lnliquid.domain.ports import ExpectedHistories, HistoryItem
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.electrum_connection import RENEW_AT
from lnliquid.liquid.electrum_pace import Pace

from .test_electrum_client import TXID_A, TXID_B, FakeServer, Refusal, connected, script

SUBSCRIBE = "blockchain.scripthash.subscribe"


class Growing(FakeServer):
    """Knows the headers that it had; tells of blocks, but never of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.headers = {self.tip["height"]: self.tip["hex"]}

    def notify(self, method: str, *params: object) -> None:
        """Lose what is about scripts."""
        if method != SUBSCRIBE:
            super().notify(method, *params)

    def new_block(self, height: int) -> None:
        """Another block on top."""
        super().new_block(height)
        self.headers[height] = self.tip["hex"]

    def reorg(self, height: int) -> None:
        """Another branch, up to this height, from block 7 on."""
        self.headers = {h: "ee" * 80 + f"{h:08x}" for h in range(7, height + 1)}
        self.tip = {"height": height, "hex": self.headers[height]}
        self.notify("blockchain.headers.subscribe", self.tip)

    async def answer(self, method: str, params: list[Any]) -> object:
        if method == "blockchain.block.header":
            if params[0] not in self.headers:
                raise Refusal("missing header")
            return self.headers[params[0]]
        return await super().answer(method, params)


class Slow(FakeServer):
    """Takes its time for each history."""

    async def answer(self, method: str, params: list[Any]) -> object:
        if method == "blockchain.scripthash.get_history":
            await asyncio.sleep(0.005)
        return await super().answer(method, params)


EXPECTED = ExpectedHistories(
    {
        script(1): (HistoryItem(TXID_A, 5),),
        script(2): (HistoryItem(TXID_A, 5),),
        script(3): (HistoryItem(TXID_A, 5),),
        script(4): (),
    }
)


def as_expected_but_for_one_spend(server: FakeServer) -> None:
    """Script 1 is as expected, script 2 is spent, script 3 moved by a reorg."""
    server.set_history(script(1), (TXID_A, 5))
    server.set_history(script(2), (TXID_A, 5), (TXID_B, 0))
    server.set_history(script(3), (TXID_A, 6))


async def test_a_script_whose_status_fits_what_is_expected_is_no_news() -> None:
    """The status is a hash over the whole history. All others count as changed."""
    server = FakeServer()
    as_expected_but_for_one_spend(server)
    async with connected(server) as chain:
        await chain.watch(EXPECTED)
        assert chain.take_changed() == {script(2), script(3), script(4)}
        server.set_history(script(1), (TXID_A, 5), (TXID_B, 0))
        await wait_for(lambda: chain.take_changed() == {script(1)})


async def test_without_an_answer_of_the_server_nothing_is_as_expected() -> None:
    """Until a connection has proved it, every script is to be read."""
    server = FakeServer()
    as_expected_but_for_one_spend(server)
    await server.start()
    chain = ElectrumChain(server.url)
    await chain.watch(EXPECTED)
    before = chain.take_changed()
    assert before == set(EXPECTED)
    chain.mark_changed(before)  # it could not be read
    await chain.start()
    try:
        await chain.wait_connected(5)
        assert chain.take_changed() == {script(2), script(3), script(4)}
    finally:
        await chain.close()
        await server.close()


async def header_asked(server: FakeServer, height: int) -> None:
    """Wait until the client looked whether that block is still there."""
    await wait_for(lambda: ("blockchain.block.header", [height]) in server.requests)


async def test_a_new_block_on_top_compares_no_status() -> None:
    """What a block costs does not grow with what is watched."""
    server = Growing()
    async with connected(server, keepalive_secs=60) as chain:
        await chain.watch([script(n) for n in range(250)])
        asked = len(server.requests)
        for height in (8, 9):
            server.new_block(height)
            await header_asked(server, height - 1)
        assert len(server.requests) - asked == 2 * 2  # the tip, and its predecessor


@pytest.mark.parametrize("height", [7, 8, 9])
async def test_a_reorg_is_noticed_by_its_headers_and_compares_every_status(height: int) -> None:
    """To a lower, an equal and a greater height, with all news of the scripts lost."""
    server = Growing()
    async with connected(server, keepalive_secs=60) as chain:
        await chain.watch([script(1), script(2)])
        server.new_block(8)
        await header_asked(server, 7)
        chain.take_changed()
        server.set_history(script(1), (TXID_A, 7))
        server.reorg(height)
        await wait_for(lambda: chain.take_changed() == {script(1)})


async def test_a_chunk_that_is_too_slow_is_made_smaller_until_it_works() -> None:
    """Otherwise it would time out in every round, for ever."""
    scripts = [script(n) for n in range(100)]
    async with connected(Slow(), deadline_secs=0.25, keepalive_secs=60) as chain:

        async def answered() -> bool:
            try:
                return len(await chain.histories(scripts)) == len(scripts)
            except BackendTimeout:
                return False

        assert not await answered()
        await wait_for(answered, timeout_secs=20)


def test_a_pace_halves_on_a_time_out_and_grows_when_there_is_much_time_left() -> None:
    """It does not grow into the next time-out, nor beyond where it began."""
    pace = Pace(100)
    pace.timed_out(100)
    assert pace.at_once == 50
    pace.timed_out(3)  # the rest of a round
    assert pace.at_once == 1
    for size in (1, 2, 4, 8, 16, 32, 64, 100):
        pace.answered(size, took_secs=2.4, deadline_secs=10)
    assert pace.at_once == 100
    pace.timed_out(100)
    pace.answered(50, took_secs=2.6, deadline_secs=10)
    assert pace.at_once == 50


async def test_scripts_that_are_over_do_not_stay_subscribed() -> None:
    """A connection that has mostly such is replaced, and it is not missed meanwhile."""
    server = FakeServer()
    async with connected(server, keepalive_secs=60) as chain:
        await chain.watch([script(0)])
        for number in range(1, RENEW_AT + 2):
            if number % 100 == 1:
                await chain.watch([script(n) for n in range(number, number + 100)])
            chain.unwatch([script(number)])
        asked = len(server.requests)

        async def replaced() -> bool:
            await chain.tip()  # there is one all the time
            subscribed = [
                params for method, params in server.requests[asked:] if method == SUBSCRIBE
            ]
            return [electrum_scripthash(script(0))] in subscribed

        await wait_for(replaced)
        await wait_for(lambda: server.clients == 1)
        live = [0, *range(RENEW_AT + 2, RENEW_AT + 101)]
        again = {params[0] for method, params in server.requests[asked:] if method == SUBSCRIBE}
        assert again == {electrum_scripthash(script(n)) for n in live}
        chain.take_changed()
        server.set_history(script(0), (TXID_A, 5))
        await wait_for(lambda: script(0) in chain.take_changed())
