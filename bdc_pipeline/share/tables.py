"""What the tables of a SQLite file are, as far as copying their rows needs it: keys, columns, unique sets, foreign keys.

Reads, decides nothing, writes nothing. Needs SQLite 3.37 or later for `PRAGMA table_list`.
"""

import re
import sqlite3
from functools import cached_property

import msgspec

from bdc_pipeline.share.model import Key, Row

OURS = "_sync_"
"""Prefix of every table, index and trigger that belongs to the cache."""

OUR_VIEWS = ("sync_tracking", "sync_metadata")
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


class ForeignKey(msgspec.Struct, frozen=True):
    """`columns` of a table refer to `parent_columns` of `parent`."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, dict=True):
    """One table whose rows are copied.

    `columns` are the stored ones, generated columns left out; `key` names the primary key, or is the rowid's name where the
    table declares none. `numbered`: the key is SQLite's own row number, which two machines hand out twice. `unique` are
    further sets of columns that no two rows share `folded`: the key
    compares by another collation than BINARY, so that two different keys may clash. `untyped` columns keep 1 and 1.0 apart.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    keyless: bool = False
    numbered: bool = False
    nullable_key: tuple[str, ...] = ()
    folded: bool = False
    unique: tuple[tuple[str, ...], ...] = ()
    partly_unique: tuple[tuple[str, ...], ...] = ()
    odd_unique: bool = False
    untyped: tuple[str, ...] = ()
    defaults: tuple[str, ...] = ()
    foreign: tuple[ForeignKey, ...] = ()
    indexed: bool = False

    @cached_property
    def rest(self) -> tuple[str, ...]:
        """The columns that are not part of the key."""
        return tuple(column for column in self.columns if column not in self.key)

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """What an INSERT names: the rowid first where it is the key and no column, then the columns."""
        return (*self.key, *self.columns) if self.keyless else self.columns

    def values(self, key: Key, row: Row) -> tuple[object, ...]:
        """The values that belong to `stored`."""
        return (*key, *row) if self.keyless else row

    @cached_property
    def _places(self) -> tuple[int, ...]:
        """Where each column stands among the key's values and the others."""
        order = (*self.key, *self.rest)
        return tuple(order.index(column) for column in self.columns)

    def compose(self, key: Key, rest: Row) -> Row:
        """A row in the order of `columns` from its key and the values of `rest`."""
        if self.keyless:
            return rest
        values = (*key, *rest)
        return tuple([values[place] for place in self._places])

    def split(self, row: Row) -> Row:
        """The values of `rest` out of a row."""
        if self.keyless:
            return row
        return tuple(value for column, value in zip(self.columns, row, strict=True) if column not in self.key)


def text_or_bytes(raw: bytes) -> str | bytes:
    """Text as it is read. What a program has written as text in another encoding than UTF-8 is bytes, and travels as a blob."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def quoted(name: str) -> str:
    """An identifier as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: tuple[str, ...] | list[str], prefix: str = "") -> str:
    """Identifiers, quoted, with commas between."""
    return ", ".join(prefix + quoted(name) for name in names)


def bare(db: sqlite3.Connection, table: Table) -> Row:
    """The values of a row that says nothing: each column's default."""
    row: Row = db.execute(f"SELECT {', '.join(table.defaults)}").fetchone()
    return row


def is_ours(name: str) -> bool:
    """Whether a schema object belongs to the cache and not to the user."""
    return name.startswith(OURS) or name in OUR_VIEWS


def read_tables(db: sqlite3.Connection) -> dict[str, Table]:
    """The tables whose rows are copied, parents before their children where the foreign keys allow an order."""
    kinds = _kinds(db)
    tables = {name: _read(db, name, rowless=wr) for name, (kind, wr) in sorted(kinds.items()) if kind == "table"}
    return _parents_first(tables)


def left_out(db: sqlite3.Connection) -> list[str]:
    """Virtual tables: what they hold is not copied, except as far as triggers make it from tables that are."""
    return sorted(name for name, (kind, _) in _kinds(db).items() if kind == "virtual")


def shadow_tables(db: sqlite3.Connection) -> list[str]:
    """The tables in which virtual tables keep what they hold."""
    return sorted(name for name, (kind, _) in _kinds(db).items() if kind == "shadow")


def _kinds(db: sqlite3.Connection) -> dict[str, tuple[str, bool]]:
    rows = db.execute("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'")
    return {
        name: (kind, bool(wr)) for name, kind, wr in rows if not name.startswith(("sqlite_", OURS)) and kind != "view"
    }


def _read(db: sqlite3.Connection, name: str, *, rowless: bool) -> Table:
    info = db.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
    stored = [row for row in info if row[6] == 0]
    declared = [row for row in sorted(info, key=lambda row: row[5]) if row[5]]
    indexes = db.execute(f"PRAGMA index_list({quoted(name)})").fetchall()
    pk_index = next((row[1] for row in indexes if row[3] == "pk"), None)
    numbered = not rowless and (not declared or (len(declared) == 1 and pk_index is None))
    key = tuple(row[1] for row in declared) or (_rowid_name(name, [row[1] for row in info]),)
    unique, partly, odd = _unique_sets(db, indexes)
    return Table(
        name=name,
        key=key,
        columns=tuple(row[1] for row in stored),
        keyless=not declared,
        numbered=numbered,
        nullable_key=() if numbered or rowless else tuple(row[1] for row in declared if not row[3]),
        folded=pk_index is not None and _folded(db, pk_index),
        unique=unique,
        partly_unique=partly,
        odd_unique=odd,
        untyped=tuple(row[1] for row in stored if _untyped(row[2])),
        defaults=tuple(row[4] if row[4] is not None else "NULL" for row in stored),
        foreign=_foreign_keys(db, name),
        indexed=any(not row[1].startswith(OURS) for row in indexes),
    )


def _rowid_name(table: str, columns: list[str]) -> str:
    taken = {column.lower() for column in columns}
    free = next((name for name in _ROWID_NAMES if name not in taken), None)
    if free is None:
        raise ValueError(
            f"table {table!r} declares no primary key, and its columns hide the rowid; give it a primary key to share it"
        )
    return free


Sets = tuple[tuple[str, ...], ...]


def _unique_sets(db: sqlite3.Connection, indexes: list[tuple[object, ...]]) -> tuple[Sets, Sets, bool]:
    """Sets of columns kept unique by whole indexes, by partial ones, and whether there are partial ones or expressions."""
    whole: list[tuple[str, ...]] = []
    partly: list[tuple[str, ...]] = []
    odd = False
    for _, name, is_unique, origin, partial in indexes:
        if not is_unique or origin == "pk":
            continue
        columns = [row[2] for row in db.execute(f"PRAGMA index_info({quoted(str(name))})")]
        odd = odd or bool(partial) or None in columns
        if None not in columns:
            (partly if partial else whole).append(tuple(columns))
    return tuple(sorted(whole)), tuple(sorted(partly)), odd


def _folded(db: sqlite3.Connection, index: str) -> bool:
    return any(row[5] and row[4].upper() != "BINARY" for row in db.execute(f"PRAGMA index_xinfo({quoted(index)})"))


def _untyped(declared: str) -> bool:
    """Whether a column has no affinity, by the rules of https://sqlite.org/datatype3.html#determination_of_column_affinity."""
    name = declared.upper()
    return not name or name == "ANY" or ("BLOB" in name and "INT" not in name)


def _foreign_keys(db: sqlite3.Connection, table: str) -> tuple[ForeignKey, ...]:
    found: dict[int, list[tuple[str, str, str | None]]] = {}
    for row in db.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall():
        found.setdefault(row[0], []).append((row[2], row[3], row[4]))
    keys = []
    for parts in found.values():
        parent = parts[0][0]
        names = tuple(part[2] for part in parts)
        if None in names:
            info = db.execute(f"PRAGMA table_info({quoted(parent)})").fetchall()
            names = tuple(row[1] for row in sorted(info, key=lambda row: row[5]) if row[5])
        if len(names) == len(parts):
            keys.append(ForeignKey(tuple(part[1] for part in parts), parent, tuple(str(name) for name in names)))
    return tuple(keys)


def _parents_first(tables: dict[str, Table]) -> dict[str, Table]:
    """Tables in an order in which a parent stands before its children; circles in the order of their names."""
    names = {name.lower(): name for name in tables}
    ordered: dict[str, Table] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in ordered or name in visiting:
            return
        visiting.add(name)
        for foreign in tables[name].foreign:
            if parent := names.get(foreign.parent.lower()):
                visit(parent)
        ordered[name] = tables[name]

    for name in tables:
        visit(name)
    return ordered


_TARGET = re.compile(
    r"\b(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|REPLACE\s+INTO|UPDATE\s+(?:OR\s+\w+\s+)?|DELETE\s+FROM)\s*"
    r"""("(?:[^"]|"")+"|\[[^\]]+\]|`[^`]+`|[^\s("\[`;]+)""",
    re.IGNORECASE,
)


def trigger_targets(sql: str) -> set[str]:
    """The tables that a trigger's body writes to, in lower case."""
    begin = re.search(r"\bBEGIN\b", sql, re.IGNORECASE)
    body = sql[begin.end() :] if begin else sql
    return {match.group(1).strip('"[]`').replace('""', '"').lower() for match in _TARGET.finditer(body)}
