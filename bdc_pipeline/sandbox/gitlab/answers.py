"""Answers in GitLab's words: refusals, bytes with ranges, and what is left of an answer when a fault takes its content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from bdc_pipeline.sandbox.frame import HTML, JSON, Answer

Headers = tuple[tuple[bytes, bytes], ...]

PLAIN: Headers = ((b"content-type", b"text/plain"),)
_NAMES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}
_RANGE = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_BUSY = (
    b"<!DOCTYPE html>\n<html><head><title>GitLab is not responding (%d)</title></head><body>SYNTHETIC</body></html>\n"
)


class RefusedError(Exception):
    """A request that is answered with something else than what it asked for."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def shown(value: Any, headers: Headers = ()) -> Answer:
    """A value in JSON."""
    return Answer(msgspec.json.encode(value), headers=(*JSON, *headers))


def message(status: int, text: str | None = None) -> Answer:
    """A refusal as most of GitLab's code words it."""
    return Answer(msgspec.json.encode({"message": text or f"{status} {_NAMES.get(status, 'Error')}"}), status)


def error(status: int, text: str) -> Answer:
    """A refusal as the code that checks parameters words it."""
    return Answer(msgspec.json.encode({"error": text}), status)


def refusal(status: int, retry_after: float | None, headers: Headers = ()) -> Answer:
    """What any request may get instead: plain text when there were too many, a page when the server is down."""
    pause = ((b"retry-after", f"{retry_after:.10g}".encode()),) if retry_after is not None else ()
    if status == 429:
        return Answer(b"Retry later\n", 429, (*PLAIN, *headers, *pause))
    if status in {502, 503, 504}:
        return Answer(_BUSY % status, status, (*HTML, *pause))
    return message(status)


def content(body: bytes, headers: Headers, asked: str | None, *, ranges: bool) -> Answer:
    """Bytes, or the one range of them that is asked for if the server knows ranges."""
    if not ranges:
        return Answer(body, headers=headers)
    headers = (*headers, (b"accept-ranges", b"bytes"))
    found = _RANGE.fullmatch(asked or "")
    if found is None or not (found["first"] or found["last"]):
        return Answer(body, headers=headers)
    size = len(body)
    if found["first"]:
        first, end = int(found["first"]), min(size, int(found["last"] or size - 1) + 1)
    else:
        first, end = max(0, size - int(found["last"])), size
    if first >= end:
        return Answer(b"", 416, (*headers, (b"content-range", b"bytes */%d" % size)))
    return Answer(body[first:end], 206, (*headers, (b"content-range", b"bytes %d-%d/%d" % (first, end - 1, size))))


def with_headers(answer: Answer, headers: Headers) -> Answer:
    """The same with more headers."""
    return Answer(answer.body, answer.status, (*answer.headers, *headers)) if headers else answer


def emptied(answer: Answer) -> Answer:
    """The same answer, well-formed, with every list empty; bytes are all taken away."""
    if (b"content-type", b"application/json") not in answer.headers:
        return Answer(b"", answer.status, answer.headers)
    gone = {b"link", b"x-next-page", b"x-total", b"x-total-pages"}
    kept = [header for header in answer.headers if header[0] not in gone]
    if len(kept) < len(answer.headers):
        kept += [(b"x-next-page", b""), (b"x-total", b"0"), (b"x-total-pages", b"1")]
    return Answer(msgspec.json.encode(_without_items(msgspec.json.decode(answer.body))), answer.status, kept)


def halved(answer: Answer) -> Answer:
    """Half of it under a matching length: JSON that cannot be read with a status of 200."""
    return Answer(answer.body[: len(answer.body) // 2], answer.status, answer.headers)


def _without_items(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_items(part) for key, part in value.items()}
    return [] if isinstance(value, list) else value
