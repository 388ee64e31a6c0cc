"""The `bdc-pipeline` command.

It runs the same Dagster assets as the UI. Modules that take long to import (Dagster, pandas, the sandbox) are
imported by the commands that need them, so that `--help` and a wrong option answer at once.

Exit status: 0 complete; 1 ran, but something is missing or failed; 2 wrong usage or settings.
"""

from __future__ import annotations

import functools
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from bdc_pipeline import settings

if TYPE_CHECKING:
    from bdc_pipeline.warehouse.ledger import SyncReport

F = TypeVar("F", bound=Callable[..., Any])

LOG = logging.getLogger("bdc_pipeline")

COMPLETE, MISSING, WRONG = 0, 1, 2

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


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


def sync_options(command: F) -> F:
    """The options that every `sync` has."""
    options = [
        click.option(
            "-db",
            "--database",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The database file; by default in BDC_DATA_DIR.",
        ),
        click.option(
            "-w",
            "--workers",
            type=click.IntRange(1, 200),
            show_default="the source's variable, else 10",
            help="Requests at the same time.",
        ),
        click.option(
            "-b",
            "--batch-size",
            type=click.IntRange(1, 10_000),
            default=100,
            show_default=True,
            help="Records to ask for in one request.",
        ),
        click.option(
            "-c",
            "--commit-interval",
            type=click.IntRange(1, 1_000_000),
            default=1000,
            show_default=True,
            help="Rows in one transaction.",
        ),
        click.option("-f", "--force", is_flag=True, help="Fetch everything, not changes alone."),
        click.option(
            "-d",
            "--days",
            type=click.FloatRange(0, 36_500),
            default=7,
            show_default=True,
            help="Fetch in full what was last verified longer ago.",
        ),
        click.option(
            "-l", "--limit", type=click.IntRange(1), help="At most so many records of the main tables, for a try."
        ),
        click.option(
            "--partition", "partitions", multiple=True, metavar="KEY", help="Only this partition; repeatable."
        ),
        click.option(
            "--max-rejects",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="More rejected records than this make the sync incomplete.",
        ),
        click.option(
            "--max-vanish-share",
            type=click.FloatRange(0, 1),
            default=0.2,
            show_default=True,
            help="Share of a partition's rows that may vanish in one go.",
        ),
        click.option("--allow-vanish", is_flag=True, help="Let any share vanish: they are really gone."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object on standard output."),
        click.option("-v", "--verbose", is_flag=True, help="Log more."),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


@sync.command(context_settings=HELP)
@sync_options
@click.option("--from", "first", type=click.IntRange(0), help="Only blocks from the one that holds this id on.")
@click.option("--to", "last", type=click.IntRange(0), help="Only blocks up to the one that holds this id.")
@click.option("--customers-only", is_flag=True, help="Leave the inventory out.")
@click.option("--inventory-only", is_flag=True, help="Leave the customers out.")
def sonar(**options: Any) -> NoReturn:
    """Customers and inventory of a Sonar instance, into bdc_cache.db.

    SONAR_URL and SONAR_TOKEN say which instance. Partitions are blocks of a thousand ids: --partition 2000-2999.
    """
    if options["customers_only"] and options["inventory_only"]:
        raise click.UsageError("--customers-only and --inventory-only leave nothing to sync; give one of them.")
    if options["partitions"] and (options["first"], options["last"]) != (None, None):
        raise click.UsageError("--partition names the blocks; leave --from and --to out, or it.")
    if options["first"] is not None and options["last"] is not None and options["first"] > options["last"]:
        raise click.UsageError(f"--from {options['first']} lies behind --to {options['last']}; no block is in between.")
    database = (options["database"] or settings.database_path("sonar")).expanduser().absolute()
    _stop_on_signals()
    with _told_in_sentences():
        found = settings.sonar()
        log = _start_logging(database.parent, verbose=options["verbose"], secrets=[found.token])
    sys.exit(_sync_sonar(options, database, log))


def _sync_sonar(options: dict[str, Any], database: Path, log: Path) -> int:
    started = time.monotonic()
    from bdc_pipeline.fetching.answers import FetchError  # noqa: PLC0415
    from bdc_pipeline.fetching.pool import Stopped  # noqa: PLC0415
    from bdc_pipeline.progress import shown  # noqa: PLC0415
    from bdc_pipeline.running import Interrupted  # noqa: PLC0415
    from bdc_pipeline.sources.sonar import assets, command  # noqa: PLC0415
    from bdc_pipeline.sources.sonar.tables import BLOCK  # noqa: PLC0415
    from bdc_pipeline.warehouse.ledger import Failure, SyncReport  # noqa: PLC0415
    from bdc_pipeline.warehouse.table import IdBlocks  # noqa: PLC0415

    with _told_in_sentences():
        for key in options["partitions"]:
            try:
                IdBlocks("id", BLOCK).bounds(key)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="--partition") from None
        asked = command.SonarSync(
            database=database,
            resource=assets.SonarResource(workers=options["workers"], page_size=options["batch_size"]),
            config=assets.SonarSyncConfig(force=options["force"], days=options["days"], limit=options["limit"]),
            drain=command.drain_options(options),
            partitions=options["partitions"],
            between=_range(options["first"], options["last"]),
            customers=not options["inventory_only"],
            inventory=not options["customers_only"],
        )
        terminal = sys.stderr.isatty() and not options["as_json"]
        try:
            with shown(terminal=terminal) as on_progress:
                report = command.sync(asked, on_progress, started)
        except command.NoBlocks as nothing:
            raise click.UsageError(str(nothing)) from None
        except Interrupted as interrupted:
            report = interrupted.report
        except (FetchError, Stopped, KeyboardInterrupt) as error:
            report = SyncReport(
                source="sonar",
                complete=False,
                seconds=round(time.monotonic() - started, 3),
                requests=0,
                retries=0,
                tables={},
                failures=[Failure("sonar", str(error) or "interrupted before anything was fetched")],
            )
    limited = f"limited to {options['limit']:,} by --limit" if options["limit"] is not None else ""
    return _tell(report, database, log, limited, as_json=options["as_json"])


def _stop_on_signals() -> None:
    """A service manager's stop is as orderly as Ctrl-C, and Ctrl-C works where a shell in the background ignores it,
    for child processes too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _range(first: int | None, last: int | None) -> tuple[int, int] | None:
    return None if first is None and last is None else (first or 0, sys.maxsize if last is None else last)


def _tell(report: SyncReport, database: Path, log: Path, limited: str, *, as_json: bool) -> int:
    """Prints and logs the report and returns the exit status."""
    import msgspec  # noqa: PLC0415

    from bdc_pipeline.progress import summary  # noqa: PLC0415

    text = summary(report, database, log, limited)
    LOG.debug("%s", text)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        click.echo(text)
    return COMPLETE if report.complete else MISSING


class _told_in_sentences:  # noqa: N801  (a context manager)
    """Ends the command with status 2 and a sentence where settings or the file cannot be used."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        from bdc_pipeline.warehouse.store import StoreError  # noqa: PLC0415

        if isinstance(error, (settings.SettingsError, StoreError)):
            click.echo(f"Error: {error}", err=True)
            sys.exit(WRONG)


def _start_logging(directory: Path, *, verbose: bool, secrets: list[str]) -> Path:
    """Logs to standard error and to a file beside the database, without secrets.

    Raises:
        SettingsError: the file cannot be written.
    """
    from bdc_pipeline.fetching.redaction import RedactingFilter  # noqa: PLC0415

    path = directory / settings.LOG_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise settings.SettingsError(
            f"{path} cannot be written ({error.strerror or error}). Name a directory that you can write to with BDC_DATA_DIR "
            "or --database."
        ) from None
    to_file.setLevel(logging.DEBUG)
    to_console = logging.StreamHandler()
    to_console.setLevel(logging.DEBUG if verbose else logging.INFO)
    for handler in (to_file, to_console):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handler.addFilter(RedactingFilter(secrets))
    LOG.handlers = [to_file, to_console]
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    return path


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
    """Starts a sandbox with generated data on a free loopback port and syncs from it, three times."""
    from bdc_pipeline.demo import run  # noqa: PLC0415

    with _told_in_sentences():
        sys.exit(run(scale, latency_ms))


@main.command(context_settings=HELP)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the web UI.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the UI has no login.")
def ui(port: int, host: str) -> None:
    """Starts Dagster's web UI and daemon; with a sandbox where SONAR_URL is not set."""
    from bdc_pipeline.ui import run  # noqa: PLC0415

    _stop_on_signals()
    with _told_in_sentences():
        sys.exit(run(port, host))
