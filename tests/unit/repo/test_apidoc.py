"""The API reference is what the schema says, whole, and a stale page is noticed."""

import re
import shutil
from pathlib import Path

import pytest

from ln_liquid_swap.v1 import swap_pb2
from tools import apidoc
from tools.proto import SCHEMA

from ..builders import ROOT


@pytest.fixture(scope="module")
def schema() -> apidoc.Schema:
    """The schema, parsed once."""
    return apidoc.Schema.read()


def test_the_pages_are_fresh() -> None:
    """Reference and field tables are those of the schema: else run `python -m tools.apidoc`."""
    assert apidoc.stale(ROOT, write=False) == []


def test_a_stale_page_is_noticed_and_mended(tmp_path: Path) -> None:
    """A row too few in either page is named; writing restores both."""
    pages = [apidoc.REFERENCE, *apidoc.PAGES_WITH_BLOCKS]
    for page in pages:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
        lines = (ROOT / page).read_text().splitlines(keepends=True)
        row = next(i for i, line in enumerate(lines) if line.startswith("| `asset_id`"))
        (tmp_path / page).write_text("".join(lines[:row] + lines[row + 1 :]))
    assert apidoc.stale(tmp_path, write=False) == [str(page) for page in pages]
    apidoc.stale(tmp_path, write=True)
    assert apidoc.stale(tmp_path, write=False) == []
    for page in pages:
        assert (tmp_path / page).read_text() == (ROOT / page).read_text()


def test_everything_of_the_schema_is_in_the_reference(schema: apidoc.Schema) -> None:
    """Each call, message, field, enum and value; compared with the generated code."""
    page = apidoc.reference(schema)
    file = swap_pb2.DESCRIPTOR
    headings = set(re.findall(r"^#{2,3} (\w+)$", page, re.MULTILINE))
    for service in file.services_by_name.values():
        assert {service.name, *(method.name for method in service.methods)} <= headings
    assert set(file.message_types_by_name) | set(file.enum_types_by_name) <= headings
    for message in file.message_types_by_name.values():
        section = page.split(f"\n### {message.name}\n")[1].split("\n##")[0]
        rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert rows == [field.name for field in message.fields]
    for enum in file.enum_types_by_name.values():
        section = page.split(f"\n### {enum.name}\n")[1].split("\n##")[0]
        assert re.findall(r"^\| (\d+) \| `(\w+)`", section, re.MULTILINE) == [
            (str(value.number), value.name) for value in enum.values
        ]


def test_rules_and_types_are_told(schema: apidoc.Schema) -> None:
    """Bounds, patterns and references to other messages, as the schema has them."""
    request = apidoc.field_table(schema, "CreateSwapRequest")
    assert "| `asset_amount` | uint64 | > 0, ≤ 2,100,000,000,000,000 |" in request
    assert "| `asset_id` | string | `^[0-9a-f]{64}$` |" in request
    assert "| `request_id` | string | a UUID |" in request
    events = apidoc.field_table(schema, "GetSwapResponse")
    assert "| `events` | repeated [SwapEvent](#swapevent) |" in events
    assert apidoc.field_table(schema, "PauseRequest") == "No fields."


def test_a_comment_becomes_paragraphs_and_a_table_of_codes() -> None:
    """Wrapped lines are joined, also those of a code; what follows the codes is text again."""
    comment = (
        " One\n two.\n\n Status codes:\n   NOT_FOUND   nothing\n               there.\n"
        "   UNAVAILABLE  later.\n After it.\n"
    )
    assert apidoc.prose(comment) == [
        "One two.",
        "Status codes:",
        "| status | cause |\n| --- | --- |\n| `NOT_FOUND` | nothing there. |\n"
        "| `UNAVAILABLE` | later. |",
        "After it.",
    ]


def test_the_users_page_names_every_status_of_the_buyers_calls(schema: apidoc.Schema) -> None:
    """Each status code of SwapService has a row that says what to do at it, and no other has."""
    page = (ROOT / "docs/swap/ln-liquid-swap.md").read_text()
    table = page.split("## Status codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)
    proto = (ROOT / "proto" / SCHEMA).read_text()
    buyers, _ = proto.split("\nservice OperatorService")
    named = set(re.findall(r"^ *// {3}([A-Z_]{2,}) {2,}", buyers, re.MULTILINE))
    assert set(rows) == named
