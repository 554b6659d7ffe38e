"""Write the blocks of the documentation that follow from the code, or check that they are fresh.

    python -m tools.diagram            write them
    python -m tools.diagram --check    exit code 1, naming each stale block

A block stands between the two markers `<!-- NAME:begin … -->` and `<!-- NAME:end -->`.
"""

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from inspect import getsource
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from lnliquid.buyer.verify import CHECKS
from lnliquid.config import Settings, unit_of
from lnliquid.domain.swap import ROLLBACKS, TRANSITIONS, State
from lnliquid.domain.timelock import LightningChain, Timelocks

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SERVICE = ROOT / "service" / "lnliquid"
START = State.CREATED
CONNECTIVES = r"(?:so that|(?<=, )(?:and|so|which|with|as|not|more|from|in|each|what|who|the))"
"""Words that begin another clause, most of them after a comma."""
PROPER_NOUNS = ("Core ", "Lightning", "Liquid")
BAR = r"\|"
"""A bar inside a table's cell."""


def state_diagram() -> str:
    """The two tables of `lnliquid.domain.swap` as a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {START.name}"]
    for state in State:
        lines += [f"    {state.name} --> {after.name}" for after in sorted(TRANSITIONS[state])]
        lines += [f"    {state.name} --> {after.name}: reorg" for after in sorted(ROLLBACKS[state])]
        if not TRANSITIONS[state]:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join([*lines, "```"])


def state_meanings() -> str:
    """What each state says of the money: the docstrings of the enum's members."""
    rows = []
    found = dict(_member_docstrings(State))
    for state in State:
        rows.append((str(int(state)), f"`{state.name}`", found[state.name]))
    return _table(("number", "state", "what is true of the money"), rows)


def budget() -> str:
    """The timelock inequality with the defaults of the settings."""
    defaults = {
        name: field.default for name, field in Settings.model_fields.items() if not _needed(field)
    }
    locks = Timelocks(
        refund_delta_blocks=defaults["refund_delta_blocks"],
        max_funding_confs=defaults["max_min_funding_confs"],
        create_slack_secs=defaults["create_slack_secs"],
        invoice_expiry_secs=defaults["invoice_expiry_secs"],
        max_ln_cltv_blocks=defaults["max_ln_cltv_blocks"],
        claim_margin_blocks=defaults["claim_margin_blocks"],
        lightning_chain=LightningChain(defaults["lightning_chain"]),
    )
    sums = locks.budget
    rows = [(what, f"{secs:,}", f"{secs / 3_600:.1f}") for what, secs in sums.parts]
    rows += [
        (name, f"{secs:,}", f"{secs / 3_600:.1f}")
        for name, secs in (
            ("**needed**", sums.needed_secs),
            ("**available** (refund delta)", sums.available_secs),
            ("margin", sums.margin_secs),
        )
    ]
    return (
        _table(("part", "seconds", "hours"), rows)
        + "\n\nWith these numbers an invoice is taken back, or not made at all, when fewer than "
        f"{locks.blocks_to_pay_and_claim:,} Liquid blocks are left before the lock height."
    )


def settings_table() -> str:
    """Every setting: name, default, unit, accepted values and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "**needed**" if _needed(field) else _code(field.default)
        unit = unit_of(name)
        has_value = default.startswith("`")
        with_unit = f"{default} {unit if has_value or not unit else f'({unit})'}".strip()
        rows.append((f"`{name}`", with_unit, _accepted(field), field.description or ""))
    return _table(("setting", "default, unit", "accepted", "meaning"), rows)


def modules() -> str:
    """Each folder of the service and its modules, with their duties from the docstrings."""
    lines = []
    folders = {path.parent for path in SERVICE.rglob("*.py")} - {
        *SERVICE.glob("store/migrations/**")
    }
    for folder in sorted(folders):
        name = f"{folder.relative_to(SERVICE.parent)}/".removeprefix("lnliquid/") or "lnliquid/"
        lines.append(f"- **`{name}`** {_first_sentence(folder / '__init__.py')}")
        duties = [
            f"`{path.stem}` {duty(_first_sentence(path))}"
            for path in sorted(folder.glob("*.py"))
            if not path.name.startswith("__")
        ]
        lines += textwrap.wrap(" · ".join(duties), 140, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def duty(sentence: str) -> str:
    """The sentence's first clause, without its article; of `Name: text`, the text."""
    text = re.sub(r"\s*\([^)]*\)", "", sentence)
    head, _, rest = text.partition(": ")
    text = rest if rest and len(head.split()) < 4 else text
    text = re.sub(r"^(The|An?) ", "", text[:1].upper() + text[1:])
    clause = re.match(rf"(?:\S+ ){{2,}}?\S*[^\s:;,](?P<end>[:;]|,? {CONNECTIVES})\s", text)
    text = (text[: clause.start("end")] if clause else text).rstrip(".?")
    is_ordinary = text.split()[0][1:].islower() and not text.startswith(PROPER_NOUNS)
    return text[0].lower() + text[1:] if is_ordinary else text


def checks_table() -> str:
    """Every check that a buyer makes before it pays."""
    rows = [(rule.name, rule.compares, rule.meaning) for rule in CHECKS]
    return _table(("check", "what is compared", "what it means when it fails"), rows)


BLOCKS: dict[str, tuple[str, Callable[[], str]]] = {
    "states": ("swap/how-it-works.md", state_diagram),
    "meanings": ("swap/how-it-works.md", state_meanings),
    "budget": ("swap/how-it-works.md", budget),
    "settings": ("operator.md", settings_table),
    "checks": ("buyer.md", checks_table),
    "modules": ("architecture.md", modules),
}
"""Name of a block to its file below `docs/` and what writes it."""


def replaced(text: str, name: str, block: str) -> str:
    """The page with this block in it. Raises `SystemExit` when the page has no place for it."""
    begin = f"<!-- {name}:begin (written by `python -m tools.diagram`; do not edit) -->"
    end = f"<!-- {name}:end -->"
    pattern = re.compile(rf"<!-- {name}:begin.*?-->.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"the markers of block {name} are not there exactly once")
    return pattern.sub(lambda _: f"{begin}\n\n{block}\n\n{end}", text)


def stale(*, write: bool) -> list[str]:
    """Names of the blocks that differ from the code; with `write` they are brought up to date."""
    found = []
    for name, (file, make) in BLOCKS.items():
        path = DOCS / file
        before = path.read_text()
        after = replaced(before, name, make())
        if after != before:
            found.append(f"{name} in docs/{file}")
            if write:
                path.write_text(after)
    return found


def _member_docstrings(kind: type) -> Iterator[tuple[str, str]]:
    """Name and docstring of each member: Python itself drops a string behind an assignment."""
    (definition,) = ast.parse(textwrap.dedent(getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    for line, after in zip(definition.body, definition.body[1:], strict=False):
        if not (isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield line.targets[0].id, " ".join(str(after.value.value).split())


def _needed(field: FieldInfo) -> bool:
    return field.is_required()


def _accepted(field: FieldInfo) -> str:
    """Choices, bounds or pattern; the kind of value where there is none of these."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    bounds = {}
    for rule in field.metadata:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            if (limit := getattr(rule, name, None)) is not None:
                bounds[sign] = f"{sign} {_number(limit)}"
        if (pattern := getattr(rule, "pattern", None)) is not None:
            return _code(pattern)
    if bounds:
        return ", ".join(bounds.values())
    kind = (get_args(field.annotation) or (field.annotation,))[0]
    return {Path: "path", str: "text", bool: "`true`, `false`"}[kind]


def _number(value: float) -> str:
    """With thousands separators; from a million million on as a power of ten."""
    if value < 10**12:
        return f"{value:,}"
    digits, zeros = re.fullmatch(r"(\d+?)(0*)", str(value)).groups()  # type: ignore[union-attr]
    power = str(len(digits) + len(zeros) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits[0]}.{digits[1:] or 0}·10{power}"


def _code(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:_}`" if isinstance(value, int) else f"`{value}`"


def _first_sentence(source: Path) -> str:
    """First sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(source.read_text())) or ""
    return re.split(r"(?<=[.?])\s", " ".join(text.split()), maxsplit=1)[0]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', BAR) for c in line)} |" for line in lines)


def main() -> None:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a block is stale")
    is_check = parser.parse_args().check
    found = stale(write=not is_check)
    for name in found:
        print(f"stale: {name}" if is_check else f"written: {name}")
    if is_check and found:
        sys.exit("run `python -m tools.diagram`")


if __name__ == "__main__":
    main()
