"""`bdc-pipeline ui` in processes of its own, as a person starts it, for tests and for the script that takes pictures."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline import settings
from bdc_pipeline.sandbox import SandboxOptions
from bdc_pipeline.sandbox.handle import Sandbox
from bdc_pipeline_tests.ports import reserved_port

COMMAND = str(Path(sys.executable).parent / "bdc-pipeline")

UP_SECONDS = 120.0

WORKSPACE = """{ workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename ... on PythonError { message } }
} } } }"""


class Ui:
    """A UI in processes of its own, with a directory of its own."""

    def __init__(self, port: int, root: Path, variables: Mapping[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.data = root / "data"
        self._log = (root / "ui.log").open("wb")
        ours = {setting.name for setting in settings.SETTINGS}
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        self.process = subprocess.Popen(
            [COMMAND, "ui", "--port", str(port)],
            env=environment | {"BDC_DATA_DIR": str(self.data), "HOME": str(root), **variables},
            cwd=root,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # its own group, for Ctrl-C to go to
            start_new_session=True,
        )

    def said(self) -> str:
        """What was printed so far."""
        return Path(self._log.name).read_text(errors="replace")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """GraphQL's answer."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert not answer.get("errors"), answer
        found: dict[str, Any] = answer["data"]
        return found

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox that it has started and named."""
        named = re.search(r"sandbox at (http://127\.0\.0\.1:\d+)", self.said())
        assert named, self.said()
        return Sandbox(named[1], SandboxOptions())

    def is_loaded(self) -> bool:
        """Whether the web server answers and has loaded the code location."""
        assert self.process.poll() is None, self.said()
        try:
            [entry] = self.ask(WORKSPACE)["workspaceOrError"]["locationEntries"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        assert (entry["locationOrLoadError"] or {}).get("__typename") != "PythonError", entry
        return bool(entry["loadStatus"] == "LOADED")

    def processes(self) -> dict[int, str]:
        """All processes that this one has started, and theirs: they inherit its data directory."""
        mark = f"BDC_DATA_DIR={self.data}".encode()
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if any(variable.startswith(mark) for variable in (directory / "environ").read_bytes().split(b"\0")):
                    found[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # gone meanwhile, or another user's
                continue
        return found

    def close(self) -> None:
        """Ends whatever is left of it."""
        for number in {self.process.pid, *self.processes()}:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self._log.close()


def start(root: Path, **variables: str) -> Ui:
    """Starts a UI on a free port."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("What is left of the UI's processes is found in /proc, which this system does not have.")
    try:
        port = reserved_port()
    except OSError as error:
        pytest.skip(f"No port on loopback can be bound: {error}.")
    return Ui(port, root, variables)
