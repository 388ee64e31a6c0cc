"""How a share begins: `FORMAT` is read, or made by whoever is first.

Two first starts at once agree, since `FORMAT` gets its name by `link()` like everything else: the second reads the first's. What
`app.db` holds then is the content at segment 0; it is copied under the write lock under which the triggers are made that note
what older programs write from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bdc_pipeline.share import capture, outbox
from bdc_pipeline.share.answers import Ambiguous, Refused, Taken
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.files import Files
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.mounts import locks_trouble, mount_of
from bdc_pipeline.share.probe import probe
from bdc_pipeline.share.sealing import Key
from bdc_pipeline.share.segment import TooNew, Torn, WrongSecret
from bdc_pipeline.share.snapshots import write_snapshot

__all__ = ["FORMAT_NAME", "Another", "Share", "begin", "take_in"]

FORMAT = 1
FORMAT_NAME = "FORMAT"
CHECK = b"bdc-pipeline share"
LOCK_SECONDS = 60.0
COPY_ATTEMPTS = 3


class Another(ShareError):  # noqa: N818  (what the share is)
    """The share at this path is not the one that a cache belongs to."""


class Format(msgspec.Struct, frozen=True):
    """What the file `FORMAT` says. `check` proves a secret to be the right one; `salt` makes the key with it."""

    format: int
    id: str
    snapshot: str
    sha256: str
    encrypted: bool
    salt: str
    check: str
    created_by: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was begun: its id, its key where it has a secret, and the name and sha256 of its first snapshot."""

    id: str
    key: Key | None = field(repr=False)
    snapshot: str
    sha256: str


def begin(app_db: Path, files: Files, *, client: str, secret: str | None = None, expected: str | None = None) -> Share:
    """The share of `app_db`, made where there is none yet. `expected` is the id that a cache knows it by.

    Raises `Offline`, `Refused` (no atomic publish), `Another`, `WrongSecret`, `TooNew`.
    """
    if not expected:
        # Of a share that is new, not even the folder is there. In that of an empty mount point nothing is made.
        files.make_folders()
    found = _read(files)
    if found is None and expected:
        raise Offline(f"{app_db.parent} has no share now, but had one. Is it mounted? To begin anew, clear the cache.")
    if found is None:
        found = _made(app_db, files, client, secret)
    if expected and found.id != expected:
        raise Another(
            f"{app_db} was shared anew: this cache belongs to share {expected[:8]}, there is {found.id[:8]} now. "
            "'bdc-pipeline share rebuild' loads its content."
        )
    return Share(found.id, _key(found, secret, app_db), found.snapshot, found.sha256)


def _read(files: Files) -> Format | None:
    """What `FORMAT` says; None when there is none."""
    try:
        data = files.read(FORMAT_NAME)
    except FileNotFoundError:
        return None
    return parse(data)


def parse(data: bytes) -> Format:
    """What a `FORMAT` file says. Raises `Torn` and `TooNew`."""
    try:
        version = msgspec.json.decode(data, type=dict[str, object]).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise TooNew(
                f"The share has format {version}; this version reads {FORMAT}. Update bdc-pipeline on this machine."
            )
        return msgspec.json.decode(data, type=Format)
    except msgspec.DecodeError as error:
        raise Torn(f"The share's FORMAT file is damaged ({error}). Restore it from a backup of the share.") from error


def _key(found: Format, secret: str | None, app_db: Path) -> Key | None:
    if not found.encrypted:
        if secret:
            raise WrongSecret(
                f"{app_db} is shared without encryption, but a secret is set here. Unset it (BDC_SHARE_SECRET)."
            )
        return None
    if not secret:
        raise WrongSecret(f"{app_db} is shared encrypted. Set the secret that the team uses (BDC_SHARE_SECRET).")
    key = Key.derive(secret, bytes.fromhex(found.salt))
    sealed = bytes.fromhex(found.check)
    key.open(sealed[:12], sealed[12:], found.id.encode())
    return key


def _made(app_db: Path, files: Files, client: str, secret: str | None) -> Format:
    """Publish the first snapshot, then `FORMAT`; another's, if it was first."""
    able = probe(app_db, files)
    if not able.publishes:
        raise Refused(able.sentence)
    share, salt = uuid.uuid4().hex, os.urandom(16)
    key = Key.derive(secret, salt) if secret else None
    snapshot = f"snap/{0:010d}-{share[:12]}.snap"
    with tempfile.TemporaryDirectory(prefix="bdc-share-") as folder:
        content, sealed = Path(folder) / "content.db", Path(folder) / "content.snap"
        _take_in(app_db, files, content, share)
        sha256 = write_snapshot(content, sealed, Position(), key).hex()
        files.publish_file(snapshot, sealed)
    check = b""
    if key is not None:
        nonce = os.urandom(12)
        check = nonce + key.seal(nonce, CHECK, share.encode())
    ours = Format(
        FORMAT, share, snapshot, sha256, key is not None, salt.hex(), check.hex(), client, int(time.time() * 1000)
    )
    try:
        files.publish(FORMAT_NAME, msgspec.json.format(msgspec.json.encode(ours)))
    except (Taken, Ambiguous):
        theirs = _read(files)
        if theirs is None:
            raise
        if theirs.id != share:
            files.remove([snapshot])
        return theirs
    return ours


def _take_in(app_db: Path, files: Files, to: Path, share: str) -> None:
    safe = locks_trouble(mount_of(app_db)) is None
    call = getattr(files, "call", None)
    if call is None:
        take_in(str(app_db), str(to), share, safe)
    else:
        call("start:take_in", str(app_db), str(to), share, safe, deadline=LOCK_SECONDS * 2)


def take_in(app_db: str, to: str, share: str, safe: bool, *, alive: Callable[[], None] = lambda: None) -> None:  # noqa: FBT001
    """Copy what `app_db` holds to the local file `to`; an empty database where there is none.

    Where locks are `safe`, under the database's write lock and with the triggers made that note what is written after.
    """
    if not Path(app_db).exists() and not safe:
        _emptied(to)
        return
    try:
        if safe:
            _take_in_locked(app_db, to, share, alive)
        else:
            _take_in_read(app_db, to, alive)
    except sqlite3.DatabaseError as error:
        raise Refused(
            f"{app_db} cannot be shared: {error}. It must be a whole SQLite database that no program keeps locked for a minute."
        ) from error
    with _closing(to) as copy:
        capture.remove(copy)
        copy.execute("PRAGMA journal_mode = DELETE")


def _take_in_locked(app_db: str, to: str, share: str, alive: Callable[[], None]) -> None:
    """A second connection copies while the first one holds the lock (a backup cannot read its own transaction's database)."""
    with _closing(app_db) as db:
        if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            db.execute("PRAGMA journal_mode = DELETE")  # WAL does not work over a network
        db.execute("BEGIN IMMEDIATE")
        try:
            with _closing(app_db) as reader, _closing(to) as copy:
                reader.backup(copy, pages=256, progress=lambda *_: alive())
            outbox.install(db, share)
            outbox.set_position(db, share, Position())
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _take_in_read(app_db: str, to: str, alive: Callable[[], None]) -> None:
    """Without locks that hold, a copy may mix two states: it is checked, and made again."""
    for _ in range(COPY_ATTEMPTS):
        before = hashlib.sha256(Path(app_db).read_bytes()).digest()
        with _closing(f"{Path(app_db).absolute().as_uri()}?mode=ro", uri=True) as reader, _closing(to) as copy:
            reader.backup(copy, pages=256, progress=lambda *_: alive())
            whole = copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        if whole and hashlib.sha256(Path(app_db).read_bytes()).digest() == before:
            return
        Path(to).unlink()
    raise Refused(
        f"{app_db} is written to while it is copied, and locks do not hold on this mount. Close the programs that write to it."
    )


def _emptied(to: str) -> None:
    with _closing(to) as db:
        db.execute("PRAGMA user_version = 0")
        db.execute("VACUUM")


@contextlib.contextmanager
def _closing(path: str, *, uri: bool = False) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, uri=uri)
    try:
        yield db
    finally:
        db.close()
