"""The command as a process of its own, for what only a process shows: exit status, signals, limits, a sudden end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MAIN = "from bdc_pipeline.cli import main; main()"


def environment(directory: Path, url: str, token: str) -> dict[str, str]:
    """The variables of this process but for Sonar's and Dagster's, which are as given."""
    ours = ("SONAR_", "BDC_", "DAGSTER_")
    found = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    given = {"BDC_DATA_DIR": str(directory), "SONAR_URL": url, "SONAR_TOKEN": token}
    return found | {"DAGSTER_DISABLE_TELEMETRY": "1"} | {name: value for name, value in given.items() if value}


def start(*arguments: str, directory: Path, url: str, token: str, before: str = "") -> subprocess.Popen[str]:
    """Starts the command; `before` is Python that runs in its process before it begins."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}; {MAIN}" if before else MAIN, *arguments],
        env=environment(directory, url, token),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    with start(*arguments, **options) as process:
        try:
            out, errors = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, errors)
