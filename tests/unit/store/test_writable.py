"""A path that cannot be written is told before the start, by `check-config` and by `serve`.

Nothing here rests on modes, which do not hold for root.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lnliquid.config import load_settings
from lnliquid.domain.errors import SettingsError
from lnliquid.store import writable

from ..builders import SELLER_WORDS
from ..cli.test_check_config import check
from ..test_config import write_toml

Change = Callable[[Path], tuple[dict[str, Any], str, str]]


def in_the_way(name: str) -> Change:
    """A directory of that name beside the database."""

    def make(folder: Path) -> tuple[dict[str, Any], str, str]:
        (folder / name).mkdir()
        return {}, str(folder / name), "it is not a regular file"

    return make


def setting(name: str, value: str, path: str, reason: str) -> Change:
    """A setting of this value, in which `{}` is the folder, and what is told of it."""
    return lambda folder: ({name: value.format(folder)}, path.format(folder), reason)


UNWRITABLE: dict[str, Change] = {
    "database under a file": setting(
        "database", "{}/file/new/db", "{}/file/new/db", "Not a directory"
    ),
    "database where no file can be": setting(
        "database", "/proc/lnliquid/db", "/proc/lnliquid/db", ""
    ),
    "database in its place": in_the_way("seller.sqlite"),
    "write-ahead log": in_the_way("seller.sqlite-wal"),
    "shared memory": in_the_way("seller.sqlite-shm"),
    "lock": in_the_way("seller.sqlite.lock"),
    "replica": in_the_way("seller.sqlite.replica"),
    "replica's log": in_the_way("seller.sqlite.replica-wal"),
    "replica on a disk that is not mounted": setting(
        "replica", "{}/disk/replica", "{}/disk/replica", "No such file or directory"
    ),
    "replica under a file": setting(
        "replica", "{}/file/replica", "{}/file/replica", "Not a directory"
    ),
    "replica on a full device": setting(
        "replica", "/dev/full", "/dev/full", "it is not a regular file"
    ),
    "replica over the mnemonic": setting(
        "replica", "{}/mnemonic", "{}/mnemonic", "it is the file of mnemonic_file"
    ),
    "replica over the database": setting(
        "replica",
        "{}/seller.sqlite-wal",
        "{}/seller.sqlite-wal",
        "it is the file of database",
    ),
    "operator's socket": setting(
        "operator_listen", "unix:{}/none/s", "{}/none/s", "No such file or directory"
    ),
    "operator's socket on a file": setting(
        "operator_listen", "unix:{}/file", "{}/file", "it is there and no socket"
    ),
    "operator's socket over Lightning's": setting(
        "operator_listen", "unix:{}/lightning-rpc", "{}/lightning-rpc", "the file of lightning_rpc"
    ),
    "operator's socket over the database": setting(
        "operator_listen", "unix:{}/seller.sqlite", "{}/seller.sqlite", "the file of database"
    ),
    "buyers' socket": setting("listen", "unix:{}/file/s", "{}/file/s", "Not a directory"),
    "buyers' socket, too long": setting(
        "listen", "unix:{}/" + "s" * 108, "{}/" + "s" * 108, "at most 107 bytes"
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a mnemonic and a file."""
    (tmp_path / "mnemonic").write_text(SELLER_WORDS)
    (tmp_path / "mnemonic").chmod(0o600)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("change", UNWRITABLE.values(), ids=list(UNWRITABLE))
def test_a_path_that_cannot_be_written_is_told_with_its_reason(
    folder: Path, change: Change
) -> None:
    """One line each, exit code 2, and nothing is made; `serve` says the same."""
    changes, path, reason = change(folder)
    config = write_toml(folder, **changes)
    before = sorted(folder.rglob("*"))
    code, told = check("--config", str(config))
    assert code == 2
    lines = [line for line in told["refused"] if f"{path} cannot be written: " in line]
    assert len(lines) == 1, told["refused"]
    assert reason in lines[0]
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(SettingsError) as refused:
        writable.check(load_settings(config))  # what `serve` begins with
    assert lines[0] in refused.value.problems


def test_every_path_is_told_not_only_the_first(folder: Path) -> None:
    """Database, journal and both sockets."""
    changes = {
        "database": folder / "file" / "db",
        "replica": folder / "disk" / "journal",
        "operator_listen": f"unix:{folder}/none/s",
        "listen": f"unix:{folder}/file/s",
    }
    _, told = check("--config", str(write_toml(folder, **changes)))
    names = [line.partition(":")[0] for line in told["refused"]]
    assert names == ["database", "replica", "listen", "operator_listen"]


def test_the_directory_of_the_database_need_not_be_there_yet(folder: Path) -> None:
    """The start makes it, with the replica and the socket in it; the check makes nothing."""
    config = write_toml(folder, database=folder / "new" / "deep" / "db")
    code, told = check("--config", str(config))
    assert (code, told["refused"]) == (0, [])
    assert not (folder / "new").exists()


def test_a_database_that_is_none_is_refused(folder: Path) -> None:
    """As `serve` would, in a line of its own."""
    (folder / "seller.sqlite").write_text("not a database\n" * 100)
    code, told = check("--config", str(write_toml(folder)))
    assert code == 2
    assert any("not a database" in line for line in told["refused"])


def test_a_replica_on_the_disk_of_the_database_is_warned_of(folder: Path) -> None:
    """The start is not refused: a second file is better than none."""
    code, told = check("--config", str(write_toml(folder)))
    assert (code, len(told["warnings"])) == (0, 1)
    assert "may be lost with it" in told["warnings"][0]
    code, told = check("--config", str(write_toml(folder, replica="/dev/shm/lnliquid-replica")))
    elsewhere = Path("/dev/shm").stat().st_dev != folder.stat().st_dev
    assert (code, told["warnings"] == []) == (0, elsewhere)
