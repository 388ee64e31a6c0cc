"""Stopping: the one flag by which a run asks everything that waits, sends or starts work to come to an end.

What belongs here: the flag and the exception that says it was raised. How each part ends is the part's own business.
"""

from __future__ import annotations

import threading
import time

# The longest single wait. Python runs signal handlers between two byte codes, so a handler that sets the flag in the
# instant between a waiter's look at it and the waiter's going to sleep would otherwise be missed until the very end.
_LOOK_UP_EVERY = 0.5


class Stopped(Exception):  # noqa: N818 - being stopped is no error
    """Work was given up because the run was asked to stop; the message is the reason."""


class Stop:
    """Asks a run to stop, once and for good; shared by sessions, pacers and pools. Safe to set in a signal handler."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler runs in the main thread, which may be inside `wait` and hold the lock right then.
        self._changed = threading.Condition(threading.RLock())
        self._reason: str | None = None
        self._since: float | None = None

    def __repr__(self) -> str:
        return f"Stop({self._reason!r})" if self.is_set() else "Stop(not set)"

    def set(self, reason: str = "stopped") -> None:
        """Ask to stop, and say why. The first reason stays; setting it again changes nothing."""
        with self._changed:
            if self._since is None:
                self._reason = reason
                self._since = time.monotonic()
            self._changed.notify_all()

    def is_set(self) -> bool:
        """Tell whether the run was asked to stop."""
        return self._since is not None

    @property
    def reason(self) -> str | None:
        """Why the run was asked to stop; None while it was not."""
        return self._reason

    @property
    def since(self) -> float | None:
        """When the run was asked to stop, on the clock of `time.monotonic`, in seconds; None while it was not."""
        return self._since

    def wait(self, seconds: float) -> bool:
        """Sleep for so many seconds or until asked to stop, and tell whether the run was asked to stop."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self.is_set():
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, _LOOK_UP_EVERY))
        return self.is_set()

    def raise_if_set(self) -> None:
        """Raise `Stopped` with the reason if the run was asked to stop."""
        if self.is_set():
            raise Stopped(self._reason)
