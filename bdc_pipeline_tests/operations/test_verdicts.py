"""What checks find in a file: all there, current, sound, plausible, as quick as usual."""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.operations import verdicts
from bdc_pipeline.operations.facts import Reference, Rule, dated, one_of
from bdc_pipeline.operations.standing import opened, read_ledger
from bdc_pipeline.operations.verdicts import Pace, Verdict
from bdc_pipeline.operations.windows import Problem
from bdc_pipeline_tests.operations import watched as w
from bdc_pipeline_tests.warehouse.shop import ITEMS, NOTES, TAGS, Shop, items, listed, rejected, tags


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


def complete(shop: Shop, own: Collection[str] | None = None, run_id: str = "", **given: Any) -> Verdict:
    """The verdict on the shop's items, as a check comes to it."""
    standing = w.standings(shop, **given)["items"]
    with closing(opened(shop.path)) as connection:
        noted = read_ledger(connection).noted["items"]
        held = verdicts.held_rows(connection, ITEMS, noted, own, run_id)
        assert standing.last_run
        vanished = verdicts.vanished_in(connection, ITEMS, standing.last_run.run_id)
    return verdicts.complete(w.watched(**given), standing, noted, own=own, held=held, vanished=vanished)


# -- all there -------------------------------------------------------------------------------------------------


def test_what_was_counted_and_is_stored_is_complete(shop: Shop) -> None:
    shop.sync(items(1, 2, 11), listed(2), listed(1, "10-19"))
    found = complete(shop)
    assert found.passed
    assert found.numbers["stored"] == found.numbers["expected"] == 3
    assert found.numbers["complete_partitions"] == found.numbers["partitions"] == 2


def test_rows_that_something_else_has_deleted_are_missed(shop: Shop) -> None:
    shop.sync(items(1, 2, 11), listed(2), listed(1, "10-19"))
    with shop.connected() as connection:
        connection.execute("DELETE FROM items WHERE id = 2")
    found = complete(shop)
    assert (found.passed, found.severe) == (False, True)
    assert "0-9 Shelf: the file holds 1 rows, and the ledger counted 2" in found.says


def test_rows_that_something_else_has_added_are_noticed(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with shop.connected() as connection:
        connection.execute("INSERT INTO items (id, stock, last_updated) VALUES (5, 1, '2026')")
    assert "the file holds 2 rows, and the ledger counted 1" in complete(shop).says


def test_a_run_answers_for_its_own_partitions_and_only_mentions_others(shop: Shop) -> None:
    shop.sync(items(1, 11), listed(1), listed(2, "10-19"))
    shop.sync(items(21), listed(1, "20-29"), run_id="mine")
    mine = complete(shop, own=["20-29"], run_id="mine")
    assert (mine.passed, mine.severe) == (False, False)
    assert mine.says.startswith("incomplete: 1 of 3: 10-19 Shelf")
    theirs = complete(shop, own=["10-19"], run_id="run 1")
    assert (theirs.passed, theirs.severe) == (False, True)


def test_more_rejects_than_the_share_are_too_many_even_where_a_run_was_allowed_them(shop: Shop) -> None:
    shop.sync(items(*range(1, 9)), rejected(9), listed(9), max_rejects=5)
    assert w.standings(shop)["items"].state == "fresh"
    found = complete(shop)
    assert "1 of 9 records are rejected, more than 1%" in found.says
    assert complete(shop, reject_share=0.2).passed


def test_many_rows_that_vanished_at_once_are_worth_a_look_also_where_that_was_allowed(shop: Shop) -> None:
    shop.sync(items(*range(10)), listed(10))
    shop.sync(items(0, 1), listed(2), allow_vanish=True)
    found = complete(shop)
    assert (found.passed, found.severe) == (False, False)
    assert found.says == "8 of 10 rows vanished in the latest run"
    shop.sync(items(0, 1), listed(2))
    assert complete(shop).passed


# -- current ---------------------------------------------------------------------------------------------------


def test_stale_partitions_are_a_warning_with_their_names_and_ages(shop: Shop) -> None:
    shop.sync(items(1, 11), listed(1), listed(1, "10-19"))
    assert verdicts.current(w.standings(shop)["items"]).passed
    w.age(shop, 9, "10-19")
    found = verdicts.current(w.standings(shop)["items"])
    assert (found.passed, found.severe) == (False, False)
    assert found.says == "stale: 1 of 2: 10-19 Shelf 9 days"
    assert found.numbers["window_hours"] == 168
    assert found.numbers["oldest_hours"] == pytest.approx(216, abs=0.1)


def test_a_setting_that_cannot_be_used_is_told_by_the_sources_own_checks(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    problems = [Problem("shop/items", "wrong"), Problem("other", "not mine")]
    found = verdicts.current(w.standings(shop)["items"], problems)
    assert (found.passed, found.says) == (False, "wrong")


# -- sound -----------------------------------------------------------------------------------------------------


def sound(shop: Shop, table: Any = TAGS, partitions: Collection[str] | None = None, **given: Any) -> Verdict:
    with closing(opened(shop.path)) as connection:
        return verdicts.sound(connection, w.watched(**given), table, partitions)


def test_rows_that_refer_to_nothing_are_counted_and_shown(shop: Shop) -> None:
    shop.sync(items(1), listed(1), tags([1], (1, "red"), (11, "blue")), listed(None, table=TAGS), tables=(ITEMS, TAGS))
    found = sound(shop)
    assert found.says == "1 of 2 rows name a item_id that is none of items"
    assert found.shown == [{"row": "item_id 11, word blue", "problem": "no such items"}]
    assert sound(shop, partitions=["0-9"]).passed
    assert not sound(shop, partitions=["10-19"]).passed
    assert not sound(shop, partitions=[f"{low}-{low + 9}" for low in range(0, 1000, 10)]).passed


def test_a_share_of_rows_may_refer_to_nothing_where_the_source_is_known_for_it(shop: Shop) -> None:
    shop.sync(items(1), tags([1], (1, "red"), (11, "blue")), tables=(ITEMS, TAGS))
    few = (Reference("tags", "item_id", "items", share=0.5),)
    found = sound(shop, references=few)
    assert found.passed
    assert found.numbers["item_id_without_items"] == 1


def test_a_row_whose_parent_has_vanished_refers_to_nothing_and_one_that_vanished_too_does_not_count(shop: Shop) -> None:
    shop.sync(items(1, 2), tags([1], (1, "red")), tables=(ITEMS, TAGS))
    with shop.connected() as connection:
        connection.execute("UPDATE items SET vanished_at = '2026' WHERE id = 1")
    assert not sound(shop).passed
    with shop.connected() as connection:
        connection.execute("UPDATE tags SET vanished_at = '2026'")
    assert sound(shop).passed


def test_keys_that_occur_twice_are_found_in_a_file_that_lost_its_primary_key(shop: Shop) -> None:
    shop.sync(tags([1], (1, "red")), tables=(TAGS,))
    assert sound(shop, references=()).numbers["keys_twice"] == 0
    with shop.connected() as connection:
        connection.executescript(
            "CREATE TABLE t2 AS SELECT * FROM tags; INSERT INTO t2 SELECT * FROM tags; DROP VIEW live_tags; "
            "DROP TABLE tags; ALTER TABLE t2 RENAME TO tags"
        )
    found = sound(shop, references=())
    assert (found.passed, found.says) == (False, "1 keys occur more than once")


def test_a_table_keyed_by_the_rows_number_needs_no_count_of_its_keys(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    assert "keys_twice" not in sound(shop, ITEMS).numbers


# -- plausible -------------------------------------------------------------------------------------------------


def plausible(shop: Shop, partitions: Collection[str] | None = None, **given: Any) -> Verdict:
    with closing(opened(shop.path)) as connection:
        return verdicts.plausible(connection, w.watched(**given), ITEMS, partitions)


def test_values_out_of_range_are_counted_by_rule_and_shown_by_key(shop: Shop) -> None:
    shop.sync(items(1, price=50.0), items(2, price=101.0), items(3, price=None, stock=-1), items(12, price=-1.0))
    found = plausible(shop)
    assert (found.passed, found.severe) == (False, False)
    assert found.says == ("2 of 4 rows break: price from 0 to 100 DKK; 1 of 4 rows break: stock not negative")
    assert {"row": "id 12", "problem": "breaks: price from 0 to 100 DKK"} in found.shown
    assert found.numbers["implausible"] == 3
    assert plausible(shop, ["10-19"]).says == "1 of 1 rows break: price from 0 to 100 DKK"


def test_a_value_that_is_not_known_breaks_no_rule(shop: Shop) -> None:
    shop.sync(items(1, price=None))
    assert plausible(shop).passed


def test_a_share_of_rows_may_break_a_rule_where_the_source_is_known_for_it(shop: Shop) -> None:
    shop.sync(items(1, stock=1), items(2, stock=-1))
    assert plausible(shop, rules=(Rule("items", "stock", "stock >= 0", share=0.5),)).passed
    assert not plausible(shop, rules=(Rule("items", "stock", "stock >= 0", share=0.4),)).passed


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (one_of("t", "v", "it's", "that"), ["it's", None], ["its"]),
        (dated("t", "v"), ["2026-02-28", "2026-02-28T10:00:00Z", None], ["yesterday", "2026-13-01", ""]),
    ],
)
def test_rules_of_texts(rule: Rule, good: list[Any], bad: list[Any]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (v)")
        connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in (*good, *bad)])
        broken = connection.execute(f"SELECT v FROM t WHERE NOT ({rule.sql})").fetchall()
    assert [value for (value,) in broken] == bad


# -- as quick as usual -----------------------------------------------------------------------------------------


def run(seconds: float, requests: int = 100, records: int = 1000, tables: Collection[str] = ("items",)) -> Pace:
    return Pace("", seconds, requests, records, frozenset(tables))


@pytest.mark.parametrize(
    ("latest", "history", "passed"),
    [
        (run(10), [run(10)] * 5, True),
        (run(29), [run(10)] * 5, True),
        (run(31), [run(10)] * 5, False),
        (run(31), [run(10)] * 4, True),  # too few to say
        (run(31), [run(10), run(10), run(30), run(30), run(30)], True),  # the median
        (run(0.9), [run(0.1)] * 5, True),  # no second above the usual
        (run(31), [run(10, requests=201)] * 5, True),  # other runs did more
        (run(31), [run(10, records=499)] * 5, True),  # or less
        (run(31), [run(10, tables=("tags",))] * 5, True),  # or something else
        (run(31, requests=150), [run(10)] * 5, False),
    ],
)
def test_a_run_is_slow_at_three_times_what_runs_like_it_take(latest: Pace, history: list[Pace], passed: bool) -> None:
    assert verdicts.usual_pace([latest, *history]).passed == passed


def test_a_slow_run_is_told_with_both_rates() -> None:
    found = verdicts.usual_pace([run(40), *[run(10)] * 5])
    assert found.says == "the run took 40.0 s (25 records/s), where 5 like it took 10.0 s (100 records/s)"
    assert found.numbers["usual_seconds"] == 10.0
    assert not found.severe


def test_a_limit_of_seconds_holds_whatever_is_usual() -> None:
    assert verdicts.usual_pace([run(6)], slow_after=5.0).says == "the run took 6.0 s, more than the 5 s that are set"
    assert verdicts.usual_pace([run(4)], slow_after=5.0).passed
    assert verdicts.usual_pace([], problems=[Problem("shop", "wrong")]).says == "wrong"


def test_history_is_read_from_complete_runs_over_the_same_tables_the_named_one_first(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    shop.sync(items(1, 2), listed(2))
    shop.sync(items(1, 2), listed(3))  # incomplete
    shop.sync(tables=(NOTES,))
    shop.sync(items(1, 2), listed(2))
    with closing(opened(shop.path)) as connection:
        assert [pace.run_id for pace in verdicts.paces(connection, {"items"})] == ["run 5", "run 2", "run 1"]
        named = verdicts.paces(connection, {"items"}, "run 1")
    assert [pace.run_id for pace in named] == ["run 1", "run 5", "run 2"]
    assert named[2].records == 2
