"""What the sources say that their rows are like: every rule and reference can be asked of the file, and finds what breaks it."""

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.definitions import WATCHED
from bdc_pipeline.operations import verdicts
from bdc_pipeline.operations.facts import Reference, Rule, Watched, Window
from bdc_pipeline.operations.standing import opened
from bdc_pipeline.sources.dmr import checks as dmr
from bdc_pipeline.sources.dmr.cache import Cache, Record
from bdc_pipeline.sources.dmr.registries import FEEDS
from bdc_pipeline.warehouse.columns import TableError
from bdc_pipeline.warehouse.documents import hash_of
from bdc_pipeline.warehouse.sql import utc_text
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline_tests.operations import watched as w

every_source = pytest.mark.parametrize("watched", WATCHED, ids=lambda one: one.source)

BY_NAME = {one.source: one for one in WATCHED}


@every_source
def test_every_rule_and_reference_can_be_asked_of_the_file(watched: Watched, tmp_path: Path) -> None:
    Store(tmp_path / "file.db", watched.schema).close()
    with closing(opened(tmp_path / "file.db")) as connection:
        for table in watched.schema.tables:
            assert verdicts.sound(connection, watched, table).passed
            if any(rule.table == table.name for rule in watched.rules):
                assert verdicts.plausible(connection, watched, table).passed


@every_source
def test_every_table_that_rows_belong_to_is_referred_to(watched: Watched) -> None:
    owned = {table.name: table.owner for table in watched.schema.tables if table.owner}
    assert owned.items() <= {(one.table, one.to) for one in watched.references}


#: source, table, what breaks a rule (column, value), what does not
BREAKING = [
    ("sonar", "addresses", {"latitude": 91.0, "longitude": 0.0}, {"latitude": -89.9, "longitude": 179.9}),
    ("sonar", "addresses", {"latitude": 10.0, "longitude": None}, {"latitude": None, "longitude": None}),
    ("sonar", "addresses", {"fips": "4800"}, {"fips": "480012345001234"}),
    ("sonar", "addresses", {"county_fips": "4800A"}, {"county_fips": "48001"}),
    ("sonar", "addresses", {"state": "Texas"}, {"state": "TX"}),
    ("sonar", "products", {"download_in_kilobits": -1}, {"download_in_kilobits": 1_000_000}),
    ("sonar", "customers", {"activation_date": "0001-01-01"}, {"activation_date": "2020-02-29"}),
    ("gitlab", "jobs", {"coverage": 101.0}, {"coverage": 99.5}),
    (
        "gitlab",
        "jobs",
        {"started_at": "2026-05-02T00:00:00Z", "finished_at": "2026-05-01T00:00:00Z"},
        {"started_at": "2026-05-01T00:00:00Z", "finished_at": None},
    ),
    ("gitlab", "pipelines", {"day": "May"}, {"day": "2026-05-31"}),
    ("properties", "properties", {"lat": 48.8, "lon": 12.5}, {"lat": 55.7, "lon": 12.5}),
    ("properties", "registrations", {"date": "2025-02-31x"}, {"date": "2025-02-28"}),
    ("properties", "buildings", {"year_built": 19}, {"year_built": 1650}),
    ("dmr", "repeaters", {"color_code": 16}, {"color_code": 15}),
    (
        "dmr",
        "repeaters",
        {"output_hz": 10, "input_hz": 7, "offset_hz": 3},
        {"output_hz": 10, "input_hz": 7, "offset_hz": -3},
    ),
    ("dmr", "talkgroups", {"talkgroup_id": 0}, {"talkgroup_id": 91}),
]


def put(connection: sqlite3.Connection, watched: Watched, table: str, values: dict[str, Any]) -> None:
    """A row with these values, and something in each column that must not be empty."""
    declared = watched.schema.table(table)
    filler: dict[str, Any] = {"TEXT": "x", "INTEGER": 1, "REAL": 1.0, "BLOB": b""}
    usual = {"day": "2026-05-31", "type": "PHYSICAL", "kind": "repeater", "quantity": 1}
    row = {
        column.name: usual.get(column.name, filler[column.type]) for column in declared.columns if not column.nullable
    }
    row |= {"last_updated": "2026-01-01T00:00:00.000Z", **values}
    connection.execute(f"DELETE FROM {declared.stored}")
    marks = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO {declared.stored} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


@pytest.mark.parametrize(("source", "table", "bad", "good"), BREAKING)
def test_a_value_that_cannot_be_is_found_and_one_that_can_be_is_not(
    source: str, table: str, bad: dict[str, Any], good: dict[str, Any], tmp_path: Path
) -> None:
    watched = BY_NAME[source]
    with Store(tmp_path / "file.db", watched.schema) as store:
        declared = watched.schema.table(table)
        put(store.connection, watched, table, good)
        assert verdicts.plausible(store.connection, watched, declared).passed
        put(store.connection, watched, table, bad)
        found = verdicts.plausible(store.connection, watched, declared)
        assert not found.passed
        assert found.says.count("rows break") == 1


def test_checks_that_name_what_there_is_not_are_refused() -> None:
    with pytest.raises(TableError, match="shop's checks name shelves"):
        w.watched(rules=(Rule("shelves", "", "1"),))
    with pytest.raises(TableError, match=r"items colour"):
        w.watched(references=(Reference("items", "colour", "tags", "word"),))
    assert w.watched(window=lambda: Window(w.WEEK)).source == "shop"


def test_a_day_of_pipelines_settles_when_it_is_over() -> None:
    settles = BY_NAME["gitlab"].settles
    assert settles is not None
    assert settles("2026-12-31") == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def test_a_municipality_is_told_by_code_and_name() -> None:
    named = BY_NAME["properties"].named
    assert (named("0147"), named("9999")) == ("0147 Frederiksberg", "9999")


@pytest.fixture
def cache(data: Path) -> Cache:
    return Cache(data / "cache" / "dmr")


def test_a_download_that_should_have_been_asked_for_again_makes_its_registry_stale(cache: Cache) -> None:
    now = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    [feed] = [feed for feed in FEEDS if feed.name == "tgif_talkgroups"]
    ages = dmr.WATCHED.ages
    assert ages is not None
    assert ages(now) == {}
    cache.make()
    late = now - feed.max_age - dmr.GRACE
    cache.path(feed).write_bytes(b"[]")
    told: dict[str, Any] = {"url": "", "bytes": 2, "records": 0, "hash": hash_of(cache.path(feed)), "sha256": ""}
    cache.note(feed, Record(**told, fetched_at=utc_text(late), checked_at=utc_text(late)))
    assert ages(now) == {}
    cache.note(feed, Record(**told, fetched_at=utc_text(late), checked_at=utc_text(late - dmr.GRACE)))
    assert ages(now) == {"tgif": feed.max_age + 2 * dmr.GRACE}
