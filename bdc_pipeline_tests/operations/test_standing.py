"""How tables stand: fresh, stale, incomplete or never fetched."""

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.operations.standing import (
    Noted,
    absent,
    judged,
    opened,
    partitions_of,
    read_standings,
    standings,
    told_age,
)
from bdc_pipeline.warehouse.store import StoreError
from bdc_pipeline_tests.operations import watched as w
from bdc_pipeline_tests.warehouse.shop import ITEMS, NOTES, TAGS, Shop, items, listed, missing, notes, rejected

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


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (9 * DAY + HOUR, "9 days"),
        (DAY, "1 day"),
        (HOUR * 23.9, "23 hours"),
        (HOUR, "1 hour"),
        (HOUR / 20, "3 minutes"),
        (dt.timedelta(seconds=5), "5 s"),
        (None, "at a time that is yet to come"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(age: dt.timedelta | None, text: str) -> None:
    assert told_age(age) == text


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
