"""How rows of a cache belong together by foreign keys, as far as a merge asks: who refers to whom, and which numbers are free."""

import sqlite3
from collections.abc import Iterable, Iterator

from bdc_pipeline.share.capture import PRESENT, Captured
from bdc_pipeline.share.dirty import current
from bdc_pipeline.share.model import Key, Row, Value
from bdc_pipeline.share.tables import ForeignKey, Table, listed, quoted

Held = tuple[str, ForeignKey, str, Key, Row]
"""A row with a parent: its table, the foreign key, the parent's table, its key, and the values by which it refers to the parent."""

_LARGEST = 2**63 - 1


class Kin:
    """The relations of a cache's tables."""

    def __init__(self, db: sqlite3.Connection, captured: dict[str, Captured]) -> None:
        self.db = db
        self.captured = captured
        self._named = {name.lower(): one for name, one in captured.items()}

    def references(self) -> Iterator[tuple[Captured, ForeignKey, Captured]]:
        """Every foreign key between captured tables: child, key, parent."""
        for child in self.captured.values():
            for foreign in child.table.foreign:
                parent = self._named.get(foreign.parent.lower())
                if parent and set(foreign.parent_columns) <= set(parent.table.columns):
                    yield child, foreign, parent

    def children(self, table: Table) -> list[tuple[Captured, ForeignKey]]:
        """The foreign keys that refer to a table."""
        return [(child, foreign) for child, foreign, parent in self.references() if parent.table.name == table.name]

    def parents(self, child: Captured) -> list[tuple[ForeignKey, Captured]]:
        """The foreign keys of a table, with the tables they refer to."""
        return [(foreign, parent) for other, foreign, parent in self.references() if other.id == child.id]

    def vanishing(self, changes: Iterable[tuple[Captured, Key, Row | None]]) -> dict[str, set[Row]]:
        """Rows that these changes will delete or alter, of tables to which rows changed here may refer."""
        watched = {
            parent.id
            for child, _, parent in self.references()
            if self.db.execute(f"SELECT 1 FROM {child.dirty} LIMIT 1").fetchone()
        }
        gone: dict[str, set[Row]] = {}
        for one, key, row in changes if watched else ():
            if one.id in watched and (before := current(self.db, one.table, key)) is not None and before != row:
                gone.setdefault(one.table.name, set()).add(before)
        return gone

    def held(self) -> list[Held]:
        """The rows changed here whose parents are there."""
        return [
            (child.table.name, foreign, parent.table.name, key, values)
            for child, foreign, parent in self.references()
            for key, values in self.dirty_values(child, foreign)
            if None not in values and self.exists(parent.table, foreign.parent_columns, values)
        ]

    def dirty_values(self, child: Captured, foreign: ForeignKey) -> list[tuple[Key, Row]]:
        """The rows of a table that were changed here, each with the values by which it refers to its parent."""
        keys = len(child.keys)
        rows = self.db.execute(
            f"SELECT {', '.join(f'd.{k}' for k in child.keys)}, {listed(foreign.columns, 't.')} {self._joined(child)}"
        ).fetchall()
        return [(row[:keys], row[keys:]) for row in rows]

    def dirty_children(self, child: Captured, foreign: ForeignKey, values: Row) -> list[Key]:
        """The rows of a table that were changed here and refer to a parent by these values."""
        where = " AND ".join(f"t.{quoted(name)} = ?" for name in foreign.columns)
        return self.db.execute(
            f"SELECT {', '.join(f'd.{k}' for k in child.keys)} {self._joined(child)} WHERE {where}", values
        ).fetchall()

    def deleted(self, parent: Captured, columns: tuple[str, ...], values: Row) -> list[Key]:
        """The keys of rows deleted here that had these values."""
        places = dict(zip((*parent.table.key, *parent.table.rest), (*parent.keys, *parent.bases), strict=True))
        where = " AND ".join(f"{places[name]} = ?" for name in columns)
        return self.db.execute(
            f"SELECT {', '.join(parent.keys)} FROM {parent.dirty} WHERE state = {PRESENT} AND {where}", values
        ).fetchall()

    def exists(self, table: Table, columns: tuple[str, ...], values: Row) -> bool:
        """Whether a table has a row with these values."""
        where = " AND ".join(f"{quoted(name)} = ?" for name in columns)
        return bool(self.db.execute(f"SELECT 1 FROM {quoted(table.name)} WHERE {where}", values).fetchone())

    def free_number(self, one: Captured, taken: Iterable[Key]) -> int | None:
        """A row number that no row has had lately, or None where there is none left above."""
        table = one.table
        highest: Value = self.db.execute(
            f"SELECT max(n) FROM (SELECT max({listed(table.key)}) AS n FROM {quoted(table.name)} "
            f"UNION ALL SELECT max(k0) FROM {one.dirty})"
        ).fetchone()[0]
        numbers = [highest, *(key[0] for key in taken), 0]
        largest = max(number for number in numbers if isinstance(number, int))
        return largest + 1 if largest < _LARGEST else None

    def with_key(self, table: Table, key: Key, row: Row) -> Row:
        """A row under another key."""
        return row if table.keyless else self.replaced(table, row, table.key, key)

    def replaced(self, table: Table, row: Row, columns: tuple[str, ...], values: Row) -> Row:
        """A row with other values in some columns."""
        named = dict(zip(table.columns, row, strict=True)) | dict(zip(columns, values, strict=True))
        return tuple(named[name] for name in table.columns)

    def pick(self, table: Table, row: Row, columns: tuple[str, ...]) -> Row:
        """The values of some columns of a row."""
        named = dict(zip(table.columns, row, strict=True))
        return tuple(named[name] for name in columns)

    def _joined(self, child: Captured) -> str:
        match = " AND ".join(f"t.{quoted(name)} = d.{k}" for k, name in zip(child.keys, child.table.key, strict=True))
        return f"FROM {child.dirty} AS d JOIN {quoted(child.table.name)} AS t ON {match}"
