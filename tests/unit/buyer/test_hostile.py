"""A seller, node or directory that has changed: no payment is made twice, no claim is stopped."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer import BuyerError, Journal, Order, Outcome, Record, Step
from lnliquid.buyer.errors import (
    AssetLost,
    HashChanged,
    OtherNode,
    OtherWallet,
    SellerDeclined,
    SellerUnavailable,
    Unfinished,
    VerdictNotClean,
)
from lnliquid.cli.buyer_output import conclude
from lnliquid.cli.error_report import EXIT_FAULT
from lnliquid.domain.errors import BackendTimeout
from lnliquid.domain.ports import Payment, PaymentStatus

from ..buyer_seller import AMOUNT
from ..buyer_world import BuyerWorld, PayingNode

OTHER = "b0000000-0000-4000-8000-000000000000"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BuyerWorld]:
    """A world whose seller is up."""
    async with BuyerWorld(tmp_path).serving() as world:
        yield world


async def test_an_answer_about_another_swap_is_no_answer(world: BuyerWorld) -> None:
    """A swap id that the seller changes could lead `resume` to another purchase."""
    world.seller.funded_after_reads = 10**9
    world.hurry()
    with pytest.raises(Unfinished):
        await world.buy()
    [swap] = world.seller.swaps.values()

    def lie(told: pb.Swap) -> None:
        told.swap_id, told.state = OTHER, pb.SWAP_STATE_FAILED

    world.seller.tell = lie
    with pytest.raises(SellerUnavailable, match="tells of another"):
        await world.resume()
    async with world.buyer() as buyer:
        record = buyer.journal.load(swap.swap_id)
    assert record.step is Step.CREATED


@pytest.mark.parametrize("name", ["", "not-an-id", "\x1b[2J"])
async def test_a_swap_id_that_is_none_is_not_taken(world: BuyerWorld, name: str) -> None:
    """Swap ids name purchases and are shown: they are UUIDs, or the answer is not believed."""
    world.seller.tamper = lambda swap: setattr(swap, "swap_id", name)
    world.hurry()
    with pytest.raises(SellerUnavailable, match="is no id"):
        await world.buy()


async def test_a_swap_whose_payment_hash_changes_is_not_paid_again(world: BuyerWorld) -> None:
    """A payment of unknown outcome may still go through; another hash would be another one."""
    hashes: list[bytes] = []

    def silent(payment_hash: bytes) -> Payment:
        """The node hangs, the request waits in its socket, and the seller makes a second HTLC."""
        hashes.append(payment_hash)
        [first] = world.seller.swaps.values()
        order = pb.CreateSwapRequest(
            asset_id=first.asset_id,
            asset_amount=first.asset_amount,
            buyer_claim_address=first.buyer_claim_address,
            min_funding_confs=2,
            request_id=first.request_id,
        )
        world.seller.created += 1
        second = world.seller.fund(order, world.seller.created)
        second.swap_id = first.swap_id
        world.seller.swaps[first.request_id] = second
        raise BackendTimeout("core-lightning", "no answer")

    world.node.behave = silent
    with pytest.raises(HashChanged, match=r"nothing more is paid.+listpays"):
        await world.buy()
    assert len(world.node.max_delays) == 1
    world.node.complete(hashes[0])  # the hung node wakes
    stored = world.record().swap
    assert stored is not None
    assert stored["payment_hash"] == hashes[0].hex()
    world.mine_when("claim sent")
    assert (await world.resume()).step is Step.DONE, "what was paid is claimed"
    assert world.node.paid == 1


async def test_only_the_node_that_may_be_paying_is_asked(world: BuyerWorld) -> None:
    """Another node knows of no payment; it must not make a second one."""
    payment_hash = await world.hold_payment()
    first, world.node = world.node, PayingNode(world.seller.preimage_of, world.fuse)
    world.node.node_id = "03" * 33
    with pytest.raises(OtherNode, match=rf"{first.node_id}.+{world.node.node_id}"):
        await world.resume()
    assert world.node.max_delays == []
    first.complete(payment_hash)
    world.node = first
    assert (await world.resume()).claimed
    assert world.node.paid == 1


async def test_after_a_payment_that_failed_for_good_another_node_may_pay(world: BuyerWorld) -> None:
    """Then nothing is under way anywhere."""
    world.node.behave = lambda _: Payment(PaymentStatus.FAILED, failure="no route")
    with pytest.raises(BuyerError, match="no route"):
        await world.buy()
    world.node = PayingNode(world.seller.preimage_of, world.fuse)
    world.node.node_id = "03" * 33
    assert (await world.resume()).claimed


async def test_a_purchase_is_not_touched_on_another_network(world: BuyerWorld) -> None:
    """`buy` with a known request id and a wrong --network must not sign a claim for that chain."""
    await world.pay_only()
    right, world.settings = world.settings, replace(world.settings, network="liquidv1")
    for act in (world.buy, world.resume):
        with pytest.raises(OtherWallet, match="purchase on liquid-regtest"):
            await act()
    world.settings = right
    outcome = await world.resume()
    assert outcome.claimed
    assert len(outcome.record.claims) == 1


async def test_a_missing_mnemonic_is_not_replaced_beside_purchases(world: BuyerWorld) -> None:
    """A new one could claim nothing, and would hide that the old one is gone."""
    await world.pay_only()
    mnemonic = world.settings.directory / "mnemonic"
    words = mnemonic.read_text()
    mnemonic.unlink()
    with pytest.raises(OtherWallet, match="put it back"):
        await world.resume()
    assert not mnemonic.exists()
    mnemonic.write_text("abandon " * 11 + "about")
    mnemonic.chmod(0o600)
    with pytest.raises(OtherWallet, match="another mnemonic"):
        await world.resume()
    mnemonic.write_text(words)
    assert (await world.resume()).claimed


async def test_what_ended_badly_is_never_told_as_success(world: BuyerWorld) -> None:
    """A script that repeats `buy` with the same request id gets the error again, not code 0."""
    world.seller.tamper = lambda swap: setattr(swap, "total_price_msat", 1)
    for act in (world.buy, world.buy, world.resume):
        with pytest.raises(VerdictNotClean):
            await act()
    assert world.node.max_delays == []


async def test_a_no_of_the_seller_stays_an_error(world: BuyerWorld) -> None:
    """It is not asked again, and its words are shown again."""
    world.seller.refusals = [None, (grpc.StatusCode.FAILED_PRECONDITION, "none left")]
    with pytest.raises(SellerDeclined):
        await world.buy()
    for act in (world.buy, world.resume):
        with pytest.raises(BuyerError, match="none left"):
            await act()
    assert world.record().step is Step.DECLINED
    assert world.seller.created == 0


async def test_a_lost_asset_stays_lost(world: BuyerWorld) -> None:
    """`buy` says so again, as `resume` does."""
    await world.pay_only()
    world.chain.generate(200)
    world.seller.refund(world.order().request_id)
    world.chain.generate()
    for act in (world.resume, world.buy):
        with pytest.raises(AssetLost):
            await act()


async def test_a_finished_purchase_is_looked_at_again(world: BuyerWorld) -> None:
    """A reorg took the claim and the mempool forgot it: `resume` sends it again."""
    world.mine_when("claim sent")
    outcome = await world.buy()
    assert outcome.step is Step.DONE
    assert outcome.claim_txid is not None
    world.chain.invalidate(world.chain.tip_hash)
    world.chain.drop_mempool(outcome.claim_txid)
    assert world.spends() == []
    assert (await world.resume()).step is Step.DONE
    assert await world.balance() == AMOUNT


@pytest.mark.usefixtures("state_home")
def test_purchases_go_on_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One with a fault and one that waits for ever stop none; each ends with a code of its own."""
    journal = Journal(tmp_path)
    names = [str(uuid.UUID(int=number, version=4)) for number in range(3)]
    for number, name in enumerate(names):
        order = Order(name, "5a" * 32, 1, 1, 1, 1)
        journal.save(Record(order, "liquid-regtest", "x", number, "ert1q", number, {}))
    claimed = asyncio.Event()

    async def faulty() -> Outcome:
        raise AttributeError("'NoneType' object has no attribute 'swap'")

    async def waiting() -> Outcome:
        await claimed.wait()
        raise Unfinished(names[1], "still waiting")

    async def paid() -> Outcome:
        claimed.set()
        record = journal.load(names[2])
        record.step = Step.DONE
        journal.save(record)
        return Outcome(record)

    works = dict(zip(names, (faulty(), waiting(), paid()), strict=True))
    ends = conclude(journal, works)
    assert [code for _, code in ends] == [EXIT_FAULT, 4, 0]
    assert ends[2][0]["step"] == "done"
    said = capsys.readouterr().err
    assert "log id" in said
    assert "Traceback" not in said
