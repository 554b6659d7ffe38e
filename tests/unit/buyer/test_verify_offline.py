"""`lnliquid verify`: what needs no server is checked as before a payment; nothing else passes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from typer.testing import CliRunner, Result

from ln_liquid_swap.v1 import swap_pb2
from lnliquid.buyer import KnownTerms, Order, Record, Step, verify_offline
from lnliquid.buyer.answers import from_printed, read
from lnliquid.buyer.verify import CHECKS
from lnliquid.cli import command_line
from lnliquid.domain.swap import State
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.networks import REGTEST

from .test_verify import (
    BUYER,
    PRICE_MSAT,
    SCRIPT,
    STRANGER,
    WRONG,
    Facts,
    bolt11,
    both,
    good,
    on,
    swap,
    want,
)

STRANGERS = p2wpkh_address(STRANGER.key_hash, REGTEST)
NEEDS = {rule.name: rule.needs for rule in CHECKS}
FAR_AHEAD = 4_000_000_000
"""An invoice of then has not expired whenever the test runs; its field holds 35 bits."""
OF_NOW = ("claim fee", "confirmations", "unspent", "tip age", "tip height")


def facts() -> Facts:
    """The good facts, with an invoice that the real clock does not find expired."""
    return bolt11(created_at=FAR_AHEAD)(good())


def schema_swap(known: Facts) -> dict[str, Any]:
    """The swap as GetSwap answers it in protobuf JSON."""
    message = read(from_printed(known.swap.to_dict()), swap_pb2.Swap())
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


def test_a_right_answer_passes_offline_and_says_what_was_not_checked(files: Files) -> None:
    """With all options: exit code 0; left over is what only the chain of now can tell."""
    values = files.judge(facts())
    assert (failed(values), values["ok"], values["exit_code"]) == ((), True, 0)
    assert [check["name"] for check in values["not_made"]] == list(OF_NOW)
    assert len(values["checks"]) + len(values["not_made"]) == len(NEEDS)


@pytest.mark.parametrize("case", WRONG)
def test_what_can_be_checked_offline_is_checked_as_before_a_payment(case: str) -> None:
    """Word for word, in every case in which a check fails."""
    known = WRONG[case][1](good())
    # No option gives these.
    own = want(claim_margin_blocks=60, pay_wait_secs=60, max_hold_blocks=144)
    known = both(own, on("tip", time=known.now))(known)
    asked = known.want
    terms = KnownTerms(
        network=asked.network,
        offer=known.offer,
        request_id=asked.request_id,
        asset_id=asked.asset_id,
        amount=asked.asset_amount,
        max_price_msat=asked.max_total_price_msat,
        min_confs=asked.min_funding_confs,
        claim_address=asked.claim_address,
        claim_key_hash=asked.claim_key_hash,
        tip_height=known.tip.height,
    )
    offline = verify_offline(known.swap, terms, known.funding.raw, known.now)
    lacking = {check.name for check in offline.not_made}
    made = [check for check in known.verdict().checks if check.name not in lacking]
    assert list(offline.made.checks) == made
    assert lacking - {"funding transaction", "asset output", "subsidy output"} == set(OF_NOW)
    assert ("subsidy output" in lacking) == (known.funding.raw is None)


NOT_RELIED_ON = {
    "swap_id": "only names the swap at the seller",
    "min_funding_confs": "the confirmations are counted by the buyer's own server",
    "invoice_expires_at": "the invoice itself is read",
    "max_ln_cltv_blocks": "a larger one is capped by the offer's; 0 is in the table above",
    "payable_until_height": "the blocks that are left are counted by the buyer",
    "payment_closed": "the blocks that are left are counted by the buyer",
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


def test_our_own_output_carries_the_terms(files: Files) -> None:
    """What `buy --dry-run --json` printed needs no option but the funding transaction."""
    known = facts()
    funding = files.put("funding.hex", (known.funding.raw or b"").hex())
    result = files.run(purchase(known), f"--funding-tx={funding}")
    assert result.exit_code == 0
    assert "18 passed, 0 failed, 6 not made." in result.stdout
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
    known = swap(state=State.REFUNDED)(facts())
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
        ("claim_address", STRANGERS, "claim address"),
        ("state", "CLAIMED", "state"),
    ):
        saved = purchase(known)
        saved["swap"][field] = value
        result = files.run(saved, "--json")
        assert wrong in failed(json.loads(result.stdout))
        assert result.exit_code == 1
