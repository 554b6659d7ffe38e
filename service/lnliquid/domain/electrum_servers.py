"""How Electrum servers are named in settings and options: URLs in order of preference. Pure."""

import re
from dataclasses import dataclass

FORM = "tcp://host:port or ssl://host:port, several separated by commas, the preferred one first"
_URL = re.compile(
    r"(?P<scheme>tcp|ssl)://(?P<host>[^\s:/?,\[\]]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})"
    r"(\?fingerprint=(?P<fingerprint>[0-9A-Fa-f:]+))?"
)
FINGERPRINT_HEX = 64


@dataclass(frozen=True, slots=True)
class ElectrumServer:
    """One server. `fingerprint` is the SHA256 of its certificate, lower-case hex.

    With a fingerprint that certificate alone is trusted, self-signed or not; without one, `ssl`
    means a certificate for the host that the system's trust store accepts.
    """

    host: str
    port: int
    is_tls: bool = False
    fingerprint: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ssl' if self.is_tls else 'tcp'}://{host}:{self.port}"


def parse_servers(urls: str) -> tuple[ElectrumServer, ...]:
    """Read a list of URLs. Raises `ValueError` that names the one that is not of the form."""
    return tuple(_parse(url.strip()) for url in urls.split(","))


def _parse(url: str) -> ElectrumServer:
    found = _URL.fullmatch(url)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise ValueError(f"Electrum server {url!r} is not of the form {FORM}")
    fingerprint = (found["fingerprint"] or "").replace(":", "").lower() or None
    if fingerprint is not None and found["scheme"] == "tcp":
        raise ValueError(f"Electrum server {url!r}: a fingerprint needs ssl://")
    if fingerprint is not None and len(fingerprint) != FINGERPRINT_HEX:
        raise ValueError(
            f"Electrum server {url!r}: the fingerprint is the certificate's SHA256, "
            f"{FINGERPRINT_HEX} hex digits"
        )
    return ElectrumServer(
        found["host"].strip("[]"), int(found["port"]), found["scheme"] == "ssl", fingerprint
    )
