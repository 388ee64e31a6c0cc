"""A file's size and times as its share told them last: in its answer to the look-up or the creation just before.

`os.stat` asks once more on a mount that keeps nothing in memory; `statx(2)` can be told not to.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

__all__ = ["Attributes", "attributes"]

AT_EMPTY_PATH = 0x1000
AT_STATX_DONT_SYNC = 0x4000
STATX_MTIME = 0x40
STATX_SIZE = 0x200
SIZE_AT, MTIME_AT, STRUCTURE_BYTES = 40, 112, 256
"""Where `struct statx` has them (`linux/stat.h`, the same on every architecture)."""

_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None) if os.name == "posix" else None


class Attributes(NamedTuple):
    """A size in bytes, and the time of last change in ns since 1970 by the share's clock."""

    size: int
    mtime_ns: int


def attributes(name: str, folder: int) -> Attributes:
    """Those of the file `name` in an open folder, or of an open file itself where `name` is empty.

    Raises:
        OSError: as `os.stat` does.
    """
    if _statx is None:
        found = os.stat(name, dir_fd=folder) if name else os.fstat(folder)
        return Attributes(found.st_size, found.st_mtime_ns)
    structure = ctypes.create_string_buffer(STRUCTURE_BYTES)
    flags = AT_STATX_DONT_SYNC | (0 if name else AT_EMPTY_PATH)
    if _statx(folder, os.fsencode(name), flags, STATX_MTIME | STATX_SIZE, structure) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    seconds, nanoseconds = struct.unpack_from("qI", structure, MTIME_AT)
    return Attributes(struct.unpack_from("Q", structure, SIZE_AT)[0], seconds * 1_000_000_000 + nanoseconds)
