"""What of a run is complete: expected against stored, what has vanished, what was rejected, what nobody spoke of.

Decided while a stream is drained (see `drain.py`), inside its transactions, and noted in the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.fingerprints import Fingerprints
from bdc_pipeline.warehouse.ledger import PartitionState, TableCounts
from bdc_pipeline.warehouse.store import Store, now_text
from bdc_pipeline.warehouse.stream import Checked, Compare, Effort, Known, Missing, Reject, Unchanged
from bdc_pipeline.warehouse.table import Table, Where, quoted

ROWS = 1000
"""Rows in a transaction, where neither the stream nor anybody else says otherwise."""

FEW_ROWS = 5
"""So many rows of a partition may vanish in one go whatever their share is, as long as others stay."""


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """How a stream is drained.

    Args:
        commit_interval: rows a transaction; None for what suits the stream, else `ROWS`.
        commit_bytes: a transaction also ends with so many bytes of raw records, where rows tell theirs; None for any number.
        commit_seconds: and after so long.
        max_rejects: with more rejected records than this, the partitions that hold them are incomplete.
        max_vanish_share: the share of a partition's rows that may vanish in one go, from 0 to 1.
        allow_vanish: the explicit yes to any share.
        cache_kib: how much of the file SQLite keeps in memory; 16,000 makes bulk loads a fifth faster.
        index_late: tables that are empty get their indexes when all rows are there, which takes half the time.
    """

    commit_interval: int | None = None
    commit_bytes: int | None = None
    commit_seconds: float = 1.0
    max_rejects: int = 0
    max_vanish_share: float = 0.2
    allow_vanish: bool = False
    cache_kib: int = 2000
    index_late: bool = False


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


class Completeness:
    """Keeps account of a run: of what came, what did not, and what that makes of each partition."""

    def __init__(self, store: Store, tables: Sequence[Table], options: DrainOptions, result: Drained) -> None:
        self.store, self.options, self.result = store, options, result
        self.run_id = result.run_id
        self.tables = {table.name: table for table in tables}
        self.started_at = now_text()
        # by table name
        self._covered: dict[str, dict[str | None, bool]] = defaultdict(dict)
        self._reject_ids: dict[str, set[str]] = defaultdict(set)
        self._open_rejects: dict[str, dict[str | None, int]] = defaultdict(dict)
        self._reject_keys: dict[str, dict[str | None, list[tuple[int | str, ...]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._known: dict[str, dict[str | None, Fingerprints]] = defaultdict(dict)
        self.stands: dict[str, set[str | None]] = defaultdict(set)
        self._placed: dict[str, int] = defaultdict(int)
        self._pairs_vanished: dict[str, int] = defaultdict(int)
        self._pairs_live: dict[str, int] = {}
        filled = {trigger.fills for trigger in store.schema.triggers}
        self._before = {table.name: store.live(table) for table in tables if table.name in filled}

    # -- what comes --------------------------------------------------------------------------------------------

    def know(self, event: Known) -> None:
        """Hands out the fingerprints of a partition and remembers them: they tell what was matched."""
        event.fingerprints = self.store.fingerprints(event.table, event.partition)
        self._known[event.table.name][event.partition] = event.fingerprints

    def matched(self, table: Table, fingerprint: int) -> bool:
        """Whether a record with this fingerprint has come in this run."""
        return any(known.was_matched(fingerprint) for known in self._known[table.name].values())

    def take_back(self, table: Table, fingerprints: Iterable[int]) -> None:
        """Rows whose records came as they were stored have come otherwise since, or are gone: no row counts twice."""
        for known in self._known[table.name].values():
            for fingerprint in fingerprints:
                known.take_back(fingerprint)

    def any_matched(self, table: Table) -> bool:
        """Whether any record of a table came as it is stored."""
        return any(known.matched for known in self._known[table.name].values())

    def reject(self, reject: Reject, counts: TableCounts) -> None:
        """Keeps a rejected record; the same one counts once."""
        name = reject.table.name
        identity = "/".join(map(str, reject.key)) or ledger.reject_digest(reject)
        ledger.record_reject(self.store, reject, self.run_id, now_text())
        if len(reject.key) == len(reject.table.key):
            self.store.spare(reject.table, [reject.key])
        if identity in self._reject_ids[name]:
            return
        self._reject_ids[name].add(identity)
        self._reject_keys[name][reject.partition].append(reject.key)
        self.result.rejects.append(reject)
        counts.rejected += 1

    # -- what is checked ---------------------------------------------------------------------------------------

    def check(self, event: Checked, counts: TableCounts) -> None:
        """Takes the end of a listing: does its count fit what is stored, and what has vanished?"""
        table, now = event.table, now_text()
        for partition in event.partitions:
            if problem := self.result.incomplete[table.owner].get(partition) if table.owner else None:
                self.miss(table, (partition,), f"{table.name} {_named((partition,))}", f"they come with {problem}")
        # what came and was gone before the end was fetched too
        counts.expected = _plus(_plus(counts.expected, event.expected), len(event.gone) - event.again)
        self.store.forget(table, event.gone)
        if event.gone and self.any_matched(table):
            self.take_back(table, self.store.fingerprints_at(table, event.gone))
        if event.gone and not self._let_go(event, counts):
            return
        if event.full and not event.limited:
            short = self._short_of(event)
            if short:
                self.miss(table, event.partitions, f"{table.name} {_named(event.partitions)}", short)
                return
            missed = self.result.incomplete[table.name]
            whole = [partition for partition in event.partitions if partition not in missed]
            ledger.resolve_rejects(self.store, table, whole, self.run_id, now)
        else:
            ledger.resolve_mended(self.store, table, self.run_id, now)
        states = {} if event.full and not event.limited else ledger.partition_states(self.store.connection, table)
        self.store.count_live(table, [partition for partition in event.partitions if partition is not None])
        rejected = ledger.open_rejects(self.store.connection, table, event.partitions)
        for partition in event.partitions:
            known = states.get(partition or "")
            self._settle(event, partition, counts, known, rejected=rejected[partition or ""], now=now)

    def _let_go(self, event: Checked, counts: TableCounts) -> bool:
        """Marks rows that came and were gone before the listing ended. False: too many to be believed."""
        table, now = event.table, now_text()
        live = sum(self.store.live(table, _keys((partition,))) for partition in event.partitions)
        if not vanish_allowed(len(event.gone), live, self.options):
            error = (
                f"{len(event.gone)} of {live} rows came and were not in the source's answer when it was asked again; nothing "
                "was marked as vanished"
            )
            self.miss(table, event.partitions, f"{table.name} {_named(event.partitions)}", error)
            return False
        counts.vanished += self.store.vanish_keys(table, event.gone, now)
        return True

    def _short_of(self, event: Checked) -> str:
        """Why a full listing's count does not fit what is stored; empty where it does."""
        table = event.table
        held = {partition: self._came(table, partition) for partition in event.partitions}
        for partition, came in held.items():
            live = self.store.live(table, _keys((partition,)))
            if live < came:
                return f"{came} rows of {_named((partition,))} came, {live} are stored"
        if event.expected is None:
            return ""
        stored = sum(held.values())
        rejects = self._reject_keys[table.name]
        rejected = sum(len(rejects[partition]) for partition in set(event.partitions) if partition in rejects)
        gap = event.expected - stored - rejected
        # records of unknown partition fill gaps, each one
        loose = 0 if None in event.partitions else len(rejects.get(None, ())) - self._placed[table.name]
        if 0 <= gap <= loose:
            self._placed[table.name] += gap
            return ""
        return _unaccounted(event.expected, stored, rejected if gap < 0 else rejected + loose)

    def _came(self, table: Table, partition: str | None) -> int:
        """How many of a partition's rows this run has come across, whether it read them or knew them."""
        known = self._known[table.name]
        found = [known[partition]] if partition in known else [] if partition is not None else list(known.values())
        return self.store.held(table, partition) + sum(fingerprints.matched for fingerprints in found)

    def _settle(
        self,
        event: Checked,
        partition: str | None,
        counts: TableCounts,
        known: PartitionState | None,
        *,
        rejected: int,
        now: str,
    ) -> None:
        """Notes what a checked listing makes of one of its partitions, of which so many rejects are open."""
        table = event.table
        missed = partition in self.result.incomplete[table.name]
        # what is missing may hold the rows that did not come
        whole = event.full and not event.limited and not missed
        if whole and not self._vanish(table, partition, now, counts):
            return
        if whole and table.owner:
            self._count_carried(table, partition, counts)
        live, stored = self._held_of(table, partition, rejected)
        self._open_rejects[table.name][partition] = rejected
        verified = event.adds_up or bool(known and known.verified_at)
        total = event.expected if event.full and len(event.partitions) == 1 else event.totals.get(partition or "")
        problem = "" if event.full or event.limited else _doubt(total, stored, rejected, verified=verified)
        covered = not event.limited and not problem
        complete = covered and not missed and not rejected
        values: dict[str, object] = {"stored": stored, "rejected": rejected, "complete": int(complete)}
        if event.watermark and not missed and not event.limited:
            values["watermark_anew" if whole else "watermark"] = event.watermark
        values |= self._facts_of(event, total, whole=whole, complete=complete)
        if whole or (event.adds_up and not missed and not event.limited):
            values["verified_at"] = self.started_at
        elif total is not None and total != stored + rejected:
            # changes alone do not explain the source's count: the next run lists this partition in full
            values["verified_at"] = None
        if not (event.limited and verified):  # a try takes nothing from what was verified
            ledger.record_partition(self.store, table, partition, self.run_id, now, values)
        if problem:
            self.miss(table, (partition,), f"{table.name} {_named((partition,))}", problem)
        if event.limited:
            self.result.limited[table.name].append(partition)
        self._covered[table.name][partition] = covered
        self.result.partition_counts[table.name][partition] = live

    def _facts_of(self, event: Checked, total: int | None, *, whole: bool, complete: bool) -> dict[str, object]:
        values: dict[str, object] = {} if total is None else {"expected": total}
        if whole or complete:
            values["problem"] = None
        if whole:
            values["token"] = self._token(event.token) if event.token and complete else None
        return values

    def _held_of(self, table: Table, partition: str | None, rejected: int) -> tuple[int, int]:
        """A partition's live rows, and those of them that stand for a record as it is."""
        live = self.store.live(table, _keys((partition,)))
        return live, live - (ledger.stale_rows(self.store.connection, table, partition) if rejected else 0)

    def differing(self, event: Compare) -> list[str]:
        """The partitions that hold other numbers of rows than the source counts."""
        missed = self.result.incomplete[event.table.name]
        rejects = ledger.open_rejects(self.store.connection, event.table, event.totals)
        found = []
        for partition, total in event.totals.items():
            _, stored = self._held_of(event.table, partition, rejects[partition])
            if stored + rejects[partition] != total and partition not in missed:
                found.append(partition)
        return found

    def take_unchanged(self, event: Unchanged, counts: Mapping[str, TableCounts]) -> None:
        """Lets a partition stand, where it does stand, as the same document left it."""
        token = self._token(event.token)
        states = {}
        for table in event.tables:
            state = ledger.partition_states(self.store.connection, table).get(event.partition or "")
            whole = state is not None and state.complete and not state.rejected and state.token == token
            if state is None or not whole or self.store.live(table, _keys((event.partition,))) != state.stored:
                return
            states[table.name] = state
        event.holds = True
        for table in event.tables:
            stored = states[table.name].stored or 0
            of_table = counts[table.name]
            of_table.expected = _plus(of_table.expected, states[table.name].expected)
            of_table.fetched += stored
            of_table.unchanged += stored
            ledger.record_partition(
                self.store,
                table,
                event.partition,
                self.run_id,
                now_text(),
                {"complete": 1, "problem": None},
            )
            self._covered[table.name][event.partition] = True
            self.stands[table.name].add(event.partition)
            self.result.partition_counts[table.name][event.partition] = stored

    def _token(self, token: str) -> str:
        """A document's token, which another version of the schema does not know."""
        return f"{self.store.schema.digest.hex()} {token}"

    # -- what has vanished -------------------------------------------------------------------------------------

    def _vanish(self, table: Table, partition: str | None, now: str, counts: TableCounts) -> bool:
        """Marks the partition's rows that a full listing did not bring. False: too many, so none was marked."""
        rejects = self._reject_keys[table.name]
        # a rejected record without a readable key may be any of the rows that did not come
        unreadable = () in rejects.get(partition, ()) or () in rejects.get(None, ())
        # as many live as came: no need to look which did not
        if unreadable or self._came(table, partition) == self.store.live(table, _keys((partition,))):
            return True
        of_partition = table.where(_keys((partition,)))
        known = self._known[table.name].get(partition)
        where = self.store.unseen(table, of_partition, self.started_at, known)
        if where is None:
            return True
        if table.owner:
            # those of a record that has not changed did not come again; those of one that vanished vanish with it,
            # and whether that was plausible was asked there
            counts.vanished += self.store.vanish(table, self._orphaned(table, where), now)
            return True
        gone = self.store.count(table, where)
        if not gone:
            return True
        live = self.store.live(table, _keys((partition,)))
        if not vanish_allowed(gone, live, self.options):
            self.miss(
                table,
                (partition,),
                f"{table.name} {_named((partition,))}",
                f"{gone} of {live} stored rows were not in the source's answer; nothing was marked as vanished, since that "
                f"is more than {self.options.max_vanish_share:.0%}. If they are really gone, run again with --allow-vanish",
            )
            return False
        counts.vanished += self.store.vanish(table, where, now)
        return True

    def _orphaned(self, table: Table, where: Where) -> Where:
        owner = self.store.schema.table(table.owner)
        parent = f"o.{quoted(owner.key[0])} = t.{quoted(table.parent or '')}"
        alive = f"SELECT 1 FROM {quoted(owner.stored)} o WHERE {parent} AND o.vanished_at IS NULL"
        return f"{where[0]} AND NOT EXISTS ({alive})", where[1]

    def _count_carried(self, table: Table, partition: str | None, counts: TableCounts) -> None:
        """Counts the rows of an owned table that stand because the records they belong to have not changed."""
        carried = self.store.live(table, _keys((partition,))) - self.store.held(table, partition)
        counts.fetched += carried
        counts.unchanged += carried

    def vanish_pairs(self, table: Table, parents: Sequence[int | str], now: str, counts: TableCounts) -> None:
        """Marks stored pairs of these parents that did not come with them."""
        if any(() in keys for keys in self._reject_keys[table.name].values()):
            return  # as in `_vanish`
        values = msgspec.json.encode(list(parents)).decode()
        of_parents = (f'"{table.parent}" IN (SELECT value FROM json_each(?))', (values,))
        where = self.store.unseen(table, of_parents, self.started_at)
        gone = self.store.count(table, where) if where is not None else 0
        if where is None or not gone:
            return
        if table.transient:
            counts.vanished += self.store.vanish(table, where, now)
            return
        if table.name not in self._pairs_live:
            self._pairs_live[table.name] = self.store.live(table)
        live = self._pairs_live[table.name]
        if not vanish_allowed(self._pairs_vanished[table.name] + gone, live, self.options):
            partitioning = None if table.owner else table.partitioning
            if partitioning and partitioning.column != table.parent:
                partitioning = None  # a parent then does not tell the partition
            partitions = sorted({partitioning.key_of(parent) for parent in parents}) if partitioning else [None]
            self.miss(
                table,
                tuple(partitions),
                f"{table.name} of {len(parents)} {table.parent}",
                f"{gone} pairs were not in the source's answer, which makes more than {self.options.max_vanish_share:.0%} of "
                f"{live} in this run; they were not marked as vanished. If they are really gone, run again with --allow-vanish",
            )
            return
        self._pairs_vanished[table.name] += gone
        counts.vanished += self.store.vanish(table, where, now)

    # -- what is missing ---------------------------------------------------------------------------------------

    def take_missing(self, event: Missing, counts: TableCounts) -> None:
        """Notes what a stream could not bring."""
        counts.expected = _plus(counts.expected, event.expected)
        self.miss(event.table, event.partitions, event.unit, event.error, full=event.full)

    def miss(self, table: Table, partitions: Iterable[str | None], unit: str, error: str, *, full: bool = True) -> None:
        """Notes that something is missing of these partitions; `full`: they have to be listed in full again."""
        # what no partition can be blamed for still makes the run incomplete
        named, now = list(partitions) or [None], now_text()
        ledger.add_failure(self.store, self.run_id, table, named, unit, error, now)
        problem = {"complete": 0, "problem": f"{unit}: {error}"} | ({"verified_at": None} if full else {})
        for partition in named:
            ledger.record_partition(self.store, table, partition, self.run_id, now, problem)
        for partition in named:
            self.result.incomplete[table.name].setdefault(partition, f"{unit}: {error}")

    # -- the end -----------------------------------------------------------------------------------------------

    def conclude(self, partitions: Sequence[str] | None) -> None:
        """Decides what is complete, once everything has come. Inside a transaction."""
        now = now_text()
        for table in self.tables.values():
            if not table.gathered_with:
                self._judge_rejects(table, now)
                self._find_unspoken(table, partitions)
        for table in self.tables.values():
            if table.gathered_with:
                self._follow(table, now)
        for name, covered in self._covered.items():
            missed = self.result.incomplete[name]
            self.result.complete[name] = [key for key, whole in covered.items() if whole and key not in missed]

    def _follow(self, table: Table, now: str) -> None:
        """A table that is gathered along with another's records is as complete as that one."""
        self._judge_rejects(table, now)
        leader = table.gathered_with
        missed = dict(self.result.incomplete[leader])
        for partition, problem in missed.items():
            self.result.incomplete[table.name].setdefault(partition, problem)
        covered = self._covered[table.name] = dict(self._covered[leader])
        self.result.limited[table.name] = list(self.result.limited[leader])
        live = self.store.live(table)
        if table.name in self._before:
            self._count_made(table, live)
        self.result.partition_counts[table.name] = dict.fromkeys(self._covered[table.name], live)
        values: dict[str, object] = {"stored": live}
        if self.result.incomplete[table.name]:
            values["complete"] = 0
        elif covered and all(covered.values()):
            values |= {"complete": 1, "problem": None}
        ledger.record_partition(self.store, table, None, self.run_id, now, values)

    def _count_made(self, table: Table, live: int) -> None:
        """Counts the rows that triggers have made when others were written."""
        counts = self.result.counts[table.name]
        made = max(0, live - self._before[table.name] - counts.inserted)
        counts.inserted += made
        counts.fetched += made
        more = TableCounts(expected=None, fetched=made, inserted=made)
        ledger.add_counts(self.store, self.run_id, table, more)

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
                self.miss(
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
            self.miss(table, silent, f"{table.name} {_named(silent)}", "nothing was fetched for it")


def _doubt(total: int | None, stored: int, rejected: int, *, verified: bool) -> str:
    """Why a listing of changes leaves a partition incomplete; empty where it does not.

    More rows than the source counts are no doubt: some came after it counted, or were deleted since.
    """
    if total is not None and stored + rejected < total:
        return _unaccounted(total, stored, rejected)
    return "" if verified else "only its changes were fetched, and it was never listed in full"


def _unaccounted(expected: int, stored: int, rejected: int) -> str:
    return (
        f"the source counts {expected} records, {stored} are stored and {rejected} rejected: "
        f"{expected - stored - rejected:+d} is not accounted for"
    )


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
