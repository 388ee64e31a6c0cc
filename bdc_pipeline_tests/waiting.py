"""Waiting for what a thread, a process or a server does, without guessing how fast the machine is.

How long something may take at most is no statement about the code: a test that fails for good fails a minute later, one that
would have passed on a machine that stopped for a while passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

#: How long a test waits for what is sure to come: only a test that fails waits as long
SECONDS = 60.0

Found = TypeVar("Found")


def until(
    condition: Callable[[], Found],
    what: str | Callable[[], str] = "it did not come about in time",
    *,
    seconds: float = SECONDS,
    pause: float = 0.01,
) -> Found:
    """Asks again and again, with a pause in between, until the answer is true, and returns it.

    Raises:
        AssertionError: it is not true after so many seconds; `what` says what did not come about.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(pause)
    return found
