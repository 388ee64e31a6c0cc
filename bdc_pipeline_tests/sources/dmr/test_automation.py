"""What keeps the copy of the DMR registries current by itself."""

import datetime as dt
import itertools
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._utils.schedules import cron_string_iterator

from bdc_pipeline import settings
from bdc_pipeline.definitions import build_defs
from bdc_pipeline.settings import SettingsError
from bdc_pipeline.sources.dmr.automation import PROFILES, chosen_profile
from bdc_pipeline.sources.dmr.checks import FRESH_WITHIN
from bdc_pipeline.sources.dmr.modes import CHOICES
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES
from bdc_pipeline_tests.operations.ticks import assert_fits, op_config, tick
from bdc_pipeline_tests.sources.dmr.syncing import Copy

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def pauses(cron: str) -> list[dt.timedelta]:
    """The times between turns, of a day."""
    start = dt.datetime(2026, 3, 10, tzinfo=dt.UTC).timestamp()
    turns = list(itertools.islice(cron_string_iterator(start, cron, "UTC"), 80))
    return [later - sooner for sooner, later in itertools.pairwise(turns)]


each = pytest.mark.parametrize("name", settings.DMR_PROFILES)


def test_every_profile_has_its_settings_and_its_window() -> None:
    assert tuple(PROFILES) == settings.DMR_PROFILES == tuple(FRESH_WITHIN)


@each
def test_no_profile_leaves_less_time_between_two_turns_than_the_longest_floor(name: str) -> None:
    floor = max(feed.floor for feed in FEEDS)
    assert floor == 15 * MINUTE
    # a run may begin some minutes late, and the next on time
    assert min(pauses(PROFILES[name].cron)) >= floor + 5 * MINUTE


@each
def test_what_a_profile_asks_for_anew_is_due_at_each_of_its_turns(name: str) -> None:
    profile = PROFILES[name]
    if profile.max_age is not None:
        assert profile.max_age + 5 * MINUTE <= min(pauses(profile.cron))
        assert profile.max_age >= max(feed.floor for feed in FEEDS)


@each
def test_a_copy_is_fresh_for_longer_than_a_profile_pauses(name: str) -> None:
    assert FRESH_WITHIN[name] >= max(pauses(PROFILES[name].cron)) + 30 * MINUTE


@pytest.mark.parametrize(
    ("name", "workers", "warm", "load"),
    [
        ("realtime", 4, {"max_age_minutes": 15}, {"mode": "auto"}),
        ("high_performance", 4, {"max_age_minutes": 45}, {"mode": "parallel"}),
        ("standard", 2, {}, {"mode": "auto"}),
        ("constrained", 1, {}, {"mode": "streaming", "chunk": 500}),
    ],
)
def test_a_profile_is_one_run_over_all_registries_with_its_configuration(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    workers: int,
    warm: dict[str, float],
    load: dict[str, object],
) -> None:
    monkeypatch.setenv("DMR_PROFILE", name)
    found = tick("dmr_refresh", instance)
    assert found.range == (REGISTRIES[0], REGISTRIES[-1])
    assert op_config(found.run, "dmr__downloads") == warm
    assert op_config(found.run, "dmr_tables", "plan_registries") == load
    assert (found.run.run_config or {})["resources"] == {"dmr": {"config": {"workers": workers}}}
    assert load["mode"] in CHOICES
    assert_fits(found.run)
    assert chosen_profile() == PROFILES[name]


def test_a_profile_that_there_is_not_is_told_at_the_turn_and_loads(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMR_PROFILE", "fast")
    assert chosen_profile() == PROFILES["standard"]
    dg.Definitions.validate_loadable(build_defs())
    told = "DMR_PROFILE is 'fast'. Set it to one of realtime, high_performance, standard, constrained."
    with pytest.raises(SettingsError, match=told):
        tick("dmr_refresh", instance)


def test_a_turn_warms_loads_and_counts_and_the_next_asks_nobody(
    copy: Copy, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMR_PROFILE", "constrained")
    request = tick("dmr_refresh", instance).run
    job = build_defs().resolve_job_def("refresh_dmr")
    for _ in range(2):
        done = job.execute_in_process(
            run_config=dict(request.run_config or {}), tags=dict(request.tags), instance=instance, raise_on_error=False
        )
        assert done.success
    assert instance.get_materialized_partitions(dg.AssetKey(["dmr", "downloads"])) == set(REGISTRIES)
    assert instance.get_materialized_partitions(dg.AssetKey(["dmr", "repeaters"])) == set(REGISTRIES)
    assert instance.get_latest_materialization_event(dg.AssetKey(["dmr", "same_sites"])) is not None
    # one for each document: the second turn came too soon for all of them
    assert copy.asked() == len(FEEDS)
