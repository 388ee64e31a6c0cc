"""What SQLite does of itself when a row is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trigger:
    """What SQLite does of itself when a row is written: `sql` is the whole CREATE TRIGGER statement, `fills` the name of the
    table whose rows it makes."""

    name: str
    sql: str
    fills: str = ""


def named_triggers(on: str, bodies: Mapping[str, str]) -> tuple[Trigger, ...]:
    """A trigger for each event, named after what it keeps in step."""
    names = {event: f"{on}_{event}" for event in bodies}
    return tuple(Trigger(names[event], f"CREATE TRIGGER {names[event]} {body}") for event, body in bodies.items())
