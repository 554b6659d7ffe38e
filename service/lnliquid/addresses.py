"""Addresses of listeners: `host:port` or `unix:/path`. Are two of them one place?"""

import ipaddress
import os
import socket
from pathlib import Path

UNIX = "unix:"


def socket_path(address: str) -> Path | None:
    """Absolute path of a unix socket, None for host:port. `unix:///path` is `unix:/path`."""
    if not address.startswith(UNIX):
        return None
    path = address.removeprefix(UNIX)
    return Path(f"/{path.lstrip('/')}" if path.startswith("/") else path).absolute()


def is_local(address: str) -> bool:
    """True for a unix socket and for loopback addresses."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same(one: str, other: str) -> bool:
    """True when both cannot be listened on at once, in whatever form each is written.

    Links are followed, names are looked up. Port 0, any free one, is never another's.
    """
    paths = socket_path(one), socket_path(other)
    if paths[0] is not None and paths[1] is not None:
        return _is_same_file(paths[0], paths[1])
    if paths[0] is not None or paths[1] is not None:
        return False
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    if int(port) != int(other_port) or int(port) == 0:
        return False
    hosts, others = _addresses(host.strip("[]")), _addresses(other_host.strip("[]"))
    # "All addresses" of one family is taken for those of both, as listeners do by default.
    return not hosts.isdisjoint(others) or any(a.is_unspecified for a in hosts | others)


def _is_same_file(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        names = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:
        names = {host}  # unknown here: binding it says so
    found = set()
    for name in names:
        try:
            address = ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            continue
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        found.add(mapped or address)
    return found
