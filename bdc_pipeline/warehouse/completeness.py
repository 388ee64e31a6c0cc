"""What of a run is complete: expected against stored, what a listing leaves in doubt, what nobody spoke of.

Decided while a stream is drained (see `drain.py`), inside its transactions, and noted in the ledger. What came is told by
the run's `account.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.account import Account
from bdc_pipeline.warehouse.ledger import PartitionState, TableCounts
from bdc_pipeline.warehouse.partitioning import keys_of, named
from bdc_pipeline.warehouse.plausibility import doubt, plus, unaccounted
from bdc_pipeline.warehouse.store import now_text
from bdc_pipeline.warehouse.stream import Checked, Compare, Unchanged
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.vanishing import Vanishing


class Completeness:
    """Tells what came in a run, and what did not, makes of each partition."""

    def __init__(self, account: Account, vanishing: Vanishing) -> None:
        self.account, self.vanishing = account, vanishing
        self.store, self.options, self.result = account.store, account.options, account.result
        # by table name
        self._covered: dict[str, dict[str | None, bool]] = defaultdict(dict)
        self._open_rejects: dict[str, dict[str | None, int]] = defaultdict(dict)
        self._placed: dict[str, int] = defaultdict(int)
        filled = {trigger.fills for trigger in self.store.schema.triggers}
        self._before = {table.name: self.store.live(table) for table in account.tables.values() if table.name in filled}

    # -- what is checked ---------------------------------------------------------------------------------------

    def check(self, event: Checked, counts: TableCounts) -> None:
        """Takes the end of a listing: does its count fit what is stored, and what has vanished?"""
        table, now = event.table, now_text()
        for partition in event.partitions:
            if problem := self.result.incomplete[table.owner].get(partition) if table.owner else None:
                self.account.miss(
                    table, (partition,), f"{table.name} {named((partition,))}", f"they come with {problem}"
                )
        # what came and was gone before the end was fetched too
        counts.expected = plus(plus(counts.expected, event.expected), len(event.gone) - event.again)
        self.store.forget(table, event.gone)
        if event.gone and self.account.any_matched(table):
            self.account.take_back(table, self.store.fingerprints_at(table, event.gone))
        if event.gone and not self.vanishing.let_go(event, counts):
            return
        if event.full and not event.limited:
            short = self._short_of(event)
            if short:
                self.account.miss(table, event.partitions, f"{table.name} {named(event.partitions)}", short)
                return
            missed = self.result.incomplete[table.name]
            whole = [partition for partition in event.partitions if partition not in missed]
            ledger.resolve_rejects(self.store, table, whole, self.account.run_id, now)
        # those of a partition that could not be read too
        ledger.resolve_mended(self.store, table, self.account.run_id, now)
        states = {} if event.full and not event.limited else ledger.partition_states(self.store.connection, table)
        self.store.count_live(table, [partition for partition in event.partitions if partition is not None])
        rejected = ledger.open_rejects(self.store.connection, table, event.partitions)
        for partition in event.partitions:
            known = states.get(partition or "")
            self._settle(event, partition, counts, known, rejected=rejected[partition or ""], now=now)

    def _short_of(self, event: Checked) -> str:
        """Why a full listing's count does not fit what is stored; empty where it does."""
        table = event.table
        held = {partition: self.account.came(table, partition) for partition in event.partitions}
        for partition, came in held.items():
            live = self.store.live(table, keys_of((partition,)))
            if live < came:
                return f"{came} rows of {named((partition,))} came, {live} are stored"
        if event.expected is None:
            return ""
        stored = sum(held.values())
        rejects = self.account.reject_keys[table.name]
        rejected = sum(len(rejects[partition]) for partition in set(event.partitions) if partition in rejects)
        gap = event.expected - stored - rejected
        # records of unknown partition fill gaps, each one
        loose = 0 if None in event.partitions else len(rejects.get(None, ())) - self._placed[table.name]
        if 0 <= gap <= loose:
            self._placed[table.name] += gap
            return ""
        return unaccounted(event.expected, stored, rejected if gap < 0 else rejected + loose)

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
        if whole and not self.vanishing.vanish(table, partition, now, counts):
            return
        if whole and table.owner:
            self._count_carried(table, partition, counts)
        live, stored = self._held_of(table, partition, rejected)
        self._open_rejects[table.name][partition] = rejected
        verified = event.adds_up or bool(known and known.verified_at)
        total = event.expected if event.full and len(event.partitions) == 1 else event.totals.get(partition or "")
        problem = "" if event.full or event.limited else doubt(total, stored, rejected, verified=verified)
        covered = not event.limited and not problem
        complete = covered and not missed and not rejected
        values: dict[str, object] = {"stored": stored, "rejected": rejected, "complete": int(complete)}
        if event.watermark and not missed and not event.limited:
            values["watermark_anew" if whole else "watermark"] = event.watermark
        values |= self._facts_of(event, total, whole=whole, complete=complete)
        if whole or (event.adds_up and not missed and not event.limited):
            values["verified_at"] = self.account.started_at
        elif total is not None and total != stored + rejected:
            # changes alone do not explain the source's count: the next run lists this partition in full
            values["verified_at"] = None
        if not (event.limited and verified):  # a try takes nothing from what was verified
            ledger.record_partition(self.store, table, partition, self.account.run_id, now, values)
        if problem:
            self.account.miss(table, (partition,), f"{table.name} {named((partition,))}", problem)
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
        live = self.store.live(table, keys_of((partition,)))
        return live, live - (ledger.stale_rows(self.store.connection, table, partition) if rejected else 0)

    def _count_carried(self, table: Table, partition: str | None, counts: TableCounts) -> None:
        """Counts the rows of an owned table that stand because the records they belong to have not changed."""
        carried = self.store.live(table, keys_of((partition,))) - self.store.held(table, partition)
        counts.fetched += carried
        counts.unchanged += carried

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
            if state is None or not whole or self.store.live(table, keys_of((event.partition,))) != state.stored:
                return
            states[table.name] = state
        event.holds = True
        for table in event.tables:
            stored = states[table.name].stored or 0
            of_table = counts[table.name]
            of_table.expected = plus(of_table.expected, states[table.name].expected)
            of_table.fetched += stored
            of_table.unchanged += stored
            ledger.record_partition(
                self.store,
                table,
                event.partition,
                self.account.run_id,
                now_text(),
                {"complete": 1, "problem": None},
            )
            self._covered[table.name][event.partition] = True
            self.account.stands[table.name].add(event.partition)
            self.result.partition_counts[table.name][event.partition] = stored

    def _token(self, token: str) -> str:
        """A document's token, which another version of the schema does not know."""
        return f"{self.store.schema.digest.hex()} {token}"

    # -- the end -----------------------------------------------------------------------------------------------

    def conclude(self, partitions: Sequence[str] | None) -> None:
        """Decides what is complete, once everything has come. Inside a transaction."""
        now = now_text()
        for table in self.account.tables.values():
            if not table.gathered_with:
                self._judge_rejects(table, now)
                self._find_unspoken(table, partitions)
        for table in self.account.tables.values():
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
        ledger.record_partition(self.store, table, None, self.account.run_id, now, values)

    def _count_made(self, table: Table, live: int) -> None:
        """Counts the rows that triggers have made when others were written."""
        counts = self.result.counts[table.name]
        made = max(0, live - self._before[table.name] - counts.inserted)
        counts.inserted += made
        counts.fetched += made
        more = TableCounts(expected=None, fetched=made, inserted=made)
        ledger.add_counts(self.store, self.account.run_id, table, more)

    def _judge_rejects(self, table: Table, now: str) -> None:
        """Over the limit, the partitions with rejected records are incomplete; within it they are complete after all.

        What counts is what is open: this run's rejects in all its tables, and those of earlier runs in the partitions
        that this one went through, however generous the limit was then.
        """
        covered = self._covered[table.name]
        found = {key: number for key, number in self._open_rejects[table.name].items() if number}
        for key, keys in self.account.reject_keys[table.name].items():
            if keys:
                found[key] = max(found.get(key, 0), len(keys))
        if not found:
            return
        total = self._rejected_in_all()
        for partition, number in found.items():
            touched = [partition] if partition is not None or table.partitioning is None else list(covered)
            if total > self.options.max_rejects:
                self.account.miss(
                    table,
                    touched,
                    f"{table.name} {named(touched)}",
                    f"{number} rejected ({total} in all, {self.options.max_rejects} allowed by --max-rejects): see the table _rejects",
                )
                continue
            for key in touched:
                if covered.get(key) and key not in self.result.incomplete[table.name]:
                    values = {"complete": 1, "problem": None}
                    ledger.record_partition(self.store, table, key, self.account.run_id, now, values)

    def _rejected_in_all(self) -> int:
        """Open rejects of the partitions gone through, and what earlier drains of this run rejected."""
        here = 0
        for name in self.account.tables:
            opened, new = self._open_rejects[name], self.account.reject_keys[name]
            here += sum(max(opened.get(key, 0), len(new.get(key, ()))) for key in {*opened, *new})
        by_this = sum(counts.rejected for counts in self.result.counts.values())
        return here + max(0, ledger.rejected_in_run(self.store.connection, self.account.run_id) - by_this)

    def _find_unspoken(self, table: Table, partitions: Sequence[str] | None) -> None:
        asked: Sequence[str | None] = partitions if partitions is not None and table.partitioning else (None,)
        spoken = self._covered[table.name].keys() | self.result.incomplete[table.name].keys()
        if table.partitioning is not None and partitions is None:
            return
        if silent := [key for key in asked if key not in spoken]:
            self.account.miss(table, silent, f"{table.name} {named(silent)}", "nothing was fetched for it")
