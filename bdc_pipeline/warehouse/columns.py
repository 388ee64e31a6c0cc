"""What a column is: which SQL type holds a field's type, how its values are encoded, which ones the warehouse adds.

What reads a whole row type is in `table.py`.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bdc_pipeline.warehouse.sql import Scalar, quoted, utc_text

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


class TableError(Exception):
    """A declaration that cannot be a table: says which field and what would be."""


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
    def is_json(self) -> bool:
        """Whether its values are stored as JSON: those of lists and dicts."""
        return self.encode is _encode_json

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


def column_of(info: msgspec.structs.FieldInfo) -> Column:
    """The column that holds a field of a row type.

    Raises:
        TableError: no column can hold it.
    """
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


def binder(columns: Sequence[Column]) -> Callable[[msgspec.Struct], tuple[Scalar, ...]]:
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
