"""The HTTP port that Prometheus reads: few connections at a time, none of them for long."""

import contextlib
import socket
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

IDLE_SECS = 5
"""A connection that sends or takes nothing for this long is closed."""
MAX_CONNECTIONS = 64
"""A further one is closed at once."""


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECS

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int]) -> None:
        self._free = BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was too slow, is none of ours to tell of."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def serve_http(address: str, registry: CollectorRegistry) -> tuple[WSGIServer, Thread]:
    """Answer on host:port from a thread of its own. Raises `OSError` if it cannot."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    kind = _Server
    with contextlib.suppress(OSError):
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        kind = _Server6 if family == socket.AF_INET6 else _Server
    server = kind((host, int(port)))
    server.set_app(make_wsgi_app(registry))
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    return server, thread
