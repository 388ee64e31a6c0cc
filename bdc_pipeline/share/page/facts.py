"""What the page shows, as plain values: texts, the plot's series, the fields of a conflict. No element, no clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from bdc_pipeline.share.status import Light, Status, Sync, ago, count, size

COLOURS: Mapping[Light, str] = {
    Light.SUCCESS: "#2e7d32",
    Light.PENDING: "#f9a825",
    Light.FAILED: "#c62828",
    Light.OFFLINE: "#607d8b",
}

MISSING = "(no row)"
"""What stands where a side has deleted the row, or has never had it."""


def tiles(status: Status, now_ms: int) -> dict[str, str]:
    """The figures at the top, by what they are."""
    behind = f", {count(status.lag, 'segment')} behind" if status.lag else ""
    return {
        "pending writes": f"{status.pending:,}",
        "open conflicts": f"{status.conflicts:,}",
        "last sync": ago(None if status.synced is None else max(0, now_ms - status.synced) / 1000) + behind,
        "interval": f"{status.interval:g} s",
    }


def places(status: Status) -> list[dict[str, str]]:
    """Where the files are, how large, and what is to be said of them."""
    view = "not looked at yet" if status.view_lag is None else f"{count(status.view_lag, 'segment')} behind the log"
    rows = [
        {
            "what": "database on the share",
            "where": status.share,
            "size": size(status.share_bytes),
            "note": status.probe if status.mode == "direct" else view,
        }
    ]
    if status.cache is not None:
        note = f"at segment {status.position:,} of {max(status.head, status.position):,}"
        rows.insert(0, {"what": "cache", "where": status.cache, "size": size(status.cache_bytes), "note": note})
    return rows


def history_rows(history: Sequence[Sync], limit: int = 20) -> list[dict[str, Any]]:
    """The last syncs as rows of a table, the newest first."""
    return [
        {
            "at": f"{dt.datetime.fromtimestamp(sync.at / 1000, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}",
            "light": str(sync.light),
            "duration": f"{sync.milliseconds:,} ms",
            "rows": f"{sync.rows_out:,} out, {sync.rows_in:,} in",
            "bytes": f"{size(sync.bytes_out)} out, {size(sync.bytes_in)} in",
            "conflicts": f"{sync.conflicts:,}",
            "sentence": sync.sentence,
        }
        for sync in sorted(history, key=lambda sync: sync.at, reverse=True)[:limit]
    ]


def history_plot(history: Sequence[Sync]) -> dict[str, Any]:
    """The syncs as options of Apache ECharts: duration, rows and bytes above each other, on one time axis."""
    ordered = sorted(history, key=lambda sync: sync.at)

    def series(name: str, grid: int, values: Sequence[int], **more: Any) -> dict[str, Any]:
        points = [[sync.at, value] for sync, value in zip(ordered, values, strict=True)]
        return {
            "name": name,
            "type": "bar",
            "barMaxWidth": 8,
            "xAxisIndex": grid,
            "yAxisIndex": grid,
            "data": points,
        } | more

    durations = [
        {"value": [sync.at, sync.milliseconds], "itemStyle": {"color": COLOURS[sync.light]}} for sync in ordered
    ]
    return {
        "animation": False,
        "legend": {"data": ["rows out", "rows in", "bytes out", "bytes in"], "top": 0},
        "tooltip": {"trigger": "axis"},
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "grid": [{"left": 80, "right": 20, "top": top, "height": 90} for top in (40, 180, 320)],
        "xAxis": [{"type": "time", "gridIndex": grid, "axisLabel": {"hideOverlap": True}} for grid in range(3)],
        "yAxis": [
            {"type": "value", "name": name, "gridIndex": grid, "splitNumber": 3, "minInterval": 1}
            for grid, name in enumerate(("ms", "rows", "bytes"))
        ],
        "series": [
            series("duration", 0, [sync.milliseconds for sync in ordered], data=durations),
            series("rows out", 1, [sync.rows_out for sync in ordered], stack="rows"),
            series("rows in", 1, [sync.rows_in for sync in ordered], stack="rows"),
            series("bytes out", 2, [sync.bytes_out for sync in ordered], stack="bytes"),
            series("bytes in", 2, [sync.bytes_in for sync in ordered], stack="bytes"),
        ],
    }


def text_of(value: Any) -> str:
    """A value of a row for a person; long ones are cut."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes: {value[:16].hex()}{'…' if len(value) > 16 else ''}"
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"


def fields(
    base: Mapping[str, Any] | None, mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """A conflict column by column, side by side; `differs` tells where mine and theirs are not the same."""
    names = list(dict.fromkeys([*(mine or {}), *(theirs or {}), *(base or {})]))

    def cell(row: Mapping[str, Any] | None, name: str) -> str:
        return MISSING if row is None else text_of(row[name]) if name in row else "-"

    return [
        {
            "column": name,
            "base": cell(base, name),
            "mine": cell(mine, name),
            "theirs": cell(theirs, name),
            "differs": cell(mine, name) != cell(theirs, name),
        }
        for name in names
    ]
