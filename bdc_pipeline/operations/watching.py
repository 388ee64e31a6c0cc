"""A sensor that looks at the files and tells the checks `complete` and `current` when they come out otherwise than before.

A check runs with the run that fills its table. But a copy grows stale while nothing runs, and a run that fails ends before its
checks: then this tells. It starts no run and asks no service, so it is on from the start.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import dagster as dg

from bdc_pipeline.operations import verdicts
from bdc_pipeline.operations.checks import COMPLETE, CURRENT, Limits, metadata_of, severity_of
from bdc_pipeline.operations.facts import Watched
from bdc_pipeline.operations.standing import BETWEEN_STAGES, Standing, opened, read_ledger, standings
from bdc_pipeline.operations.verdicts import Verdict
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager
from bdc_pipeline.warehouse.store import StoreError

SECONDS = 60
"""How often it looks: a window lasts a minute at least."""

Found = dict[str, str]
"""By asset and check, what came out: a short text that changes when it is worth telling."""


def brief(standing: Standing, name: str, verdict: Verdict) -> str:
    """What is worth telling again when it changes: which partitions, not how old they are by now."""
    if verdict.passed:
        return "passed"
    keys = standing.those("stale" if name == CURRENT else "incomplete")
    whole = standing.problems if name == COMPLETE else ()
    return "failed " + " ".join((*whole, *sorted(partition.key for partition in keys)))


def to_tell(found: Mapping[str, str], told: Mapping[str, str]) -> list[str]:
    """Those that came out otherwise than what was told. Nothing is told of what passes and was never told."""
    return [name for name, what in found.items() if told.get(name, "passed") != what]


def looked_at(
    watched: Watched, files: SQLiteIOManager, limits: Limits, now: dt.datetime
) -> Iterator[tuple[Standing, str, Verdict]]:
    """The verdicts on the tables that were ever fetched.

    Raises:
        StoreError: the file cannot be read.
    """
    path = files.path(watched.source)
    if not path.is_file():
        return
    with closing(opened(path)) as connection:
        ledger = read_ledger(connection)
        for standing in standings(connection, watched, limits.windows, now, patience=BETWEEN_STAGES):
            if standing.state != "never":
                yield standing, COMPLETE, verdicts.complete(watched, standing, ledger.noted.get(standing.table, {}))
                yield standing, CURRENT, verdicts.current(standing, limits.windows.problems)


def watch_copies(watched: Sequence[Watched], limits: Limits) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name="watch_copies",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at the files, and tells the checks which partitions are stale or incomplete. Asks no service.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager]
    ) -> dg.SensorResult | dg.SkipReason:
        told: Found = json.loads(context.cursor) if context.cursor else {}
        found, events, problems = dict(told), dict[str, dg.AssetCheckEvaluation](), list[str]()
        for one in watched:
            try:
                for standing, name, verdict in looked_at(one, sqlite_io_manager, limits, dt.datetime.now(dt.UTC)):
                    asset = f"{standing.source}/{standing.table}"
                    found[f"{asset} {name}"] = brief(standing, name, verdict)
                    events[f"{asset} {name}"] = _evaluation(standing, name, verdict)
            except StoreError as error:
                # a file that cannot be read says nothing about what was told of it
                problems.append(str(error))
                context.log.warning(str(error))
        changed = to_tell(found, told)
        if not changed:
            return dg.SkipReason("; ".join(problems) or "All is as it was told last.")
        return dg.SensorResult(asset_events=[events[name] for name in changed], cursor=json.dumps(found))

    return sensor


def _evaluation(standing: Standing, name: str, verdict: Verdict) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([standing.source, standing.table]),
        check_name=name,
        passed=verdict.passed,
        severity=severity_of(verdict),
        description=verdict.says,
        metadata=metadata_of(verdict),
    )
