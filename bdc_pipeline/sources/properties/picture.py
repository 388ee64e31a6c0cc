"""Pictures of prices as SVG: a line for each municipality over the years. Written by hand, since it is all the drawing there is."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 36
LINES = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
FEWEST_SALES = 3
"""A year with fewer sales tells no price."""


class Point(NamedTuple):
    """What a square metre cost in a year, DKK (median)."""

    year: int
    price: float


def prices_of(connection: sqlite3.Connection) -> dict[str, list[Point]]:
    """The medians by municipality, from the view `price_per_m2`; years in order."""
    sql = (
        "SELECT municipality, year, median_price_per_m2 FROM price_per_m2 WHERE municipality IS NOT NULL AND sales >= ? "
        "ORDER BY municipality, year"
    )
    found: dict[str, list[Point]] = {}
    for name, year, price in connection.execute(sql, (FEWEST_SALES,)):
        found.setdefault(str(name), []).append(Point(int(year), float(price)))
    return found


def price_picture(prices: Mapping[str, Sequence[Point]], title: str) -> str:
    """An SVG with a line for each of the municipalities; those with the highest prices of the last year come first."""
    series = sorted((item for item in prices.items() if item[1]), key=lambda item: -item[1][-1].price)
    points = [point for _, line in series for point in line]
    years = [point.year for point in points] or [0]
    first, last = min(years), max(years)
    top, step = scale(max((point.price for point in points), default=1.0))
    x = _Axis(first, last, LEFT, WIDTH - RIGHT)
    y = _Axis(0, top, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_grid(x, y, first, last, top, step),
    ]
    bottom = float(TOP)
    for place, (name, line) in enumerate(series):
        colour = LINES[place % len(LINES)]
        path = " ".join(f"{x.at(point.year):.1f},{y.at(point.price):.1f}" for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x.at(p.year):.1f}" cy="{y.at(p.price):.1f}" r="2.5" fill="{colour}"/>' for p in line]
        # names beside the ends of their lines, none over another
        bottom = max(bottom, y.at(line[-1].price) + 4)
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{bottom:.1f}" fill="{colour}">{escape(name)}</text>')
        bottom += 15
    return "\n".join([*parts, "</svg>"])


def scale(highest: float) -> tuple[int, int]:
    """The top of an axis that holds a value, and the step between its lines: 1, 2 or 5 with zeros, some five of them."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor * 6 >= highest:
                return (int(highest // (step * factor)) + 1) * step * factor, step * factor
        step *= 10


class _Axis(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value stands on it."""
        span = (self.high - self.low) or 1
        return self.start + (value - self.low) / span * (self.end - self.start)


def _grid(x: _Axis, y: _Axis, first: int, last: int, top: int, step: int) -> list[str]:
    parts = []
    for value in range(0, top + 1, step):
        at = y.at(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#555555">{value:,}</text>')
    every = max(1, -(-(last - first + 1) // 10))
    parts += [
        f'<text x="{x.at(year):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555555">{year}</text>'
        for year in range(first, last + 1, every)
    ]
    parts.append(f'<text x="{LEFT - 8}" y="{TOP - 10}" text-anchor="end" fill="#555555">DKK/m²</text>')
    return parts


def as_markdown(svg: str, title: str) -> str:
    """The picture inside a piece of Markdown, as the UI shows it."""
    encoded = base64.b64encode(svg.encode()).decode()
    return f"![{title}](data:image/svg+xml;base64,{encoded})"
