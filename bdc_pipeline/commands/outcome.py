"""How a command runs and ends: its log, its progress, its report, its exit status.

Exit status: 0 complete; 1 ran, but something is missing or failed, or the disk is full; 2 wrong usage or settings; 130 where
Ctrl-C comes once more while the process is ending.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bdc_pipeline import settings

if TYPE_CHECKING:
    from bdc_pipeline.progress import OnProgress
    from bdc_pipeline.warehouse.ledger import SyncReport

LOG = logging.getLogger("bdc_pipeline")

COMPLETE, MISSING, WRONG = 0, 1, 2

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where a disk takes no file more."""


def database_of(source: str, given: Path | None) -> Path:
    """The file that a command is about: the one that was named, else the source's in the data directory.

    Raises:
        click.UsageError: the file that was named holds the copy of another source.
    """
    path = (given or settings.database_path(source)).expanduser().absolute()
    others = sources_in(path) - {source} if given is not None else set()
    if others and source not in sources_in(path):
        raise click.UsageError(
            f"{path} holds the copy of {' and '.join(sorted(others))}, not of {source}. Name another file with --database, or "
            f"leave it out: {source}'s is {settings.database_path(source)}."
        )
    return path


def sources_in(path: Path) -> set[str]:
    """The sources whose syncs have written a file; none where it is missing, or no copy of ours."""
    if not path.is_file():
        return set()
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(path)) as connection:
        return {str(source) for (source,) in connection.execute("SELECT DISTINCT source FROM _runs")}
    return set()


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def run_sync(
    source: str,
    sync: Callable[[OnProgress, float], SyncReport],
    *,
    database: Path,
    options: dict[str, Any],
    secrets: Sequence[str] = (),
) -> NoReturn:
    """Runs a sync with its log and progress, prints its report, and ends the command.

    Args:
        source: its name in reports.
        sync: called with what to tell progress to, and `time.monotonic()` at the beginning.
        database: the file that it writes.
        options: the command's.
        secrets: kept out of the log.
    """
    started = time.monotonic()
    stop_on_signals()
    with told_in_sentences():
        log = start_logging(database.parent, verbose=options["verbose"], secrets=secrets)
    from bdc_pipeline.fetching.answers import FetchError  # noqa: PLC0415
    from bdc_pipeline.fetching.stopping import Stopped  # noqa: PLC0415
    from bdc_pipeline.progress import shown  # noqa: PLC0415
    from bdc_pipeline.running import Interrupted  # noqa: PLC0415
    from bdc_pipeline.warehouse.store import DiskFull  # noqa: PLC0415

    with told_in_sentences():
        terminal = sys.stderr.isatty() and not options["as_json"]
        try:
            with shown(terminal=terminal) as on_progress:
                report = sync(on_progress, started)
        except Interrupted as interrupted:
            report = interrupted.report
        except (FetchError, Stopped, DiskFull, KeyboardInterrupt) as error:
            report = _nothing_done(source, str(error) or "interrupted before anything was fetched", started)
    limit = options.get("limit")
    limited = f"limited to {limit:,} by --limit" if limit is not None else ""
    sys.exit(_tell(report, database, log, limited, as_json=options["as_json"]))


def _nothing_done(source: str, error: str, started: float) -> SyncReport:
    from bdc_pipeline.warehouse.ledger import Failure, SyncReport  # noqa: PLC0415

    return SyncReport(
        source=source,
        complete=False,
        seconds=round(time.monotonic() - started, 3),
        requests=0,
        retries=0,
        tables={},
        failures=[Failure(source, error)],
    )


def _tell(report: SyncReport, database: Path, log: Path, limited: str, *, as_json: bool) -> int:
    """Prints and logs the report and returns the exit status."""
    from bdc_pipeline.progress import summary  # noqa: PLC0415

    text = summary(report, database, log, limited)
    LOG.debug("%s", text)
    if as_json:
        click.echo(_as_json(report, database))
    else:
        click.echo(text)
    return COMPLETE if report.complete else MISSING


def _as_json(report: SyncReport, database: Path) -> str:
    """The report as one object, with all that its text tells: the file, and what it holds now of each table."""
    import msgspec  # noqa: PLC0415

    from bdc_pipeline.progress import stored_counts  # noqa: PLC0415

    told, stored = msgspec.to_builtins(report), stored_counts(database)
    for name, counts in told["tables"].items():
        counts["stored"] = stored.get(name)
    return msgspec.json.encode({**told, "database": str(database)}).decode()


def stop_on_signals() -> None:
    """A service manager's stop is as orderly as Ctrl-C, and Ctrl-C works where a shell in the background ignores it,
    for child processes too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


class told_in_sentences:  # noqa: N801  (a context manager)
    """Ends the command with status 2 and a sentence where settings or the file cannot be used; 1 where the disk is full."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        from bdc_pipeline.warehouse.store import DiskFull, StoreError  # noqa: PLC0415

        if isinstance(error, (settings.SettingsError, StoreError)):
            click.echo(f"Error: {error}", err=True)
            sys.exit(MISSING if isinstance(error, DiskFull) else WRONG)


class _LogFile(logging.FileHandler):
    """A log that loses lines where the disk is full, without a traceback for each: what is amiss is told by the command."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        # a line that could not be written is still in the buffer, and closing tries again
        with contextlib.suppress(OSError):
            super().close()


def start_logging(directory: Path, *, verbose: bool, secrets: Sequence[str]) -> Path:
    """Logs to standard error and to a file beside the database, without secrets.

    Raises:
        SettingsError: the file cannot be written.
    """
    from bdc_pipeline.fetching.redaction import RedactingFilter  # noqa: PLC0415

    path = directory / settings.LOG_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        to_file: logging.Handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        if error.errno not in FULL:
            raise settings.SettingsError(
                f"{path} cannot be written ({error.strerror or error}). Name a directory that you can write to with "
                "BDC_DATA_DIR or --database."
            ) from None
        # what is done is told all the same, and that it could not be stored, if it cannot
        to_file = logging.NullHandler()
    to_file.setLevel(logging.DEBUG)
    to_console = logging.StreamHandler()
    to_console.setLevel(logging.DEBUG if verbose else logging.INFO)
    for handler in (to_file, to_console):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handler.addFilter(RedactingFilter(secrets))
    former, LOG.handlers = LOG.handlers, [to_file, to_console]
    for one in former:
        one.close()
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    return path
