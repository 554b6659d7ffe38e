"""What Core Lightning answers, for every call and error code that seller and buyer rely on.

Labels and preimages follow from the case, so that requests are the same in every run. Beyond these
cases, `tests/vectors/cln_rpc.json` is replayed call by call in `tests/unit/lab`.
"""

import asyncio
import hashlib
from typing import Any

from .cases import case
from .wire import lightning_exchange
from .world import World

UNKNOWN_HASH = "cd" * 32
SELLER, BUYER = "seller", "buyer"


def preimage(label: str) -> str:
    """The preimage of an invoice."""
    return hashlib.sha256(label.encode()).hexdigest()


def payment_hash(label: str) -> str:
    """Its hash."""
    return hashlib.sha256(bytes.fromhex(preimage(label))).hexdigest()


async def invoice(w: World, label: str, why: str = "make an invoice", **changed: object) -> str:
    """Make an invoice as the seller does, recorded; the invoice, empty when it is refused."""
    fields: dict[str, Any] = {
        "label": label,
        "amount_msat": 50_000,
        "preimage": preimage(label),
        "description": "conformance",
        "expiry": 600,
        "cltv": 18,
    }
    wanted = {name: value for name, value in (fields | changed).items() if value is not None}
    made = await w.lightning(SELLER, why, "invoice", **wanted)
    return str(made["bolt11"]) if made else ""


async def pay(w: World, why: str, bolt11: str, **more: object) -> Any:
    """Pay as the buyer does, recorded."""
    options: dict[str, Any] = {"maxdelay": 60, "maxfee": 1_000, "retry_for": 5}
    return await w.lightning(BUYER, why, "pay", bolt11=bolt11, **(options | more))


@case
async def identity(w: World) -> None:
    """Name, network, height and channels of both nodes."""
    for node in (SELLER, BUYER):
        await w.lightning(node, "who", "getinfo")
        await w.lightning(node, "channels", "listpeerchannels")
        await w.lightning(node, "peers", "listpeers")


@case
async def invoices(w: World) -> None:
    """An invoice is made once a label and once a preimage; deletion makes both free again."""
    await invoice(w, "inv-a")
    await invoice(w, "inv-a", "the same again")
    await invoice(w, "inv-a", "same label, other preimage", preimage=preimage("inv-z"))
    await invoice(w, "inv-b", "other label, same preimage", preimage=preimage("inv-a"))
    await invoice(w, "inv-a", "the same with another amount", amount_msat=60_000)
    await w.lightning(SELLER, "by label", "listinvoices", label="inv-a")
    await w.lightning(SELLER, "by hash", "listinvoices", payment_hash=payment_hash("inv-a"))
    await w.lightning(SELLER, "unknown label", "listinvoices", label="inv-nope")
    await w.lightning(SELLER, "unknown hash", "listinvoices", payment_hash=UNKNOWN_HASH)
    await w.lightning(SELLER, "delete as paid", "delinvoice", label="inv-a", status="paid")
    await w.lightning(SELLER, "delete as expired", "delinvoice", label="inv-a", status="expired")
    await w.lightning(SELLER, "delete as nothing", "delinvoice", label="inv-a", status="gone")
    await w.lightning(SELLER, "delete", "delinvoice", label="inv-a", status="unpaid")
    await w.lightning(SELLER, "delete again", "delinvoice", label="inv-a", status="unpaid")
    await w.lightning(SELLER, "by label then", "listinvoices", label="inv-a")
    # Another amount: in the same second it would be the same string as before.
    again = {"preimage": preimage("inv-a"), "amount_msat": 70_000}
    await invoice(w, "inv-b", "the preimage is free", **again)
    await invoice(w, "inv-a", "the label is free", preimage=preimage("inv-z"))


@case
async def bad_invoices(w: World) -> None:
    """Requests that are refused for their form."""
    await invoice(w, "bad-a", "preimage too short", preimage="00" * 31)
    await invoice(w, "bad-b", "preimage not hex", preimage="zz" * 32)
    await invoice(w, "bad-c", "no amount", amount_msat=None)
    await invoice(w, "bad-d", "zero amount", amount_msat=0)
    await invoice(w, "bad-e", "amount with a unit", amount_msat="50000msat")
    await invoice(w, "bad-f", "negative amount", amount_msat=-1)
    await invoice(w, "bad-g", "no description", description=None)
    await invoice(w, "bad-i", "expiry of text", expiry="soon")
    await invoice(w, "bad-j", "negative cltv", cltv=-1)
    await invoice(w, "bad-k", "cltv of 65536", cltv=65_536)
    await invoice(w, "bad-l", "unknown field", colour="red")
    await w.lightning(SELLER, "no label", "delinvoice", status="unpaid")
    await w.lightning(SELLER, "no status", "delinvoice", label="bad-a")
    await w.lightning(SELLER, "hash not hex", "listinvoices", payment_hash="zz")
    await w.lightning(SELLER, "label and hash", "listinvoices", label="a", payment_hash="ab" * 32)
    await w.lightning(SELLER, "unknown command", "nosuchcommand")


@case
async def decode(w: World) -> None:
    """An invoice read back, and strings that are none."""
    bolt11 = await invoice(w, "dec-a")
    await w.lightning(BUYER, "the invoice", "decode", string=bolt11)
    await w.lightning(BUYER, "in capitals", "decode", string=bolt11.upper())
    # Longer than this, what is left may pass for a rune, or not, as its bytes come out.
    await w.lightning(BUYER, "cut short", "decode", string=bolt11[:40])
    await w.lightning(BUYER, "empty", "decode", string="")
    await w.lightning(BUYER, "nothing", "decode")


@case
async def payments(w: World) -> None:
    """A payment, the same again, and what both sides list afterwards."""
    bolt11 = await invoice(w, "pay-a")
    await w.lightning(BUYER, "before", "listpays", payment_hash=payment_hash("pay-a"))
    await pay(w, "pay", bolt11)
    await pay(w, "again", bolt11)
    await w.lightning(BUYER, "after", "listpays", payment_hash=payment_hash("pay-a"))
    await w.lightning(BUYER, "by invoice", "listpays", bolt11=bolt11)
    await w.lightning(SELLER, "paid", "listinvoices", label="pay-a")
    await w.lightning(SELLER, "wait on a paid one", "waitinvoice", label="pay-a")
    await w.lightning(SELLER, "delete as unpaid", "delinvoice", label="pay-a", status="unpaid")
    await invoice(w, "pay-a", "make it again")
    await w.lightning(SELLER, "delete as paid", "delinvoice", label="pay-a", status="paid")
    await pay(w, "pay what was paid and deleted", bolt11)
    await w.lightning(BUYER, "unknown hash", "listpays", payment_hash=UNKNOWN_HASH)
    await w.lightning(BUYER, "hash not hex", "listpays", payment_hash="zz")
    for node in (SELLER, BUYER):
        await w.lightning(node, "channels", "listpeerchannels")


@case
async def failing_payments(w: World) -> None:
    """Why a payment fails, by code, and how a failed one is listed."""
    gone = await invoice(w, "fail-a")
    await w.lightning(SELLER, "delete it", "delinvoice", label="fail-a", status="unpaid")
    await pay(w, "deleted", gone)
    await _tidied_up(w, payment_hash("fail-a"))
    await w.lightning(BUYER, "failed", "listpays", payment_hash=payment_hash("fail-a"))
    await invoice(w, "fail-a", "make it again", amount_msat=60_000)
    large = await invoice(w, "fail-b", amount_msat=10**15)
    await pay(w, "more than the channel holds", large)
    await w.lightning(BUYER, "not tried", "listpays", payment_hash=payment_hash("fail-b"))
    slow = await invoice(w, "fail-c", cltv=40)
    await pay(w, "more delay than allowed", slow, maxdelay=20)
    await pay(w, "just enough delay", slow, maxdelay=41)
    await pay(w, "bad invoice", "lnert1garbage")
    await pay(w, "nothing to pay", "")
    await pay(w, "delay of text", slow, maxdelay="much")
    short = await invoice(w, "fail-d", "short-lived", expiry=1)
    await _expired(w, "fail-d")
    await pay(w, "expired", short)
    await w.lightning(SELLER, "expired", "listinvoices", label="fail-d")
    await w.lightning(SELLER, "delete as unpaid", "delinvoice", label="fail-d", status="unpaid")
    await w.lightning(SELLER, "wait on an expired one", "waitinvoice", label="fail-d")
    await w.lightning(SELLER, "delete as expired", "delinvoice", label="fail-d", status="expired")


async def _tidied_up(w: World, hash_: str) -> None:
    """A failed payment is listed as pending for a moment, on real nodes some 25 to 90 ms."""

    async def so() -> bool:
        params = {"payment_hash": hash_}
        answer = await lightning_exchange(w.lab.lightning[BUYER], "listpays", params, 10)
        return all(one["status"] != "pending" for one in answer["result"]["pays"])

    await w.until(so, "the failed payment is listed as failed")


async def _expired(w: World, label: str) -> None:
    async def so() -> bool:
        path = w.lab.lightning[SELLER]
        answer = await lightning_exchange(path, "listinvoices", {"label": label}, 10)
        return bool(answer["result"]["invoices"][0]["status"] == "expired")

    await w.until(so, "the invoice expires")


async def _last_pay_index(w: World) -> int:
    answer = await lightning_exchange(w.lab.lightning[SELLER], "listinvoices", {}, 10)
    return max((i.get("pay_index", 0) for i in answer["result"]["invoices"]), default=0)


@case
async def waiting(w: World) -> None:
    """Waiting for the next payment: one that is there, none in time, one that comes."""
    await pay(w, "a payment to count from", await invoice(w, "wait-0"))
    last = await _last_pay_index(w)
    wait = "waitanyinvoice"
    await w.lightning(SELLER, "nothing new", wait, lastpay_index=last, timeout=1)
    await w.lightning(SELLER, "an index of the future", wait, lastpay_index=last + 100, timeout=1)
    first, second = await invoice(w, "wait-a"), await invoice(w, "wait-b")
    await pay(w, "pay the second", second)
    await pay(w, "pay the first", first)
    await w.lightning(SELLER, "the first paid", wait, lastpay_index=last, timeout=1)
    await w.lightning(SELLER, "the one after", wait, lastpay_index=last + 1, timeout=1)
    third = await invoice(w, "wait-c")
    path = w.lab.lightning[SELLER]
    params = {"lastpay_index": last + 2, "timeout": 20}
    waiter = asyncio.create_task(lightning_exchange(path, wait, params, 30))
    await pay(w, "pay while somebody waits", third)
    w.note(SELLER, "what the waiter got", await waiter)
    await w.lightning(SELLER, "delete it", "delinvoice", label="wait-c", status="paid")
    await w.lightning(
        SELLER, "a deleted one is passed over", wait, lastpay_index=last + 2, timeout=1
    )
    await w.lightning(SELLER, "no index", wait, timeout=1)
    await w.lightning(SELLER, "index of text", wait, lastpay_index="x", timeout=1)
    await w.lightning(SELLER, "negative index", wait, lastpay_index=-1, timeout=1)


@case
async def restart(w: World) -> None:
    """A node that is started again knows its invoices, payments and pay indexes."""
    paid, unpaid = await invoice(w, "re-a"), await invoice(w, "re-b")
    await pay(w, "pay one", paid)
    last = await _last_pay_index(w)
    waiter = asyncio.create_task(
        lightning_exchange(
            w.lab.lightning[SELLER], "waitanyinvoice", {"lastpay_index": last, "timeout": 30}, 60
        )
    )
    await w.restart_lightning(SELLER)
    w.note(SELLER, "a waiter is cut off", await _outcome(waiter))
    await w.lightning(SELLER, "the paid one", "listinvoices", label="re-a")
    await w.lightning(SELLER, "the unpaid one", "listinvoices", label="re-b")
    wait = {"lastpay_index": last - 1, "timeout": 1}
    await w.lightning(SELLER, "the payment is told again", "waitanyinvoice", **wait)
    wait["lastpay_index"] = last
    await w.lightning(SELLER, "nothing newer", "waitanyinvoice", **wait)
    await invoice(w, "re-b", "make it again")
    await pay(w, "pay the other", unpaid)
    await w.lightning(SELLER, "the next index", "waitanyinvoice", **wait)
    await w.restart_lightning(BUYER)
    await w.lightning(BUYER, "payments", "listpays", payment_hash=payment_hash("re-a"))
    await pay(w, "pay again what was paid", paid)


async def _outcome(waiter: "asyncio.Task[dict[str, Any]]") -> object:
    try:
        return await asyncio.wait_for(waiter, 10)
    except ConnectionError:
        return "no answer"
