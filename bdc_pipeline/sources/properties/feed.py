"""Tasks for a pool that come up while it runs: the most urgent first, until there are no more."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

from bdc_pipeline.fetching.pool import Stop, Task

T = TypeVar("T")

# How often a thread that waits for a task looks whether the run was asked to stop, in seconds
_LOOK_UP_EVERY = 0.1


class Feed(Generic[T]):
    """What a pool pulls its tasks from. It waits for further ones until it is closed or the run is stopped.

    Whoever takes the pool's outcomes closes it when nothing is under way and nothing is to come.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, Task[T]]] = []
        self._number = itertools.count()
        self._closed = False

    def put(self, task: Task[T], urgency: int) -> None:
        """Adds a task; lower numbers come first, equal ones in their order."""
        with self._changed:
            heapq.heappush(self._waiting, (urgency, next(self._number), task))
            self._changed.notify()

    def close(self) -> None:
        """Ends the iteration once all tasks are taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Task[T]]:
        while (task := self._next()) is not None:
            yield task

    def _next(self) -> Task[T] | None:
        with self._changed:
            while not self._waiting:
                if self._closed or self._stop.is_set():
                    return None
                self._changed.wait(_LOOK_UP_EVERY)
            return heapq.heappop(self._waiting)[2]
