"""Locks between the processes of one machine, beside a cache: who syncs in the background, and who syncs just now.

They are locks of the operating system on local files: they go with their holder, however that ends. None is ever taken on
the share, where locks are what cannot be trusted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bdc_pipeline.share.errors import CacheError, NoCache

POLL_SECONDS = 0.02

if sys.platform == "win32":
    import msvcrt

    def _lock(number: int) -> None:
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """A lock that one holder has at a time, in this process or another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is held here."""
        return self._number is not None

    def acquire(self) -> bool:
        """Takes it where it is free; at once, either way.

        Raises:
            NoCache: its file cannot be made.
        """
        if self._number is not None:
            return True
        try:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise NoCache(f"{self.path} cannot be made ({error.strerror or error}). See to the directory.") from None
        try:
            _lock(number)
        except OSError:
            os.close(number)
            return False
        self._number = number
        return True

    def release(self) -> None:
        """Gives it back."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    @contextlib.contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """Holds it for a block.

        Raises:
            CacheError: another has had it for that long.
        """
        deadline = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() > deadline:
                raise CacheError(
                    f"Another process has been syncing {self.path.parent} for over {seconds:.0f} s. Wait for it, or end it."
                )
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            self.release()
