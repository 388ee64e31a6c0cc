"""What all sources' sandboxes share: counting, latency, rate limit, faults on the wire, and the control endpoints.

A source brings a `Source`: it reads a request and answers it. It knows nothing of faults but how the three that are well-formed
answers look in its own format. Starting and stopping a server belongs to `server.py`.

Under `/_sandbox/` are the control endpoints, in JSON, which no fault, limit or latency touches: `GET stats`, `POST configure`,
`POST change`, `POST reset-stats`, `POST rows`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bdc_pipeline.sandbox.faults import FaultPlan
from bdc_pipeline.sandbox.options import FIXED, Fault, SandboxOptions

#: The key under which `server.py` hands on the connection; faults on the wire need it.
TRANSPORT = "bdc_pipeline.transport"

JSON = ((b"content-type", b"application/json"),)
HTML = ((b"content-type", b"text/html; charset=UTF-8"),)
_BUSY_PAGE = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>SYNTHETIC: the server is busy.</body></html>\n"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    body: bytes
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = JSON


class Call(Protocol):
    """A request that a source has understood."""

    @property
    def label(self) -> str:
        """What faults match against: what is read, which page, under which conditions."""
        ...

    @property
    def topics(self) -> Sequence[str]:
        """What is read, for counting: root fields, paths."""
        ...

    @property
    def selected(self) -> frozenset[str]:
        """The fields that are read, for proving that secrets are not."""
        ...

    def answer(self) -> Answer:
        """What was asked for."""
        ...

    def shrunken(self) -> Answer:
        """The same, with nothing in it."""
        ...

    def partial(self) -> Answer:
        """The same, with an error in place of the first part."""
        ...

    def throttled(self) -> Answer:
        """A status of 200, but a message that says to slow down."""
        ...


@runtime_checkable
class Refusing(Protocol):
    """A call of an API that words refusals in its own way."""

    def refused(self, status: int, retry_after: float | None) -> Answer:
        """The answer with a status from 400 to 599."""
        ...


class Source(Protocol):
    """One API: what is served under `/NAME/`."""

    name: str

    def read(self, request: Request, body: bytes) -> Call | Answer:
        """Understand a request, or refuse it outright (wrong path, method, token, syntax)."""
        ...

    def configure(self, options: SandboxOptions) -> None:
        """Take over changed options."""
        ...

    def change(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """Change data; raises ValueError with a sentence. The result is sent back."""
        ...

    def rows(self, entity: str, columns: Sequence[str]) -> Any:
        """What the data is, for comparing."""
        ...

    def served(self, call: Call) -> None:
        """Called after each answered call, for what changes while pages are read."""
        ...


@dataclass
class Stats:
    """What has been asked and answered since the start or the last reset."""

    total: int = 0
    max_concurrent: int = 0
    topics: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    rate_limited: int = 0
    bytes_sent: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    selected: set[str] = field(default_factory=set)
    #: whether the last request carried an Authorization header; None before the first
    authorized: bool | None = None

    def shown(self) -> dict[str, Any]:
        """As sent to the handle."""
        return {
            "total": self.total,
            "max_concurrent": self.max_concurrent,
            "topics": dict(self.topics),
            "faults": dict(self.faults),
            "rate_limited": self.rate_limited,
            "bytes_sent": self.bytes_sent,
            "labels": dict(self.labels.most_common(1000)),
            "selected": sorted(self.selected),
            "authorized": self.authorized,
        }


class RateLimit:
    """So many requests a second, and as many at once: a bucket of tokens that refills."""

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        self._room = max(1.0, per_second or 1.0)
        self._tokens = self._room
        self._at = clock()

    def admits(self) -> bool:
        """Take a token, if there is one."""
        if self.per_second is None:
            return True
        now = self._clock()
        self._tokens = min(self._room, self._tokens + (now - self._at) * self.per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next token."""
        return max(1, round((1 - self._tokens) / (self.per_second or 1) + 0.5))


class Frame:
    """The sources' requests on their way in and out."""

    def __init__(self, options: SandboxOptions, sources: Sequence[Source]) -> None:
        self.options = options
        self.sources = {source.name: source for source in sources}
        self.stats = Stats()
        self._in_flight = 0
        self.faults = FaultPlan(options.faults, options.seed)
        self.limit = RateLimit(options.rate_limit)

    def app(self) -> Starlette:
        """The application that serves all of it."""
        control = [
            Route("/stats", self._show_stats, methods=["GET"]),
            Route("/reset-stats", self._reset_stats, methods=["POST"]),
            Route("/configure", self._configure, methods=["POST"]),
            Route("/change", self._change, methods=["POST"]),
            Route("/rows", self._rows, methods=["POST"]),
        ]
        mounts = [Mount(f"/{name}", app=self._serving(source)) for name, source in self.sources.items()]
        return Starlette(routes=[Mount("/_sandbox", routes=control), *mounts])

    def _serving(self, source: Source) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            stats = self.stats
            stats.total += 1
            self._in_flight += 1  # whatever is reset meanwhile
            stats.max_concurrent = max(stats.max_concurrent, self._in_flight)
            try:
                await self._serve(source, Request(scope, receive), send)
            except asyncio.CancelledError:
                # The server stops while a request is held. To end the connection is honest, to answer 500 is not.
                _transport(scope).abort()
            finally:
                self._in_flight -= 1

        return serve

    async def _serve(self, source: Source, request: Request, send: Send) -> None:
        stats, began = self.stats, time.monotonic()
        stats.authorized = "authorization" in request.headers
        body = await request.body()
        call = source.read(request, body)
        fault = None
        if not isinstance(call, Answer):
            stats.topics.update(call.topics)
            stats.labels[call.label] += 1
            stats.selected |= call.selected
            if not self.limit.admits():
                stats.rate_limited += 1
                call = self._over_limit(call)
            else:
                fault = self.faults.draw(call.label)
        if isinstance(call, Answer):
            await self._wait(began)
            await self._send(call, send)
            return
        if fault is not None:
            await self._wait(began)
            stats.faults[fault.kind] += 1
            await self._serve_fault(fault, call, request, send)
            return
        answer = call.answer()
        await self._wait(began)
        # Some APIs count requests themselves
        stats.rate_limited += answer.status == 429
        await self._send(answer, send)
        source.served(call)

    async def _wait(self, began: float) -> None:
        """Waits until the latency is over. What it takes to make an answer is part of it, as with any server."""
        if self.options.latency_ms:
            left = began + self.options.latency_ms / 1000 - time.monotonic()
            # the event loop rounds up to whole milliseconds; so it is rounded to the nearest
            await asyncio.sleep(max(0.0, left - 0.0005))

    def _over_limit(self, call: Call) -> Answer:
        if self.options.rate_limit_status == 200:
            return call.throttled()
        return _status(429, self.limit.retry_after, call)

    async def _send(self, answer: Answer, send: Send) -> None:
        self.stats.bytes_sent += len(answer.body)
        headers = list(answer.headers)
        # In an answer that something is unchanged, it would be the length of what is not sent
        if answer.status != 304:
            headers.insert(0, (b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    # --- faults

    async def _serve_fault(self, fault: Fault, call: Call, request: Request, send: Send) -> None:
        if fault.kind in {"cut", "stall", "reset"}:
            await self._break(fault, call, request, send)
            return
        if fault.kind == "timeout":
            await asyncio.sleep(fault.duration)
        await self._send(_faulty(fault, call, request), send)

    async def _break(self, fault: Fault, call: Call, request: Request, send: Send) -> None:
        """Faults of the connection, after which it is gone."""
        transport = _transport(request.scope)
        if fault.kind == "cut":
            answer = call.answer()
            body = answer.body
            length = (b"content-length", str(len(body) + 1).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [length, *answer.headers]})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            transport.close()
        elif fault.kind == "stall":
            await _left_or(request, fault.duration)
            transport.abort()
        else:
            connection = transport.get_extra_info("socket")
            # Lingering for 0 seconds turns the end into a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        # The server takes an unanswered request for a mistake of ours unless it has noticed the connection's end
        await _left_or(request, 1.0)

    # --- control

    async def _show_stats(self, _request: Request) -> Response:
        return _json(self.stats.shown())

    async def _reset_stats(self, _request: Request) -> Response:
        self.stats = Stats()
        return _json({})

    async def _configure(self, request: Request) -> Response:
        changes = msgspec.json.decode(await request.body(), type=dict[str, Any])
        fixed = sorted(FIXED & set(changes))
        if fixed:
            return _json({"error": f"The sandbox's {', '.join(fixed)} cannot change while it runs."}, 400)
        try:
            self.options = self.options.changed(**changes)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        if "faults" in changes:
            self.faults = FaultPlan(self.options.faults, self.options.seed)
        if "rate_limit" in changes:
            self.limit = RateLimit(self.options.rate_limit)
        for source in self.sources.values():
            source.configure(self.options)
        return _json({})

    async def _change(self, request: Request) -> Response:
        wanted = msgspec.json.decode(await request.body(), type=dict[str, Any])
        source, action = self.sources.get(wanted.pop("source", "")), str(wanted.pop("action", ""))
        if source is None:
            return _json({"error": f"A change needs a source: {', '.join(self.sources)}."}, 400)
        try:
            return _json(source.change(action, wanted))
        except ValueError as error:
            return _json({"error": str(error)}, 400)

    async def _rows(self, request: Request) -> Response:
        wanted = msgspec.json.decode(await request.body(), type=dict[str, Any])
        source = self.sources.get(wanted.get("source", ""))
        if source is None:
            return _json({"error": f"Rows need a source: {', '.join(self.sources)}."}, 400)
        try:
            return _json(source.rows(wanted["entity"], wanted["columns"]))
        except ValueError as error:
            return _json({"error": str(error)}, 400)


def _faulty(fault: Fault, call: Call, request: Request) -> Answer:
    """What comes instead of the answer, for faults that are answers."""
    if fault.status is not None:
        return _status(fault.status, fault.seconds, call)
    answers: dict[str, Callable[[], Answer]] = {
        "html": lambda: Answer(_BUSY_PAGE, headers=HTML),
        "empty": lambda: Answer(b"", headers=HTML),
        "shrunken": call.shrunken,
        "partial": call.partial,
        "throttle": call.throttled,
        "timeout": lambda: Answer(_BUSY_PAGE, 504, HTML),
        # The same server under another name: whoever follows with a token has sent it to another host
        "redirect": lambda: Answer(
            b"", 302, ((b"location", f"http://localhost:{request.url.port}{request.url.path}".encode()),)
        ),
    }
    return answers[fault.kind]()


def _status(status: int, retry_after: float | None, call: Call) -> Answer:
    if isinstance(call, Refusing):
        return call.refused(status, retry_after)
    headers = [*JSON]
    if retry_after is not None and status in {429, 503}:
        headers.append((b"retry-after", f"{retry_after:g}".encode()))
    return Answer(msgspec.json.encode({"message": f"SYNTHETIC: status {status}."}), status, headers)


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope[TRANSPORT]
    return transport


async def _left_or(request: Request, seconds: float) -> None:
    """Wait until the client is gone, for so long at most."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(left(), seconds)
    except TimeoutError:
        return


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
