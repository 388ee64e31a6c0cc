"""Asking a sandbox over HTTP, with nothing between the test and the wire."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread

#: Enough for every irregularity of the data to occur
CUSTOMERS = 400


@contextmanager
def small_sandbox(**options: Any) -> Iterator[Sandbox]:
    with running_in_thread(SandboxOptions(**{"customers": CUSTOMERS, **options})) as sandbox:
        yield sandbox


def send(
    sandbox: Sandbox,
    body: Any,
    *,
    token: str | None = "any",
    method: str = "POST",
    path: str = "/sonar/api/graphql",
    timeout: float = 30,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=timeout)
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def ask(sandbox: Sandbox, query: str, **variables: Any) -> dict[str, Any]:
    status, _, body = send(sandbox, {"query": query, "variables": variables})
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


def listed(sandbox: Sandbox, root: str, arguments: str, fields: str = "id") -> list[dict[str, Any]]:
    answer = ask(sandbox, f"{{ {root}({arguments}) {{ entities {{ {fields} }} }} }}")
    assert "errors" not in answer, answer
    entities: list[dict[str, Any]] = answer["data"][root]["entities"]
    return entities


#: Everything on one page
ALL = "paginator: {page: 1, records_per_page: 1000}"
BY_ID = 'sorter: [{attribute: "id", direction: ASC}]'
