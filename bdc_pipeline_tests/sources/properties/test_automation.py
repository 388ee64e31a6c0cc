"""What keeps the copy of homes current by itself."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pytest

from bdc_pipeline.definitions import build_defs
from bdc_pipeline.sources.properties.assets import BoligsidenResource
from bdc_pipeline.sources.properties.automation import NIGHTS, OVERDUE_DAYS, in_turn
from bdc_pipeline.sources.properties.places import places
from bdc_pipeline.sources.properties.plan import SyncOptions, is_due
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline_tests.operations.ticks import NIGHT, op_config, tick
from bdc_pipeline_tests.sources.properties.syncing import Copy

CODES = list(places())

PLAN = ("properties", "plan_properties")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.mark.parametrize("first", [dt.date(2026, 1, 1), dt.date(2026, 12, 28), dt.date(2028, 2, 26)])
def test_within_a_week_each_municipality_has_its_turn_once_and_no_night_has_many(first: dt.date) -> None:
    nights = [in_turn(CODES, first + dt.timedelta(days=n)) for n in range(NIGHTS)]
    assert Counter(code for night in nights for code in night) == Counter(CODES)
    assert {len(night) for night in nights} <= {5, 6}
    assert in_turn(CODES, first + dt.timedelta(days=NIGHTS)) == nights[0]


def test_a_night_is_one_run_over_all_municipalities(instance: dg.DagsterInstance) -> None:
    found = tick("properties_nightly", instance)
    assert found.range == (CODES[0], CODES[-1])
    assert op_config(found.run, *PLAN) == {"days": OVERDUE_DAYS, "in_turn": in_turn(CODES, NIGHT.date())}


@pytest.mark.parametrize(
    ("hours", "is_in_turn", "is_walked"),
    [
        (1, True, False),
        (13, True, True),
        (13, False, False),
        (24 * 7.1, False, False),
        # its night was missed
        (24 * 8.1, False, True),
    ],
)
def test_who_is_walked_through(hours: float, is_in_turn: bool, is_walked: bool) -> None:
    then = (NIGHT - dt.timedelta(hours=hours)).isoformat()
    state = PartitionState(True, None, then, then, 10, 10, 0, None)
    options = SyncOptions(days=OVERDUE_DAYS, in_turn=("0101",) if is_in_turn else ())
    assert is_due(state, NIGHT, options.of("0101")) is is_walked
    assert options.of("0147").days == OVERDUE_DAYS


def test_a_night_walks_through_its_seventh_and_asks_the_others_for_their_number(
    copy: Copy, instance: dg.DagsterInstance
) -> None:
    assert copy.sync().complete
    day_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    copy.execute("UPDATE _partitions SET verified_at = ?", day_ago)
    request = tick("properties_nightly", instance).run
    resource = BoligsidenResource(workers=4, hit_cap=copy.sandbox.options.hit_cap)
    job = build_defs(resources={"boligsiden": resource}).resolve_job_def("refresh_properties")
    done = job.execute_in_process(
        run_config=dict(request.run_config or {}), tags=dict(request.tags), instance=instance, raise_on_error=False
    )
    assert done.success
    walked = copy.query(
        "SELECT partition FROM _partitions WHERE table_name = 'properties' AND verified_at > ?", day_ago
    )
    assert sorted(code for (code,) in walked) == sorted(in_turn(CODES, NIGHT.date()))
    copy.assert_true()
