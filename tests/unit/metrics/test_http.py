"""The port that Prometheus reads, while scanners hold connections to it."""

import socket
import threading
import time
import urllib.request
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from lnliquid.metrics import http

SCANNERS = 4 * http.MAX_CONNECTIONS


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_connections_that_say_nothing_cost_few_threads_and_end(host: str) -> None:
    """Then the figures can be read again."""
    server, thread = http.serve_http(f"{host}:0", CollectorRegistry())
    port = server.server_address[1]
    before = threading.active_count()
    with ExitStack() as scanners:
        scanners.callback(server.server_close)
        scanners.callback(thread.join)
        scanners.callback(server.shutdown)
        for _ in range(SCANNERS):
            scanners.enter_context(socket.create_connection((host.strip("[]"), port)))
        assert threading.active_count() - before <= http.MAX_CONNECTIONS
        assert fetched(f"http://{host}:{port}/metrics") == 200


def fetched(url: str, secs: float = 20) -> int:
    """The status of a page, asked again until one comes."""
    end = time.monotonic() + secs
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except OSError:
            if time.monotonic() > end:
                raise
