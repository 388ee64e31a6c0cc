"""Bodies: reading one to its end within a time, and decompressing it, so that a part never passes for the whole.

What belongs here: bytes. Statuses, headers and what the bytes mean do not.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from urllib3.response import BaseHTTPResponse

from bdc_pipeline.fetching.answers import BadAnswer, TimedOut, TooLarge

ACCEPT_ENCODING = "gzip, deflate"
"""What `decompressed` understands."""

_AT_ONCE = 65536
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15


class Sink(Protocol):
    """Takes a body piece by piece, where it is not to be held in memory."""

    def begin(self) -> None:
        """An answer has begun to come; whatever an earlier attempt brought is void."""
        ...

    def write(self, data: bytes, /) -> object:
        """Takes the next piece, decompressed."""
        ...


def pieces_of(
    raw: BaseHTTPResponse, *, seconds: float | None, max_bytes: int | None, look_up: Callable[[], None]
) -> Iterator[bytes]:
    """Yield a body as it was sent, calling `look_up` (which may raise) after each piece.

    Raises `TimedOut` if it takes longer than so many seconds (noticed when a piece arrives), `TooLarge` if it is larger
    than `max_bytes`, and urllib3's `HTTPError`s, among them one for a body that is shorter than announced.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    size = 0
    # `read1` returns what is there; `read` would wait for all of its amount, however slowly that trickles in
    while piece := raw.read1(_AT_ONCE, decode_content=False):
        size += len(piece)
        if max_bytes is not None and size > max_bytes:
            raise TooLarge(_too_large(max_bytes))
        if deadline is not None and time.monotonic() > deadline:
            raise TimedOut(f"only {size} bytes of the body had come after {seconds:g} s.")
        yield piece
        look_up()


def decompressed(content: bytes, encoding: str, *, max_bytes: int | None = None) -> bytes:
    """Undo a `Content-Encoding`.

    Raises `BadAnswer` if the content is cut short, damaged or in another encoding, `TooLarge` if it is.
    """
    view = memoryview(content)
    pieces = (bytes(view[at : at + _AT_ONCE]) for at in range(0, len(content), _AT_ONCE))
    return b"".join(decompressing(pieces, encoding, max_bytes=max_bytes))


def decompressing(pieces: Iterable[bytes], encoding: str, *, max_bytes: int | None = None) -> Iterator[bytes]:
    """Undo a `Content-Encoding` piece by piece; what comes out at a time is bounded, however well it was compressed.

    urllib3 takes a compressed stream that ends too early for complete, so this is done here, where the end is checked.
    Raises what `decompressed` does, after what could be read.
    """
    codings = [coding.strip().lower() for coding in encoding.split(",")]
    for coding in reversed([coding for coding in codings if coding not in {"", "identity"}]):
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise BadAnswer(f"the body came in the encoding {coding!r}, which was not asked for.")
        pieces = _inflated(pieces, coding, max_bytes)
    yield from pieces


def _inflated(pieces: Iterable[bytes], coding: str, max_bytes: int | None) -> Iterator[bytes]:
    size = 0
    try:
        for part in _members(pieces, coding):
            size += len(part)
            if max_bytes is not None and size > max_bytes:
                raise TooLarge(_too_large(max_bytes))
            yield part
    except zlib.error as error:
        damage = str(error)
    else:
        return
    raise BadAnswer(f"the compressed body is damaged ({damage}).")


def _members(pieces: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """Decompress all members of a stream: gzip files may be strung together."""
    stream = None
    for piece in pieces:
        left, part = piece, b""
        # as much as was asked for: there may be more within
        while left or (stream is not None and len(part) == _AT_ONCE):
            if stream is None:
                stream = zlib.decompressobj(_window(coding, left))
            part = stream.decompress(left, _AT_ONCE)
            left = stream.unconsumed_tail
            if stream.eof:
                left, stream = stream.unused_data, None
            yield part
    if stream is not None:
        raise BadAnswer("the compressed body was cut short.")


def _window(coding: str, begun: bytes) -> int:
    if coding != "deflate":
        return _GZIP
    # Servers disagree on whether "deflate" has a header; the first byte of one that has ends in 8
    return _ZLIB if begun[0] & 0x0F == 8 else _RAW_DEFLATE


def _too_large(max_bytes: int) -> str:
    return f"the body is larger than the {max_bytes} bytes allowed."
