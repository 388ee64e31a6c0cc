"""Jobs' artifacts archives: ordinary ones made from the job's id when asked for, and ones that no client should trust.

An archive is as long as the job's row says. Its members are real deflated files, and one stored member that fills the rest.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import lru_cache

from bdc_pipeline.sandbox.gitlab.noise import Noise
from bdc_pipeline.sandbox.gitlab.records import Job

_LEAST, _MOST = 6_000, 40_000
_FILLER = "coverage/data.bin"
#: A stored member takes its size, two headers and its name twice.
_OVERHEAD = 30 + 46 + 2 * len(_FILLER)
_MOMENT = (2026, 5, 1, 12, 0, 0)


def archive(job: Job) -> bytes:
    """The zip."""
    return job.archive if job.archive is not None else _made(job.id)


def archive_size(job: Job) -> int:
    """How long it is, without making it."""
    return len(job.archive) if job.archive is not None else _size(job.id)


def member(content: bytes, path: str) -> bytes | None:
    """One file of a zip, or None if there is none of this name or it cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            return opened.read(path)
    except (KeyError, zipfile.BadZipFile, zlib.error, OSError, EOFError):
        return None


def _size(identifier: int) -> int:
    return _LEAST + Noise(30, identifier).below(_MOST - _LEAST)


@lru_cache(maxsize=64)
def _made(identifier: int) -> bytes:
    noise = Noise(31, identifier)
    size = _size(identifier)
    opened, used = _begun(noise)
    rest = size - used - _OVERHEAD
    chunk = b"".join(noise.next().to_bytes(8, "big") for _ in range(64))
    filled = (chunk * (rest // len(chunk) + 1))[:rest]
    with zipfile.ZipFile(opened, "a", zipfile.ZIP_STORED) as written:
        written.writestr(zipfile.ZipInfo(_FILLER, _MOMENT), filled)
    return opened.getvalue()


def _begun(noise: Noise) -> tuple[io.BytesIO, int]:
    """A zip of small files, and its size."""
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as written:
        for path in ("build/app.js", "build/app.js.map", "coverage/index.html", "reports/Übersicht.txt")[
            : 2 + noise.below(3)
        ]:
            line = f"SYNTHETIC {path} {noise.hexadecimal(12)}\n"
            info = zipfile.ZipInfo(path, _MOMENT)
            info.compress_type = zipfile.ZIP_DEFLATED
            written.writestr(info, line * (20 + noise.below(400)))
    return opened, len(opened.getvalue())


# --- hostile ones


def hostile(kind: str) -> bytes:
    """An archive of a kind: traversal, lying, many, bomb, truncated. Raises ValueError for others."""
    kinds = {"traversal": _traversal, "lying": _lying, "many": _many, "bomb": _bomb, "truncated": _truncated}
    if kind not in kinds:
        raise ValueError(f"There is no kind of archive {kind!r}. There are: {', '.join(kinds)}.")
    return kinds[kind]()


def _plain(files: dict[str, bytes]) -> bytes:
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as written:
        for path, content in files.items():
            info = zipfile.ZipInfo(path, _MOMENT)
            info.compress_type = zipfile.ZIP_DEFLATED
            written.writestr(info, content)
    return opened.getvalue()


def _traversal() -> bytes:
    """Names that lead out of the directory that they are unpacked to, and a symbolic link that does."""
    names = (
        "../escaped.txt",
        "../../../../tmp/escaped.txt",
        "/absolute.txt",
        "a/../../b.txt",
        "..\\windows.txt",
        "C:\\x.txt",
    )
    opened = io.BytesIO(_plain(dict.fromkeys(names, b"SYNTHETIC escape\n") | {"good.txt": b"SYNTHETIC\n"}))
    link = zipfile.ZipInfo("link", _MOMENT)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(opened, "a") as written:
        written.writestr(link, "../../outside")
    return opened.getvalue()


def _lying() -> bytes:
    """The central directory says ten bytes where there are many, and 4 GiB where there are few, and has an offset far off."""
    content = bytearray(_plain({"small.txt": b"x" * 100_000, "huge.txt": b"y", "lost.txt": b"z"}))
    at = content.find(b"PK\x01\x02")
    for field_offset, value in ((24, 10), (24, 0xFFFF_FFF0), (42, 0x7FFF_0000)):
        struct.pack_into("<I", content, at + field_offset, value)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(content)


def _truncated() -> bytes:
    """The upload ended before the central directory."""
    whole = _plain({"a.txt": b"a" * 5000, "b.txt": bytes(range(256)) * 20})
    return whole[: whole.find(b"PK\x01\x02")]


def _bomb() -> bytes:
    """100 MB of zeros in 100 KB."""
    return _plain({"zeros.bin": bytes(100_000_000)})


def _many(count: int = 100_000) -> bytes:
    """So many empty files, whose directory needs the 64-bit form; written by hand, which takes a tenth of the time."""
    local, central, at = [], [], 0
    for n in range(count):
        name = b"files/%06d.txt" % n
        head = struct.pack("<HHHHIIIHH", 0, 0, 0, 0x5CA1, 0, 0, 0, len(name), 0)
        local.append(b"PK\x03\x04\x14\x00" + head + name)
        central.append(b"PK\x01\x02\x14\x03\x14\x00" + head + struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, at) + name)
        at += len(local[-1])
    directory = b"".join(central)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), at)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at + len(directory), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF, 0)
    return b"".join(local) + directory + end64 + locator + end
