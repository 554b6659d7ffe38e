"""Snapshots as files: what is copied, what is refused, what the names may be."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnlab import snapshot
from lnlab.lab import prepare_directory
from lnlab.nodes import record
from lnlab.nodes.record import NodesRecord, NoLabError
from lnlab.snapshot import SnapshotError


@pytest.fixture
def directory() -> Iterator[Path]:
    """A lab's directory with a short path, for the socket in it."""
    with tempfile.TemporaryDirectory(prefix="snap-") as name:
        yield Path(name) / "lab"


def stopped_lab(directory: Path, kind: str = "process") -> None:
    """A lab that was ended and can go on, with some state."""
    prepare_directory(directory)
    nodes = NodesRecord(kind, "http://127.0.0.1:1/", "u", "p", "tcp://127.0.0.1:2", {})
    record.save(directory, nodes)
    if kind != "embedded":
        record.set_aside(directory)
    (directory / "elementsd").mkdir()
    (directory / "elementsd" / "000003.log").write_text("the newest blocks")


def test_what_was_saved_comes_back(directory: Path) -> None:
    """State is as it was, files from later are gone, and the lab can go on."""
    stopped_lab(directory)
    snapshot.save(directory, "one")
    (directory / "elementsd" / "000003.log").write_text("other blocks")
    (directory / "later").write_text("x")
    assert snapshot.load(directory, "one") == "process"
    # LevelDB's newest entries are in a file that is called .log.
    assert (directory / "elementsd" / "000003.log").read_text() == "the newest blocks"
    assert not (directory / "later").exists()
    assert record.stopped_kind(directory) == "process"


def test_logs_and_sockets_are_left_out(directory: Path) -> None:
    """Logs of the lab are no state, and a socket cannot be copied."""
    stopped_lab(directory)
    (directory / "elementsd.log").write_text("long")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "rpc"))
        place = snapshot.save(directory, "one")
    assert sorted(path.name for path in place.iterdir()) == [".lnlab", "elementsd", "stopped.json"]


def test_a_name_is_used_once_unless_replaced(directory: Path) -> None:
    """Saving under a name that is taken is refused, and allowed when asked for."""
    stopped_lab(directory)
    snapshot.save(directory, "one")
    with pytest.raises(SnapshotError, match="--force"):
        snapshot.save(directory, "one")
    (directory / "elementsd" / "000003.log").write_text("other blocks")
    place = snapshot.save(directory, "one", replace=True)
    assert (place / "elementsd" / "000003.log").read_text() == "other blocks"
    assert snapshot.names(directory) == ["one"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "one.partial", "a" * 65])
def test_names_that_are_refused(directory: Path, name: str) -> None:
    """A name is one harmless path component."""
    with pytest.raises(SnapshotError, match="no name"):
        snapshot.place_of(directory, name)


def test_embedded_nodes_have_nothing_to_save(directory: Path) -> None:
    """Their state is in memory: refused, with what to do, and the lab is not ended."""
    stopped_lab(directory, "embedded")
    with pytest.raises(SnapshotError, match="--nodes process"):
        snapshot.save(directory, "one")
    assert (directory / record.FILE_NAME).exists()


def test_unknown_snapshots_and_labs(directory: Path) -> None:
    """The text names what there is; a lab that was never there cannot be saved."""
    stopped_lab(directory)
    snapshot.save(directory, "one")
    for use in (snapshot.load, snapshot.remove):
        with pytest.raises(SnapshotError, match="no snapshot 'two'"):
            use(directory, "two")
    snapshot.remove(directory, "one")
    assert snapshot.names(directory) == []
    with pytest.raises(NoLabError, match="lnlab up"):
        snapshot.save(directory.with_name("nothing"), "one")
