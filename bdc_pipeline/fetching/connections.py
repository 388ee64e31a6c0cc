"""Connections: how to get to a server, found out once for each origin, and requests on connections that are kept.

What belongs here: what `requests` and urllib3 have between a prepared request and the first byte of its answer. What is sent, and
what an answer means, do not.

A request goes from here to urllib3's pool of the server. `requests` would find proxies, certificates and that pool anew for each, and
make a response of its own from urllib3's: 0.10 of 0.45 ms of CPU a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.utils import urldefragauth
from urllib3 import BaseHTTPResponse, HTTPConnectionPool
from urllib3.util import Timeout

from bdc_pipeline.fetching.addresses import origin_of
from bdc_pipeline.fetching.answers import Unreachable


@dataclass(slots=True)
class Route:
    """How to get to a server: what `requests` reads from the environment, read once for each origin."""

    proxies: Any
    verify: Any
    cert: Any
    pool: HTTPConnectionPool | None = None
    whole_addresses: bool = False
    """Whether the request line holds the whole address, as proxies of plain http want it."""


class Connections(HTTPAdapter):
    """Keeps connections, for any thread.

    size: how many are kept open with each server.
    connect_timeout, read_timeout: seconds for a connection, and for each next piece of an answer.
    """

    def __init__(self, size: int, *, connect_timeout: float, read_timeout: float) -> None:
        super().__init__(pool_connections=10, pool_maxsize=size, max_retries=0)
        self._timeout = Timeout(connect=connect_timeout, read=read_timeout)
        self._routes: dict[tuple[str, str, int], Route] = {}

    def route(self, url: str) -> Route:
        """Return the way to an address, as the environment has it when it is asked for first."""
        origin = origin_of(url)
        route = self._routes.get(origin)
        if route is None:
            with requests.Session() as reader:
                found = reader.merge_environment_settings(url, {}, None, None, None)
            route = self._routes[origin] = Route(found["proxies"], found["verify"], found["cert"])
        return route

    def open(self, request: requests.PreparedRequest, route: Route) -> BaseHTTPResponse:
        """Send a request and return its answer, of which the headers have come. No redirect is followed.

        Raises what `requests` and urllib3 raise, OSError, and `Unreachable` where certificates that the environment names are missing.
        """
        pool = route.pool or self._pool(request, route)
        return pool.urlopen(
            request.method or "GET",
            urldefragauth(request.url or "") if route.whole_addresses else request.path_url,
            body=request.body,
            headers=cast("Any", request.headers),
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            retries=False,
            timeout=self._timeout,
        )

    def close(self) -> None:
        """Close the connections that nobody uses just now; those in use are closed when they are given back."""
        for route in self._routes.values():
            if route.pool is not None:
                route.pool.close()  # urllib3's manager lets go of its pools and leaves the closing to the garbage collector
        super().close()

    def _pool(self, request: requests.PreparedRequest, route: Route) -> HTTPConnectionPool:
        found = self.get_connection_with_tls_context(request, route.verify, proxies=route.proxies, cert=route.cert)
        pool = cast("HTTPConnectionPool", found)
        try:
            cast("Any", self).cert_verify(pool, request.url or "", route.verify, route.cert)
        except OSError:
            missing = Unreachable(
                f"the certificates '{route.verify}', which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names, are not there."
            )
            missing.retryable = False
            raise missing from None
        route.whole_addresses = self.request_url(request, route.proxies) != request.path_url
        route.pool = pool
        return pool
