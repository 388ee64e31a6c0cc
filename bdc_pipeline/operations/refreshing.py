"""Schedules that keep a source's copy current: they launch a job over its partitions, a whole range as one run, unless that
is under way already.

What is of one source (when, which partitions, with which configuration) is said in its `automation.py`.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.operations.inflight import in_flight
from bdc_pipeline.running import RANGE_END, RANGE_START

Range = tuple[str, str]
"""The first and the last partition of a run."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Assets that a job brings up to date.

    Args:
        job: its name.
        assets: their definitions, of the same partitions or of none.
        description: of the job.
        more: assets of other partitions or none that follow them in the same run.
    """

    job: str
    assets: Sequence[dg.AssetsDefinition]
    description: str
    more: Sequence[dg.AssetsDefinition] = ()

    @property
    def keys(self) -> set[dg.AssetKey]:
        """The assets' keys."""
        return {key for definition in (*self.assets, *self.more) for key in definition.keys}

    def as_job(self) -> Any:
        """The job that Dagster loads."""
        selection = dg.AssetSelection.assets(*self.assets, *self.more)
        return dg.define_asset_job(self.job, selection=selection, description=self.description)

    def under_way(self, instance: dg.DagsterInstance, now: dt.datetime) -> str | None:
        """What is under way over these assets, in words."""
        return in_flight(instance, (self.job,), self.keys, now)

    def request(self, ran: Range | None, config: Mapping[str, Any] | None = None, run_key: str | None = None) -> Any:
        """A request of one run over a range of partitions, or over assets without."""
        tags = {} if ran is None else {RANGE_START: ran[0], RANGE_END: ran[1]}
        return dg.RunRequest(run_key=run_key, job_name=self.job, tags=tags, run_config=dict(config or {}))


@dataclass(frozen=True, slots=True)
class Turn:
    """One tick of a schedule: the instance, and when it was due (UTC)."""

    instance: dg.DagsterInstance
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Launch:
    """A run that a schedule asks for; `range` is None for assets without partitions."""

    range: Range | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def whole_range(definition: dg.PartitionsDefinition[str], instance: dg.DagsterInstance) -> Range | None:
    """The first and the last of all partitions; None where there are none."""
    keys = definition.get_partition_keys(dynamic_partitions_store=instance)
    return (keys[0], keys[-1]) if keys else None


def schedule(
    name: str,
    refresh: Refresh,
    cron: str,
    launches: Callable[[Turn], Sequence[Launch] | str],
    *,
    description: str,
    timezone: str = "UTC",
) -> dg.ScheduleDefinition:
    """A schedule that is off until switched on, since it asks a real service.

    Args:
        name: of the schedule.
        refresh: what it launches.
        cron: when.
        launches: the runs of a turn, or why there are none.
        description: what it does, for the UI.
        timezone: of the cron expression.
    """

    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[Any]:
        at = context.scheduled_execution_time.astimezone(dt.UTC)
        if busy := refresh.under_way(context.instance, dt.datetime.now(dt.UTC)):
            yield dg.SkipReason(f"Nothing is launched twice: {busy}.")
            return
        asked = launches(Turn(context.instance, at))
        if isinstance(asked, str):
            yield dg.SkipReason(asked)
            return
        for number, launch in enumerate(asked):
            # the key keeps a tick that is tried again after a crash from launching its runs again
            yield refresh.request(launch.range, launch.config, f"{name} {at:%Y-%m-%dT%H:%M} {number}")

    return dg.ScheduleDefinition(
        name=name,
        job_name=refresh.job,
        cron_schedule=cron,
        execution_fn=evaluate,
        execution_timezone=timezone,
        default_status=schedule_status(),
        description=description,
    )


def schedule_status() -> dg.DefaultScheduleStatus:
    """Whether a schedule that asks a real service is on from the start."""
    return dg.DefaultScheduleStatus.RUNNING if settings.automation_is_on() else dg.DefaultScheduleStatus.STOPPED


def sensor_status() -> dg.DefaultSensorStatus:
    """Whether a sensor that asks a real service is on from the start."""
    return dg.DefaultSensorStatus.RUNNING if settings.automation_is_on() else dg.DefaultSensorStatus.STOPPED
