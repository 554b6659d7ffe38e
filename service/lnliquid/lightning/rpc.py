"""Calls to Core Lightning's JSON-RPC socket off the event loop, each with a deadline.

pyln-client gives the wire format. Its `call` is replaced, for three reasons: it has no time-out;
it logs payloads; and its `RpcError` carries the payload, which for an invoice holds the preimage
(money rule 9). Here a call returns what happened as plain data, and errors are made of that, so
that no exception has a payload in its text, its arguments or its context.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

from pyln.client import LightningRpc
from pyln.client.lightning import UnixSocket

from lnliquid.threads import started

T = TypeVar("T")

_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)  # in no hierarchy, so it stays so

MAX_SOCKET_PATH_BYTES = 100
"""Longer paths do not fit `sockaddr_un` (108 bytes on Linux) and are reached by a descriptor."""


class Fate(Enum):
    """What became of a call, as far as this side can know."""

    ANSWERED = auto()
    REFUSED = auto()
    """The node answered with an error."""
    NOT_SENT = auto()
    """There was no connection; the node has not seen it."""
    UNKNOWN = auto()
    """It was (or may have been) sent, and no answer that can be read came."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's fate, with the node's result, or its error's code and text, or our reason."""

    fate: Fate
    result: Any = None
    code: int | None = None
    reason: str = ""

    def __repr__(self) -> str:
        return f"Outcome({self.fate.name}, code={self.code})"  # a result may hold a preimage


class DeadlineSocket(UnixSocket):  # type: ignore[misc]  # pyln ships no types
    """pyln's socket, but every wait on it ends at `deadline` (`time.monotonic`)."""

    def __init__(self, path: str, deadline: float) -> None:
        self._deadline = deadline
        super().__init__(path)

    def connect(self) -> None:
        """Connect. Raises `OSError`, at once also when the node's queue is full."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._set_timeout()
            if len(os.fsencode(self.path)) <= MAX_SOCKET_PATH_BYTES:
                self.sock.connect(self.path)
                return
            path = Path(self.path)
            directory = os.open(path.parent, os.O_DIRECTORY | os.O_RDONLY)
            try:
                self.sock.connect(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
        except OSError:
            self.close()
            raise

    def sendall(self, b: bytes) -> None:
        """Send it all before the deadline. Raises `OSError`."""
        self._set_timeout()
        super().sendall(b)

    def recv(self, length: int) -> bytes:
        """Receive some bytes before the deadline, none at the end. Raises `OSError`."""
        self._set_timeout()
        data: bytes = super().recv(length)
        return data

    def shutdown(self) -> None:
        """End both directions from another thread: a blocked `recv` returns."""
        sock = self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _set_timeout(self) -> None:
        if self.sock is None:
            raise ConnectionError("not connected")
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self.sock.settimeout(remaining)


class NodeRpc(LightningRpc):  # type: ignore[misc]  # pyln ships no types
    """pyln's client with a `call` that has a deadline, is silent, and returns an `Outcome`."""

    def __init__(self, socket_path: Path) -> None:
        super().__init__(str(socket_path), logger=_SILENT)
        self.caller_name = "lnliquid"
        self._open_sockets: set[DeadlineSocket] = set()
        self._lock = threading.Lock()
        self._closed = False

    def call(
        self,
        method: str,
        payload: dict[str, Any] | None = None,
        cmdprefix: str | None = None,
        filter: Any = None,  # noqa: A002  # pyln's name
        timeout_secs: float = 15,
    ) -> Outcome:
        """Make one call on a socket of its own, blocking. Never raises."""
        try:
            sock = DeadlineSocket(self.socket_path, time.monotonic() + timeout_secs)
        except OSError as error:
            return Outcome(Fate.NOT_SENT, reason=error.strerror or type(error).__name__)
        with self._lock:
            if self._closed:
                sock.close()
                return Outcome(Fate.NOT_SENT, reason="closed")
            self._open_sockets.add(sock)
        try:
            return self._exchange(sock, method, payload or {})
        except TimeoutError:
            return Outcome(Fate.UNKNOWN, reason=f"no answer in {timeout_secs:g} s")
        except OSError as error:
            return Outcome(Fate.UNKNOWN, reason=error.strerror or type(error).__name__)
        except (ValueError, AttributeError):
            return Outcome(Fate.UNKNOWN, reason="the answer is not JSON-RPC")
        finally:
            with self._lock:
                self._open_sockets.discard(sock)
            sock.close()

    def _exchange(self, sock: DeadlineSocket, method: str, payload: dict[str, Any]) -> Outcome:
        this_id = self.get_json_id(method, None)
        request = {"jsonrpc": "2.0", "method": method, "params": payload, "id": this_id}
        self._writeobj(sock, request)
        answer, _ = self._readobj(sock)
        if answer.get("id") == this_id and "result" in answer:
            return Outcome(Fate.ANSWERED, result=answer["result"])
        error = answer.get("error")
        if isinstance(error, dict) and isinstance(error.get("code"), int):
            return Outcome(Fate.REFUSED, code=error["code"], reason=str(error.get("message", "")))
        return Outcome(Fate.UNKNOWN, reason="the connection was lost")

    def shutdown(self) -> None:
        """Refuse further calls and end those under way; their outcome is UNKNOWN."""
        with self._lock:
            self._closed = True
            for sock in self._open_sockets:
                sock.shutdown()


class NoThread(Exception):
    """All threads are busy: the function was not begun."""


class DaemonCalls:
    """Runs blocking functions on at most `size` threads at once.

    The threads are daemons, so that a node that hangs cannot keep the process from exiting, which
    a `ThreadPoolExecutor` would.
    """

    def __init__(self, size: int) -> None:
        self._slots = asyncio.Semaphore(size)

    async def run(
        self, function: Callable[[], T], slot_timeout_secs: float, timeout_secs: float
    ) -> T:
        """Run it and return its result.

        Raises `NoThread` when no thread is free in time, and `TimeoutError` when it takes longer
        than `timeout_secs`: it should have ended by itself, so the system hangs. When the waiting
        task is cancelled the function runs on. Either way it keeps its place till it ends.
        """
        try:
            async with asyncio.timeout(slot_timeout_secs):
                await self._slots.acquire()
        except TimeoutError:
            raise NoThread from None
        loop = asyncio.get_running_loop()
        try:
            running = started(function, "core-lightning")
        except TimeoutError:
            self._slots.release()
            raise NoThread from None

        def free(_running: "Future[T]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._slots.release)

        running.add_done_callback(free)
        async with asyncio.timeout(timeout_secs):
            return await asyncio.wrap_future(running)
