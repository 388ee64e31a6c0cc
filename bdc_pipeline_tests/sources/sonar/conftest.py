"""Fixtures of the tests of the Sonar source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.sonar.client import SonarClient
from bdc_pipeline_tests.fetching.loopback import Reply, Request, Server, one_after_another
from bdc_pipeline_tests.sources.sonar.syncing import TOKEN, Copy, copying


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A sandbox with 120 customers for one test to change, and the file that will be kept of it."""
    with copying(tmp_path) as made:
        yield made


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers on loopback that give the replies one after another, or what a function of the request says."""
    servers: list[Server] = []

    def start(*replies: Reply, respond: Callable[[Request], Reply] | None = None) -> Server:
        servers.append(Server(respond if respond is not None else one_after_another(*replies)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def client_of() -> Iterator[Callable[..., SonarClient]]:
    """Makes clients that do not wait long between their attempts."""
    sessions: list[ApiSession] = []

    def make(url: str, attempts: int = 2) -> SonarClient:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        sessions.append(ApiSession(url, secret_headers=headers, workers=4, attempts=attempts, backoff=0.01))
        return SonarClient(sessions[-1])

    yield make
    for session in sessions:
        session.close()
