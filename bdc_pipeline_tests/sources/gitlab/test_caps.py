"""Limits on projects and on units of each: what is under way never exceeds them, follow-ups included, and all comes to its end."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from bdc_pipeline.fetching.pool import Done, NotTried, Pool, Spawn, Stop
from bdc_pipeline.sources.gitlab.caps import Caps, Turns
from bdc_pipeline.sources.gitlab.fetch import UnitTask

WORKERS = 8


class UnderWay:
    """Counts what is under way, and the most that ever was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Counter[int] = Counter()
        self.most_projects = self.most_of_each = 0

    def begin(self, project: int) -> None:
        with self._lock:
            self._now[project] += 1
            self.most_projects = max(self.most_projects, sum(count > 0 for count in self._now.values()))
            self.most_of_each = max(self.most_of_each, *self._now.values())

    def end(self, project: int) -> None:
        with self._lock:
            self._now[project] -= 1


def unit(under_way: UnderWay, project: int, name: str, follow_ups: int = 0) -> UnitTask:
    """A task that adds others: of its own project and of the next."""

    def run(spawn: Spawn[Any]) -> str:
        under_way.begin(project)
        try:
            for number in range(follow_ups):
                spawn(unit(under_way, project + number % 2, f"{name}.{number}", follow_ups - 1))
        finally:
            under_way.end(project)
        return name

    return UnitTask(name, run, project, ())


def outcomes_of(tasks: list[UnitTask], caps: Caps, stop: Stop | None = None, **options: Any) -> list[Any]:
    stop = stop or Stop()
    turns = Turns(tasks, caps, stop)
    found = []
    with closing(Pool(WORKERS, stop=stop, **options).run(turns)) as outcomes, closing(turns):  # type: ignore[type-var]
        for outcome in outcomes:
            turns.ended(outcome.task)  # type: ignore[arg-type]
            found.append(outcome)
    return found


@pytest.mark.parametrize(
    "caps", [Caps(), Caps(1, 1), Caps(2, 1), Caps(1, 3), Caps(None, 1), Caps(2, None), Caps(3, 2)], ids=str
)
def test_no_more_is_under_way_than_the_caps_say_and_every_task_runs_once(caps: Caps) -> None:
    under_way = UnderWay()
    first = [unit(under_way, project, f"{project}/{number}", 3) for project in range(5) for number in range(4)]
    names = [outcome.value for outcome in outcomes_of(first, caps) if isinstance(outcome, Done)]
    # a task with three follow-ups is 1 + 3 * (1 + 2 * (1 + 1))
    assert len(names) == len(set(names)) == 20 * 16
    assert under_way.most_projects <= (caps.projects or WORKERS)
    assert under_way.most_of_each <= (caps.of_each or WORKERS)


def test_what_was_begun_is_finished_before_anything_else_begins() -> None:
    def numbered(name: str, depth: int) -> UnitTask:
        def run(spawn: Spawn[Any]) -> str:
            for number in range(2 if depth else 0):
                spawn(numbered(f"{name}{number}", depth - 1))
            return name

        return UnitTask(name, run, 1, ())

    names = [outcome.value for outcome in outcomes_of([numbered("a", 2), numbered("b", 1)], Caps(1, 1))]
    assert names == ["a", "a1", "a11", "a10", "a0", "a01", "a00", "b", "b1", "b0"]


def test_an_error_that_would_meet_all_others_too_ends_it() -> None:
    def refused(_: Spawn[Any]) -> None:
        raise PermissionError("no")

    tasks = [UnitTask(str(number), refused, number % 2, ()) for number in range(30)]
    found = outcomes_of(tasks, Caps(1, 1), fatal=(PermissionError,))
    assert len(found) == 30, "each is told of"
    assert sum(isinstance(outcome, NotTried) for outcome in found) == 29


def test_a_stop_lets_go_of_all() -> None:
    stop, began = Stop(), threading.Event()

    def wait_for_the_stop(_: Spawn[Any]) -> None:
        began.set()
        stop.wait(30)

    tasks = [UnitTask(str(number), wait_for_the_stop, 1, ()) for number in range(30)]
    stopping = threading.Thread(target=lambda: began.wait(30) and stop.set("asked to"))
    stopping.start()
    found = outcomes_of(tasks, Caps(1, 1), stop)
    stopping.join()
    assert len(found) == 30
    assert sum(isinstance(outcome, NotTried) for outcome in found) >= 29


def test_giving_up_leaves_no_thread_that_waits_for_room() -> None:
    stop = Stop()
    turns = Turns([unit(UnderWay(), 1, str(number)) for number in range(9)], Caps(1, 1), stop)
    with closing(Pool(2, stop=stop, name="given-up").run(turns)) as outcomes, closing(turns):  # type: ignore[type-var]
        next(iter(outcomes))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("given-up")]
