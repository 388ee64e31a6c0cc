"""A sandbox's server: one uvicorn on loopback that starts at once, says so, and stops at once.

Which requests it answers and how belongs to `frame.py` and the sources.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bdc_pipeline.sandbox.boligsiden import BoligsidenSource
from bdc_pipeline.sandbox.dmr import sources as registries
from bdc_pipeline.sandbox.frame import TRANSPORT, Frame, Source
from bdc_pipeline.sandbox.gitlab import GitLabSource
from bdc_pipeline.sandbox.options import SandboxOptions
from bdc_pipeline.sandbox.sonar import SonarSource

HOST = "127.0.0.1"


def served(options: SandboxOptions) -> list[Source]:
    """The APIs that are asked for, each with its data."""
    found: list[Source] = []
    if "sonar" in options.sources:
        found.append(SonarSource(options))
    if "boligsiden" in options.sources:
        found.append(BoligsidenSource(options))
    if "gitlab" in options.sources:
        found.append(GitLabSource(options))
    return [*found, *registries(options)]


class _Protocol(HttpToolsProtocol):
    """Hands on the connection, which faults cut."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[TRANSPORT] = self.transport


class Server(uvicorn.Server):
    """A server of one sandbox; `should_exit = True` stops it, from any thread."""

    def __init__(self, options: SandboxOptions, on_ready: Callable[[str], None] | None = None) -> None:
        self._listener = socket.create_server((HOST, options.port), backlog=2048)
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self._on_ready = on_ready
        frame = Frame(options, served(options))
        super().__init__(
            uvicorn.Config(
                frame.app(),
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                log_level="critical",
                server_header=False,
                # Benchmarks pause longer between two syncs than uvicorn's 5 seconds
                timeout_keep_alive=75,
                # Whoever stops a sandbox does not wait for requests that it holds on purpose
                timeout_graceful_shutdown=0,
            )
        )

    def run_until_stopped(self) -> None:
        """Serve until told to stop."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve(sockets=[self._listener]))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when requests are answered."""
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready(self.url)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop at SIGINT and SIGTERM and then end normally; uvicorn would raise the signal again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {which: signal.signal(which, self._stop) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def _stop(self, *_: object) -> None:
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop."""
        return await super().on_tick(counter) or self._is_orphan()

    def _is_orphan(self) -> bool:
        return False


class _ChildServer(Server):
    """A server whose end is tied to its parent's."""

    def __init__(self, options: SandboxOptions, on_ready: Callable[[str], None] | None = None) -> None:
        super().__init__(options, on_ready)
        self._parent = os.getppid()
        # The parent holds the other end and never writes; when it dies, however it dies, this end reads the end of file
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()

    def _watch(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        self.should_exit = True

    def _is_orphan(self) -> bool:
        # A process forked off by the parent may still hold the pipe open
        return os.getppid() != self._parent


def serve(options: SandboxOptions, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve a sandbox until SIGINT or SIGTERM. `on_ready` is called with its URL once it answers.

    Raises OSError if the port is taken.
    """
    Server(options, on_ready).run_until_stopped()


def serve_as_child(options: SandboxOptions, *, on_ready: Callable[[str], None] | None = None) -> None:
    """The same, but it also ends when the parent does: standard input must be a pipe from it."""
    _ChildServer(options, on_ready).run_until_stopped()
