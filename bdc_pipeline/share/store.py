"""The cache file itself: its connection, its transactions, the facts it keeps about itself, and the tables it captures."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bdc_pipeline.share import clock, dirty
from bdc_pipeline.share.capture import Captured, doubt, install, note_unknown, renew
from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.model import Position, Stamp, Value
from bdc_pipeline.share.schema import Migrations, Schema, SchemaBlocked, between, read_schema, schema_hash
from bdc_pipeline.share.tables import Table, quoted, text_or_bytes, trigger_targets

BUSY_MS = 60_000
"""How long a transaction here waits for a program that writes."""

TRAIL = 1024
"""How many of the last segments are remembered by their hashes, to find where another log went its own way."""

FORMAT = 1


def open_file(path: Path) -> sqlite3.Connection:
    """A connection that writes what was synced: durable, with foreign keys and cascades left to the log.

    The log holds the rows that cascades have deleted; running them again would delete what others have kept.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    db.text_factory = text_or_bytes
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA recursive_triggers = OFF")
    return db


def machine_ms() -> int:
    """This machine's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


class Store:
    """One cache file. Facts of the cache's own are in `_sync_meta` under names that begin with `cache.`."""

    def __init__(
        self, path: Path, *, migrations: Migrations | None = None, machine: Callable[[], int] = machine_ms
    ) -> None:
        self.path = path
        self.migrations = migrations or {}
        self.machine = machine
        self.db = open_file(path)
        self._captured: dict[str, Captured] = {}
        self._version = -1

    def begin(self, client: str, share: str, position: Position, versions: list[tuple[Value, ...]]) -> None:
        """Make the file a cache: what it holds is the log's content at `position`."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            install(self.db)
            for name, value in {"format": FORMAT, "client": client, "share": share}.items():
                self.put(f"cache.{name}", value)
            self.put_position(position)
            self.put_schema(read_schema(self.db), position.sequence)
            self.follow(published=True)
            self.db.executemany("INSERT INTO _sync_version VALUES (?, ?, ?, ?, ?, ?, ?, ?)", versions)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    # -- facts -------------------------------------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        """A fact, or None."""
        row = self.db.execute("SELECT value FROM _sync_meta WHERE name = ?", [name]).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def put(self, name: str, value: object) -> None:
        """Keep a fact; what is known already costs no write."""
        if self.get(name) == (None if value is None else str(value)):
            return
        self.db.execute("INSERT OR REPLACE INTO _sync_meta (name, value) VALUES (?, ?)", [name, value])

    @property
    def client(self) -> str:
        """The name of this cache among the clients of its share."""
        return self.get("cache.client") or ""

    @property
    def position(self) -> Position:
        """How far the log has been applied."""
        return Position(int(self.get("cache.sequence") or 0), bytes.fromhex(self.get("cache.digest") or ""))

    def put_position(self, position: Position) -> None:
        """The log has been applied up to here."""
        self.put("cache.sequence", position.sequence)
        self.put("cache.digest", position.digest.hex())
        self.db.execute(
            "DELETE FROM _sync_trail WHERE sequence >= ? OR sequence <= ?",
            [position.sequence, position.sequence - TRAIL],
        )
        self.db.execute("INSERT INTO _sync_trail VALUES (?, ?)", [position.sequence, position.digest])

    def trail(self) -> dict[int, bytes]:
        """The last segments that the log's content here is made of: their hashes by number."""
        return dict(self.db.execute("SELECT sequence, digest FROM _sync_trail").fetchall())

    @property
    def stamp(self) -> Stamp:
        """The logical clock."""
        return Stamp(int(self.get("cache.millis") or 0), int(self.get("cache.counter") or 0), self.client)

    def put_stamp(self, stamp: Stamp) -> None:
        """The logical clock has moved."""
        self.put("cache.millis", stamp.millis)
        self.put("cache.counter", stamp.counter)

    @property
    def offset(self) -> int:
        """The share's clock minus this machine's, as last heard, in ms."""
        return int(self.get("cache.offset") or 0)

    # -- transactions ------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, now: int | None = None) -> Iterator[dict[str, Captured]]:
        """One transaction that begins with everything known: schema followed, journals folded.

        Args:
            now: the share's clock, where it is known.
        """
        self.db.execute("BEGIN IMMEDIATE")
        try:
            if now is not None:
                self.put("cache.offset", now - self.machine())
            captured = self.follow(published=False)
            stamp = clock.tick(self.stamp, self.machine() + self.offset, self.client)
            if dirty.fold(self.db, captured.values(), stamp):
                self.put_stamp(stamp)
            yield captured
            self.keep_version()
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self._version = -1
            raise
        self.db.execute("COMMIT")

    def follow(self, *, published: bool) -> dict[str, Captured]:
        """The captured tables, with triggers and journals brought up to a schema that has changed; in a transaction."""
        version = self.schema_version()
        if str(version) != self.get("cache.schema_version"):
            try:
                self._captured = self._renewed(published=published)
            except ValueError as error:
                raise CacheError(str(error)) from error
            self.put("cache.order", "\0".join(self._captured))
            self.keep_version()
        elif version != self._version:
            self._captured = self._recorded()
            self._version = version
        return self._captured

    def _renewed(self, *, published: bool) -> dict[str, Captured]:
        before = {name for (name,) in self.db.execute("SELECT name FROM _sync_table")}
        captured = renew(self.db, published=published)
        made = captured.keys() - before
        if made and not published and (again := made & {i.name for i in self.known_schema() if i.kind == "table"}):
            for name in again:
                note_unknown(self.db, captured[name])
            doubt(self.db, f"table {min(again)} was dropped here and made again; the rows that the log has are loaded")
        return captured

    def captured(self) -> dict[str, Captured]:
        """The captured tables for one who only reads, as of the last transaction here."""
        version = self.schema_version()
        if str(version) != self.get("cache.schema_version"):
            with self.transaction():
                pass
        elif version != self._version:
            self._captured = self._recorded()
            self._version = version
        return self._captured

    def schema_version(self) -> int:
        """SQLite's counter of schema changes in this file."""
        return int(self.db.execute("PRAGMA schema_version").fetchone()[0])

    def keep_version(self) -> None:
        """The captured tables belong to the schema as it is now."""
        version = self.schema_version()
        if version != self._version or str(version) != self.get("cache.schema_version"):
            self.put("cache.schema_version", version)
            self._version = version

    def _recorded(self) -> dict[str, Captured]:
        rows = self.db.execute("SELECT id, name, known FROM _sync_table").fetchall()
        found = {name: Captured(ident, msgspec.msgpack.decode(known, type=Table)) for ident, name, known in rows}
        order = (self.get("cache.order") or "").split("\0")
        return {name: found[name] for name in sorted(found, key=lambda name: order.index(name) if name in order else 0)}

    # -- the schema that the log has ---------------------------------------------------------------------------

    def known_schema(self) -> Schema:
        """The user's schema as the log has it at the position reached."""
        row = self.db.execute("SELECT objects FROM _sync_schema ORDER BY sequence DESC LIMIT 1").fetchone()
        return msgspec.msgpack.decode(row[0], type=Schema)

    def known_hash(self) -> str:
        """The hash of `known_schema`."""
        return str(self.db.execute("SELECT hash FROM _sync_schema ORDER BY sequence DESC LIMIT 1").fetchone()[0])

    def put_schema(self, schema: Schema, sequence: int) -> None:
        """The log's schema from this segment on."""
        self.db.execute("DELETE FROM _sync_schema WHERE sequence > ?", [sequence])
        self.db.execute(
            "INSERT OR REPLACE INTO _sync_schema (sequence, hash, objects) VALUES (?, ?, ?)",
            [sequence, schema_hash(schema), msgspec.msgpack.encode(schema)],
        )
        self.put("cache.schema_same", None)

    def statements(self) -> tuple[str, ...]:
        """What would bring the log's schema to the one here; remembered while neither changes.

        Raises SchemaBlocked where that could lose data and no migration is registered.
        """
        mark = f"{self.schema_version()} {self.known_hash()}"
        if self.get("cache.schema_same") == mark:
            return ()
        found = between(self.known_schema(), read_schema(self.db), self.migrations)
        if not found and self.db.in_transaction:
            self.put("cache.schema_same", mark)
        return found

    def problem(self) -> str | None:
        """What keeps rows from being published or taken, a schema or a row that cannot be read, or None."""
        try:
            self.statements()
        except SchemaBlocked as error:
            return str(error)
        return self.get("cache.blocked") or self.get("cache.unreadable")


@contextmanager
def silenced(db: sqlite3.Connection, captured: dict[str, Captured]) -> Iterator[None]:
    """The user's triggers that write to captured tables do not fire: what they did elsewhere is in the log already.

    Those that write only to virtual tables (a full-text index) do fire, since nothing else brings that index up to date.
    """
    names = {name.lower() for name in captured}
    rows = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name NOT GLOB '_sync_*' AND tbl_name IN "
        f"({', '.join('?' * len(captured))})",
        list(captured),
    ).fetchall()
    quiet = [(name, sql) for name, sql in rows if not (targets := trigger_targets(sql)) or targets & names]
    for name, _ in quiet:
        db.execute(f"DROP TRIGGER {quoted(name)}")
    yield
    for _, sql in quiet:
        db.execute(sql)
