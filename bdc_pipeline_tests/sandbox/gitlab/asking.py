"""Asking a sandbox of GitLab over HTTP, with nothing between the test and the wire."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread

#: Enough for every irregularity of the data to occur
SIZES = {"projects": 12, "pipelines_per_project": 27, "jobs_per_pipeline": 14}


@contextmanager
def gitlab_sandbox(**options: Any) -> Iterator[Sandbox]:
    with running_in_thread(SandboxOptions(**{"sources": frozenset({"gitlab"}), **SIZES, **options})) as sandbox:
        yield sandbox


class Got(NamedTuple):
    status: int
    #: names in lower case
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def links(self) -> dict[str, str]:
        return {rel: url for url, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', self.headers.get("link", ""))}


def get(
    sandbox: Sandbox,
    path: str,
    *,
    token: str | None = "any",
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    host: str | None = None,
    **query: Any,
) -> Got:
    """A path below /api/v4, or a whole URL."""
    netloc = urlsplit(sandbox.url).netloc
    if path.startswith("http"):
        parts = urlsplit(path)
        netloc, path = parts.netloc, path.removeprefix(f"{parts.scheme}://{parts.netloc}")
    else:
        path = f"/gitlab/api/v4/{path}"
    if query:
        path += f"?{urlencode(query, doseq=True)}"
    connection = http.client.HTTPConnection(host or netloc, timeout=30)
    sent = {**({"PRIVATE-TOKEN": token} if token is not None else {}), **(headers or {})}
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def rows(sandbox: Sandbox, path: str, **query: Any) -> list[dict[str, Any]]:
    """All rows of a list, page after page."""
    got = get(sandbox, path, **{"per_page": 100, **query})
    found: list[dict[str, Any]] = got.json
    while "next" in got.links:
        got = get(sandbox, got.links["next"])
        found += got.json
    assert got.status == 200, got
    return found


def truth(sandbox: Sandbox, entity: str, *columns: str) -> list[dict[str, Any]]:
    """All rows of an entity as the sandbox has them."""
    found = sandbox.source("gitlab").rows(entity, columns)
    return [dict(zip(columns, row, strict=True)) for row in found]


def first(sandbox: Sandbox, entity: str, columns: Sequence[str] = (), **wanted: Any) -> dict[str, Any]:
    """The first row with these values."""
    for row in truth(sandbox, entity, *{"id", *columns, *wanted}):
        if all(row[name] == value for name, value in wanted.items()):
            return row
    raise AssertionError(f"There is no {entity} with {wanted}.")
