"""`bdc-pipeline sync gitlab`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP, Number, sync_options
from bdc_pipeline.commands.outcome import LOG, database_of, run_sync, told_in_sentences

if TYPE_CHECKING:
    from bdc_pipeline.progress import OnProgress
    from bdc_pipeline.warehouse.ledger import SyncReport

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command("gitlab", context_settings=HELP)
@sync_options(
    workers="GITLAB_WORKERS",
    batch_size=None,
    batch_help="Rows to ask for in one request; GitLab gives 100 at most, which are always asked for.",
    days_help="List in full a day of the range whose last full listing is longer ago.",
    limit_help="At most so many new or changed pipelines, for a try.",
    force_help="Fetch everything of the days again, logs, tests and archives too.",
    partition_help="Only pipelines that changed on this day (UTC), such as 2026-05-31; repeatable.",
)
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="GROUP/NAME",
    help="Only this project, by path or id; repeatable. GITLAB_PROJECTS, or all of the token's, where not given.",
)
@click.option("--from", "first", type=_DAY, help="Pipelines that changed on this day or later.")
@click.option("--to", "last", type=_DAY, help="Pipelines that changed on this day or before.")
@click.option("--no-logs", is_flag=True, help="Leave logs out; a sync without this fetches them.")
@click.option("--no-tests", is_flag=True, help="Leave test reports out.")
@click.option("--no-artifacts", is_flag=True, help="Leave the listings of archives out.")
@click.option(
    "--no-graphql", is_flag=True, help="Ask each project's list for changes, not GraphQL for a hundred at once."
)
@click.option(
    "--sweep",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Requests to spend on days outside the range that were last listed longer than --days ago, to find deleted pipelines.",
)
@click.option(
    "--artifact-bytes",
    type=click.Path(file_okay=False, path_type=Path),
    help="Download archives into this directory, as PROJECT/PIPELINE/JOB.zip; they are not unpacked.",
)
@click.option(
    "--max-artifact-mb",
    type=Number(0, 1_000_000, min_open=True),
    default=200,
    show_default=True,
    help="Larger archives are not downloaded.",
)
@click.option(
    "--max-log-mb",
    type=Number(0, 1_000_000, min_open=True),
    default=100,
    show_default=True,
    help="Larger logs are left out and marked; GitLab itself cuts logs at 100 MB.",
)
def sync_gitlab(**options: Any) -> NoReturn:
    """Pipelines, jobs, logs, tests and artifacts of GitLab projects, into gitlab.db.

    GITLAB_URL and GITLAB_TOKEN say which instance. Partitions are days on which pipelines last changed. Without a range a sync
    goes on from the last one, the first one 30 days back.
    """
    first, last = (given.date() if given else None for given in (options["first"], options["last"]))
    _check(options, first, last)
    database = database_of("gitlab", options["database"])
    with told_in_sentences():
        found = settings.gitlab()
        for name in options["projects"]:
            settings.check_project("--project", name)

    def sync(on_progress: OnProgress, started: float) -> SyncReport:
        return _sync(options, first, last, database, on_progress, started)

    run_sync("gitlab", sync, database=database, options=options, secrets=[found.token])


def _check(options: dict[str, Any], first: dt.date | None, last: dt.date | None) -> None:
    today = dt.datetime.now(dt.UTC).date()
    if options["partitions"] and (first or last):
        raise click.UsageError("--partition names the days; leave --from and --to out, or it.")
    if first and last and first > last:
        raise click.UsageError(f"--from {first} lies behind --to {last}; no day is in between.")
    if first and first > today:
        raise click.UsageError(f"--from {first} has not come yet; today is {today} (UTC).")
    earliest = dt.date(2020, 1, 1)
    for name, day in (("--from", first), ("--to", last)):
        if day and day < earliest:
            raise click.UsageError(f"{name} {day} lies before the first partition, {earliest}.")
    if options["artifact_bytes"] and options["no_artifacts"]:
        raise click.UsageError("--artifact-bytes and --no-artifacts contradict each other; give one of them.")
    for key in options["partitions"]:
        try:
            day = dt.date.fromisoformat(key)
        except ValueError:
            day = None
        if day is None or str(day) != key or not earliest <= day <= today:
            raise click.BadParameter(
                f"'{key}' is no day from {earliest} to {today}; write it like {today}.", param_hint="--partition"
            )


def _sync(
    options: dict[str, Any],
    first: dt.date | None,
    last: dt.date | None,
    database: Path,
    on_progress: OnProgress,
    started: float,
) -> SyncReport:
    from bdc_pipeline.sources.assembly import drain_options  # noqa: PLC0415
    from bdc_pipeline.sources.gitlab import assets, command  # noqa: PLC0415

    if options["batch_size"] not in {None, 100}:
        LOG.info("--batch-size %s: lists are asked for by 100 rows, the most that GitLab gives", options["batch_size"])
    today = dt.datetime.now(dt.UTC).date()
    if last and last > today:
        LOG.info("--to %s has not come yet: up to today, %s (UTC)", last, today)
    directory = options["artifact_bytes"]
    asked = command.GitLabSync(
        database=database,
        resource=assets.GitLabResource(
            workers=options["workers"],
            graphql=not options["no_graphql"],
            max_log_mb=options["max_log_mb"],
            max_artifact_mb=options["max_artifact_mb"],
            artifact_directory=str(directory.absolute()) if directory else "",
        ),
        config=assets.GitLabSyncConfig(
            projects=[name.strip("/") for name in options["projects"]],
            force=options["force"],
            days=options["days"],
            limit=options["limit"],
            sweep=options["sweep"],
        ),
        drain=drain_options(options),
        partitions=options["partitions"],
        first=first,
        last=last,
        logs=not options["no_logs"],
        tests=not options["no_tests"],
        artifacts=not options["no_artifacts"],
    )
    return command.sync(asked, on_progress, started)
