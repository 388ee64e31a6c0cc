"""Reaching: when a server is gone rather than hiccuping, so that what is left is not asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bdc_pipeline.fetching.answers import Unauthorized, Unreachable

T = TypeVar("T")

ERROR_BUDGET = 100
"""Tasks of a run that may fail before the rest is not tried any more."""

DOWN_AFTER = 10
"""Requests in a row, after all their attempts, that found no server: it is gone."""


class ServerDown(Unreachable):
    """The server cannot be reached any more."""


FATAL = (Unauthorized, ServerDown)
"""Errors that every other request would meet too: what a pool is to stop at."""


class Reach:
    """Tells a server that is gone from one that hiccups; for requests of any thread."""

    def __init__(self) -> None:
        self._unreached = 0

    def ask(self, request: Callable[[], T]) -> T:
        """Return what a request brings.

        Raises `ServerDown` where it is one of many in a row that found no server, and whatever else the request raises.
        """
        try:
            found = request()
        except Unreachable as error:
            self._unreached += 1  # by any thread; that one is lost now and then does not matter
            if self._unreached >= DOWN_AFTER:
                raise ServerDown(str(error)) from None
            raise
        self._unreached = 0
        return found
