"""The asset checks as Dagster runs them: beside materializations, blocking what follows, of a run's own partitions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.operations.checks import Limits, checks_of, feeding
from bdc_pipeline.operations.windows import Problem
from bdc_pipeline_tests.operations import watched as w
from bdc_pipeline_tests.warehouse.shop import ITEMS, Shop, items, listed, missing, rejected, tags

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


GOOD = (
    items(1, 11),
    tags([1], (1, "red")),
    listed(1),
    listed(1, "10-19"),
    listed(1, table=w.TAGS),
    listed(0, "10-19", table=w.TAGS),
)


def ran(
    shop: Shop, instance: dg.DagsterInstance, events: Sequence[Any] = GOOD, tags: Any = None, **given: Any
) -> dg.ExecuteInProcessResult:
    """A run over two shelves with its checks, and of what is made from them."""
    definitions, checks, resources = w.shelves(shop.path, events, **given)
    return dg.materialize(
        [*definitions, *checks],
        instance=instance,
        resources=resources,
        tags=w.span("0-9", "10-19") if tags is None else tags,
        raise_on_error=False,
    )


def steps(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What became of each step that was begun."""
    names = {"STEP_SUCCESS": "done", "STEP_FAILURE": "failed"}
    return {
        str(event.step_key): names[event.event_type_value]
        for event in result.all_events
        if event.event_type_value in names
    }


def test_a_run_that_brings_all_passes_all_checks_and_what_follows_is_made(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    result = ran(shop, instance)
    found = w.results(result)
    assert sorted(found) == [
        "items complete",
        "items current",
        "items plausible",
        "items sound",
        "items usual_pace",
        "tags complete",
        "tags current",
        "tags sound",
    ]
    assert all(one.passed for one in found.values())
    assert found["items complete"].metadata["stored"].value == 2
    assert steps(result)["shop__summary"] == "done"


def test_one_step_checks_all_tables_that_one_fetch_fills(shop: Shop, instance: dg.DagsterInstance) -> None:
    assert [name for name in steps(ran(shop, instance)) if "check" in name] == ["check_shelves"]


def test_checks_block_just_where_something_is_made_from_a_table(shop: Shop) -> None:
    definitions, [check], _ = w.shelves(shop.path, ())
    assert {key.to_user_string() for key in feeding(definitions)} == {"shop/items"}
    blocking = {(spec.asset_key.path[-1], spec.name) for spec in check.check_specs if spec.blocking}
    assert blocking == {("items", "complete"), ("items", "sound")}
    _, [alone], _ = w.shelves(shop.path, (), with_summary=False)
    assert not any(spec.blocking for spec in alone.check_specs)


def test_a_blocking_check_that_fails_keeps_what_follows_from_being_made(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    # the run was allowed its rejects, so the I/O manager lets it pass
    events = (items(1, 11), rejected(2), listed(2), listed(1, "10-19"))
    definitions, checks, resources = w.shelves(shop.path, events, tables=(ITEMS,))
    files = resources["sqlite_io_manager"]
    files.options = type(files.options)(max_rejects=1)
    result = dg.materialize(
        [*definitions, *checks],
        instance=instance,
        resources=resources,
        tags=w.span("0-9", "10-19"),
        raise_on_error=False,
    )
    found = w.results(result)["items complete"]
    assert (found.passed, found.severity) == (False, ERROR)
    assert "1 of 3 records are rejected" in found.description
    assert steps(result) == {"shelves.fetch_shelves": "done", "check_shelves": "failed"}
    assert shop.ids() == [1, 11]


def test_a_check_that_does_not_block_lets_what_follows_be_made(shop: Shop, instance: dg.DagsterInstance) -> None:
    result = ran(shop, instance, (items(1, 11, price=-5.0), *GOOD[1:]))
    found = w.results(result)["items plausible"]
    assert (found.passed, found.severity) == (False, WARN)
    assert found.metadata["first_rows"].records[0].data["row"] == "id 1"
    assert result.success
    assert steps(result)["shop__summary"] == "done"


def test_an_old_partition_that_is_incomplete_is_a_warning_and_blocks_nothing(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.sync(missing("20-29"))
    result = ran(shop, instance)
    found = w.results(result)["items complete"]
    assert (found.passed, found.severity) == (False, WARN)
    assert "20-29 Shelf (page 2: HTTP 502)" in found.description
    assert steps(result)["shop__summary"] == "done"


def test_references_are_judged_in_the_partitions_of_the_run(shop: Shop, instance: dg.DagsterInstance) -> None:
    lost = (items(1, 11), tags([1], (1, "red"), (2, "blue")), *GOOD[2:4], listed(2, table=w.TAGS), GOOD[5])
    assert not w.results(ran(shop, instance, lost))["tags sound"].passed
    one = (items(11), listed(1, "10-19"), listed(0, "10-19", table=w.TAGS))
    assert w.results(ran(shop, instance, one, {"dagster/partition": "10-19"}))["tags sound"].passed


def test_checks_can_be_run_alone_and_one_by_one(shop: Shop, instance: dg.DagsterInstance) -> None:
    ran(shop, instance)
    with shop.connected() as connection:
        connection.execute("DELETE FROM items WHERE id = 1")
    definitions, checks, resources = w.shelves(shop.path, ())
    job = dg.Definitions(
        assets=definitions,
        asset_checks=checks,
        resources=resources,
        jobs=[
            dg.define_asset_job(
                "alone",
                selection=dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(["shop", "items"]), "complete")),
            )
        ],
    ).resolve_job_def("alone")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    [(name, found)] = w.results(result).items()
    assert name == "items complete"
    assert "0-9 Shelf: the file holds 0 rows, and the ledger counted 1" in found.description


def test_a_run_in_which_a_partition_fails_is_not_checked_and_nothing_follows(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    result = ran(shop, instance, (*GOOD[:3], missing("10-19"), *GOOD[4:]))
    assert steps(result) == {"shelves.fetch_shelves": "failed"}


def test_a_slow_run_is_told_by_the_setting(shop: Shop, instance: dg.DagsterInstance) -> None:
    limits = Limits(w.windows(), {"shop": 1e-9}, [Problem("other", "not of the shop")])
    found = w.results(ran(shop, instance, limits=limits))["items usual_pace"]
    assert (found.passed, found.severity) == (False, WARN)
    assert "more than the 1e-09 s that are set" in found.description
    assert "not of the shop" not in found.description


def test_a_source_without_assets_here_has_no_checks() -> None:
    assert checks_of(w.watched(), [], Limits(w.windows(), {})) == []
