"""The measured CPU times as a bar chart: an SVG written by hand.

Its colours have the same contrast on white as on a dark page: an image cannot know what it stands on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from xml.sax.saxutils import escape

from benchmarks.loading.contest import DLT, FLOOR, MANAGER, PANDAS, SQLALCHEMY, SQLITE_UTILS, STEPS, Outcome

BARS = (FLOOR, *MANAGER.values(), SQLALCHEMY, PANDAS, SQLITE_UTILS, DLT)
COLOURS = {"first": "#3f83c8", "unchanged": "#2f9b6b", "changed": "#c9822b"}
LABELS = {"first": "first load", "unchanged": "unchanged", "changed": "1 % changed"}
GREY = "#7a7a7a"

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 230, 70, 11, 10, 46


def drawn(outcomes: Mapping[str, Outcome]) -> str:
    """The chart, one panel for each data set."""
    panels, height = [], TOP
    for outcome in outcomes.values():
        names = [name for name in BARS if name in outcome.costs]
        if names:
            panels.append("\n".join(_panel(outcome, names, height)))
            height += _height(names)
    legend = "\n".join(_legend())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{GREY}" role="img">\n'
        f"<title>CPU seconds of a load, by contestant</title>\n{legend}\n" + "\n".join(panels) + "\n</svg>\n"
    )


def _height(names: Iterable[str]) -> int:
    return 52 + sum(len(STEPS) * BAR + GAP for _ in names)


def _legend() -> Iterator[str]:
    for place, step in enumerate(STEPS):
        x = LEFT + 120 * place
        yield f'<rect x="{x}" y="12" width="12" height="12" rx="2" fill="{COLOURS[step]}"/>'
        yield f'<text x="{x + 18}" y="22">{LABELS[step]}</text>'


def _panel(outcome: Outcome, names: list[str], top: int) -> Iterator[str]:
    costs = {(name, step): cost.cpu for name in names for step in STEPS if (cost := outcome.cost(name, step))}
    # whole powers of ten; a bar begins at the lowest
    low = math.floor(math.log10(max(min(costs.values()), 0.001)))
    high = max(math.ceil(math.log10(max(costs.values()))), low + 1)
    scale = (WIDTH - LEFT - RIGHT) / (high - low)
    bottom = top + _height(names) - 30
    title = f"{outcome.data.records:,} records ({outcome.data.name}): CPU seconds, logarithmic"
    yield f'<text x="{LEFT}" y="{top + 4}" font-weight="600">{escape(title)}</text>'
    for power in range(low, high + 1):
        x = LEFT + (power - low) * scale
        yield f'<path d="M{x:.1f} {top + 14}V{bottom - 12}" stroke="{GREY}" stroke-opacity=".3"/>'
        yield f'<text x="{x:.1f}" y="{bottom}" text-anchor="middle" font-size="11">{10.0**power:g}</text>'
    y = top + 20
    for name in names:
        yield f'<text x="{LEFT - 10}" y="{y + len(STEPS) * BAR / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        for step in STEPS:
            value = max(costs.get((name, step), 0.0), 10.0**low)
            length = max((math.log10(value) - low) * scale, 1.5)
            yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 1}" rx="1" fill="{COLOURS[step]}"/>'
            yield f'<text x="{LEFT + length + 5:.1f}" y="{y + BAR - 2}" font-size="10">{value:.3g}</text>'
            y += BAR
        y += GAP
