"""The import rules of the design's section 3, read from the source by `ast`.

Imports run one way: cli → daemon → api → seller → watchers → liquid, lightning, store → config →
domain. The domain does no I/O and reads no clock. Adapters never know each other.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from lnliquid.cli import COMMANDS, command_line

from ..builders import ROOT

SERVICE, LAB = ROOT / "service" / "lnliquid", ROOT / "lab" / "lnlab"
BASE = {"domain", "config"}
ADAPTERS = ["liquid.electrum", "lightning", "store", "api"]
COMMAND = BASE | {"cli", "clock", "grpc_client", "threads", "log"}

FOLDER_MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "clock": set(),
    "crashpoints": set(),
    "descriptors": set(),
    "file_locks": set(),
    "log_repeats": set(),
    "wire": set(),
    "addresses": set(),
    "threads": set(),
    "log": {"log_repeats"},
    "ending": {"log"},
    "config": {"domain", "addresses"},
    "grpc_client": {"domain", "wire"},
    "liquid": BASE,
    "lightning": BASE | {"threads"},
    "store": BASE | {"clock", "crashpoints", "threads", "file_locks", "addresses"},
    "metrics": BASE,
    "metrics.gauges": BASE | {"metrics", "seller", "store"},
    "watchers": BASE | {"metrics", "liquid", "store", "crashpoints"},
    "seller": BASE | {"metrics", "liquid", "store", "watchers", "crashpoints", "threads"},
    "audit": BASE | {"liquid", "store", "watchers"},
    "api": BASE
    | {"metrics", "watchers", "seller", "addresses", "descriptors", "file_locks", "wire"},
    "daemon": BASE
    | {"liquid", "lightning", "store", "watchers", "seller", "api"}
    | {
        "metrics",
        "metrics.gauges",
        "clock",
        "crashpoints",
        "threads",
        "log",
        "ending",
        "descriptors",
        "log_repeats",
    },
    "buyer": {"domain", "liquid", "lightning", "clock", "grpc_client"},
    "cli": COMMAND
    | {"liquid", "lightning", "store", "watchers", "seller", "audit", "daemon", "buyer", "cli.top"},
    "cli.top": {"cli", "domain", "grpc_client"},
    "__init__": set(),
    "__main__": {"cli"},
}
"""Every folder, or module beside them, of the service, and what else it may import."""

PURE = [
    *(f"domain.{path.stem}" for path in sorted((SERVICE / "domain").glob("[a-z]*.py"))),
    "buyer.verify", "buyer.checks", "buyer.answer_checks", "buyer.chain_checks", "buyer.answers",
    "buyer.claim_tx", "cli.formatting",
]  # fmt: skip
IO_MODULES = {
    "asyncio", "os", "io", "pathlib", "socket", "ssl", "subprocess", "threading", "concurrent",
    "time", "random", "secrets", "uuid", "logging", "structlog", "sqlite3", "sqlalchemy",
    "sqlmodel", "alembic", "grpc", "aiohttp", "aiorpcx", "pyln", "tempfile", "shutil", "signal",
    "multiprocessing", "urllib", "http", "select", "selectors", "embit", "pydantic",
}  # fmt: skip
IO_NAMES = {"open", "print", "input", "exec", "eval"}
CLOCK_METHODS = {"now", "utcnow", "today"}
"""Of `datetime`, whose conversions are pure."""
SERVERS = {
    *("sqlalchemy", "sqlmodel", "alembic", "prometheus_client", "protovalidate"),
    *("lnliquid.daemon", "lnliquid.api", "lnliquid.store"),
}
"""What only the daemon needs, and the commands that open its database: most of its loading time."""
SCREENS = {"textual", "lnliquid.cli.top"}
CLIENTS = {"grpc", "aiorpcx", "pyln", "embit", "structlog", "rich", "pydantic"}
COMMANDS_OF_OTHERS = {"lnliquid.cli.operator", "lnliquid.cli.top"}
LAB_EXTRAS = {
    "docker",
    "textual",
    "sqlalchemy",
    "lnlab.scenarios.catalogue",
    "lnlab.scenarios.storm",
}
UNNEEDED = {
    "import lnliquid.cli": SERVERS | SCREENS | CLIENTS,
    "import lnliquid.buyer": SERVERS | SCREENS | {"pydantic", "typer", "lnliquid.cli.console"},
    "buy": SERVERS | SCREENS | {"pydantic"},
    "swaps": SERVERS | SCREENS | {"pydantic"},
    "init": SERVERS | SCREENS,
    "health": SERVERS | SCREENS | {"lnliquid.buyer", "aiorpcx", "pyln"},
    "import lnliquid.daemon": SCREENS | COMMANDS_OF_OTHERS | {"typer", "lnliquid.buyer"},
    "import lnlab.cli": LAB_EXTRAS,
    "import lnlab.cli.demo": LAB_EXTRAS,
}
"""A statement, or a command of `lnliquid` (the others of its module load the same), to what it must
not load: starting a program takes longer than what it does, and `lnlab demo` starts seven."""


def modules(root: Path) -> dict[str, Path]:
    """Dotted name, without the package's own, to file."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for path in sorted(root.rglob("*.py"))
    }


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, at any depth of it; relative imports stay in a package."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                assert not path.is_relative_to(SERVICE), f"{path}: imports are absolute here"
                continue
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def local(name: str) -> str | None:
    """The part behind `lnliquid.`, None for a foreign import."""
    package, _, rest = name.partition(".")
    return rest if package == "lnliquid" else None


FILES = modules(SERVICE)


def folder_of(name: str) -> str:
    """The folder that a module or an imported name belongs to: the longest name of one."""
    inner = [folder for folder in FOLDER_MAY_IMPORT if "." in folder and is_in(name, folder)]
    return inner[0] if inner else name.split(".")[0]


def is_in(name: str, package: str) -> bool:
    """True for a package itself and all below it."""
    return name == package or name.startswith(package + ".")


def test_every_folder_has_a_rule() -> None:
    """A new one is entered above, with what it may know."""
    assert {folder_of(name) for name in FILES} == set(FOLDER_MAY_IMPORT)


@pytest.mark.parametrize("module", FILES)
def test_imports_run_one_way(module: str) -> None:
    """Each module imports only its own folder and those below."""
    folder = folder_of(module)
    known = {name for name in map(local, imports(FILES[module])) if name}
    allowed = FOLDER_MAY_IMPORT[folder] | {folder}
    assert {name for name in known if folder_of(name) not in allowed} == set()


def test_only_its_command_imports_the_daemon() -> None:
    """Nothing depends on how the daemon is put together."""
    users = {
        m
        for m, path in FILES.items()
        if any(is_in(local(n) or "", "daemon") for n in imports(path))
    }
    assert users == {"cli.daemon"}


@pytest.mark.parametrize("module", PURE)
def test_the_domain_does_no_io_and_reads_no_clock(module: str) -> None:
    """No module that could, and none of the built-in functions that do."""
    path = FILES[module]
    assert {name.split(".")[0] for name in imports(path)} & IO_MODULES == set()
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert {f.id for f in calls if isinstance(f, ast.Name)} & IO_NAMES == set()
    assert {f.attr for f in calls if isinstance(f, ast.Attribute)} & CLOCK_METHODS == set()


@pytest.mark.parametrize("module", PURE)
def test_the_domain_knows_no_adapter(module: str) -> None:
    """Nor does it import one by way of a helper in the same folder."""
    reached, queue = set[str](), [module]
    while queue:
        here = queue.pop()
        for name in imports(FILES[here]):
            inside = local(name)
            found = inside and (inside if inside in FILES else inside.rpartition(".")[0])
            if found in FILES and found not in reached:
                reached.add(found)
                queue.append(found)
    for package in ADAPTERS:
        assert {name for name in reached if is_in(name, package)} == set()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_do_not_know_each_other(adapter: str) -> None:
    """They meet in `watchers` and `seller`, and are put together in `daemon`."""
    others = [other for other in ADAPTERS if other != adapter]
    wrong = {
        f"{module} imports {name}"
        for module, path in FILES.items()
        if is_in(module, adapter)
        for name in map(local, imports(path))
        if name and any(is_in(name, other) for other in others)
    }
    assert wrong == set()


def test_sqlite_is_in_the_store() -> None:
    """What is SQLite's own stands in `store`; nothing else assumes it."""
    users = {
        module
        for module, path in FILES.items()
        if any("sqlite" in name and local(name) is None for name in imports(path))
    }
    assert {user.partition(".")[0] for user in users} == {"store"}


def test_the_lab_knows_nothing_of_the_service() -> None:
    """It talks to the service as a user would; generated messages are what a user has too."""
    wrong = {
        f"{module} imports {name}"
        for module, path in modules(LAB).items()
        for name in imports(path)
        if name.split(".")[0] == "lnliquid"
    }
    assert wrong == set()


def test_the_service_knows_nothing_of_lab_and_tests() -> None:
    """It is installed without them."""
    foreign = {name.split(".")[0] for path in FILES.values() for name in imports(path)}
    assert (
        foreign & {"lnlab", "tests", "tools", "pytest", "hypothesis", "bitcointx", "elementstx"}
        == set()
    )
    assert "lnliquid" in foreign
    assert foreign & set(sys.stdlib_module_names)


@pytest.mark.parametrize("start", UNNEEDED)
def test_a_program_loads_only_what_it_needs(start: str) -> None:
    """Counted in modules and not in seconds, so that a busy machine cannot fail it."""
    prepare = f"import lnliquid.cli; lnliquid.cli.command_line({start!r})"
    script = start if start.startswith("import ") else prepare
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nimport json, sys; print(json.dumps([*sys.modules]))"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert {bad for bad in UNNEEDED[start] if any(is_in(name, bad) for name in loaded)} == set()


@pytest.mark.parametrize("module", COMMANDS)
def test_the_table_of_commands_is_what_the_modules_have(module: str) -> None:
    """A command is found by it, and nowhere else."""
    for name in COMMANDS[module]:
        registered = typer.main.get_command(command_line(name))
        assert tuple(getattr(registered, "commands", {})) == COMMANDS[module]
