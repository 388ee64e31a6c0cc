"""The R*Tree of a spatial table: how it is made and filled, and the triggers that keep it in step."""

from __future__ import annotations

from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.triggers import Trigger, named_triggers


def rtree_name(stored: str) -> str:
    """The name of a stored table's R*Tree."""
    return f"{stored}_rtree"


def rtree_ddl(stored: str, spatial: tuple[str, str]) -> list[str]:
    """The statements that make and fill the R*Tree over the columns of latitude and longitude."""
    lat, lon = map(quoted, spatial)
    return [
        f"CREATE VIRTUAL TABLE {quoted(rtree_name(stored))} USING rtree(id, min_lat, max_lat, min_lon, max_lon)",
        (
            f"INSERT INTO {quoted(rtree_name(stored))} SELECT id, {lat}, {lat}, {lon}, {lon} FROM {quoted(stored)} "
            f"WHERE {lat} IS NOT NULL AND {lon} IS NOT NULL"
        ),
    ]


def rtree_triggers(stored: str, spatial: tuple[str, str]) -> tuple[Trigger, ...]:
    """What keeps the R*Tree in step with its table."""
    lat, lon = map(quoted, spatial)
    on, tree = quoted(stored), quoted(rtree_name(stored))
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
    return named_triggers(rtree_name(stored), bodies)
