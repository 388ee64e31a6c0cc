"""How a shared database stands, in one look: the light, what waits, what is in doubt, how far behind, how large.

What a sync found out is written beside the cache (`status.json`), so that every program on the machine sees the same:
one that only looks asks neither the share nor the one that syncs. Losing that file loses nothing but the look.
"""

from __future__ import annotations

import contextlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

FILE = "status.json"


class Light(StrEnum):
    """What one sees first."""

    SUCCESS = "success"
    PENDING = "pending"
    FAILED = "failed"
    OFFLINE = "offline"


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """One sync, as the history keeps it. Times in milliseconds, the start since 1970."""

    at: int
    milliseconds: int
    light: Light
    sentence: str = ""
    rows_out: int = 0
    rows_in: int = 0
    segments_out: int = 0
    segments_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    conflicts: int = 0
    operations: int = 0

    @property
    def moved(self) -> bool:
        """Whether anything came or went."""
        return bool(self.segments_out or self.segments_in or self.conflicts)


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """What the last sync left for those who look: how it ended, and what it saw of the share.

    Args:
        light: how it ended, writes since then aside; None before the first.
        sentence: what a person should know of that.
        attempted: when it was tried last, and `synced`: when it last succeeded; milliseconds since 1970.
        phase: what it is doing just now; empty between syncs.
        head: the last segment of the log that it has seen.
        view: the segment up to which the plain database on the share was seen to be; None where nobody has looked.
        view_trouble: why it could not be brought up to date when that was tried last; empty where it could.
        probe: what the share can do, in a sentence.
        offset: the share's clock less ours, in milliseconds.
        share_bytes: the plain database on the share.
        pid: of the process that syncs in the background.
    """

    light: Light | None = None
    sentence: str = ""
    attempted: int | None = None
    synced: int | None = None
    phase: str = ""
    head: int = 0
    view: int | None = None
    view_trouble: str = ""
    probe: str = ""
    offset: int | None = None
    share_bytes: int | None = None
    pid: int | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A shared database now. Times in milliseconds since 1970, ages in seconds.

    Args:
        light: success: all is on the share; pending: something waits for the next sync; failed: the last sync ended with
            an error; offline: the share could not be reached.
        mode: `cache`, or `direct` where the file on the share itself is open.
        pending: rows that were changed here and are not on the share yet; `pending_seconds`: how long the oldest waits.
        lag: segments of the log that have been seen and are not in the cache yet.
        lag_seconds: since the cache was last known to be in step with the log; None before the first time.
        view_lag: segments that the plain database on the share is behind the log; None where nobody has looked.
    """

    light: Light
    sentence: str
    mode: str
    share: str
    cache: str | None
    user: str
    client: str = ""
    pending: int = 0
    pending_seconds: float | None = None
    conflicts: int = 0
    synced: int | None = None
    attempted: int | None = None
    phase: str = ""
    position: int = 0
    head: int = 0
    lag: int = 0
    lag_seconds: float | None = None
    view: int | None = None
    view_lag: int | None = None
    interval: float = 30.0
    cache_bytes: int | None = None
    share_bytes: int | None = None
    offset: int | None = None
    probe: str = ""
    schema: str = ""
    pid: int | None = None


def light_of(last: Light | None, pending: int, view_trouble: str = "") -> Light:
    """The light: how the last sync ended, unless it ended well and something has been written since.

    Offline and failed stand above pending: the writes wait there too, and their number is shown beside. A plain database
    that cannot be brought up to date is a failure: older programs read what is old.
    """
    if last in (Light.OFFLINE, Light.FAILED):
        return last
    if view_trouble:
        return Light.FAILED
    return Light.PENDING if pending or last is None else Light.SUCCESS


def sentence_of(light: Light, pending: int, conflicts: int, noted: str = "") -> str:
    """What a person should know, in one or two sentences."""
    waiting = "" if not pending else f"{count(pending, 'write')} wait{'s' if pending == 1 else ''} for the next sync."
    if light in (Light.OFFLINE, Light.FAILED):
        told = [noted, waiting]
    elif light is Light.PENDING:
        told = [waiting or "Not synced yet."]
    else:
        told = ["Everything written here is on the share."]
    if conflicts:
        told.append(f"{count(conflicts, 'conflict')} to decide.")
    return " ".join(part for part in told if part)


def count(number: int, what: str) -> str:
    """A number of things: `1 write`, `2,000 writes`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def writes_not_sent(number: int, cache: Path) -> str:
    """What waits in a cache, as a sentence: `1 write in ... has not reached the share.`"""
    return f"{count(number, 'write')} in {cache} {'has' if number == 1 else 'have'} not reached the share."


def size(number: float | None) -> str:
    """Bytes for a person: `812 B`, `3.2 MB`; a dash where it is not known."""
    if number is None:
        return "-"
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def ago(seconds: float | None) -> str:
    """An age for a person: `just now`, `40 s ago`, `3 h ago`; `never` where there is none."""
    if seconds is None:
        return "never"
    if seconds < 2:
        return "just now"
    for limit, unit, divisor in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"


def read_noted(folder: Path) -> Noted:
    """What the last sync left; nothing where it left none or it cannot be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Noted)
    except (OSError, msgspec.MsgspecError):
        return Noted()


def note(folder: Path, **changes: Any) -> Noted:
    """Changes what is left for those who look. A full disk costs the look, not the sync."""
    noted = msgspec.structs.replace(read_noted(folder), **changes)
    beside = folder / f"{FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        beside.write_bytes(msgspec.json.encode(noted))
        beside.replace(folder / FILE)
    return noted


def size_of(*paths: Path) -> int | None:
    """Bytes of files together; None where the first is not there."""
    try:
        first = paths[0].stat().st_size
    except OSError:
        return None
    total = first
    for path in paths[1:]:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
