"""Whatever is written where, in whatever order things are synced, crash and restart: the machines agree in the end, every row that
was acknowledged is there, or replaced by somebody who saw it, or in an audit, or waits for a person; and nothing is there twice."""

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdc_pipeline.share.model import Change, Stamp
from bdc_pipeline_tests.share.fleet import Log, Machine, make, settle, tokens

PART = """CREATE TABLE part (item INTEGER REFERENCES item (id) ON DELETE CASCADE, pos INTEGER, note TEXT,
    PRIMARY KEY (item, pos)) WITHOUT ROWID"""

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE, n INTEGER NOT NULL DEFAULT 0 CHECK (n < 1000))",
    PART,
    "CREATE TABLE tag (name TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, note TEXT)",
    "CREATE TABLE loose (note TEXT, x)",
    "INSERT INTO item VALUES (1, 'one', 'a', 1), (2, 'two', 'b', 2)",
    "INSERT INTO part VALUES (1, 1, 'p')",
    "INSERT INTO tag VALUES ('Red', 't')",
    "INSERT INTO loose VALUES ('l', 1), ('m', 2)",
)

WRITES = {
    "insert item": "INSERT INTO item (name, code) VALUES (:token, :code)",
    "insert item at": "INSERT INTO item VALUES (:a, :token, NULL, :b)",
    "name item": "UPDATE item SET name = :token WHERE id = :a",
    "code item": "UPDATE item SET code = :code, name = :token WHERE id = :a",
    "count item": "UPDATE item SET n = n + :b WHERE id = :a",
    "move item": "UPDATE item SET id = :b, name = :token WHERE id = :a",
    "replace item": "INSERT OR REPLACE INTO item VALUES (:a, :token, :code, :b)",
    "force code": "UPDATE OR REPLACE item SET code = :code, name = :token WHERE id = :a",
    "upsert item": "INSERT INTO item (name, code) VALUES (:token, :code) ON CONFLICT (code) DO UPDATE SET name = :token",
    "ignore item": "INSERT OR IGNORE INTO item VALUES (:a, :token, :code, 0)",
    "delete item": "DELETE FROM item WHERE id = :a",
    "insert part": "INSERT INTO part VALUES (:a, :b, :token)",
    "note part": "UPDATE part SET note = :token WHERE item = :a",
    "move part": "UPDATE OR REPLACE part SET pos = :b, note = :token WHERE item = :a",
    "delete part": "DELETE FROM part WHERE item = :a",
    "insert tag": "INSERT INTO tag VALUES (:code, :token)",
    "rename tag": "UPDATE OR IGNORE tag SET name = upper(name), note = :token WHERE name = :code",
    "note tag": "UPDATE tag SET note = :token WHERE name = :code",
    "delete tag": "DELETE FROM tag WHERE name = :code",
    "insert loose": "INSERT INTO loose VALUES (:token, :b)",
    "note loose": "UPDATE loose SET note = :token WHERE rowid = :a",
    "delete loose": "DELETE FROM loose WHERE rowid = :a",
}

CHANGES = {
    "add c1": "ALTER TABLE item ADD COLUMN c1 TEXT DEFAULT 'd1'",
    "add c2": "ALTER TABLE item ADD COLUMN c2 TEXT",
    "make made": "CREATE TABLE made (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id), note TEXT)",
    "make unique": "CREATE UNIQUE INDEX names ON item (name)",
    "drop unique": "DROP INDEX names",
    "make view": "CREATE VIEW seen AS SELECT name FROM item",
    "drop view": "DROP VIEW seen",
    "make trigger": "CREATE TRIGGER counted AFTER INSERT ON part BEGIN UPDATE item SET n = n + 1 WHERE id = NEW.item; END",
    "write c1": "UPDATE item SET c1 = :token WHERE id = :a",
    "write c2": "UPDATE item SET c2 = :token WHERE id = :a",
    "write made": "INSERT INTO made (item, note) VALUES (:a, :token)",
    "write part": "INSERT INTO part VALUES (:a, :b, :token)",
}

write = st.tuples(
    st.sampled_from(sorted(WRITES)),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["a", "b", "Red", "red", None]),
)
step = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.lists(write, min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("sync"), st.integers(0, 2), st.sampled_from(["", "", "prepared", "published", "confirmed"])),
    st.tuples(st.just("edit while publishing"), st.integers(0, 2), st.lists(write, min_size=1, max_size=2)),
    st.tuples(st.just("snapshot"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(
        st.just("older"),
        st.integers(0, 2),
        st.lists(
            st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", "", None]), st.booleans()), min_size=1, max_size=2
        ),
        st.booleans(),
    ),
    st.tuples(st.just("wait"), st.integers(1, 5_000)),
)


class Drained(msgspec.Struct):
    """Rows that a program wrote which knows nothing of a cache, into the share's own file."""

    changes: tuple[Change, ...]
    number: int

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        return {"item": ("id", "name", "code", "n")}


class World:
    """Three machines, what was written on them, and what somebody replaced who saw it."""

    def __init__(self, folder: Path, rule: str, skews: list[int], limit: int) -> None:
        self.log = Log()
        self.limit = limit
        start = make(folder / "app.db", *SCHEMA)
        self.folder = folder
        self.start = start
        self.machines = [
            Machine(self.log, folder / f"{name}.db", name, rules={"default": rule}, skew=skew, snapshot=start)
            for name, skew in zip("ABC", skews, strict=True)
        ]
        self.written: list[str] = []
        self.replaced: set[str] = set()
        self.known: set[str] = set()
        self.careless = False

    def write(self, machine: Machine, writes: list[tuple[str, int, int, Any]], *, commit: bool) -> None:
        """A transaction of a program; statements that SQLite refuses were never acknowledged."""
        db = machine.connect()
        db.execute("PRAGMA foreign_keys = ON")
        before = _held(db)
        db.execute("BEGIN IMMEDIATE")
        for kind, a, b, code in writes:
            token = f"~{machine.name}{len(self.written)}~"
            self.written.append(token)
            try:
                db.execute((WRITES | CHANGES)[kind], {"token": token, "a": a, "b": b, "code": code})
            except (sqlite3.IntegrityError, sqlite3.OperationalError):
                continue  # refused: a clash, or a column that is not there yet
        db.execute("COMMIT" if commit else "ROLLBACK")
        after = _held(db)
        db.close()
        self.replaced |= before - after
        self.known |= after

    def edit_while_publishing(self, machine: Machine, writes: list[tuple[str, int, int, Any]]) -> None:
        """A segment is prepared, then edits come, then it is published, then the process is killed."""
        machine.pull()
        segment = machine.cache.prepare(self.limit, "u", self.log.now, machine.rules)
        self.log.now += 5
        self.write(machine, writes, commit=True)
        if segment is not None:
            assert self.log.publish(segment)
        machine.kill()

    def older(self, machine: Machine, rows: list[tuple[int, str | None, bool]], *, stale: bool) -> None:
        """An older program has written items, or deleted some ("" for a code), upon the log as it was lately or long ago."""
        machine.pull()
        changes = []
        for number, code, inserted in {row[0]: row for row in rows}.values():
            self.written.append(token := f"~O{len(self.written)}~")
            row = (number, token, code, 0) if code != "" else None
            self.careless |= row is None  # it leaves the item's parts behind, as a program without foreign keys does
            base = 0 if stale else machine.cache.position.sequence
            decision = "inserted" if inserted and row else None
            changes.append(
                Change("item", (number,), base, row, self.log.now, Stamp(self.log.now, 0, "older"), decision)
            )
            self.known |= set(tokens([row] if row else []))
        db = machine.connect()
        before = _held(db)
        drained = Drained(tuple(changes), len(self.written))
        machine.cache.enter(drained, machine.rules, self.log.now)
        assert machine.cache.enter(drained, machine.rules, self.log.now).skipped
        self.replaced |= (before - _held(db)) if not stale else set()
        db.close()

    def snapshot(self, source: Machine, target: Machine) -> None:
        """One machine is behind the horizon and loads what another has made."""
        file = self.folder / "snapshot.db"
        position = source.cache.snapshot(file)
        if position is not None and position.sequence >= target.cache.position.sequence:
            target.cache.load_snapshot(file, position, target.rules, self.log.now)

    def check(self) -> None:
        settle(self.machines, self.limit)
        contents = [machine.content_by_name() for machine in self.machines]
        reader = Machine(self.log, self.folder / "reader.db", "R", snapshot=self.start)
        reader.pull()
        assert contents[0] == contents[1] == contents[2] == reader.content_by_name()
        for machine in self.machines:
            assert machine.run("PRAGMA integrity_check") == [("ok",)]
            assert self.careless or machine.run("PRAGMA foreign_key_check") == []
        final = tokens(row for rows in self.machines[0].content().values() for row in rows)
        kept = " ".join(machine.accounted() for machine in self.machines)
        lost = {t for t in self.known - self.replaced - set(final) if t not in kept}
        assert not lost, lost
        whole = [
            token
            for row in self.machines[0].run("SELECT name FROM item UNION ALL SELECT note FROM loose")
            for token in tokens([row])
        ]
        assert len(whole) == len(set(whole))
        for machine in (*self.machines, reader):
            machine.cache.close()


def _held(db: sqlite3.Connection) -> set[str]:
    return {
        token
        for (table,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '_sync_*'"
        ).fetchall()
        for token in tokens(db.execute(f"SELECT * FROM {table}").fetchall())
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    steps=st.lists(step, min_size=3, max_size=14),
    rule=st.sampled_from(["newest", "newest", "fields", "mine", "theirs", "manual"]),
    skews=st.lists(st.sampled_from([0, -3_600_000, 90_000]), min_size=3, max_size=3),
    limit=st.sampled_from([1000, 2]),
)
def test_machines_agree_and_nothing_acknowledged_is_lost_or_there_twice(
    steps: list[Any], rule: str, skews: list[int], limit: int
) -> None:
    play(steps, rule, skews, limit)


change = st.tuples(
    st.sampled_from([*CHANGES, "insert item", "delete item"]), st.integers(1, 4), st.integers(1, 4), st.none()
)
changing = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.lists(change, min_size=1, max_size=3), st.just(value=True)),
    st.tuples(st.just("write"), st.integers(0, 2), st.lists(change, min_size=1, max_size=3), st.just(value=True)),
    st.tuples(st.just("sync"), st.integers(0, 2), st.sampled_from(["", "", "prepared", "published", "confirmed"])),
    st.tuples(st.just("snapshot"), st.integers(0, 2), st.integers(0, 2)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps=st.lists(changing, min_size=3, max_size=10), rule=st.sampled_from(["newest", "fields", "manual"]))
def test_machines_agree_while_their_schema_grows(steps: list[Any], rule: str) -> None:
    play(steps, rule, [0, 0, 0], 1000)


def play(steps: list[Any], rule: str, skews: list[int], limit: int) -> None:
    """Take the steps, then check what has become of everything."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        world = World(Path(folder), rule, skews, limit)
        for kind, *rest in steps:
            world.log.now += 10
            match kind:
                case "write":
                    world.write(world.machines[rest[0]], rest[1], commit=rest[2])
                case "sync":
                    world.machines[rest[0]].sync(crash=rest[1], limit=limit)
                case "edit while publishing":
                    world.edit_while_publishing(world.machines[rest[0]], rest[1])
                case "older":
                    world.older(world.machines[rest[0]], rest[1], stale=rest[2])
                case "snapshot":
                    world.snapshot(world.machines[rest[0]], world.machines[rest[1]])
                case "wait":
                    world.log.now += rest[0]
        world.check()
