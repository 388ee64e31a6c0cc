"""A small shop whose tables the warehouse's tests keep, and a stream of events made by hand."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bdc_pipeline.warehouse.drain import Drained, DrainOptions, drain
from bdc_pipeline.warehouse.partitioning import IdBlocks
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Missing, Reject, Rows
from bdc_pipeline.warehouse.table import Table

NOW = "2026-01-01T00:00:00.000Z"
LATER = "2999-01-01T00:00:00.000Z"


class Item(msgspec.Struct, frozen=True):
    """A thing on a shelf."""

    id: Annotated[int, msgspec.Meta(description="The shop's number")]
    name: str | None = None
    price: float | None = None
    stock: int = 0


class Tag(msgspec.Struct, frozen=True):
    """A word that an item bears."""

    item_id: int
    word: str
    weight: int | None = None


class Note(msgspec.Struct, frozen=True):
    """A text under a code."""

    code: str
    text: str = ""


ITEMS = Table(Item, "items", partitioning=IdBlocks("id", 10), indexes=(("name",),))
TAGS = Table(Tag, "tags", key=("item_id", "word"), partitioning=IdBlocks("item_id", 10), parent="item_id")
NOTES = Table(Note, "notes", key=("code",))
SHOP = Schema("shop", (ITEMS, TAGS, NOTES))


class Told:
    """A stream that yields given events; an exception among them is raised."""

    def __init__(
        self,
        *events: Event | BaseException,
        tables: tuple[Table, ...] = (ITEMS,),
        schema: Schema = SHOP,
        effort: Effort | None = None,
    ) -> None:
        self.events: Iterable[Event | BaseException] = events
        self.tables = tables
        self.schema = schema
        self.spent = effort or Effort()
        self.stopped: list[str] = []
        self.drained: Drained | None = None

    def __iter__(self) -> Iterator[Event]:
        for event in self.events:
            if isinstance(event, BaseException):
                raise event
            yield event

    def stop(self, reason: str) -> None:
        self.stopped.append(reason)

    def effort(self) -> Effort:
        return self.spent


def items(*ids: int, **values: Any) -> Rows:
    return Rows(ITEMS, [Item(number, **({"name": f"item {number}"} | values)) for number in ids])


def tags(parents: Iterable[int], *pairs: tuple[int, str]) -> Rows:
    return Rows(TAGS, [Tag(*pair) for pair in pairs], tuple(parents))


def notes(*codes: str, text: str = "") -> Rows:
    return Rows(NOTES, [Note(code, text) for code in codes])


def listed(expected: int | None, *partitions: str | None, table: Table = ITEMS, **more: Any) -> Checked:
    """A full listing of some partitions."""
    return Checked(table, partitions or ("0-9",), expected, full=True, **more)


def changed(*partitions: str | None, expected: int | None = None, table: Table = ITEMS, **more: Any) -> Checked:
    """A listing of changes alone."""
    return Checked(table, partitions or ("0-9",), expected, full=False, **more)


def rejected(
    *key: int | str, partition: str | None = "0-9", reason: str = "no name", raw: str = "{}", table: Table = ITEMS
) -> Reject:
    return Reject(table, partition, key, reason, raw)


def missing(*partitions: str | None, table: Table = ITEMS, expected: int | None = None, full: bool = True) -> Missing:
    return Missing(table, partitions or ("0-9",), "page 2", "HTTP 502", expected, full)


class Shop:
    """A file that is filled by one run after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = 0

    def sync(
        self,
        *events: Event | BaseException,
        tables: tuple[Table, ...] = (ITEMS,),
        partitions: Iterable[str] | None = None,
        run_id: str | None = None,
        effort: Effort | None = None,
        **options: Any,
    ) -> Drained:
        self.runs += 1
        return drain(
            Told(*events, tables=tables, effort=effort),
            self.path,
            run_id or f"run {self.runs}",
            DrainOptions(**options),
            partitions=None if partitions is None else list(partitions),
        )

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            yield connection

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            return connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        (found,) = self.ask(sql, *values)
        return found[0] if len(found) == 1 else found

    def ids(self) -> list[int]:
        """The items that have not vanished."""
        return [number for (number,) in self.ask("SELECT id FROM live_items ORDER BY id")]

    def gone(self) -> list[int]:
        return [number for (number,) in self.ask("SELECT id FROM items WHERE vanished_at IS NOT NULL ORDER BY id")]

    def partition(self, key: str = "0-9", table: str = "items") -> dict[str, Any]:
        """What the ledger holds of a partition."""
        with self.connected() as connection:
            connection.row_factory = sqlite3.Row
            sql = "SELECT * FROM _partitions WHERE table_name = ? AND partition = ?"
            return dict(connection.execute(sql, (table, key)).fetchone())

    def is_sound(self) -> bool:
        return bool(self.one("PRAGMA integrity_check") == "ok")


# -- files -----------------------------------------------------------------------------------------------------------


def thing(*fields: tuple[Any, ...], name: str = "things", **more: Any) -> Schema:
    """A schema of one table with an id and some fields."""
    row = msgspec.defstruct("Row", [("id", int), *fields], module=__name__)
    return Schema("shop", (Table(row, name, **more),))


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def made(path: Path, *statements: str) -> Path:
    """A file that another program made."""
    with connected(path) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def put(path: Path, schema: Schema, *values: tuple[Any, ...], now: str = NOW) -> None:
    """Rows of the schema's first table, stored in a transaction of their own."""
    (table, *_) = schema.tables
    with Store(path, schema) as store:
        store.track(schema.tables)
        with store.transaction():
            store.upsert(table, [table.row(*each) for each in values], now)


def asked(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with connected(path) as connection:
        return connection.execute(sql).fetchall()
