"""Names on the share, and packs: 32 segments in one file, byte for byte, so that the chain of hashes goes on through it.

```
8 magic | 32 sha256 of all that follows | 8 first segment's number | 4 how many | 8 length of each | the segments' bytes
```
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence

from bdc_pipeline.share.segment import Torn

__all__ = ["PACKED", "pack", "pack_path", "pack_range", "segment_path", "sequence_of", "snapshot_path", "unpack"]

PACKED = 32
"""Segments in a pack: one look-up brings what took 32."""

MAGIC = b"BDCPACK\n"
START = struct.Struct(">8s32s")
HEAD = struct.Struct(">QI")

NUMBERED = re.compile(r"(\d{10})(?:-(\d{10}))?\.(?:seg|snap)")


def segment_path(sequence: int) -> str:
    """Where segment `sequence` is published."""
    return f"log/{sequence:010d}.seg"


def snapshot_path(sequence: int) -> str:
    """Where the snapshot of the content after segment `sequence` is published."""
    return f"snap/{sequence:010d}.snap"


def pack_range(sequence: int) -> range:
    """The segments that lie in one pack with `sequence`."""
    first = (sequence - 1) // PACKED * PACKED + 1
    return range(first, first + PACKED)


def pack_path(sequence: int) -> str:
    """Where the pack is that holds segment `sequence`, once it is packed."""
    segments = pack_range(sequence)
    return f"pack/{segments[0]:010d}-{segments[-1]:010d}.seg"


def sequence_of(name: str) -> int | None:
    """The (first) segment's number in a file's name; None for names that are not ours."""
    match = NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def pack(first: int, segments: Sequence[bytes]) -> bytes:
    """The files of successive segments as one."""
    lengths = struct.pack(f">{len(segments)}Q", *map(len, segments))
    rest = b"".join((HEAD.pack(first, len(segments)), lengths, *segments))
    return START.pack(MAGIC, hashlib.sha256(rest).digest()) + rest


def unpack(data: bytes, *, name: str = "A pack") -> dict[int, bytes]:
    """The segments' files by their numbers. Raises `Torn`."""
    rest = data[START.size :]
    if len(rest) < HEAD.size or START.unpack_from(data) != (MAGIC, hashlib.sha256(rest).digest()):
        raise Torn(f"{name} is cut short or damaged: its {len(data):,} bytes do not have the hash that they name.")
    first, count = HEAD.unpack_from(rest)
    start = HEAD.size + 8 * count
    if start > len(rest):
        raise Torn(f"{name} claims {count:,} segments in {len(data):,} bytes.")
    segments = {}
    for place, length in enumerate(struct.unpack_from(f">{count}Q", rest, HEAD.size)):
        segments[first + place] = rest[start : start + length]
        start += length
    if start != len(rest):
        raise Torn(f"{name} has {len(rest):,} bytes where its segments' lengths come to {start:,}.")
    return segments
