"""What a job's log says: its text without terminal escapes, its sections and their times, the lines that look like errors.

Grammar, from GitLab's documentation of job logs: `section_start:UNIX:NAME[options]\\r ESC[0K` and `section_end:UNIX:NAME\\r
ESC[0K`; a carriage return goes back to the beginning of the line; with timestamps each line begins with a time, two hexadecimal
digits for the stream, O or E, and a blank, or `+` where it goes on with the line before.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import zlib
from dataclasses import dataclass, field

import msgspec

TEXT_HEAD, TEXT_TAIL = 262_144, 786_432
"""Characters of a log's text that are kept and indexed: so many of its beginning and of its end, where it is longer than both.
A log of 50 MB would make as large an index; it is whole in `raw`."""

_PIECE = 1024 * 1024
"""Bytes that are decoded at a time where no text is kept of them."""

MOST_ERRORS = 50
LONGEST_ERROR = 500
"""Lines that look like errors that are kept, the last ones, and characters of each."""

_LEFT_OUT = "\n[... the middle is left out here; it is in raw ...]\n"

# ECMA-48: CSI sequences, OSC sequences with their end in the same line, and the short ones
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\^-~])")
_ERASE = re.compile(r"\x1b\[(?:0?|2)K")
_REST, _LINE = "\x00", "\x01"
"""In place of what erases the rest of a line, and a line as a whole."""
_SECTION = re.compile(r"section_(start|end):(\d{1,12}):([^\[\s\r\x1b]+)(?:\[[^\]\r\n]{0,500}\])?\r?(?:\x1b\[0K)?")
_SECTION_BYTES = re.compile(_SECTION.pattern.encode(), re.ASCII)
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z [0-9a-f]{2}[OE]([ +])", re.MULTILINE)
_GOES_ON = re.compile(_STAMP.pattern.replace("^", r"\n").replace("([ +])", r"\+"))
_CONTROL = bytes({*range(32), 127} - {*b"\t\n\r"})
_ERROR = re.compile(
    r"\bERROR\b|\bFAILED\b|\bFAILURES?\b|\*\*\* \[|^E   |\b\w+(?:Error|Exception)\b:|Traceback \(most recent call last\)|"
    r"(?i:\berror\b[:\[]|\bfatal:|\bpanic:|\bjob failed\b|\bcommand not found\b|\bsegmentation fault\b|\bout of memory\b)"
)
_HINTS = (
    *(
        b"error",
        b"fail",
        b"exception:",
        b"traceback (most recent call last)",
        b"*** [",
        b"\ne   ",
        b"fatal:",
        b"panic:",
    ),
    *(b"command not found", b"segmentation fault", b"out of memory"),
)
"""What a line that the pattern finds holds in lower case, one of them at least."""

_LOOK_FOR_STAMPS = 4096
"""Characters at a log's beginning of which some line tells whether its lines bear times."""

_NO_ERROR = re.compile(r"\b(?:0|no) (?:errors?|failures?|failed)\b", re.IGNORECASE)


class Section(msgspec.Struct):
    """A section: its name, when it began (Unix time), how many seconds it took; None for one that was left open."""

    name: str
    start: int
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What is kept of a log."""

    size: int
    sha256: str
    lines: int
    invalid_bytes: int
    text: str
    text_cut: bool
    sections: list[Section] = field(default_factory=list)
    error_lines: list[str] = field(default_factory=list)


def parsed(raw: bytes | bytearray) -> Parsed:
    """Takes a log apart. A large one is never decoded as a whole, since that may take four times its bytes."""
    text, cut = _kept(raw)
    errors = [line.strip()[:LONGEST_ERROR] for line in _suspects(text) if is_error(line)][-MOST_ERRORS:]
    return Parsed(
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        lines=raw.count(b"\n") + (not raw.endswith(b"\n")),
        invalid_bytes=_invalid(raw),
        text=text,
        text_cut=cut,
        sections=sections_of(raw),
        error_lines=errors,
    )


def _kept(raw: bytes | bytearray) -> tuple[str, bool]:
    """The text that is kept of a log, and whether its middle is left out. Of a large one no more is read than may be kept."""
    if len(raw) > 4 * (TEXT_HEAD + TEXT_TAIL):
        # whole characters: neither part begins or ends within one
        begin = raw[: 2 * TEXT_HEAD].decode("utf-8", "replace").rstrip("\ufffd")
        end = raw[-2 * TEXT_TAIL :].decode("utf-8", "replace").lstrip("\ufffd")
        stamped = has_stamps(begin)
        if stamped:  # the first line is half of one, whose time is cut through
            end = end.partition("\n")[2] or end
        head, tail = (readable(part, stamped=stamped) for part in (begin, end))
        return f"{head[:TEXT_HEAD]}{_LEFT_OUT}{tail[-TEXT_TAIL:]}", True
    text = readable(raw.decode("utf-8", "replace"))
    if len(text) <= TEXT_HEAD + TEXT_TAIL:
        return text, False
    return f"{text[:TEXT_HEAD]}{_LEFT_OUT}{text[-TEXT_TAIL:]}", True


def _invalid(raw: bytes | bytearray) -> int:
    """Places that are no UTF-8: replacement characters that decoding makes, less those that are there."""
    if raw.isascii():
        return 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces = range(0, len(raw), _PIECE)
    made = sum(decoder.decode(raw[at : at + _PIECE], at + _PIECE >= len(raw)).count("\ufffd") for at in pieces)
    return made - raw.count(b"\xef\xbf\xbd")


def has_stamps(text: str) -> bool:
    """Whether the lines of a log bear the runner's times."""
    return _STAMP.search(text, 0, _LOOK_FOR_STAMPS) is not None


def readable(text: str, *, stamped: bool | None = None) -> str:
    """What a person sees: no times of the runner, sections or escapes; of a line that was rewritten, what it was at the end.

    Args:
        text: of a log, or of a part of one.
        stamped: whether its lines bear times; None to look for it at the beginning.
    """
    if stamped or (stamped is None and has_stamps(text)):
        text = _without_stamps(text)
    text = _SECTION.sub("", text)
    if is_rewritten := "\r" in text or "\x1b[2K" in text:
        text = text.replace(_REST, "").replace(_LINE, "")
        text = _ERASE.sub(lambda found: _LINE if "2" in found[0] else _REST, text)
    text = _ESCAPE.sub("", text)
    if is_rewritten:
        text = "\n".join(_at_the_end(line) if "\r" in line or _LINE in line else line for line in text.split("\n"))
    # bytes, since a pattern takes three times as long; no character of more than one byte has such a byte
    kept = text.encode("utf-8", "surrogatepass").translate(None, _CONTROL)
    return kept.decode("utf-8", "surrogatepass")


def _without_stamps(text: str) -> str:
    """A `+` after the time says that the line goes on with the one before."""
    return _STAMP.sub("", _GOES_ON.sub("", text))


def _at_the_end(line: str) -> str:
    """What a carriage return leaves of a line: each part overwrites the one before as far as it is long, or erases the rest of it."""
    # from the last part back, so that each character is looked at once
    shown = ""
    for part in reversed(line.rpartition(_LINE)[2].split("\r")):
        text = part.replace(_REST, "")
        if len(text) > len(shown):
            shown += text[len(shown) :]
        if _REST in part:
            break
    return shown


def sections_of(raw: bytes | bytearray) -> list[Section]:
    """The sections in the order in which they began. One that ends without a beginning is none."""
    found: list[Section] = []
    opened: dict[bytes, list[Section]] = {}
    for kind, at, told in _SECTION_BYTES.findall(raw):
        name = bytes(told)
        if kind == b"start":
            found.append(Section(name.decode("utf-8", "replace"), int(at), None))
            opened.setdefault(name, []).append(found[-1])
        elif opened.get(name):
            section = opened[name].pop()
            section.seconds = max(0, int(at) - section.start)
    return found


def _suspects(text: str) -> list[str]:
    """The lines that hold a hint at an error. Looking for the hints in all of a text takes a tenth of the time that lines take."""
    encoded = b"\n" + text.encode("utf-8", "surrogatepass")
    lowered = encoded.lower()
    begins: set[int] = set()
    for hint in _HINTS:
        at = lowered.find(hint)
        while at >= 0:
            # a hint that begins with the end of the line before belongs to its own
            own = at + hint.startswith(b"\n")
            begins.add(encoded.rfind(b"\n", 0, own) + 1)
            at = lowered.find(hint, _end_of_line(encoded, own))
    lines = (encoded[begin : _end_of_line(encoded, begin)] for begin in sorted(begins))
    return [line.decode("utf-8", "surrogatepass") for line in lines]


def _end_of_line(encoded: bytes, begin: int) -> int:
    end = encoded.find(b"\n", begin)
    return end if end >= 0 else len(encoded)


def is_error(line: str) -> bool:
    """Whether a line looks like an error; `0 errors` does not."""
    return _ERROR.search(_NO_ERROR.sub("", line)) is not None


def compressed(raw: bytes | bytearray) -> bytes:
    """A log as `job_logs.raw` holds it; `zlib.decompress` gives it back byte by byte."""
    return zlib.compress(raw, 6)
