"""Loading documents in all modes: what is read, what is skipped, what vanishes, and what a damaged document costs."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bdc_pipeline.warehouse import documents as documents_module
from bdc_pipeline.warehouse.documents import PORTION, Document, DocumentStream, Kind, Mode, hash_of
from bdc_pipeline.warehouse.drain import Drained, DrainOptions, drain
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.records import BLOCK, Record
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.stream import Effort, Event, Rows, Unchanged
from bdc_pipeline.warehouse.table import Table

KINDS: tuple[Kind, ...] = ("parallel", "sequential", "streaming")


class Car(msgspec.Struct, frozen=True):
    """A car in a registry."""

    id: int
    registry: str
    maker: str | None = None
    name: str | None = None
    doors: int = 4


class Maker(msgspec.Struct, frozen=True):
    """Who makes cars; told along with them."""

    name: str


CARS = Table(Car, "cars", partitioning=ByValue("registry"), fingerprinted=True)
MAKERS = Table(Maker, "makers", key=("name",), gathered_with="cars")
FLEET = Schema("fleet", (CARS, MAKERS))
LATER = Schema("fleet", (CARS, MAKERS), revision=2)


class Told(msgspec.Struct):
    """A record as the source sends it; `colour` is not kept."""

    id: int
    maker: str | None = None
    name: str | None = None
    doors: int = 4
    colour: str | None = None


def car(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "maker": f"maker {number % 2}", "name": f"car {number}"} | values


def cars(*numbers: int, **values: Any) -> list[dict[str, Any]]:
    return [car(number, **values) for number in numbers]


def key_of(record: Record) -> tuple[int | str, ...]:
    found = re.search(rb'"id": *(\d+)', bytes(record))
    return (int(found[1]),) if found else ()


def makers_of(rows: Sequence[msgspec.Struct]) -> Iterator[Rows]:
    names = {row.maker for row in rows if isinstance(row, Car) and row.maker}
    if names:
        yield Rows(MAKERS, [Maker(name) for name in sorted(names)])


class Watched(DocumentStream):
    """Notes which documents were said to stand as they are, by partition."""

    def __iter__(self) -> Iterator[Event]:
        self.stood: dict[str | None, bool] = {}
        for event in super().__iter__():
            yield event
            if isinstance(event, Unchanged):
                self.stood[event.partition] = event.holds


class Fleet:
    """Registries in files, loaded by one run after another."""

    def __init__(self, directory: Path, kind: Kind = "sequential", chunk: int = 3) -> None:
        self.directory, self.kind, self.chunk = directory, kind, chunk
        self.path = directory / "fleet.db"
        self.schema = FLEET
        self.reads: list[int] = []
        self.runs = 0

    def file(self, registry: str) -> Path:
        return self.directory / f"{registry}.json"

    def write(self, registry: str, records: Iterable[dict[str, Any] | bytes]) -> None:
        """Records, some of which may be given as they stand in the file."""
        texts = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        self.file(registry).write_bytes(b"[" + b",\n".join(texts) + b"]")

    def document(self, registry: str) -> Document:
        def read(record: Record) -> Car:
            told = msgspec.json.decode(record, type=Told)
            self.reads.append(told.id)
            return Car(told.id, registry, told.maker, told.name, told.doors)

        return Document(self.file(registry), CARS, registry, read, key_of, makers_of, f"the {registry} registry")

    def stream(self, *registries: str, force: bool = False, **more: Any) -> DocumentStream:
        documents = [self.document(registry) for registry in registries]
        mode = Mode(self.kind, self.chunk)
        self.latest = Watched(self.schema, (CARS, MAKERS), documents, mode, force=force, **more)
        return self.latest

    def drain(self, stream: DocumentStream, registries: Sequence[str] | None = None, **options: Any) -> Drained:
        self.runs += 1
        self.reads.clear()
        return drain(stream, self.path, f"run {self.runs}", DrainOptions(**options), partitions=registries)

    def load(self, *registries: str, force: bool = False, **options: Any) -> Drained:
        names = registries or ("a",)
        return self.drain(self.stream(*names, force=force), names, **options)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    def ids(self) -> list[int]:
        return [number for (number,) in self.ask("SELECT id FROM live_cars ORDER BY id")]

    def names(self) -> dict[int, str]:
        return dict(self.ask("SELECT id, name FROM live_cars"))

    def stamped(self) -> dict[int, tuple[Any, ...]]:
        """By id, what is to stay as it is in a row that does not change."""
        return {number: rest for number, *rest in self.ask("SELECT id, rowid, last_updated, first_seen FROM cars")}

    def age(self) -> None:
        """Makes all rows old, so that what is written now is told from what was there."""
        self.ask("UPDATE cars SET last_updated = '2020-01-01T00:00:00.000Z', first_seen = '2020-01-01T00:00:00.000Z'")

    def rejects(self) -> list[tuple[str, str]]:
        sql = "SELECT record_key, reason FROM _rejects WHERE resolved_at IS NULL ORDER BY record_key"
        return self.ask(sql)  # type: ignore[return-value]

    def is_accounted_for(self, done: Drained) -> bool:
        counts = done.counts["cars"]
        return counts.fetched == counts.inserted + counts.updated + counts.unchanged


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, request.param)


# -- all modes alike -----------------------------------------------------------------------------------------------

SOME = [car(1), car(2, name="é🛰"), b'{"id": 3, "name": NaN}', car(4), b"nothing", car(2, name="again"), car(5, doors=2)]


def outcome(kind: Kind, chunk: int) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        fleet = Fleet(Path(directory), kind, chunk)
        told = []
        for second in (SOME, SOME, [*SOME[1:], car(9)]):
            fleet.write("a", second)
            fleet.write("b", cars(*range(20, 30)))
            fleet.file("c").write_bytes(b'[{"id": 40}, {"id"')
            done = fleet.load("a", "b", "c", max_rejects=9)
            told += [done.counts["cars"], dict(done.incomplete), sorted(done.complete["cars"], key=str)]
            told += [fleet.ask("SELECT id, registry, maker, name, doors FROM live_cars ORDER BY id"), fleet.ids()]
            told += [fleet.rejects(), fleet.ask("SELECT name FROM live_makers ORDER BY 1")]
        return told


@pytest.mark.parametrize("chunk", [1, 2, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_and_chunk_gives_the_same_rows_rejects_and_counts(kind: Kind, chunk: int) -> None:
    assert outcome(kind, chunk) == outcome("sequential", 4)


def test_a_first_load_inserts_all_with_what_comes_along(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2, 3, 4, 5, 6, 7))
    fleet.write("b", cars(11, 12))
    done = fleet.load("a", "b")
    assert done.counts["cars"] == TableCounts(expected=9, fetched=9, inserted=9)
    assert sorted(done.complete["cars"], key=str) == ["a", "b"]
    assert done.partition_counts["cars"] == {"a": 7, "b": 2}
    assert fleet.ids() == [1, 2, 3, 4, 5, 6, 7, 11, 12]
    assert fleet.ask("SELECT name FROM live_makers ORDER BY 1") == [("maker 0",), ("maker 1",)]
    assert sorted(done.complete["makers"], key=str) == ["a", "b"]


def test_what_fetching_has_cost_is_told(fleet: Fleet) -> None:
    fleet.write("a", cars(1))
    spent = Effort(requests=3, bytes=100)
    assert fleet.drain(fleet.stream("a", before=spent), ["a"]).effort == spent


# -- what has not changed ------------------------------------------------------------------------------------------


def test_a_file_that_has_not_changed_is_not_read_again(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2, 3, 4))
    fleet.write("b", cars(11))
    fleet.load("a", "b")
    before = fleet.stamped()
    fleet.write("b", cars(11, 12))
    done = fleet.load("a", "b")
    assert fleet.latest.stood == {"a": True, "b": False}
    assert fleet.reads == [12]
    assert done.counts["cars"] == TableCounts(expected=6, fetched=6, inserted=1, unchanged=5)
    assert sorted(done.complete["cars"], key=str) == ["a", "b"]
    assert done.partition_counts["cars"] == {"a": 4, "b": 2}
    assert fleet.stamped().items() > before.items()
    assert done.is_complete


@pytest.mark.parametrize("why", ["forced", "a row was deleted", "a row vanished"])
def test_a_file_is_looked_at_again_when_it_does_not_stand_for_its_rows_any_more(fleet: Fleet, why: str) -> None:
    fleet.write("a", cars(1, 2, 3, 4))
    fleet.load()
    if why == "a row was deleted":
        fleet.ask("DELETE FROM cars WHERE id = 2")
    elif why == "a row vanished":
        fleet.ask("UPDATE cars SET vanished_at = last_updated WHERE id = 2")
    done = fleet.load(force=why == "forced")
    assert fleet.latest.stood == ({} if why == "forced" else {"a": False})
    assert fleet.reads == ([] if why == "forced" else [2])
    assert fleet.ids() == [1, 2, 3, 4]
    assert done.is_complete
    assert done.counts["cars"].fetched == 4
    fleet.load()
    assert fleet.reads == []


def test_another_revision_of_the_schema_reads_everything_anew_and_changes_nothing(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2, 3, 4))
    fleet.load()
    fleet.age()
    before = fleet.stamped()
    fleet.schema = LATER
    done = fleet.load()
    assert fleet.latest.stood == {"a": False}
    assert sorted(fleet.reads) == [1, 2, 3, 4]
    assert done.counts["cars"] == TableCounts(expected=4, fetched=4, unchanged=4)
    assert fleet.stamped() == before
    assert fleet.load().counts["cars"].unchanged == 4
    assert fleet.latest.stood == {"a": True}
    fleet.load(force=True)
    assert fleet.reads == []


def test_a_file_whose_last_run_was_incomplete_is_looked_at_again(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(20)))
    fleet.load()
    fleet.write("a", cars(1))
    assert "--allow-vanish" in fleet.load().incomplete["cars"]["a"]
    assert "--allow-vanish" in fleet.load().incomplete["cars"]["a"]
    assert fleet.latest.stood == {"a": False}
    assert len(fleet.ids()) == 20
    assert fleet.load(allow_vanish=True).is_complete
    assert fleet.ids() == [1]


def test_a_file_with_open_rejects_is_looked_at_again_also_within_the_limit(fleet: Fleet) -> None:
    fleet.write("a", [*cars(1, 2), b'{"id": 3, "doors": "many"}'])
    for number in range(3):
        done = fleet.load(max_rejects=1)
        assert fleet.latest.stood == {"a": False}
        assert done.is_complete
        assert done.counts["cars"] == TableCounts(
            expected=3, fetched=2, rejected=1, **({"unchanged": 2} if number else {"inserted": 2})
        )
    assert not fleet.load(max_rejects=0).is_complete


def test_a_document_may_be_read_again_by_itself(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2))
    fleet.write("b", cars(11))
    fleet.load("a", "b")
    stream = fleet.stream("a", "b", reread=lambda document: document.partition == "a")
    assert fleet.drain(stream, ["a", "b"]).counts["cars"].unchanged == 3
    assert fleet.latest.stood == {"b": True}


def test_a_limited_load_takes_the_first_records_and_completes_nothing(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    done = fleet.drain(fleet.stream("a", limit=4), ["a"])
    assert fleet.ids() == [0, 1, 2, 3]
    assert done.limited["cars"] == done.limited["makers"] == ["a"]
    assert done.complete["cars"] == []
    assert fleet.load().counts["cars"] == TableCounts(expected=10, fetched=10, inserted=6, unchanged=4)
    done = fleet.drain(fleet.stream("a", limit=4), ["a"])
    assert (fleet.ids(), done.counts["cars"].vanished) == (list(range(10)), 0)
    fleet.load()
    assert fleet.latest.stood == {"a": True}


def test_one_changed_record_is_read_and_touches_one_row(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.load()
    fleet.age()
    before = fleet.stamped()
    fleet.write("a", [*cars(*range(4)), car(4, name="new"), *cars(*range(5, 10))])
    done = fleet.load()
    assert fleet.reads == [4]
    assert done.counts["cars"] == TableCounts(expected=10, fetched=10, updated=1, unchanged=9)
    after = fleet.stamped()
    assert {number for number in after if after[number] != before[number]} == {4}
    rowid, last_updated, first_seen = after[4]
    assert (rowid, first_seen) == (before[4][0], before[4][2])
    assert last_updated > before[4][1]
    assert fleet.names()[4] == "new"


def test_a_change_that_no_column_keeps_is_read_once_and_updates_nothing(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2))
    fleet.load()
    fleet.age()
    before = fleet.stamped()
    fleet.write("a", [car(1), car(2, colour="red")])
    assert fleet.load().counts["cars"] == TableCounts(expected=2, fetched=2, unchanged=2)
    assert fleet.reads == [2]
    assert fleet.stamped() == before
    fleet.load(force=True)
    assert fleet.reads == []


def test_records_in_another_order_are_the_same_records(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.load()
    fleet.write("a", cars(*reversed(range(10))))
    assert fleet.load().counts["cars"] == TableCounts(expected=10, fetched=10, unchanged=10)
    assert fleet.reads == []


# -- what vanishes and comes back ----------------------------------------------------------------------------------


def test_a_record_that_is_removed_vanishes_and_comes_back(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.write("b", cars(20))
    fleet.load("a", "b")
    fleet.write("a", cars(*range(9)))
    done = fleet.load("a", "b")
    assert done.counts["cars"] == TableCounts(expected=10, fetched=10, unchanged=10, vanished=1)
    assert fleet.ids() == [*range(9), 20]
    fleet.write("a", cars(*range(10)))
    done = fleet.load("a", "b")
    assert done.counts["cars"] == TableCounts(expected=11, fetched=11, unchanged=10, updated=1)
    assert fleet.ids() == [*range(10), 20]
    assert fleet.reads == [9]


def test_a_record_that_moves_to_another_document_moves_its_row(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2, 3))
    fleet.write("b", cars(11, 12))
    fleet.load("a", "b")
    for registries in (("a", "b"), ("b", "a")):
        fleet.write("a", cars(1, 2))
        fleet.write("b", cars(3, 11, 12))
        done = fleet.load(*registries)
        assert done.is_complete
        assert fleet.ask("SELECT registry FROM live_cars WHERE id = 3") == [("b",)]
        fleet.write("a", cars(1, 2, 3))
        fleet.write("b", cars(11, 12))
        assert fleet.load(*registries).is_complete
    assert fleet.ids() == [1, 2, 3, 11, 12]


def test_an_empty_list_over_stored_rows_vanishes_nothing_and_is_incomplete(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2))
    fleet.load()
    fleet.write("a", [])
    for _ in range(2):
        done = fleet.load()
        assert "--allow-vanish" in done.incomplete["cars"]["a"]
        assert list(done.incomplete["makers"]) == ["a"]
        assert fleet.ids() == [1, 2]


def test_an_empty_list_is_complete_where_nothing_was(fleet: Fleet) -> None:
    fleet.write("a", [])
    assert fleet.load().complete["cars"] == ["a"]
    assert fleet.load().complete["cars"] == ["a"]


# -- records with the same key -------------------------------------------------------------------------------------

FIRST = {
    "alike": [car(1), car(2), car(2), car(3)],
    "different": [car(1), car(2), car(2, name="other"), car(3)],
    "alike, in different chunks": [car(2), *cars(*range(10, 20)), car(2)],
    "different, in different chunks": [car(2), *cars(*range(10, 20)), car(2, name="other")],
    "three alike": [car(2), car(2), car(2)],
    "three different": [car(2), *cars(*range(10, 20)), car(2, name="other"), car(2, name="third")],
}


@pytest.mark.parametrize("records", FIRST.values(), ids=FIRST.keys())
@pytest.mark.parametrize("before", [False, True], ids=["first load", "second load"])
def test_of_records_with_one_key_the_first_is_stored_and_the_others_are_rejects_run_after_run(
    fleet: Fleet, records: list[dict[str, Any]], before: bool
) -> None:
    keys = [record["id"] for record in records]
    more = len(keys) - len(set(keys))
    if before:
        fleet.write("a", {record["id"]: record for record in reversed(records)}.values())
        fleet.load()
        fleet.age()
    fleet.write("a", records)
    stamped = None
    for _ in range(3):
        done = fleet.load(max_rejects=5)
        assert fleet.ids() == sorted(set(keys))
        assert fleet.names()[2] == "car 2"
        assert [key.partition("/again")[0] for key, _ in fleet.rejects()] == ["2"] * more
        assert {reason for _, reason in fleet.rejects()} == {"a record with the same key came before it"}
        counts = done.counts["cars"]
        assert (counts.expected, counts.fetched, counts.rejected) == (len(keys), len(set(keys)), more)
        assert fleet.is_accounted_for(done)
        assert done.is_complete
        assert fleet.stamped() == (stamped or fleet.stamped())
        stamped = fleet.stamped()
    assert not fleet.load().is_complete
    fleet.write("a", {record["id"]: record for record in records}.values())
    assert fleet.load().is_complete
    assert fleet.rejects() == []


def test_a_second_record_with_a_key_before_the_one_that_is_stored_heals_within_a_run(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.load()
    fleet.write("a", [car(9, name="other"), *cars(*range(10))])
    fleet.load(max_rejects=1)
    for _ in range(2):
        done = fleet.load(max_rejects=1)
        assert done.is_complete
        assert fleet.ids() == list(range(10))
        assert len(fleet.rejects()) == 1
        assert fleet.load(max_rejects=1).counts["cars"].updated == 0


@pytest.mark.parametrize("registries", [("a", "b"), ("b", "a")])
def test_a_key_in_two_documents_is_stored_once_and_its_row_does_not_flip(
    fleet: Fleet, registries: tuple[str, str]
) -> None:
    fleet.write("a", cars(1, 2))
    fleet.load("a", "b")
    fleet.write("b", cars(2, 3))
    fleet.load(*registries, max_rejects=1)
    held = set()
    for _ in range(3):
        done = fleet.load(*registries, max_rejects=1)
        assert done.is_complete
        assert done.counts["cars"].updated == 0
        assert len(fleet.rejects()) == 1
        held.update(fleet.ask("SELECT registry FROM live_cars WHERE id = 2"))
    assert len(held) == 1


# -- malformed records ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [b'{"id": 5, "name": NaN}', b'{"id": 5, "name": "\\x"}', b'{"id": 5, "name": "\xff"}', b'{"id": 5, "doors": 1e999999}',
     b'{"id": 5, "name": 7}', b'{"id": 5, "doors": 99999999999999999999}', b'{"id": 5, "deep": ' + b"[" * 9999 + b"]" * 9999 + b"}"],
)  # fmt: skip
def test_a_malformed_record_is_a_reject_with_its_key_and_its_stored_row_stays(fleet: Fleet, bad: bytes) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.load()
    fleet.write("a", [*cars(*range(5)), bad, *cars(*range(6, 9))])
    for _ in range(2):
        done = fleet.load()
        assert list(done.incomplete["cars"]) == ["a"]
        assert [(reject.key, reject.partition) for reject in done.rejects] == [((5,), "a")]
        assert '"id":5' in done.rejects[0].raw.replace(" ", "")
        assert fleet.names()[5] == "car 5"
        assert fleet.ids() == list(range(9))
        assert fleet.is_accounted_for(done)
    fleet.write("a", cars(*range(9)))
    assert fleet.load().is_complete
    assert fleet.rejects() == []


def test_a_malformed_record_without_a_key_keeps_all_rows_that_did_not_come(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.load()
    fleet.write("a", [*cars(*range(9)), b"[]"])
    done = fleet.load()
    assert not done.is_complete
    assert done.counts["cars"].vanished == 0
    assert fleet.ids() == list(range(10))
    assert len(fleet.rejects()) == 1


def test_a_row_that_sqlite_cannot_hold_costs_itself_alone_beside_known_ones(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.load()
    fleet.write("a", [*cars(*range(9)), car(9, name="new"), car(10, doors=2**63), car(2**63), car(11)])
    for _ in range(2):
        done = fleet.load()
        assert fleet.ids() == [*range(10), 11]
        assert fleet.names()[9] == "new"
        assert done.counts["cars"].rejected == 2
        assert fleet.is_accounted_for(done)


# -- damaged documents ---------------------------------------------------------------------------------------------


def test_of_a_cut_file_what_could_be_read_is_stored_nothing_vanishes_and_the_next_run_heals(fleet: Fleet) -> None:
    fleet.write("a", cars(*range(10)))
    fleet.write("b", cars(20, 21))
    fleet.load("a", "b")
    fleet.write("a", [car(0), car(1, name="new"), car(30), *cars(2, 3)])
    whole = fleet.file("a").read_bytes()
    fleet.file("a").write_bytes(whole[:-10])
    for _ in range(2):
        done = fleet.load("a", "b")
        (problem,) = done.incomplete["cars"].values()
        assert problem.startswith("the a registry: it is cut short: it ends at byte")
        assert problem.endswith("4 of its records could be read")
        assert done.complete["cars"] == ["b"]
        assert fleet.ids() == [*range(10), 20, 21, 30]
        assert fleet.names()[1] == "new"
    fleet.file("a").write_bytes(whole)
    assert fleet.load("a", "b", allow_vanish=True).is_complete
    assert fleet.ids() == [0, 1, 2, 3, 20, 21, 30]


@pytest.mark.parametrize("content", [None, b"", b"<html>", b"null", "directory"])
def test_a_file_that_is_none_is_missing_and_costs_no_other(fleet: Fleet, content: bytes | str | None) -> None:
    fleet.write("a", cars(1, 2))
    fleet.write("b", cars(11))
    fleet.load("a", "b")
    fleet.file("a").unlink()
    if content == "directory":
        fleet.file("a").mkdir()
    elif isinstance(content, bytes):
        fleet.file("a").write_bytes(content)
    fleet.write("b", cars(11, 12))
    done = fleet.load("a", "b")
    assert list(done.incomplete["cars"]) == ["a"]
    assert "the a registry: it " in done.incomplete["cars"]["a"]
    assert done.complete["cars"] == ["b"]
    assert fleet.ids() == [1, 2, 11, 12]


def test_a_file_that_is_replaced_between_its_hash_and_its_reading_is_read_as_it_was_hashed(fleet: Fleet) -> None:
    fleet.write("a", cars(1, 2))
    fleet.write("b", cars(11))
    before = hash_of(fleet.file("a"))
    stream = fleet.stream("a", "b", force=True)

    def replacing() -> Iterator[Event]:
        for number, event in enumerate(DocumentStream.__iter__(stream)):
            if number == 1:
                fleet.file("a").unlink()
                fleet.write("a", cars(3))
                fleet.file("b").unlink()
            yield event

    events = replacing()
    stream.__class__ = type("Replacing", (DocumentStream,), {"__iter__": lambda _: events})
    done = fleet.drain(stream, ["a", "b"])
    assert done.is_complete
    assert fleet.ids() == [1, 2, 11]
    assert stream.tokens["the a registry"] == before
    assert hash_of(fleet.file("a")) != before
    assert fleet.load("a").counts["cars"].vanished == 2, "the other file is another one to the next run"


@pytest.mark.parametrize("size", [500, 5000])
@pytest.mark.parametrize("width", [10, 300, 30_000, 3_000_000])
def test_chunks_of_a_stream_are_bounded_by_their_bytes_too(tmp_path: Path, size: int, width: int) -> None:
    number = max(3, min(12_000, 6_000_000 // width))
    path = tmp_path / "wide.json"
    path.write_bytes(b"[" + b",".join(b'{"id": %d, "x": "%s"}' % (n, b"x" * width) for n in range(number)) + b"]")
    stream = DocumentStream(FLEET, (CARS, MAKERS), [], Mode("streaming", size))
    with path.open("rb") as file:
        chunks = [[bytes(record) for record in chunk] for chunk in stream.records(file)]
    assert [msgspec.json.decode(record)["id"] for chunk in chunks for record in chunk] == list(range(number))
    assert max(map(len, chunks)) <= size
    # what is read at a time comes on top
    most = PORTION + max(BLOCK, 2 * width + 100)
    assert max(sum(map(len, chunk)) for chunk in chunks) <= most


# -- stopping ------------------------------------------------------------------------------------------------------


class StoppingStream(DocumentStream):
    """Stops when the first rows come."""

    def __iter__(self) -> Iterator[Event]:
        for event in super().__iter__():
            if isinstance(event, Rows):
                self.stop("Ctrl-C")
            yield event


@pytest.mark.parametrize("kind", ["sequential", "streaming"])
def test_what_was_parsed_before_a_stop_is_stored_and_the_rest_is_missing(tmp_path: Path, kind: Kind) -> None:
    fleet = Fleet(tmp_path, kind)
    fleet.write("a", cars(*range(10)))
    fleet.write("b", cars(20))
    stream = StoppingStream(FLEET, (CARS, MAKERS), [fleet.document(name) for name in "ab"], Mode(kind, fleet.chunk))
    done = fleet.drain(stream, ["a", "b"])
    assert fleet.ids() == [0, 1, 2]
    assert done.incomplete["cars"] == {
        "a": "the a registry: Ctrl-C. 3 of its records could be read",
        "b": "the b registry: Ctrl-C. 0 of its records could be read",
    }
    assert fleet.load("a", "b").is_complete


def test_a_stop_before_the_begin_reads_nothing(fleet: Fleet) -> None:
    fleet.write("a", cars(1))
    fleet.write("b", cars(11))
    stream = fleet.stream("a", "b")
    stream.stop("Ctrl-C")
    assert sorted(fleet.drain(stream, ["a", "b"]).incomplete["cars"], key=str) == ["a", "b"]
    assert fleet.reads == []


def parsing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("parse the ")]


def are_ended() -> bool:
    until = time.monotonic() + 10
    while parsing_threads() and time.monotonic() < until:
        for thread in parsing_threads():
            thread.join(0.05)
    return not parsing_threads()


class BrokenError(Exception):
    pass


def test_an_error_in_a_parsing_thread_is_raised_and_what_came_before_is_kept(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "parallel")
    fleet.write("a", cars(*range(10)))
    fleet.write("b", cars(*range(20, 30)))

    def fail(record: Record) -> Car:
        raise BrokenError("no such unit")

    documents = [fleet.document("a"), Document(fleet.file("b"), CARS, "b", fail, name="the b registry")]
    stream = DocumentStream(FLEET, (CARS, MAKERS), documents, Mode("parallel", 3))
    with pytest.raises(BrokenError, match="no such unit"):
        fleet.drain(stream)
    assert are_ended()
    assert set(fleet.ids()) <= set(range(10))
    assert fleet.load("a", "b").is_complete


def test_threads_end_when_nobody_takes_what_they_parse_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "AHEAD", 1)
    fleet = Fleet(tmp_path, "parallel", chunk=1)
    for name in "abc":
        fleet.write(name, cars(*range(500)))
    events = iter(fleet.stream(*"abc", force=True))
    while not isinstance(next(events), Rows):
        pass
    assert parsing_threads()
    events.close()  # type: ignore[attr-defined]
    assert are_ended()
    assert len(fleet.reads) < 1500


# -- hashes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_the_hash_of_a_file_is_of_all_of_its_bytes(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x" * size)
    other.write_bytes(b"x" * size)
    assert hash_of(one) == hash_of(other)
    other.write_bytes(b"x" * size + b"y")
    assert hash_of(one) != hash_of(other)


# -- a source that lives -------------------------------------------------------------------------------------------

numbers = st.integers(0, 5)


class LivingDocuments(RuleBasedStateMachine):
    """Records come, change, break, are repeated and go; after every load the file holds what the documents say."""

    kind: Kind = "sequential"

    @initialize(chunk=st.sampled_from([1, 2, 100]))
    def open(self, chunk: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.fleet = Fleet(Path(self.directory.name), self.kind, chunk)
        self.source: dict[str, list[dict[str, Any] | bytes]] = {"a": [], "b": []}
        self.stored: dict[int, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    @rule(
        registry=st.sampled_from("ab"), number=numbers, name=st.sampled_from("xyz"), colour=st.sampled_from(["", "r"])
    )
    def put(self, registry: str, number: int, name: str, colour: str) -> None:
        number += 100 * (registry == "b")
        kept = [record for record in self.source[registry] if self.number(record) != number]
        self.source[registry] = [*kept, car(number, name=name, colour=colour)]

    @rule(registry=st.sampled_from("ab"), place=numbers)
    def repeat(self, registry: str, place: int) -> None:
        records = self.source[registry]
        if place < len(records) and isinstance(records[place], dict):
            records.append(records[place])

    @rule(registry=st.sampled_from("ab"), place=numbers)
    def damage(self, registry: str, place: int) -> None:
        records = self.source[registry]
        if place < len(records) and isinstance(records[place], dict):
            number = self.number(records[place])
            self.source[registry] = [record for record in records if self.number(record) != number]
            self.source[registry].append(b'{"id": %d, "name": NaN}' % number)

    @rule(registry=st.sampled_from("ab"), place=numbers)
    def remove(self, registry: str, place: int) -> None:
        del self.source[registry][place : place + 1]

    @staticmethod
    def number(record: dict[str, Any] | bytes) -> int:
        return int(key_of(record)[0]) if isinstance(record, bytes) else int(record["id"])

    @rule(force=st.booleans(), interval=st.sampled_from([1, 2, 1000]))
    def load(self, force: bool, interval: int) -> None:
        good: dict[int, str] = {}
        bad: set[int] = set()
        total = 0
        for registry, records in self.source.items():
            self.fleet.write(registry, records)
            total += len(records)
            for record in records:
                if isinstance(record, bytes):
                    bad.add(self.number(record))
                else:
                    good.setdefault(record["id"], record["name"])
        inserted = good.keys() - {number for (number,) in self.known()}
        updated = {
            number for number, name in good.items() if number not in inserted and self.stored.get(number) != name
        }
        vanished = self.stored.keys() - good.keys() - bad
        done = self.fleet.load("a", "b", force=force, commit_interval=interval, allow_vanish=True, max_rejects=99)
        counts = done.counts["cars"]
        assert counts == TableCounts(
            expected=total,
            fetched=len(good),
            inserted=len(inserted),
            updated=len(updated),
            unchanged=len(good) - len(inserted) - len(updated),
            vanished=len(vanished),
            rejected=total - len(good),
        )
        self.stored = {number: name for number, name in self.stored.items() if number in bad} | good
        assert self.fleet.names() == self.stored
        assert done.is_complete
        assert len(self.fleet.rejects()) == total - len(good)

    @rule(registry=st.sampled_from("ab"), share=st.floats(0, 0.99))
    def load_cut(self, registry: str, share: float) -> None:
        self.fleet.write(registry, self.source[registry])
        file = self.fleet.file(registry)
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        done = self.fleet.load(registry, allow_vanish=True, max_rejects=99)
        assert not done.is_complete
        assert self.fleet.is_accounted_for(done)
        names = self.fleet.names()
        assert names.keys() >= self.stored.keys()
        told = {self.number(r): r["name"] for r in self.source[registry] if isinstance(r, dict)}
        assert all(told.get(number) == name for number, name in names.items() if self.stored.get(number) != name)
        self.stored = names

    def known(self) -> list[tuple[Any, ...]]:
        return self.fleet.ask("SELECT id FROM cars") if self.fleet.path.exists() else []


class LivingInParallel(LivingDocuments):
    kind = "parallel"


class LivingInBlocks(LivingDocuments):
    kind = "streaming"


for machine in (LivingDocuments, LivingInParallel, LivingInBlocks):
    machine.TestCase.settings = settings(max_examples=15, stateful_step_count=12)
TestLivingDocuments = LivingDocuments.TestCase
TestLivingInParallel = LivingInParallel.TestCase
TestLivingInBlocks = LivingInBlocks.TestCase
