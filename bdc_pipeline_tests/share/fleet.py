"""Machines with caches of their own and one log between them, in memory, under a clock that stands until it is moved."""

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bdc_pipeline.share.local import Applied, Cache
from bdc_pipeline.share.model import Segment
from bdc_pipeline.share.rules import Rules
from bdc_pipeline.share.tables import quoted

START = 1_700_000_000_000
TOKEN = re.compile(r"~[A-Z]\d+~")


class Log:
    """The share: segments as bytes, and its clock."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.now = START

    def read(self, sequence: int) -> tuple[Segment, bytes] | None:
        if sequence > len(self.files):
            return None
        data = self.files[sequence - 1]
        return msgspec.msgpack.decode(data, type=Segment), hashlib.sha256(data).digest()

    def publish(self, segment: Segment) -> bytes | None:
        """The digest, or None where somebody was first."""
        if segment.sequence != len(self.files) + 1:
            return None
        self.files.append(msgspec.msgpack.encode(segment))
        return hashlib.sha256(self.files[-1]).digest()


class Machine:
    """One user's machine: a cache, and a clock that is off by `skew` ms."""

    def __init__(self, log: Log, path: Path, name: str, *, rules: Any = None, skew: int = 0, **options: Any) -> None:
        self.log, self.path, self.name, self.skew = log, path, name, skew
        self.rules = rules if isinstance(rules, Rules) else Rules.of(rules)
        self.migrations = options.pop("migrations", None)
        Cache.create(path, name, **options).close()
        self.cache = self._open()

    def _open(self) -> Cache:
        cache = Cache(self.path, migrations=self.migrations, clock=self.clock)
        self._wind(cache._store.db)
        return cache

    def clock(self) -> int:
        return self.log.now + self.skew

    def _wind(self, db: sqlite3.Connection) -> None:
        db.create_function("julianday", 1, lambda _: self.clock() / 86_400_000 + 2440587.5)

    def connect(self) -> sqlite3.Connection:
        """As a program opens the file that knows nothing of a cache."""
        db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("PRAGMA synchronous = OFF")
        self._wind(db)
        return db

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        db = self.connect()
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def script(self, *statements: str) -> None:
        """Statements in one transaction."""
        db = self.connect()
        try:
            db.execute("BEGIN IMMEDIATE")
            for statement in statements:
                db.execute(statement)
            db.execute("COMMIT")
        finally:
            db.close()

    def kill(self) -> None:
        """The process is gone; the file is as it was, and a new process opens it."""
        self.cache.close()
        self.cache = self._open()

    def pull(self) -> list[Applied]:
        done = []
        while found := self.log.read(self.cache.position.sequence + 1):
            done.append(self.cache.apply(*found, self.rules, self.log.now))
        return done

    def sync(self, crash: str = "", limit: int = 1000) -> list[Applied]:
        """Pull and publish until nothing is left; `crash` at "prepared", "published" or "confirmed"."""
        done = self.pull()
        while segment := self.cache.prepare(limit, self.name, self.log.now, self.rules):
            if crash == "prepared":
                break
            digest = self.log.publish(segment)
            if crash == "published":
                break
            if digest is None:
                done += self.pull()
                continue
            done.append(self.cache.confirm(segment, digest, self.rules, self.log.now))
            if crash == "confirmed":
                break
        if crash:
            self.kill()
        return done

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table of the user's."""
        db = sqlite3.connect(self.path)
        try:
            return content(db)
        finally:
            db.close()

    def content_by_name(self) -> dict[str, list[str]]:
        """Every row as a mapping: columns may stand in another order where two machines have added some."""
        db = sqlite3.connect(self.path)
        db.row_factory = sqlite3.Row
        try:
            return {
                name: sorted(
                    repr(sorted(dict(row).items(), key=repr)) for row in db.execute(f"SELECT * FROM {quoted(name)}")
                )
                for name in self.content()
            }
        finally:
            db.close()

    def accounted(self) -> str:
        """Everything that the audit and the conflicts of this machine hold."""
        rows = self.run("SELECT coalesce(mine, '') || coalesce(theirs, '') FROM _sync_audit")
        rows += self.run("SELECT coalesce(mine, '') FROM _sync_conflict")
        return " ".join(row[0] for row in rows)


def content(db: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    tables = db.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT GLOB '_sync_*' "
        "AND name NOT GLOB 'sqlite_*' ORDER BY name"
    ).fetchall()
    return {name: sorted(db.execute(f"SELECT * FROM {quoted(name)}").fetchall(), key=repr) for (name,) in tables}


def tokens(rows: Iterable[Iterable[Any]]) -> list[str]:
    return [found for row in rows for value in row if isinstance(value, str) for found in TOKEN.findall(value)]


def make(path: Path, *statements: str) -> Path:
    """A plain database, such as the share holds at the start."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()
    return path


def settle(machines: list[Machine], limit: int = 1000) -> None:
    """Everybody syncs until nobody has anything left."""
    for _ in range(10):
        for machine in machines:
            machine.sync(limit=limit)
        if all(m.cache.position.sequence == len(m.log.files) and not m.cache.pending() for m in machines):
            return
    raise AssertionError("the machines never come to rest")


def alike(machines: list[Machine]) -> None:
    """Everybody syncs, and has the same rows then."""
    settle(machines)
    assert all(machine.content() == machines[0].content() for machine in machines)
    assert all(machine.run("PRAGMA foreign_key_check") == [] for machine in machines)


Team = Callable[..., list[Machine]]


@contextmanager
def gathered(folder: Path, *schema: str) -> Iterator[Team]:
    """What makes machines A, B, C on one log, that begin with a file of this schema."""
    machines: list[Machine] = []

    def begin(
        count: int = 2, *, rules: Any = None, skews: tuple[int, ...] = (0, 0, 0), **options: Any
    ) -> list[Machine]:
        log, start = Log(), make(folder / "app.db", *schema)
        machines.extend(
            Machine(log, folder / f"{name}.db", name, rules=rules, skew=skew, snapshot=start, **options)
            for name, skew in zip("ABC"[:count], skews, strict=False)
        )
        return machines

    yield begin
    for machine in machines:
        machine.cache.close()
