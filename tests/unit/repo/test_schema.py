"""The schema: lint, format and fresh generated code, by the tool that `just check` runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..builders import ROOT


def check(root: Path) -> "subprocess.CompletedProcess[str]":
    """`python -m tools.proto check` in this tree."""
    return subprocess.run(
        [sys.executable, "-m", "tools.proto", "check"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the schema, its tool and the generated code, free to be damaged."""
    for name in ("proto", "tools", "service/ln_liquid_swap", "service/buf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def test_the_schema_and_its_code_are_in_order() -> None:
    """Lint, format, breaking changes and staleness, in the tree as it is."""
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_file_is_noticed(tree: Path) -> None:
    """Whatever way it differs: edited, missing, or left over; each is named."""
    code = tree / "service" / "ln_liquid_swap" / "v1"
    (code / "swap_pb2.py").write_text((code / "swap_pb2.py").read_text() + "\n")
    (code / "swap_pb2_grpc.pyi").unlink()
    (code / "left_over_pb2.py").write_text("")
    done = check(tree)
    assert done.returncode != 0
    assert "generated code is stale, run `just gen`" in done.stderr
    for name in ("swap_pb2.py", "swap_pb2_grpc.pyi", "left_over_pb2.py"):
        assert f"ln_liquid_swap/v1/{name}" in done.stderr


def test_a_changed_schema_is_noticed(tree: Path) -> None:
    """A field that is added without generating again."""
    schema = tree / "proto" / "ln_liquid_swap" / "v1" / "swap.proto"
    text = schema.read_text()
    added = "  uint64 at = 7;\n  // One more.\n  uint64 more = 8;\n"
    assert text.count("  uint64 at = 7;\n") == 1
    schema.write_text(text.replace("  uint64 at = 7;\n", added))
    done = check(tree)
    assert done.returncode != 0
    assert "swap_pb2.py" in done.stderr


def test_a_field_without_comment_is_refused(tree: Path) -> None:
    """The comments are the reference of the API; buf's lint wants one each."""
    schema = tree / "proto" / "ln_liquid_swap" / "v1" / "swap.proto"
    text = schema.read_text()
    schema.write_text(text.replace("  // When the daemon saw it.\n", ""))
    done = check(tree)
    assert done.returncode != 0
    assert "comment" in (done.stdout + done.stderr).lower()
