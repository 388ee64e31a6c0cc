"""How tables stand: fresh, stale, incomplete or never fetched."""

import datetime as dt
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import WATCHED, build_defs
from bdc_pipeline.operations.facts import STAGES, Window
from bdc_pipeline.operations.standing import (
    Noted,
    Standing,
    absent,
    judged,
    opened,
    partitions_of,
    read_standings,
    standings,
)
from bdc_pipeline.operations.windows import Windows
from bdc_pipeline.sources.gitlab import tables as g
from bdc_pipeline.sources.gitlab.checks import WATCHED as GITLAB
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.drain import drain
from bdc_pipeline.warehouse.ledger import Failure, TableCounts
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store, StoreError, now_text
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Missing
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.operations import watched as w
from bdc_pipeline_tests.warehouse.shop import (
    ITEMS,
    NOTES,
    SHOP,
    TAGS,
    Shop,
    Told,
    items,
    listed,
    missing,
    notes,
    rejected,
)

NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


@pytest.mark.parametrize(
    ("complete", "ago", "more", "state"),
    [
        (True, 0 * HOUR, {}, "fresh"),
        (True, HOUR, {}, "fresh"),
        (True, HOUR + dt.timedelta(seconds=1), {}, "stale"),
        (False, 0 * HOUR, {}, "incomplete"),
        (False, 9 * DAY, {}, "incomplete"),
        (True, 9 * DAY, {"settled": NOW - 9 * DAY}, "fresh"),
        (True, 9 * DAY, {"settled": NOW - 8 * DAY}, "stale"),
        (False, 9 * DAY, {"settled": NOW - 9 * DAY}, "incomplete"),
        (True, 0 * HOUR, {"source_age": 2 * HOUR}, "stale"),
        (True, 0 * HOUR, {"source_age": HOUR / 2}, "fresh"),
        (True, -dt.timedelta(minutes=4), {}, "fresh"),
        (True, -dt.timedelta(minutes=6), {}, "stale"),
        (True, None, {}, "stale"),
    ],
)
def test_a_partition_is_stale_past_its_window_unless_it_has_settled(
    complete: bool, ago: dt.timedelta | None, more: dict[str, Any], state: str
) -> None:
    noted = Noted(complete, None if ago is None else NOW - ago)
    assert judged("0-9", noted, HOUR, NOW, **more).state == state


def days(**synced: dt.datetime) -> dict[str, str]:
    """The states of days of June that were complete when they were synced."""
    noted = {f"2026-06-{day[1:]}": Noted(complete=True, synced_at=at) for day, at in synced.items()}
    end = lambda day: dt.datetime.fromisoformat(f"{day}T00:00:00+00:00") + DAY  # noqa: E731
    found = partitions_of(w.watched(settles=end, named=str), noted, HOUR, NOW)
    return {partition.key[-2:]: partition.state for partition in found}


def test_a_day_that_was_fetched_after_its_end_stays_fresh_and_the_latest_stands_for_today() -> None:
    old, late = NOW - 3 * DAY, NOW - HOUR / 2
    assert days(d10=old, d11=old, d15=late) == {"10": "fresh", "11": "fresh", "15": "fresh"}
    # the 14th was fetched before it ended
    assert days(d14=NOW - 13 * HOUR, d15=late)["14"] == "stale"
    # all days are settled, and nothing was fetched since
    assert days(d10=old, d11=old) == {"10": "fresh", "11": "stale"}


def test_what_is_stale_and_incomplete_is_named_the_oldest_first(shop: Shop) -> None:
    shop.sync(items(1, 11, 21), listed(1), listed(1, "10-19"), listed(1, "20-29"))
    shop.sync(missing("20-29"))
    w.age(shop, 9, "0-9")
    w.age(shop, 12.5, "10-19")
    found = w.standings(shop, partitions=(*w.BLOCKS, "30-39"))["items"]
    assert found.stale == "stale: 2 of 4: 10-19 Shelf 12 days, 0-9 Shelf 9 days"
    assert found.incomplete == "incomplete: 1 of 4: 20-29 Shelf (page 2: HTTP 502)"
    assert (found.state, found.rows, found.complete, found.total) == ("incomplete", 3, 2, 4)


def test_more_than_a_few_are_counted(shop: Shop) -> None:
    blocks = [f"{low}-{low + 9}" for low in range(0, 80, 10)]
    shop.sync(*(listed(0, block) for block in blocks))
    w.age(shop, 8)
    assert w.standings(shop)["items"].stale.endswith(", and 3 more")


def test_a_table_without_partitions_and_one_that_was_never_fetched(shop: Shop) -> None:
    shop.sync(notes("a", "b"), listed(2, None, table=NOTES), tables=(NOTES,))
    w.age(shop, 8, "", table="notes")
    found = w.standings(shop)
    assert found["notes"].stale == "stale: 8 days"
    assert (found["notes"].rows, found["notes"].complete, found["notes"].total) == (2, 1, 1)
    assert found["items"].state == found["tags"].state == "never"


def test_rejected_records_and_the_latest_run_are_told(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    shop.sync(items(1), rejected(2), listed(2))
    found = w.standings(shop)["items"]
    assert found.open_rejects == 1
    assert found.last_run
    assert (found.last_run.run_id, found.last_run.complete) == ("run 2", False)
    assert found.state == "incomplete"


# -- what the ledger holds between the lines -------------------------------------------------------------------

FIRST_DAYS, LAST_DAY = ("2026-05-30", "2026-05-31"), "2026-06-01"


def stage(path: Path, run_id: str, tables: Sequence[Table], *keys: str, problem: str = "") -> None:
    """A drain of a stage of GitLab's over some days of which nothing came, and nothing was to come; or all is missed."""
    events: list[Event] = [Checked(table, keys, 0, full=True, limited=bool(problem)) for table in tables]
    if problem:
        events[0] = Missing(tables[0], keys, "project 1", problem)
    drain(Told(*events, tables=tuple(tables), schema=g.SCHEMA), path, run_id, partitions=list(keys))


def gitlab(path: Path, *, later: dt.timedelta = dt.timedelta(), **given: Any) -> dict[str, Standing]:
    now = dt.datetime.now(dt.UTC) + later
    found = read_standings(path, GITLAB, Windows({"gitlab": Window(30 * DAY)}), now, **given)
    return {standing.table: standing for standing in found}


def conclude(path: Path, schema: Schema, run_id: str, *failures: Failure, tables: Sequence[Table] = ()) -> None:
    """A sync comes to its end with what failed outside of its drains, and tells of these tables."""
    with Store(path, schema) as store, store.transaction():
        ledger.conclude_run(store, run_id, schema.source, failures, Effort(), now_text())
        for table in tables:
            ledger.add_counts(store, run_id, table, TableCounts())


def test_days_that_the_stage_before_has_and_a_later_one_lacks_are_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "gitlab.db"
    for tables in (g.OF_PIPELINES, g.OF_JOBS, g.OF_LOGS):
        stage(path, "run 1", tables, *FIRST_DAYS)
    assert {standing.state for standing in gitlab(path).values()} == {"fresh", "never"}
    # killed behind its first stage
    stage(path, "run 2", g.OF_PIPELINES, LAST_DAY)
    found = gitlab(path)
    assert (
        found["jobs"].incomplete == "incomplete: 1 of 3: 2026-06-01 (pipelines were fetched, but not what follows them)"
    )
    assert (found["jobs"].complete, found["jobs"].total) == (2, 3)
    assert {name for name, one in found.items() if one.state == "incomplete"} == {table.name for table in g.OF_JOBS}
    # stages that were never wanted are nobody's loss
    assert found["archives"].state == "never"
    stage(path, "run 3", g.OF_JOBS, LAST_DAY)
    assert [name for name, one in gitlab(path).items() if one.state == "incomplete"] == ["job_logs"]


def test_who_looks_every_minute_waits_for_the_stage_that_may_be_about_to_begin(tmp_path: Path) -> None:
    path = tmp_path / "gitlab.db"
    stage(path, "run 1", g.OF_PIPELINES, *FIRST_DAYS)
    stage(path, "run 1", g.OF_JOBS, FIRST_DAYS[0])
    assert gitlab(path)["jobs"].state == "incomplete"
    assert gitlab(path, patience=HOUR)["jobs"].state == "fresh"
    assert gitlab(path, patience=HOUR, later=2 * HOUR)["jobs"].state == "incomplete"


def test_a_table_that_the_latest_run_was_to_come_to_is_no_table_that_was_never_wanted(tmp_path: Path) -> None:
    path = tmp_path / "gitlab.db"
    stage(path, "run 1", g.OF_PIPELINES, *FIRST_DAYS)
    conclude(path, g.SCHEMA, "run 1", tables=(*g.OF_PIPELINES, *g.OF_JOBS))
    found = gitlab(path)
    assert found["jobs"].incomplete.startswith("incomplete: 2 of 2: 2 days (2026-05-30 to 2026-05-31): pipelines were")
    assert found["archives"].state == "never"


def test_tables_that_come_along_with_another_are_incomplete_for_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "gitlab.db"
    stage(path, "run 1", g.OF_PIPELINES, *FIRST_DAYS, problem="HTTP 403")
    found = gitlab(path)
    assert found["bridges"].incomplete == found["pipelines"].incomplete
    assert found["bridges"].incomplete == "incomplete: 2 of 2: 2 days (2026-05-30 to 2026-05-31): project 1: HTTP 403"


def test_what_failed_outside_of_the_fetches_concerns_the_tables_that_the_run_did_not_reach(shop: Shop) -> None:
    everything = (ITEMS, TAGS, NOTES)
    shop.sync(items(1), listed(1), tables=everything)
    shop.sync(notes("a"), listed(1, None, table=NOTES), tables=(NOTES,))
    conclude(shop.path, SHOP, "run 2", Failure("shelves", "The disk is full."), tables=everything)
    w.age(shop, 0.001, table="items")
    with shop.connected() as connection:
        connection.execute(
            "UPDATE metadata SET value = '2026-01-01T00:00:00.000Z' WHERE key GLOB '*_last_sync' AND key <> 'notes_last_sync'"
        )
    found = w.standings(shop)
    assert found["items"].incomplete == "incomplete: the last run failed: shelves: The disk is full"
    assert found["items"].state == "incomplete"
    assert found["notes"].state == "fresh"
    shop.sync(items(1), listed(1), tables=everything)
    assert w.standings(shop)["items"].state == "fresh"


def test_what_failed_though_all_tables_were_reached_concerns_them_all(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    conclude(shop.path, SHOP, "run 1", Failure("plan", "project 7 is unknown"), tables=(ITEMS,))
    assert w.standings(shop)["items"].incomplete == "incomplete: the last run failed: plan: project 7 is unknown"


def test_rows_of_a_fetch_that_never_came_to_its_end_are_no_complete_copy(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with shop.connected() as connection:
        # as a process that is killed behind its first transaction leaves it
        connection.execute("DELETE FROM _partitions")
        connection.execute("UPDATE _runs SET finished_at = NULL, complete = 0")
    found = w.standings(shop)
    assert found["items"].incomplete == "incomplete: rows are stored, but no fetch of them has come to its end"
    assert found["tags"].state == "never"


def test_the_stages_are_those_that_the_assets_follow_each_other_in() -> None:
    definitions = [one for one in build_defs().assets or () if isinstance(one, dg.AssetsDefinition)]
    for source, stages in STAGES.items():
        of_source = [one for one in definitions if {key.path[0] for key in one.keys} == {source} and one.partitions_def]
        found = {
            (frozenset(key.path[-1] for key in one.keys), key.path[-1])
            for one in of_source
            for key in one.dependency_keys
        }
        before = {name for stage in stages for name in stage.tables}
        assert {(tables, after if after in before else "") for tables, after in found} == {
            (frozenset(stage.tables), stage.after) for stage in stages
        }
    tables = {dg.AssetKey([found.source, table.name]) for found in WATCHED for table in found.schema.tables}
    partitioned = {key for other in definitions if other.partitions_def for key in other.keys} & tables
    # a source of several partitioned fetches that are not declared as stages has none that depends on another
    for one in definitions:
        after = partitioned & set(one.dependency_keys)
        assert not (one.partitions_def and after) or {key.path[0] for key in one.keys} <= STAGES.keys()


@pytest.mark.parametrize("partitions", [5, 500])
def test_the_number_of_statements_does_not_grow_with_partitions(shop: Shop, partitions: int) -> None:
    blocks = [f"{low}-{low + 9}" for low in range(0, partitions * 10, 10)]
    shop.sync(items(*range(0, partitions * 10, 10)), *(listed(1, block) for block in blocks))
    asked: list[str] = []
    with closing(opened(shop.path)) as connection:
        connection.set_trace_callback(asked.append)
        [found, *_] = standings(connection, w.watched(), w.windows(), dt.datetime.now(dt.UTC))
    assert found.complete == found.total == partitions
    assert len(asked) == 5


def test_reading_waits_for_no_writer_and_sees_what_was_committed(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with shop.connected() as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM items")
        assert w.standings(shop)["items"].rows == 1
        writer.execute("ROLLBACK")


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE things (id)")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 100)
    empty = tmp_path / "empty.db"
    empty.touch()
    for path, told in ((tmp_path / "none.db", "exist"), (other, "ledger"), (broken, "database"), (empty, "database")):
        with pytest.raises(StoreError, match=told):
            read_standings(path, w.watched(), w.windows(), now)


def test_a_file_of_an_older_version_lacks_tables_and_is_read_all_the_same(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with shop.connected() as connection:
        connection.executescript("DROP VIEW live_notes; DROP TABLE notes; ALTER TABLE _partitions DROP COLUMN token")
    found = w.standings(shop)
    assert (found["items"].rows, found["notes"].state) == (1, "never")


def test_without_a_file_everything_was_never_fetched() -> None:
    found = absent(w.watched(partitions=w.BLOCKS), w.windows())
    assert {standing.state for standing in found} == {"never"}
    assert [standing.total for standing in found] == [3, 3, 1]
    assert [standing.table for standing in found] == [ITEMS.name, TAGS.name, NOTES.name]
