"""What a table is: a row type declared once, from which everything else follows.

A `Table` takes a `msgspec.Struct` and gives the STRICT DDL, the upsert statements, the binder that turns rows into
tuples, the columns' documentation, and the pandas and Dagster schemas. A `Schema` is what one database file holds.
Nothing here opens a file: see `store.py`.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, Protocol

import msgspec

from bdc_pipeline.warehouse.fingerprints import fingerprints_of

SQL_OF: Mapping[type, str] = {
    bool: "INTEGER",
    int: "INTEGER",
    float: "REAL",
    str: "TEXT",
    bytes: "BLOB",
    dt.datetime: "TEXT",
    dt.date: "TEXT",
}

# Every stored table ends with these. `last_updated` moves only when a column changed, so it tells when a copy
# differed from the one before; `vanished_at` is set instead of deleting.
BOOKKEEPING: tuple[tuple[str, str, str], ...] = (
    ("last_updated", "TEXT NOT NULL", "When this copy of the row last changed here (UTC)"),
    ("vanished_at", "TEXT", "When the row was found to be gone from its source (UTC); NULL while it is there"),
    ("first_seen", "TEXT", "When the row first came here (UTC); NULL for rows from before this was noted"),
)

RAW_HASH = (
    "raw_hash",
    "INTEGER",
    "Fingerprint of the record that the row was made from: one that matches is not read again",
)

Scalar = None | int | float | str | bytes
Where = tuple[str, tuple[Scalar, ...]]


class TableError(Exception):
    """A declaration that cannot be a table: says which field and what would be."""


def utc_text(moment: dt.datetime) -> str:
    """A moment as the text that is stored: UTC, seconds, `2026-01-31T23:59:59Z`. Such texts sort by time.

    Raises:
        ValueError: the moment has no time zone, so that its place in UTC is unknown.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone, so it cannot be stored as UTC")
    # strftime's %Y does not pad the years before 1000
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")[:19] + "Z"


def parse_utc(text: str) -> dt.datetime:
    """The moment that `utc_text` wrote."""
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)


def quoted(name: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


class Partitioning(Protocol):
    """How a table's rows divide into partitions."""

    @property
    def column(self) -> str:
        """The column that decides."""
        ...

    def where(self, key: str) -> Where:
        """The SQL condition, with its values, that a partition's rows fulfil."""
        ...

    def key_of(self, value: Any) -> str:
        """The partition of a row whose `column` holds `value`."""
        ...


@dataclass(frozen=True, slots=True)
class IdBlocks:
    """Blocks of consecutive ids: `0-999`, `1000-1999`, ..."""

    column: str
    width: int = 1000

    def where(self, key: str) -> Where:
        """The ids of a block, both ends included."""
        low, high = self.bounds(key)
        return f"{quoted(self.column)} BETWEEN ? AND ?", (low, high)

    def key_of(self, value: Any) -> str:
        """The block that holds an id."""
        low = int(value) // self.width * self.width
        return f"{low}-{low + self.width - 1}"

    def bounds(self, key: str) -> tuple[int, int]:
        """The first and the last id of a block.

        Raises:
            ValueError: the key names no block of this width.
        """
        first, _, last = key.partition("-")
        if first.isdecimal() and last.isdecimal():
            low, high = int(first), int(last)
            # one spelling only: the ledger would take '00-9' for another partition than '0-9'
            if self.key_of(low) == key:
                return low, high
        raise ValueError(
            f"'{key}' is no block of {self.width} ids. Blocks are named by their first and last id, "
            f"such as '0-{self.width - 1}' or '{self.width}-{2 * self.width - 1}'."
        )


@dataclass(frozen=True, slots=True)
class ByValue:
    """One partition for each value of a column.

    `digits` goes with a column of integers: keys are padded to so many digits, such as `0101` for 101.
    """

    column: str
    digits: int = 0

    def where(self, key: str) -> Where:
        """Rows whose column holds the key.

        Raises:
            ValueError: the key is no number of so many digits.
        """
        if not self.digits:
            return f"{quoted(self.column)} = ?", (key,)
        if not key.isdecimal() or self.key_of(int(key)) != key:
            raise ValueError(f"'{key}' is no number of {self.digits} digits.")
        return f"{quoted(self.column)} = ?", (int(key),)

    def key_of(self, value: Any) -> str:
        """The value itself, as text."""
        return f"{value:0{self.digits}d}" if self.digits else str(value)


@dataclass(frozen=True, slots=True)
class Column:
    """One column, as declared."""

    name: str
    type: str
    nullable: bool
    description: str
    default: Scalar = None
    encode: Callable[[Any], Scalar] | None = None

    @property
    def ddl(self) -> str:
        """The column's line in CREATE TABLE or ADD COLUMN."""
        text = f"{quoted(self.name)} {self.type}"
        if not self.nullable:
            text += " NOT NULL"
        if self.default is not None:
            text += f" DEFAULT {_literal(self.default)}"
        return text


def _literal(value: Scalar) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(int(value)) if isinstance(value, bool) else str(value)


def _encode_json(value: Any) -> str:
    # sets and dicts sorted: a set's order changes from process to process, and the row would differ at every run
    return msgspec.json.encode(value, order="deterministic").decode()


def _default(info: msgspec.structs.FieldInfo, encode: Callable[[Any], Scalar] | None) -> Scalar:
    """What the column holds where nothing is said; None where the field has no default that SQL can write."""
    value = info.default
    if info.default_factory in (list, dict, set, tuple, frozenset):
        value = info.default_factory()
    if value is None or value is msgspec.NODEFAULT:
        return None
    scalar = encode(value) if encode else value
    if isinstance(scalar, float) and not math.isfinite(scalar):
        return None
    return scalar if isinstance(scalar, (bool, int, float, str, bytes)) else None


def _unannotated(kind: Any) -> tuple[Any, str]:
    """A type without its annotations, and the description among them."""
    description = ""
    while typing.get_origin(kind) is typing.Annotated:
        kind, *extras = typing.get_args(kind)
        for extra in extras:
            if isinstance(extra, msgspec.Meta) and extra.description:
                description = extra.description
    return kind, description


def _column(info: msgspec.structs.FieldInfo) -> Column:
    kind, description = _unannotated(info.type)
    arms = typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else ()
    nullable = type(None) in arms
    if arms:
        rest = [arm for arm in arms if arm is not type(None)]
        if len(rest) != 1:
            raise TableError(f"{info.name}: {kind} mixes types; a column has one, or one and None.")
        kind, inner = _unannotated(rest[0])
        description = description or inner
    sql, encode = _sql_type(info.name, kind)
    return Column(info.name, sql, nullable, description, _default(info, encode), encode)


def _sql_type(name: str, kind: Any) -> tuple[str, Callable[[Any], Scalar] | None]:
    origin = typing.get_origin(kind)
    if kind is dt.datetime:
        return "TEXT", utc_text
    if kind is dt.date:
        return "TEXT", dt.date.isoformat
    if origin is Literal:
        kind = _one_type(name, kind, typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return SQL_OF[_one_type(name, kind, [member.value for member in kind])], operator.attrgetter("value")
    if origin in (list, tuple, dict, set, frozenset) or kind in (list, tuple, dict):
        return "TEXT", _encode_json
    try:
        return SQL_OF[kind], None
    except (KeyError, TypeError):
        raise TableError(
            f"{name}: {kind!r} cannot be a column. Use int, float, str, bool, bytes, datetime, date, an Enum, a "
            "Literal, or a list or dict (stored as JSON)."
        ) from None


def _one_type(name: str, kind: Any, values: Iterable[Any]) -> type:
    """The type of all of an Enum's or a Literal's values."""
    found = {type(value) for value in values}
    if found in ({str}, {int}, {bool}):
        return found.pop()
    raise TableError(f"{name}: the values of {kind!r} must all be texts or all be integers to be a column.")


def _binder(columns: Sequence[Column]) -> Callable[[msgspec.Struct], tuple[Scalar, ...]]:
    """A function from a row to the tuple that is bound; in C where no column needs encoding."""
    if not any(column.encode for column in columns):
        return msgspec.structs.astuple
    encoders = [(place, column.encode) for place, column in enumerate(columns) if column.encode]

    def bind(row: msgspec.Struct) -> tuple[Scalar, ...]:
        values = list(msgspec.structs.astuple(row))
        for place, encode in encoders:
            value = values[place]
            if value is not None:
                values[place] = encode(value)
        return tuple(values)

    return bind


@dataclass(frozen=True, eq=False)
class Table:
    """A table, declared from its row type.

    Args:
        row: the row type; its docstring and its fields' `Meta(description=...)` are the documentation.
        name: the public name: in asset keys, reports and queries.
        key: the columns of the source's stable identifier.
        partitioning: how rows divide into partitions; None for a table that is fetched whole.
        indexes: further indexes, each a tuple of columns.
        stored_as: the name of the stored table where `name` is a view that joins what belongs to other tables.
        view: the SELECT of that view.
        parent: the column by which a table of pairs belongs to a row of another table; fetching that row again
            replaces all its pairs.
        owner: the name of that other table, where its records bring the pairs: the pairs of a record that has not
            changed stay without coming again, and those of one that has vanished vanish with it.
        gathered_with: the name of the table whose records bring these rows along, where no listing ever tells all of
            them: they are complete when it is, and never vanish.
        transient: rows of its records come and go, so that any share of them may end in one go.
        fingerprinted: rows keep the fingerprint of the record that they were made from (see `fingerprints.py`).
        spatial: the columns of latitude and longitude (degrees), which an R*Tree `NAME_rtree` indexes by `id`.
        full_text: the columns whose words an FTS5 table `NAME_fts` indexes by `id`; the text itself stays in the table.
    """

    row: type[msgspec.Struct]
    name: str
    key: tuple[str, ...] = ("id",)
    partitioning: Partitioning | None = None
    indexes: tuple[tuple[str, ...], ...] = ()
    stored_as: str = ""
    view: str = ""
    parent: str | None = None
    owner: str = ""
    gathered_with: str = ""
    transient: bool = False
    fingerprinted: bool = False
    spatial: tuple[str, str] | None = None
    full_text: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = {column.name for column in self.columns}
        reserved = {name for name, _, _ in self.bookkeeping}
        if clash := names & reserved:
            raise TableError(
                f"{self.name}: {', '.join(sorted(clash))} is kept by the warehouse; name the field otherwise."
            )
        wanted = {*self.key, *(column for index in self.indexes for column in index)} - reserved
        if self.partitioning:
            wanted.add(self.partitioning.column)
        if self.parent:
            wanted.add(self.parent)
        wanted |= {*(self.spatial or ()), *self.full_text}
        if missing := wanted - names:
            raise TableError(f"{self.name}: {self.row.__name__} has no field {', '.join(sorted(missing))}.")
        if bool(self.stored_as) != bool(self.view):
            raise TableError(f"{self.name}: stored_as and view go together.")
        if self.owner and not self.parent:
            raise TableError(f"{self.name}: owner needs parent, the column by which rows belong to it.")
        if self.spatial and not self.has_integer_id:
            raise TableError(f"{self.name}: spatial needs an integer key 'id', which the R*Tree points to.")
        if self.full_text and not self.has_integer_id:
            raise TableError(f"{self.name}: full_text needs an integer key 'id', which the index points to.")
        nullable = [column.name for column in self.columns if column.name in self.key and column.nullable]
        if nullable:
            raise TableError(f"{self.name}: the key column {nullable[0]} may not be None.")

    @property
    def stored(self) -> str:
        """The name of the table that holds the rows."""
        return self.stored_as or self.name

    @property
    def bookkeeping(self) -> tuple[tuple[str, str, str], ...]:
        """The columns that the warehouse keeps: name, DDL, meaning."""
        return (*BOOKKEEPING, RAW_HASH) if self.fingerprinted else BOOKKEEPING

    @property
    def has_integer_id(self) -> bool:
        """Whether the key is the rowid itself."""
        return self.key == ("id",) and self.column("id").type == "INTEGER"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The declared columns, in the row type's order."""
        hints = typing.get_type_hints(self.row, include_extras=True)
        infos = msgspec.structs.fields(self.row)
        return tuple(
            _column(msgspec.structs.FieldInfo(i.name, i.encode_name, hints[i.name], i.default, i.default_factory))
            for i in infos
        )

    @cached_property
    def description(self) -> str:
        """The row type's docstring."""
        return " ".join((self.row.__doc__ or "").split())

    @cached_property
    def bind(self) -> Callable[[msgspec.Struct], tuple[Scalar, ...]]:
        """From a row to the tuple that the statements bind."""
        return _binder(self.columns)

    @cached_property
    def key_of(self) -> Callable[[msgspec.Struct], Any]:
        """From a row to its key: a value, or a tuple where the key has several columns."""
        return operator.attrgetter(*self.key)

    @cached_property
    def ddl(self) -> list[str]:
        """The statements that create the stored table and its indexes where they are missing."""
        lines = [column.ddl for column in self.columns]
        lines += [f"{quoted(name)} {rest}" for name, rest, _ in self.bookkeeping]
        if self.has_integer_id:
            # the rowid itself: no second tree to keep
            lines[[c.name for c in self.columns].index("id")] = '"id" INTEGER PRIMARY KEY NOT NULL'
        else:
            lines.append(f"PRIMARY KEY ({', '.join(map(quoted, self.key))})")
        body = ",\n  ".join(lines)
        statements = [f"CREATE TABLE IF NOT EXISTS {quoted(self.stored)} (\n  {body}\n) STRICT"]
        # few rows have vanished: how many live is the number of all less those
        name = quoted(f"{self.stored}_vanished")
        statements.append(
            f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(self.stored)} (vanished_at) WHERE vanished_at IS NOT NULL"
        )
        for name, index in zip(self.index_names, self.indexes, strict=True):
            on = ", ".join(map(quoted, index))
            statements.append(f"CREATE INDEX IF NOT EXISTS {quoted(name)} ON {quoted(self.stored)} ({on})")
        return statements

    @property
    def index_names(self) -> tuple[str, ...]:
        """The names of the further indexes."""
        return tuple(f"{self.stored}_by_{'_'.join(index)}" for index in self.indexes)

    def column(self, name: str) -> Column:
        """A declared column by its name.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def insert_sql(self, now: str) -> str:
        """Inserts rows whose key is new and leaves the others alone. `now` is a text that `utc_text` wrote.

        Bound are the columns, and the fingerprint behind them where the table keeps one.
        """
        columns = [*(column.name for column in self.columns), *((RAW_HASH[0],) if self.fingerprinted else ())]
        names = ", ".join(map(quoted, columns))
        marks = ", ".join(f"?{place}" for place in range(1, len(columns) + 1))
        return (
            f"INSERT INTO {quoted(self.stored)} ({names}, last_updated, first_seen) VALUES ({marks}, '{now}', '{now}') "
            "ON CONFLICT DO NOTHING"
        )

    def update_sql(self, now: str) -> str:
        """Updates the rows that differ from what is bound or had vanished, and no others."""
        values = [name for name in self._places if name not in self.key]
        kept = f"{RAW_HASH[0]} = ?{len(self.columns) + 1}, " if self.fingerprinted else ""
        sets = "".join(f"{quoted(name)} = ?{self._places[name]}, " for name in values)
        differs = " OR ".join(
            [*(f"{quoted(name)} IS NOT ?{self._places[name]}" for name in values), "vanished_at IS NOT NULL"]
        )
        return (
            f"UPDATE {quoted(self.stored)} SET {sets}{kept}last_updated = '{now}', vanished_at = NULL "
            f"WHERE {self._same_key} AND ({differs})"
        )

    @cached_property
    def refingerprint_sql(self) -> str:
        """Notes the fingerprint of a record that has changed in what is not stored. Bound: fingerprint, key."""
        keys = " AND ".join(f"{quoted(name)} = ?{place}" for place, name in enumerate(self.key, start=2))
        return f"UPDATE {quoted(self.stored)} SET {RAW_HASH[0]} = ?1 WHERE {keys} AND {RAW_HASH[0]} IS NOT ?1"

    @cached_property
    def _places(self) -> dict[str, int]:
        return {column.name: place for place, column in enumerate(self.columns, start=1)}

    @property
    def _same_key(self) -> str:
        return " AND ".join(f"{quoted(name)} = ?{self._places[name]}" for name in self.key)

    @cached_property
    def key_in(self) -> Callable[[tuple[Scalar, ...]], Any]:
        """From a bound tuple to its key: a value, or a tuple where the key has several columns."""
        return operator.itemgetter(*(self._places[name] - 1 for name in self.key))

    def column_in(self, name: str) -> Callable[[tuple[Scalar, ...]], Any]:
        """From a bound tuple to the value of a column."""
        return operator.itemgetter(self._places[name] - 1)

    def stored_of(self, name: str) -> Callable[[msgspec.Struct], Any]:
        """From a row to the value of a column, as it is bound."""
        value_of, encode = operator.attrgetter(name), self.column(name).encode
        if encode is None:
            return value_of
        return lambda row: None if (value := value_of(row)) is None else encode(value)

    @property
    def rtree(self) -> str:
        """The name of the R*Tree of a spatial table."""
        return f"{self.stored}_rtree"

    @cached_property
    def spatial_ddl(self) -> list[str]:
        """The statements that make and fill the R*Tree of a spatial table."""
        if self.spatial is None:
            return []
        lat, lon = map(quoted, self.spatial)
        return [
            f"CREATE VIRTUAL TABLE {quoted(self.rtree)} USING rtree(id, min_lat, max_lat, min_lon, max_lon)",
            (
                f"INSERT INTO {quoted(self.rtree)} SELECT id, {lat}, {lat}, {lon}, {lon} FROM {quoted(self.stored)} "
                f"WHERE {lat} IS NOT NULL AND {lon} IS NOT NULL"
            ),
        ]

    @property
    def late_ddl(self) -> list[str]:
        """The statements that take away what is made faster when all rows are there: further indexes, and the R*Tree."""
        statements = [f"DROP INDEX IF EXISTS {quoted(name)}" for name in self.index_names]
        if self.spatial is None:
            return statements
        statements += [f"DROP TRIGGER IF EXISTS {trigger.name}" for trigger in self._spatial_triggers()]
        return [*statements, f"DROP TABLE IF EXISTS {quoted(self.rtree)}"]

    @property
    def fts(self) -> str:
        """The name of the full-text index of a table that has one."""
        return f"{self.stored}_fts"

    @cached_property
    def full_text_ddl(self) -> list[str]:
        """The statements that make and fill the full-text index."""
        if not self.full_text:
            return []
        columns = ", ".join(map(quoted, self.full_text))
        # external content: the index holds words and places, and reads the text from the table where it is shown
        return [
            f"CREATE VIRTUAL TABLE {quoted(self.fts)} USING fts5({columns}, content='{self.stored}', content_rowid='id')",
            f"INSERT INTO {quoted(self.fts)} ({quoted(self.fts)}) VALUES ('rebuild')",
        ]

    @cached_property
    def triggers(self) -> tuple[Trigger, ...]:
        """What keeps the R*Tree and the full-text index of a table in step with it."""
        return (*self._spatial_triggers(), *self._full_text_triggers())

    def _spatial_triggers(self) -> tuple[Trigger, ...]:
        if self.spatial is None:
            return ()
        lat, lon = map(quoted, self.spatial)
        on, tree = quoted(self.stored), quoted(self.rtree)
        add = (
            f"INSERT INTO {tree} SELECT NEW.id, NEW.{lat}, NEW.{lat}, NEW.{lon}, NEW.{lon} "
            f"WHERE NEW.{lat} IS NOT NULL AND NEW.{lon} IS NOT NULL;"
        )
        remove = f"DELETE FROM {tree} WHERE id = OLD.id;"
        bodies = {
            "insert": f"AFTER INSERT ON {on} BEGIN {add} END",
            "update": f"AFTER UPDATE OF {lat}, {lon} ON {on} WHEN OLD.{lat} IS NOT NEW.{lat} OR "
            f"OLD.{lon} IS NOT NEW.{lon} BEGIN {remove} {add} END",
            "delete": f"AFTER DELETE ON {on} BEGIN {remove} END",
        }
        return _named_triggers(self.rtree, bodies)

    def _full_text_triggers(self) -> tuple[Trigger, ...]:
        if not self.full_text:
            return ()
        on, index = quoted(self.stored), quoted(self.fts)
        columns = ", ".join(map(quoted, self.full_text))
        new, old = (", ".join(f"{row}.{quoted(name)}" for name in self.full_text) for row in ("NEW", "OLD"))
        differs = " OR ".join(f"OLD.{quoted(name)} IS NOT NEW.{quoted(name)}" for name in self.full_text)
        add = f"INSERT INTO {index} (rowid, {columns}) VALUES (NEW.id, {new});"
        # FTS5 takes words out of an index of external content only when told which ones they were
        remove = f"INSERT INTO {index} ({index}, rowid, {columns}) VALUES ('delete', OLD.id, {old});"
        bodies = {
            "insert": f"AFTER INSERT ON {on} BEGIN {add} END",
            "update": f"AFTER UPDATE OF {columns} ON {on} WHEN {differs} BEGIN {remove} {add} END",
            "delete": f"AFTER DELETE ON {on} BEGIN {remove} END",
        }
        return _named_triggers(self.fts, bodies)

    def where(self, partitions: Iterable[str] | None) -> Where:
        """The condition for the rows of some partitions; all rows for None or a table without partitions."""
        if partitions is None or self.partitioning is None:
            return "1", ()
        conditions = [self.partitioning.where(key) for key in partitions]
        if not conditions:
            return "0", ()
        return _any_of([condition for condition, _ in conditions]), tuple(
            value for _, values in conditions for value in values
        )


def _any_of(conditions: Sequence[str]) -> str:
    """Conditions joined by OR, as a balanced tree: SQLite refuses an expression that is over 1,000 deep."""
    if len(conditions) == 1:
        return f"({conditions[0]})"
    half = len(conditions) // 2
    return f"({_any_of(conditions[:half])} OR {_any_of(conditions[half:])})"


@dataclass(frozen=True, slots=True)
class Trigger:
    """What SQLite does of itself when a row is written: `sql` is the whole CREATE TRIGGER statement, `fills` the name of the
    table whose rows it makes."""

    name: str
    sql: str
    fills: str = ""


def _named_triggers(on: str, bodies: Mapping[str, str]) -> tuple[Trigger, ...]:
    names = {event: f"{on}_{event}" for event in bodies}
    return tuple(Trigger(names[event], f"CREATE TRIGGER {names[event]} {body}") for event, body in bodies.items())


@dataclass(frozen=True, slots=True)
class View:
    """A view that belongs to no single table."""

    name: str
    select: str
    description: str


@dataclass(frozen=True, eq=False)
class Schema:
    """What one source's database file holds.

    Every table NAME is accompanied by a view `live_NAME`: the rows that have not vanished. `notes` says what the
    computed columns of views mean: by view, by column. `revision` is to be raised when records are read otherwise than
    before while the tables stay as they are, so that no record is taken for read already.
    """

    source: str
    tables: tuple[Table, ...]
    views: tuple[View, ...] = ()
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    triggers: tuple[Trigger, ...] = ()
    revision: int = 1

    def __post_init__(self) -> None:
        names = {table.name for table in self.tables}
        for table in self.tables:
            for other in (table.owner, table.gathered_with):
                if other and other not in names:
                    raise TableError(f"{table.name} belongs to {other}, which is no table of {self.source}.")

    @cached_property
    def digest(self) -> bytes:
        """What tells this declaration of the tables from an earlier one: 16 bytes."""
        told = [(table.name, [(c.name, c.type, c.nullable) for c in table.columns]) for table in self.tables]
        return blake2b(repr((self.revision, told)).encode(), digest_size=16).digest()

    def fingerprints(self, records: Iterable[bytes | msgspec.Raw]) -> list[int]:
        """The fingerprint of each raw record."""
        return fingerprints_of(records, int.from_bytes(self.digest[:8]))

    @cached_property
    def all_triggers(self) -> dict[str, str]:
        """Name and statement of every trigger."""
        own = (trigger for table in self.tables for trigger in table.triggers)
        return {trigger.name: " ".join(trigger.sql.split()) for trigger in (*own, *self.triggers)}

    def table(self, name: str) -> Table:
        """A table by its public name.

        Raises:
            KeyError: the source has none of that name.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(f"{self.source} has no table '{name}'; it has {', '.join(t.name for t in self.tables)}.")

    @cached_property
    def all_views(self) -> dict[str, str]:
        """Name and SELECT of every view, in an order in which they can be created."""
        views = {table.name: table.view for table in self.tables if table.view}
        views |= {view.name: view.select for view in self.views}
        views |= {
            f"live_{table.name}": f"SELECT * FROM {quoted(table.name)} WHERE vanished_at IS NULL"
            for table in self.tables
        }
        return {name: " ".join(select.split()) for name, select in views.items()}
