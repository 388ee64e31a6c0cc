"""Which of the three modes suits the machine: by the memory that is available when a load begins."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import cast

import psutil

from bdc_pipeline.warehouse.documents import Kind, Mode

MB = 1024 * 1024

CHOICES = ("auto", "parallel", "sequential", "streaming")

STREAMING_BELOW: tuple[tuple[int, int], ...] = ((512 * MB, 500), (2048 * MB, 1000), (8192 * MB, 2000))
"""Below so many bytes: streaming, so many records at a time."""

CGROUP = Path("/sys/fs/cgroup")


def available_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that can be had without swapping; in a container that has a limit, no more than that leaves."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text()) - _reclaimable(cgroup)
    except (OSError, ValueError):
        return available
    return min(available, max(0, int(limit) - used)) if limit.isdecimal() else available


def _reclaimable(cgroup: Path) -> int:
    """Bytes of files that were read, which count as used and are given up when memory is needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (cgroup / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
    return 0


def suited_to(available: int) -> Mode:
    """The mode for so many bytes of available memory."""
    for below, chunk in STREAMING_BELOW:
        if available < below:
            return Mode("streaming", chunk)
    return Mode("parallel")


def chosen(choice: str, chunk: int | None = None) -> Mode:
    """The mode that was asked for; `chunk` is the records at a time, where it was given.

    Raises:
        ValueError: there is no such mode.
    """
    if choice not in CHOICES:
        raise ValueError(f"There is no mode '{choice}'. There are {', '.join(CHOICES)}.")
    mode = suited_to(available_memory()) if choice == "auto" else Mode(cast("Kind", choice))
    return Mode(mode.kind, chunk) if chunk is not None else mode
