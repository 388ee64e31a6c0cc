"""Which days that are over are listed once more, since deleting a pipeline moves no time of change. Pure functions.

Each run spends a few lists on the days that were compared with GitLab's list longest ago, so that in the course of many runs all
of them are, and none of it delays what is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bdc_pipeline.sources.gitlab.windows import PAGE, Window, end_of, start_of, text_of


@dataclass(frozen=True, slots=True)
class CheckedDay:
    """A project's day that is over: when it was last compared (UTC), and how many pipelines and child pipelines are stored."""

    project_id: int
    day: str
    checked_at: str
    own: int
    children: int

    @property
    def requests(self) -> int:
        """Pages of its lists."""
        return -(-self.own // PAGE) + -(-self.children // PAGE)


def swept(due: Iterable[CheckedDay], names: Mapping[int, str], most: int) -> tuple[Window, ...]:
    """The lists of a run, for at most so many requests: the days that were compared longest ago, and with each as many days behind
    it as fit on the same page. A day of more pages than that comes alone.
    """
    waiting = sorted(due, key=lambda one: (one.checked_at, one.project_id, one.day))
    by_project: dict[int, list[CheckedDay]] = {}
    for one in sorted(waiting, key=lambda one: one.day):
        by_project.setdefault(one.project_id, []).append(one)
    taken: set[tuple[int, str]] = set()
    windows: list[Window] = []
    left = most
    for one in waiting:
        if left <= 0:
            break
        if (one.project_id, one.day) in taken:
            continue
        days = _on_a_page([day for day in by_project[one.project_id] if day.day >= one.day], taken)
        cost = _requests(days)
        if cost > left and windows:
            continue
        left -= cost
        taken.update((day.project_id, day.day) for day in days)
        windows.append(_window(days, names[one.project_id]))
    return tuple(windows)


def _on_a_page(days: Sequence[CheckedDay], taken: set[tuple[int, str]]) -> list[CheckedDay]:
    """The first of some days, with those behind it that cost no further request."""
    found = [days[0]]
    for one in days[1:]:
        more = [*found, one]
        if (one.project_id, one.day) in taken or _requests(more) > max(1, _requests(found)):
            break
        found = more
    return found


def _requests(days: Sequence[CheckedDay]) -> int:
    together = CheckedDay(0, "", "", sum(one.own for one in days), sum(one.children for one in days))
    return together.requests


def _window(days: Sequence[CheckedDay], name: str) -> Window:
    keys = tuple(one.day for one in days)
    return Window(
        project_id=days[0].project_id,
        name=name,
        days=keys,
        after=text_of(start_of(keys[0])),
        before=text_of(end_of(keys[-1])),
        full=frozenset(keys),
        own=any(one.own for one in days),
        children=any(one.children for one in days),
    )
