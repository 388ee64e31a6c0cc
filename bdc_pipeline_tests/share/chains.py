"""Segments for tests of the share side: rows of one table, each following the one before."""

from __future__ import annotations

from bdc_pipeline.share.log import Log, Published
from bdc_pipeline.share.model import Change, Position, Segment, Stamp

START = Position()
COLUMNS = {"t": ("id", "name")}


def segment_after(
    position: Position, *, client: str = "c1", batch: str | None = None, rows: int = 1, name: str = "row"
) -> Segment:
    sequence = position.sequence + 1
    stamp = Stamp(sequence, 0, client)
    return Segment(
        sequence=sequence,
        previous=position.digest,
        client=client,
        batch=batch or f"{client}-{sequence}",
        user="someone",
        stamp=stamp,
        schema="s",
        columns=COLUMNS,
        changes=tuple(Change("t", (key,), 0, (key, f"{name} {sequence}"), None, stamp) for key in range(rows)),
    )


def publish_many(log: Log, count: int, position: Position = START, **options: object) -> list[Published]:
    published = []
    for _ in range(count):
        published.append(log.publish(segment_after(position, **options)))  # type: ignore[arg-type]
        position = published[-1].position
    return published
