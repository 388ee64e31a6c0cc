"""Which of a project's pipelines to list: from when to when, and what is asked for one by one instead. Pure functions.

A day is closed for a project once its pipelines were listed after its end: what changes later moves to a later day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bdc_pipeline.sources.gitlab.records import BLOCKED, is_alive

PAGE = 100

SETTLING = dt.timedelta(minutes=10)
"""After the end of a job its log is moved to the archive: two minutes after, says GitLab's `ARCHIVE_TRACES_IN`. What was fetched sooner is
fetched once more."""


@dataclass(frozen=True, slots=True)
class Held:
    """A pipeline that is stored: what tells whether it has changed."""

    project_id: int
    day: str
    updated_at: str | None
    status: str | None
    detailed: bool
    child: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """What to list of a project's pipelines.

    Args:
        project_id: whose.
        name: its path, for messages.
        days: the partitions that the listing covers.
        after: from when on (UTC).
        before: until when (UTC); None for now.
        full: the days of `days` that are listed from beginning to end, so that what does not come of them is gone or has moved.
        one_by_one: stored pipelines that are not over and lie outside; asked for by their ids.
        inside: those that lie inside; asked for by their ids where no list brings them. GitLab before 17.0 lists no child pipelines.
        probed: GraphQL may tell that nothing has changed, and nothing is listed then.
        own: the list is asked for whatever GraphQL says: something stored in it is not over.
        children: so is the list of child pipelines.
    """

    project_id: int
    name: str
    days: tuple[str, ...]
    after: str
    before: str | None
    full: frozenset[str] = frozenset()
    one_by_one: tuple[int, ...] = ()
    inside: tuple[int, ...] = ()
    probed: bool = False
    own: bool = False
    children: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sync is asked to list: its days in order, how far changes are looked for before the last listing, which days are
    listed in full whatever was listed before, and the server's or this machine's time (UTC)."""

    days: Sequence[str]
    now: dt.datetime
    overlap: dt.timedelta = dt.timedelta(minutes=10)
    in_full: Collection[str] = field(default_factory=frozenset)


def start_of(day: str) -> dt.datetime:
    """The first moment of a day (UTC)."""
    return dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)


def end_of(day: str) -> dt.datetime:
    """The first moment of the day after."""
    return start_of(day) + dt.timedelta(days=1)


def text_of(moment: dt.datetime) -> str:
    """A moment as GitLab's filters take it and as rows hold it."""
    moment = moment.astimezone(dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def is_closed(day: str, listed_at: str | None, asked: Asked) -> bool:
    """Whether nothing more can come of a day: it was listed after its end, and is not to be listed in full again."""
    if listed_at is None or day in asked.in_full:
        return False
    return dt.datetime.fromisoformat(listed_at) >= end_of(day) + asked.overlap


def window_of(
    project_id: int,
    name: str,
    listed: Mapping[str, str],
    held: Mapping[int, Held],
    asked: Asked,
    *,
    force: bool = False,
) -> Window | None:
    """What to list of a project; None where all its days are closed: what is not over then is the business of the day it lies in.

    Args:
        project_id: the project's.
        name: its path.
        listed: until when each day was listed, as far as it was.
        held: the project's stored pipelines: all that are not over, and those of the days.
        asked: the days and times.
        force: all days from beginning to end.
    """
    opened = [day for day in asked.days if force or not is_closed(day, listed.get(day), asked)]
    waiting = {number: one for number, one in held.items() if is_waiting(one, asked.now)}
    if not opened:
        return None
    first, last = opened[0], asked.days[-1]
    since = start_of(first)
    if not force and first in listed and first not in asked.in_full:
        since = max(since, dt.datetime.fromisoformat(listed[first]) - asked.overlap)
    after, one_by_one = widened(text_of(since), held, waiting)
    # the moment after, since GitLab compares finer than it tells: the last millisecond of a day has a thousand microseconds
    before = None if end_of(last) > asked.now else text_of(end_of(last))
    days = tuple(day for day in asked.days if day >= first)
    # a list that goes further back for what is not over is not read as one of those days
    covered = frozenset(day for day in days if start_of(day) >= since)
    # just after midnight a day that was listed before lies within the overlap: that is no reason to compare it again
    full = covered if any(force or day not in listed or day in asked.in_full for day in covered) else frozenset()
    inside = {
        number: one
        for number, one in waiting.items()
        if number not in one_by_one and (before is None or (one.updated_at or "") < before)
    }
    probed = not full.intersection(opened) and before is None
    return Window(
        project_id=project_id,
        name=name,
        days=days,
        after=after,
        before=before,
        full=full,
        one_by_one=tuple(sorted(one_by_one)),
        inside=tuple(sorted(inside)),
        probed=probed,
        own=not probed or any(not one.child for one in inside.values()),
        children=not probed or any(one.child for one in inside.values()),
    )


def is_waiting(one: Held, now: dt.datetime) -> bool:
    """Whether a stored pipeline is to be asked for though no list may say that it has changed.

    One that waits for somebody may do so for ever: after a month only a list brings it.
    """
    if is_alive(one.status):
        return True
    month_ago = text_of(now - dt.timedelta(days=30))
    return one.status in BLOCKED and (one.updated_at or "") >= month_ago


def widened(after: str, held: Mapping[int, Held], waiting: Mapping[int, Held]) -> tuple[str, frozenset[int]]:
    """The moment to list from so that stored pipelines that are not over come along, and those that are cheaper to ask for one
    by one.

    A list from an earlier moment on costs a page for a hundred pipelines that are stored since; each id costs a request.
    """
    outside = sorted(
        (one.updated_at or "", number)
        for number, one in waiting.items()
        if not one.updated_at or one.updated_at < after
    )
    best, cost = 0, len(outside)
    for taken in range(1, len(outside) + 1):
        moment = outside[-taken][0]
        if not moment:
            break
        pages = sum((one.updated_at or "") >= moment for one in held.values()) // PAGE
        if pages + len(outside) - taken < cost:
            best, cost = taken, pages + len(outside) - taken
    if best:
        after = outside[-best][0]
    return after, frozenset(number for _, number in outside[: len(outside) - best])


def by_keyset(pipelines: Mapping[int, int], jobs_each: float, workers: int) -> frozenset[int]:
    """The projects whose jobs are fetched as one list by keyset rather than by pipeline.

    The list has 100 jobs a request where a pipeline's has what the pipeline has, so it takes fewer requests; but each of its pages
    must wait for the one before. Where a project's chain of pages would outlast all other requests, slots would stand idle.

    Args:
        pipelines: how many pipelines are to be fetched, by project.
        jobs_each: jobs of a pipeline, as far as is known.
        workers: requests at the same time.
    """
    pages = {project: int(count * jobs_each // PAGE) + 1 for project, count in pipelines.items()}
    fewer = {project for project, count in pipelines.items() if 2 * pages[project] <= count}
    requests = sum(pages[project] if project in fewer else count for project, count in pipelines.items())

    def rounds_without(project: int) -> int:
        return -(-(requests - pages[project] + pipelines[project]) // workers)

    return frozenset(project for project in fewer if pages[project] <= rounds_without(project))
