"""Turns of schedules, with a real instance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from bdc_pipeline.definitions import defs
from bdc_pipeline.running import RANGE_END, RANGE_START

NIGHT = dt.datetime(2026, 3, 10, 4, 30, tzinfo=dt.UTC)


@dataclass
class Tick:
    """What a turn of a schedule came to: the runs asked for, or why there are none."""

    runs: list[dg.RunRequest] = field(default_factory=list)
    skipped: str = ""

    @property
    def run(self) -> dg.RunRequest:
        """The one run."""
        [run] = self.runs
        return run

    @property
    def range(self) -> tuple[str, str]:
        """The partitions of the one run."""
        return self.run.tags[RANGE_START], self.run.tags[RANGE_END]


def schedule_of(name: str) -> dg.ScheduleDefinition:
    """A schedule of the project."""
    return defs.get_repository_def().get_schedule_def(name)


class _Context(dg.ScheduleEvaluationContext):
    """A turn's context with an instance in memory, which has no address that Dagster could open it by."""

    def __init__(self, instance: dg.DagsterInstance, at: dt.datetime) -> None:
        super().__init__(None, at, instance.get_ref() if instance.is_persistent else None)
        self._in_memory = instance

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._in_memory


def tick(name: str, instance: dg.DagsterInstance, at: dt.datetime = NIGHT) -> Tick:
    """One turn, as the daemon makes it."""
    found = schedule_of(name).evaluate_tick(_Context(instance, at))
    return Tick(list(found.run_requests or ()), found.skip_message or "")


def op_config(run: dg.RunRequest, *path: str) -> Mapping[str, Any]:
    """The configuration of an op: below `ops`, graph by graph."""
    found: Any = run.run_config or {}
    for name in path:
        found = found.get("ops", {}).get(name, {})
    config: Mapping[str, Any] = found.get("config", {})
    return config


def assert_fits(run: dg.RunRequest) -> None:
    """The job takes the run's configuration."""
    assert run.job_name
    job = defs.get_repository_def().get_job(run.job_name)
    assert dg.validate_run_config(job, dict(run.run_config or {}))
