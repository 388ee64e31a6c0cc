"""The command as a process of its own, for what only a process shows: exit status, signals, limits, a sudden end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bdc_pipeline import settings
from bdc_pipeline_tests.waiting import SECONDS

MAIN = "from bdc_pipeline.cli import main; main()"

#: How long a command may take; only one that hangs takes as long
COMMAND_SECONDS = 240.0


def environment(**variables: str) -> dict[str, str]:
    """The variables of this process without any setting of the project or of Dagster, and with those given."""
    ours = {setting.name for setting in settings.SETTINGS}
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("DAGSTER_")}
    return kept | {"DAGSTER_DISABLE_TELEMETRY": "1"} | variables


@contextlib.contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block: whatever goes wrong in there, nobody waits for its end in vain."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextlib.contextmanager
def start(
    *arguments: str, directory: Path, variables: dict[str, str], before: str = "", main: str = MAIN
) -> Iterator[subprocess.Popen[str]]:
    """The command, running in a directory with variables of its own; killed where the block ends before it.

    `before` is Python that runs in its process before it begins, `main` what runs the command.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{main}", *arguments],
        env=environment(**variables),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_at_last(process):
        yield process


def line_of(process: subprocess.Popen[str], pipe: IO[str] | None) -> str:
    """The next line that a process prints, "" at its end; it is killed where it says nothing for too long."""
    assert pipe is not None
    guard = threading.Timer(COMMAND_SECONDS, process.kill)
    guard.start()
    try:
        return pipe.readline()
    finally:
        guard.cancel()


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """What a process has printed and its exit status, once it has ended."""
    out, errors = process.communicate(timeout=COMMAND_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def run(
    *arguments: str, directory: Path, variables: dict[str, str], before: str = "", main: str = MAIN
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    with start(*arguments, directory=directory, variables=variables, before=before, main=main) as process:
        return finished(process)


def dying(path: Path, sql: str, least: int) -> str:
    """Python to run `before`: the process kills itself right behind the transaction since which a query tells so much.

    Whoever watches a file from outside and kills then may come when all is over: any process can be stopped for a while.
    """
    return f"""
import contextlib, os, signal, sqlite3
from bdc_pipeline.warehouse import drain as _drain
_told = _drain.Progress
def _dying(*arguments):
    with contextlib.closing(sqlite3.connect({str(path)!r}, timeout=60)) as connection:
        if connection.execute({sql!r}).fetchone()[0] >= {least}:
            os.kill(os.getpid(), signal.SIGKILL)
    return _told(*arguments)
_drain.Progress = _dying
"""


def meeting(directory: Path, count: int = 2, at: str = "bdc_pipeline.warehouse.drain:Progress") -> str:
    """Python to run `before`: when it first comes to a function, the process waits until so many have come as far.

    So all of them are surely under way at once, which processes that were only started together need not be. By default they
    meet behind their first transactions.
    """
    module, _, name = at.partition(":")
    owner, _, attribute = f"_module.{name}".rpartition(".")
    return f"""
import importlib, os, pathlib, time
_module = importlib.import_module({module!r})
_meant = getattr({owner}, {attribute!r})
def _meeting(*arguments, **named):
    directory = pathlib.Path({str(directory)!r})
    (directory / f"{{os.getpid()}}.here").touch()
    deadline = time.monotonic() + {SECONDS}
    while len(list(directory.glob("*.here"))) < {count}:
        if time.monotonic() > deadline:
            raise RuntimeError("The other process has not come.")
        time.sleep(0.01)
    return _meant(*arguments, **named)
setattr({owner}, {attribute!r}, _meeting)
"""


def met(directory: Path) -> int:
    """How many processes have come to where they meet."""
    return len(list(directory.glob("*.here")))
