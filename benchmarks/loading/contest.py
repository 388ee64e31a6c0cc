"""Who loads what, how often, and whether they came to the same rows."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.loading.data_set import DataSet, Part
from benchmarks.loading.peers import ROOT, NoPeersError, python_of_peers

STEPS = {"first": "first", "unchanged": "first", "changed": "changed"}
"""The loads, one after the other into the same file, and which version of the documents is loaded."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who loads.

    Args:
        name: as it is reported.
        module: of `benchmarks.loading`, and its argument.
        is_peer: runs in the peers' environment.
        through_dagster: what an empty materialization costs is to be subtracted.
        once: is too slow for being repeated.
    """

    name: str
    module: str
    is_peer: bool = False
    through_dagster: bool = False
    once: bool = False


EMPTY = "Dagster alone"
FLOOR = "floor: msgspec, one executemany"
MANAGER = {kind: f"ours, {kind}" for kind in ("parallel", "sequential", "streaming")}
DRAIN = {kind: f"ours, {kind}, without Dagster" for kind in MANAGER}
SQLITE_UTILS, PANDAS, SQLALCHEMY, DLT = "sqlite-utils", "pandas", "SQLAlchemy", "dlt"

CONTESTANTS = (
    Contestant(EMPTY, "ours:empty-"),
    Contestant(FLOOR, "floor"),
    *(Contestant(name, f"ours:manager-{kind}", through_dagster=True) for kind, name in MANAGER.items()),
    *(Contestant(name, f"ours:drain-{kind}") for kind, name in DRAIN.items()),
    Contestant(SQLALCHEMY, "with_sqlalchemy"),
    Contestant(PANDAS, "with_pandas:sqlite3"),
    Contestant(f"{PANDAS}, through SQLAlchemy", "with_pandas"),
    Contestant(SQLITE_UTILS, "with_sqlite_utils:wal", is_peer=True),
    Contestant(f"{SQLITE_UTILS}, not in WAL mode", "with_sqlite_utils", is_peer=True),
    Contestant(DLT, "with_dlt", is_peer=True, once=True),
)


@dataclass(slots=True)
class Cost:
    """What a load cost: seconds, and MB above the imports."""

    wall: float
    cpu: float
    memory_mb: float

    def better(self, other: Cost) -> Cost:
        """The best times of two runs; the most memory, which is not to be lucky."""
        return Cost(min(self.wall, other.wall), min(self.cpu, other.cpu), max(self.memory_mb, other.memory_mb))


@dataclass(slots=True)
class Outcome:
    """All loads of one data set: by contestant and step, and why some contestants have none."""

    data: DataSet
    costs: dict[str, dict[str, Cost]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def cost(self, name: str, step: str) -> Cost | None:
        """What a contestant's load cost, without what an empty materialization costs; None where it was not measured."""
        if name not in self.costs:
            return None
        cost, contestant = self.costs[name][step], next(c for c in CONTESTANTS if c.name == name)
        empty = self.costs.get(EMPTY)
        if not contestant.through_dagster or empty is None:
            return cost
        # its loads all do the same, which is nothing
        cpu, wall, memory = (min(getattr(c, name) for c in empty.values()) for name in ("cpu", "wall", "memory_mb"))
        return Cost(max(cost.wall - wall, 0.0), max(cost.cpu - cpu, 0.0), max(cost.memory_mb - memory, 0.0))


def run(data: DataSet, contestants: Sequence[Contestant], repeats: int, *, peers_once: bool = False) -> Outcome:
    """Lets all contestants load a data set, in turn rather than one after the other, so that none has the noisy minutes alone."""
    outcome = Outcome(data)
    for turn in range(repeats):
        for contestant in contestants:
            name = contestant.name
            once = contestant.once or (peers_once and name not in (EMPTY, FLOOR, *MANAGER.values()))
            if name in outcome.left_out or (turn and once):
                continue
            # what was written before, such as the documents themselves, is not to be waited for by who comes next
            os.sync()
            print(f"{data.name}: {name}, {turn + 1} of {1 if once else repeats}", file=sys.stderr)
            try:
                costs = _measured(contestant, data)
            except (NoPeersError, _Wrong) as error:
                outcome.left_out[name] = str(error)
                outcome.costs.pop(name, None)
                continue
            before = outcome.costs.get(name)
            outcome.costs[name] = {s: c.better(before[s]) for s, c in costs.items()} if before else costs
    return outcome


class _Wrong(Exception):  # noqa: N818  (what a contestant was, not what went wrong here)
    """A contestant failed, or came to other rows: its figures mean nothing."""


def _measured(contestant: Contestant, data: DataSet) -> dict[str, Cost]:
    python = str(python_of_peers()) if contestant.is_peer else sys.executable
    directory = data.directory / "loaded"
    directory.mkdir()
    database = directory / "load.db"
    settings = {
        "PYTHONPATH": str(ROOT),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        # several of dlt's writers wait for each other's merges until SQLite tells them that the database is locked
        "LOAD__WORKERS": "1",
        "DLT_DATA_DIR": str(directory / "dlt"),
    }
    command = [python, "-m", "benchmarks.loading.child", contestant.module, str(data.directory)]
    costs = {}
    try:
        for step, version in STEPS.items():
            done = subprocess.run(
                [*command, version, str(database)],
                env={**os.environ, **settings},
                cwd=directory,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise _Wrong(f"it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
            costs[step] = Cost(**json.loads(done.stdout.splitlines()[-1]))
        if contestant.name != EMPTY and (problem := _difference(database, data)):
            raise _Wrong(f"it came to other rows: {problem}")
    finally:
        shutil.rmtree(directory)
    return costs


def _difference(database: Path, data: DataSet) -> str:
    """How a file differs from what it should hold after all loads; empty where it does not."""
    with closing(sqlite3.connect(database)) as connection:
        for part in data.parts:
            (count,) = connection.execute(f'SELECT count(*) FROM "{part.name}"').fetchone()
            if count != part.records:
                return f"{count} rows of {part.records} in {part.name}"
            if wrong := _first_wrong(connection, part, _rows_of(data, part)):
                return f"in {part.name}, {wrong}"
    return ""


def _rows_of(data: DataSet, part: Part) -> Iterable[list[Any]]:
    with data.expected(part).open() as lines:
        yield from map(json.loads, lines)


def _first_wrong(connection: sqlite3.Connection, part: Part, rows: Iterable[list[Any]]) -> str:
    there = {name for _, name, *_ in connection.execute(f'PRAGMA table_info("{part.name}")')}
    # some keep the members' names, others make them snake_case
    names = [column.member if column.member in there else column.name for column in part.columns]
    selected = ", ".join(f'"{name}"' for name in names)
    for row in rows:
        found = connection.execute(f'SELECT {selected} FROM "{part.name}" WHERE id = ?', row[:1]).fetchone()
        if found is None:
            return f"{row[0]} is missing"
        for name, is_, wanted in zip(names, found, row, strict=True):
            if is_ != wanted:
                return f"{name} of {row[0]} is {is_!r} instead of {wanted!r}"
    return ""
