"""Draining streams: what is counted, what is complete, what vanishes, and what survives trouble."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bdc_pipeline.warehouse import drain as drain_module
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.drain import Drained, DrainOptions, Progress, drain
from bdc_pipeline.warehouse.ledger import Failure, SyncReport, TableCounts
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Compare, Effort, Erase, Event, Pause, Rows, Together
from bdc_pipeline_tests.processes import COMMAND_SECONDS, killed_at_last, line_of
from bdc_pipeline_tests.warehouse import drain_child
from bdc_pipeline_tests.warehouse.shop import (
    ITEMS,
    NOTES,
    SHOP,
    TAGS,
    Item,
    Shop,
    Told,
    changed,
    items,
    listed,
    missing,
    notes,
    rejected,
    tags,
)


def report(shop: Shop, run_id: str) -> SyncReport:
    with shop.connected() as connection:
        found = ledger.report_of(connection, run_id)
    assert found
    return found


def is_accounted_for(counts: TableCounts) -> bool:
    return (
        counts.expected == counts.fetched + counts.rejected
        and counts.fetched == counts.inserted + counts.updated + counts.unchanged
    )


# -- counts --------------------------------------------------------------------------------------------------------


def test_a_first_run_inserts_and_a_second_finds_all_unchanged(shop: Shop) -> None:
    first = shop.sync(items(1, 2, 3), listed(3))
    second = shop.sync(items(1, 2, 3), listed(3))
    assert first.counts == {"items": TableCounts(expected=3, fetched=3, inserted=3)}
    assert second.counts == {"items": TableCounts(expected=3, fetched=3, unchanged=3)}
    assert first.is_complete
    assert second.complete == {"items": ["0-9"]}
    assert second.partition_counts == {"items": {"0-9": 3}}
    assert shop.partition() | {"synced_at": "", "verified_at": ""} == {
        "table_name": "items", "partition": "0-9", "complete": 1, "watermark": None, "verified_at": "",
        "synced_at": "", "expected": 3, "stored": 3, "rejected": 0, "problem": None, "run_id": "run 2", "token": None,
    }  # fmt: skip


def test_the_report_in_the_file_is_what_the_drain_returned(shop: Shop) -> None:
    effort = Effort(requests=7, retries=2, bytes=100, seconds=1)
    events = [items(1, 2), notes("a"), rejected(3), listed(3), listed(1, None, table=NOTES)]
    done = shop.sync(*events, tables=(ITEMS, NOTES), effort=effort)
    found = report(shop, "run 1")
    assert found.tables == done.counts
    assert (found.source, found.requests, found.retries, found.complete) == ("shop", 7, 2, False)
    assert found.seconds == done.seconds
    assert done.effort == effort
    assert [(failure.unit, failure.error) for failure in found.failures] == [
        ("items 0-9", "1 rejected (1 in all, 0 allowed by --max-rejects): see the table _rejects")
    ]


def test_drains_of_one_run_add_up(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2), run_id="r", effort=Effort(requests=1))
    shop.sync(notes("a"), listed(1, None, table=NOTES), tables=(NOTES,), run_id="r", effort=Effort(requests=2))
    shop.sync(items(11), missing("10-19"), run_id="r")
    found = report(shop, "r")
    assert (found.requests, found.complete) == (3, False)
    assert found.tables == {
        "items": TableCounts(expected=None, fetched=3, inserted=3),
        "notes": TableCounts(expected=1, fetched=1, inserted=1),
    }


def test_facts_for_other_tools_are_kept(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    facts = dict(shop.ask("SELECT key, value FROM metadata"))
    assert facts["items_count"] == "2"
    assert facts["last_run_id"] == "run 1"
    assert facts["last_sync"] == facts["items_last_sync"]
    assert dt.datetime.fromisoformat(facts["last_sync"]).tzinfo is dt.UTC
    shop.sync(items(3), missing())
    later = dict(shop.ask("SELECT key, value FROM metadata"))
    assert (later["items_count"], later["last_run_id"]) == ("3", "run 2")


def test_an_empty_source_is_complete_the_first_time(shop: Shop) -> None:
    done = shop.sync(listed(0))
    assert done.complete == {"items": ["0-9"]}
    assert done.counts == {"items": TableCounts(expected=0)}


# -- transactions --------------------------------------------------------------------------------------------------


def commits(shop: Shop, *events: Event, **options: Any) -> list[int]:
    """The number of rows that a second connection sees whenever the file was committed to, from progress calls."""
    seen: list[int] = []

    def note(_: Progress) -> None:
        seen.append(shop.one("SELECT count(*) FROM items"))

    drain(Told(*events), shop.path, "run", DrainOptions(**({"commit_seconds": 1e9} | options)), on_progress=note)
    return seen


def test_a_transaction_ends_when_enough_rows_have_gathered(shop: Shop) -> None:
    single = [items(number) for number in range(10)]
    assert commits(shop, *single, listed(10), commit_interval=4) == [4, 8, 10, 10]


def test_a_transaction_ends_when_enough_time_has_passed(shop: Shop) -> None:
    single = [items(number) for number in range(3)]
    assert commits(shop, *single, listed(3), commit_seconds=0) == [1, 2, 3, 3, 3]


def test_a_transaction_ends_when_nothing_comes(shop: Shop) -> None:
    assert commits(shop, items(1), items(2), Pause(), Pause(), items(3), listed(3)) == [2, 3, 3]


@pytest.mark.parametrize(("seconds", "moved"), [(0, True), (1e9, False)])
def test_what_is_written_comes_into_the_file_itself_while_nothing_comes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seconds: float, moved: bool
) -> None:
    monkeypatch.setattr(drain_module, "CHECKPOINT_SECONDS", seconds)
    there: list[bool] = []

    def events() -> Iterator[Event]:
        yield Rows(ITEMS, [Item(1, "a name like no other")])
        yield Pause()
        # the file's own bytes, in a process of its own: to open and close it beside SQLite would drop this one's locks
        read = "import sys; sys.exit(b'a name like no other' not in open(sys.argv[1], 'rb').read())"
        there.append(subprocess.run([sys.executable, "-c", read, str(shop.path)], check=False).returncode == 0)
        yield listed(1)

    stream = Told()
    stream.events = events()
    drain(stream, shop.path, "run", DrainOptions(commit_seconds=1e9))
    assert there == [moved]


def test_a_second_connection_sees_the_file_change_once_a_transaction(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    versions: list[int] = []
    with shop.connected() as other:

        def events() -> Iterator[Event]:
            for number in range(6):
                versions.append(other.execute("PRAGMA data_version").fetchone()[0])
                yield items(number)
            versions.append(other.execute("PRAGMA data_version").fetchone()[0])

        stream = Told()
        stream.events = events()
        drain(stream, shop.path, "run", DrainOptions(commit_interval=3, commit_seconds=1e9))
    start = versions[0]
    assert [version - start for version in versions] == [0, 0, 0, 1, 1, 1, 2]


def test_events_that_belong_together_are_one_transaction(shop: Shop) -> None:
    together = Together([items(1), rejected(2), items(5, 6)])
    assert commits(shop, items(3), together, items(4), commit_interval=1) == [1, 4, 5, 5]
    assert commits(shop, items(7), Together([]), Together([items(8), items(9)]), commit_seconds=0) == [6, 8, 8]


def test_progress_tells_rows_and_effort(shop: Shop) -> None:
    told: list[Progress] = []
    stream = Told(items(1, 2), listed(2), effort=Effort(requests=3))
    drain(stream, shop.path, "run", on_progress=told.append)
    assert (told[-1].rows, told[-1].expected, told[-1].effort) == (2, None, Effort(requests=3))


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("error", [BrokenError("no route"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_what_arrived_before_a_stream_raised_is_committed_and_the_exception_goes_on(
    shop: Shop, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        shop.sync(items(1, 2), rejected(3), error)
    assert shop.ids() == [1, 2]
    found = report(shop, "run 1")
    assert not found.complete
    assert found.tables == {"items": TableCounts(fetched=2, inserted=2, rejected=1)}
    assert shop.one("SELECT finished_at FROM _runs") is None


def test_an_error_in_showing_progress_loses_nothing(shop: Shop) -> None:
    def fail(_: Progress) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):
        drain(Told(items(1), items(2)), shop.path, "run", DrainOptions(commit_interval=1), on_progress=fail)
    assert shop.ids() == [1]


# -- completeness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (4, "the source counts 4 records, 3 are stored and 0 rejected: +1 is not accounted for"),
        (30, "the source counts 30 records, 3 are stored and 0 rejected: +27 is not accounted for"),
        (2, "the source counts 2 records, 3 are stored and 0 rejected: -1 is not accounted for"),
    ],
)
def test_a_listing_whose_count_does_not_fit_is_incomplete_and_says_by_how_many(
    shop: Shop, expected: int, told: str
) -> None:
    shop.sync(items(7), listed(1))
    done = shop.sync(items(1, 2, 3), listed(expected, watermark="2026"))
    assert not done.is_complete
    assert done.complete["items"] == []
    assert done.incomplete["items"] == {"0-9": f"items 0-9: {told}"}
    assert report(shop, "run 2").failures == [Failure("items 0-9", told)]
    assert (shop.partition()["complete"], shop.partition()["problem"]) == (0, f"items 0-9: {told}")
    assert shop.partition()["watermark"] is None
    assert shop.ids() == [1, 2, 3, 7]


def test_rows_of_other_partitions_and_other_runs_do_not_fill_a_gap(shop: Shop) -> None:
    shop.sync(items(1, 2, 11), listed(2), listed(1, "10-19"))
    done = shop.sync(items(1, 11, 12), listed(2), listed(2, "10-19"))
    assert done.complete["items"] == ["10-19"]
    assert list(done.incomplete["items"]) == ["0-9"]


def test_one_total_for_several_partitions_is_checked_as_a_whole(shop: Shop) -> None:
    done = shop.sync(items(1, 11, 12), listed(3, "0-9", "10-19"))
    assert done.complete["items"] == ["0-9", "10-19"]
    assert done.partition_counts["items"] == {"0-9": 1, "10-19": 2}
    short = shop.sync(items(1, 11, 12), listed(4, "0-9", "10-19"))
    assert list(short.incomplete["items"]) == ["0-9", "10-19"]


def test_a_listing_may_cover_thousands_of_partitions(shop: Shop) -> None:
    keys = [f"{first}-{first + 9}" for first in range(0, 30_000, 10)]
    done = shop.sync(items(*range(0, 30_000, 10)), listed(3000, *keys), partitions=keys)
    assert done.complete["items"] == keys


def test_a_source_without_totals_is_complete_with_an_unknown_number(shop: Shop) -> None:
    done = shop.sync(items(1, 2), listed(None))
    assert done.complete["items"] == ["0-9"]
    assert done.counts["items"].expected is None


def test_what_is_missing_marks_its_partitions_and_no_others(shop: Shop) -> None:
    done = shop.sync(
        items(1, 11), listed(1, "10-19"), missing("0-9", "20-29", expected=5), partitions=["0-9", "10-19", "20-29"]
    )
    assert done.complete["items"] == ["10-19"]
    assert done.incomplete["items"] == {"0-9": "page 2: HTTP 502", "20-29": "page 2: HTTP 502"}
    assert report(shop, "run 1").failures == [Failure("page 2", "HTTP 502")]
    assert done.counts["items"].expected == 6
    assert shop.ids() == [1, 11]


@pytest.mark.parametrize("order", [1, -1], ids=["missing first", "checked first"])
def test_a_partition_that_misses_something_is_incomplete_whatever_was_checked(shop: Shop, order: int) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    done = shop.sync(items(1, 2), *[missing(), listed(None)][::order])
    assert not done.is_complete
    assert done.complete["items"] == []
    assert shop.partition()["complete"] == 0
    assert shop.partition()["problem"] == "page 2: HTTP 502"


def test_rows_that_may_be_on_a_missing_page_do_not_vanish(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    shop.sync(items(1, 2), missing(), listed(None))
    assert shop.ids() == [1, 2, 3]


@pytest.mark.parametrize(
    ("partitions", "silent"),
    [
        (["0-9"], []),
        (["0-9", "10-19"], ["10-19"]),
        (["10-19", "20-29"], ["10-19", "20-29"]),
        ([], []),
        (None, []),
    ],
)
def test_a_partition_asked_for_but_not_spoken_of_is_incomplete(
    shop: Shop, partitions: list[str] | None, silent: list[str]
) -> None:
    done = shop.sync(items(1), listed(1), partitions=partitions)
    assert list(done.incomplete["items"]) == silent
    assert all("nothing was fetched for it" in why for why in done.incomplete["items"].values())
    assert report(shop, "run 1").complete == (not silent)


def test_a_whole_table_that_is_not_spoken_of_is_incomplete(shop: Shop) -> None:
    done = shop.sync(notes("a"), tables=(NOTES,))
    assert done.incomplete["notes"] == {None: "notes (all): nothing was fetched for it"}


@pytest.mark.parametrize("event", [missing(), rejected(5, partition=None), rejected(partition=None)])
def test_what_no_partition_can_be_blamed_for_still_makes_the_run_incomplete(shop: Shop, event: Event) -> None:
    named = event if event != missing() else type(event)(ITEMS, (), "page 2", "HTTP 502")  # type: ignore[call-arg, arg-type]
    done = shop.sync(items(1), named)
    assert not done.is_complete
    assert not report(shop, "run 1").complete


def test_a_listing_cut_short_by_an_option_leaves_its_partition_incomplete(shop: Shop) -> None:
    done = shop.sync(items(1), listed(3, limited=True, watermark="2026-02"))
    assert done.complete["items"] == []
    assert done.limited["items"] == ["0-9"]
    assert (shop.partition()["complete"], shop.partition()["watermark"]) == (0, None)


def test_a_listing_cut_short_takes_nothing_from_a_partition_that_was_verified(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3, watermark="2026-01"))
    before = shop.partition()
    done = shop.sync(items(1), listed(3, limited=True, watermark="2026-02"))
    assert done.complete["items"] == []
    assert shop.ids() == [1, 2, 3]
    assert shop.partition() == before


def test_partitions_that_differ_from_the_source_s_counts_are_told_to_the_fetch(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    told: list[str] = []

    def events() -> Iterator[Event]:
        yield items(4)
        compare = Compare(ITEMS, {"0-9": 4, "10-19": 1, "20-29": 0})
        yield compare
        told.extend(compare.differing)
        yield changed()

    stream = Told()
    stream.events = events()
    drain(stream, shop.path, "second", DrainOptions(commit_interval=1000))
    assert told == ["10-19"]


def test_rows_that_must_not_be_kept_are_deleted(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    shop.sync(Erase(ITEMS, "id", (1, 3)), changed())
    assert (shop.ids(), shop.gone()) == ([2], [])


def test_rows_that_were_gone_when_asked_again_do_not_vanish_by_the_hundred(shop: Shop) -> None:
    numbers = range(10)
    done = shop.sync(items(*numbers), listed(1, gone=tuple(range(1, 10))))
    assert "not in the source's answer when it was asked again" in done.incomplete["items"]["0-9"]
    assert shop.gone() == []


def test_a_record_that_two_listings_of_a_run_bring_is_expected_once(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    done = shop.sync(items(2, name="new"), changed(expected=1), items(1, 2, 3), listed(3, again=1))
    counts = done.counts["items"]
    assert (counts.expected, counts.fetched) == (3, 3)


def test_the_limit_counts_rejects_of_all_drains_of_a_run(shop: Shop) -> None:
    first = shop.sync(items(1), rejected(2), listed(2), run_id="run", max_rejects=1)
    assert first.is_complete
    second = shop.sync(items(11), rejected(12, partition="10-19"), listed(2, "10-19"), run_id="run", max_rejects=1)
    assert not second.is_complete
    assert "(2 in all, 1 allowed" in shop.partition("10-19")["problem"]
    assert shop.sync(items(11, 12), listed(2, "10-19"), run_id="next").is_complete


def test_a_reject_whose_partition_could_not_be_read_closes_when_its_record_comes(shop: Shop) -> None:
    assert not shop.sync(items(1), rejected(2, partition=None), listed(2)).is_complete
    assert shop.sync(items(1, 2), listed(2)).is_complete
    assert shop.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0


def test_a_full_listing_mends_a_watermark_that_a_wrong_clock_set(shop: Shop) -> None:
    shop.sync(items(1), listed(1, watermark="2999-01"))
    shop.sync(changed(watermark="2026-01"))
    assert shop.partition()["watermark"] == "2999-01"
    shop.sync(items(1), listed(1, watermark="2026-02"))
    assert shop.partition()["watermark"] == "2026-02"


def test_rejects_that_an_earlier_run_allowed_are_not_forgotten(shop: Shop) -> None:
    done = shop.sync(items(1), rejected(2), listed(2), max_rejects=1)
    assert done.is_complete
    assert shop.sync(changed(), max_rejects=1).is_complete
    assert not shop.sync(changed()).is_complete


# -- changes alone -------------------------------------------------------------------------------------------------


def test_a_listing_of_changes_keeps_what_it_does_not_bring(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    done = shop.sync(items(2, name="new"), changed(totals={"0-9": 3}))
    assert done.complete["items"] == ["0-9"]
    assert done.counts["items"].updated == 1
    assert shop.ids() == [1, 2, 3]
    assert (shop.partition()["stored"], shop.partition()["expected"]) == (3, 3)


def test_changes_do_not_complete_a_partition_that_was_never_listed_in_full(shop: Shop) -> None:
    done = shop.sync(items(2), changed())
    assert done.complete["items"] == []
    assert shop.partition()["complete"] == 0
    assert shop.partition()["verified_at"] is None


def test_fewer_rows_than_the_source_counts_after_changes_are_incomplete_and_listed_in_full_next(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    assert shop.partition()["verified_at"] is not None
    done = shop.sync(items(2), changed(totals={"0-9": 4}))
    assert shop.partition()["verified_at"] is None
    assert not shop.partition()["complete"]
    assert done.complete["items"] == []
    assert not done.is_complete
    assert "the source counts 4 records, 3 are stored and 0 rejected" in shop.partition()["problem"]
    healed = shop.sync(items(1, 2, 3, 4), listed(4))
    assert healed.complete["items"] == ["0-9"]
    assert shop.partition()["problem"] is None


def test_more_rows_than_the_source_counted_before_are_complete_and_listed_in_full_next(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    done = shop.sync(items(4), changed(totals={"0-9": 3}))  # the fourth came after it had counted
    assert shop.partition()["verified_at"] is None
    assert done.complete["items"] == ["0-9"]
    assert done.is_complete


def test_a_problem_is_forgotten_once_changes_come_in_without_one(shop: Shop) -> None:
    shop.sync(items(1), listed(1, watermark="1"))
    shop.sync(missing(full=False))
    assert (shop.partition()["complete"], shop.partition()["problem"]) == (0, "page 2: HTTP 502")
    shop.sync(changed(watermark="2"))
    assert (shop.partition()["complete"], shop.partition()["problem"]) == (1, None)


def test_a_watermark_moves_forward_alone_and_not_past_what_is_missing(shop: Shop) -> None:
    marks = []
    for events in (
        [listed(0, watermark="2026-01-02")],
        [changed(watermark="2026-01-04")],
        [changed(watermark="2026-01-03")],
        [missing(), changed(watermark="2026-01-05")],
        [listed(7, watermark="2026-01-06")],
        [changed()],
        [changed(watermark="2026-01-07")],
    ):
        shop.sync(*events)
        marks.append(shop.partition()["watermark"][-1])
    assert marks == list("2444447")


# -- rejected records ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "bad", "complete"), [(0, 0, True), (0, 1, False), (1, 1, True), (1, 2, False), (5, 3, True)]
)
def test_rejected_records_are_counted_and_over_the_limit_the_partition_is_incomplete(
    shop: Shop, limit: int, bad: int, complete: bool
) -> None:
    refused = [rejected(number) for number in range(bad)]
    done = shop.sync(*refused, items(8, 9, 11), listed(2 + bad), listed(1, "10-19"), max_rejects=limit)
    assert done.counts["items"] == TableCounts(expected=3 + bad, fetched=3, inserted=3, rejected=bad)
    assert done.is_complete == report(shop, "run 1").complete == complete
    assert sorted(done.complete["items"]) == (["0-9", "10-19"] if complete else ["10-19"])  # type: ignore[type-var]
    assert shop.partition()["complete"] == complete
    assert (shop.partition()["stored"], shop.partition()["rejected"], shop.partition()["expected"]) == (2, bad, 2 + bad)
    assert len(done.rejects) == bad
    if not complete:
        assert f"{bad} rejected ({bad} in all, {limit} allowed by --max-rejects)" in done.incomplete["items"]["0-9"]


def test_the_limit_counts_rejects_of_all_tables(shop: Shop) -> None:
    events = [rejected(1), listed(1), rejected("a", partition=None, table=NOTES), listed(1, None, table=NOTES)]
    assert not shop.sync(*events, tables=(ITEMS, NOTES), max_rejects=1).is_complete
    assert shop.sync(*events, tables=(ITEMS, NOTES), max_rejects=2).is_complete


def test_a_record_rejected_twice_in_a_run_is_one(shop: Shop) -> None:
    done = shop.sync(rejected(1), rejected(1), rejected(raw="a"), rejected(raw="b"), rejected(raw="a"), listed(3))
    assert done.counts["items"] == TableCounts(expected=3, rejected=3)


def test_a_row_that_sqlite_cannot_hold_is_a_reject_of_its_partition_with_its_raw_values(shop: Shop) -> None:
    bad = Item(12, stock=2**63)
    done = shop.sync(Rows(ITEMS, [Item(11), bad]), items(1), listed(1), listed(2, "10-19"))
    assert done.counts["items"] == TableCounts(expected=3, fetched=2, inserted=2, rejected=1)
    assert done.complete["items"] == ["0-9"]
    key, partition, reason, raw = shop.one("SELECT record_key, partition, reason, raw FROM _rejects")
    assert (key, partition) == ("12", "10-19")
    assert reason.startswith("SQLite cannot hold it: ")
    assert json.loads(raw) == {"id": 12, "name": None, "price": None, "stock": 2**63}


@pytest.mark.parametrize(
    "bad",
    [Item(None), Item(5, name="\ud800"), Item("x"), Item(5, name=object())],  # type: ignore[arg-type]
    ids=["no id", "lone surrogate", "a text for an id", "an object"],
)
def test_one_bad_row_costs_one_row_whatever_is_wrong_with_it(shop: Shop, bad: Item) -> None:
    shop.sync(items(1, 2), listed(2))
    done = shop.sync(Rows(ITEMS, [Item(1, "new"), bad, Item(2, "new")]), listed(3), max_rejects=1)
    assert done.counts["items"] == TableCounts(expected=3, fetched=2, updated=2, rejected=1)
    assert done.complete["items"] == ["0-9"]
    assert shop.ids() == [1, 2]


def test_a_row_whose_key_sqlite_cannot_hold_costs_no_other_row(shop: Shop) -> None:
    bad = [Item(2**64), Item(-(2**64))]
    done = shop.sync(Rows(ITEMS, [Item(1), *bad]), listed(1))
    assert done.counts["items"].rejected == 2
    assert shop.ids() == [1]
    rest = shop.sync(notes("\ud800", "a"), listed(2, None, table=NOTES), tables=(NOTES,), max_rejects=1)
    assert rest.complete["notes"] == [None]


def test_a_missing_listing_is_to_be_fetched_in_full_again_unless_only_changes_are_missing(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    shop.sync(missing(full=False))
    assert shop.partition()["verified_at"] is not None
    shop.sync(missing())
    assert shop.partition()["verified_at"] is None


def test_a_row_that_came_and_was_gone_before_the_end_vanishes_and_is_accounted_for(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    done = shop.sync(items(1, 2, 3), listed(2, gone=(2,)))
    assert done.counts["items"] == TableCounts(expected=3, fetched=3, unchanged=3, vanished=1)
    assert done.complete["items"] == ["0-9"]
    assert (shop.ids(), shop.gone()) == ([1, 3], [2])


def test_a_rejected_record_does_not_make_its_stored_row_vanish(shop: Shop) -> None:
    shop.sync(items(1, 2, 3, 4), listed(4))
    for reject in (rejected(4), rejected(4, partition=None), rejected(), rejected(partition=None)):
        shop.sync(items(1, 2, 3), reject, listed(4))
        assert shop.ids() == [1, 2, 3, 4]


def test_others_vanish_beside_a_rejected_record_with_a_key(shop: Shop) -> None:
    shop.sync(items(1, 2, 3, 4), listed(4))
    done = shop.sync(items(1, 2), rejected(4), listed(3))
    assert done.counts["items"].vanished == 1
    assert shop.ids() == [1, 2, 4]


def test_a_record_of_unknown_partition_fills_one_gap_and_no_second(shop: Shop) -> None:
    shop.sync(items(1, 11), listed(1), listed(1, "10-19"))
    one = shop.sync(items(1), rejected(partition=None), listed(1), listed(1, "10-19"), max_rejects=5)
    assert one.complete["items"] == ["0-9", "10-19"]
    two = shop.sync(rejected(partition=None), listed(1), listed(1, "10-19"), max_rejects=5)
    assert (two.complete["items"], list(two.incomplete["items"])) == (["0-9"], ["10-19"])


def test_a_reject_is_kept_once_seen_again_and_resolved_when_it_is_gone(shop: Shop) -> None:
    def kept() -> list[tuple[Any, ...]]:
        return shop.ask("SELECT record_key, resolved_at IS NULL, run_id FROM _rejects")

    shop.sync(items(1), rejected(2), listed(2))
    assert kept() == [("2", 1, "run 1")]
    shop.sync(items(1), rejected(2), listed(2))
    assert kept() == [("2", 1, "run 2")]
    assert shop.one("SELECT first_seen <= last_seen FROM _rejects")
    done = shop.sync(items(1, 2), listed(2))
    assert kept() == [("2", 0, "run 2")]
    assert done.complete["items"] == ["0-9"]
    assert (shop.partition()["rejected"], shop.partition()["problem"]) == (0, None)


def test_a_short_listing_resolves_no_rejects(shop: Shop) -> None:
    shop.sync(items(1), rejected(2), listed(2))
    shop.sync(items(1), listed(2))
    assert shop.one("SELECT resolved_at FROM _rejects") is None


def test_a_record_that_is_still_rejected_keeps_its_partition_incomplete_though_nothing_changed(shop: Shop) -> None:
    shop.sync(items(1), rejected(2), listed(2))
    done = shop.sync(changed(totals={"0-9": 2}))
    assert done.complete["items"] == []
    assert (shop.partition()["complete"], shop.partition()["stored"], shop.partition()["rejected"]) == (0, 1, 1)
    assert shop.partition()["verified_at"] is None


def test_a_rejected_record_that_comes_mended_among_changes_is_resolved(shop: Shop) -> None:
    first = [
        items(1),
        rejected(2),
        listed(2),
        rejected(2, "old", table=TAGS),
        tags([2], (2, "new")),
        listed(2, table=TAGS),
    ]
    shop.sync(*first, tables=(ITEMS, TAGS), max_rejects=2)
    events = [items(2), tags([2], (2, "new"), (2, "old")), changed(totals={"0-9": 2}), changed(table=TAGS)]
    done = shop.sync(*events, tables=(ITEMS, TAGS))
    assert done.complete == {"items": ["0-9"], "tags": ["0-9"]}
    assert shop.ask("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == [(0,)]


def test_a_stored_row_whose_newer_state_is_rejected_is_one_record_not_two(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    shop.sync(items(1), rejected(2), listed(2), max_rejects=1)
    assert (shop.partition()["stored"], shop.partition()["rejected"], shop.partition()["expected"]) == (1, 1, 2)
    shop.sync(changed(totals={"0-9": 2}), max_rejects=1)
    assert shop.partition()["verified_at"] is not None
    assert shop.ids() == [1, 2]


# -- vanishing -----------------------------------------------------------------------------------------------------


def test_a_row_that_a_full_listing_did_not_bring_has_vanished_but_is_kept(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    before = shop.one("SELECT last_updated FROM items WHERE id = 3")
    done = shop.sync(items(1, 2), listed(2))
    assert done.counts["items"] == TableCounts(expected=2, fetched=2, unchanged=2, vanished=1)
    assert (shop.ids(), shop.gone()) == ([1, 2], [3])
    assert shop.one("SELECT last_updated FROM items WHERE id = 3") == before
    assert done.is_complete


def test_a_row_that_returns_is_live_again_and_counts_as_updated(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    shop.sync(items(1, 2), listed(2))
    done = shop.sync(items(1, 2, 3), listed(3))
    assert done.counts["items"] == TableCounts(expected=3, fetched=3, updated=1, unchanged=2)
    assert (shop.ids(), shop.gone()) == ([1, 2, 3], [])


def test_a_vanished_row_does_not_vanish_again(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    assert [shop.sync(items(1, 2), listed(2)).counts["items"].vanished for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("expected", [0, None])
def test_an_empty_answer_vanishes_nothing(shop: Shop, expected: int | None) -> None:
    shop.sync(items(1), listed(1))
    done = shop.sync(listed(expected))
    assert shop.ids() == [1]
    assert done.counts["items"].vanished == 0
    assert not done.is_complete


def test_over_the_share_nothing_vanishes_and_the_sentence_names_the_way_out(shop: Shop) -> None:
    codes = [f"{number:03}" for number in range(100)]
    shop.sync(notes(*codes), listed(100, None, table=NOTES), tables=(NOTES,))
    stay = [notes(*codes[:79]), listed(79, None, table=NOTES, watermark="2026")]
    done = shop.sync(*stay, tables=(NOTES,))
    assert done.counts["notes"] == TableCounts(expected=79, fetched=79, unchanged=79)
    assert done.complete["notes"] == []
    assert done.incomplete["notes"] == {
        None: "notes (all): 21 of 100 stored rows were not in the source's answer; nothing was marked as vanished, "
        "since that is more than 20%. If they are really gone, run again with --allow-vanish"
    }
    state = shop.partition("", "notes")
    assert (state["complete"], state["watermark"]) == (0, None)
    agreed = shop.sync(*stay, tables=(NOTES,), allow_vanish=True)
    assert agreed.counts["notes"].vanished == 21
    assert agreed.is_complete
    assert shop.one("SELECT count(*) FROM live_notes") == 79


def test_vanishing_stays_within_the_partitions_that_were_listed(shop: Shop) -> None:
    shop.sync(items(1, 2, 11, 12), listed(2), listed(2, "10-19"))
    shop.sync(items(1), listed(1))
    assert (shop.ids(), shop.gone()) == ([1, 11, 12], [2])


def test_rows_that_another_run_wrote_after_this_one_began_do_not_vanish(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))

    def events() -> Iterator[Event]:
        yield items(1, 2)
        with Store(shop.path, SHOP) as other:
            other.track([ITEMS])
            with other.transaction():
                soon = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
                other.upsert(ITEMS, [Item(4, "fresh")], soon.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        yield listed(2)

    stream = Told()
    stream.events = events()
    done = drain(stream, shop.path, "slow", DrainOptions(commit_interval=1))
    assert (shop.ids(), shop.gone()) == ([1, 2, 4], [3])
    assert done.counts["items"].vanished == 1


# -- pairs ---------------------------------------------------------------------------------------------------------


def pairs(shop: Shop) -> list[tuple[int, str]]:
    return shop.ask("SELECT item_id, word FROM live_tags ORDER BY 1, 2")


def test_fetching_a_parent_again_replaces_all_its_pairs_and_no_others(shop: Shop) -> None:
    shop.sync(tags([1, 2], (1, "a"), (1, "b"), (2, "a")), listed(3, table=TAGS), tables=(TAGS,))
    done = shop.sync(tags([1], (1, "b"), (1, "c")), changed(table=TAGS), tables=(TAGS,))
    assert pairs(shop) == [(1, "b"), (1, "c"), (2, "a")]
    assert done.counts["tags"] == TableCounts(expected=None, fetched=2, inserted=1, unchanged=1, vanished=1)


def test_a_parent_without_pairs_loses_those_it_had(shop: Shop) -> None:
    shop.sync(tags([1, 2], (1, "a"), (2, "a")), listed(2, table=TAGS), tables=(TAGS,))
    shop.sync(tags([1]), changed(table=TAGS), tables=(TAGS,))
    assert pairs(shop) == [(2, "a")]


def test_pairs_without_their_parents_named_replace_nothing(shop: Shop) -> None:
    shop.sync(tags([1], (1, "a")), listed(1, table=TAGS), tables=(TAGS,))
    shop.sync(tags([], (1, "b")), changed(table=TAGS), tables=(TAGS,))
    assert pairs(shop) == [(1, "a"), (1, "b")]


@pytest.mark.parametrize(
    "reject", [rejected(1, "b", table=TAGS), rejected(table=TAGS), rejected(1, "b", partition=None, table=TAGS)]
)
def test_a_rejected_pair_does_not_vanish(shop: Shop, reject: Event) -> None:
    shop.sync(tags([1, 2], (1, "a"), (1, "b"), (2, "a")), listed(3, table=TAGS), tables=(TAGS,))
    shop.sync(reject, tags([1], (1, "a")), changed(table=TAGS), tables=(TAGS,))
    assert pairs(shop) == [(1, "a"), (1, "b"), (2, "a")]


def test_a_pair_that_sqlite_cannot_hold_does_not_vanish(shop: Shop) -> None:
    shop.sync(tags([1, 2], (1, "a"), (1, "b"), (2, "a")), listed(3, table=TAGS), tables=(TAGS,))
    bad = Rows(TAGS, [TAGS.row(1, "a"), TAGS.row(1, "b", 2**63)], [1])
    shop.sync(bad, changed(table=TAGS), tables=(TAGS,))
    assert pairs(shop) == [(1, "a"), (1, "b"), (2, "a")]


def test_pairs_of_many_parents_that_all_lost_theirs_do_not_vanish(shop: Shop) -> None:
    words = [(number, word) for number in range(10) for word in "abc"]
    shop.sync(tags(range(10), *words), listed(30, table=TAGS), tables=(TAGS,))
    done = shop.sync(
        *(tags([number]) for number in range(10)),
        changed(table=TAGS),
        tables=(TAGS,),
        commit_interval=1,
        commit_seconds=0,
    )
    assert len(pairs(shop)) == 24
    assert done.counts["tags"].vanished == 6
    assert "--allow-vanish" in done.incomplete["tags"]["0-9"]
    shop.sync(*(tags([number]) for number in range(10)), changed(table=TAGS), tables=(TAGS,), allow_vanish=True)
    assert pairs(shop) == []


# -- a source that lives -------------------------------------------------------------------------------------------

BLOCKS = ("0-9", "10-19")


class LivingSource(RuleBasedStateMachine):
    """Items come, change, go and break; runs list them in full or fail midway. The file never says what is not so."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.shop = Shop(Path(self.directory.name) / "shop.db")
        self.source: dict[int, Item | None] = {}
        self.stored: dict[int, Item] = {}

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    @rule(
        number=st.integers(0, 19), name=st.none() | st.sampled_from("abc"), price=st.none() | st.floats(allow_nan=False)
    )
    def change(self, number: int, name: str | None, price: float | None) -> None:
        self.source[number] = Item(number, name, price)

    @rule(number=st.integers(0, 19))
    def damage(self, number: int) -> None:
        self.source[number] = None

    @rule(number=st.integers(0, 19))
    def remove(self, number: int) -> None:
        self.source.pop(number, None)

    def answer(self, key: str) -> tuple[list[Event], dict[int, Item], set[int]]:
        low, high = ITEMS.partitioning.bounds(key)  # type: ignore[union-attr]
        here = {number: row for number, row in sorted(self.source.items()) if low <= number <= high}
        events: list[Event] = [
            rejected(number, partition=key) if row is None else Rows(ITEMS, [row]) for number, row in here.items()
        ]
        return events, {n: row for n, row in here.items() if row}, {n for n, row in here.items() if row is None}

    @rule(interval=st.sampled_from([1, 3, 1000]), limit=st.sampled_from([0, 3, 100]))
    def list_in_full(self, interval: int, limit: int) -> None:
        events: list[Event] = []
        good: dict[int, Item] = {}
        bad: dict[str, set[int]] = {}
        for key in BLOCKS:
            found, rows, broken = self.answer(key)
            events += [*found, listed(len(found), key)]
            good |= rows
            bad[key] = broken
        everything_bad = set().union(*bad.values())
        inserted = good.keys() - self.known()
        done = self.shop.sync(
            *events, partitions=BLOCKS, commit_interval=interval, max_rejects=limit, allow_vanish=True
        )
        vanished = self.stored.keys() - good.keys() - everything_bad
        self.stored = {n: row for n, row in self.stored.items() if n in everything_bad} | good
        counts = done.counts["items"]
        assert is_accounted_for(counts)
        assert (counts.rejected, counts.inserted, counts.vanished) == (
            len(everything_bad),
            len(inserted),
            len(vanished),
        )
        over = len(everything_bad) > limit
        assert done.is_complete == report(self.shop, done.run_id).complete == (not over)
        for key in BLOCKS:
            whole = not (over and bad[key])
            assert (key in done.complete["items"]) == whole == bool(self.shop.partition(key)["complete"])
            assert self.shop.partition(key)["rejected"] == len(bad[key])
            assert self.shop.partition(key)["expected"] == self.shop.partition(key)["stored"] + len(bad[key])

    @precondition(lambda self: self.source)
    @rule(data=st.data(), key=st.sampled_from(BLOCKS))
    def lose_a_page(self, data: st.DataObject, key: str) -> None:
        events, rows, _ = self.answer(key)
        cut = data.draw(st.integers(0, len(events)))
        if cut == len(events):
            return
        done = self.shop.sync(*events[:cut], listed(len(events), key), partitions=[key])
        arrived = {event.rows[0].id for event in events[:cut] if isinstance(event, Rows)}  # type: ignore[attr-defined]
        self.stored |= {number: row for number, row in rows.items() if number in arrived}
        assert not done.is_complete
        assert done.counts["items"].vanished == 0
        assert self.shop.partition(key)["complete"] == 0

    def known(self) -> set[int]:
        if not self.shop.path.exists():
            return set()
        return {number for (number,) in self.shop.ask("SELECT id FROM items")}

    @invariant()
    def the_file_holds_what_came(self) -> None:
        if not hasattr(self, "shop") or not self.shop.path.exists():
            return
        held = self.shop.ask("SELECT id, name, price FROM live_items")
        assert {number: Item(number, *values) for number, *values in held} == self.stored


LivingSource.TestCase.settings = settings(max_examples=25, stateful_step_count=12)
TestLivingSource = LivingSource.TestCase


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from([items(1), items(1, 2), items(2, name="x"), rejected(3), rejected(4), items(5), items(11)])
    ),
    st.sampled_from([1, 2, 1000]),
)
def test_fetched_and_rejected_do_not_depend_on_repeats_or_on_where_transactions_end(
    events: list[Event], interval: int
) -> None:
    rows = {row.id: row for event in events if isinstance(event, Rows) for row in event.rows}  # type: ignore[attr-defined]
    bad = {event.key for event in events if not isinstance(event, Rows)}  # type: ignore[union-attr]
    total = len(rows) + len(bad)
    with tempfile.TemporaryDirectory() as directory:
        shop = Shop(Path(directory) / "shop.db")
        for _ in range(2):
            done = shop.sync(*events, listed(total, *BLOCKS), commit_interval=interval, max_rejects=9)
            counts = done.counts["items"]
            assert is_accounted_for(counts)
            assert (counts.expected, counts.fetched, counts.rejected) == (total, len(rows), len(bad))
            assert done.complete["items"] == list(BLOCKS)
        held = shop.ask("SELECT id, name FROM live_items")
        assert dict(held) == {number: row.name for number, row in rows.items()}


# -- trouble -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def draining(path: Path, run_id: str, *what: str | int) -> Iterator[subprocess.Popen[str]]:
    """A process that drains; see its module for what may become of it."""
    command = [sys.executable, "-m", drain_child.__name__, str(path), run_id, *map(str, what)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with killed_at_last(process) as child:
        yield child


def lines(child: subprocess.Popen[str]) -> list[str]:
    """All that it prints until its end."""
    return child.communicate(timeout=COMMAND_SECONDS)[0].splitlines()


def everything(shop: Shop) -> tuple[list[Any], list[Any]]:
    return (
        shop.ask("SELECT rowid, id, name, price, stock, vanished_at FROM items ORDER BY id"),
        shop.ask("SELECT item_id, word, weight, vanished_at FROM tags ORDER BY 1, 2"),
    )


def rerun(shop: Shop) -> Drained:
    stream = Told(tables=(ITEMS, TAGS))
    stream.events = drain_child.events()
    return drain(stream, shop.path, "rerun")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    shop = Shop(tmp_path_factory.mktemp("undisturbed") / "shop.db")
    assert rerun(shop).is_complete
    return everything(shop)


@pytest.mark.parametrize("where", ["die-behind", "die-within"])
@pytest.mark.parametrize("after", [1, 3, 4, 8, 12])
def test_a_killed_run_leaves_a_sound_file_with_all_that_was_committed_and_the_next_run_goes_on(
    shop: Shop, undisturbed: tuple[list[Any], list[Any]], after: int, where: str
) -> None:
    with draining(shop.path, "killed", where, after) as child:
        commits = lines(child)
    assert child.returncode == -signal.SIGKILL
    assert len(commits) == after
    assert shop.is_sound()
    kept = shop.one("SELECT (SELECT count(*) FROM items) + (SELECT count(*) FROM tags)")
    assert kept == int(commits[-1]) > 0
    found = report(shop, "killed")
    assert sum(counts.fetched for counts in found.tables.values()) == kept
    assert not found.complete
    without_parents = shop.one("SELECT count(*) FROM tags t LEFT JOIN items i ON i.id = t.item_id WHERE i.id IS NULL")
    assert without_parents == 0
    done = rerun(shop)
    assert done.is_complete
    assert sum(counts.inserted for counts in done.counts.values()) == 3 * drain_child.COUNT - kept
    assert everything(shop) == undisturbed


def test_a_full_disk_is_told_and_costs_nothing_that_was_committed(
    shop: Shop, undisturbed: tuple[list[Any], list[Any]]
) -> None:
    with draining(shop.path, "starved", "starve", 600_000) as child:
        *commits, sentence = lines(child)
    assert child.returncode == 0
    assert sentence.startswith(f"refused {shop.path} cannot be written")
    assert "the disk is full, over its quota, or failing. What was committed before is kept" in sentence
    assert shop.is_sound()
    kept = shop.one("SELECT (SELECT count(*) FROM items) + (SELECT count(*) FROM tags)")
    assert 0 < int(commits[-1]) == kept
    assert rerun(shop).is_complete
    assert everything(shop) == undisturbed


def test_two_runs_at_once_in_two_processes_both_succeed_with_the_rows_of_one(
    shop: Shop, undisturbed: tuple[list[Any], list[Any]]
) -> None:
    with draining(shop.path, "one", "race", 1) as one, draining(shop.path, "two", "race", 1) as two:
        for child in (one, two):
            assert int(line_of(child, child.stdout)) > 0
        # both are in the midst of it now
        for child in (one, two):
            assert child.stdin
            child.stdin.write("go\n")
            child.stdin.flush()
        ends = [lines(child)[-1] for child in (one, two)]
    counts = []
    for end in ends:
        word, complete, told = end.split(" ", 2)
        assert (word, complete) == ("done", "True")
        counts.append(json.loads(told))
    for table, total in (("items", drain_child.COUNT), ("tags", 2 * drain_child.COUNT)):
        assert [run[table]["fetched"] for run in counts] == [total, total]
        assert sum(run[table]["inserted"] for run in counts) == total
        assert sum(run[table]["unchanged"] for run in counts) == total
        assert [(run[table]["updated"], run[table]["vanished"]) for run in counts] == [(0, 0), (0, 0)]
    assert shop.is_sound()
    rows, words = everything(shop)
    assert (rows, words) == undisturbed
