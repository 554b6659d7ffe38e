"""Rules of the embedded Lightning network beyond the recorded calls."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pyln.client import LightningRpc, RpcError
from pyln.proto.invoice import Invoice as PylnInvoice

from lnlab.nodes.embedded.lightning import LightningNetwork
from lnlab.wait import wait_for

CAPACITY_SATS = 1_000_000


class Refused(Exception):
    """An error answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] | None = error.get("data")


class Lab:
    """Two nodes, a clock and a block height that the test moves."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_700_000_000.0
        self.height = 100
        self.network = LightningNetwork(block_height=lambda: self.height, clock=lambda: self.now)
        for name in ("seller", "buyer"):
            self.network.add_node(name, directory / name)
        self.network.open_channel("buyer", "seller", CAPACITY_SATS, push_sats=300_000)
        self._labels = 0

    async def call(self, node: str, method: str, /, **params: Any) -> Any:
        """Make a call on a connection of its own; raises Refused."""
        path = self.network.nodes[node].socket_path
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            request = {"jsonrpc": "2.0", "id": "x", "method": method, "params": params}
            writer.write(json.dumps(request).encode())
            reply = json.loads(await reader.readuntil(b"\n\n"))
        finally:
            writer.close()
            await writer.wait_closed()
        if "error" in reply:
            raise Refused(reply["error"])
        return reply["result"]

    async def invoice(self, node: str = "seller", /, **params: Any) -> dict[str, Any]:
        """Make an invoice of 5,000 msat; the answer with its label."""
        self._labels += 1
        given = {"amount_msat": 5000, "label": f"l{self._labels}", "description": "d"} | params
        made: dict[str, Any] = await self.call(node, "invoice", **given)
        return made | {"label": given["label"]}

    async def pay(self, made: dict[str, Any], **params: Any) -> dict[str, Any]:
        paid: dict[str, Any] = await self.call("buyer", "pay", bolt11=made["bolt11"], **params)
        return paid

    async def state(self, made: dict[str, Any]) -> str:
        """Status of an invoice of the seller."""
        listed = await self.call("seller", "listinvoices", label=made["label"])
        return str(listed["invoices"][0]["status"])

    async def channel(self, node: str = "buyer") -> dict[str, Any]:
        listed = await self.call(node, "listpeerchannels")
        channel: dict[str, Any] = listed["channels"][0]
        return channel

    async def until_held(self, count: int = 1) -> None:
        await wait_for(lambda: len(self.network.held_payments) == count)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    await lab.network.start()
    yield lab
    await lab.network.stop()


async def test_an_invoice_expires_by_the_clock_and_cannot_be_paid(lab: Lab) -> None:
    """At its expiry an unpaid invoice is expired for the payee, one second later for the payer."""
    made = await lab.invoice(expiry=60)
    lab.now += 59.9
    assert await lab.state(made) == "unpaid"
    lab.now += 0.1
    assert await lab.state(made) == "expired"
    with pytest.raises(Refused) as refused:
        await lab.pay(made)
    assert refused.value.code == 203
    lab.now += 1
    with pytest.raises(Refused) as refused:
        await lab.pay(made)
    assert (refused.value.code, refused.value.message) == (207, "Invoice expired 1 seconds ago")


async def test_a_deleted_and_remade_invoice_expires_at_its_new_time(lab: Lab) -> None:
    """The expiry of a deleted invoice does not touch its successor of the same label."""
    preimage = "11" * 32
    first = await lab.invoice(label="again", preimage=preimage, expiry=10)
    await lab.call("seller", "delinvoice", label="again", status="unpaid")
    second = await lab.invoice(label="again", preimage=preimage, expiry=100)
    assert first["payment_hash"] == second["payment_hash"]
    lab.now += 50
    assert await lab.state(second) == "unpaid"
    lab.now += 50
    assert await lab.state(second) == "expired"


async def test_waitanyinvoice_gives_each_payment_once_and_in_order(lab: Lab) -> None:
    """Walking the pay index sees every paid invoice, whatever the order of their making."""
    made = [await lab.invoice() for _ in range(4)]
    for i in (2, 0, 3):
        await lab.pay(made[i])
    seen, last = [], 0
    for _ in range(3):
        paid = await lab.call("seller", "waitanyinvoice", lastpay_index=last, timeout=1)
        last = paid["pay_index"]
        seen.append(paid["label"])
    assert seen == [made[i]["label"] for i in (2, 0, 3)]
    waiting = asyncio.create_task(lab.call("seller", "waitanyinvoice", lastpay_index=last))
    await lab.pay(made[1])
    assert (await waiting)["label"] == made[1]["label"]


async def test_waitanyinvoice_skips_deleted_payments_and_times_out(lab: Lab) -> None:
    """A paid invoice that was deleted is passed over; with nothing left comes error 904."""
    first, second = await lab.invoice(), await lab.invoice()
    await lab.pay(first)
    await lab.pay(second)
    await lab.call("seller", "delinvoice", label=first["label"], status="paid")
    found = await lab.call("seller", "waitanyinvoice", lastpay_index=0, timeout=0)
    assert found["label"] == second["label"]
    with pytest.raises(Refused) as refused:
        await lab.call("seller", "waitanyinvoice", lastpay_index=2, timeout=0)
    assert refused.value.code == 904


async def test_waitinvoice_ends_when_its_invoice_does(lab: Lab) -> None:
    """Paid answers the invoice, expired error 903 with it, deleted and unknown error -1."""
    paid, late, gone = [await lab.invoice(expiry=e) for e in (100, 10, 100)]
    waits = [
        asyncio.create_task(lab.call("seller", "waitinvoice", label=made["label"]))
        for made in (paid, late, gone)
    ]
    await lab.pay(paid)
    assert (await waits[0])["status"] == "paid"
    lab.now += 20
    with pytest.raises(Refused) as refused:
        await waits[1]
    assert refused.value.code == 903
    assert refused.value.data is not None
    assert refused.value.data["status"] == "expired"
    await lab.call("seller", "delinvoice", label=gone["label"], status="unpaid")
    with pytest.raises(Refused, match="Invoice deleted during wait"):
        await waits[2]
    with pytest.raises(Refused, match="Label not found"):
        await lab.call("seller", "waitinvoice", label=gone["label"])


async def test_a_held_payment_is_pending_until_released(lab: Lab) -> None:
    """While held: pay blocks, listpays says pending, the invoice is unpaid, the amount is out."""
    made = await lab.invoice(amount_msat=20_000_000)
    before = await lab.channel()
    lab.network.hold_payments()
    paying = asyncio.create_task(lab.pay(made))
    await lab.until_held()
    assert lab.network.held_payments == [made["payment_hash"]]
    pays = (await lab.call("buyer", "listpays", payment_hash=made["payment_hash"]))["pays"]
    assert [p["status"] for p in pays] == ["pending"]
    assert await lab.state(made) == "unpaid"
    held = await lab.channel()
    assert held["to_us_msat"] == before["to_us_msat"]
    assert before["spendable_msat"] - held["spendable_msat"] >= 20_000_000
    assert [h["direction"] for h in held["htlcs"]] == ["out"]
    assert [h["direction"] for h in (await lab.channel("seller"))["htlcs"]] == ["in"]
    lab.network.release_payments()
    assert (await paying)["status"] == "complete"
    assert await lab.state(made) == "paid"
    after = await lab.channel()
    assert after["to_us_msat"] == before["to_us_msat"] - 20_000_000
    assert after["htlcs"] == []


async def test_a_payer_that_hangs_up_does_not_stop_its_payment(lab: Lab) -> None:
    """A pay whose client gave up completes, and listpays tells."""
    made = await lab.invoice()
    lab.network.hold_payments()
    paying = asyncio.create_task(lab.pay(made))
    await lab.until_held()
    paying.cancel()
    lab.network.release_payments()

    async def is_complete() -> bool:
        pays = await lab.call("buyer", "listpays", payment_hash=made["payment_hash"])
        return [p["status"] for p in pays["pays"]] == ["complete"]

    await wait_for(is_complete)
    again = await lab.pay(made)
    assert (
        hashlib.sha256(bytes.fromhex(again["payment_preimage"])).hexdigest()
        == (made["payment_hash"])
    )


async def test_paying_again_while_pending_is_refused_without_a_verdict(lab: Lab) -> None:
    """A second pay of a pending hash is error -3, as in real xpay: no success and no failure."""
    made = await lab.invoice()
    lab.network.hold_payments()
    paying = asyncio.create_task(lab.pay(made))
    await lab.until_held()
    with pytest.raises(Refused, match="still in progress") as refused:
        await lab.pay(made)
    assert refused.value.code == -3
    lab.network.release_payments()
    assert (await paying)["status"] == "complete"


async def test_an_invoice_deleted_while_held_fails_its_payment(lab: Lab) -> None:
    """Deleting an unpaid invoice wins over an HTLC that waits for it; the money goes back."""
    made = await lab.invoice()
    before = await lab.channel()
    lab.network.hold_payments()
    paying = asyncio.create_task(lab.pay(made))
    await lab.until_held()
    await lab.call("seller", "delinvoice", label=made["label"], status="unpaid")
    lab.network.release_payments()
    with pytest.raises(Refused) as refused:
        await paying
    assert refused.value.code == 203
    assert (await lab.channel())["spendable_msat"] == before["spendable_msat"]


async def test_a_held_payment_falls_back_at_its_expiry_height(lab: Lab) -> None:
    """With final CLTV 18 the HTLC of height 100 expires at 119, and not a block before."""
    made = await lab.invoice(cltv=18)
    lab.network.hold_payments()
    paying = asyncio.create_task(lab.pay(made))
    await lab.until_held()
    assert (await lab.channel())["htlcs"][0]["expiry"] == 119
    lab.height = 118
    assert not (await asyncio.wait({paying}, timeout=0.1))[0]
    lab.height = 119
    with pytest.raises(Refused) as refused:
        await paying
    assert refused.value.code == 209
    pays = (await lab.call("buyer", "listpays", payment_hash=made["payment_hash"]))["pays"]
    assert [p["status"] for p in pays] == ["failed"]
    assert "amount_msat" not in pays[0]
    lab.network.release_payments()
    assert await lab.state(made) == "unpaid"


async def test_a_failed_payment_is_listed_as_pending_for_a_moment(lab: Lab) -> None:
    """Like xpay's, `listpays` is behind the answer of `pay`, for as long as the network says."""
    slow = LightningNetwork(
        block_height=lambda: lab.height, clock=lambda: lab.now, linger_secs=0.05
    )
    buyer = slow.add_node("buyer", Path("unused"))
    payment = buyer.payments.begin(
        bolt11="lnert1", payment_hash="00" * 32, destination="02", amount_msat=5000, label=None
    )
    buyer.payments.fail(payment)
    assert buyer.payments.lingers(payment)
    assert payment.as_pay(lingers=True)["status"] == "pending"
    assert payment.as_pay(lingers=True)["amount_sent_msat"] == 0
    lab.now += 0.06
    assert not buyer.payments.lingers(payment)
    assert payment.as_pay()["status"] == "failed"


async def test_an_ordered_failure_hits_one_payment_and_can_be_retried(lab: Lab) -> None:
    """The next payment fails with 209, the invoice stays payable; listpays has both attempts."""
    made = await lab.invoice()
    lab.network.fail_next_payment()
    with pytest.raises(Refused) as refused:
        await lab.pay(made)
    assert refused.value.code == 209
    assert refused.value.message.startswith("Failed after 1 attempts. Unexpected error")
    assert (await lab.pay(made))["status"] == "complete"
    pays = (await lab.call("buyer", "listpays", payment_hash=made["payment_hash"]))["pays"]
    assert [p["status"] for p in pays] == ["failed", "complete"]


async def test_a_hung_node_answers_nothing_and_later_everything(lab: Lab) -> None:
    """While it hangs connections are taken and stay silent; what was asked is done at waking."""
    lab.network.hang("seller")
    asking = asyncio.create_task(lab.invoice(label="late"))
    giving_up = asyncio.create_task(lab.invoice(label="given up"))
    assert not (await asyncio.wait({asking, giving_up}, timeout=0.1))[0]
    giving_up.cancel()
    await asyncio.wait({giving_up})
    lab.network.wake("seller")
    assert (await asking)["label"] == "late"

    async def was_made() -> bool:
        listed = await lab.call("seller", "listinvoices", label="given up")
        return bool(listed["invoices"])

    await wait_for(was_made, message="a request whose client is gone is carried out all the same")


async def test_a_payment_to_a_hung_node_waits(lab: Lab) -> None:
    """A payee that stands still settles nothing until it wakes."""
    made = await lab.invoice()
    lab.network.hang("seller")
    paying = asyncio.create_task(lab.pay(made))
    assert not (await asyncio.wait({paying}, timeout=0.1))[0]
    lab.network.wake("seller")
    assert (await paying)["status"] == "complete"


async def test_a_restarted_node_has_its_state(lab: Lab) -> None:
    """Stopping closes socket and connections; invoices, indexes and channels outlast it."""
    seller = lab.network.nodes["seller"]
    paid, open_one = await lab.invoice(), await lab.invoice()
    await lab.pay(paid)
    waiting = asyncio.create_task(lab.call("seller", "waitinvoice", label=open_one["label"]))
    before = await lab.call("seller", "listinvoices")
    channels = await lab.call("seller", "listpeerchannels")
    await seller.stop()
    with pytest.raises(asyncio.IncompleteReadError):
        await waiting
    with pytest.raises(OSError):  # noqa: PT011 - no file or nobody listening, either will do
        await lab.call("seller", "getinfo")
    with pytest.raises(Refused) as refused:
        await lab.pay(open_one)
    assert refused.value.code == 205
    await seller.start()
    assert await lab.call("seller", "listinvoices") == before
    after = await lab.call("seller", "listpeerchannels")
    assert "Reconnected" in after["channels"][0].pop("status")[0]
    channels["channels"][0].pop("status")
    assert after == channels
    assert (await lab.pay(open_one))["status"] == "complete"
    assert (await lab.call("seller", "waitanyinvoice", lastpay_index=1))["pay_index"] == 2


async def test_a_payment_held_over_a_restart_settles_afterwards(lab: Lab) -> None:
    """An HTLC accepted before the payee stops is settled when the payee is back."""
    made = await lab.invoice()
    lab.network.hold_payments()
    paying = asyncio.create_task(lab.pay(made))
    await lab.until_held()
    await lab.network.nodes["seller"].stop()
    lab.network.release_payments()
    assert not (await asyncio.wait({paying}, timeout=0.1))[0]
    await lab.network.nodes["seller"].start()
    assert (await paying)["status"] == "complete"


async def test_stop_is_answered_and_then_the_socket_is_gone(lab: Lab) -> None:
    """The `stop` command says so before it closes, and the node can be started again."""
    answer = await lab.call("seller", "stop")
    assert answer == {"result": "Shutdown complete"}
    seller = lab.network.nodes["seller"]
    await wait_for(lambda: not seller.socket_path.exists())
    await seller.start()
    assert (await lab.call("seller", "getinfo"))["alias"] == "seller"


@pytest.mark.parametrize(("payer", "payee"), [("buyer", "seller"), ("seller", "buyer")])
async def test_either_side_can_spend_what_it_has_and_no_more(
    lab: Lab, payer: str, payee: str
) -> None:
    """Exactly spendable_msat goes through, 1 msat more is error 205; the other side gains it."""
    spendable_msat = (await lab.channel(payer))["spendable_msat"]
    assert spendable_msat == (await lab.channel(payee))["receivable_msat"] > 0
    too_much = await lab.invoice(payee, amount_msat=spendable_msat + 1)
    with pytest.raises(Refused, match=f"says max is {spendable_msat}msat") as refused:
        await lab.call(payer, "pay", bolt11=too_much["bolt11"])
    assert refused.value.code == 205
    assert (await lab.call(payer, "listpays"))["pays"] == []
    just = await lab.invoice(payee, amount_msat=spendable_msat)
    gained = (await lab.channel(payee))["spendable_msat"]
    await lab.call(payer, "pay", bolt11=just["bolt11"])
    gained = (await lab.channel(payee))["spendable_msat"] - gained
    assert gained == pytest.approx(spendable_msat, abs=1)
    one_more = await lab.invoice(payee)
    with pytest.raises(Refused) as refused:
        await lab.call(payer, "pay", bolt11=one_more["bolt11"])
    assert refused.value.code == 205
    ends = [(await lab.channel(name))["to_us_msat"] for name in (payer, payee)]
    assert sum(ends) == CAPACITY_SATS * 1000


async def test_without_capacity_the_payee_is_warned(lab: Lab) -> None:
    """invoice says with which amounts the payer can only be the peer, or nobody."""
    receivable_msat = (await lab.channel("seller"))["receivable_msat"]
    small = await lab.invoice(amount_msat=receivable_msat - 1)
    large = await lab.invoice(amount_msat=receivable_msat + 1)
    assert [k for k in small if k.startswith("warning")] == ["warning_deadends"]
    assert [k for k in large if k.startswith("warning")] == ["warning_capacity"]


async def test_an_invoice_without_amount_takes_the_payers(lab: Lab) -> None:
    """For `any` the payer must state an amount; with one in the invoice it must not."""
    made, fixed = await lab.invoice(amount_msat="any"), await lab.invoice()
    with pytest.raises(Refused, match="amount_msat required"):
        await lab.pay(made)
    with pytest.raises(Refused, match="amount_msat unnecessary"):
        await lab.pay(fixed, amount_msat=5000)
    assert (await lab.pay(made, amount_msat="7sat"))["amount_sent_msat"] == 7000
    listed = await lab.call("seller", "listinvoices", label=made["label"])
    assert "amount_msat" not in listed["invoices"][0]
    assert listed["invoices"][0]["amount_received_msat"] == 7000


async def test_an_invoice_is_settled_once(lab: Lab) -> None:
    """Of two payers of one invoice one gets the preimage, the other error 203."""
    lab.network.add_node("other", lab.network.nodes["buyer"].socket_path.with_name("other"))
    lab.network.open_channel("other", "seller", CAPACITY_SATS)
    await lab.network.nodes["other"].start()
    made = await lab.invoice()
    lab.network.hold_payments()
    payers = [
        asyncio.create_task(lab.call(name, "xpay", invstring=made["bolt11"]))
        for name in ("buyer", "other")
    ]
    await lab.until_held(2)
    lab.network.release_payments()
    outcomes = await asyncio.gather(*payers, return_exceptions=True)
    refusals = [o for o in outcomes if isinstance(o, Refused)]
    assert [r.code for r in refusals] == [203]
    assert len(outcomes) - len(refusals) == 1


async def test_paid_is_found_out_late(lab: Lab) -> None:
    """As in real xpay, expiry and maxdelay are looked at before an earlier success is."""
    made = await lab.invoice(expiry=30)
    assert (await lab.pay(made))["status"] == "complete"
    with pytest.raises(Refused) as refused:
        await lab.call("buyer", "xpay", invstring=made["bolt11"])
    assert refused.value.code == 219
    with pytest.raises(Refused) as refused:
        await lab.pay(made, maxdelay=9)
    assert refused.value.code == 206
    lab.now += 31
    with pytest.raises(Refused) as refused:
        await lab.pay(made)
    assert refused.value.code == 207


@pytest.mark.parametrize(
    ("amount_msat", "expiry", "cltv", "description"),
    [(1, 1, 9, "d"), (150_000, 3600, 18, "swap ünïcode"), (10**14, 2**31, 2016, "x" * 639)],
)
async def test_invoices_are_read_offline_by_pyln_proto(
    lab: Lab, amount_msat: int, expiry: int, cltv: int, description: str
) -> None:
    """The buyer's library reads hash, amount, expiry, CLTV, text and the signing node."""
    made = await lab.invoice(
        amount_msat=amount_msat, expiry=expiry, cltv=cltv, description=description
    )
    read = PylnInvoice.decode(made["bolt11"])
    assert read.currency == "ert"
    assert read.hexpaymenthash == made["payment_hash"]
    assert int(read.amount * 10**11) == amount_msat
    assert read.date == int(lab.now)
    assert dict(read.tags)["d"] == description
    assert dict(read.tags).get("x", 3600) == expiry
    assert read.min_final_cltv_expiry == cltv
    assert read.hexpubkey == (await lab.call("seller", "getinfo"))["id"]
    decoded = await lab.call("buyer", "decode", string=made["bolt11"])
    assert decoded["min_final_cltv_expiry"] == cltv
    assert decoded["payee"] == read.hexpubkey


async def test_a_storm_of_300_clients_gets_300_right_answers(lab: Lab) -> None:
    """Hundreds of pyln clients at once, each with its own socket, all get their own answer."""
    rpc = LightningRpc(str(lab.network.nodes["seller"].socket_path))

    async def one(number: int) -> str:
        made = await lab.invoice(label=f"storm-{number}", preimage=f"{number:064x}")
        paid = await lab.pay(made)
        return str(paid["payment_preimage"])

    preimages = await asyncio.gather(*(one(n) for n in range(300)))
    assert preimages == [f"{n:064x}" for n in range(300)]
    listed = (await asyncio.to_thread(rpc.listinvoices))["invoices"]
    assert sorted(i["pay_index"] for i in listed) == list(range(1, 301))


async def test_pyln_raises_the_nodes_error(lab: Lab) -> None:
    """pyln-client sees error objects as lightningd sends them."""
    rpc = LightningRpc(str(lab.network.nodes["seller"].socket_path))
    with pytest.raises(RpcError) as refused:
        await asyncio.to_thread(rpc.delinvoice, "none", "unpaid")
    assert refused.value.error == {"code": 905, "message": "Unknown invoice"}
