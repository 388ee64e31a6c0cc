"""The schema of a user's database: what it is made of, its hash, and the statements that lead from one to another.

Adding happens by itself: tables, columns, indexes, views, triggers; and views, triggers and indexes are changed or dropped, since
they hold nothing. What could lose data (a table or column dropped, renamed or redefined) needs a migration that both sides have
registered: `{"HASH->HASH": [statements]}`.
"""

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from bdc_pipeline.share.capture import remove
from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.tables import is_ours, quoted, shadow_tables

Migrations = Mapping[str, Sequence[str]]

_ORDER = {"table": 0, "index": 1, "view": 2, "trigger": 3}
_SAFE = re.compile(
    r"\s*(CREATE\s+(UNIQUE\s+)?(TABLE|INDEX|VIEW|TRIGGER|VIRTUAL\s+TABLE)\b|ALTER\s+TABLE\s+\S.*\sADD\s+COLUMN\b"
    r"|DROP\s+(INDEX|VIEW|TRIGGER)\b)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_ADDED = re.compile(r"\b(PRIMARY\s+KEY|UNIQUE|STORED)\b|^\s*(CONSTRAINT|CHECK|FOREIGN)\b", re.IGNORECASE)


class SchemaBlocked(CacheError):  # noqa: N818  (a state, not a mistake)
    """Two schemas differ in a way that needs a person: a sentence with both hashes. What is written here goes on waiting."""


class Item(msgspec.Struct, frozen=True, order=True):
    """One object of a schema, with the statement that makes it."""

    kind: str
    name: str
    table: str
    sql: str


Schema = tuple[Item, ...]


def read_schema(db: sqlite3.Connection) -> Schema:
    """The user's objects in a file, in an order in which they can be made; shadow tables of virtual ones left out."""
    shadows = set(shadow_tables(db))
    rows = db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    items = [
        Item(kind, name, table, sql)
        for kind, name, table, sql in rows
        if not (
            name.startswith("sqlite_")
            or name in shadows
            or (is_ours(name) and (kind != "table" or name[:6] == "_sync_"))
        )
    ]
    return tuple(sorted(items, key=lambda item: _ORDER[item.kind]))


def schema_hash(schema: Schema) -> str:
    """A name for a schema, the same on every machine: blanks, comments and the order of columns play no part."""
    lines = sorted(f"{item.kind} {item.name} {_canonical(item)}" for item in schema)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def after(schema: Schema, statements: Sequence[str]) -> Schema:
    """What a schema becomes by statements, without touching a file. Raises sqlite3.Error where they cannot be run."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        for item in schema:
            scratch.execute(item.sql)
        for statement in statements:
            scratch.execute(statement)
        return read_schema(scratch)


def between(old: Schema, new: Schema, migrations: Migrations) -> tuple[str, ...]:
    """The statements that lead from one schema to another.

    Raises SchemaBlocked where data might be lost by them and no migration is registered.
    """
    if schema_hash(old) == schema_hash(new):
        return ()
    name = f"{schema_hash(old)}->{schema_hash(new)}"
    if name in migrations:
        return tuple(migrations[name])
    was, now = ({(item.kind, item.name): item for item in schema} for schema in (old, new))
    statements: list[str] = []
    for place, item in now.items():
        before = was.get(place)
        if before is not None and _canonical(before) == _canonical(item):
            continue
        if item.kind != "table":
            statements += [_dropping(before)] if before else []
            statements.append(item.sql)
        elif before is None:
            statements.append(item.sql)
        else:
            statements += _columns_added(before, item, name)
    dropped = [item for place, item in was.items() if place not in now]
    for item in dropped:
        if item.kind == "table":
            raise SchemaBlocked(_blocked(f"table {item.name} was dropped or renamed here", name))
    gone = [_dropping(item) for item in reversed(dropped)]
    return (*gone, *statements)


def permitted(statements: Sequence[str], name: str, migrations: Migrations) -> None:
    """Raises SchemaBlocked unless statements from the log only add, or are the migration registered here under this name."""
    if tuple(migrations.get(name, ())) == tuple(statements):
        return
    for statement in statements:
        if not _SAFE.match(statement):
            raise SchemaBlocked(_blocked(f"the share's schema changes by {statement.strip()[:200]!r}", name))


def run(db: sqlite3.Connection, statements: Sequence[str]) -> None:
    """Run statements from the log in a file where some of them may have been done already."""
    for statement in statements:
        if not _is_done(db, statement):
            db.execute(statement)


def strip(db: sqlite3.Connection) -> None:
    """Take everything that is the cache's own out of a file, so that a plain database remains."""
    remove(db)


def definitions(sql: str) -> list[str]:
    """What stands between the outer parentheses of a CREATE TABLE: columns and constraints, blanks and comments evened out."""
    parts, depth, part = [], 0, ""
    for piece in _TOKEN.findall(sql):
        if piece.startswith(("--", "/*")):
            continue
        depth -= piece == ")"
        if depth == 0 and piece == ")":
            break
        if piece == "," and depth == 1:
            parts.append(part)
            part = ""
        elif depth >= 1:
            part = _joined(part, piece)
        depth += piece == "("
    return [found.strip() for found in (*parts, part)]


def _joined(text: str, piece: str) -> str:
    """Text with one more piece: blanks are one blank, but not within quotes, which are one piece."""
    if piece.isspace():
        return text if text.endswith(" ") else text + " "
    return text + piece


_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\[[^\]]*\]|`(?:[^`]|``)*`|\s+|[(),]|[^\s(),'"\[`/-]+|.""",
    re.DOTALL,
)


def _canonical(item: Item) -> str:
    if item.kind == "table" and not _is_virtual(item.sql):
        return "; ".join(sorted(definitions(item.sql))) + " " + item.sql[item.sql.rfind(")") + 1 :].strip().upper()
    text = ""
    for piece in _TOKEN.findall(item.sql):
        text = text if piece.startswith(("--", "/*")) else _joined(text, piece)
    return text.strip()


def _is_virtual(sql: str) -> bool:
    return re.match(r"\s*CREATE\s+VIRTUAL", sql, re.IGNORECASE) is not None


def _columns_added(before: Item, item: Item, name: str) -> list[str]:
    old, new = definitions(before.sql), definitions(item.sql)
    if set(old) - set(new):
        raise SchemaBlocked(_blocked(f"columns of table {item.name} were changed, renamed or dropped here", name))
    added = [definition for definition in new if definition not in old]
    if odd := next((definition for definition in added if _NOT_ADDED.search(definition)), None):
        raise SchemaBlocked(_blocked(f"table {item.name} was rebuilt here with {odd!r}", name))
    return [f"ALTER TABLE {quoted(item.name)} ADD COLUMN {definition}" for definition in added]


def _dropping(item: Item) -> str:
    return f"DROP {item.kind.upper()} {quoted(item.name)}"


def _blocked(what: str, name: str) -> str:
    return (
        f"{what}, which could lose rows of others. Register a migration {name!r} with the statements on every machine; until "
        "then nothing is taken from the share, and what is written here waits."
    )


_NAME = r"""("(?:[^"]|"")+"|\[[^\]]+\]|`[^`]+`|[^\s("\[`]+)"""
_CREATE = re.compile(
    rf"\s*CREATE\s+(?:UNIQUE\s+|VIRTUAL\s+)?(TABLE|INDEX|VIEW|TRIGGER)\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME}",
    re.IGNORECASE,
)
_DROP = re.compile(rf"\s*DROP\s+(INDEX|VIEW|TRIGGER)\s+(?:IF\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)
_ADD = re.compile(rf"\s*ALTER\s+TABLE\s+{_NAME}\s+ADD\s+COLUMN\s+{_NAME}", re.IGNORECASE)


def _is_done(db: sqlite3.Connection, statement: str) -> bool:
    """Whether a statement of the log has nothing to do here, or only after something of the same name is out of the way."""
    if match := _ADD.match(statement):
        table, column = (_plain(name) for name in match.groups())
        info = db.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
        return any(row[1].lower() == column.lower() for row in info)
    if match := _DROP.match(statement):
        return not _stored(db, match.group(1).lower(), _plain(match.group(2)))
    if match := _CREATE.match(statement):
        kind, name = match.group(1).lower(), _plain(match.group(2))
        there = _stored(db, kind, name)
        if there and kind != "table" and _canonical(there) != _canonical(Item(kind, name, "", statement)):
            db.execute(_dropping(there))
            return False
        if there and kind == "table":
            _complete(db, there, statement)
        return there is not None
    return False


def _complete(db: sqlite3.Connection, there: Item, statement: str) -> None:
    """A table of this name was made here too: it gets the columns that it lacks."""
    wanted = after((), [statement])[0]
    if _is_virtual(statement):
        return
    union = Item("table", there.name, there.name, _with(there, wanted))
    for addition in _columns_added(there, union, f"{schema_hash((there,))}->{schema_hash((wanted,))}"):
        db.execute(addition)


def _with(there: Item, wanted: Item) -> str:
    have = definitions(there.sql)
    names = {_plain(definition.split()[0]).lower() for definition in have}
    extra = [one for one in definitions(wanted.sql) if one not in have]
    if clash := next((one for one in extra if _plain(one.split()[0]).lower() in names or _NOT_ADDED.search(one)), None):
        raise SchemaBlocked(
            f"table {there.name} was made here and on another machine, and they differ by {clash!r}. Rename the one made here "
            "or give it the same definition; until then nothing is taken from the share, and what is written here waits."
        )
    return f"CREATE TABLE {quoted(there.name)} ({', '.join([*have, *extra])})"


def _stored(db: sqlite3.Connection, kind: str, name: str) -> Item | None:
    row = db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type = ? AND lower(name) = lower(?)", [kind, name]
    ).fetchone()
    return Item(*row) if row else None


def _plain(name: str) -> str:
    if name[:1] in {'"', "`"}:
        return name[1:-1].replace(name[0] * 2, name[0])
    return name[1:-1] if name[:1] == "[" else name
