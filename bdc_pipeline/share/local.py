"""The cache: the one object that acts on a local file that programs read and write, and that is kept in step with a share."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from bdc_pipeline.share import audit, dirty, reload, resolving
from bdc_pipeline.share.audit import AuditRow, OpenConflict
from bdc_pipeline.share.clock import skew
from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.incoming import take
from bdc_pipeline.share.model import Change, Position, Segment
from bdc_pipeline.share.outgoing import build
from bdc_pipeline.share.rules import Image, Rules
from bdc_pipeline.share.schema import Migrations, strip
from bdc_pipeline.share.store import Store, machine_ms
from bdc_pipeline.share.tables import left_out

LIMIT_ROWS = 20_000
"""How many rows a segment holds where nothing else is said."""


class Gap(CacheError):  # noqa: N818  (a state, not a mistake)
    """A segment is not the next one."""


class Mismatch(CacheError):  # noqa: N818  (a state, not a mistake)
    """A segment does not follow on what was applied: the log was forked, damaged, or restored from a backup."""


class Applied(msgspec.Struct, frozen=True):
    """What applying a segment came to. `own`: published from here. `skipped`: it had been applied already."""

    sequence: int
    own: bool = False
    skipped: bool = False
    rows: int = 0
    conflicts: int = 0
    parked: int = 0
    renumbered: int = 0


class CacheState(msgspec.Struct, frozen=True):
    """A cache at one look. Sizes in bytes; `problem` is a sentence on what blocks it; `skew` one on this machine's clock."""

    client: str
    share: str
    position: Position
    pending: int
    pending_since: int | None
    inflight: str | None
    open_conflicts: int
    schema: str
    schema_pending: bool
    problem: str | None
    rebuild: str | None
    skew: str | None
    size: int
    left_out: list[str]


class Drained(Protocol):
    """Rows that older programs wrote into the share's plain database, and the number of the last."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """The rows; `decision` is "inserted" for one that was not there before, `base` the segment that the view had."""

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The order of their values."""

    @property
    def statements(self) -> tuple[str, ...]:
        """What makes their tables."""

    @property
    def number(self) -> int:
        """Counts up with every row; what is at or below the last one entered is known."""


class Cache:
    """A local SQLite file in step with a share. One connection: to be used by one thread at a time.

    Programs open the file as any other, with any tool. What they write is captured in their own transactions.
    """

    def __init__(
        self, path: Path, *, migrations: Migrations | None = None, clock: Callable[[], int] = machine_ms
    ) -> None:
        """Opens a cache that `create` has made. Raises CacheError where there is none."""
        if not path.is_file():
            raise CacheError(f"there is no cache at {path}")
        self.path = path
        try:
            self._store = Store(path, migrations=migrations, machine=clock)
        except sqlite3.DatabaseError as error:
            raise CacheError(_damaged(path, error)) from error
        try:
            self._store.get("cache.client")
        except sqlite3.DatabaseError as error:
            self._store.db.close()
            raise CacheError(_damaged(path, error)) from error

    @classmethod
    def create(
        cls,
        path: Path,
        client: str,
        *,
        snapshot: Path | None = None,
        position: Position = Position(),  # noqa: B008  (immutable)
        migrations: Migrations | None = None,
        share: str = "",
        clock: Callable[[], int] = machine_ms,
    ) -> "Cache":
        """Makes a cache from a snapshot of the log at `position`, or an empty one."""
        if path.exists():
            raise CacheError(f"{path} exists already; open it, or move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        versions = reload.copy_file(snapshot, path) if snapshot is not None else []
        store = Store(path, migrations=migrations, machine=clock)
        try:
            store.begin(client, share, position, versions)
        except BaseException:
            store.db.close()
            path.unlink(missing_ok=True)
            raise
        store.db.close()
        return cls(path, migrations=migrations, clock=clock)

    def close(self) -> None:
        """Closes the connection; the file stays."""
        self._store.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- how it stands -----------------------------------------------------------------------------------------

    @property
    def client(self) -> str:
        """The name of this cache among the share's clients."""
        return self._store.client

    @property
    def position(self) -> Position:
        """How far the log has been applied."""
        return self._store.position

    def trail(self) -> dict[int, bytes]:
        """The last segments that were applied here: their hashes by number."""
        return self._store.trail()

    @property
    def inflight(self) -> str | None:
        """The batch that may be in the log already, or None."""
        return self._store.get("cache.inflight")

    @property
    def outbox(self) -> int:
        """The number of the last row entered from the share's plain database."""
        return int(self._store.get("cache.outbox") or 0)

    def pending_by_table(self) -> dict[str, int]:
        """Rows changed here and not yet published, by table; tables with none left out."""
        captured = self._store.captured()
        counts = {name: dirty.count(self._store.db, one) for name, one in captured.items()}
        return {name: number for name, number in counts.items() if number}

    def pending(self) -> int:
        """How many changed rows are not published; a change of the schema counts as one."""
        return sum(self.pending_by_table().values()) + self._schema_pending()

    def pending_since(self) -> int | None:
        """When the oldest change that is pending was made last (ms, this machine's clock), or None."""
        times = [dirty.oldest(self._store.db, one) for one in self._store.captured().values()]
        return min((at for at in times if at is not None), default=None)

    def _schema_pending(self) -> bool:
        try:
            return bool(self._store.statements())
        except CacheError:
            return True

    def state(self) -> CacheState:
        """How the cache stands."""
        store = self._store
        pending = self.pending()
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return CacheState(
            client=store.client,
            share=store.get("cache.share") or "",
            position=store.position,
            pending=pending,
            pending_since=self.pending_since() if pending else None,
            inflight=self.inflight,
            open_conflicts=store.db.execute("SELECT count(*) FROM _sync_conflict WHERE resolved_at IS NULL").fetchone()[
                0
            ],
            schema=store.known_hash(),
            schema_pending=self._schema_pending(),
            problem=store.problem(),
            rebuild=store.get("cache.rebuild"),
            skew=skew(store.offset),
            size=sum(file.stat().st_size for file in files if file.exists()),
            left_out=left_out(store.db),
        )

    def get(self, key: str) -> str | None:
        """A setting kept beside the data."""
        return self._store.get(key)

    def put(self, key: str, value: object) -> None:
        """Keeps a setting beside the data."""
        if key.startswith("cache."):
            raise CacheError(f"{key!r} is kept by the cache itself; choose a name that does not begin with 'cache.'")
        self._store.put(key, value)

    # -- the log -----------------------------------------------------------------------------------------------

    def apply(self, segment: Segment, digest: bytes, rules: Rules, now: int) -> Applied:
        """Applies the next segment of the log, in one transaction.

        Args:
            segment: what was read.
            digest: the sha256 of its file.
            rules: who wins where it meets a row changed here.
            now: the share's clock, ms since 1970.

        Raises:
            Gap: it is not the next one.
            Mismatch: it does not follow on what was applied here.
            SchemaBlocked: its schema needs a migration that is not registered here. What is written here goes on waiting.
        """
        store = self._store
        at = store.position
        if segment.sequence <= at.sequence:
            if segment.sequence == at.sequence and digest != at.digest:
                raise Mismatch(f"segment {segment.sequence} of the log is another than the one applied here")
            return Applied(segment.sequence, skipped=True)
        if segment.sequence != at.sequence + 1:
            raise Gap(f"segment {segment.sequence} was read, and the next is {at.sequence + 1}; one is missing between")
        if segment.previous != at.digest:
            raise Mismatch(
                f"segment {segment.sequence} does not follow on segment {at.sequence} as it was applied here: the log was "
                "changed, or restored from a backup"
            )
        own = segment.batch == self.inflight and segment.client == store.client
        tally = take(store, segment, digest, rules, now, own=own)
        rows = len(segment.changes)
        return Applied(segment.sequence, own, False, rows, tally.conflicts, tally.parked, tally.renumbered)  # noqa: FBT003

    def confirm(self, segment: Segment, digest: bytes, rules: Rules, now: int) -> Applied:
        """Our segment is in the log: what is as it was published is no longer pending. The same as applying it."""
        return self.apply(segment, digest, rules, now)

    def prepare(self, limit: int, user: str, now: int, rules: Rules | None = None) -> Segment | None:
        """The next segment of what is pending, or None; its batch id is kept before this returns.

        Args:
            limit: rows at most.
            user: who changed them.
            now: the share's clock, ms since 1970.
            rules: which column of a table tells when a row was edited.

        Raises:
            SchemaBlocked: the schema was changed here in a way that could lose data of others.
        """
        with self._store.transaction(now) as captured:
            return build(self._store, captured, rules or Rules(), limit, user, now)

    def enter(self, drained: Drained, rules: Rules, now: int) -> Applied:
        """Takes rows that older programs wrote into the share's plain database as edits made here, once."""
        tally, rows = resolving.enter(self._store, drained, rules, now)
        return Applied(self.position.sequence, False, rows == 0, rows, tally.conflicts, tally.parked, tally.renumbered)  # noqa: FBT003

    # -- whole ------------------------------------------------------------------------------------------------

    def load_snapshot(self, file: Path, position: Position, rules: Rules, now: int) -> Applied:
        """Makes a snapshot the content and puts what is pending here on top of it, in one transaction."""
        tally = reload.load(self._store, file, position, rules, now)
        return Applied(position.sequence, False, False, 0, tally.conflicts, tally.parked, tally.renumbered)  # noqa: FBT003

    def snapshot(self, to: Path) -> Position | None:
        """Writes the content at the position reached, without what is pending; None where it cannot be known just now."""
        return reload.write_snapshot(self._store, to)

    def adopt(self, share: str) -> None:
        """The content is another share's from now on, as `load_snapshot` has made it. Its plain database counts anew."""
        with self._store.transaction():
            self._store.put("cache.share", share)
            self._store.put("cache.outbox", None)

    def rewind(self, position: Position) -> int:
        """The share was restored from a backup and ends at `position`: what it lost becomes pending again; the number of rows."""
        return reload.rewind(self._store, position)

    # -- people ------------------------------------------------------------------------------------------------

    def conflicts(self, *, resolved: bool = False) -> list[OpenConflict]:
        """What waits for a person (or, `resolved`, what has been decided), oldest first."""
        return audit.read_conflicts(self._store.db, f"resolved_at IS {'NOT ' if resolved else ''}NULL", [])

    def resolve(self, number: int, choice: str | Image | None) -> None:
        """Decides a conflict: "mine", "theirs", a row, or None for a row that shall be deleted. Raises CacheError."""
        resolving.resolve(self._store, number, choice)

    def audit(self, limit: int = 100) -> list[AuditRow]:
        """The newest decisions of the rules, newest first."""
        return audit.read_audit(self._store.db, limit)

    def record(self, entry: Mapping[str, Any]) -> None:
        """Keeps what a sync did."""
        with self._store.transaction():
            audit.record(self._store.db, dict(entry), self._store.machine())

    def history(self, limit: int = 100) -> list[dict[str, Any]]:
        """What the last syncs did, newest first."""
        return audit.read_history(self._store.db, limit)


def _damaged(path: Path, error: sqlite3.Error) -> str:
    if "disk" in str(error):
        return (
            f"{path} cannot be read or written ({error}): the disk is full, over its quota, or failing. What is in the cache "
            "stays there; mend the disk and try again."
        )
    return (
        f"{path} cannot be used as a cache ({error}). 'bdc-pipeline share clear --force' puts a damaged one aside and makes "
        "it anew."
    )


def strip_file(path: Path) -> None:
    """Makes a plain database of a cache: everything of the cache's own is taken out."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        strip(db)
        db.execute("COMMIT")
    finally:
        db.close()
