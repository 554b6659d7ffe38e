"""`domain.electrum_servers`: which URLs are servers, and which are refused in words that help."""

import pytest

from lnliquid.domain.electrum_servers import ElectrumServer, parse_servers

PIN = "0f" * 32
COLONS = ":".join(["0F"] * 32)


@pytest.mark.parametrize(
    ("urls", "servers"),
    [
        ("tcp://127.0.0.1:50001", [ElectrumServer("127.0.0.1", 50001)]),
        ("ssl://electrum.example:995", [ElectrumServer("electrum.example", 995, True)]),
        ("tcp://[::1]:1", [ElectrumServer("::1", 1)]),
        (f"ssl://h:1?fingerprint={COLONS}", [ElectrumServer("h", 1, True, PIN)]),
        ("tcp://a:1, ssl://b:2", [ElectrumServer("a", 1), ElectrumServer("b", 2, True)]),
    ],
)
def test_read(urls: str, servers: list[ElectrumServer]) -> None:
    """In order of preference; written again they are the same, but for the fingerprint."""
    assert list(parse_servers(urls)) == servers
    again = parse_servers(", ".join(map(str, servers)))
    assert [(s.host, s.port, s.is_tls) for s in again] == [
        (s.host, s.port, s.is_tls) for s in servers
    ]


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ("", "not of the form tcp://host:port or ssl://host:port"),
        ("127.0.0.1:50001", "not of the form"),
        ("http://127.0.0.1:50001", "not of the form"),
        ("tcp://127.0.0.1", "not of the form"),
        ("tcp://127.0.0.1:0", "not of the form"),
        ("tcp://127.0.0.1:65536", "not of the form"),
        ("tcp://127.0.0.1:1/path", "not of the form"),
        ("tcp://::1:1", "not of the form"),
        ("tcp://a:1,", "'' is not of the form"),
        (f"tcp://a:1?fingerprint={PIN}", "needs ssl://"),
        ("ssl://a:1?fingerprint=0f0f", "SHA256, 64 hex digits"),
    ],
)
def test_refused(urls: str, reason: str) -> None:
    """The one that is wrong is named."""
    with pytest.raises(ValueError, match=reason):
        parse_servers(urls)
