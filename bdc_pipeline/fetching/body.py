"""Bodies: reading one to its end within a time, and decompressing it, so that a part never passes for the whole.

What belongs here: bytes. Statuses, headers and what the bytes mean do not.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from urllib3.response import BaseHTTPResponse

from bdc_pipeline.fetching.answers import BadAnswer, Refused, TimedOut

ACCEPT_ENCODING = "gzip, deflate"
"""What `decompressed` understands."""

_AT_ONCE = 65536
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15


def read_body(
    raw: BaseHTTPResponse, *, seconds: float | None, max_bytes: int | None, look_up: Callable[[], None]
) -> bytes:
    """Read a body as it was sent, calling `look_up` (which may raise) after each piece.

    Raises `TimedOut` if it takes longer than so many seconds (noticed when a piece arrives), `Refused` if it is larger
    than `max_bytes`, and urllib3's `HTTPError`s, among them one for a body that is shorter than announced.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    pieces: list[bytes] = []
    size = 0
    # `read1` returns what is there; `read` would wait for all of its amount, however slowly that trickles in
    while piece := raw.read1(_AT_ONCE, decode_content=False):
        pieces.append(piece)
        size += len(piece)
        if max_bytes is not None and size > max_bytes:
            raise Refused(_too_large(max_bytes))
        if deadline is not None and time.monotonic() > deadline:
            raise TimedOut(f"only {size} bytes of the body had come after {seconds:g} s.")
        look_up()
    return b"".join(pieces)


def decompressed(content: bytes, encoding: str, *, max_bytes: int | None = None) -> bytes:
    """Undo a `Content-Encoding`.

    urllib3 takes a compressed stream that ends too early for complete, so this is done here, where the end is checked.
    Raises `BadAnswer` if the content is cut short, damaged or in another encoding, `Refused` if it is too large.
    """
    codings = [coding.strip().lower() for coding in encoding.split(",")]
    for coding in reversed([coding for coding in codings if coding not in {"", "identity"}]):
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise BadAnswer(f"the body came in the encoding {coding!r}, which was not asked for.")
        content = _inflated(content, coding, max_bytes)
    return content


def _inflated(content: bytes, coding: str, max_bytes: int | None) -> bytes:
    try:
        if coding != "deflate":
            return _members(content, _GZIP, max_bytes)
        # Servers disagree on whether "deflate" has a header; the first byte of one that has ends in 8
        return _members(content, _ZLIB if content[:1] and content[0] & 0x0F == 8 else _RAW_DEFLATE, max_bytes)
    except zlib.error as error:
        damage = str(error)
    raise BadAnswer(f"the compressed body is damaged ({damage}).")


def _members(content: bytes, window: int, max_bytes: int | None) -> bytes:
    """Decompress all members of a stream: gzip files may be strung together."""
    parts: list[bytes] = []
    size = 0
    while content:
        stream = zlib.decompressobj(window)
        # One byte more than allowed tells that there is more, without making room for all of it
        part = stream.decompress(content, 0 if max_bytes is None else max_bytes - size + 1)
        size += len(part)
        if max_bytes is not None and size > max_bytes:
            raise Refused(_too_large(max_bytes))
        if not stream.eof:
            raise BadAnswer("the compressed body was cut short.")
        parts.append(part)
        content = stream.unused_data
    return b"".join(parts)


def _too_large(max_bytes: int) -> str:
    return f"the body is larger than the {max_bytes} bytes allowed."
