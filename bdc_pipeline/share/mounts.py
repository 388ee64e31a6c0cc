"""Where a path lies: on this machine or on a file server, and what its mount's options mean for SQLite's locks.

Read from `/proc/self/mountinfo` (proc(5)); elsewhere, a UNC path is the only one known to be on a network. Nothing here touches
the share: a look at the mount table never hangs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mount", "is_network", "located", "locks_trouble", "mount_of", "read_mounts"]

MOUNTINFO = Path("/proc/self/mountinfo")

NETWORK = frozenset(
    {
        "cifs",
        "smb3",
        "smbfs",
        "nfs",
        "nfs4",
        "9p",
        "afs",
        "ceph",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "ocfs2",
        "davfs",
    }
)
"""File systems on a server; those by FUSE count too, as a program stands behind them."""

LOCAL_FUSE = frozenset(
    {"fuse.portal", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.snapfuse", "fuse.fuse-overlayfs", "fusectl"}
)
"""What desktops and containers mount by FUSE, and no file share."""

SHARED_LOCKS = frozenset({"cifs", "smb3", "nfs", "nfs4", "ceph", "gfs2", "glusterfs", "lustre", "ocfs2"})
"""File systems on which one machine's lock is seen by the others, unless an option takes it away."""

LOCAL_LOCKS = ("nobrl", "nolock", "local_lock=all", "local_lock=posix", "localflock", "noflock")
"""Mount options with which locks are seen by this machine alone: measured, `nobrl` corrupts a database."""

MOST_LINKS = 40
"""Links followed in one path, as the kernel does."""

ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table. `root` is the folder of the source that is mounted (`/` mostly)."""

    point: str
    kind: str
    source: str
    root: str
    options: tuple[str, ...]

    @property
    def is_network(self) -> bool:
        """Whether a server (or a program, for FUSE) stands behind it."""
        if self.kind.startswith("fuse") and self.kind not in LOCAL_FUSE:
            return self.kind != "fuseblk"  # NTFS and exFAT disks
        return self.kind in NETWORK


def read_mounts(text: str | None = None) -> list[Mount]:
    """The mount table; empty where there is none to read. `text` in the form of mountinfo stands in for it."""
    if text is None:
        try:
            text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return []
    return [mount for line in text.splitlines() if (mount := _parsed(line)) is not None]


def mount_of(path: str | Path, mounts: list[Mount] | None = None) -> Mount | None:
    """The mount on which `path` (which need not exist) lies; None when there is no table."""
    mounts = read_mounts() if mounts is None else mounts
    real = _real(path, mounts)
    found = None
    for mount in mounts:
        # Of mounts at one point the last one covers the others
        if _is_below(real, mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def is_network(path: str | Path, mounts: list[Mount] | None = None) -> bool:
    """Whether `path` lies on a file server: a UNC path, or on a network mount."""
    if _unc(path) is not None:
        return True
    mount = mount_of(path, mounts)
    return mount is not None and mount.is_network


def located(path: str | Path, mounts: list[Mount] | None = None) -> Path | None:
    """Where `path` is found here: itself, or for a UNC path the place where its share is mounted; None when it is not."""
    parts = _unc(path)
    if os.name == "nt" or parts is None:
        return Path(path)
    best: tuple[int, Path] | None = None
    for mount in read_mounts() if mounts is None else mounts:
        source = _unc(mount.source) if mount.kind in {"cifs", "smb3", "smbfs"} else None
        if source is None:
            continue
        # `//server/share/folder` may be the source itself, or share `//server/share` with the root `/folder`
        below = [*source, *(part for part in mount.root.split("/") if part)] if len(source) == 2 else source
        if [part.lower() for part in parts[: len(below)]] == [part.lower() for part in below]:
            place = Path(mount.point, *parts[len(below) :])
            if best is None or len(below) > best[0]:
                best = len(below), place
    return best[1] if best else None


def locks_trouble(mount: Mount | None) -> str | None:
    """Why SQLite's locks on this mount do not reach other machines, as a sentence; None when they do."""
    if mount is None:
        return "The mount table cannot be read, so it is not known whether locks reach other machines."
    if not mount.is_network:
        return None
    for option in mount.options:
        if option in LOCAL_LOCKS:
            return f"{mount.point} is mounted with '{option}': locks do not reach other machines."
    if mount.kind not in SHARED_LOCKS:
        return f"{mount.point} is a {mount.kind} mount: locks do not reach other machines."
    return None


def _parsed(line: str) -> Mount | None:
    """`36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, spaces in names as `\\040`."""
    fields, separator, rest = line.partition(" - ")
    before, after = fields.split(" "), rest.split(" ")
    if not separator or len(before) < 6 or len(after) < 2:
        return None
    options = before[5].split(",") + (after[2].split(",") if len(after) > 2 else [])
    return Mount(_plain(before[4]), after[0], _plain(after[1]), _plain(before[3]), tuple(dict.fromkeys(options)))


def _plain(name: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1], 8)), name)


def _unc(path: str | Path) -> list[str] | None:
    r"""The parts of `//server/share/...` or `\\server\share\...`; None for any other path."""
    text = os.fspath(path)
    if not text.startswith(("//", "\\\\")) or text.startswith("///"):
        return None
    parts = [part for part in re.split(r"[\\/]", text) if part]
    return parts if len(parts) >= 2 else None


def _real(path: str | Path, mounts: list[Mount]) -> str:
    """The absolute path with its links followed, up to where a server begins: a look behind that may hang."""
    left = [part for part in os.path.abspath(os.fspath(path)).split("/") if part][::-1]  # noqa: PTH100  (follows nothing)
    servers = {mount.point for mount in mounts if mount.is_network}
    real, followed = "/", 0
    while left:
        candidate = real.rstrip("/") + "/" + left.pop()
        if candidate in servers or followed > MOST_LINKS:
            return "/".join([candidate, *left[::-1]])
        try:
            target = os.readlink(candidate)  # noqa: PTH115  (a string is what is split)
        except OSError:
            real = candidate
            continue
        followed += 1
        joined = os.path.normpath(os.path.join(real, target))  # noqa: PTH118  (strings, as above)
        left += [part for part in joined.split("/") if part][::-1]
        real = "/"
    return real


def _is_below(path: str, point: str) -> bool:
    return point in {"/", path} or path.startswith(point.rstrip("/") + "/")
