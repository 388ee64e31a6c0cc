"""What a share can do, found out before anything is trusted to it: atomic publishing, syncing, its clock, its locks."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bdc_pipeline.share.answers import GONE, told
from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.files import Files
from bdc_pipeline.share.mounts import Mount, locks_trouble, mount_of

__all__ = ["Findings", "Probe", "examine", "probe"]

SKEW_MS = 120_000
"""Clocks that differ by more are told: a conflict is decided by times, corrected, but somebody should see to it."""


class Findings(msgspec.Struct, frozen=True):
    """What trying it out has shown. `trouble` is the first thing that did not go as it must."""

    publishes: bool
    trouble: str
    offset_ms: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Probe:
    """What a share can do.

    `publishes`: a name is given to one file only, whoever tries at the same time. `locks_safe`: SQLite's locks reach other
    machines, so that the plain database on the share can be written in place. `offset_ms`: the share's clock minus ours.
    """

    publishes: bool
    locks_safe: bool
    network: bool
    offset_ms: int
    seconds: float
    mount: Mount | None
    sentence: str


class Calls(Protocol):
    """A `Worker`: files whose process can run other functions too."""

    def call(self, command: str, *arguments: Any, deadline: float | None = None) -> Any:
        """What `command` gives."""


def probe(app_db: Path, files: Files | Calls) -> Probe:
    """Try out the share on which `app_db` lies (its folders are there). Raises `Offline`."""
    root = app_db.with_name(app_db.name + ".sync")
    call = getattr(files, "call", None)
    found = Findings(*call("probe:examine", str(root))) if call else Findings(*examine(str(root)))
    mount = mount_of(app_db)
    trouble = locks_trouble(mount)
    return Probe(
        publishes=found.publishes,
        locks_safe=trouble is None,
        network=mount is not None and mount.is_network,
        offset_ms=found.offset_ms,
        seconds=found.seconds,
        mount=mount,
        sentence=_sentence(root, found, trouble),
    )


def _sentence(root: Path, found: Findings, trouble: str | None) -> str:
    if not found.publishes:
        return (
            f"{root.parent} cannot be shared: {found.trouble}. Without an atomic way to give a file its name, two clients would "
            "overwrite each other. Use a share over SMB 2 or later, or NFS."
        )
    parts = [f"{root.parent} publishes atomically ({found.seconds * 1000:.0f} ms for the probe)."]
    if trouble is not None:
        parts.append(f"{trouble} The database file on the share is therefore not written in place.")
    if abs(found.offset_ms) > SKEW_MS:
        parts.append(f"Its clock and this machine's differ by {found.offset_ms / 1000:.0f} s: set them.")
    return " ".join(parts)


def examine(root: str, *, alive: Callable[[], None] = lambda: None) -> tuple[bool, str, int, float]:
    """Give names in `tmp/` as segments get theirs, and look whether a second one is refused; the fields of `Findings`."""
    began = time.monotonic()
    folder = Path(root) / "tmp"
    first, second = (folder / f"probe-{uuid.uuid4().hex}" for _ in range(2))
    offset_ms, trouble = 0, ""
    try:
        offset_ms = _create(first)
        alive()
        trouble = _trouble(first, second, alive)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise Offline(f"{folder} is not there. Is the share mounted?") from error
        if error.errno in GONE:
            raise told(error, folder) from error
        trouble = f"{error.filename or folder}: {error.strerror}"
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            alive()
    return not trouble, trouble, offset_ms, time.monotonic() - began


def _create(path: Path) -> int:
    """A new file, synced; the share's clock minus ours in ms."""
    before = time.time()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    after = time.time()
    try:
        offset_ms = round(os.fstat(descriptor).st_mtime_ns / 1e6 - (before + after) * 500)
        os.write(descriptor, b"probe")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return offset_ms


def _trouble(first: Path, second: Path, alive: Callable[[], None]) -> str:
    """What does not go as it must, in order; "" when all does."""
    try:
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        return "it makes a file anew that is there already (O_EXCL is not kept)"
    except FileExistsError:
        alive()
    try:
        os.link(first, second)
    except OSError as error:
        if error.errno in GONE:
            raise
        return f"it has no hard links ({error.strerror})"
    alive()
    try:
        os.link(first, second)
        return "it gives a name a second time (link does not refuse)"
    except FileExistsError:
        alive()
    if second.read_bytes() != b"probe":
        return "a linked file has another content"
    return ""
