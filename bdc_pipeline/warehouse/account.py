"""The account of a run: which records came or were known, which were rejected, what is missing.

It tells nothing of what that means: that is decided in `completeness.py` and `vanishing.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.drain_options import DrainOptions
from bdc_pipeline.warehouse.drained import Drained
from bdc_pipeline.warehouse.fingerprints import Fingerprints
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.plausibility import plus
from bdc_pipeline.warehouse.store import Store, now_text
from bdc_pipeline.warehouse.stream import Known, Missing, Reject
from bdc_pipeline.warehouse.table import Table


class Account:
    """Keeps account of a run: of what came and what did not.

    By table name, `known` holds the fingerprints that were handed out for each partition, `stands` the partitions that
    stand as the same document left them, and `reject_keys` the keys of each partition's rejected records, () where one
    could not be read.
    """

    def __init__(self, store: Store, tables: Sequence[Table], options: DrainOptions, result: Drained) -> None:
        self.store, self.options, self.result = store, options, result
        self.run_id = result.run_id
        self.tables = {table.name: table for table in tables}
        self.started_at = now_text()
        # by table name
        self.known: dict[str, dict[str | None, Fingerprints]] = defaultdict(dict)
        self.stands: dict[str, set[str | None]] = defaultdict(set)
        self._reject_ids: dict[str, set[str]] = defaultdict(set)
        self.reject_keys: dict[str, dict[str | None, list[tuple[int | str, ...]]]] = defaultdict(
            lambda: defaultdict(list)
        )

    # -- what comes --------------------------------------------------------------------------------------------

    def know(self, event: Known) -> None:
        """Hands out the fingerprints of a partition and remembers them: they tell what was matched."""
        event.fingerprints = self.store.fingerprints(event.table, event.partition)
        self.known[event.table.name][event.partition] = event.fingerprints

    def matched(self, table: Table, fingerprint: int) -> bool:
        """Whether a record with this fingerprint has come in this run."""
        return any(known.was_matched(fingerprint) for known in self.known[table.name].values())

    def take_back(self, table: Table, fingerprints: Iterable[int]) -> None:
        """Rows whose records came as they were stored have come otherwise since, or are gone: no row counts twice."""
        for known in self.known[table.name].values():
            for fingerprint in fingerprints:
                known.take_back(fingerprint)

    def any_matched(self, table: Table) -> bool:
        """Whether any record of a table came as it is stored."""
        return any(known.matched for known in self.known[table.name].values())

    def came(self, table: Table, partition: str | None) -> int:
        """How many of a partition's rows this run has come across, whether it read them or knew them."""
        known = self.known[table.name]
        found = [known[partition]] if partition in known else [] if partition is not None else list(known.values())
        return self.store.held(table, partition) + sum(fingerprints.matched for fingerprints in found)

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
        self.reject_keys[name][reject.partition].append(reject.key)
        self.result.rejects.append(reject)
        counts.rejected += 1

    # -- what is missing ---------------------------------------------------------------------------------------

    def take_missing(self, event: Missing, counts: TableCounts) -> None:
        """Notes what a stream could not bring."""
        counts.expected = plus(counts.expected, event.expected)
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
