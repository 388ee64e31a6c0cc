"""What a run makes of records that are known, of rows that belong to others' records, and of tables gathered along."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bdc_pipeline.warehouse.drain import Drained, DrainOptions, drain
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.stream import Checked, Erase, Event, Known, Missing, Reject, Rows, Same
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import ITEMS, Shop, Told, items, listed


class Home(msgspec.Struct, frozen=True):
    """A home in a town."""

    id: int
    town: int
    name: str = ""


class Room(msgspec.Struct, frozen=True):
    """A room of a home."""

    home_id: int
    town: int
    number: int
    size: int = 1


class Road(msgspec.Struct, frozen=True):
    """A road that homes name."""

    name: str


HOMES = Table(Home, "homes", partitioning=ByValue("town", digits=4), fingerprinted=True)
ROOMS = Table(
    Room, "rooms", key=("home_id", "number"), partitioning=ByValue("town", digits=4), parent="home_id", owner="homes"
)
ROADS = Table(Road, "roads", key=("name",), gathered_with="homes")
TABLES = (HOMES, ROOMS, ROADS)
TOWNS = Schema("towns", TABLES)

Record = tuple[Any, ...]
"""A home's id, its name, and the sizes of its rooms: all that a record says."""


def hash_of(record: Record) -> int:
    (found,) = TOWNS.fingerprints([repr(record).encode()])
    return found


class Towns:
    """A source of homes, listed page by page in one run after another."""

    def __init__(self, path: Path) -> None:
        self.shop = Shop(path)
        self.path = path
        self.runs = 0

    def page(self, records: list[Record], town: int, known: Known, *, unique: bool = False) -> Iterator[Event]:
        """What a page of records brings: those that are not known, with their rooms and roads."""
        fresh, same = known.fingerprints.sift([hash_of(record) for record in records])
        if same:
            yield Same(HOMES, same)
        found = [records[place] for place in fresh]
        if not found:
            return
        yield Rows(ROADS, [Road(f"road of {name}") for _, name, _ in found])
        homes = [Home(number, town, name) for number, name, _ in found]
        yield Rows(HOMES, homes, hashes=[hash_of(record) for record in found], unique=unique)
        rooms = [Room(number, town, place, size) for number, _, sizes in found for place, size in enumerate(sizes)]
        yield Rows(ROOMS, rooms, [number for number, _, _ in found])

    def visit(self, *pages: list[Record], town: int = 101, unique: bool = False, **checked: Any) -> Iterator[Event]:
        """A listing of a town in full."""
        key = f"{town:04d}"
        known = Known(HOMES, key)
        yield known
        for page in pages:
            yield from self.page(page, town, known, unique=unique)
        total = len({record[0] for page in pages for record in page})
        yield Checked(HOMES, (key,), **({"expected": total, "full": True} | checked))
        yield Checked(ROOMS, (key,), None, full=True, limited=bool(checked.get("limited")))

    def sync(self, *events: Iterator[Event] | list[Event], **options: Any) -> Drained:
        self.runs += 1
        stream = Told(tables=TABLES, schema=TOWNS)
        stream.events = (event for group in events for event in group)
        return drain(stream, self.path, f"run {self.runs}", DrainOptions(**options))

    def list(self, *pages: list[Record], **more: Any) -> Drained:
        return self.sync(self.visit(*pages, **more))

    def homes(self) -> dict[int, str]:
        return dict(self.shop.ask("SELECT id, name FROM live_homes ORDER BY id"))

    def rooms(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number, size in self.shop.ask("SELECT home_id, size FROM live_rooms ORDER BY home_id, number"):
            found.setdefault(number, []).append(size)
        return found

    def stamped(self, table: str = "rooms") -> set[tuple[Any, ...]]:
        return set(self.shop.ask(f"SELECT rowid, * FROM {table}"))


def some(*numbers: int, name: str = "x", sizes: tuple[int, ...] = (10, 20)) -> list[Record]:
    return [(number, name, sizes) for number in numbers]


@pytest.fixture
def towns(tmp_path: Path) -> Towns:
    return Towns(tmp_path / "towns.db")


# -- known records -------------------------------------------------------------------------------------------------


def test_records_that_are_known_are_told_as_the_same_and_stay(towns: Towns) -> None:
    towns.list(some(1, 2, 3))
    before = towns.stamped("homes")
    done = towns.list(some(1, 2, 3))
    assert done.counts["homes"] == TableCounts(expected=3, fetched=3, unchanged=3)
    assert done.complete["homes"] == ["0101"]
    assert towns.stamped("homes") == before


@pytest.mark.parametrize("interval", [1, 1000])
def test_a_known_record_that_does_not_come_vanishes_and_one_that_is_rejected_does_not(
    towns: Towns, interval: int
) -> None:
    towns.list(some(*range(10)))
    reject = Reject(HOMES, "0101", (7,), "no name", "{}")
    done = towns.sync([reject], towns.visit(some(*range(7)), expected=8), commit_interval=interval, max_rejects=1)
    assert done.counts["homes"] == TableCounts(expected=8, fetched=7, unchanged=7, vanished=2, rejected=1)
    assert list(towns.homes()) == list(range(8))


def test_rows_of_other_towns_are_neither_known_nor_vanish(towns: Towns) -> None:
    towns.sync(towns.visit(some(1, 2)), towns.visit(some(11, 12), town=102))
    done = towns.list(some(1, 2))
    assert list(towns.homes()) == [1, 2, 11, 12]
    assert done.partition_counts["homes"] == {"0101": 2}


@pytest.mark.parametrize(
    "pages",
    [
        [some(1, 2), some(2, name="new")],
        [some(1, 2), some(2, name="new"), some(2, name="new")],
        [some(1, 2), some(2, name="newer"), some(2, name="new")],
    ],
    ids=["then changed", "then changed twice alike", "then changed twice"],
)
@pytest.mark.parametrize("interval", [1, 1000])
def test_a_record_that_comes_as_it_is_stored_and_then_changed_counts_once(
    towns: Towns, pages: list[list[Record]], interval: int
) -> None:
    towns.list(some(1, 2))
    done = towns.sync(towns.visit(*pages), commit_interval=interval)
    assert done.counts["homes"] == TableCounts(expected=2, fetched=2, updated=1, unchanged=1)
    assert done.is_complete
    assert towns.homes() == {1: "x", 2: "new"}
    assert towns.list(some(1), some(2, name="new")).counts["homes"].unchanged == 2


@pytest.mark.parametrize("interval", [1, 1000])
def test_a_record_that_comes_twice_as_it_is_stored_and_then_changed_counts_once(towns: Towns, interval: int) -> None:
    towns.list(some(1, 2))
    done = towns.sync(towns.visit(some(1, 2), some(2), some(2, name="new")), commit_interval=interval)
    counts = done.counts["homes"]
    # a change within a run is counted where it is seen in one transaction
    assert (counts.expected, counts.fetched, counts.updated + counts.unchanged) == (2, 2, 2)
    assert done.is_complete
    assert towns.homes() == {1: "x", 2: "new"}


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("interval", [1, 1000])
def test_a_known_record_that_comes_on_several_pages_counts_once(towns: Towns, times: int, interval: int) -> None:
    towns.list(some(1, 2))
    done = towns.sync(towns.visit(some(1, 2), *[some(2)] * times), commit_interval=interval)
    assert done.counts["homes"] == TableCounts(expected=2, fetched=2, unchanged=2)
    assert done.is_complete


def test_a_known_record_that_is_gone_before_the_end_vanishes_and_is_accounted_for(towns: Towns) -> None:
    towns.list(some(*range(10)))
    done = towns.list(some(*range(10)), expected=9, gone=(3,))
    assert done.is_complete
    assert done.counts["homes"] == TableCounts(expected=10, fetched=10, unchanged=10, vanished=1)
    assert 3 not in towns.homes()
    assert towns.list(some(0, 1, 2, *range(4, 10))).is_complete


def test_a_row_that_sqlite_cannot_hold_is_a_reject_beside_known_ones(towns: Towns) -> None:
    towns.list(some(1, 2))
    done = towns.list(some(1, 2), some(2, name="\ud800"), some(2**63), some(4), expected=4)
    refused = [reject.key for reject in done.rejects if reject.table is HOMES]
    assert sorted(refused) == [(2,), (2**63,)]
    assert towns.homes() == {1: "x", 2: "x", 4: "x"}
    assert done.counts["homes"].fetched == 3


def test_rows_with_and_without_fingerprints_may_come_in_one_transaction(towns: Towns) -> None:
    def events() -> Iterator[Event]:
        *listing, _, rooms = towns.visit(some(1, 2))
        yield from listing
        yield Rows(HOMES, [Home(3, 101, "by hand"), Home(3, 101, "twice")])
        yield from towns.page(some(4), 101, Known(HOMES, "0101"))
        yield Checked(HOMES, ("0101",), 4, full=True)
        yield rooms

    done = towns.sync(events())
    assert done.counts["homes"] == TableCounts(expected=4, fetched=4, inserted=4)
    assert towns.homes() == {1: "x", 2: "x", 3: "twice", 4: "x"}
    assert towns.shop.ask("SELECT id FROM homes WHERE raw_hash IS NULL") == [(3,)]


def test_whether_keys_are_unique_holds_for_the_rows_it_was_said_of(towns: Towns) -> None:
    def events() -> Iterator[Event]:
        yield from towns.page(some(1), 101, Known(HOMES, "0101"), unique=True)
        yield from towns.page(some(1, name="new"), 101, Known(HOMES, "0101"))
        yield from towns.page(some(1, name="other"), 101, Known(HOMES, "0101"), unique=True)

    done = towns.sync(events())
    assert towns.homes() == {1: "new"}
    assert [reject.key for reject in done.rejects] == [(1, "again")]


def test_rows_that_came_and_must_not_be_kept_are_not_missed(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop.db")
    done = shop.sync(items(1, 2, 3), Erase(ITEMS, "name", ("item 3",)), listed(2))
    assert done.is_complete
    assert shop.ids() == [1, 2]


# -- rows that belong to others' records ---------------------------------------------------------------------------


def test_rows_of_a_record_that_has_not_changed_stay_and_count_as_fetched(towns: Towns) -> None:
    towns.list(some(1, 2, 3))
    before = towns.stamped()
    done = towns.list(some(1, 2), some(3, name="new"))
    assert done.counts["rooms"] == TableCounts(expected=None, fetched=6, unchanged=6)
    assert towns.stamped() == before
    assert done.complete["rooms"] == ["0101"]


def test_rows_of_a_changed_record_are_replaced(towns: Towns) -> None:
    towns.list(some(*range(10)))
    done = towns.list(some(*range(9)), some(9, sizes=(10, 25)))
    assert done.counts["rooms"] == TableCounts(expected=None, fetched=20, updated=1, unchanged=19)
    done = towns.list(some(*range(9)), some(9, sizes=(10, 25, 30)))
    assert done.counts["rooms"] == TableCounts(expected=None, fetched=21, inserted=1, unchanged=20)
    done = towns.list(some(*range(9)), some(9, sizes=()))
    assert done.counts["rooms"] == TableCounts(expected=None, fetched=18, unchanged=18, vanished=3)
    assert towns.rooms() == {number: [10, 20] for number in range(9)}


def test_rows_of_a_vanished_record_vanish_and_come_back_with_it(towns: Towns) -> None:
    towns.list(some(*range(10)))
    done = towns.list(some(*range(9)))
    assert done.counts["rooms"] == TableCounts(expected=None, fetched=18, unchanged=18, vanished=2)
    assert 9 not in towns.rooms()
    done = towns.list(some(*range(10)))
    assert done.counts["rooms"] == TableCounts(expected=None, fetched=20, unchanged=18, updated=2)
    assert towns.rooms() == {number: [10, 20] for number in range(10)}


def test_rows_stay_with_records_that_could_not_all_vanish(towns: Towns) -> None:
    towns.list(some(*range(20)))
    done = towns.list(some(1))
    assert list(done.incomplete["homes"]) == list(done.incomplete["rooms"]) == ["0101"]
    assert len(towns.rooms()) == 20
    assert towns.list(some(1), expected=1).complete["rooms"] == []
    assert towns.sync(towns.visit(some(1)), allow_vanish=True).is_complete
    assert towns.rooms() == {1: [10, 20]}


def test_rows_are_incomplete_with_the_record_s_table(towns: Towns) -> None:
    towns.sync(towns.visit(some(1)), towns.visit(some(11), town=102))
    missing = Missing(HOMES, ("0101",), "page 2", "HTTP 502")
    done = towns.sync([missing, Checked(ROOMS, ("0101",), None, full=True)], towns.visit(some(11), town=102))
    assert list(done.incomplete["rooms"]) == ["0101"]
    assert done.complete["rooms"] == ["0102"]
    assert towns.shop.partition("0101", "rooms")["complete"] == 0
    assert towns.rooms() == {1: [10, 20], 11: [10, 20]}
    done = towns.sync(towns.visit(some(1)), towns.visit(some(11), town=102))
    assert sorted(done.complete["rooms"], key=str) == ["0101", "0102"]


# -- tables that are gathered along --------------------------------------------------------------------------------


def roads(towns: Towns) -> tuple[int, str | None]:
    entry = towns.shop.partition("", "roads")
    return entry["complete"], entry["problem"]


def test_a_table_gathered_along_is_complete_with_the_one_that_brings_it_and_never_vanishes(towns: Towns) -> None:
    done = towns.list(some(1), some(2, name="y"))
    assert done.complete["roads"] == ["0101"]
    assert roads(towns) == (1, None)
    towns.sync(towns.visit(some(1, name="z")), allow_vanish=True)
    assert towns.shop.ask("SELECT name FROM live_roads ORDER BY 1") == [("road of x",), ("road of y",), ("road of z",)]


def test_a_table_gathered_along_is_incomplete_with_the_one_that_brings_it_until_that_is_mended(towns: Towns) -> None:
    done = towns.list(some(1), expected=5)
    assert list(done.incomplete["roads"]) == ["0101"]
    assert done.complete["roads"] == []
    assert roads(towns)[0] == 0
    towns.list(some(1))
    assert roads(towns) == (1, None)


def test_a_rejected_row_of_a_table_gathered_along_makes_it_incomplete_until_the_next_run(towns: Towns) -> None:
    done = towns.sync([Reject(ROADS, None, ("a",), "no name", "{}")], towns.visit(some(1)))
    assert None in done.incomplete["roads"]
    assert roads(towns)[0] == 0
    assert "rejected" in (roads(towns)[1] or "")
    assert towns.list(some(1)).is_complete
    assert roads(towns) == (1, None)


def test_a_table_gathered_along_a_limited_listing_is_not_complete(towns: Towns) -> None:
    done = towns.list(some(1), expected=1, limited=True)
    assert done.limited["roads"] == ["0101"]
    assert done.complete["roads"] == []
    assert roads(towns)[0] == 0
    towns.list(some(1))
    assert roads(towns)[0] == 1
    towns.list(some(1), expected=1, limited=True)
    assert roads(towns)[0] == 1


# -- a source that lives -------------------------------------------------------------------------------------------


class LivingTowns(RuleBasedStateMachine):
    """Homes come, change, are listed twice, lose rooms and go; the counts add up, and the file holds what the source does."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.towns = Towns(Path(self.directory.name) / "towns.db")
        self.source: dict[int, Record] = {}
        self.held: dict[int, Record] = {}
        self.ever: set[int] = set()

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    @rule(number=st.integers(0, 9), name=st.sampled_from("xy"), sizes=st.lists(st.integers(1, 3), max_size=3))
    def put(self, number: int, name: str, sizes: list[int]) -> None:
        self.source[number] = (number, name, tuple(sizes))

    @rule(number=st.integers(0, 9))
    def remove(self, number: int) -> None:
        self.source.pop(number, None)

    @rule(
        interval=st.sampled_from([1, 3, 1000]),
        size=st.integers(1, 4),
        twice=st.sets(st.integers(0, 9)),
        late=st.sets(st.integers(0, 9)),
    )
    def list_in_full(self, interval: int, size: int, twice: set[int], late: set[int]) -> None:
        """Some records come on two pages; some of these have changed in between."""
        records = list(self.source.values())
        for number in twice & self.source.keys():
            _, name, sizes = self.source[number]
            # a name that no version had before
            self.source[number] = (number, f"late {self.towns.runs}" if number in late else name, sizes)
            records.append(self.source[number])
        pages = [records[at : at + size] for at in range(0, len(records), size)]
        done = self.towns.sync(self.towns.visit(*pages), commit_interval=interval, allow_vanish=True)
        homes = done.counts["homes"]
        assert done.is_complete
        assert homes.expected == homes.fetched == len(self.source)
        assert homes.inserted == len(self.source.keys() - self.ever)
        assert homes.vanished == len(self.held.keys() - self.source.keys())
        for name in ("homes", "rooms"):
            counts = done.counts[name]
            assert counts.fetched == counts.inserted + counts.updated + counts.unchanged
            assert min(counts.inserted, counts.updated, counts.unchanged) >= 0
        rooms = sum(len(sizes) for _, _, sizes in self.source.values())
        assert done.counts["rooms"].fetched == rooms == done.partition_counts["rooms"]["0101"]
        assert self.towns.homes() == {number: name for number, name, _ in self.source.values()}
        assert self.towns.rooms() == {number: list(sizes) for number, _, sizes in self.source.values() if sizes}
        self.held, self.ever = dict(self.source), self.ever | self.source.keys()


LivingTowns.TestCase.settings = settings(max_examples=25, stateful_step_count=12)
TestLivingTowns = LivingTowns.TestCase
