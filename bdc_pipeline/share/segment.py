"""A segment as a file: encode, decode, digest. Nothing that is read is trusted before it is checked.

```
8 magic | 2 format | 32 sha256 of all that follows | 2 flags | 8 sequence | 8 body's length | 12 nonce | body
```

Numbers are big-endian. The body is MessagePack compressed by zstd, level 3 (500 rows of two changed columns are 2-6 kB), and
sealed by AES-256-GCM, with the fields before it bound to it, where the share has a secret.
"""

from __future__ import annotations

import hashlib
import os
import struct

import msgspec
import zstandard

from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.model import Segment
from bdc_pipeline.share.sealing import NONCE_BYTES, Key, WrongSecret

__all__ = ["FORMAT", "SegmentError", "TooNew", "Torn", "WrongSecret", "decode", "digest", "encode"]

MAGIC = b"BDCSEG\r\n"
FORMAT = 1
ENCRYPTED = 1
START = struct.Struct(">8sH32s")
HEADER = struct.Struct(f">HQQ{NONCE_BYTES}s")
LEVEL = 3

LARGEST = 1 << 30
"""Bytes that a body may hold when decompressed: a bomb of a few kB does not fill the memory."""

STORED = frozenset({int, float, str, bytes})
LARGEST_INTEGER = (1 << 63) - 1

_decoder = msgspec.msgpack.Decoder(Segment)


class SegmentError(ShareError):
    """A file of the log that cannot be used."""


class Torn(SegmentError):  # noqa: N818  (the file's state)
    """The file is cut short, damaged, or something else."""


class TooNew(SegmentError):  # noqa: N818
    """The file has a format of a later version of this program."""


def digest(data: bytes) -> bytes:
    """The sha256 by which the next segment names this file."""
    return hashlib.sha256(data).digest()


def encode(segment: Segment, key: Key | None = None) -> bytes:
    """The segment as a file's content, sealed where there is a key."""
    body = zstandard.ZstdCompressor(level=LEVEL).compress(msgspec.msgpack.encode(segment))
    flags, nonce = (ENCRYPTED, os.urandom(NONCE_BYTES)) if key else (0, bytes(NONCE_BYTES))
    if key is not None:
        # The tag's 16 bytes are part of the body; the header that is bound to it tells its full length
        header = HEADER.pack(flags, segment.sequence, len(body) + 16, nonce)
        body = key.seal(nonce, body, header)
    else:
        header = HEADER.pack(flags, segment.sequence, len(body), nonce)
    return START.pack(MAGIC, FORMAT, digest(header + body)) + header + body


def decode(data: bytes, key: Key | None = None, *, name: str = "A segment") -> Segment:
    """The segment in a file's content. Raises `Torn`, `WrongSecret` or `TooNew`; `name` tells which file in their sentence."""
    header, body = _checked(data, name)
    flags, sequence, _, nonce = HEADER.unpack(header)
    if flags & ~ENCRYPTED:
        raise TooNew(f"{name} uses features of a later version (flags {flags}). Update bdc-pipeline on this machine.")
    if flags & ENCRYPTED:
        if key is None:
            raise WrongSecret(f"{name} is encrypted. Set the secret that the team uses (BDC_SHARE_SECRET).")
        body = key.open(nonce, body, header)
    elif key is not None:
        raise WrongSecret(
            f"{name} is not encrypted, but the share is: somebody without the secret wrote it. It is not read."
        )
    segment = _unpacked(body, name)
    if segment.sequence != sequence:
        raise Torn(f"{name} contradicts itself: its header says segment {sequence}, its content {segment.sequence}.")
    return segment


def _checked(data: bytes, name: str) -> tuple[bytes, bytes]:
    """The header and body, after their hash was found right."""
    if len(data) < START.size + HEADER.size:
        raise Torn(f"{name} is cut short: {len(data):,} bytes are less than its header.")
    magic, version, told = START.unpack_from(data)
    if magic != MAGIC:
        raise Torn(f"{name} is not a segment: it begins with {magic!r}.")
    if version > FORMAT:
        raise TooNew(
            f"{name} has format {version}; this version reads up to {FORMAT}. Update bdc-pipeline on this machine."
        )
    rest = data[START.size :]
    if digest(rest) != told:
        raise Torn(f"{name} is damaged: its {len(data):,} bytes do not have the hash that they name.")
    header, body = rest[: HEADER.size], rest[HEADER.size :]
    if HEADER.unpack(header)[2] != len(body):
        raise Torn(
            f"{name} is damaged: its body has {len(body):,} bytes, its header says {HEADER.unpack(header)[2]:,}."
        )
    return header, body


def _unpacked(body: bytes, name: str) -> Segment:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= LARGEST:
            raise Torn(f"{name} claims {size:,} bytes of content, more than the {LARGEST:,} that are read.")
        segment = _decoder.decode(zstandard.ZstdDecompressor().decompress(body, max_output_size=LARGEST))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise Torn(f"{name} has the right hash but cannot be read: {error}.") from error
    _check_values(segment, name)
    return segment


def _check_values(segment: Segment, name: str) -> None:
    """What the types do not say: values are SQLite's five, and a row has its table's columns."""
    for change in segment.changes:
        columns = segment.columns.get(change.table)
        if columns is None or (change.row is not None and len(change.row) != len(columns)):
            raise Torn(f"{name} has a row of {change.table!r} that does not have the columns it names.")
        for value in (*change.key, *(change.row or ())):
            if value is not None and (type(value) not in STORED or (type(value) is int and value > LARGEST_INTEGER)):
                raise Torn(f"{name} has a value of {change.table!r} that SQLite cannot hold: {type(value).__name__}.")
