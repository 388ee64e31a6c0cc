"""Draining a stream into a file: the one writer of a run.

Events are committed in their order, rows and ledger entries together, in short transactions. What a transaction
did is counted only once it is committed, so that the counts are those of the file. What that makes of the partitions is
decided in `completeness.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.account import Account
from bdc_pipeline.warehouse.completeness import Completeness
from bdc_pipeline.warehouse.drain_options import ROWS, DrainOptions
from bdc_pipeline.warehouse.drained import Drained
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.plausibility import plus
from bdc_pipeline.warehouse.store import Store, now_text
from bdc_pipeline.warehouse.stream import (
    Checked,
    Compare,
    Effort,
    Erase,
    Event,
    Known,
    Missing,
    Pause,
    Plain,
    Reject,
    Rows,
    Same,
    Stream,
    Together,
    Unchanged,
)
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.upsert import AGAIN, Refused
from bdc_pipeline.warehouse.vanishing import Vanishing

__all__ = ["DrainOptions", "Drained", "Progress", "drain"]

CHECKPOINT_SECONDS = 0.25
"""How often SQLite's log is moved into the file while nothing comes."""

_Again = tuple[msgspec.Struct, int, int]
"""A row whose record came before, its fingerprint, and that of the record that is stored."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a drain has come; `expected` is None while the source has told no total."""

    rows: int
    expected: int | None
    effort: Effort
    seconds: float


def drain(
    stream: Stream,
    path: Path,
    run_id: str,
    options: DrainOptions | None = None,
    *,
    partitions: Sequence[str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Drained:
    """Writes all that a stream brings, and returns what came of it.

    Args:
        stream: what a fetch returned.
        path: the database file.
        run_id: the run in the ledger; several drains may belong to one run.
        options: batch sizes and limits.
        partitions: those that were asked for; one that the stream does not speak of is incomplete.
        on_progress: called after each transaction.

    Raises:
        StoreError: the file cannot be written; all earlier transactions stand.
    """
    options = _suited(stream, options or DrainOptions())
    with Store(path, stream.schema, cache_kib=options.cache_kib) as store:
        run = _Drain(store, stream, run_id, options, on_progress)
        try:
            for event in stream:
                run.take(event)
        except BaseException:
            # what arrived before is kept whatever went wrong, unless the file itself is what failed
            if not run.failed_to_write:
                run.commit()
                store.complete_schema()
            raise
        run.finish(partitions)
    return run.result


def _suited(stream: Stream, options: DrainOptions) -> DrainOptions:
    """The options, with what the stream says of how it is best drained."""
    suited: Callable[[DrainOptions], DrainOptions] | None = getattr(stream, "drain_options", None)
    return suited(options) if suited is not None else options


class _Drain:
    def __init__(
        self,
        store: Store,
        stream: Stream,
        run_id: str,
        options: DrainOptions,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.store, self.stream, self.run_id, self.options = store, stream, run_id, options
        self.on_progress = on_progress
        # of what is gathered along the way no source tells a total
        none_yet = {t.name: TableCounts(expected=None if t.gathered_with else 0) for t in stream.tables}
        self.result = Drained(run_id, none_yet)
        self.tables = {table.name: table for table in stream.tables}
        self.account = Account(store, stream.tables, options, self.result)
        self.vanishing = Vanishing(self.account)
        self.completeness = Completeness(self.account, self.vanishing)
        self.failed_to_write = False
        self._events: list[Plain | Unchanged] = []
        self._pending = self._pending_bytes = 0
        self._interval = options.commit_interval if options.commit_interval is not None else ROWS
        self._repeats: Counter[tuple[str, tuple[int | str, ...]]] = Counter()
        self._began = self._committed = self._checkpointed = time.monotonic()
        store.track(stream.tables)
        if options.index_late:
            store.drop_indexes()
        with store.transaction():
            ledger.begin_run(store, run_id, stream.schema.source, self.account.started_at)
            for table in stream.tables:
                ledger.add_counts(store, run_id, table, none_yet[table.name])

    # -- taking events -----------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Takes an event; commits when enough rows or time have gathered. Questions are answered at once."""
        match event:
            case Compare():
                self.commit()
                event.differing += self.completeness.differing(event)
            case Known():
                self.commit()
                self.account.know(event)
            case Unchanged():
                self._events.append(event)
                self.commit()
            case Pause():
                self._pause()
            case Together():
                self._gather(event.events)
            case _:
                self._gather([event])

    def _pause(self) -> None:
        """Writes while nothing comes, into the file itself too."""
        wrote = bool(self._events)
        self.commit()
        if wrote and time.monotonic() - self._checkpointed >= CHECKPOINT_SECONDS:
            self.store.checkpoint()
            self._checkpointed = time.monotonic()

    def _gather(self, events: Sequence[Plain]) -> None:
        """Takes events that belong together; between them nothing is committed."""
        self._events += events
        for event in events:
            if isinstance(event, Rows):
                self._pending += len(event.rows)
                self._pending_bytes += event.size
        most = self.options.commit_bytes
        full = self._pending >= self._interval or (most is not None and self._pending_bytes >= most)
        if full or time.monotonic() - self._committed >= self.options.commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Writes what has gathered in one transaction."""
        events, self._events, self._pending, self._pending_bytes = self._events, [], 0, 0
        self._committed = time.monotonic()
        if not events:
            return
        self.failed_to_write = True
        counts = {name: TableCounts() for name in self.tables}
        with self.store.transaction():
            for event in _merged(events):
                self._apply(event, counts)
            for name, of_table in counts.items():
                if of_table != TableCounts():
                    ledger.add_counts(self.store, self.run_id, self.tables[name], of_table)
        self.failed_to_write = False
        for name, of_table in counts.items():
            _add(self.result.counts[name], of_table)
        self._report_progress()

    def _report_progress(self) -> None:
        if self.on_progress is None:
            return
        expected = getattr(self.stream, "expected", None)
        # what is expected may be told of some of the tables alone
        counted: Sequence[Table] = getattr(self.stream, "counted", self.stream.tables)
        rows = sum(self.result.counts[table.name].fetched for table in counted)
        self.on_progress(Progress(rows, expected, self.stream.effort(), time.monotonic() - self._began))

    def _apply(self, event: Plain | Unchanged, counts: dict[str, TableCounts]) -> None:
        match event:
            case Rows():
                self._write(event, counts[event.table.name])
            case Same():
                counts[event.table.name].fetched += event.count
                counts[event.table.name].unchanged += event.count
            case Reject():
                self.account.reject(event, counts[event.table.name])
            case Checked():
                self.completeness.check(event, counts[event.table.name])
            case Unchanged():
                self.completeness.take_unchanged(event, counts)
            case Erase():
                self.store.erase(event.table, event.column, event.values)
            case Missing():
                self.account.take_missing(event, counts[event.table.name])

    def _write(self, event: Rows, counts: TableCounts) -> None:
        table, now = event.table, now_text()
        rows, hashes, again = self._not_matched(event)
        done = self.store.upsert(table, rows, now, hashes, unique=event.unique)
        counts.inserted += done.inserted
        counts.updated += done.updated
        counts.fetched += done.new
        counts.unchanged += done.new - done.inserted - done.updated
        for refused in done.refused or ():
            self._refuse(table, refused, counts)
        if again and event.unique:
            for row, _, _ in again:
                self._refuse(table, Refused(row, AGAIN, again=True), counts)
        elif again:
            self._write_again(table, again, now, counts)
        if event.parents and table.parent:
            self.vanishing.vanish_pairs(table, event.parents, now, counts)

    def _write_again(self, table: Table, again: Sequence[_Again], now: str, counts: TableCounts) -> None:
        """Writes rows that were counted as unchanged when their records came before, as they were stored."""
        done = self.store.upsert(table, [row for row, _, _ in again], now, [value for _, value, _ in again])
        counts.updated += done.updated
        counts.unchanged -= done.updated
        stand = {id(refused.row) for refused in done.refused or ()}
        kept = {stored for row, _, stored in again if id(row) in stand}
        # their keys count as seen from now on
        self.account.take_back(table, {stored for _, _, stored in again} - kept)
        for refused in done.refused or ():
            self._refuse(table, refused, counts)

    def _refuse(self, table: Table, refused: Refused, counts: TableCounts) -> None:
        reject = _refused(table, refused)
        if refused.again:
            # each is a record of its own, also where all are alike
            self._repeats[table.name, reject.key] += 1
            if (number := self._repeats[table.name, reject.key]) > 1:
                reject = dataclasses.replace(reject, key=(*reject.key, number))
        self.account.reject(reject, counts)

    def _not_matched(self, event: Rows) -> tuple[Sequence[msgspec.Struct], Sequence[int], list[_Again]]:
        """Rows, and apart from them those whose record came in this run before, as it was stored."""
        table, stands = event.table, self.account.stands
        if not event.hashes or not (self.account.any_matched(table) or (event.unique and stands[table.name])):
            return event.rows, event.hashes, []
        again, rows, hashes = list[_Again](), list[msgspec.Struct](), list[int]()
        for row, value in zip(event.rows, event.hashes, strict=True):
            stored = self.store.fingerprint_of(table, row)
            if stored is None:
                came = False
            elif self.account.matched(table, stored):
                came = True
            else:
                # a document that has not changed and was not read again holds it
                came = event.unique and self.store.partition_of(table, row) in stands[table.name]
            if came and stored is not None:
                again.append((row, value, stored))
            else:
                rows.append(row)
                hashes.append(value)
        return rows, hashes, again

    # -- the end -----------------------------------------------------------------------------------------------

    def finish(self, partitions: Sequence[str] | None) -> None:
        """Commits the rest, decides what is complete, and closes the run's entry."""
        self.commit()
        self.store.complete_schema()
        now = now_text()
        with self.store.transaction():
            self.completeness.conclude(partitions)
            self.result.effort = self.stream.effort()
            self.result.seconds = time.monotonic() - self._began
            ledger.end_run(self.store, self.run_id, self.result.effort, self.result.seconds, now)
            ledger.set_metadata(self.store, self._facts(), now)
        self._report_progress()

    def _facts(self) -> dict[str, str]:
        facts = {"last_sync": now_text(), "last_run_id": self.run_id}
        for table in self.tables.values():
            facts[f"{table.name}_last_sync"] = facts["last_sync"]
            facts[f"{table.name}_count"] = str(self.store.live(table))
        return facts


def _merged(events: Sequence[Plain | Unchanged]) -> list[Plain | Unchanged]:
    """Neighbouring rows of one table as one event: fewer, longer `executemany` calls."""
    merged: list[Plain | Unchanged] = []
    waiting: dict[str, list[Rows]] = {}

    def flush() -> None:
        for group in waiting.values():
            rows = [row for event in group for row in event.rows]
            parents = [parent for event in group for parent in event.parents]
            hashes = [value for event in group for value in event.hashes]
            merged.append(Rows(group[0].table, rows, parents, hashes, group[0].unique))
        waiting.clear()

    for event in events:
        # rows of different tables may change places: a transaction is seen as a whole
        if isinstance(event, Rows):
            group = waiting.get(event.table.name, [event])
            if (bool(event.hashes), event.unique) != (bool(group[0].hashes), group[0].unique):
                flush()
            waiting.setdefault(event.table.name, []).append(event)
        else:
            flush()
            merged.append(event)
    flush()
    return merged


def _refused(table: Table, refused: Refused) -> Reject:
    row = refused.row
    key = _readable_key(table, row)
    partition = None
    if table.partitioning:
        with contextlib.suppress(TypeError, ValueError):
            partition = table.partitioning.key_of(getattr(row, table.partitioning.column))
    try:
        raw = msgspec.json.encode(row).decode()
    except (TypeError, ValueError):
        raw = repr(row)
    if refused.again:
        # not its key alone: the row that has that key is another record's, and stands
        return Reject(table, partition, (*key, "again"), refused.reason, raw)
    return Reject(table, partition, key, f"SQLite cannot hold it: {refused.reason}", raw)


def _readable_key(table: Table, row: msgspec.Struct) -> tuple[int | str, ...]:
    """A row's key as it would be stored; () where it cannot be."""
    key: list[int | str] = []
    for name in table.key:
        value, encode = getattr(row, name), table.column(name).encode
        try:
            value = encode(value) if encode else value
        except (ValueError, TypeError, AttributeError, OverflowError):
            return ()
        if not isinstance(value, (int, str)):
            return ()
        key.append(value)
    return tuple(key)


def _add(total: TableCounts, more: TableCounts) -> None:
    for name in TableCounts.__struct_fields__:
        if name == "expected":
            total.expected = plus(total.expected, more.expected)
        else:
            setattr(total, name, getattr(total, name) + getattr(more, name))
