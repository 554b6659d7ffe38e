"""`CoreLightning` against the embedded nodes, and against small real servers that misbehave."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lnlab.nodes.embedded.lightning import LightningNetwork
from lnlab.servers import close_server
from lnlab.wait import wait_for
from lnliquid.domain.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import (
    BuyerLightning,
    Invoice,
    InvoiceStatus,
    Payment,
    PaymentStatus,
    SellerLightning,
)
from lnliquid.lightning.core_lightning import SHORT_CALLS, CoreLightning
from lnliquid.lightning.rpc import Fate, NodeRpc, Outcome
from lnliquid.watchers.invoice_reading import every_invoice

FITS: tuple[type[SellerLightning], type[BuyerLightning]] = (
    CoreLightning,
    CoreLightning,
)  # for mypy

PREIMAGE = bytes.fromhex("5ec2e7" + "07" * 29)
PAYMENT_HASH = hashlib.sha256(PREIMAGE).digest()
OTHER_PREIMAGE = b"\x08" * 32


class World:
    """A seller's and a buyer's node with a channel, a clock and a height that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000
        self.height = 100
        self.network = LightningNetwork(block_height=lambda: self.height, clock=lambda: self.now)
        self.paths = {name: folder / f"{name}.rpc" for name in ("seller", "buyer")}
        for name, path in self.paths.items():
            self.network.add_node(name, path)
        self.network.open_channel("buyer", "seller", capacity_sats=1_000_000, push_sats=1000)
        self.seller = CoreLightning(self.paths["seller"], deadline_secs=5)
        self.buyer = CoreLightning(self.paths["buyer"], deadline_secs=5)

    async def sell(
        self, label: str = "swap-1", preimage: bytes = PREIMAGE, amount_msat: int = 150_000
    ) -> Invoice:
        """An invoice of the seller's node."""
        return await self.seller.create_invoice(
            label=label,
            amount_msat=amount_msat,
            preimage=preimage,
            description="a swap",
            expiry_secs=600,
            cltv_blocks=18,
        )

    async def pay(self, bolt11: str | None, max_delay_blocks: int = 30) -> Payment:
        """Pay from the buyer's node."""
        assert bolt11 is not None
        return await self.buyer.pay(
            bolt11, max_delay_blocks=max_delay_blocks, max_fee_msat=1000, wait_secs=5
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Both nodes started, and everything closed at the end."""
    made = World(tmp_path)
    await made.network.start()
    yield made
    await made.seller.close()
    await made.buyer.close()
    await made.network.stop()


async def test_info_and_capacity(world: World) -> None:
    """The node's identity and what it can receive and send."""
    info = await world.seller.info()
    assert (info.network, info.block_height) == ("liquid-regtest", 100)
    assert len(info.node_id) == 66
    assert info.version
    assert 0 < await world.seller.receivable_msat() < 999_000_000
    assert 0 < await world.buyer.spendable_msat() < 999_000_000
    await world.network.nodes["buyer"].stop()
    assert await world.seller.receivable_msat() == 0


CHANNELS = [
    # state, connected, receivable, versions under way (total, ours more) → can receive, can send
    ("CHANNELD_NORMAL", True, [], 700, 200),
    ("CHANNELD_AWAITING_SPLICE", True, [], 700, 200),
    ("CHANNELD_AWAITING_SPLICE", False, [], 0, 0),
    ("CHANNELD_AWAITING_SPLICE", True, [(2_000, 1)], 700, 200),
    ("CHANNELD_AWAITING_SPLICE", True, [(900, 0)], 600, 200),
    ("CHANNELD_AWAITING_SPLICE", True, [(2_000, 0), (900, 0), (3_500, 2)], 600, 200),
    ("CHANNELD_AWAITING_SPLICE", True, [(0, -1)], 700, 0),
    ("CHANNELD_AWAITING_LOCKIN", True, [], 0, 0),
    ("CHANNELD_SHUTTING_DOWN", True, [], 0, 0),
    ("AWAITING_UNILATERAL", True, [], 0, 0),
]


@pytest.mark.parametrize("row", CHANNELS, ids=str)
async def test_a_channel_counts_while_it_takes_htlcs(
    row: tuple[str, bool, list[tuple[int, int]], int, int], tmp_path: Path
) -> None:
    """Also while it is spliced, with the least that any version of it can carry."""
    state, connected, splices, receivable_msat, spendable_msat = row
    channel = {
        "state": state,
        "peer_connected": connected,
        "total_msat": 1_000,
        "receivable_msat": 700,
        "spendable_msat": 200,
    }
    if splices:
        channel["inflight"] = [
            {"total_funding_msat": total, "splice_amount": more} for total, more in splices
        ]
    async with client_of(FakeNode({"listpeerchannels": {"channels": [channel]}}), tmp_path) as node:
        assert await node.receivable_msat() == receivable_msat
        assert await node.spendable_msat() == spendable_msat


async def test_options_of_the_node(world: World, tmp_path: Path) -> None:
    """Flags that are set, and values; none of a node that tells them in the form of old."""
    options = await world.seller.options()
    assert (options["cltv-final"], options["network"]) == (10, "liquid-regtest")
    assert "invoices-onchain-fallback" not in options
    configs = world.network.nodes["seller"].configs
    configs["invoices-onchain-fallback"] = {"set": True, "source": "cmdline"}
    configs["autoclean-paidinvoices-age"] = {"value_int": 300, "source": "config:2"}
    options = await world.seller.options()
    assert options["invoices-onchain-fallback"] is True
    assert options["autoclean-paidinvoices-age"] == 300
    async with client_of(FakeNode({"listconfigs": {"alias": "an old node"}}), tmp_path) as node:
        assert await node.options() == {}


async def test_no_invoice_asks_for_an_address_on_the_chain(tmp_path: Path) -> None:
    """An empty list, also when the node is set to add one: none is added then."""
    node = FakeNode()
    async with client_of(node, tmp_path) as client:
        with pytest.raises(BackendRejected):
            await client.create_invoice(
                label="swap-1",
                amount_msat=1,
                preimage=PREIMAGE,
                description="a swap",
                expiry_secs=600,
                cltv_blocks=18,
            )
    assert node.asked[0][1]["fallbacks"] == []


async def test_an_invoice_is_made_with_our_preimage(world: World) -> None:
    """Label, hash, amount, expiry and final CLTV are as asked."""
    invoice = await world.sell()
    assert invoice.status is InvoiceStatus.UNPAID
    assert (invoice.label, invoice.payment_hash) == ("swap-1", PAYMENT_HASH)
    assert (invoice.amount_msat, invoice.expires_at) == (150_000, world.now + 600)
    assert invoice.bolt11 is not None
    decoded = await world.buyer.decode(invoice.bolt11)
    assert decoded["payment_hash"] == PAYMENT_HASH.hex()
    assert decoded["min_final_cltv_expiry"] == 18
    assert await world.seller.invoice("swap-1") == invoice


async def test_making_the_same_invoice_again_returns_the_one_there_is(world: World) -> None:
    """After a crash the same request finds its invoice, paid or not."""
    invoice = await world.sell()
    assert await world.sell() == invoice
    await world.pay(invoice.bolt11)
    assert (await world.sell()).status is InvoiceStatus.PAID


@pytest.mark.parametrize(
    ("label", "preimage", "amount_msat"),
    [
        ("swap-1", OTHER_PREIMAGE, 150_000),
        ("swap-2", PREIMAGE, 150_000),
        ("swap-1", PREIMAGE, 150_001),
    ],
)
async def test_an_invoice_that_is_not_ours_is_not_returned(
    world: World, label: str, preimage: bytes, amount_msat: int
) -> None:
    """A label, a preimage or an amount of another invoice is a refusal."""
    await world.sell()
    with pytest.raises(BackendRejected) as caught:
        await world.sell(label, preimage, amount_msat)
    assert caught.value.code in (900, 901)


async def test_invoices_are_read_by_label(world: World) -> None:
    """Many labels at once; one that does not exist is ABSENT."""
    labels = [f"swap-{n}" for n in range(100)]
    for n, label in enumerate(labels):
        await world.sell(label, bytes([n]) * 32)
    found = await every_invoice(world.seller, [*labels, "nope", "swap-1"])
    assert found.keys() == {*labels, "nope"}
    assert found["nope"] == Invoice("nope", InvoiceStatus.ABSENT)
    assert {found[label].status for label in labels} == {InvoiceStatus.UNPAID}
    assert found["swap-7"].payment_hash == hashlib.sha256(b"\x07" * 32).digest()


async def test_an_invoice_is_deleted_only_in_the_stated_status(world: World) -> None:
    """False when it has another status or is gone; afterwards it is ABSENT and cannot be paid."""
    invoice = await world.sell()
    assert await world.seller.delete_invoice("swap-1", InvoiceStatus.PAID) is False
    assert await world.seller.delete_invoice("swap-1", InvoiceStatus.UNPAID) is True
    assert await world.seller.delete_invoice("swap-1", InvoiceStatus.UNPAID) is False
    assert (await world.seller.invoice("swap-1")).status is InvoiceStatus.ABSENT
    refused = await world.pay(invoice.bolt11)
    assert refused.status is PaymentStatus.FAILED
    assert refused.failure is not None
    assert "doesn't know invoice" in refused.failure
    with pytest.raises(ValueError, match="absent"):
        await world.seller.delete_invoice("swap-1", InvoiceStatus.ABSENT)


async def test_an_expired_invoice_says_so(world: World) -> None:
    """EXPIRED is deleted as such, not as unpaid, and a payment of it fails."""
    invoice = await world.sell()
    world.now += 601
    assert (await world.seller.invoice("swap-1")).status is InvoiceStatus.EXPIRED
    assert (await world.pay(invoice.bolt11)).status is PaymentStatus.FAILED
    assert await world.seller.delete_invoice("swap-1", InvoiceStatus.UNPAID) is False
    assert await world.seller.delete_invoice("swap-1", InvoiceStatus.EXPIRED) is True


async def test_a_payment_gives_the_preimage_and_stays_paid(world: World) -> None:
    """COMPLETE with the preimage, the same when paid again, and on both sides."""
    invoice = await world.sell()
    assert await world.buyer.payment(PAYMENT_HASH) == Payment(PaymentStatus.ABSENT)
    paid = await world.pay(invoice.bolt11)
    assert paid == Payment(PaymentStatus.COMPLETE, PREIMAGE, 150_000)
    assert await world.pay(invoice.bolt11) == paid
    assert await world.buyer.payment(PAYMENT_HASH) == paid
    assert (await world.seller.invoice("swap-1")).status is InvoiceStatus.PAID


async def test_waiting_for_a_payment(world: World) -> None:
    """The next paid invoice after an index, or None when the wait is over."""
    assert await world.seller.wait_paid(0, 1) is None
    invoice = await world.sell()
    waiting = asyncio.create_task(world.seller.wait_paid(0, 30))
    await world.pay(invoice.bolt11)
    paid = await waiting
    assert paid is not None
    assert (paid.label, paid.status, paid.pay_index) == ("swap-1", InvoiceStatus.PAID, 1)
    assert await world.seller.wait_paid(1, 1) is None


async def test_a_payment_that_finds_no_way_fails(world: World) -> None:
    """A CLTV limit below the invoice's, or too large an amount: FAILED with the node's words."""
    short = await world.pay((await world.sell()).bolt11, max_delay_blocks=10)
    assert short.status is PaymentStatus.FAILED
    assert "delay" in str(short.failure)
    large = await world.sell("swap-2", OTHER_PREIMAGE, 10**15)
    assert (await world.pay(large.bolt11)).status is PaymentStatus.FAILED
    assert (await world.buyer.payment(PAYMENT_HASH)).status is PaymentStatus.ABSENT


async def test_a_payment_that_failed_can_be_made_again(world: World) -> None:
    """After a failure on the way, the second try completes, over the failed attempt."""
    invoice = await world.sell()
    world.network.fail_next_payment()
    assert (await world.pay(invoice.bolt11)).status is PaymentStatus.FAILED
    assert (await world.buyer.payment(PAYMENT_HASH)).status is PaymentStatus.FAILED
    assert (await world.pay(invoice.bolt11)).status is PaymentStatus.COMPLETE
    assert (await world.buyer.payment(PAYMENT_HASH)).preimage == PREIMAGE


async def test_what_is_no_invoice_is_rejected(world: World) -> None:
    """Nothing is paid, and it is not told as a failed payment."""
    with pytest.raises(BackendRejected):
        await world.pay("lnert1garbage")


async def test_a_payment_in_flight_is_unknown_then_pending_then_complete(world: World) -> None:
    """A `pay` that is not answered in time is a time-out; `payment` tells what becomes of it."""
    invoice = await world.sell()
    assert invoice.bolt11 is not None
    world.network.hold_payments()
    impatient = CoreLightning(world.paths["buyer"], deadline_secs=0.3)
    with pytest.raises(BackendTimeout):
        await impatient.pay(invoice.bolt11, max_delay_blocks=30, max_fee_msat=0, wait_secs=1)
    await impatient.close()
    assert (await world.buyer.payment(PAYMENT_HASH)).status is PaymentStatus.PENDING
    world.network.release_payments()
    deadline = time.monotonic() + 5
    while (await world.buyer.payment(PAYMENT_HASH)).status is not PaymentStatus.COMPLETE:
        assert time.monotonic() < deadline


async def test_a_node_that_hangs_is_a_timeout(world: World) -> None:
    """Neither success nor failure, for reads and writes alike."""
    world.network.hang("seller")
    impatient = CoreLightning(world.paths["seller"], deadline_secs=0.2)
    with pytest.raises(BackendTimeout):
        await impatient.info()
    with pytest.raises(BackendTimeout):
        await impatient.delete_invoice("swap-1", InvoiceStatus.UNPAID)
    world.network.wake("seller")
    assert (await impatient.info()).block_height == 100
    await impatient.close()


async def test_a_wait_has_its_own_time_and_the_deadline_besides(tmp_path: Path) -> None:
    """A node that does not end a wait by itself is given up after both."""
    async with client_of(Mute(), tmp_path, deadline_secs=0.2) as node:
        began = time.monotonic()
        with pytest.raises(BackendTimeout):
            await node.wait_paid(0, 1)
        assert 1.2 <= time.monotonic() - began < 10


async def test_a_node_that_is_down_is_unavailable(world: World) -> None:
    """No socket, or nobody behind it: nothing was done."""
    await world.network.nodes["seller"].stop()
    with pytest.raises(BackendUnavailable, match=r"seller\.rpc"):
        await world.seller.info()
    world.paths["buyer"].unlink()
    with pytest.raises(BackendUnavailable):
        await world.buyer.info()


async def test_waiting_calls_keep_no_short_call_waiting(world: World) -> None:
    """With many waits under way, short calls are answered at once."""
    waits = [asyncio.create_task(world.seller.wait_paid(0, 60)) for _ in range(30)]
    await asyncio.gather(*(world.seller.info() for _ in range(3 * SHORT_CALLS)))
    assert not any(wait.done() for wait in waits)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_close_ends_what_is_under_way(world: World) -> None:
    """A waiting call ends as unknown, its thread goes away, and later calls are unavailable."""
    waiting = asyncio.create_task(world.seller.wait_paid(0, 60))
    await wait_for(lambda: any(t.name == "core-lightning" for t in threading.enumerate()))
    await world.seller.close()
    with pytest.raises((BackendTimeout, BackendUnavailable)):
        await waiting
    with pytest.raises(BackendUnavailable):
        await world.seller.info()
    await wait_for(lambda: not any(t.name == "core-lightning" for t in threading.enumerate()))


async def test_what_a_node_says_of_its_sync_is_told(tmp_path: Path) -> None:
    """`getinfo` has a warning for itself, and one for its chain's node."""
    plain = {"id": "02", "network": "x", "version": "v", "blockheight": 1}
    server = FakeNode({"getinfo": plain | {"warning_lightningd_sync": "Still loading blocks."}})
    async with serving(server, tmp_path) as path:
        node = CoreLightning(path)
        assert (await node.info()).sync_problem == "Still loading blocks."
        await node.close()


async def test_a_call_that_hangs_in_the_system_has_a_deadline_too(tmp_path: Path) -> None:
    """As when the socket is on a mount that does not answer: nothing is known of it then."""
    held = threading.Event()

    class Hanging(NodeRpc):
        def call(self, *_: object, **__: object) -> Outcome:
            held.wait(30)
            return Outcome(Fate.NOT_SENT)

    node = CoreLightning(tmp_path / "none", deadline_secs=0.1)
    node._rpc = Hanging(tmp_path / "none")  # where `CoreLightning` keeps its own
    try:
        async with asyncio.timeout(5):
            with pytest.raises(BackendTimeout, match="hangs"):
                await node.info()
    finally:
        held.set()
        await node.close()


async def test_a_socket_path_longer_than_the_system_takes_works(tmp_path: Path) -> None:
    """Over 108 bytes, as in deep data directories."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    server = FakeNode({"getinfo": {"id": "02", "network": "x", "version": "v", "blockheight": 1}})
    async with serving(server, tmp_path) as path:
        os.link(path, deep / "lightning-rpc")
        node = CoreLightning(deep / "lightning-rpc")
        assert (await node.info()).node_id == "02"
        await node.close()


async def test_a_hanging_node_does_not_keep_the_process(tmp_path: Path) -> None:
    """The interpreter exits while a call is blocked."""
    async with serving(Mute(), tmp_path) as path:
        program = (
            "import asyncio, os, sys, pathlib\n"
            "from lnliquid.lightning.core_lightning import CoreLightning\n"
            "async def main():\n"
            "    node = CoreLightning(pathlib.Path(sys.argv[1]), deadline_secs=100)\n"
            "    call = asyncio.ensure_future(node.info())\n"
            "    await asyncio.wait([call], timeout=0.2)\n"
            "asyncio.run(main())\n"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path))
        try:
            assert await asyncio.wait_for(process.wait(), 20) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


# -- nodes that misbehave ---------------------------------------------------------------------


class FakeNode:
    """A JSON-RPC socket that gives the answers it was made with: results, or errors by code."""

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[tuple[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request, as pyln-client makes them."""
        request, decoder = b"", json.JSONDecoder()
        while chunk := await reader.read(65536):
            request += chunk
            with contextlib.suppress(ValueError):
                message, _ = decoder.raw_decode(request.decode())
                self.asked.append((message["method"], message["params"]))
                await self.reply(message, writer)
                break

    async def reply(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Send the answer."""
        writer.write(self.encode(message).encode() + b"\n\n")
        await writer.drain()

    def encode(self, message: dict[str, Any]) -> str:
        """The answer as text."""
        answer = self.answers.get(message["method"], {"code": -32601, "message": "Unknown command"})
        kind = "error" if "code" in answer else "result"
        return json.dumps({"jsonrpc": "2.0", "id": message["id"], kind: answer})


class Mute(FakeNode):
    """Takes the request and never answers, until the client goes away."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass


class Cutting(FakeNode):
    """Closes the connection after the request."""

    async def reply(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        pass


class Halving(FakeNode):
    """Closes the connection in the middle of the answer, which repeats the request."""

    async def reply(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"error": ' + json.dumps(message["params"]).encode())
        await writer.drain()


class Babbling(FakeNode):
    """Answers with something that is not JSON, and repeats the request in it."""

    def encode(self, message: dict[str, Any]) -> str:
        return f"what? {message['params']}"


class Echoing(FakeNode):
    """Refuses every call and repeats its parameters, as Core Lightning does with a bad one."""

    def encode(self, message: dict[str, Any]) -> str:
        error = {"code": -32602, "message": f"invalid token: {json.dumps(message['params'])}"}
        return json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error})


class Dripping(FakeNode):
    """Sends its answer so slowly that each single read succeeds."""

    async def reply(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for byte in self.encode(message).encode():
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)  # the fault itself, not a wait for something


@asynccontextmanager
async def serving(node: FakeNode, folder: Path) -> AsyncIterator[Path]:
    """The node behind a unix socket in the folder."""
    path = folder / "lightning-rpc"
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await node.serve(reader, writer)
        finally:
            connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_unix_server(connected, path)
    try:
        yield path
    finally:
        await close_server(server)
        await server.wait_closed()
        await asyncio.gather(*connections, return_exceptions=True)


@asynccontextmanager
async def client_of(
    node: FakeNode, folder: Path, deadline_secs: float = 5
) -> AsyncIterator[CoreLightning]:
    """A client of such a node."""
    async with serving(node, folder) as path:
        client = CoreLightning(path, deadline_secs=deadline_secs)
        try:
            yield client
        finally:
            await client.close()


def listpays(*statuses: str, preimage: bytes = PREIMAGE) -> dict[str, Any]:
    """An answer to `listpays` with one attempt for each status."""
    return {
        "pays": [
            {"status": status, "payment_hash": PAYMENT_HASH.hex()}
            | ({"preimage": preimage.hex(), "amount_sent_msat": 5} if status == "complete" else {})
            for status in statuses
        ]
    }


DECODED = {"type": "bolt11 invoice", "valid": True, "payment_hash": PAYMENT_HASH.hex()}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((), PaymentStatus.ABSENT),
        (("failed",), PaymentStatus.FAILED),
        (("failed", "pending"), PaymentStatus.PENDING),
        (("pending", "failed"), PaymentStatus.PENDING),
        (("failed", "complete", "pending"), PaymentStatus.COMPLETE),
    ],
)
async def test_a_payment_is_what_all_its_attempts_say(
    tmp_path: Path, statuses: tuple[str, ...], expected: PaymentStatus
) -> None:
    """One complete attempt decides; else one that is pending; else all have failed."""
    async with client_of(FakeNode({"listpays": listpays(*statuses)}), tmp_path) as node:
        assert (await node.payment(PAYMENT_HASH)).status is expected


PAY_METHODS = pytest.mark.parametrize("method", ["xpay", "pay"])
"""The command of new nodes, and the one of nodes that do not know it."""


@PAY_METHODS
@pytest.mark.parametrize(
    ("code", "statuses", "expected"),
    [
        (205, (), PaymentStatus.FAILED),
        (210, ("failed",), PaymentStatus.FAILED),
        (210, ("failed", "pending"), PaymentStatus.PENDING),
        (209, ("complete",), PaymentStatus.COMPLETE),
        (200, ("failed",), PaymentStatus.PENDING),
        (219, ("complete",), PaymentStatus.COMPLETE),
        (-4, ("pending",), PaymentStatus.PENDING),
    ],
)
async def test_a_failure_of_pay_counts_only_when_nothing_is_in_flight(
    tmp_path: Path, method: str, code: int, statuses: tuple[str, ...], expected: PaymentStatus
) -> None:
    """Core Lightning reports failures while parts are pending, and even after success."""
    refusal = {"code": code, "message": "Timed out after 3 attempts"}
    server = FakeNode({"decode": DECODED, method: refusal, "listpays": listpays(*statuses)})
    async with client_of(server, tmp_path) as node:
        paid = await node.pay("lnert1", max_delay_blocks=9, max_fee_msat=1, wait_secs=2)
        assert paid.status is expected
        if expected is PaymentStatus.FAILED:
            assert "Timed out after 3 attempts" in str(paid.failure)
    assert [name for name, _ in server.asked].count(method) == 1


@PAY_METHODS
@pytest.mark.parametrize(
    ("pay", "looked_up"),
    [
        ({"code": -4, "message": "Plugin terminated"}, listpays("failed")),
        ({"code": 210, "message": "gave up"}, {"code": -1, "message": "database"}),
        ({"status": "complete", "payment_preimage": OTHER_PREIMAGE.hex()}, listpays()),
        ({"status": "odd"}, listpays()),
        ([], listpays()),
    ],
)
async def test_an_answer_of_pay_that_decides_nothing_is_unknown(
    tmp_path: Path, method: str, pay: Any, looked_up: Any
) -> None:
    """An accident in the node, an unreadable answer or a wrong preimage is not a failure."""
    server = FakeNode({"decode": DECODED, method: pay, "listpays": looked_up})
    async with client_of(server, tmp_path) as node:
        with pytest.raises(BackendTimeout):
            await node.pay("lnert1", max_delay_blocks=9, max_fee_msat=1, wait_secs=2)
    assert [name for name, _ in server.asked].count("xpay") == 1
    assert ("pay" in [name for name, _ in server.asked]) is (method == "pay")


@pytest.mark.parametrize("refusal", [-32600, -32601, -32602])
async def test_an_xpay_without_maxdelay_is_not_used(tmp_path: Path, refusal: int) -> None:
    """That of v24.11; `pay` is asked with the same limits, once."""
    done = {"status": "complete", "payment_preimage": PREIMAGE.hex(), "amount_sent_msat": 7}
    unknown = {"code": refusal, "message": "unknown parameter: maxdelay"}
    server = FakeNode({"decode": DECODED, "xpay": unknown, "pay": done})
    async with client_of(server, tmp_path) as node:
        await node.pay("lnert1", max_delay_blocks=9, max_fee_msat=1, wait_secs=2)
    assert [name for name, _ in server.asked] == ["decode", "xpay", "pay"]
    assert server.asked[2][1]["maxdelay"] == 9


@pytest.mark.parametrize(
    ("method", "name", "status"),
    [("xpay", "invstring", {}), ("pay", "bolt11", {"status": "complete"})],
)
async def test_pay_passes_its_limits_on(
    tmp_path: Path, method: str, name: str, status: dict[str, str]
) -> None:
    """The CLTV limit, the fee limit in msat and the retry time, and no other fee parameter."""
    done = {"payment_preimage": PREIMAGE.hex(), "amount_sent_msat": 7} | status
    server = FakeNode({"decode": DECODED, method: done})
    async with client_of(server, tmp_path) as node:
        paid = await node.pay("lnert1", max_delay_blocks=9, max_fee_msat=1, wait_secs=2)
    assert paid == Payment(PaymentStatus.COMPLETE, PREIMAGE, 7)
    limits = {name: "lnert1", "maxdelay": 9, "maxfee": 1, "retry_for": 2}
    assert server.asked[-1] == (method, limits)


@PAY_METHODS
async def test_a_lost_pay_is_pending_for_as_long_as_the_node_may_try(
    tmp_path: Path, method: str
) -> None:
    """Failed attempts alone do not mean that the node has given up."""

    class CuttingPay(FakeNode):
        async def reply(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
            if message["method"] != method:
                await super().reply(message, writer)

    answers = {"decode": DECODED, "listpays": listpays("failed")}
    async with client_of(CuttingPay(answers), tmp_path, deadline_secs=0.5) as node:
        with pytest.raises(BackendTimeout):
            await node.pay("lnert1", max_delay_blocks=9, max_fee_msat=1, wait_secs=1)
        assert (await node.payment(PAYMENT_HASH)).status is PaymentStatus.PENDING
        deadline = time.monotonic() + 5
        while (await node.payment(PAYMENT_HASH)).status is not PaymentStatus.FAILED:
            assert time.monotonic() < deadline


async def test_an_answer_that_drips_in_ends_at_the_deadline(tmp_path: Path) -> None:
    """The deadline is for the whole call, not for each read."""
    began = time.monotonic()
    async with client_of(Dripping({"getinfo": {}}), tmp_path, deadline_secs=0.3) as node:
        with pytest.raises(BackendTimeout):
            await node.info()
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("answer", [{}, [], {"invoices": [{"label": "swap-1"}]}, {"invoices": 1}])
async def test_a_malformed_answer_is_rejected(tmp_path: Path, answer: Any) -> None:
    """An answer of the wrong form is an error of the backend, not of the program."""
    async with client_of(FakeNode({"listinvoices": answer}), tmp_path) as node:
        with pytest.raises(BackendRejected, match="malformed answer to listinvoices"):
            await node.invoice("swap-1")


def texts_of(error: BaseException | None) -> str:
    """All that could be logged of an exception and of those that hang on it."""
    parts = []
    while error is not None:
        parts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        parts += traceback.format_exception(error)
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


SECRET_CALLS: dict[str, Callable[[CoreLightning], Awaitable[object]]] = {
    "create_invoice": lambda node: node.create_invoice(
        label="swap-1",
        amount_msat=1,
        preimage=PREIMAGE,
        description="a swap",
        expiry_secs=1,
        cltv_blocks=1,
    ),
    "pay": lambda node: node.pay("lnert1", max_delay_blocks=1, max_fee_msat=1, wait_secs=0),
    "payment": lambda node: node.payment(PAYMENT_HASH),
}
TELLING: dict[str, Any] = {
    "invoice": {"payment_hash": PREIMAGE.hex(), "bolt11": 1, "expires_at": PREIMAGE.hex()},
    "decode": DECODED,
    "pay": {"status": PREIMAGE.hex(), "payment_preimage": PREIMAGE.hex()},
    "xpay": {"status": PREIMAGE.hex(), "payment_preimage": PREIMAGE.hex()},
    "listpays": {"pays": [{"status": "complete", "preimage": PREIMAGE.hex() + "zz"}]},
}
FAULTS: list[FakeNode] = [
    FakeNode(TELLING),
    FakeNode(TELLING | {"invoice": {"code": 900, "message": f"taken: {PREIMAGE.hex()}"}}),
    FakeNode(TELLING | {"invoice": {"code": 999, "message": f"no: {PREIMAGE.hex()}"}}),
    FakeNode(TELLING | {"listpays": listpays("complete", preimage=PREIMAGE[::-1])}),
    Mute(),
    Cutting(),
    Halving(),
    Babbling(),
    Echoing(),
]


@pytest.mark.parametrize("call", SECRET_CALLS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_no_preimage_in_errors_or_logs(
    tmp_path: Path,
    fault: FakeNode,
    call: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Money rule 9, at every way in which a call that carries a preimage can fail."""
    caplog.set_level(logging.DEBUG)
    async with client_of(fault, tmp_path, deadline_secs=0.3) as node:
        with pytest.raises(BackendError) as caught:
            await SECRET_CALLS[call](node)
    output = capfd.readouterr()
    told = "\n".join([texts_of(caught.value), caplog.text, output.out, output.err])
    assert PREIMAGE.hex() not in told
    assert PREIMAGE[::-1].hex() not in told
    assert repr(PREIMAGE) not in told


def test_a_payment_shows_no_preimage() -> None:
    """Its text form is safe to log."""
    payment = Payment(PaymentStatus.COMPLETE, PREIMAGE, 5)
    assert PREIMAGE.hex() not in f"{payment} {payment!r}"
    assert repr(PREIMAGE) not in f"{payment} {payment!r}"
