"""`bdc-pipeline ui`: Dagster's web UI and daemon, with the project's instance configuration.

Where no source's address is set, a sandbox of all of them is started beside it, the blocks of its generated data are
registered, so that there is something to press, and schedules and sensors are on: they ask the sandbox alone. Otherwise
nothing is asked of a real service until a person starts a run or switches a sensor on.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.demo import directory, point_at
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.running import dagster_instance, prepare_home
from bdc_pipeline.sandbox import SandboxOptions, running
from bdc_pipeline.sources.sonar import assets
from bdc_pipeline.sources.sonar import entities as e

STOP_SECONDS = 15.0
"""How long Dagster may take to end its processes."""


ADDRESSES = (
    settings.SONAR_URL,
    settings.GITLAB_URL,
    settings.GITLAB_TOKEN,
    settings.BOLIGSIDEN_URL,
    settings.BRANDMEISTER_URL,
    settings.TGIF_URL,
    settings.HEARHAM_URL,
)


def is_live() -> bool:
    """Whether real services are meant: the address of one of them is set."""
    return any(settings.is_set(setting) for setting in ADDRESSES)


def home() -> Path:
    """DAGSTER_HOME, or `.dagster` beside the files that its runs write, with the project's dagster.yaml.

    Raises:
        SettingsError: it is not absolute or cannot be made.
    """
    # what was materialized from generated data must not pass for a copy of the real source
    data = settings.data_dir() if is_live() else directory()
    path = settings.dagster_home() or data / ".dagster"
    prepare_home(path)
    return path


def run(port: int, host: str) -> int:
    """Runs until Ctrl-C and returns Dagster's exit status.

    Raises:
        SettingsError: a variable cannot be used.
    """
    os.environ[settings.DAGSTER_HOME.name] = str(home())
    # opened here before Dagster's processes do: together they would corrupt an empty one
    with dagster_instance() as instance, _something_to_ask(instance):
        click.echo(f"Dagster's web UI comes up on http://{host}:{port} in some 15 seconds; Ctrl-C ends it.", err=True)
        arguments = ["dev", *_location(), "-p", str(port), "-h", host]
        process = subprocess.Popen([sys.executable, "-m", "dagster", *arguments])  # noqa: S603  (our own arguments)
        try:
            return process.wait()
        except KeyboardInterrupt:
            _end(process)
            return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends Dagster, which ends its own processes."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _location() -> list[str]:
    """Where Dagster finds the definitions: the checkout's workspace.yaml names the location, an installed package is alone."""
    workspace = Path(__file__).resolve().parent.parent / "workspace.yaml"
    return ["-w", str(workspace)] if workspace.is_file() else ["-m", "bdc_pipeline.definitions"]


@contextlib.contextmanager
def _something_to_ask(instance: dg.DagsterInstance) -> Iterator[None]:
    if is_live():
        if settings.is_set(settings.SONAR_URL):
            settings.sonar()
        if settings.is_set(settings.GITLAB_TOKEN):
            settings.gitlab()
        settings.properties()
        settings.dmr_urls()
        settings.dmr_profile()
        yield
        return
    with running(SandboxOptions(scale="small", latency_ms=20)) as sandbox:
        point_at(sandbox, directory())
        os.environ.setdefault(settings.BDC_AUTOMATION.name, "on")
        click.echo(f"No source's address is set: using generated data from a sandbox at {sandbox.url}.", err=True)
        register_blocks(instance)
        yield


def register_blocks(instance: dg.DagsterInstance) -> None:
    """Registers the blocks that the source has as partitions."""
    sonar = assets.SonarResource()
    for definition, entities in ((assets.CUSTOMER_BLOCKS, e.OF_CUSTOMERS), (assets.INVENTORY_BLOCKS, e.OF_INVENTORY)):
        blocks, _ = assets.find_blocks(sonar, Stop(), entities)
        instance.add_dynamic_partitions(str(definition.name), blocks)
