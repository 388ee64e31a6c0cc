from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .loopback import Reply, Request, Server, one_after_another


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers on loopback that give the replies one after another, or what a function of the request says."""
    servers: list[Server] = []

    def start(*replies: Reply, respond: Callable[[Request], Reply] | None = None) -> Server:
        servers.append(Server(respond if respond is not None else one_after_another(*replies)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
