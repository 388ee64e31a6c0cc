"""A sandbox held by the code that uses it: started, asked, changed and stopped from tests, benchmarks and the demo."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bdc_pipeline.sandbox.options import SandboxOptions
from bdc_pipeline.sandbox.server import Server

#: What `Sandbox.token` says when any token is accepted.
ANY_TOKEN = "SYNTHETIC-SANDBOX-TOKEN"  # noqa: S105  # lets in to generated data alone
#: Starting takes 2 seconds at the large scale; a machine under load may need many times that.
_START_SECONDS = 120


class SourceHandle:
    """One API of a running sandbox, by the name under which it is mounted."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self._sandbox, self._name = sandbox, name
        #: what the source's variable is to be
        self.url = f"{sandbox.url}/{name}"

    def change(self, action: str, **arguments: Any) -> Any:
        """Change its data; what there is to change is said by the source's subpackage.

        Raises ValueError with a sentence.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        return self._sandbox.ask("POST", "change", {"source": self._name, "action": action, **given})

    def rows(self, entity: str, columns: Sequence[str]) -> Any:
        """The truth to compare a copy with."""
        return self._sandbox.ask("POST", "rows", {"source": self._name, "entity": entity, "columns": list(columns)})


class Sandbox:
    """A running sandbox.

    The methods that change data and read rows are Sonar's; other APIs have them on `source(name)`.
    """

    def __init__(self, url: str, options: SandboxOptions) -> None:
        #: http://127.0.0.1:PORT
        self.url = url
        #: what SONAR_URL is to be
        self.sonar_url = f"{url}/sonar"
        self.token = options.token or ANY_TOKEN
        self.options = options

    def stats(self) -> dict[str, Any]:
        """What was asked since the start or the last reset.

        total, max_concurrent, rate_limited, bytes_sent: counts. topics: requests by root field. labels: requests by label.
        faults: faults served, by kind. selected: the columns that were read, as "Account.name". authorized: whether the last
        request carried an Authorization header.
        """
        found: dict[str, Any] = self.ask("GET", "stats")
        return found

    def reset_stats(self) -> None:
        """Start counting anew."""
        self.ask("POST", "reset-stats")

    def configure(self, **changes: Any) -> None:
        """Change options of the running sandbox: any of SandboxOptions but those in `options.FIXED`.

        Faults may be given in the command line's form. Changing them or the rate limit starts its counters anew.
        """
        self.ask("POST", "configure", changes)

    def change(
        self, share: float = 0.01, entities: Sequence[str] | None = None, *, seed: int = 0, at: str | None = None
    ) -> dict[str, int]:
        """Change columns of a share of the rows of some entities, by default of all; how many by entity.

        `at` is the moment that they are changed at, in ISO 8601; by default now. So it is with all the changes below.
        """
        found: dict[str, int] = self._change("change", share=share, entities=entities, seed=seed, at=at)
        return found

    def insert(
        self, count: int = 1, entity: str = "Customer", *, at: str | None = None, **columns: Any
    ) -> dict[str, list[int]]:
        """Add rows; their ids by entity.

        A Customer is an account with address, history, data service, item and field data. Columns given are set on each row
        of the entity (of the Account, for a Customer).
        """
        found: dict[str, list[int]] = self._change("insert", count=count, entity=entity, at=at, columns=columns)
        return found

    def delete(
        self, entity: str, ids: Sequence[int] | None = None, *, share: float | None = None, seed: int = 0
    ) -> list[int]:
        """Remove rows, by id or a share of them; what points to them stays. The ids."""
        found: list[int] = self._change("delete", entity=entity, ids=ids, share=share, seed=seed)
        return found

    def archive(
        self, ids: Sequence[int] | None = None, *, share: float | None = None, seed: int = 0, at: str | None = None
    ) -> list[int]:
        """Archive accounts, which hides them from lists that do not ask for archived ones. The ids."""
        found: list[int] = self._change("archive", ids=ids, share=share, seed=seed, at=at)
        return found

    def touch(
        self,
        entity: str,
        ids: Sequence[int] | None = None,
        *,
        share: float | None = None,
        seed: int = 0,
        at: str | None = None,
    ) -> list[int]:
        """Move updated_at of rows, and nothing else. The ids."""
        found: list[int] = self._change("touch", entity=entity, ids=ids, share=share, seed=seed, at=at)
        return found

    def update(self, entity: str, identifier: int, *, at: str | None = None, **columns: Any) -> None:
        """Set columns of one row to any JSON value; the schema's types need not fit.

        An Account's `account_groups` is a list of ids of groups.
        """
        self._change("update", entity=entity, id=identifier, at=at, columns=columns)

    def rows(self, entity: str, columns: Sequence[str]) -> list[list[Any]]:
        """What is served for an entity, hidden rows too, by id: the truth to compare a copy with."""
        found: list[list[Any]] = self.source("sonar").rows(entity, columns)
        return found

    def source(self, name: str) -> SourceHandle:
        """One of the APIs."""
        return SourceHandle(self, name)

    def _change(self, action: str, **arguments: Any) -> Any:
        return self.source("sonar").change(action, **arguments)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask a control endpoint. Raises ValueError with its sentence."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, f"/_sandbox/{path}", None if body is None else msgspec.json.encode(body))
            response = connection.getresponse()
            answer = msgspec.json.decode(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


@contextlib.contextmanager
def running(options: SandboxOptions | None = None) -> Iterator[Sandbox]:
    """A sandbox in a process of its own, so that it and its user do not share a core; it ends with the block or the parent.

    Raises RuntimeError, with what the process said, if it does not start.
    """
    options = options or SandboxOptions()
    arguments = [sys.executable, "-m", "bdc_pipeline.sandbox", "--until-stdin-ends", *options.to_args()]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603  # our own module with our own options
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            yield Sandbox(_ready_url(process, errors), options)
        finally:
            _end(process)


def _ready_url(process: subprocess.Popen[bytes], errors: Any) -> str:
    if process.stdout is None:
        raise RuntimeError("The sandbox was started without a pipe to its standard output.")
    guard = threading.Timer(_START_SECONDS, process.kill)
    guard.start()
    try:
        line = process.stdout.readline().decode()
    finally:
        guard.cancel()
    if not line.startswith("sandbox ready at "):
        process.wait()
        errors.seek(0)
        raise RuntimeError(f"The sandbox did not start: {errors.read().decode(errors='replace').strip() or line}")
    return line.removeprefix("sandbox ready at ").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def running_in_thread(options: SandboxOptions | None = None) -> Iterator[Sandbox]:
    """A sandbox in a thread of this process: starts in milliseconds, but takes turns with its user."""
    options = options or SandboxOptions()
    ready = threading.Event()
    server = Server(options, lambda _: ready.set())
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run_until_stopped()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="sandbox", daemon=True)
    thread.start()
    try:
        ready.wait(_START_SECONDS)
        if failures:
            raise RuntimeError("The sandbox did not start.") from failures[0]
        yield Sandbox(server.url, options)
    finally:
        server.should_exit = True
        thread.join(10)
