"""`ElectrumChain` against small real servers on loopback; each fault is a subclass of one."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from embit.liquid.transaction import LTransaction, LTransactionInput, LTransactionOutput
from embit.script import Script

from lnlab.servers import close_server
from lnlab.wait import wait_for
from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.htlc import electrum_scripthash
from lnliquid.domain.ports import Chain, HistoryItem
from lnliquid.domain.swap import Tip
from lnliquid.liquid.electrum import ElectrumChain

FITS: type[Chain] = ElectrumChain  # for mypy

HEADER = bytes(range(80))
TXID_A, TXID_B = "aa" * 32, "bb" * 32


def script(number: int) -> bytes:
    """A P2WSH-like output script of its own for each number."""
    return b"\x00\x20" + number.to_bytes(32, "big")


def transaction(number: int, script_bytes: int = 22) -> tuple[str, bytes]:
    """A small (or large) Liquid transaction: its txid and its bytes."""
    tx = LTransaction(
        vin=[LTransactionInput(bytes([number]) * 32, 0)],
        vout=[LTransactionOutput(bytes(32), 1000, Script(b"\x6a" * script_bytes))],
    )
    return tx.txid().hex(), tx.serialize()


class Refusal(Exception):
    """An error as it is sent: of electrs its text is all there is."""


class FakeServer:
    """An Electrum 1.4 server over a chain that the test writes by hand."""

    def __init__(self) -> None:
        self.tip = {"height": 7, "hex": HEADER.hex()}
        self.histories: dict[str, list[dict[str, Any]]] = {}
        self.raws: dict[str, bytes] = {}
        self.fee: object = 0.000001
        self.requests: list[tuple[str, list[Any]]] = []
        self.broadcasts: list[str] = []
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on loopback."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", port, limit=8 * 1024 * 1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every client."""
        assert self._server is not None
        await close_server(self._server)
        self.drop_clients()
        await self._server.wait_closed()
        await wait_for(lambda: not self._writers)

    def drop_clients(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    @property
    def clients(self) -> int:
        """Connections now."""
        return len(self._writers)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"tcp://127.0.0.1:{self.port}"

    def count(self, method: str) -> int:
        """How often a method was asked for."""
        return sum(1 for asked, _ in self.requests if asked == method)

    def status(self, scripthash: str) -> str | None:
        """The protocol's status of a script."""
        entries = self.histories.get(scripthash, [])
        text = "".join(f"{e['tx_hash']}:{e['height']}:" for e in entries)
        return hashlib.sha256(text.encode()).hexdigest() if entries else None

    def notify(self, method: str, *params: object) -> None:
        """Send a notification to every client."""
        line = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}) + "\n"
        for writer in self._writers:
            writer.write(line.encode())

    def set_history(self, of: bytes, *entries: tuple[str, int], announce: int = 1) -> None:
        """Change a script's history and announce it that many times."""
        scripthash = electrum_scripthash(of)
        self.histories[scripthash] = [{"tx_hash": t, "height": h} for t, h in entries]
        for _ in range(announce):
            self.notify("blockchain.scripthash.subscribe", scripthash, self.status(scripthash))

    def new_block(self, height: int) -> None:
        """Change the tip and announce it."""
        self.tip = {"height": height, "hex": (HEADER + height.to_bytes(4, "big")).hex()}
        self.notify("blockchain.headers.subscribe", self.tip)

    async def answer(self, method: str, params: list[Any]) -> object:
        """Answer one request; raise `Refusal` for an error."""
        match method:
            case "server.version":
                return ["fake 1", "1.4"]
            case "blockchain.headers.subscribe":
                return self.tip
            case "blockchain.scripthash.subscribe":
                return self.status(params[0])
            case "blockchain.scripthash.get_history":
                return self.histories.get(params[0], [])
            case "blockchain.block.header":
                if params[0] > self.tip["height"]:
                    raise Refusal("missing header")
                return (HEADER + params[0].to_bytes(4, "big")).hex()
            case "blockchain.transaction.get":
                if params[0] not in self.raws:
                    raise Refusal("missing transaction")
                return self.raws[params[0]].hex()
            case "blockchain.transaction.broadcast":
                self.broadcasts.append(params[0])
                return TXID_A
            case "blockchain.estimatefee":
                return self.fee
        raise Refusal(f"unknown method {method}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if not isinstance(request, dict):
                    return  # as a Liquid electrs without batches does
                self.requests.append((request["method"], request.get("params", [])))
                reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
                try:
                    reply["result"] = await self.answer(
                        request["method"], request.get("params", [])
                    )
                except Refusal as refusal:
                    reply["error"] = refusal.args[0]
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


class Refusing(FakeServer):
    """Refuses one method, with the text or the error object in `reason`."""

    def __init__(self, method: str, reason: object) -> None:
        super().__init__()
        self.method, self.reason = method, reason

    async def answer(self, method: str, params: list[Any]) -> object:
        if method == self.method:
            raise Refusal(self.reason)
        return await super().answer(method, params)


class Dropping(FakeServer):
    """Cuts the connection when one method is asked for."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    async def answer(self, method: str, params: list[Any]) -> object:
        if method == self.method:
            self.drop_clients()
        return await super().answer(method, params)


class Hanging(FakeServer):
    """Does not answer one method (`*`: any) until released."""

    def __init__(self, method: str = "") -> None:
        super().__init__()
        self.method = method
        self.hung = 0
        self._released = asyncio.Event()

    def release(self) -> None:
        """Answer again."""
        self.method = ""
        self._released.set()

    async def close(self) -> None:
        self.release()
        await super().close()

    async def answer(self, method: str, params: list[Any]) -> object:
        if self.method in (method, "*"):
            self.hung += 1
            await self._released.wait()
        return await super().answer(method, params)


class LosingNotifications(FakeServer):
    """Never notifies."""

    def notify(self, method: str, *params: object) -> None:
        pass


class TooPopular(FakeServer):
    """Refuses everything about one script, as electrs does over 500 entries."""

    def __init__(self, popular: bytes) -> None:
        super().__init__()
        self.popular = electrum_scripthash(popular)

    async def answer(self, method: str, params: list[Any]) -> object:
        if params and params[0] == self.popular:
            raise Refusal("Too many history transactions (>500). Contact support to raise limits.")
        return await super().answer(method, params)


class Wakes:
    """Counts calls of `on_wake`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@asynccontextmanager
async def connected(
    server: FakeServer, *, wakes: Wakes | None = None, **options: float
) -> AsyncIterator[ElectrumChain]:
    """A started server and a client that is connected to it; both closed at the end."""
    await server.start()
    chain = ElectrumChain(server.url, on_wake=wakes or Wakes(), **options)
    await chain.start()
    try:
        await chain.wait_connected(5)
        yield chain
    finally:
        await chain.close()
        await server.close()


async def test_connecting_reads_the_tip() -> None:
    """Once connected, the tip is known, with its header's SHA256 and time; the loop was woken."""
    wakes = Wakes()
    async with connected(FakeServer(), wakes=wakes) as chain:
        tip = await chain.tip()
        assert tip == Tip(7, hashlib.sha256(HEADER).hexdigest())
        assert tip.time == int.from_bytes(HEADER[68:72], "little")
        assert wakes.count == 1


async def test_the_server_may_come_up_later() -> None:
    """The client starts without its server, says why calls fail, and connects when it is there."""
    server = FakeServer()
    await server.start()
    port = server.port
    await server.close()
    chain = ElectrumChain(server.url)
    await chain.start()
    try:
        with pytest.raises(BackendUnavailable, match=r"not connected to tcp://127\.0\.0\.1"):
            await chain.wait_connected(0.2)
        await server.start(port)
        await chain.wait_connected(5)
        assert chain.connected
    finally:
        await chain.close()
        await server.close()


Call = Callable[[ElectrumChain], Awaitable[object]]

READS: dict[str, Call] = {
    "blockchain.scripthash.get_history": lambda chain: chain.histories([script(1)]),
    "blockchain.transaction.get": lambda chain: chain.transactions([TXID_A]),
    "blockchain.block.header": lambda chain: chain.block_ids([1]),
    "blockchain.estimatefee": lambda chain: chain.fee_rate_sats_per_kvb(2),
}


@pytest.mark.parametrize("call", [*READS.values(), lambda c: c.broadcast(b"x"), lambda c: c.tip()])
async def test_without_a_connection_calls_are_unavailable(call: Call) -> None:
    """Nothing was sent, and the error says so."""
    with pytest.raises(BackendUnavailable):
        await call(ElectrumChain("tcp://127.0.0.1:9"))


@pytest.mark.parametrize("method", READS)
async def test_a_connection_lost_during_a_read_is_unavailable(method: str) -> None:
    """A read that was cut off can be made again, and the client reconnects by itself."""
    server = Dropping(method)
    async with connected(server) as chain:
        with pytest.raises(BackendUnavailable, match="connection lost"):
            await READS[method](chain)
        server.method = ""
        await wait_for(lambda: server.count("server.version") >= 2)
        await chain.wait_connected(5)
        await READS[method](chain)


@pytest.mark.parametrize("method", READS)
async def test_a_read_without_an_answer_times_out(method: str) -> None:
    """The deadline ends a read, with an error that names the call."""
    server = Hanging(method)
    async with connected(server, deadline_secs=0.2, keepalive_secs=60) as chain:
        with pytest.raises(BackendTimeout, match=method):
            await READS[method](chain)


async def test_a_new_block_moves_the_tip() -> None:
    """A header announcement updates the tip and wakes the loop."""
    server, wakes = FakeServer(), Wakes()
    async with connected(server, wakes=wakes) as chain:
        before = wakes.count
        server.new_block(8)
        await wait_for(lambda: wakes.count > before)
        assert (await chain.tip()).height == 8


async def test_the_tip_is_what_the_server_says_now_not_what_a_late_notification_says() -> None:
    """Announcements out of order cannot leave an old tip behind."""
    server, wakes = FakeServer(), Wakes()
    async with connected(server, wakes=wakes) as chain:
        old = server.tip
        server.new_block(9)
        server.notify("blockchain.headers.subscribe", old)
        asked = server.count("blockchain.headers.subscribe")
        await wait_for(lambda: server.count("blockchain.headers.subscribe") > asked)
        await wait_for(lambda: wakes.count > 1)
        assert (await chain.tip()).height == 9


async def test_a_lost_header_announcement_is_made_up_for() -> None:
    """The keepalive reads the tip, so a missed announcement costs that much time and no more."""
    server = LosingNotifications()
    async with connected(server, keepalive_secs=0.05) as chain:
        server.new_block(8)
        deadline = time.monotonic() + 5
        while (await chain.tip()).height != 8:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_a_watched_script_is_changed_at_first_and_on_notification() -> None:
    """A new script has news at once; after it is taken, only a change brings it back."""
    server, wakes = FakeServer(), Wakes()
    async with connected(server, wakes=wakes) as chain:
        await chain.watch([script(1), script(2)])
        assert chain.take_changed() == {script(1), script(2)}
        assert chain.take_changed() == set()
        before = wakes.count
        server.set_history(script(1), (TXID_A, 0))
        await wait_for(lambda: wakes.count > before)
        assert chain.take_changed() == {script(1)}


async def test_a_doubled_notification_is_no_further_news() -> None:
    """The same status again changes nothing once it was read."""
    server = FakeServer()
    async with connected(server) as chain:
        await chain.watch([script(1), script(2)])
        chain.take_changed()
        server.set_history(script(1), (TXID_A, 0))
        await wait_for(lambda: chain.take_changed() == {script(1)})
        await chain.histories([script(1)])
        server.set_history(script(1), (TXID_A, 0), announce=3)
        server.set_history(script(2), (TXID_B, 0))
        await wait_for(lambda: script(2) in (seen := chain.take_changed()) and len(seen) == 1)


async def test_an_old_status_that_comes_back_after_another_one_was_read_is_news() -> None:
    """When a read saw a newer state than was reported, a return to the reported one counts."""
    server = FakeServer()
    async with connected(server) as chain:
        await chain.watch([script(1)])
        chain.take_changed()
        server.set_history(script(1), (TXID_A, 0))
        await wait_for(lambda: bool(chain.take_changed()))
        server.set_history(script(1), (TXID_A, 8), announce=0)  # this notification got lost
        assert (await chain.histories([script(1)]))[script(1)][0].height == 8
        server.set_history(script(1), (TXID_A, 0))  # and a reorg undoes it
        await wait_for(lambda: chain.take_changed() == {script(1)})


async def test_after_a_reconnect_only_what_differs_is_changed() -> None:
    """Every script is subscribed again; the ones with the same status are left alone."""
    server, wakes = FakeServer(), Wakes()
    async with connected(server, wakes=wakes) as chain:
        await chain.watch([script(n) for n in range(250)])
        chain.take_changed()
        server.set_history(script(5), (TXID_A, 0), announce=0)
        server.drop_clients()
        await wait_for(lambda: server.count("blockchain.scripthash.subscribe") == 500)
        await chain.wait_connected(5)
        assert chain.take_changed() == {script(5)}
        assert wakes.count >= 3  # connected, lost, connected


async def test_a_lost_notification_is_found_by_the_resync() -> None:
    """On a connection that stays up, all statuses are compared again after a while."""
    server = LosingNotifications()
    async with connected(server, keepalive_secs=0.05, resync_secs=0.1) as chain:
        await chain.watch([script(1), script(2)])
        chain.take_changed()
        server.set_history(script(1), (TXID_A, 3))
        await wait_for(lambda: chain.take_changed() == {script(1)})


async def test_scripts_watched_while_disconnected_are_subscribed_later() -> None:
    """`watch` does not need a connection."""
    server = FakeServer()
    await server.start()
    chain = ElectrumChain(server.url)
    await chain.watch([script(1)])
    assert chain.take_changed() == {script(1)}
    await chain.start()
    try:
        await chain.wait_connected(5)
        assert server.count("blockchain.scripthash.subscribe") == 1
    finally:
        await chain.close()
        await server.close()


async def test_an_unwatched_script_has_no_news() -> None:
    """Notifications for it are ignored, and it cannot be put back."""
    server = FakeServer()
    async with connected(server) as chain:
        await chain.watch([script(1), script(2)])
        chain.unwatch([script(1)])
        chain.mark_changed([script(1), script(2)])
        assert chain.take_changed() == {script(2)}
        server.set_history(script(1), (TXID_A, 0))
        server.set_history(script(2), (TXID_A, 0))
        await wait_for(lambda: chain.take_changed() == {script(2)})


async def test_one_script_that_the_server_refuses_does_not_stop_the_others() -> None:
    """It is shown as changed and its own read fails; the connection and the rest work."""
    server = TooPopular(script(1))
    async with connected(server) as chain:
        await chain.watch([script(1), script(2)])
        assert chain.take_changed() == {script(1), script(2)}
        with pytest.raises(BackendRejected, match=electrum_scripthash(script(1))):
            await chain.histories([script(2), script(1)])
        assert await chain.histories([script(2)]) == {script(2): ()}
        server.drop_clients()
        await wait_for(lambda: server.count("server.version") == 2)
        await chain.wait_connected(5)
        assert chain.take_changed() == {script(1)}


async def test_histories_tell_confirmed_first_and_mempool_without_height() -> None:
    """Heights 0 and -1 both mean unconfirmed; a script without history has an empty tuple."""
    server = FakeServer()
    async with connected(server) as chain:
        server.set_history(script(1), (TXID_A, -1), (TXID_B, 5), ("cc" * 32, 0))
        assert await chain.histories([script(1), script(2)]) == {
            script(1): (
                HistoryItem(TXID_B, 5),
                HistoryItem(TXID_A, None),
                HistoryItem("cc" * 32, None),
            ),
            script(2): (),
        }


@pytest.mark.parametrize(
    "entry", [{"tx_hash": TXID_A}, {"height": 1}, "x", {"tx_hash": 1, "height": "y"}]
)
async def test_a_malformed_history_is_refused(entry: Any) -> None:
    """An answer of the wrong form is an error of the backend, not of the program."""
    server = FakeServer()
    server.histories[electrum_scripthash(script(1))] = [entry]
    async with connected(server) as chain:
        with pytest.raises(BackendRejected, match="malformed"):
            await chain.histories([script(1)])


async def test_transactions_are_checked_cached_and_left_out_when_unknown() -> None:
    """Known ones come back as bytes, are asked for once, and unknown ones are not there."""
    server = FakeServer()
    txid, raw = transaction(1)
    server.raws[txid] = raw
    async with connected(server) as chain:
        assert await chain.transactions([txid, TXID_A]) == {txid: raw}
        assert await chain.transactions([txid]) == {txid: raw}
        assert server.count("blockchain.transaction.get") == 2


async def test_a_transaction_that_does_not_hash_to_its_txid_is_not_passed_on() -> None:
    """The others come all the same; where absence would be believed it is an error."""
    server = FakeServer()
    txid, _ = transaction(1)
    good, raw = transaction(3)
    server.raws = {txid: transaction(2)[1], TXID_A: b"no transaction", good: raw}
    async with connected(server) as chain:
        assert await chain.transactions([txid, TXID_A, good]) == {good: raw}
        with pytest.raises(BackendRejected, match=txid):
            await chain.transactions([good, txid], strict=True)
        with pytest.raises(BackendRejected, match="malformed"):
            await chain.transactions([TXID_A, good], strict=True)


async def test_large_transactions_come_whole() -> None:
    """Megabyte lines, and more transactions than one chunk holds, in one call."""
    server = FakeServer()
    server.raws = dict(transaction(n, script_bytes=550_000) for n in range(27))
    async with connected(server) as chain:
        assert await chain.transactions(list(server.raws)) == server.raws


async def test_any_other_refusal_of_a_transaction_is_an_error_where_absence_counts() -> None:
    """Only "no such transaction" may be taken for absence; elsewhere the one is left out."""
    async with connected(Refusing("blockchain.transaction.get", "daemon is away")) as chain:
        assert await chain.transactions([TXID_A]) == {}
        with pytest.raises(BackendRejected, match="daemon is away"):
            await chain.transactions([TXID_A], strict=True)


async def test_a_server_that_is_busy_gives_no_transaction_and_is_unavailable() -> None:
    """That is no answer about one transaction: none is left out for it."""
    busy = {"code": -102, "message": "server busy"}
    async with connected(Refusing("blockchain.transaction.get", busy)) as chain:
        with pytest.raises(BackendUnavailable, match="busy"):
            await chain.transactions([TXID_A])


async def test_a_broadcast_sends_the_bytes_once() -> None:
    """The raw transaction goes out in hex."""
    server = FakeServer()
    async with connected(server) as chain:
        await chain.broadcast(b"\x01\x02")
        assert server.broadcasts == ["0102"]


@pytest.mark.parametrize(
    "reason",
    [
        'sendrawtransaction RPC error: {"code":-27,"message":"Transaction already in block chain"}',
        'sendrawtransaction RPC error: {"code":-27,"message":"txn-already-known"}',
        'sendrawtransaction RPC error: {"code":-26,"message":"txn-already-in-mempool"}',
        "Transaction outputs already in utxo set",
    ],
)
async def test_a_transaction_that_the_node_has_already_is_a_success(reason: str) -> None:
    """Sending the same bytes again is safe."""
    async with connected(Refusing("blockchain.transaction.broadcast", reason)) as chain:
        await chain.broadcast(b"\x01")


@pytest.mark.parametrize(
    "reason",
    [
        'sendrawtransaction RPC error: {"code":-25,"message":"bad-txns-inputs-missingorspent"}',
        'sendrawtransaction RPC error: {"code":-26,"message":"txn-mempool-conflict"}',
        "min relay fee not met, 10 < 40",
    ],
)
async def test_a_refused_broadcast_carries_the_reason(reason: str) -> None:
    """An electrs error is a plain string, and it reaches the caller as it is."""
    async with connected(Refusing("blockchain.transaction.broadcast", reason)) as chain:
        with pytest.raises(BackendRejected) as caught:
            await chain.broadcast(b"\x01")
        assert caught.value.message.endswith(f": {reason}")
        assert caught.value.code is None


async def test_a_refusal_that_repeats_the_transaction_does_not_leak_its_preimage() -> None:
    """A claim's bytes hold the preimage, and some servers send them back in the error."""
    raw = b"\x02" * 50 + bytes.fromhex("ab" * 32) + b"\x03" * 50
    reason = f"the transaction was rejected by network rules.\n\nnon-final\n[{raw.hex()}]"
    async with connected(Refusing("blockchain.transaction.broadcast", reason)) as chain:
        with pytest.raises(BackendRejected, match="non-final") as caught:
            await chain.broadcast(raw)
        assert "ab" * 8 not in str(caught.value)


async def test_a_broadcast_cut_off_by_the_connection_is_of_unknown_outcome() -> None:
    """It may have been carried out: that is a time-out, never a refusal."""
    async with connected(Dropping("blockchain.transaction.broadcast")) as chain:
        with pytest.raises(BackendTimeout):
            await chain.broadcast(b"\x01")


async def test_a_broadcast_without_an_answer_is_of_unknown_outcome() -> None:
    """The deadline ends it."""
    server = Hanging("blockchain.transaction.broadcast")
    async with connected(server, deadline_secs=0.2, keepalive_secs=60) as chain:
        with pytest.raises(BackendTimeout):
            await chain.broadcast(b"\x01")


@pytest.mark.parametrize(
    ("fee", "expected"), [(0.000001, 100), (0.00000123, 123), (-1, None), (0, None), (None, None)]
)
async def test_fee_estimates_are_in_sats_per_kvb(fee: object, expected: int | None) -> None:
    """L-BTC per kvB become sat; -1, zero and nothing mean that there is none."""
    server = FakeServer()
    server.fee = fee
    async with connected(server) as chain:
        assert await chain.fee_rate_sats_per_kvb(2) == expected


async def test_blocks_are_named_as_the_tip_is() -> None:
    """By height, in chunks; a height above the tip is refused."""
    server, wakes = FakeServer(), Wakes()
    async with connected(server, wakes=wakes) as chain:
        before = wakes.count
        server.new_block(120)
        await wait_for(lambda: wakes.count > before)
        found = await chain.block_ids(range(1, 121))
        assert list(found) == [*range(1, 121)]
        assert len({*found.values()}) == 120
        assert found[120] == (await chain.tip()).block_id
        with pytest.raises(BackendRejected, match="header at 121: missing header"):
            await chain.block_ids([120, 121])


async def test_a_refused_fee_estimate_is_none() -> None:
    """electrs refuses when it cannot estimate."""
    async with connected(Refusing("blockchain.estimatefee", "cannot estimate fee")) as chain:
        assert await chain.fee_rate_sats_per_kvb(2) is None


async def test_a_half_open_connection_is_given_up() -> None:
    """When nothing at all comes back, the client drops the connection, says so, and reconnects."""
    server, wakes = Hanging(), Wakes()
    async with connected(server, wakes=wakes, deadline_secs=0.2, keepalive_secs=0.05) as chain:
        server.method = "*"
        await wait_for(lambda: not chain.connected)
        with pytest.raises(BackendUnavailable):
            await chain.tip()
        server.release()
        await chain.wait_connected(5)
        assert wakes.count >= 3


async def test_a_server_that_is_too_slow_to_tell_its_tip_has_none() -> None:
    """What it told before may be old: calls are unavailable until it tells its tip in time."""
    server, wakes = Hanging(), Wakes()
    async with connected(server, wakes=wakes, deadline_secs=0.2, keepalive_secs=0.05) as chain:
        before = wakes.count
        server.method = "blockchain.headers.subscribe"

        async def is_unavailable() -> bool:
            server.notify("server.is.alive")  # some bytes come, so the connection is not dead
            try:
                await chain.tip()
            except BackendUnavailable as error:
                return "too slow" in error.message
            return False

        await wait_for(is_unavailable)
        assert chain.connected
        server.release()

        async def is_told() -> bool:
            with contextlib.suppress(BackendUnavailable):
                return (await chain.tip()).height == 7
            return False

        await wait_for(is_told)
        assert wakes.count >= before + 2


async def test_a_call_that_is_cancelled_leaves_the_connection_usable() -> None:
    """Cancelling one caller does not disturb the next."""
    server = Hanging("blockchain.estimatefee")
    async with connected(server) as chain:
        task = asyncio.create_task(chain.fee_rate_sats_per_kvb(2))
        await wait_for(lambda: server.hung == 1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        server.release()
        assert await chain.histories([script(1)]) == {script(1): ()}


async def test_ten_thousand_scripts_are_subscribed_and_read_in_seconds() -> None:
    """What a seller with many open swaps needs after a reconnect."""
    server = FakeServer()
    scripts = [script(n) for n in range(10_000)]
    async with connected(server) as chain:
        began = time.monotonic()
        await chain.watch(scripts)
        assert chain.take_changed() == set(scripts)
        assert len(await chain.histories(scripts)) == 10_000
        assert time.monotonic() - began < 20  # some 2 s on an idle machine


async def test_close_leaves_nothing_running() -> None:
    """After `close` the client's task is gone and calls are unavailable."""
    server = FakeServer()
    async with connected(server) as chain:
        await chain.close()
        assert not chain.connected
        assert not [t for t in asyncio.all_tasks() if t.get_name() == "electrum"]
        with pytest.raises(BackendUnavailable):
            await chain.tip()
