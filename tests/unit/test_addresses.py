"""Two addresses in whatever form: are they one place, and are they refused together?"""

from pathlib import Path

import pytest

from lnliquid.addresses import is_same
from lnliquid.config import load_settings
from lnliquid.domain.errors import SettingsError

from .test_config import write_toml

SAME = [
    ("127.0.0.1:5", "127.0.0.1:5", True),
    ("127.0.0.1:5", "127.0.0.1:05", True),
    ("127.0.0.1:5", "localhost:5", True),
    ("127.0.0.1:5", "0.0.0.0:5", True),
    ("127.0.0.1:5", "[::]:5", True),
    ("[::1]:5", "[::]:5", True),
    ("[::1]:5", "[0:0:0:0:0:0:0:1]:5", True),
    ("[::ffff:127.0.0.1]:5", "127.0.0.1:5", True),
    ("0.0.0.0:5", "[::]:5", True),
    ("127.0.0.1:5", "127.0.0.1:6", False),
    ("127.0.0.1:5", "127.0.0.2:5", False),
    ("127.0.0.1:0", "127.0.0.1:0", False),
    ("no-such-host.invalid:5", "127.0.0.1:5", False),
    ("unix:{}/s", "unix:{}/s", True),
    ("unix:{}/s", "unix://{}/s", True),
    ("unix:{}/s", "unix:{}/./x/../s", True),
    ("unix:{}/s", "unix:s", True),
    ("unix:{}/s", "unix:{}/link/s", True),
    ("unix:{}/file", "unix:{}/hard", True),
    ("unix:{}/s", "unix:{}/t", False),
    ("unix:{}/s", "127.0.0.1:5", False),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a link to itself and a file of two names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "hard").hardlink_to(tmp_path / "file")
    return tmp_path


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_forms_of_an_address(folder: Path, one: str, other: str, same: bool) -> None:
    """In both orders."""
    one, other = one.format(folder), other.format(folder)
    assert is_same(one, other) is same
    assert is_same(other, one) is same


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("listen", "operator_listen"),
        ("listen", "metrics_listen"),
        ("operator_listen", "metrics_listen"),
    ],
)
def test_listeners_with_one_address_are_refused(folder: Path, first: str, second: str) -> None:
    """Each pair of them; the operator's calls would be in buyers' hands."""
    given = {first: "127.0.0.1:50061", second: "localhost:50061"}
    with pytest.raises(SettingsError, match=f"{first} = .* and {second} = .* are one address"):
        load_settings(write_toml(folder, **given))


def test_buyers_are_not_put_on_the_operators_default_socket(folder: Path) -> None:
    """Which is beside the database when it is not set."""
    listen = f"unix:{folder}/link/operator.sock"
    with pytest.raises(SettingsError, match="are one address"):
        load_settings(write_toml(folder, listen=listen))
