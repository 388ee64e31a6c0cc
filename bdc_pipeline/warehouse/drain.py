"""Draining a stream into a file: the one writer of a run.

Events are committed in their order, rows and ledger entries together, in short transactions. What a transaction
did is counted only once it is committed, so that the counts are those of the file.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.ledger import PartitionState, TableCounts
from bdc_pipeline.warehouse.store import Refused, Store, now_text
from bdc_pipeline.warehouse.stream import Checked, Compare, Effort, Erase, Event, Missing, Reject, Rows, Stream
from bdc_pipeline.warehouse.table import Table

FEW_ROWS = 5
"""So many rows of a partition may vanish in one go whatever their share is, as long as others stay."""


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """How a stream is drained.

    Args:
        commit_interval: rows a transaction; a transaction also ends after `commit_seconds`.
        max_rejects: with more rejected records than this, the partitions that hold them are incomplete.
        max_vanish_share: the share of a partition's rows that may vanish in one go, from 0 to 1.
        allow_vanish: the explicit yes to any share.
    """

    commit_interval: int = 1000
    commit_seconds: float = 1.0
    max_rejects: int = 0
    max_vanish_share: float = 0.2
    allow_vanish: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a drain has come; `expected` is None while the source has told no total."""

    rows: int
    expected: int | None
    effort: Effort
    seconds: float


@dataclass(slots=True)
class Drained:
    """What a drain did, as committed.

    `complete`, `limited` and `incomplete` hold, by table name, the partitions (None for a table without) and, for the
    incomplete ones, why. Limited ones were cut short by an option: nothing is missing of what was asked for, but they
    are not complete.
    """

    run_id: str
    counts: dict[str, TableCounts]
    complete: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    incomplete: dict[str, dict[str | None, str]] = field(default_factory=lambda: defaultdict(dict))
    limited: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    partition_counts: dict[str, dict[str | None, int]] = field(default_factory=lambda: defaultdict(dict))
    rejects: list[Reject] = field(default_factory=list)
    effort: Effort = field(default_factory=Effort)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing of what was asked for."""
        return not any(self.incomplete.values())


def vanish_allowed(candidates: int, live: int, options: DrainOptions) -> bool:
    """Whether so many of a partition's live rows may be marked as vanished without an explicit yes.

    Never all of them: an empty answer is what a source in trouble gives.
    """
    if options.allow_vanish or candidates == 0:
        return True
    return candidates < live and candidates <= max(FEW_ROWS, options.max_vanish_share * live)


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
    with Store(path, stream.schema) as store:
        run = _Drain(store, stream, run_id, options or DrainOptions(), on_progress)
        try:
            for event in stream:
                run.take(event)
        except BaseException:
            # what arrived before is kept whatever went wrong, unless the file itself is what failed
            if not run.failed_to_write:
                run.commit()
            raise
        run.finish(partitions)
    return run.result


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
        self.result = Drained(run_id, {table.name: TableCounts() for table in stream.tables})
        self.tables = {table.name: table for table in stream.tables}
        self.failed_to_write = False
        self._events: list[Event] = []
        self._pending = 0
        self._began = self._committed = time.monotonic()
        self._started_at = now_text()
        # by table name
        self._covered: dict[str, dict[str | None, bool]] = defaultdict(dict)
        self._reject_ids: dict[str, set[str]] = defaultdict(set)
        self._open_rejects: dict[str, dict[str | None, int]] = defaultdict(dict)
        self._reject_keys: dict[str, dict[str | None, list[tuple[int | str, ...]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._placed: Counter[str] = Counter()
        self._pairs_vanished: Counter[str] = Counter()
        self._pairs_live: dict[str, int] = {}
        store.track(stream.tables)
        with store.transaction():
            ledger.begin_run(store, run_id, stream.schema.source, self._started_at)
            for table in stream.tables:
                ledger.add_counts(store, run_id, table, TableCounts())

    # -- taking events -----------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Takes an event; commits when enough rows or time have gathered."""
        if isinstance(event, Compare):
            self.commit()
            event.differing += self._differing(event)
            return
        self._events.append(event)
        if isinstance(event, Rows):
            self._pending += len(event.rows)
        due = time.monotonic() - self._committed >= self.options.commit_seconds
        if due or self._pending >= self.options.commit_interval:
            self.commit()

    def commit(self) -> None:
        """Writes what has gathered in one transaction."""
        events, self._events, self._pending = self._events, [], 0
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
        rows = sum(counts.fetched for counts in self.result.counts.values())
        expected = getattr(self.stream, "expected", None)
        self.on_progress(Progress(rows, expected, self.stream.effort(), time.monotonic() - self._began))

    def _apply(self, event: Event, counts: dict[str, TableCounts]) -> None:
        of_table = counts[event.table.name]
        match event:
            case Rows():
                self._write(event, of_table)
            case Reject():
                self._reject(event, of_table)
            case Checked():
                self._check(event, of_table)
            case Erase():
                self.store.erase(event.table, event.column, event.values)
            case Missing():
                of_table.expected = _plus(of_table.expected, event.expected)
                self._miss(event.table, event.partitions, event.unit, event.error, full=event.full)

    def _write(self, event: Rows, counts: TableCounts) -> None:
        table, now = event.table, now_text()
        done = self.store.upsert(table, event.rows, now)
        counts.inserted += done.inserted
        counts.updated += done.updated
        counts.fetched += done.new
        counts.unchanged += done.new - done.inserted - done.updated
        for refused in done.refused or ():
            self._reject(_refused(table, refused), counts)
        if event.parents and table.parent:
            self._vanish_pairs(table, event.parents, now, counts)

    def _reject(self, reject: Reject, counts: TableCounts) -> None:
        name = reject.table.name
        identity = "/".join(map(str, reject.key)) or ledger.reject_digest(reject)
        ledger.record_reject(self.store, reject, self.run_id, now_text())
        if reject.key:
            self.store.spare(reject.table, [reject.key])
        if identity in self._reject_ids[name]:
            return
        self._reject_ids[name].add(identity)
        self._reject_keys[name][reject.partition].append(reject.key)
        self.result.rejects.append(reject)
        counts.rejected += 1

    # -- what is complete --------------------------------------------------------------------------------------

    def _check(self, event: Checked, counts: TableCounts) -> None:
        table = event.table
        # what came and was gone before the end was fetched too
        counts.expected = _plus(_plus(counts.expected, event.expected), len(event.gone) - event.again)
        self.store.forget(table, event.gone)
        if event.gone and not self._let_go(event, counts):
            return
        if event.full and not event.limited:
            short = self._short_of(event)
            if short:
                self._miss(table, event.partitions, f"{table.name} {_named(event.partitions)}", short)
                return
            missed = self.result.incomplete[table.name]
            whole = [partition for partition in event.partitions if partition not in missed]
            ledger.resolve_rejects(self.store, table, whole, self.run_id, now_text())
        else:
            ledger.resolve_mended(self.store, table, self.run_id, now_text())
        states = {} if event.full and not event.limited else ledger.partition_states(self.store.connection, table)
        for partition in event.partitions:
            self._settle(event, partition, counts, states.get(partition or ""))

    def _let_go(self, event: Checked, counts: TableCounts) -> bool:
        """Marks rows that came and were gone before the listing ended. False: too many to be believed."""
        table, now = event.table, now_text()
        live = sum(self.store.live(table, _keys((partition,))) for partition in event.partitions)
        if not vanish_allowed(len(event.gone), live, self.options):
            error = (
                f"{len(event.gone)} of {live} rows came and were not in the source's answer when it was asked again; nothing "
                "was marked as vanished"
            )
            self._miss(table, event.partitions, f"{table.name} {_named(event.partitions)}", error)
            return False
        counts.vanished += self.store.vanish_keys(table, event.gone, now)
        return True

    def _short_of(self, event: Checked) -> str:
        """Why a full listing's count does not fit what is stored; empty where it does."""
        if event.expected is None:
            return ""
        held = sum(self.store.held(event.table, _keys((partition,))) for partition in event.partitions)
        rejects = self._reject_keys[event.table.name]
        rejected = sum(len(rejects[partition]) for partition in set(event.partitions) if partition in rejects)
        gap = event.expected - held - rejected
        # records of unknown partition fill gaps, each one
        loose = 0 if None in event.partitions else len(rejects.get(None, ())) - self._placed[event.table.name]
        if 0 <= gap <= loose:
            self._placed[event.table.name] += gap
            return ""
        return _unaccounted(event.expected, held, rejected if gap < 0 else rejected + loose)

    def _settle(self, event: Checked, partition: str | None, counts: TableCounts, known: PartitionState | None) -> None:
        """Notes what a checked listing makes of one of its partitions."""
        table, now = event.table, now_text()
        missed = partition in self.result.incomplete[table.name]
        # what is missing may hold the rows that did not come
        whole = event.full and not event.limited and not missed
        if whole and not self._vanish(table, partition, now, counts):
            return
        live, stored, rejected = self._held_of(table, partition)
        self._open_rejects[table.name][partition] = rejected
        verified = bool(known and known.verified_at)
        total = event.expected if event.full and len(event.partitions) == 1 else event.totals.get(partition or "")
        problem = "" if event.full or event.limited else _doubt(total, stored, rejected, verified=verified)
        covered = not event.limited and not problem
        complete = covered and not missed and not rejected
        values: dict[str, object] = {"stored": stored, "rejected": rejected, "complete": int(complete)}
        if total is not None:
            values["expected"] = total
        if whole or complete:
            values["problem"] = None
        if event.watermark and not missed and not event.limited:
            values["watermark_anew" if whole else "watermark"] = event.watermark
        if whole:
            values["verified_at"] = self._started_at
        elif total is not None and total != stored + rejected:
            # changes alone do not explain the source's count: the next run lists this partition in full
            values["verified_at"] = None
        if not (event.limited and verified):  # a try takes nothing from what was verified
            ledger.record_partition(self.store, table, partition, self.run_id, now, values)
        if problem:
            self._miss(table, (partition,), f"{table.name} {_named((partition,))}", problem)
        if event.limited:
            self.result.limited[table.name].append(partition)
        self._covered[table.name][partition] = covered
        self.result.partition_counts[table.name][partition] = live

    def _held_of(self, table: Table, partition: str | None) -> tuple[int, int, int]:
        """A partition's live rows, those of them that stand for a record as it is, and its open rejects."""
        live = self.store.live(table, _keys((partition,)))
        rejected = ledger.open_rejects(self.store.connection, table, partition)
        stale = ledger.stale_rows(self.store.connection, table, partition) if rejected else 0
        return live, live - stale, rejected

    def _differing(self, event: Compare) -> list[str]:
        missed = self.result.incomplete[event.table.name]
        found = []
        for partition, total in event.totals.items():
            _, stored, rejected = self._held_of(event.table, partition)
            if stored + rejected != total and partition not in missed:
                found.append(partition)
        return found

    def _vanish(self, table: Table, partition: str | None, now: str, counts: TableCounts) -> bool:
        """Marks the partition's rows that a full listing did not bring. False: too many, so none was marked."""
        rejects = self._reject_keys[table.name]
        if () in rejects.get(partition, ()) or () in rejects.get(None, ()):
            return True  # a rejected record without a readable key may be any of the rows that did not come
        where = table.where(_keys((partition,)))
        gone = self.store.unseen(table, where, self._started_at)
        if not gone:
            return True
        live = self.store.live(table, _keys((partition,)))
        if not vanish_allowed(gone, live, self.options):
            self._miss(
                table,
                (partition,),
                f"{table.name} {_named((partition,))}",
                f"{gone} of {live} stored rows were not in the source's answer; nothing was marked as vanished, since that "
                f"is more than {self.options.max_vanish_share:.0%}. If they are really gone, run again with --allow-vanish",
            )
            return False
        counts.vanished += self.store.vanish(table, where, self._started_at, now)
        return True

    def _vanish_pairs(self, table: Table, parents: Sequence[int | str], now: str, counts: TableCounts) -> None:
        """Marks stored pairs of these parents that did not come with them."""
        if any(() in keys for keys in self._reject_keys[table.name].values()):
            return  # as in `_vanish`
        values = msgspec.json.encode(list(parents)).decode()
        where = (f'"{table.parent}" IN (SELECT value FROM json_each(?))', (values,))
        gone = self.store.unseen(table, where, self._started_at)
        if not gone:
            return
        if table.name not in self._pairs_live:
            self._pairs_live[table.name] = self.store.live(table)
        live = self._pairs_live[table.name]
        if not vanish_allowed(self._pairs_vanished[table.name] + gone, live, self.options):
            partitioning = table.partitioning
            partitions = sorted({partitioning.key_of(parent) for parent in parents}) if partitioning else [None]
            self._miss(
                table,
                tuple(partitions),
                f"{table.name} of {len(parents)} {table.parent}",
                f"{gone} pairs were not in the source's answer, which makes more than {self.options.max_vanish_share:.0%} of "
                f"{live} in this run; they were not marked as vanished. If they are really gone, run again with --allow-vanish",
            )
            return
        self._pairs_vanished[table.name] += gone
        counts.vanished += self.store.vanish(table, where, self._started_at, now)

    def _miss(
        self, table: Table, partitions: Iterable[str | None], unit: str, error: str, *, full: bool = True
    ) -> None:
        # what no partition can be blamed for still makes the run incomplete
        named, now = list(partitions) or [None], now_text()
        ledger.add_failure(self.store, self.run_id, table, named, unit, error, now)
        problem = {"complete": 0, "problem": f"{unit}: {error}"} | ({"verified_at": None} if full else {})
        for partition in named:
            ledger.record_partition(self.store, table, partition, self.run_id, now, problem)
        for partition in named:
            self.result.incomplete[table.name].setdefault(partition, f"{unit}: {error}")

    # -- the end -----------------------------------------------------------------------------------------------

    def finish(self, partitions: Sequence[str] | None) -> None:
        """Commits the rest, decides what is complete, and closes the run's entry."""
        self.commit()
        now = now_text()
        with self.store.transaction():
            for table in self.tables.values():
                self._judge_rejects(table, now)
                self._find_unspoken(table, partitions)
            self.result.effort = self.stream.effort()
            self.result.seconds = time.monotonic() - self._began
            ledger.end_run(self.store, self.run_id, self.result.effort, self.result.seconds, now)
            ledger.set_metadata(self.store, self._facts(), now)
        for name, covered in self._covered.items():
            missed = self.result.incomplete[name]
            self.result.complete[name] = [key for key, whole in covered.items() if whole and key not in missed]
        self._report_progress()

    def _judge_rejects(self, table: Table, now: str) -> None:
        """Over the limit, the partitions with rejected records are incomplete; within it they are complete after all.

        What counts is what is open: this run's rejects in all its tables, and those of earlier runs in the partitions
        that this one went through, however generous the limit was then.
        """
        covered = self._covered[table.name]
        found = {key: number for key, number in self._open_rejects[table.name].items() if number}
        for key, keys in self._reject_keys[table.name].items():
            if keys:
                found[key] = max(found.get(key, 0), len(keys))
        if not found:
            return
        total = self._rejected_in_all()
        for partition, number in found.items():
            touched = [partition] if partition is not None or table.partitioning is None else list(covered)
            if total > self.options.max_rejects:
                self._miss(
                    table,
                    touched,
                    f"{table.name} {_named(touched)}",
                    f"{number} rejected ({total} in all, {self.options.max_rejects} allowed by --max-rejects): see the table _rejects",
                )
                continue
            for key in touched:
                if covered.get(key) and key not in self.result.incomplete[table.name]:
                    values = {"complete": 1, "problem": None}
                    ledger.record_partition(self.store, table, key, self.run_id, now, values)

    def _rejected_in_all(self) -> int:
        """Open rejects of the partitions gone through, and what earlier drains of this run rejected."""
        here = 0
        for name in self.tables:
            opened, new = self._open_rejects[name], self._reject_keys[name]
            here += sum(max(opened.get(key, 0), len(new.get(key, ()))) for key in {*opened, *new})
        return here + ledger.rejected_elsewhere(self.store.connection, self.run_id, self.tables)

    def _find_unspoken(self, table: Table, partitions: Sequence[str] | None) -> None:
        asked: Sequence[str | None] = partitions if partitions is not None and table.partitioning else (None,)
        spoken = self._covered[table.name].keys() | self.result.incomplete[table.name].keys()
        if table.partitioning is not None and partitions is None:
            return
        if silent := [key for key in asked if key not in spoken]:
            self._miss(table, silent, f"{table.name} {_named(silent)}", "nothing was fetched for it")

    def _facts(self) -> dict[str, str]:
        facts = {"last_sync": now_text(), "last_run_id": self.run_id}
        for table in self.tables.values():
            facts[f"{table.name}_last_sync"] = facts["last_sync"]
            facts[f"{table.name}_count"] = str(self.store.live(table))
        return facts


def _merged(events: Sequence[Event]) -> list[Event]:
    """Neighbouring rows of one table as one event: fewer, longer `executemany` calls."""
    merged: list[Event] = []
    waiting: dict[str, list[Rows]] = {}

    def flush() -> None:
        for group in waiting.values():
            rows = [row for event in group for row in event.rows]
            parents = [parent for event in group for parent in event.parents]
            merged.append(Rows(group[0].table, rows, parents))
        waiting.clear()

    for event in events:
        # rows of different tables may change places: a transaction is seen as a whole
        if isinstance(event, Rows):
            waiting.setdefault(event.table.name, []).append(event)
        else:
            flush()
            merged.append(event)
    flush()
    return merged


def _doubt(total: int | None, stored: int, rejected: int, *, verified: bool) -> str:
    """Why a listing of changes leaves a partition incomplete; empty where it does not.

    More rows than the source counts are no doubt: some came after it counted, or were deleted since.
    """
    if total is not None and stored + rejected < total:
        return _unaccounted(total, stored, rejected)
    return "" if verified else "only its changes were fetched, and it was never listed in full"


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


def _unaccounted(expected: int, stored: int, rejected: int) -> str:
    return (
        f"the source counts {expected} records, {stored} are stored and {rejected} rejected: "
        f"{expected - stored - rejected:+d} is not accounted for"
    )


def _add(total: TableCounts, more: TableCounts) -> None:
    for name in TableCounts.__struct_fields__:
        if name == "expected":
            total.expected = _plus(total.expected, more.expected)
        else:
            setattr(total, name, getattr(total, name) + getattr(more, name))


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more


def _keys(partitions: Sequence[str | None]) -> list[str] | None:
    keys = [partition for partition in partitions if partition is not None]
    return keys or None


def _named(partitions: Sequence[str | None]) -> str:
    keys = [partition for partition in partitions if partition is not None]
    if not keys:
        return "(all)"
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
