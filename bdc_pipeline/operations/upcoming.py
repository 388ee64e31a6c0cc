"""What runs next by itself, as Dagster's instance has it: schedules that are on, with their times; sensors that are on."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator  # has no public name

from bdc_pipeline.operations.status import Upcoming


def next_runs(definitions: dg.Definitions, instance: dg.DagsterInstance, now: dt.datetime) -> dict[str, Upcoming]:
    """What comes next to each asset (`sonar/customers`) that anything comes to: the earliest schedule, else a sensor."""
    switched, repository = _switched(instance), definitions.get_repository_def()
    found = dict[str, Upcoming]()
    for schedule in repository.schedule_defs:
        if not switched.get(schedule.name, schedule.default_status is dg.DefaultScheduleStatus.RUNNING):
            continue
        upcoming = Upcoming(schedule.name, next_time(schedule.cron_schedule, schedule.execution_timezone, now))
        for asset in _assets_of(repository, schedule.job_name):
            known = found.get(asset)
            if known is None or known.at is None or (upcoming.at and upcoming.at < known.at):
                found[asset] = upcoming
    for sensor in repository.sensor_defs:
        if switched.get(sensor.name, sensor.default_status is dg.DefaultSensorStatus.RUNNING):
            for target in sensor.targets:
                for asset in _assets_of(repository, target.job_name):
                    found.setdefault(asset, Upcoming(sensor.name))
    return found


def _switched(instance: dg.DagsterInstance) -> Mapping[str, bool]:
    """Whether schedules and sensors are on, by name, as far as the instance knows them."""
    return {state.instigator_name: state.is_running for state in instance.all_instigator_state()}


def _assets_of(repository: Any, job: str) -> Iterator[str]:
    """The assets that a job materializes."""
    for key in repository.get_job(job).asset_layer.selected_asset_keys:
        yield key.to_user_string()


def next_time(cron: str | Sequence[str], timezone: str | None, now: dt.datetime) -> dt.datetime:
    """When a schedule is due next (UTC)."""
    times = schedule_execution_time_iterator(now.timestamp(), cron, timezone or "UTC")
    return next(moment for moment in times if moment > now).astimezone(dt.UTC)
