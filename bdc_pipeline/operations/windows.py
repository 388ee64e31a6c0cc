"""How old each copy may be: the sources' own windows, and what the setting BDC_FRESHNESS makes of them.

A setting that cannot be used keeps nothing from loading: the source's own window holds, and its sentence is shown where
people look, in the log, in each check that asks for the window and by `bdc-pipeline status`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bdc_pipeline import settings
from bdc_pipeline.operations.facts import Watched, Window

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

LONGEST = dt.timedelta(days=36_500)


def duration(text: str) -> dt.timedelta:
    """A time with its unit: `90s`, `15m`, `1h`, `7d`.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    if not found:
        raise ValueError(f"'{text.strip()}' is no time such as 90s, 15m, 1h or 7d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError(f"'{text.strip()}' is no time between 0 and {LONGEST.days} days")
    return dt.timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a part of a setting, and with whose: the source or table, or what stands in the place of one."""

    name: str
    says: str

    def is_of(self, source: str) -> bool:
        """Whether a source is meant, or one of its tables."""
        return self.name.partition("/")[0] == source


def by_name(name: str, text: str, known: Iterable[str]) -> tuple[dict[str, str], list[Problem]]:
    """The pairs of a setting such as `sonar=7d, gitlab/jobs=1h`, and what is wrong with the others.

    Args:
        name: the variable's.
        text: its value.
        known: what may stand before `=`.
    """
    names, found, problems = set(known), dict[str, str](), list[Problem]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            problems.append(
                Problem(key, f"{name} holds '{part}', which is no pair such as gitlab=1h; it does not count.")
            )
        elif key not in names:
            short = sorted(known for known in names if "/" not in known)
            more = ", or an asset of theirs such as gitlab/jobs" if len(short) < len(names) else ""
            says = f"{name} names '{key}'; it does not count. It can name {', '.join(short)}{more}."
            problems.append(Problem(key, says))
        else:
            found[key] = value
    return found, problems


@dataclass(frozen=True, slots=True)
class Windows:
    """The window of each table, and what was wrong with the setting."""

    own: Mapping[str, Window]
    by_name: Mapping[str, Window] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def of(self, source: str, table: str) -> Window:
        """A table's, or another asset's of the source."""
        return self.by_name.get(f"{source}/{table}") or self.by_name.get(source) or self.own[source]


def chosen(watched: Sequence[Watched], text: str) -> Windows:
    """The windows as a setting's text has them."""
    own = {one.source: one.window() for one in watched}
    known = [*own, *(f"{one.source}/{name}" for one in watched for name in one.assets)]
    pairs, problems = by_name(settings.BDC_FRESHNESS.name, text, known)
    found: dict[str, Window] = {}
    for name, value in pairs.items():
        fail, slash, warn = value.partition("/")
        try:
            found[name] = Window(duration(fail), duration(warn) if slash else None)
        except ValueError as error:
            says = (
                f"{settings.BDC_FRESHNESS.name} has {name}={value}: {error}. Write {name}=1h, or {name}=7d/6d for a warning after "
                "6 days; until then its usual window holds."
            )
            problems.append(Problem(name, says))
    return Windows(own, found, tuple(problems))


def current(watched: Sequence[Watched]) -> Windows:
    """The windows as the environment has them."""
    return chosen(watched, settings.read(settings.BDC_FRESHNESS))


def slow_after(watched: Sequence[Watched], text: str | None = None) -> tuple[dict[str, float], list[Problem]]:
    """After how many seconds a run is slow whatever is usual, by source, and what was wrong with the setting."""
    name = settings.BDC_SLOW.name
    pairs, problems = by_name(
        name, settings.read(settings.BDC_SLOW) if text is None else text, [w.source for w in watched]
    )
    found: dict[str, float] = {}
    for source, value in pairs.items():
        try:
            found[source] = duration(value).total_seconds()
        except ValueError as error:
            says = f"{name} has {source}={value}: {error}. Write {source}=5s; until then it does not count."
            problems.append(Problem(source, says))
    return found, problems


def owners(default: str) -> tuple[list[str], list[Problem]]:
    """Who owns the assets, and what was wrong with the setting."""
    found, problems = list[str](), list[Problem]()
    for text in filter(None, (text.strip() for text in settings.read(settings.BDC_OWNERS).split(","))):
        if re.fullmatch(r"team:[A-Za-z0-9_.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", text):
            found.append(text)
        else:
            says = f"{settings.BDC_OWNERS.name} holds '{text}', which is neither a mail address nor a team such as team:data; it does not count."
            problems.append(Problem(text, says))
    return found or [default], problems
