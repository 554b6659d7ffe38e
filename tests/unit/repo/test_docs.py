"""The documentation: links, commands, tables and names in it are those of the code."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from lnlab.cli import app as lab_app
from lnliquid.buyer.verify import CHECKS
from lnliquid.cli import command_line
from lnliquid.config import Settings
from tools.diagram import duty

from ..builders import ROOT

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
PROGRAMS: dict[str, Any] = {
    "lnliquid": typer.main.get_command(command_line()),
    "lnlab": typer.main.get_command(lab_app),
}
ENVIRONMENT = {
    "LNLIQUID_BUYER_SELLER": "127.0.0.1:1",
    "LNLIQUID_BUYER_ELECTRUM": "tcp://127.0.0.1:1",
    "LNLIQUID_BUYER_LIGHTNING_RPC": "rpc",
    "LNLIQUID_BUYER_NETWORK": "liquid-regtest",
    "LNLIQUID_BUYER_ASSET": "5a" * 32,
    "LNLIQUID_OPERATOR": "unix:operator.sock",
}
"""What the pages have the reader export before the commands."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST_NAME = re.compile(r"`(test_\w+\.py)(?:::(\w+))?`")
FILE_NAME = re.compile(r"`((?:service|lab|tests|tools|proto|docs|requirements)/[\w./-]+)`")
SERVICE = ROOT / "service" / "lnliquid"
MODULE_NAME = re.compile(
    rf"`((?:{'|'.join(folder.parent.name for folder in SERVICE.glob('*/__init__.py'))})/[\w./]+)`"
)
"""A file of the service, named by its path below `service/lnliquid/`."""


def page_id(page: Path) -> str:
    """Path from the repository's root."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def shell_lines(page: Path) -> Iterator[str]:
    """Commands in the page's `sh` blocks, continued lines joined."""
    for language, block in FENCE.findall(page.read_text()):
        if language == "sh":
            yield from block.replace("\\\n", " ").splitlines()


def recipes() -> dict[str, tuple[bool, list[str]]]:
    """Recipes of the justfile: whether they take arguments, and their lines."""
    found: dict[str, tuple[bool, list[str]]] = {}
    name = ""
    for line in (ROOT / "justfile").read_text().splitlines():
        if head := re.match(r"(\w[\w-]*)( \*\w+)?:", line):
            name = head[1]
            found[name] = (head[2] is not None, [])
        elif line.startswith("    "):
            found[name][1].append(line.strip())
    return found


def check_command(words: list[str]) -> None:
    """Raise `TyperException`, or fail, when this command line would be refused as wrong usage."""
    program, *arguments = words
    if program == "./justw":
        name, *rest = arguments or ["default"]
        takes_arguments, lines = recipes()[name]
        assert takes_arguments or not rest, f"recipe {name} takes no arguments"
        for line in lines:
            check_line(line.replace('"$@"', shlex.join(rest)))
        return
    command = PROGRAMS[program.rpartition("/")[2]]
    name = program
    while hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"{shlex.join(words)}: there is no command {name}"
        command = command.commands[name]
    command.make_context(name, arguments)


def check_line(line: str) -> None:
    """Check the line if it calls one of our programs."""
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    if words and words[0].rpartition("/")[2] in (*PROGRAMS, "justw"):
        check_command(words)


@pytest.fixture
def environment() -> Iterator[None]:
    """The variables that the pages tell the reader to set, until the end of the test."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link within the repository names a file, and a heading of it where it names one."""
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_are_those_of_the_programs(page: Path) -> None:
    """Each command of a `sh` block exists, with these options, and has all that it needs."""
    for line in shell_lines(page):
        try:
            check_line(line)
        except typer.TyperException as error:
            pytest.fail(f"{page.name}: {line}: {error}")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "line",
    [
        "lnliquid sell",
        "lnliquid buy --amount 5 --colour red",
        "lnliquid buy --amount five",
        "lnliquid buy",
        "lnlab scenario play",
        "./justw demo --nodes cloud",
        "./justw test --fast",
    ],
)
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    """An unknown command or option, a bad value, a missing one."""
    with pytest.raises((typer.TyperException, AssertionError)):
        check_line(line)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_command_is_documented(name: str) -> None:
    """Whoever adds a command tells people of it."""
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [c for c in PROGRAMS[name].commands if not re.search(rf"{name} {c}\b", text)]
    assert missing == []


def test_every_recipe_is_documented() -> None:
    """In the table for the next engineer."""
    page = (ROOT / "docs/next-engineer.md").read_text()
    assert [n for n in recipes() if n != "default" and f"`./justw {n}`" not in page] == []


def test_the_settings_table_is_complete() -> None:
    """Each setting has a row, and each row is a setting."""
    page = (ROOT / "docs/operator.md").read_text()
    block = page.split("<!-- settings:begin")[1].split("<!-- settings:end")[0]
    assert re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE) == list(Settings.model_fields)


def test_pages_and_picture_know_the_buyers_checks() -> None:
    """The Japanese table names them in their order; what is shown of a purchase counts them."""
    page = (ROOT / "docs/ja/buyer.md").read_text()
    rows = re.findall(r"^\| ([\w ,]+) \| .* \| .*\|$", page.split("| 検査 |")[1], re.MULTILINE)
    names = [name for row in rows for name in row.split(", ")]
    assert names[: len(CHECKS)] == [rule.name for rule in CHECKS]
    offline = sum(not any(fact.is_of_now for fact in rule.needs) for rule in CHECKS)
    for shown in ("docs/buyer.md", "docs/ja/buyer.md", "docs/images/demo.svg"):
        text = (ROOT / shown).read_text().replace("&#160;", " ")
        assert re.findall(r"all (\d+) checks passed", text) == [str(len(CHECKS))], shown
        for counts in re.findall(r"(\d+) passed, 0 failed, (\d+) not made", text):
            assert counts == (str(offline), str(len(CHECKS) - offline)), shown


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_named_tests_and_files_exist(page: Path) -> None:
    """A test is named as `file::function`, a file by its path from the root or in the service."""
    text = prose(page)
    for file, function in TEST_NAME.findall(text):
        paths = list((ROOT / "tests").rglob(file))
        assert len(paths) == 1, f"{page.name}: {file}"
        assert not function or re.search(
            rf"^(async )?def {function}\(", paths[0].read_text(), re.MULTILINE
        ), f"{page.name}: {file}::{function}"
    for name in FILE_NAME.findall(text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"
    if page.parent.name != "adr":  # decisions name the files of their day
        for name in MODULE_NAME.findall(text):
            assert (SERVICE / name).exists(), f"{page.name}: {name}"


def test_log_lines_of_the_runbook_are_those_of_the_service() -> None:
    """A line that the operator is told to look for is written somewhere in the code."""
    source = "\n".join(path.read_text() for path in SERVICE.rglob("*.py"))
    page = prose(ROOT / "docs/operator.md")
    table = page.split("| line | meaning |\n")[1].split("\n\n")[0]
    alerts = page.split("| alert | what to do |")[1].split("\n\n")[0]
    named = [
        name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]
    named += re.findall(r"`([a-z]+(?: [a-z]+)+)`", alerts)
    ours = [name for name in named if not name.startswith(tuple(PROGRAMS))]
    assert len(ours) > 20
    assert [name for name in ours if f'"{name}"' not in source] == []


def diagram(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m tools.diagram` in this tree."""
    return subprocess.run(
        [sys.executable, "-m", "tools.diagram", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_blocks_written_from_the_code_are_fresh() -> None:
    """State diagram, meanings, time budget, settings and modules are what the code says."""
    done = diagram(ROOT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("The seller daemon put together: settings, tasks.", "seller daemon put together"),
        ("Lanes: the inventory as pairs of coins.", "inventory as pairs of coins"),
        ("Checks of the answer (section 8).", "checks of the answer"),
        ("`SwapService` of the schema: calls of buyers.", "`SwapService` of the schema"),
        ("CreateSwap's front half: check, reserve, and wait.", "check, reserve, and wait"),
        ("SQLModel tables.", "SQLModel tables"),
        ("Core Lightning: a node.", "node"),
    ],
)
def test_a_duty_is_the_first_clause_of_a_docstring(sentence: str, shown: str) -> None:
    """Short enough for a list of all modules; a name before a colon is not repeated."""
    assert duty(sentence) == shown


def test_a_stale_diagram_is_noticed_and_mended(tmp_path: Path) -> None:
    """An arrow too many fails the check by name; writing removes it."""
    for name in ("docs", "tools", "service"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    page = tmp_path / "docs/swap/how-it-works.md"
    fresh = page.read_text()
    page.write_text(fresh.replace("FUNDED --> CLAIMED", "FUNDED --> FAILED", 1))
    done = diagram(tmp_path, "--check")
    assert (done.returncode, done.stdout) == (1, "stale: states in docs/swap/how-it-works.md\n")
    assert diagram(tmp_path).returncode == 0
    assert page.read_text() == fresh


def test_the_licence_is_there() -> None:
    """MIT, as the package says."""
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")
