"""Documents on the wire: their bytes, their compressed bytes and their validators, made once for each change.

A request costs no encoding, however large a document is. What a document holds belongs to `records.py` and `changes.py`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property
from hashlib import blake2b

from bdc_pipeline.sandbox.frame import JSON, Answer
from bdc_pipeline.sandbox.options import SandboxOptions

Headers = tuple[tuple[bytes, bytes], ...]

#: nginx's own default; ten megabytes take a tenth of a second
_LEVEL = 1
#: 2025-06-01: documents are of that month, whatever day it is
_MONTH = 1_748_736_000
_DAYS = 20 * 86_400


@dataclass(frozen=True)
class _Version:
    """A document's bytes between two changes."""

    body: bytes
    modified: int

    @cached_property
    def gzipped(self) -> bytes:
        return gzip.compress(self.body, _LEVEL, mtime=0)

    @cached_property
    def etag(self) -> str:
        return f'"{blake2b(self.body, digest_size=12).hexdigest()}"'

    @property
    def last_modified(self) -> str:
        return formatdate(self.modified, usegmt=True)


class Document:
    """One document of a registry, which `make` encodes."""

    def __init__(self, make: Callable[[], bytes], *, compressed: bool) -> None:
        self._make = make
        self._compressed = compressed
        self._instead: bytes | None = None
        self._version = self._made(None)

    def publish(self) -> None:
        """Encode it anew. It counts as changed, a second later than before, even if its bytes are as they were."""
        self._version = self._made(self._version.modified + 1)

    def replace(self, body: bytes | None) -> None:
        """Serve exactly these bytes whatever the records are; with None, the records again."""
        self._instead = body
        self.publish()

    def answer(self, asked: Mapping[str, str], options: SandboxOptions, extra: Headers = ()) -> Answer:
        """The answer to a request with these headers: the document, or 304 without a body."""
        version = self._version
        zipped = options.gzip and _accepts_gzip(asked.get("accept-encoding", ""))
        headers = [*JSON, *extra]
        if options.gzip:
            headers.append((b"vary", b"Accept-Encoding"))
        if options.validators in {"both", "etag"}:
            # nginx weakens the tag of what it compresses
            headers.append((b"etag", f"{'W/' if zipped else ''}{version.etag}".encode()))
        if options.validators in {"both", "last-modified"}:
            headers.append((b"last-modified", version.last_modified.encode()))
        if _is_known(version, asked, options):
            return Answer(b"", 304, headers)
        if not zipped:
            return Answer(version.body, headers=headers)
        return Answer(version.gzipped, headers=[*headers, (b"content-encoding", b"gzip")])

    def _made(self, modified: int | None) -> _Version:
        body = self._make() if self._instead is None else self._instead
        if modified is None:
            # Sandboxes with other data begin at other dates, or a client of both would be told that nothing changed
            modified = _MONTH + zlib.crc32(body) % _DAYS
        version = _Version(body, modified)
        if self._compressed:
            # Now, lest the first request after a change be slow
            _ = version.gzipped
        return version


def _is_known(version: _Version, asked: Mapping[str, str], options: SandboxOptions) -> bool:
    """Whether the client has it. Its tags decide if it sends any, else its date, compared exactly as nginx does."""
    tags = asked.get("if-none-match")
    if tags is not None and options.validators in {"both", "etag"}:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return version.etag in known or "*" in known
    date = asked.get("if-modified-since")
    return date == version.last_modified and options.validators in {"both", "last-modified"}


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
