"""The embedded Lightning network: nodes, the channels between them, and the lab's faults."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from .bolt11 import Invoice
from .channels import Channel, Htlc
from .errors import PAY_DESTINATION_PERM_FAIL, PAY_UNSPECIFIED_ERROR, RpcError
from .invoices import PaymentRefusedError
from .node import LightningNode
from .payments import Payment
from .routes import CLTV_FINAL_BLOCKS, explain, find_channel

# How often a payment that cannot move looks at the block height and at the faults.
_LOOK_SECS = 0.02


class PaymentTimedOutError(Exception):
    """The chain reached the height at which the HTLC falls back to the payer."""


class OrderedFailureError(Exception):
    """The payee fails this payment because fail_next_payment() said so."""


class LightningNetwork:
    """Nodes with direct channels, all in this process and on the running event loop.

    `block_height` gives the tip of the chain that all nodes follow, `clock` Unix seconds. Payments
    take `pay_latency_secs` and then whatever the faults add. An HTLC that is not settled when the
    tip reaches its expiry goes back to the payer and its payment fails; unlike in life, the channel
    stays open. For `linger_secs` after `pay` has failed, `listpays` still tells it as pending. A
    node that was stopped keeps its state and goes on when started again.
    """

    def __init__(
        self,
        *,
        block_height: Callable[[], int],
        clock: Callable[[], float] = time.time,
        pay_latency_secs: float = 0.0,
        linger_secs: float = 0.0,
    ) -> None:
        self.block_height = block_height
        self.clock = clock
        self.pay_latency_secs = pay_latency_secs
        self.linger_secs = linger_secs
        self.nodes: dict[str, LightningNode] = {}
        self.channels: list[Channel] = []
        self._sends: set[asyncio.Task[RpcError | None]] = set()
        self._holding = False
        self._failures_ordered = 0
        self._held: list[Htlc] = []

    def add_node(self, name: str, socket_path: Path) -> LightningNode:
        """Make a node; its key follows from its name. Its socket opens with start()."""
        if name in self.nodes:
            raise ValueError(f"there is already a node {name!r}")
        node = LightningNode(name, socket_path, self)
        self.nodes[name] = node
        return node

    def open_channel(self, src: str, dst: str, capacity_sats: int, push_sats: int = 0) -> Channel:
        """A channel that works at once, funded by `src`, with `push_sats` of it given to `dst`."""
        if not 0 <= push_sats <= capacity_sats:
            raise ValueError(f"cannot push {push_sats} of {capacity_sats} sat")
        channel = Channel(
            opener=self.nodes[src].node_id,
            acceptor=self.nodes[dst].node_id,
            capacity_sats=capacity_sats,
            pushed_sats=push_sats,
            short_channel_id=f"{self.block_height()}x{len(self.channels) + 1}x0",
            opened_at=self.clock(),
        )
        self.channels.append(channel)
        return channel

    async def start(self) -> None:
        """Open the sockets of all nodes."""
        for node in self.nodes.values():
            await node.start()

    async def stop(self) -> None:
        """Close all sockets and abandon the payments under way; the network is not used again."""
        for node in self.nodes.values():
            await node.stop()
        sends = list(self._sends)
        for task in sends:
            task.cancel()
        await asyncio.gather(*sends, return_exceptions=True)

    # Faults.

    def hold_payments(self) -> None:
        """From now on payees accept HTLCs and settle none until release_payments()."""
        self._holding = True

    def release_payments(self) -> None:
        """Let held and later HTLCs settle, or fail where the invoice is no longer payable."""
        self._holding = False

    @property
    def held_payments(self) -> list[str]:
        """Payment hashes (hex) of the HTLCs that a payee has accepted and not settled."""
        return [htlc.payment_hash.hex() for htlc in self._held]

    def fail_next_payment(self, count: int = 1) -> None:
        """The payee fails that many of the next payments with temporary_node_failure."""
        self._failures_ordered += count

    def hang(self, name: str) -> None:
        """The node's process stands still: connections are accepted, nothing is ever answered."""
        self.nodes[name].rpc.hang()

    def wake(self, name: str) -> None:
        """End of hang(): the node carries on with what has come in."""
        self.nodes[name].rpc.wake()

    # Payments.

    def node_by_id(self, node_id: str) -> LightningNode | None:
        """The node with that public key."""
        return next((n for n in self.nodes.values() if n.node_id == node_id), None)

    def connected(self, channel: Channel) -> bool:
        """Whether both ends are running (a hung node looks connected)."""
        return all(node.running for node in self._ends(channel))

    def reconnected(self, channel: Channel) -> bool:
        """Whether an end was started again since the beginning."""
        return any(node.starts > 1 for node in self._ends(channel))

    def _ends(self, channel: Channel) -> list[LightningNode]:
        return [node for node in self.nodes.values() if node.node_id in channel.sides]

    def route(
        self,
        payer: LightningNode,
        payee_id: str,
        amount_msat: int,
        *,
        final_cltv_blocks: int,
        max_delay_blocks: int,
    ) -> Channel | None:
        """The channel to pay over, None to oneself. Raises RpcError 205, 206 or 217."""
        if payer.node_id == payee_id:
            return None
        return find_channel(
            self.channels,
            self.connected,
            payer=payer.node_id,
            payee=payee_id,
            amount_msat=amount_msat,
            final_cltv_blocks=final_cltv_blocks,
            max_delay_blocks=max_delay_blocks,
        )

    async def send(
        self, payer: LightningNode, payment: Payment, invoice: Invoice, channel: Channel | None
    ) -> None:
        """Carry a payment out; raises RpcError when it fails.

        Once begun it goes on by itself: a caller that is cancelled stops none of it.
        """
        carry = self._carry(payer, payment, invoice, channel)
        task = asyncio.get_running_loop().create_task(carry)
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)
        error = await asyncio.shield(task)
        if error is not None:
            raise error

    async def _carry(
        self, payer: LightningNode, payment: Payment, invoice: Invoice, channel: Channel | None
    ) -> RpcError | None:
        payee = self.node_by_id(invoice.payee)
        assert payee is not None, "a route leads to a node of this network"
        expiry = self.block_height() + 1 + invoice.min_final_cltv_blocks
        htlc = Htlc(
            0, payer.node_id, payment.amount_msat, bytes.fromhex(payment.payment_hash), expiry
        )
        if channel is not None:
            htlc = channel.offer(payer.node_id, payment.amount_msat, htlc.payment_hash, expiry)
        try:
            preimage = await self._settle(payer, payee, invoice, htlc)
        except (PaymentRefusedError, PaymentTimedOutError, OrderedFailureError) as error:
            if channel is not None:
                channel.fail(htlc)
            payer.payments.fail(payment)
            return self._failure(error, payer, payment, channel)
        if channel is not None:
            channel.fulfil(htlc)
        payer.payments.complete(payment, preimage)
        return None

    async def _settle(
        self, payer: LightningNode, payee: LightningNode, invoice: Invoice, htlc: Htlc
    ) -> bytes:
        """The preimage, as soon as nothing hinders the payee from giving it."""
        secret = bytes.fromhex(invoice.payment_secret)
        if self.pay_latency_secs:
            await asyncio.sleep(self.pay_latency_secs)
        await self._until(lambda: payee.working and payer.working, htlc)
        self_payment = payer is payee
        if not self_payment and htlc.cltv_expiry < self.block_height() + CLTV_FINAL_BLOCKS:
            raise PaymentRefusedError
        payee.invoices.check_payment(htlc.payment_hash, secret, htlc.amount_msat)
        if self._failures_ordered and not self_payment:
            self._failures_ordered -= 1
            raise OrderedFailureError
        self._held.append(htlc)
        try:
            await self._until(lambda: not self._holding and payee.working and payer.working, htlc)
        finally:
            self._held.remove(htlc)
        return payee.invoices.settle(htlc.payment_hash, secret, htlc.amount_msat)

    async def _until(self, free: Callable[[], bool], htlc: Htlc) -> None:
        """Wait until `free`. Raises PaymentTimedOutError at the HTLC's expiry height."""
        while not free():
            if self.block_height() >= htlc.cltv_expiry:
                raise PaymentTimedOutError
            await asyncio.sleep(_LOOK_SECS)

    def _failure(
        self, error: Exception, payer: LightningNode, payment: Payment, channel: Channel | None
    ) -> RpcError:
        """What xpay makes of a payment that came back."""
        if isinstance(error, PaymentRefusedError) or channel is None:
            detail = "incorrect_or_unknown_payment_details"
            if channel is None:
                detail = "Malformed error reply"  # lightningd cannot read its own onion
            return RpcError(
                PAY_DESTINATION_PERM_FAIL, f"Destination said it doesn't know invoice: {detail}"
            )
        where = f"{channel.short_channel_id}/{channel.direction(payer.node_id)}"
        first = (
            f"Unexpected error (temporary_node_failure) from final node: disabling {where} "
            "for this payment. "
            if isinstance(error, OrderedFailureError)
            else f"We got a weird error (permanent_channel_failure) for {where}: disabling it "
            "for this payment. "
        )
        then = explain(
            self.channels,
            lambda c: c is not channel and self.connected(c),
            payer=payer.node_id,
            payee=payment.destination,
            amount_msat=payment.amount_msat,
        )
        return RpcError(
            PAY_UNSPECIFIED_ERROR, f"Failed after 1 attempts. {first}Then routing failed: {then}"
        )
