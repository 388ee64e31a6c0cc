"""The web UI in a real browser: what a person who keeps the copies sees and clicks."""

import re

import pytest

from bdc_pipeline_tests.e2e import tour
from bdc_pipeline_tests.e2e.browser import installed, opened
from bdc_pipeline_tests.e2e.tour import Shown, Tour, walk
from bdc_pipeline_tests.e2e.ui import UP_SECONDS, start
from bdc_pipeline_tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One walk for all tests."""
    installed()
    ui = start(tmp_path_factory.mktemp("browser"), **tour.VARIABLES)
    try:
        until(ui.is_loaded, ui.said, seconds=UP_SECONDS, pause=0.2)
        with opened() as page:
            return walk(Tour(ui, page))
    finally:
        ui.close()


def test_the_graph_shows_the_groups_of_all_sources(shown: Shown) -> None:
    assert shown.groups >= {
        *("sonar_customers", "sonar_inventory", "sonar_lookups", "properties_homes"),
        *("gitlab_projects", "gitlab_pipelines", "gitlab_jobs", "gitlab_logs", "gitlab_tests", "gitlab_archives"),
        *("dmr_downloads", "dmr_registries", "dmr_views"),
    }


def test_a_range_of_municipalities_is_one_run(shown: Shown) -> None:
    [run] = shown.runs
    assert run["tags"]["dagster/asset_partition_range_start"] == tour.RANGE[0]
    assert run["tags"]["dagster/asset_partition_range_end"] == tour.RANGE[-1]


def test_what_is_complete_turns_green_and_what_failed_is_red_and_alone(shown: Shown) -> None:
    assert shown.before == {"Failed": 0, "Materialized": 0, "Materializing": 0, "Missing": 36}
    assert [run["status"] for run in shown.runs] == ["FAILURE"]
    assert shown.after == {"Failed": 1, "Materialized": 3, "Materializing": 0, "Missing": 32}
    assert shown.failed == [tour.BROKEN]


def test_doing_the_failed_ones_again_does_just_those(shown: Shown) -> None:
    [run] = shown.again
    assert (run["status"], run["tags"]["dagster/partition"]) == ("SUCCESS", tour.BROKEN)
    assert shown.healed == {"Failed": 0, "Materialized": 4, "Materializing": 0, "Missing": 32}


def test_a_copy_is_fresh_and_with_time_it_is_not(shown: Shown) -> None:
    assert re.search(r"Freshness policy\s+Passing", shown.fresh)
    assert re.search(r"Freshness policy\s+Failed", shown.stale)


def test_the_check_names_the_partition_that_is_missing(shown: Shown) -> None:
    assert f"{tour.BROKEN} {tour.BROKEN_NAME}" in shown.checks


def test_a_sensors_tick_requests_one_run(shown: Shown) -> None:
    assert len(shown.ticks[0]["runIds"]) == 1
    assert "1 run requested" in shown.sensor
    assert [run["runId"] for run in shown.requested] == shown.ticks[0]["runIds"]
