"""Publishing the project's databases by Dagster: assets, sensor, jobs and checks, in real runs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline import settings
from bdc_pipeline.share import assets
from bdc_pipeline.share.service import Service
from bdc_pipeline.share.status import Light, Status
from bdc_pipeline.sources.properties.tables import SCHEMA
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline_tests.share.users import Team

KEY = dg.AssetKey(["share", "properties"])


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """A source's file with some rows, and a share to publish it to."""
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    team = Team(tmp_path)
    team.share = team.place / "properties.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BDC_SHARE", str(team.place))
    monkeypatch.setenv("BDC_SHARE_CACHE_DIR", str(tmp_path / "caches"))
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    Store(settings.database_path("properties"), SCHEMA).close()
    write("INSERT INTO zips (zip_code, name, last_updated) VALUES (1000, 'København K', 'x'), (8000, 'Aarhus C', 'x')")
    write(
        "INSERT INTO _rejects VALUES ('zips', '', 'key', 'reason', 'SYNTHETIC-REJECT', 'x', 'run', NULL)", may_fail=True
    )
    return team


def write(sql: str, *, may_fail: bool = False) -> None:
    """What the warehouse does to the source's file."""
    connection = sqlite3.connect(settings.database_path("properties"))
    with contextlib.closing(connection), contextlib.suppress(*([sqlite3.Error] if may_fail else [])), connection:
        connection.execute(sql)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def loaded() -> dg.Definitions:
    return assets.definitions([SCHEMA])


def publish(instance: dg.DagsterInstance, *, succeeds: bool = True) -> dg.ExecuteInProcessResult:
    job = loaded().resolve_job_def("publish_to_share")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success is succeeds
    return result


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node("share__properties")
    return {name: value.value for name, value in event.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = result.filter_events(lambda event: event.is_step_failure)
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def execute(name: str, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    job = loaded().resolve_job_def(name)
    [op] = job.graph.node_dict
    return job.execute_in_process(instance=instance, run_config={"ops": {op: {"config": config}}}, raise_on_error=False)


def zips(team: Team) -> list[tuple[Any, ...]]:
    return team.plain("SELECT zip_code, name FROM zips ORDER BY zip_code")


# -- assets ----------------------------------------------------------------------------------------------------


def test_without_bdc_share_there_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BDC_SHARE", raising=False)
    assert not assets.definitions([SCHEMA]).assets


def test_a_source_is_published_and_after_that_only_what_differs(team: Team, instance: dg.DagsterInstance) -> None:
    first = metadata(publish(instance))
    with Service(assets.config_of("properties")) as service:
        service.sync()
    assert zips(team) == [(1000, "København K"), (8000, "Aarhus C")]
    assert first["rows_changed"] >= 2
    assert first["rows_sent"] == first["rows_changed"]
    assert (first["status"], first["pending_writes"]) == ("success", 0)
    write("UPDATE zips SET name = 'Århus C' WHERE zip_code = 8000")
    write("DELETE FROM zips WHERE zip_code = 1000")
    second = metadata(publish(instance))
    assert (second["rows_changed"], second["rows_sent"]) == (2, 2)
    assert 0 < second["bytes_sent"] < 3000
    assert metadata(publish(instance))["rows_changed"] == 0
    with Service(assets.config_of("properties")) as service:
        service.sync()
    assert zips(team) == [(8000, "Århus C")]
    # what was rejected may be private; it stays here
    assert "_rejects" not in {name for (name,) in team.plain("SELECT name FROM sqlite_master")}
    names = {name for (name,) in team.plain("SELECT name FROM sqlite_master WHERE type = 'view'")}
    assert "homes_for_sale" in names


def test_the_source_stands_above_what_somebody_changes_on_the_share(team: Team, instance: dg.DagsterInstance) -> None:
    publish(instance)
    with Service(assets.config_of("properties")) as service:
        service.sync()
    team.plain("UPDATE zips SET name = 'somewhere' WHERE zip_code = 8000")
    write("UPDATE zips SET name = 'Århus C' WHERE zip_code = 8000")
    publish(instance)
    for _ in range(2):
        with Service(assets.config_of("properties")) as service:
            service.sync()
        publish(instance)
    with Service(assets.config_of("properties")) as service:
        service.sync()
    assert zips(team)[1] == (8000, "Århus C")


def test_a_share_that_is_away_fails_the_run_and_what_differs_waits(team: Team, instance: dg.DagsterInstance) -> None:
    publish(instance)
    team.go_away()
    write("DELETE FROM zips WHERE zip_code = 1000")
    assert "1 write in" in failure(publish(instance, succeeds=False))
    team.come_back()
    assert execute("share_force_sync", instance).success
    assert zips(team) == [(8000, "Aarhus C")]


def test_a_source_that_was_never_synced_is_told_in_a_sentence(team: Team, instance: dg.DagsterInstance) -> None:
    settings.database_path("properties").unlink()
    assert "is not there, so there is nothing to publish. Sync the source first." in failure(
        publish(instance, succeeds=False)
    )


def test_a_setting_that_cannot_be_used_fails_the_run_not_the_loading(
    team: Team, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDC_SHARE_SYNC_INTERVAL", "often")
    dg.Definitions.validate_loadable(loaded())
    assert "BDC_SHARE_SYNC_INTERVAL is 'often'" in failure(publish(instance, succeeds=False))


# -- jobs ------------------------------------------------------------------------------------------------------


def test_the_cache_is_cleared_by_a_job_unless_writes_are_pending_or_it_is_forced(
    team: Team, instance: dg.DagsterInstance
) -> None:
    publish(instance)
    with (
        Service(assets.config_of("properties")) as service,
        contextlib.closing(sqlite3.connect(service.path)) as program,
    ):
        with program:
            program.execute("DELETE FROM zips")
        program.close()
        assert service.pending == 2
    refused = execute("share_clear_cache", instance, sources=["properties"])
    assert not refused.success
    assert "Sync first, or force it to throw them away." in failure(refused)
    assert execute("share_clear_cache", instance, sources=["properties"], force=True).success
    with Service(assets.config_of("properties")) as service:
        assert service.pending == 0


def test_the_cache_and_the_plain_database_are_made_anew_by_a_job(team: Team, instance: dg.DagsterInstance) -> None:
    publish(instance)
    assert execute("share_rebuild", instance).success
    team.share.unlink()
    assert execute("share_rebuild", instance, view=True).success
    assert len(zips(team)) == 2
    unknown = execute("share_rebuild", instance, sources=["nothing"])
    assert "'nothing' is no source. There are sonar, gitlab" in failure(unknown)


# -- the sensor ------------------------------------------------------------------------------------------------


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[dg.SensorResult | dg.SkipReason, str | None]:
    [sensor] = loaded().sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    context = dg.build_sensor_context(instance, cursor=cursor)
    result = sensor(context)
    assert isinstance(result, (dg.SensorResult, dg.SkipReason))
    return result, result.cursor if isinstance(result, dg.SensorResult) else cursor


def test_the_sensor_publishes_when_the_file_has_changed_and_only_then(team: Team, instance: dg.DagsterInstance) -> None:
    first, cursor = tick(instance)
    assert isinstance(first, dg.SensorResult)
    [request] = first.run_requests or ()
    assert request.asset_selection == [KEY]
    publish(instance)
    assert isinstance(tick(instance, cursor)[0], dg.SkipReason)
    write("DELETE FROM zips WHERE zip_code = 1000")
    again, cursor = tick(instance, cursor)
    assert isinstance(again, dg.SensorResult)
    publish(instance)
    assert isinstance(tick(instance, cursor)[0], dg.SkipReason)


def test_the_sensor_asks_again_while_something_waits(team: Team, instance: dg.DagsterInstance) -> None:
    publish(instance)
    cursor = tick(instance)[1]
    team.go_away()
    write("DELETE FROM zips WHERE zip_code = 1000")
    cursor = tick(instance, cursor)[1]
    publish(instance, succeeds=False)
    assert isinstance(tick(instance, cursor)[0], dg.SensorResult)


def test_the_sensor_launches_nothing_twice(team: Team, instance: dg.DagsterInstance) -> None:
    instance.add_run(
        dg.DagsterRun("publish_to_share", run_id=dg._core.utils.make_new_run_id(), status=dg.DagsterRunStatus.STARTED)
    )
    result, _ = tick(instance)
    assert isinstance(result, dg.SkipReason)
    assert "in flight" in str(result.skip_message)


OK = {
    "light": Light.SUCCESS,
    "sentence": "",
    "mode": "cache",
    "share": "s",
    "cache": "c",
    "user": "u",
    "lag_seconds": 5.0,
}


@pytest.mark.parametrize(
    ("changed", "published", "status", "expected"),
    [
        (None, None, None, False),
        (5, None, None, True),
        (5, 4, OK, True),
        (5, 5, OK, False),
        (5, 5, OK | {"pending": 1}, True),
        (5, 5, OK | {"light": Light.OFFLINE}, True),
    ],
)
def test_a_database_is_due_when_it_has_changed_or_something_waits(
    changed: int | None, published: int | None, status: dict[str, Any] | None, expected: bool
) -> None:
    assert assets.is_due(changed, published, Status(**status) if status else None) is expected


# -- checks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "failing"),
    [
        (OK, set()),
        (OK | {"pending": 5, "pending_seconds": 800.0}, set()),
        (OK | {"pending": 5, "pending_seconds": 1000.0}, {"pending_age"}),
        (OK | {"conflicts": 1}, {"conflicts"}),
        (OK | {"lag": 65}, {"lag"}),
        (OK | {"view_lag": 65}, {"lag"}),
        (OK | {"lag_seconds": 4000.0}, {"lag"}),
        (OK | {"lag_seconds": None}, {"lag"}),
    ],
)
def test_the_checks_tell_what_waits_too_long_is_in_doubt_or_lags(status: dict[str, Any], failing: set[str]) -> None:
    found = assets.judge(Status(**status))
    assert {name for name, (passed, _) in found.items() if not passed} == failing


def test_the_checks_run_in_dagster(team: Team, instance: dg.DagsterInstance) -> None:
    publish(instance)
    checks = dg.materialize(
        [*(loaded().asset_checks or ()), *(loaded().assets or ())],  # type: ignore[list-item]
        selection=dg.AssetSelection.checks_for_assets(KEY),
        instance=instance,
    )
    found = {one.check_name: one.passed for one in checks.get_asset_check_evaluations()}
    assert found == {"pending_age": True, "conflicts": True, "lag": True}
