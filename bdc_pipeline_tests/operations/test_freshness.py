"""Freshness policies and owners of the project's own assets, as Dagster loads them."""

import datetime as dt
import logging

import dagster as dg
import pytest

from bdc_pipeline.definitions import WATCHED, build_defs, defs
from bdc_pipeline.operations.checks import current_limits
from bdc_pipeline.operations.freshness import watched_over

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)

KEYS = sorted(spec.key for spec in defs.resolve_all_asset_specs())


def windows_of(definitions: dg.Definitions) -> dict[str, tuple[dt.timedelta, dt.timedelta | None]]:
    """Each asset's window and when its warning begins."""
    found = {}
    for spec in definitions.resolve_all_asset_specs():
        policy = spec.freshness_policy
        assert policy is not None, spec.key
        warn = policy.warn_window
        found[spec.key.to_user_string()] = (policy.fail_window.to_timedelta(), warn and warn.to_timedelta())
    return found


def test_every_asset_has_a_policy_and_an_owner(unset: pytest.MonkeyPatch) -> None:
    assert set(windows_of(build_defs())) == {key.to_user_string() for key in KEYS}
    assert all(spec.owners for spec in build_defs().resolve_all_asset_specs())


def test_windows_are_a_week_an_hour_and_what_the_profile_says(unset: pytest.MonkeyPatch) -> None:
    found = windows_of(build_defs())
    assert found["sonar/customers"] == found["properties/properties"] == (7 * DAY, 6 * DAY)
    assert found["gitlab/jobs"] == (HOUR, None)
    assert found["dmr/repeaters"] == found["dmr/downloads"] == found["dmr/same_sites"] == (3 * HOUR, None)
    for profile, hours in (("realtime", 1), ("high_performance", 2), ("standard", 3), ("constrained", 4)):
        unset.setenv("DMR_PROFILE", profile)
        assert current_limits(WATCHED).windows.of("dmr", "repeaters").fail == hours * HOUR


def test_a_setting_shortens_a_window_of_a_source_or_of_one_asset(unset: pytest.MonkeyPatch) -> None:
    unset.setenv("BDC_FRESHNESS", "properties=60s, dmr/same_sites=2h/90m")
    found = windows_of(build_defs())
    assert found["properties/cases"] == (dt.timedelta(minutes=1), None)
    assert found["dmr/same_sites"] == (2 * HOUR, 1.5 * HOUR)
    assert found["dmr/repeaters"] == (3 * HOUR, None)


def test_a_setting_that_cannot_be_used_is_logged_and_keeps_nothing_from_loading(
    unset: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unset.setenv("BDC_FRESHNESS", "sonar=soon, gitlab=30m")
    unset.setenv("BDC_OWNERS", "somebody")
    with caplog.at_level(logging.WARNING, "bdc_pipeline"):
        found = windows_of(build_defs())
    assert found["sonar/customers"] == (7 * DAY, 6 * DAY)
    assert found["gitlab/jobs"] == (HOUR / 2, None)
    told = [record.getMessage() for record in caplog.records]
    assert sum("BDC_FRESHNESS has sonar=soon" in text for text in told) == 1
    assert any("BDC_OWNERS holds 'somebody'" in text for text in told)


def test_owners_come_from_the_setting_and_an_assets_own_stay(unset: pytest.MonkeyPatch) -> None:
    unset.setenv("BDC_OWNERS", "team:data, ann@example.com")

    @dg.asset(key=["sonar", "report"], owners=["team:reports"])
    def report() -> None: ...

    @dg.asset(key=["sonar", "other"])
    def other() -> None: ...

    @dg.asset(key=["elsewhere"])
    def elsewhere() -> None: ...

    found = watched_over([report, other, elsewhere], WATCHED, current_limits(WATCHED).windows)
    specs = {spec.key.path[-1]: spec for definition in found for spec in definition.specs}
    assert specs["report"].owners == ["team:reports"]
    assert specs["other"].owners == ["team:data", "ann@example.com"]
    assert (specs["elsewhere"].owners, specs["elsewhere"].freshness_policy) == ([], None)


def test_settings_can_name_every_asset() -> None:
    known = {f"{one.source}/{name}" for one in WATCHED for name in one.assets}
    assert known == {key.to_user_string() for key in KEYS}


def test_every_table_has_its_checks_and_those_that_others_are_made_from_block() -> None:
    graph = defs.resolve_asset_graph()
    by_table: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        by_table.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert set(by_table) == {f"{one.source}/{table.name}" for one in WATCHED for table in one.schema.tables}
    assert all(names >= {"complete", "current", "sound"} for names in by_table.values())
    blocking = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get_check_spec(key).blocking}
    assert blocking == {"gitlab/projects", "gitlab/pipelines", "gitlab/jobs", "dmr/repeaters", "dmr/locations"}


def test_a_step_that_fetches_has_its_sources_pool() -> None:
    pools: dict[str, set[str | None]] = {}
    for definition in defs.resolve_asset_graph().assets_defs:
        for op in definition.node_def.iterate_op_defs():
            if op.name.startswith("fetch_"):
                pools.setdefault(next(iter(definition.keys)).path[0], set()).add(op.pool)
    assert pools == {source: {source} for source in ("sonar", "gitlab", "properties", "dmr")}
