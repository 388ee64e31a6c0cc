"""Getting documents from a sandbox of the registries, with nothing between the test and the wire."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread

SOURCES = frozenset({"brandmeister", "hearham", "tgif"})
#: Enough for every irregularity of the data to occur
DEVICES = 400

DEVICE = "/brandmeister/v2/device"
REPEATERS = "/brandmeister/v2/device?repeater=true"
TALKGROUP = "/brandmeister/v2/talkgroup"
TGIF = "/tgif/dmr/talkgroups/json"
HEARHAM = "/hearham/api/repeaters/v1"
DOCUMENTS = [DEVICE, REPEATERS, TALKGROUP, TGIF, HEARHAM]


@contextmanager
def registries_sandbox(**options: Any) -> Iterator[Sandbox]:
    with running_in_thread(SandboxOptions(**{"sources": SOURCES, "devices": DEVICES, **options})) as sandbox:
        yield sandbox


def get(
    sandbox: Sandbox, path: str, *, method: str = "GET", timeout: float = 30, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, body as it came; `if_none_match` stands for If-None-Match."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=timeout)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def document(sandbox: Sandbox, path: str) -> Any:
    status, headers, body = get(sandbox, path)
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(body)


def zipped(sandbox: Sandbox, path: str) -> tuple[dict[str, str], bytes]:
    status, headers, body = get(sandbox, path, accept_encoding="gzip, deflate")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    return headers, gzip.decompress(body)
