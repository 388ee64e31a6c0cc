"""Limits on what is under way at once, besides the requests: how many projects, and how many units of each.

Without them all slots are filled from the next unit of any project, which is fastest. They are for an instance where one project's
runners or storage must not be asked too much at a time.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bdc_pipeline.fetching.pool import Spawn, Stop, Task

if TYPE_CHECKING:
    from bdc_pipeline.sources.gitlab.fetch import UnitTask

_LOOK_UP_EVERY = 0.1


class Caps(NamedTuple):
    """How many projects may be under way at once, and how many units (pipelines, or jobs) of each; None for any number."""

    projects: int | None = None
    of_each: int | None = None


class Turns:
    """Gives out tasks, and those that follow them, each as soon as there is room for it.

    Whoever takes the outcomes says of each that the task has `ended`, whatever became of it. A stop lets go of all tasks at once:
    the pool starts none of them.

    Args:
        tasks: the first ones.
        caps: the limits.
        stop: that of the run.
    """

    def __init__(self, tasks: Iterable[UnitTask], caps: Caps, stop: Stop) -> None:
        self._tasks, self._caps, self._stop = tasks, caps, stop
        self._waiting: dict[int, deque[UnitTask]] = {}
        self._under_way: Counter[int] = Counter()
        self._room = threading.Condition()
        self._closed = False

    def __iter__(self) -> Iterator[UnitTask]:
        if self._caps == Caps():
            yield from self._tasks
            return
        for task in self._tasks:
            self._waiting.setdefault(task.project_id, deque()).append(task)
        while (next_one := self._next()) is not None:
            yield next_one

    def ended(self, task: UnitTask) -> None:
        """Makes room for another."""
        with self._room:
            self._under_way[task.project_id] -= 1
            self._room.notify()

    def close(self) -> None:
        """Gives out nothing more."""
        with self._room:
            self._closed = True
            self._room.notify()

    def _next(self) -> UnitTask | None:
        """Waits for a task that may start. None when there will be none: what is under way may still be followed by some."""
        with self._room:
            while not self._closed:
                stopped = self._stop.is_set()
                if not self._waiting and (stopped or not any(self._under_way.values())):
                    self._closed = True
                    break
                project = next(iter(self._waiting), None) if stopped else self._with_room()
                if project is not None:
                    return self._taken(project)
                self._room.wait(_LOOK_UP_EVERY)
            return None

    def _with_room(self) -> int | None:
        """A project of which a unit may start."""
        at_once = sum(count > 0 for count in self._under_way.values())
        most, of_each = self._caps
        for project in self._waiting:
            if of_each is not None and self._under_way[project] >= of_each:
                continue
            if self._under_way[project] > 0 or most is None or at_once < most:
                return project
        return None

    def _taken(self, project: int) -> UnitTask:
        self._under_way[project] += 1
        task = self._waiting[project].popleft()
        if not self._waiting[project]:
            del self._waiting[project]
        return replace(task, run=lambda spawn: task.run(self._follow(spawn)))

    def _follow(self, spawn: Spawn[Any]) -> Spawn[Any]:
        """What a task adds follow-ups with: they wait for room as well, before what has not been begun."""

        def follow(task: Task[Any]) -> None:
            further: UnitTask = task  # type: ignore[assignment]
            with self._room:
                if not self._closed:
                    self._waiting.setdefault(further.project_id, deque()).appendleft(further)
                    self._room.notify()
                    return
            spawn(task)  # the pool tells what becomes of it

        return follow
