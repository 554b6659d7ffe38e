"""`lnliquid verify`: each check that needs no server fails on its tampered field, and only then."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from typer.testing import CliRunner, Result

from ln_liquid_swap.v1 import swap_pb2
from lnliquid.buyer import Order, Record, Step
from lnliquid.buyer.answers import from_printed
from lnliquid.buyer.verify import CHECKS
from lnliquid.cli import command_line
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.networks import REGTEST
from lnliquid.swap import State

from .buyer_seller import invoice
from .test_buyer_verify import (
    BUYER,
    HASH,
    OTHER_ASSET,
    PRICE_MSAT,
    REQUEST_ID,
    SCRIPT,
    STRANGER,
    Facts,
    fund,
    good,
)

NEEDS = {rule.name: rule.needs for rule in CHECKS}
FAR_AHEAD = 4_000_000_000
"""An invoice of then has not expired whenever the test runs; its field holds 35 bits."""
OF_NOW = ("claim fee", "confirmations", "unspent", "blocks left")


def facts() -> Facts:
    """The good facts, with an invoice that the real clock does not find expired."""
    return good().swap_with(bolt11=invoice(HASH, created_at=FAR_AHEAD))


def schema_swap(known: Facts) -> dict[str, Any]:
    """The swap as GetSwap answers it in protobuf JSON."""
    swap = known.swap
    message = swap_pb2.Swap(
        swap_id=swap.swap_id,
        request_id=swap.request_id,
        state=swap_pb2.SwapState.ValueType(swap.state.value if swap.state else 0),
        asset_id=swap.asset_id,
        asset_amount=swap.asset_amount,
        fee_subsidy_sats=swap.subsidy_sats,
        total_price_msat=swap.total_price_msat,
        buyer_claim_address=swap.claim_address,
        payment_hash=swap.payment_hash,
        seller_key_hash=swap.seller_key_hash,
        refund_lock_height=swap.refund_lock_height,
        witness_script=swap.witness_script,
        funding_txid=swap.funding_txid,
        asset_vout=swap.asset_vout,
        subsidy_vout=swap.subsidy_vout,
        bolt11=swap.bolt11,
        max_ln_cltv_blocks=swap.max_ln_cltv_blocks,
    )
    return {"swap": json_format.MessageToDict(message), "events": []}


def purchase(known: Facts) -> dict[str, Any]:
    """The purchase as `lnliquid buy --dry-run --json` prints it."""
    want = known.want
    record = Record(
        order=Order(
            want.request_id, want.asset_id, want.asset_amount, want.max_total_price_msat, 2, 5_000
        ),
        network=want.network,
        seller="127.0.0.1:1",
        key_index=0,
        claim_address=want.claim_address,
        created_at=0,
        offer=asdict(known.offer),
        step=Step.CREATED,
        swap=from_printed(known.swap.to_dict()),
    )
    return record.public_dict()


class Files:
    """What a buyer saved, in a directory, and the command on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, name: str, value: Any) -> Path:
        """Save text, or anything else as JSON."""
        path = self.directory / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    def run(self, answer: Any, *arguments: str) -> Result:
        """`lnliquid verify` on this answer, with nothing in the environment."""
        path = self.put("answer.json", answer)
        result = CliRunner().invoke(command_line(), ["verify", str(path), *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    def all_options(self, known: Facts) -> list[str]:
        """Options that tell the command everything a buyer knows, the tip too."""
        want = known.want
        return [
            *(f"--network={want.network}", f"--request-id={want.request_id}"),
            f"--offer={self.put('offer.json', {'offer': asdict(known.offer)})}",
            f"--funding-tx={self.put('funding.hex', (known.funding.raw or b'').hex() + chr(10))}",
            *(f"--asset={want.asset_id}", f"--amount={want.asset_amount}"),
            f"--max-price-msat={want.max_total_price_msat}",
            f"--claim-address={want.claim_address}",
            f"--tip-height={known.tip.height}",
        ]

    def judge(self, known: Facts) -> dict[str, Any]:
        """The JSON verdict on the schema's form, with all options."""
        result = self.run(schema_swap(known), *self.all_options(known), "--json")
        values: dict[str, Any] = json.loads(result.stdout)
        assert values["exit_code"] == result.exit_code
        return values


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An empty directory."""
    return Files(tmp_path)


def failed(values: dict[str, Any]) -> tuple[str, ...]:
    """Names of the checks that did not pass."""
    return tuple(check["name"] for check in values["checks"] if not check["ok"])


TAMPERED: list[tuple[str, tuple[str, ...], Callable[[Facts], Facts]]] = [
    ("network", ("network",), lambda f: f.offer_with(network="liquidv1")),
    ("request_id", ("request",), lambda f: f.swap_with(request_id=REQUEST_ID[:-1] + "0")),
    ("state", ("state",), lambda f: f.swap_with(state=State.CREATED)),
    ("asset_id", ("asset",), lambda f: f.swap_with(asset_id=OTHER_ASSET)),
    ("asset_id of the offer", ("asset",), lambda f: f.offer_with(asset_id=OTHER_ASSET)),
    ("asset_amount", ("amount",), lambda f: f.swap_with(asset_amount=999)),
    (
        "claim address",
        ("claim address",),
        lambda f: f.swap_with(claim_address=p2wpkh_address(STRANGER.key_hash, REGTEST)),
    ),
    (
        "own key",
        ("claim address", "script"),
        lambda f: f.want_with(claim_address=p2wpkh_address(STRANGER.key_hash, REGTEST)),
    ),
    (
        "bolt11",
        (
            *("invoice", "invoice network", "invoice signer", "payment hash"),
            *("price", "price limit", "invoice expiry", "invoice CLTV"),
        ),
        lambda f: f.swap_with(bolt11=f.swap.bolt11[:-1] + "q"),
    ),
    ("signer", ("invoice signer",), lambda f: f.offer_with(lightning_node_id="02" + "11" * 32)),
    (
        "payment_hash",
        ("payment hash", "script"),
        lambda f: f.swap_with(payment_hash="ab" * 32),
    ),
    ("total_price_msat", ("price",), lambda f: f.swap_with(total_price_msat=PRICE_MSAT - 1)),
    ("quote", ("price",), lambda f: f.offer_with(price_msat_per_asset_unit=14_000)),
    ("limit", ("price limit",), lambda f: f.want_with(max_total_price_msat=PRICE_MSAT - 1)),
    (
        "expired",
        ("invoice expiry",),
        lambda f: f.swap_with(bolt11=invoice(HASH, created_at=1_500_000_000)),
    ),
    (
        "final CLTV",
        ("invoice CLTV",),
        lambda f: f.swap_with(bolt11=invoice(HASH, created_at=FAR_AHEAD, cltv_blocks=145)),
    ),
    ("seller_key_hash", ("script",), lambda f: f.swap_with(seller_key_hash="ab" * 20)),
    (
        "refund_lock_height",
        ("script",),
        lambda f: f.swap_with(refund_lock_height=f.swap.refund_lock_height + 1),
    ),
    (
        "witness_script",
        ("script", "asset output", "subsidy output"),
        lambda f: f.swap_with(witness_script=SCRIPT[:-1] + b"\x69"),
    ),
    ("funding_txid", ("funding transaction",), lambda f: f.swap_with(funding_txid="ab" * 32)),
    (
        "funding transaction",
        ("funding transaction", "asset output", "subsidy output"),
        lambda f: f.funding_with(raw=fund()[:-1]),
    ),
    ("asset_vout", ("asset output",), lambda f: f.swap_with(asset_vout=0)),
    ("subsidy_vout", ("subsidy output",), lambda f: f.swap_with(subsidy_vout=0)),
    ("fee_subsidy_sats", ("subsidy output",), lambda f: f.swap_with(subsidy_sats=499)),
    (
        "max_ln_cltv_blocks",
        ("invoice CLTV", "timelock budget"),
        lambda f: f.swap_with(max_ln_cltv_blocks=0),
    ),
    (
        "refund_delta_blocks",
        ("timelock budget",),
        lambda f: f.offer_with(refund_delta_blocks=100),
    ),
    (
        "tip",
        ("blocks left",),
        lambda f: replace(f, tip=replace(f.tip, height=f.swap.refund_lock_height - 5)),
    ),
]


def test_a_right_answer_passes_offline_and_says_what_was_not_checked(files: Files) -> None:
    """With all options: exit code 0; left over is what only the chain of now can tell."""
    values = files.judge(facts())
    assert (failed(values), values["ok"], values["exit_code"]) == ((), True, 0)
    assert [check["name"] for check in values["not_made"]] == list(OF_NOW[:3])
    assert len(values["checks"]) + len(values["not_made"]) == len(NEEDS)


@pytest.mark.parametrize(
    ("expected", "change"),
    [pytest.param(names, change, id=case) for case, names, change in TAMPERED],
)
def test_a_tampered_field_fails_its_checks_and_no_others(
    expected: tuple[str, ...], change: Callable[[Facts], Facts], files: Files
) -> None:
    """Exit code 1, and exactly the named checks are wrong."""
    values = files.judge(change(facts()))
    assert failed(values) == expected
    assert (values["ok"], values["exit_code"]) == (False, 1)


def test_every_check_that_can_be_made_offline_is_seen_to_fail() -> None:
    """The table above leaves out only what needs the chain of now."""
    seen = {name for _, names, _ in TAMPERED for name in names}
    assert set(NEEDS) - seen == set(OF_NOW[:3])


NOT_RELIED_ON = {
    "swap_id": "only names the swap at the seller",
    "min_funding_confs": "the confirmations are counted by the buyer's own server",
    "invoice_expires_at": "the invoice itself is read",
    "max_ln_cltv_blocks": "a larger one is capped by the offer's; 0 is in the table above",
    "spend_txid": "whether it is spent the buyer's own server tells",
    "is_final": "says nothing of an unpaid swap",
    "created_at": "no check asks for it",
}
"""Fields of a swap that may hold anything, and why."""


@pytest.mark.parametrize("name", [field.name for field in swap_pb2.Swap.DESCRIPTOR.fields])
def test_no_field_can_be_changed_unnoticed(name: str, files: Files) -> None:
    """Whichever field of the answer is another one, a check fails, or nothing relies on it."""
    answer = swap_pb2.Swap()
    json_format.ParseDict(schema_swap(facts())["swap"], answer)
    value = getattr(answer, name)
    if isinstance(value, bytes):
        setattr(answer, name, value[:-1] + bytes([value[-1] ^ 1]))
    elif isinstance(value, str):
        setattr(answer, name, value[:-1] + ("0" if value[-1:] != "0" else "1"))
    elif isinstance(value, bool):
        setattr(answer, name, not value)
    else:
        setattr(answer, name, value + 1)
    saved = {"swap": json_format.MessageToDict(answer)}
    result = files.run(saved, *files.all_options(facts()))
    assert result.exit_code == (0 if name in NOT_RELIED_ON else 1), result.output


def test_the_needs_are_those_of_the_checks() -> None:
    """A new check has to say what it needs, in the order in which it is made."""
    assert list(NEEDS) == [check.name for check in good().verdict().checks]


def test_our_own_output_carries_the_terms(files: Files) -> None:
    """What `buy --dry-run --json` printed needs no option but the funding transaction."""
    known = facts()
    funding = files.put("funding.hex", (known.funding.raw or b"").hex())
    result = files.run(purchase(known), f"--funding-tx={funding}")
    assert result.exit_code == 0
    assert "19 passed, 0 failed, 4 not made." in result.stdout
    assert "your own server" in result.stdout


def test_an_option_wins_over_the_file(files: Files) -> None:
    """The price limit of the moment counts, not the saved one."""
    result = files.run(purchase(facts()), f"--max-price-msat={PRICE_MSAT - 1}", "--json")
    assert failed(json.loads(result.stdout)) == ("price limit",)


def test_a_check_that_lacks_a_fact_never_counts_as_passed(files: Files) -> None:
    """With the answer alone few checks can be made: exit code 4, and each option is named."""
    result = files.run(schema_swap(facts()), "--network=liquid-regtest", "--json")
    values = json.loads(result.stdout)
    assert (result.exit_code, values["ok"], failed(values)) == (4, False, ())
    made = {check["name"] for check in values["checks"]}
    assert made == {name for name, needs in NEEDS.items() if not needs}
    for check in values["not_made"]:
        assert check["lacks"] == [fact.name.lower() for fact in NEEDS[check["name"]]]
        assert all(fact.value in check["why"] for fact in NEEDS[check["name"]])


def test_the_claim_key_may_be_given_as_a_public_key(files: Files) -> None:
    """Its hash is what the script must hold; another key fails."""
    for key, wrong in ((BUYER, ()), (STRANGER, ("claim address", "script"))):
        result = files.run(
            schema_swap(facts()),
            "--network=liquid-regtest",
            f"--claim-pubkey={key.public_key.hex()}",
            "--json",
        )
        values = json.loads(result.stdout)
        assert failed(values) == wrong
        assert {"claim address", "script"} <= {check["name"] for check in values["checks"]}


def test_a_failed_check_is_shown_with_its_meaning_and_advice(files: Files) -> None:
    """A person reads what was expected and found, what it means and what to do."""
    known = facts().swap_with(state=State.REFUNDED)
    result = files.run(schema_swap(known), *files.all_options(known))
    assert result.exit_code == 1
    for text in (
        "WRONG  state",
        "expected   FUNDED",
        "found      REFUNDED",
        "it means  ",
        "Do not",
    ):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("{", "it is not JSON"),
        ("[1]", "it is not a JSON object"),
        ({"offer": {}}, "it holds no swap"),
        ({"swap": {"swapId": 5}}, "does not fit the schema"),
        ({"swap": {"swapId": "x", "assetAmount": "-1"}}, "does not fit the schema"),
        ({"swap": "x"}, "does not fit the schema"),
        ({"order": {}, "claim_address": "x", "swap": {"state": 1}}, "it is damaged"),
        ({"order": {}, "claim_address": "x", "swap": None}, "had not replied yet"),
        ({"order": 5, "claim_address": "x", "swap": {"witness_script": "zz"}}, "it is damaged"),
    ],
)
def test_a_file_that_holds_no_answer_is_a_clear_error(answer: Any, said: str, files: Files) -> None:
    """Exit code 2, the file and what is wrong with it; never a traceback."""
    result = files.run(answer, "--network=liquid-regtest")
    assert result.exit_code == 2
    assert "answer.json" in result.stderr
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--network is needed"),
        (("--network=moon",), "is not one of"),
        (("--network=liquid-regtest", "--claim-pubkey=02"), "66 hex digits"),
        (("--network=liquid-regtest", "--claim-address=ex1q"), "claim address"),
        (("--network=liquid-regtest", "--asset=5a"), "64 hex digits"),
        (("--network=liquid-regtest", "--offer=/nonexistent"), "No such file"),
        (("--network=liquid-regtest", "--funding-tx=/dev/null/x"), "Not a directory"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], said: str, files: Files) -> None:
    """Exit code 2, with what is needed."""
    result = files.run(schema_swap(facts()), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_tampered_purchase_is_found_in_our_own_form_too(files: Files) -> None:
    """Each field of the seller's reply in a saved purchase is checked like the schema's."""
    known = facts()
    for field, value, wrong in (
        ("asset_amount", 999, "amount"),
        ("payment_hash", "ab" * 32, "payment hash"),
        ("witness_script", SCRIPT.hex()[:-2] + "69", "script"),
        ("claim_address", p2wpkh_address(STRANGER.key_hash, REGTEST), "claim address"),
        ("state", "CLAIMED", "state"),
    ):
        saved = purchase(known)
        saved["swap"][field] = value
        result = files.run(saved, "--json")
        assert wrong in failed(json.loads(result.stdout))
        assert result.exit_code == 1
