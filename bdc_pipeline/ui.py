"""`bdc-pipeline ui`: Dagster's web UI and daemon, with the project's instance configuration.

Without SONAR_URL a sandbox is started beside it, and the blocks of its generated data are registered, so that there is
something to press. With SONAR_URL nothing is asked of it until a person starts a run or switches a sensor on.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.demo import directory, point_at
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sandbox import SandboxOptions, running
from bdc_pipeline.sources.sonar import assets
from bdc_pipeline.sources.sonar import entities as e


def home() -> Path:
    """DAGSTER_HOME, or `.dagster` in the data directory, with the project's dagster.yaml.

    Raises:
        SettingsError: it is not absolute or cannot be made.
    """
    path = settings.dagster_home() or settings.data_dir() / ".dagster"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "dagster.yaml").exists():
            source = importlib.resources.files("bdc_pipeline") / "dagster.yaml"
            with importlib.resources.as_file(source) as shipped:
                shutil.copyfile(shipped, path / "dagster.yaml")
    except OSError as error:
        raise settings.SettingsError(f"DAGSTER_HOME '{path}' cannot be used ({error.strerror or error}).") from None
    return path


def run(port: int, host: str) -> int:
    """Runs until Ctrl-C and returns Dagster's exit status.

    Raises:
        SettingsError: a variable cannot be used.
    """
    os.environ[settings.DAGSTER_HOME.name] = str(home())
    # several processes that first touch an empty instance at once would corrupt it: this one is alone
    with dg.DagsterInstance.get() as instance, _something_to_ask(instance):
        click.echo(f"Dagster's web UI comes up on http://{host}:{port} in some 15 seconds; Ctrl-C ends it.", err=True)
        arguments = ["dev", "-m", "bdc_pipeline.definitions", "-p", str(port), "-h", host]
        process = subprocess.Popen([sys.executable, "-m", "dagster", *arguments])  # noqa: S603  (our own arguments)
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
        process.terminate()
        return process.wait()


@contextlib.contextmanager
def _something_to_ask(instance: dg.DagsterInstance) -> Iterator[None]:
    if settings.read(settings.SONAR_URL):
        settings.sonar()
        yield
        return
    with running(SandboxOptions(scale="small", latency_ms=20)) as sandbox:
        point_at(sandbox, directory())
        click.echo(f"SONAR_URL is not set: using generated data from a sandbox at {sandbox.url}.", err=True)
        register_blocks(instance)
        yield


def register_blocks(instance: dg.DagsterInstance) -> None:
    """Registers the blocks that the source has as partitions."""
    sonar = assets.SonarResource()
    for definition, entity in ((assets.CUSTOMER_BLOCKS, e.ACCOUNTS), (assets.INVENTORY_BLOCKS, e.INVENTORY_ITEMS)):
        blocks, _ = assets.find_blocks(sonar, Stop(), entity)
        instance.add_dynamic_partitions(str(definition.name), blocks)
