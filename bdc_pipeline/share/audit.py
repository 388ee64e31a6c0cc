"""What a cache keeps for people: every conflict with base, mine, theirs and result; what waits for a person; the syncs.

Images are kept as JSON by column name, so that any program can read them; a blob is `{"$hex": "..."}`.
"""

import json
import sqlite3
from typing import Any, TypeVar

import msgspec

from bdc_pipeline.share.model import Key, Value
from bdc_pipeline.share.rules import Image


class AuditRow(msgspec.Struct, frozen=True):
    """One decision: what both sides had, and what came of it. Times in ms since 1970; `client` is the other side's."""

    id: int
    at_ms: int
    sequence: int
    table: str
    key: Key
    outcome: str
    rule: str
    base: Image | None
    mine: Image | None
    theirs: Image | None
    result: Image | None
    client: str
    note: str


class OpenConflict(msgspec.Struct, frozen=True):
    """A change made here that could not be kept and waits for a person. `theirs` is what the table has now."""

    id: int
    at_ms: int
    sequence: int
    table: str
    key: Key
    reason: str
    base: Image | None
    mine: Image | None
    theirs: Image | None
    edited_at: int | None = None
    resolved_at: int | None = None
    resolution: str | None = None


def key_text(key: Key) -> str:
    """A key as text that reads well and reads back."""
    if all(isinstance(value, int | str) for value in key):
        return msgspec.json.encode(key).decode()
    return json.dumps(key, default=_hex, ensure_ascii=False, separators=(",", ":"))


def read_key(text: str) -> Key:
    """The key behind a `key_text`."""
    return tuple(json.loads(text, object_hook=_unhex))


def image_text(image: Image | None) -> str | None:
    """A row as text, or None for a row that is not there."""
    return None if image is None else json.dumps(image, default=_hex, ensure_ascii=False)


def read_image(text: str | None) -> Image | None:
    """The row behind an `image_text`."""
    if text is None:
        return None
    found: Image = {
        name: _unhex(value) if isinstance(value, dict) else value for name, value in json.loads(text).items()
    }
    return found


def _hex(value: bytes) -> dict[str, str]:
    return {"$hex": value.hex()}


def _unhex(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["$hex"]) if set(value) == {"$hex"} else value


def keep_decision(db: sqlite3.Connection, row: AuditRow) -> None:
    """Write a decision into the audit; its id is chosen here."""
    db.execute(
        "INSERT INTO _sync_audit (at, sequence, tbl, key, outcome, rule, base, mine, theirs, result, client, note) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            row.at_ms,
            row.sequence,
            row.table,
            key_text(row.key),
            row.outcome,
            row.rule,
            *(image_text(image) for image in (row.base, row.mine, row.theirs, row.result)),
            row.client,
            row.note,
        ],
    )


def park(db: sqlite3.Connection, conflict: OpenConflict) -> None:
    """Keep a change that waits for a person; its id is chosen here."""
    db.execute(
        "INSERT INTO _sync_conflict (at, sequence, tbl, key, reason, base, mine, theirs, edited_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            conflict.at_ms,
            conflict.sequence,
            conflict.table,
            key_text(conflict.key),
            conflict.reason,
            *(image_text(image) for image in (conflict.base, conflict.mine, conflict.theirs)),
            conflict.edited_at,
        ],
    )


def read_audit(db: sqlite3.Connection, limit: int) -> list[AuditRow]:
    """The newest decisions, newest first."""
    rows = db.execute(
        "SELECT id, at, sequence, tbl, key, outcome, rule, base, mine, theirs, result, client, note FROM _sync_audit "
        "ORDER BY id DESC LIMIT ?",
        [limit],
    )
    return [_read(AuditRow, row, images=slice(7, 11)) for row in rows]


def read_conflicts(db: sqlite3.Connection, where: str, values: list[Value]) -> list[OpenConflict]:
    """Conflicts that wait or waited for a person, oldest first."""
    rows = db.execute(
        "SELECT id, at, sequence, tbl, key, reason, base, mine, theirs, edited_at, resolved_at, resolution FROM _sync_conflict "
        f"WHERE {where} ORDER BY id",
        values,
    )
    return [_read(OpenConflict, row, images=slice(6, 9)) for row in rows]


Read = TypeVar("Read", AuditRow, OpenConflict)


def _read(kind: type[Read], row: tuple[Any, ...], images: slice) -> Read:
    values = list(row)
    values[4] = read_key(row[4])
    values[images] = [read_image(text) for text in row[images]]
    return kind(*values)


def close_conflict(db: sqlite3.Connection, number: int, resolution: str, at: int) -> None:
    """A person has decided."""
    db.execute("UPDATE _sync_conflict SET resolved_at = ?, resolution = ? WHERE id = ?", [at, resolution, number])


HISTORY_KEPT = 10_000


def record(db: sqlite3.Connection, entry: dict[str, Any], at: int) -> None:
    """Keep what one sync did; the oldest beyond HISTORY_KEPT fall away."""
    number = db.execute(
        "INSERT INTO _sync_history (at, entry) VALUES (?, ?)", [at, json.dumps(entry, default=str)]
    ).lastrowid
    db.execute("DELETE FROM _sync_history WHERE id <= ?", [int(number or 0) - HISTORY_KEPT])


def read_history(db: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """What the last syncs did, newest first."""
    rows = db.execute("SELECT entry FROM _sync_history ORDER BY id DESC LIMIT ?", [limit])
    return [json.loads(entry) for (entry,) in rows]
