"""A server on loopback that answers just what a test says, byte by byte if need be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from bdc_pipeline_tests.waiting import SECONDS


@dataclass
class Request:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """What a reply that is more than bytes can do with its connection."""

    socket: socket.socket
    gone: threading.Event
    """Set when the server closes: what a reply that stalls waits for."""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def stall(self) -> None:
        self.gone.wait()

    def reset(self) -> None:
        # A linger of zero makes the close a reset
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()


Reply: TypeAlias = bytes | Callable[[Connection], None]


def reply(body: bytes = b"ok", status: int = 200, **headers: str) -> bytes:
    """An answer that is complete and leaves the connection open; `Retry_After="1"` is the header Retry-After."""
    lines = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Server:
    """Answers each request with what `respond` returns for it."""

    respond: Callable[[Request], Reply]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._gone = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, name="loopback-accept", daemon=True)]
        self._threads[0].start()

    @property
    def open_now(self) -> int:
        """Connections that nobody has closed."""
        with self._lock:
            return len(self._open)

    def close(self) -> None:
        self._gone.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), name="loopback", daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as reader:
                while (request := _read_request(reader)) is not None:
                    with self._lock:
                        self.requests.append(request)
                    answer = self.respond(request)
                    if isinstance(answer, bytes):
                        connection.sendall(answer)
                    else:
                        answer(Connection(connection, self._gone))
                        return
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def _read_request(reader) -> Request | None:
    line = reader.readline().decode("latin-1")
    if line.count(" ") != 2:
        return None  # the end, or no HTTP
    method, target, _ = line.split(" ")
    headers: dict[str, str] = {}
    while (line := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


def one_after_another(*replies: Reply) -> Callable[[Request], Reply]:
    """Give each reply once, and the last one from then on."""
    left = list(replies)
    lock = threading.Lock()

    def respond(request: Request) -> Reply:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return respond
