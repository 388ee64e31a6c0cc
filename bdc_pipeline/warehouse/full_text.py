"""The full-text index of a table (FTS5): how it is made and filled, and the triggers that keep it in step."""

from __future__ import annotations

from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.triggers import Trigger, named_triggers


def fts_name(stored: str) -> str:
    """The name of a stored table's full-text index."""
    return f"{stored}_fts"


def fts_ddl(stored: str, full_text: tuple[str, ...]) -> list[str]:
    """The statements that make and fill the full-text index over the words of these columns."""
    columns = ", ".join(map(quoted, full_text))
    # external content: the index holds words and places, and reads the text from the table where it is shown
    return [
        f"CREATE VIRTUAL TABLE {quoted(fts_name(stored))} USING fts5({columns}, content='{stored}', content_rowid='id')",
        f"INSERT INTO {quoted(fts_name(stored))} ({quoted(fts_name(stored))}) VALUES ('rebuild')",
    ]


def fts_triggers(stored: str, full_text: tuple[str, ...]) -> tuple[Trigger, ...]:
    """What keeps the full-text index in step with its table."""
    on, index = quoted(stored), quoted(fts_name(stored))
    columns = ", ".join(map(quoted, full_text))
    new, old = (", ".join(f"{row}.{quoted(name)}" for name in full_text) for row in ("NEW", "OLD"))
    differs = " OR ".join(f"OLD.{quoted(name)} IS NOT NEW.{quoted(name)}" for name in full_text)
    add = f"INSERT INTO {index} (rowid, {columns}) VALUES (NEW.id, {new});"
    # FTS5 takes words out of an index of external content only when told which ones they were
    remove = f"INSERT INTO {index} ({index}, rowid, {columns}) VALUES ('delete', OLD.id, {old});"
    bodies = {
        "insert": f"AFTER INSERT ON {on} BEGIN {add} END",
        "update": f"AFTER UPDATE OF {columns} ON {on} WHEN {differs} BEGIN {remove} {add} END",
        "delete": f"AFTER DELETE ON {on} BEGIN {remove} END",
    }
    return named_triggers(fts_name(stored), bodies)
