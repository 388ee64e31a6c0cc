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

from bdc_pipeline.fetching.pool import Spawn, Stop

if TYPE_CHECKING:
    from bdc_pipeline.sources.gitlab.fetch import UnitTask

_LOOK_UP_EVERY = 0.1


class Caps(NamedTuple):
    """How many projects may be under way at once, and how many units (pipelines, or jobs) of each; None for any number."""

    projects: int | None = None
    of_each: int | None = None


def capped(tasks: Iterable[UnitTask], caps: Caps, stop: Stop) -> Iterator[UnitTask]:
    """The tasks, each as soon as there is room for it; those of one project in their order."""
    if caps == Caps():
        yield from tasks
        return
    waiting: dict[int, deque[UnitTask]] = {}
    for task in tasks:
        waiting.setdefault(task.project_id, deque()).append(task)
    room = threading.Condition()
    under_way: Counter[int] = Counter()
    while waiting:
        with room:
            project = _with_room(waiting, under_way, caps)
            while project is None:
                # a stop lets go of all: the pool starts none of them
                if stop.is_set():
                    project = next(iter(waiting))
                    break
                room.wait(_LOOK_UP_EVERY)
                project = _with_room(waiting, under_way, caps)
            under_way[project] += 1
        task = waiting[project].popleft()
        if not waiting[project]:
            del waiting[project]
        yield _noting_its_end(task, under_way, room)


def _with_room(waiting: Iterable[int], under_way: Counter[int], caps: Caps) -> int | None:
    """A project of which a unit may start."""
    at_once = sum(count > 0 for count in under_way.values())
    for project in waiting:
        if caps.of_each is not None and under_way[project] >= caps.of_each:
            continue
        if under_way[project] or caps.projects is None or at_once < caps.projects:
            return project
    return None


def _noting_its_end(task: UnitTask, under_way: Counter[int], room: threading.Condition) -> UnitTask:
    run = task.run

    def noted(spawn: Spawn[Any]) -> Any:
        try:
            return run(spawn)
        finally:
            with room:
                under_way[task.project_id] -= 1
                room.notify()

    return replace(task, run=noted)
