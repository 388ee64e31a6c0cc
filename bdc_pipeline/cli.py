"""The `bdc-pipeline` command.

It runs the same Dagster assets as the UI. What is about one source is in `commands/`; modules that take long to import
(Dagster, pandas, the sandbox) are imported by the commands that need them, so that `--help` and a wrong option answer at
once.

Exit status: 0 complete; 1 ran, but something is missing or failed; 2 wrong usage or settings.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from bdc_pipeline.commands.backfill import backfill
from bdc_pipeline.commands.backup import backup
from bdc_pipeline.commands.dmr import dmr, sync_dmr, warm
from bdc_pipeline.commands.gitlab import sync_gitlab
from bdc_pipeline.commands.options import HELP
from bdc_pipeline.commands.outcome import stop_on_signals, told_in_sentences
from bdc_pipeline.commands.properties import sync_properties
from bdc_pipeline.commands.share import share
from bdc_pipeline.commands.sonar import sync_sonar
from bdc_pipeline.commands.status import status


class _Commands(click.Group):
    """Commands of other modules, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "sandbox"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "sandbox":
            from bdc_pipeline.sandbox.command import command  # noqa: PLC0415

            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings=HELP)
@click.version_option(package_name="bdc-pipeline")
def main() -> None:
    """Keeps complete, fresh SQLite copies of slow APIs, and says so when a copy is not complete."""


@main.group()
def sync() -> None:
    """Brings the copy of a source up to date."""


sync.add_command(sync_gitlab)
sync.add_command(sync_properties)
sync.add_command(sync_dmr)
main.add_command(warm)
main.add_command(dmr)
main.add_command(backfill)
main.add_command(backup)
main.add_command(share)
main.add_command(status)
sync.add_command(sync_sonar)


@main.command(context_settings=HELP)
@click.option(
    "--scale",
    type=click.Choice(["small", "medium", "large"]),
    default="small",
    show_default=True,
    help="How much data.",
)
@click.option(
    "--latency-ms", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Latency of the sandbox."
)
def demo(scale: Any, latency_ms: int) -> None:
    """Starts a sandbox with generated data on a free loopback port and syncs every source from it."""
    from bdc_pipeline.demo import run  # noqa: PLC0415

    with told_in_sentences():
        sys.exit(run(scale, latency_ms))


@main.command(context_settings=HELP)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the web UI.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the UI has no login.")
def ui(port: int, host: str) -> None:
    """Starts Dagster's web UI and daemon; with a sandbox where no source's address is set."""
    from bdc_pipeline.ui import run  # noqa: PLC0415

    stop_on_signals()
    with told_in_sentences():
        sys.exit(run(port, host))
