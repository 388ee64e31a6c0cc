"""A process that drains: `python -m ... PATH RUN_ID [WHAT NUMBER]`. It is starved, races another, or kills itself.

WHAT is one of

- `starve`: no file may become larger than so many bytes;
- `die-behind`: it kills itself right behind so many transactions;
- `die-within`: it kills itself in the midst of the transaction that comes then, when some of its rows are written;
- `race`: it goes on behind so many transactions only when a line comes on standard input.

It prints a line after each transaction, and `done` with its counts at the end. That it kills itself at a count is exact; who kills
it when its line has been read kills it anywhere, or when all is over.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bdc_pipeline.warehouse.drain import DrainOptions, Progress, drain
from bdc_pipeline.warehouse.store import Store, StoreError
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


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_within(committed: Callable[[], int], after: int) -> None:
    """Ends the process when it has written the tags of the transaction that comes behind so many."""
    upsert = Store.upsert

    def last(self: Store, table: Any, *given: Any, **named: Any) -> Any:
        done = upsert(self, table, *given, **named)
        if committed() == after and table is TAGS:
            assert self.connection.in_transaction
            die()
        return done

    Store.upsert = last  # type: ignore[method-assign]


def main(path: str, run_id: str, what: str = "", number: str = "0") -> None:
    """Drains, as far as it is let."""
    most, count = int(number), 0

    def show(progress: Progress) -> None:
        nonlocal count
        count += 1
        print(progress.rows, flush=True)
        if count == most and what == "die-behind":
            die()
        if count == most and what == "race":
            sys.stdin.readline()

    if what == "starve":
        # writing beyond the limit then fails with EFBIG instead of ending the process
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    if what == "die-within":
        die_within(lambda: count, most)
    stream = Told(tables=(ITEMS, TAGS))
    stream.events = events()
    try:
        done = drain(stream, Path(path), run_id, DrainOptions(commit_interval=3 * BATCH), on_progress=show)
    except StoreError as error:
        print(f"refused {error}", flush=True)
    else:
        print("done", done.is_complete, msgspec.json.encode(done.counts).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
