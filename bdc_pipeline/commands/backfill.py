"""`bdc-pipeline backfill`."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP
from bdc_pipeline.commands.outcome import COMPLETE, told_in_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bdc_pipeline.operations.backfill import Asked, Backfill, Group


@click.command("backfill", context_settings=HELP)
@click.argument("source", type=click.Choice(list(settings.DATABASE_FILES)))
@click.option("--partition", "partitions", multiple=True, metavar="KEY", help="This partition; repeatable.")
@click.option("--from", "first", metavar="KEY", help="Partitions from this one on.")
@click.option("--to", "last", metavar="KEY", help="Partitions up to this one.")
@click.option("--all", "everything", is_flag=True, help="All partitions.")
@click.option("--missing", is_flag=True, help="Of these, or of all, only those that failed or were never materialized.")
@click.option(
    "--only",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Only these tables: customers or inventory; pipelines, jobs, logs, tests or archives. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was launched as one JSON object on standard output.")
def backfill(**options: Any) -> NoReturn:
    """Hands partitions to Dagster's daemon to be fetched, neighbours as one run.

    The daemon of DAGSTER_HOME carries it out, or that of 'bdc-pipeline ui'; the UI shows it, stops it and repeats what
    failed. Partitions are blocks of ids, days, codes of municipalities, registries. 'bdc-pipeline sync SOURCE' fetches the
    same here and now.
    """
    ranged = (options["first"], options["last"]) != (None, None)
    if options["partitions"] and (ranged or options["everything"]):
        raise click.UsageError("--partition names the partitions; leave --from, --to and --all out, or it.")
    if options["everything"] and ranged:
        raise click.UsageError("--all is every partition; leave --from and --to out, or it.")
    if not (options["partitions"] or ranged or options["everything"] or options["missing"]):
        raise click.UsageError("Say which partitions: --partition KEY, --from KEY and --to KEY, --missing, or --all.")
    with told_in_sentences():
        sys.exit(_hand_over(options))


def _hand_over(options: dict[str, Any]) -> int:
    home = home_of_the_ui()
    from bdc_pipeline.definitions import AUTOMATIONS  # noqa: PLC0415
    from bdc_pipeline.operations.backfill import Asked, hand_over, is_carried_out  # noqa: PLC0415
    from bdc_pipeline.running import dagster_instance  # noqa: PLC0415

    groups = _groups(AUTOMATIONS[options["source"]].GROUPS, options["groups"])
    asked = Asked(options["partitions"], options["first"], options["last"], options["missing"])
    with dagster_instance(home) as instance:
        found = hand_over(instance, groups, asked)
        carried_out = is_carried_out(instance, dt.datetime.now(dt.UTC))
    _tell(found, asked, as_json=options["as_json"])
    if found is not None and not carried_out:
        click.echo(
            f"No daemon is running on {home}: it begins when one does, such as that of 'bdc-pipeline ui'.", err=True
        )
    return COMPLETE


def home_of_the_ui() -> Path:
    """The directory of the instance whose daemon is to do it: DAGSTER_HOME, or that of `bdc-pipeline ui`.

    Raises:
        SettingsError: there is none.
    """
    own = settings.data_dir() / ".dagster"
    found = settings.dagster_home() or (own if own.is_dir() else None)
    if found is None:
        raise settings.SettingsError(
            f"DAGSTER_HOME is not set, and {own} does not exist. Start 'bdc-pipeline ui', or set DAGSTER_HOME to the "
            "directory of a Dagster instance. 'bdc-pipeline sync' needs neither."
        )
    return found


def _groups(known: Sequence[Group], named: Sequence[str]) -> list[Group]:
    """The groups that are backfilled.

    Raises:
        SettingsError: there is no such group.
    """
    names = [group.name for group in known]
    if unknown := [name for name in named if name not in names]:
        raise settings.SettingsError(f"There is no group '{unknown[0]}'. There are {', '.join(names)}.")
    return [group for group in known if not named or group.name in named]


def _tell(found: Backfill | None, asked: Asked, *, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {"backfill": None, "partitions": {}, "runs": 0}
        if found is not None:
            told = {"backfill": found.backfill_id, "partitions": dict(found.partitions), "runs": found.runs}
        click.echo(json.dumps(told))
    elif found is None:
        click.echo("Nothing to do: " + ("none of them is missing." if asked.missing else "no partition was named."))
    else:
        counts = ", ".join(f"{len(keys)} of {name}" for name, keys in found.partitions.items())
        click.echo(f"Backfill {found.backfill_id}: {counts}, in ranges of neighbours {found.runs}.")
