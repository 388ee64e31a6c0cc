"""`bdc-pipeline status`."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP
from bdc_pipeline.commands.outcome import COMPLETE, MISSING, database_of, told_in_sentences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bdc_pipeline.operations.facts import Watched
    from bdc_pipeline.operations.status import Upcoming


@click.command("status", context_settings=HELP)
@click.argument("source", required=False, type=click.Choice(list(settings.DATABASE_FILES)))
@click.option(
    "-db",
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The database file of SOURCE; by default in BDC_DATA_DIR.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the picture as one JSON object on standard output.")
def status(source: str | None, database: Path | None, *, as_json: bool) -> NoReturn:
    """Tells what is fresh, stale or incomplete, when it last ran and when it runs next.

    SOURCE is one of sonar, gitlab, properties, dmr; all where none is given. The files themselves are asked; what runs next is
    known where Dagster records runs. Exit status 1: something is stale or incomplete, or SOURCE was never fetched.
    """
    if database is not None and source is None:
        raise click.UsageError(
            "--database is the file of one source; name it: bdc-pipeline status SOURCE --database PATH."
        )
    if database is not None and source is not None:
        database = database_of(source, database)
    with told_in_sentences():
        sys.exit(_tell(source, database, as_json=as_json))


def _tell(source: str | None, database: Path | None, *, as_json: bool) -> int:
    import msgspec  # noqa: PLC0415

    from bdc_pipeline.operations.status import status_of, told  # noqa: PLC0415
    from bdc_pipeline.operations.windows import current, slow_after  # noqa: PLC0415

    watched, now = _watched(), dt.datetime.now(dt.UTC)
    windows, (_, slow_problems) = current(watched), slow_after(watched)
    found = status_of(
        [one for one in watched if source in (None, one.source)],
        lambda name: (database or settings.database_path(name)).expanduser().absolute(),
        windows,
        now,
        upcoming=_upcoming(now),
        named=source,
        problems=[problem.says for problem in (*windows.problems, *slow_problems)],
    )
    click.echo(msgspec.json.encode(found).decode() if as_json else told(found, now))
    return COMPLETE if found.fresh else MISSING


def _watched() -> tuple[Watched, ...]:
    from bdc_pipeline.sources.dmr.checks import WATCHED as DMR  # noqa: PLC0415
    from bdc_pipeline.sources.gitlab.checks import WATCHED as GITLAB  # noqa: PLC0415
    from bdc_pipeline.sources.properties.checks import WATCHED as PROPERTIES  # noqa: PLC0415
    from bdc_pipeline.sources.sonar.checks import WATCHED as SONAR  # noqa: PLC0415

    return (SONAR, GITLAB, PROPERTIES, DMR)


def _upcoming(now: dt.datetime) -> Mapping[str, Upcoming]:
    """What runs next; nothing where Dagster was never used, since then nothing runs by itself."""
    home = settings.dagster_home() or settings.data_dir() / ".dagster"
    # what only looks makes no directory, and imports Dagster only where there is something to ask it
    if not (home / "dagster.yaml").is_file():
        return {}
    from bdc_pipeline.definitions import defs  # noqa: PLC0415
    from bdc_pipeline.operations.upcoming import next_runs  # noqa: PLC0415
    from bdc_pipeline.running import dagster_instance  # noqa: PLC0415

    with dagster_instance(home) as instance:
        return next_runs(defs, instance, now)
