"""What a table is: a row type declared once, from which everything else follows.

A `Table` takes a `msgspec.Struct` and gives the STRICT DDL, the upsert statements, the binder that turns rows into
tuples, the columns' documentation, and the pandas and Dagster schemas. A source's tables make a `Schema` (see
`schema.py`). Nothing here opens a file: see `store.py`.
"""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from bdc_pipeline.warehouse.columns import BOOKKEEPING, RAW_HASH, Column, TableError, binder, column_of
from bdc_pipeline.warehouse.full_text import fts_ddl, fts_name, fts_triggers
from bdc_pipeline.warehouse.partitioning import Partitioning
from bdc_pipeline.warehouse.spatial import rtree_ddl, rtree_name, rtree_triggers
from bdc_pipeline.warehouse.sql import Scalar, Where, quoted
from bdc_pipeline.warehouse.triggers import Trigger


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
            column_of(msgspec.structs.FieldInfo(i.name, i.encode_name, hints[i.name], i.default, i.default_factory))
            for i in infos
        )

    @cached_property
    def description(self) -> str:
        """The row type's docstring."""
        return " ".join((self.row.__doc__ or "").split())

    @cached_property
    def bind(self) -> Callable[[msgspec.Struct], tuple[Scalar, ...]]:
        """From a row to the tuple that the statements bind."""
        return binder(self.columns)

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
        return rtree_name(self.stored)

    @cached_property
    def spatial_ddl(self) -> list[str]:
        """The statements that make and fill the R*Tree of a spatial table."""
        return rtree_ddl(self.stored, self.spatial) if self.spatial else []

    @property
    def late_ddl(self) -> list[str]:
        """The statements that take away what is made faster when all rows are there: further indexes, and the R*Tree."""
        statements = [f"DROP INDEX IF EXISTS {quoted(name)}" for name in self.index_names]
        if self.spatial is None:
            return statements
        statements += [
            f"DROP TRIGGER IF EXISTS {trigger.name}" for trigger in rtree_triggers(self.stored, self.spatial)
        ]
        return [*statements, f"DROP TABLE IF EXISTS {quoted(self.rtree)}"]

    @property
    def fts(self) -> str:
        """The name of the full-text index of a table that has one."""
        return fts_name(self.stored)

    @cached_property
    def full_text_ddl(self) -> list[str]:
        """The statements that make and fill the full-text index."""
        return fts_ddl(self.stored, self.full_text) if self.full_text else []

    @cached_property
    def triggers(self) -> tuple[Trigger, ...]:
        """What keeps the R*Tree and the full-text index of a table in step with it."""
        in_space = rtree_triggers(self.stored, self.spatial) if self.spatial else ()
        in_words = fts_triggers(self.stored, self.full_text) if self.full_text else ()
        return (*in_space, *in_words)

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
