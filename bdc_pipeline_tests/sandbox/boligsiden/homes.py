"""Asking the sandbox of Boligsiden over HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread

#: Sorted as a client that pages must sort
BY_ADDRESS = {"sortBy": "address", "sortAscending": "true"}


@contextmanager
def homes(**options: Any) -> Iterator[Sandbox]:
    with running_in_thread(SandboxOptions(**{"sources": frozenset({"boligsiden"}), **options})) as sandbox:
        yield sandbox


def get(
    sandbox: Sandbox, path: str, parameters: dict[str, Any] | None = None, *, method: str = "GET"
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=30)
    try:
        connection.request(method, f"/boligsiden{path}?{urlencode(parameters or {})}")
        response = connection.getresponse()
        body = response.read()
        assert response.getheader("content-type") == "application/json"
        return response.status, json.loads(body)
    finally:
        connection.close()


def listed(sandbox: Sandbox, **parameters: Any) -> Any:
    """One page of homes."""
    status, answer = get(sandbox, "/search/addresses", {"per_page": 50, **BY_ADDRESS, **parameters})
    assert status == 200, answer
    return answer


def hits(sandbox: Sandbox, **parameters: Any) -> int:
    total: int = listed(sandbox, **{"per_page": 1, **parameters})["totalHits"]
    return total


def pages(sandbox: Sandbox, **parameters: Any) -> list[list[str]]:
    """The ids on each page up to the last, which is known from the first."""
    first = listed(sandbox, page=1, **parameters)
    answers = [first, *(listed(sandbox, page=n, **parameters) for n in range(2, -(-first["totalHits"] // 50) + 1))]
    return [[home["addressID"] for home in answer["addresses"]] for answer in answers]


def walk(sandbox: Sandbox, **parameters: Any) -> list[str]:
    return [identifier for page in pages(sandbox, **parameters) for identifier in page]


def detail(sandbox: Sandbox, identifier: str) -> Any:
    status, record = get(sandbox, f"/addresses/{identifier}")
    assert status == 200, record
    return record


def change(sandbox: Sandbox, action: str, **arguments: Any) -> Any:
    return sandbox.source("boligsiden").change(action, **arguments)


def rows(sandbox: Sandbox, entity: str, *columns: str) -> list[list[Any]]:
    found: list[list[Any]] = sandbox.source("boligsiden").rows(entity, columns)
    return found
