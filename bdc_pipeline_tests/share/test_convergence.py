"""Whatever is written where, in whatever order things are synced, crash and restart: the machines agree in the end, every row that
was acknowledged is there, or replaced by somebody who saw it, or in an audit, or waits for a person; and nothing is there twice."""

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    st.tuples(st.just("wait"), st.integers(1, 5_000)),
)


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
                db.execute(WRITES[kind], {"token": token, "a": a, "b": b, "code": code})
            except sqlite3.IntegrityError:
                continue
        db.execute("COMMIT" if commit else "ROLLBACK")
        after = _held(db)
        db.close()
        self.replaced |= before - after
        self.known = getattr(self, "known", set()) | after

    def edit_while_publishing(self, machine: Machine, writes: list[tuple[str, int, int, Any]]) -> None:
        """A segment is prepared, then edits come, then it is published, then the process is killed."""
        machine.pull()
        segment = machine.cache.prepare(self.limit, "u", self.log.now, machine.rules)
        self.log.now += 5
        self.write(machine, writes, commit=True)
        if segment is not None:
            assert self.log.publish(segment)
        machine.kill()

    def snapshot(self, source: Machine, target: Machine) -> None:
        """One machine is behind the horizon and loads what another has made."""
        file = self.folder / "snapshot.db"
        position = source.cache.snapshot(file)
        assert position is not None
        if position.sequence >= target.cache.position.sequence:
            target.cache.load_snapshot(file, position, target.rules, self.log.now)

    def check(self) -> None:
        settle(self.machines, self.limit)
        contents = [machine.content() for machine in self.machines]
        reader = Machine(self.log, self.folder / "reader.db", "R", snapshot=self.start)
        reader.pull()
        assert contents[0] == contents[1] == contents[2] == reader.content()
        for machine in self.machines:
            assert machine.run("PRAGMA integrity_check") == [("ok",)]
        final = tokens(row for rows in contents[0].values() for row in rows)
        kept = " ".join(machine.accounted() for machine in self.machines)
        lost = {t for t in getattr(self, "known", set()) - self.replaced - set(final) if t not in kept}
        assert not lost, lost
        whole = [token for row in contents[0]["item"] + contents[0]["loose"] for token in tokens([row])]
        assert len(whole) == len(set(whole))
        for machine in (*self.machines, reader):
            machine.cache.close()


def _held(db: sqlite3.Connection) -> set[str]:
    return {
        token
        for table in ("item", "part", "tag", "loose")
        for token in tokens(db.execute(f"SELECT * FROM {table}").fetchall())
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    steps=st.lists(step, min_size=3, max_size=14),
    rule=st.sampled_from(["newest", "newest", "fields", "mine", "theirs", "manual"]),
    skews=st.lists(st.sampled_from([0, -3_600_000, 90_000]), min_size=3, max_size=3),
    limit=st.sampled_from([1000, 2]),
)
def test_machines_agree_and_nothing_acknowledged_is_lost_or_there_twice(
    steps: list[Any], rule: str, skews: list[int], limit: int
) -> None:
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
                case "snapshot":
                    world.snapshot(world.machines[rest[0]], world.machines[rest[1]])
                case "wait":
                    world.log.now += rest[0]
        world.check()
