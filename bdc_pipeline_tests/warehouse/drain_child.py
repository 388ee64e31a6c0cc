"""A process that drains: `python -m ... PATH RUN_ID [FILE_SIZE_LIMIT]`. The tests kill it, starve it and race it.

It waits for a line on standard input, prints one after each transaction, and `done` with its counts at the end.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bdc_pipeline.warehouse.drain import DrainOptions, Progress, drain
from bdc_pipeline.warehouse.store import StoreError
from bdc_pipeline.warehouse.stream import Event, Rows
from bdc_pipeline_tests.warehouse.shop import ITEMS, TAGS, Item, Tag, Told, listed

COUNT, BATCH = 4000, 100


def events() -> Iterator[Event]:
    """The same items with their tags at every call."""
    for first in range(0, COUNT, BATCH):
        ids = range(first, first + BATCH)
        yield Rows(ITEMS, [Item(number, f"item {number}" * 20, number / 7) for number in ids])
        yield Rows(TAGS, [Tag(number, word) for number in ids for word in ("new", "old")], list(ids))
    keys = tuple(f"{first}-{first + 9}" for first in range(0, COUNT, 10))
    yield listed(COUNT, *keys)
    yield listed(2 * COUNT, *keys, table=TAGS)


def show(progress: Progress) -> None:
    """One line a transaction: the rows so far."""
    print(progress.rows, flush=True)


def main(path: str, run_id: str, limit: str = "") -> None:
    """Drains once told to."""
    if limit:
        # writing beyond the limit then fails with EFBIG instead of ending the process
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    stream = Told(tables=(ITEMS, TAGS))
    stream.events = events()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        done = drain(stream, Path(path), run_id, DrainOptions(commit_interval=3 * BATCH), on_progress=show)
    except StoreError as error:
        print(f"refused {error}", flush=True)
    else:
        print("done", done.is_complete, msgspec.json.encode(done.counts).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
