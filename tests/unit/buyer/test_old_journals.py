"""Purchases that other versions of the program have stored go on where they were.

`vectors/purchases.json` holds a journal of format 1 for each stage of one purchase, recorded by
commit c7254c6 with the scripted seller and the embedded chain, which come out the same every time.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer import AssetLost, BuyerError, Step

from ..builders import ROOT
from ..buyer_seller import AMOUNT
from ..buyer_world import BuyerWorld

RECORDED = json.loads((ROOT / "tests/vectors/purchases.json").read_text())
UNPAID = ("requested", "created", "created, checked", "created, dry run", "refused")
PAID = ("paying", "paid", "claiming, not sent", "claiming, seen", "done")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BuyerWorld]:
    """A world whose seller is up."""
    async with BuyerWorld(tmp_path).serving() as world:
        yield world


def put(world: BuyerWorld, values: dict[str, Any]) -> None:
    """Have the buyer's directory hold this purchase, and its mnemonic."""
    directory = world.settings.directory
    (directory / "swaps").mkdir(parents=True)
    (directory / "mnemonic").write_text(RECORDED["mnemonic"] + "\n")
    (directory / "mnemonic").chmod(0o600)
    (directory / "next_index").write_text("1\n")
    path = directory / "swaps" / f"{values['order']['request_id']}.json"
    path.write_text(json.dumps(values))


def catch_up(world: BuyerWorld, values: dict[str, Any]) -> None:
    """Have seller, node and chain be as they were when this purchase was stored."""
    swap = values["swap"]
    if swap is None:
        return
    request = pb.CreateSwapRequest(
        asset_id=swap["asset_id"],
        asset_amount=swap["asset_amount"],
        buyer_claim_address=values["claim_address"],
        min_funding_confs=2,
        request_id=swap["request_id"],
    )
    world.seller.tamper = lambda made: setattr(made, "swap_id", swap["swap_id"])
    world.seller.created = 1
    made = world.seller.swaps[request.request_id] = world.seller.fund(request, 1)
    assert made.funding_txid == swap["funding_txid"]
    if values["paying_until"]:
        world.node.complete(bytes.fromhex(swap["payment_hash"]))
    if values["step"] == "lost":
        world.chain.generate(200)
        assert world.seller.refund(request.request_id) == values["spend_txid"]
        world.chain.generate()
    elif values["spend_txid"]:
        world.chain.submit(bytes.fromhex(values["claims"][-1]["raw"]))
    if values["step"] == "done":
        world.chain.generate()


@pytest.mark.parametrize("stage", [*UNPAID, *PAID])
async def test_a_purchase_of_an_older_version_is_paid_once_and_claimed(
    world: BuyerWorld, stage: str
) -> None:
    """In whatever stage it was stored."""
    values = RECORDED["journals"][stage]
    assert values["format"] == 1
    put(world, values)
    catch_up(world, values)
    outcome = await world.resume()
    assert outcome.claimed
    assert (world.node.paid, world.seller.created) == (1, 1)
    assert await world.balance() == AMOUNT
    assert outcome.step is (Step.DONE if stage == "done" else Step.CLAIMING)
    if values["claims"]:
        assert [c["txid"] for c in outcome.record.claims] == [values["claims"][0]["txid"]]


@pytest.mark.parametrize(("stage", "kind"), [("declined", BuyerError), ("lost", AssetLost)])
async def test_what_had_ended_badly_still_has(
    world: BuyerWorld, stage: str, kind: type[BuyerError]
) -> None:
    """With the words of then, or the refund that is in the chain."""
    values = RECORDED["journals"][stage]
    put(world, values)
    catch_up(world, values)
    with pytest.raises(kind) as caught:
        await world.resume()
    assert values["note"] in str(caught.value)


def test_every_step_was_recorded() -> None:
    """No step is left out above."""
    assert {values["step"] for values in RECORDED["journals"].values()} == {s.value for s in Step}


async def test_fields_that_came_or_went_since_are_no_obstacle(world: BuyerWorld) -> None:
    """The seller's answers are read as the schema allows: unknown ignored, missing empty."""
    await world.buy(dry_run=True)
    path = world.settings.directory / "swaps" / f"{world.order().request_id}.json"
    values = json.loads(path.read_text())
    for answer, gone in ((values["offer"], "max_swap_amount"), (values["swap"], "is_final")):
        del answer[gone]
        answer["field_of_a_newer_schema"] = {"price_valid_until": 5}
    values["verdict"]["checks"][0]["field_of_a_newer_check"] = 1
    path.write_text(json.dumps(values))
    assert (await world.resume()).claimed


@pytest.mark.parametrize("name", ["offer", "swap"])
@pytest.mark.parametrize("damage", [5, {"asset_id": 5}])
async def test_a_damaged_answer_is_told_by_its_file(
    world: BuyerWorld, name: str, damage: object
) -> None:
    """As any other damage of it, not as a fault of the program."""
    await world.buy(dry_run=True)
    path = world.settings.directory / "swaps" / f"{world.order().request_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: damage}))
    async with world.buyer() as buyer:
        with pytest.raises(BuyerError, match=r"is damaged: ValueError; keep the file"):
            buyer.journal.find(world.order().request_id)
