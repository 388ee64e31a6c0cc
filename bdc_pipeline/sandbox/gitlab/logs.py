"""Jobs' logs, made from the job's id when they are asked for.

A log is as long as its job's `trace` artifact says, 2 to 60 KB, unless a change has set another. One in a hundred has bytes that
are not UTF-8.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from bdc_pipeline.sandbox.gitlab import words
from bdc_pipeline.sandbox.gitlab.noise import Noise
from bdc_pipeline.sandbox.gitlab.records import SECOND, Job, Project

_SHORTEST, _LONGEST = 2_048, 60_000
_BLOCKS = 64
_RUNNER = "\x1b[0KRunning with gitlab-runner 16.11.1 (535ced5f)\x1b[0;m\n\x1b[0K  on {runner} s_89e5e9956577\x1b[0;m\n"
_NOT_UTF8 = b"Caf\xe9 \xff\xfe\x80 from a tool that knows no Unicode\n"


def log(job: Job, project: Project) -> bytes:
    """The log as far as it is; empty if there is none."""
    if job.log is not None:
        return b"" if job.erased is not None else job.log
    if not job.has_log or job.started is None:
        return b""
    size = log_size(job)
    whole = _written(job, size, timestamps=project.timestamps)
    # One that still runs has written half of it
    return whole if job.is_over else whole[: size // 2]


def log_size(job: Job) -> int:
    """How long the whole log is, in bytes."""
    if job.log is not None:
        return len(job.log)
    noise = Noise(20, job.id)
    # Most are short
    return _SHORTEST + int((_LONGEST - _SHORTEST) * noise.unit() ** 2)


def _written(job: Job, size: int, *, timestamps: bool) -> bytes:
    noise = Noise(21, job.id)
    begin = (job.started or 0) // SECOND
    end = (job.finished or job.started or 0) // SECOND
    head = _RUNNER.format(runner=words.RUNNERS[job.runner or 0][0] or "runner-1") + _section(
        begin, "prepare_executor", "Using Docker executor with image python:3.12 ...\nPreparing environment\n"
    )
    head += _section(
        begin + 2, "get_sources", "Fetching changes with git depth set to 20...\nHEAD is now at 0ff3ae19\n"
    )
    head += f'section_start:{begin + 4}:step_script\r\x1b[0K\x1b[0K\x1b[36;1mExecuting "step_script" stage\x1b[0;m\n'
    tail = _tail(job, end, noise)
    start, stop = head.encode(), tail.encode()
    if noise.chance(0.01):
        start += _NOT_UTF8
    if timestamps:
        # The same length must come out, so the middle is cut after the times are in front of the lines
        start, stop = _timed(start, begin), _timed(stop, end)
    middle = _middle(size - len(start) - len(stop), noise, begin + 5 if timestamps else None)
    return (start + middle + stop)[:size].ljust(size, b".")


def _tail(job: Job, end: int, noise: Noise) -> str:
    error = noise.pick(words.ERROR_LINES) if job.status == "failed" else ""
    if error and noise.chance(0.1):
        # The job died: the section stays open
        return f"{error}\nERROR: Job failed (system failure): the runner is gone\n"
    text = f"{error}\n" if error else ""
    text += f"section_end:{end}:step_script\r\x1b[0K\n"
    if "a" in job.makes and not error:
        text += _section(end, "upload_artifacts_on_success", "Uploading artifacts...\n")
    last = "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m" if error else "\x1b[32;1mJob succeeded\x1b[0;m"
    return f"{text}{last}\n"


def _section(at: int, name: str, text: str) -> str:
    return f"section_start:{at}:{name}[collapsed=true]\r\x1b[0K{text}section_end:{at + 1}:{name}\r\x1b[0K\n"


def _middle(size: int, noise: Noise, begin: int | None) -> bytes:
    """So many bytes of lines, the last of them cut."""
    if size <= 0:
        return b""
    parts: list[bytes] = []
    length = 0
    blocks = _blocks()
    while length < size:
        block = noise.pick(blocks)
        if begin is not None:
            block = _timed(block, begin + len(parts))
        parts.append(block)
        length += len(block)
    text = b"".join(parts)[: size - 1]
    # Not in the middle of a character
    return text.decode(errors="ignore").encode().ljust(size - 1, b"=") + b"\n"


@lru_cache(maxsize=1)
def _blocks() -> list[bytes]:
    noise = Noise(22)
    return [
        "".join(f"{noise.pick(words.LOG_LINES)}\n" for _ in range(10 + noise.below(20))).encode()
        for _ in range(_BLOCKS)
    ]


def _timed(text: bytes, at: int) -> bytes:
    """With the time before each line as newer runners write it: moment, stream, O for output, a blank."""
    moment = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}".encode()
    lines = text.split(b"\n")[:-1]
    return b"".join(b"%s.%06dZ 01O %s\n" % (moment, 37 * n, line) for n, line in enumerate(lines))
