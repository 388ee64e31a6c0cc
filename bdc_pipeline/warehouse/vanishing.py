"""What has vanished: rows that a whole answer of the source did not bring, unless they are too many to be believed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from bdc_pipeline.warehouse.account import Account
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.partitioning import keys_of, named
from bdc_pipeline.warehouse.plausibility import vanish_allowed
from bdc_pipeline.warehouse.sql import Where, quoted
from bdc_pipeline.warehouse.store import now_text
from bdc_pipeline.warehouse.stream import Checked
from bdc_pipeline.warehouse.table import Table


class Vanishing:
    """Marks the rows of a run's tables that are gone from the source."""

    def __init__(self, account: Account) -> None:
        self.account, self.store, self.options = account, account.store, account.options
        # by table name
        self._pairs_vanished: dict[str, int] = defaultdict(int)
        self._pairs_live: dict[str, int] = {}

    def let_go(self, event: Checked, counts: TableCounts) -> bool:
        """Marks rows that came and were gone before the listing ended. False: too many to be believed."""
        table, now = event.table, now_text()
        live = sum(self.store.live(table, keys_of((partition,))) for partition in event.partitions)
        if not vanish_allowed(len(event.gone), live, self.options):
            error = (
                f"{len(event.gone)} of {live} rows came and were not in the source's answer when it was asked again; nothing "
                "was marked as vanished"
            )
            self.account.miss(table, event.partitions, f"{table.name} {named(event.partitions)}", error)
            return False
        counts.vanished += self.store.vanish_keys(table, event.gone, now)
        return True

    def vanish(self, table: Table, partition: str | None, now: str, counts: TableCounts) -> bool:
        """Marks the partition's rows that a full listing did not bring. False: too many, so none was marked."""
        rejects = self.account.reject_keys[table.name]
        # a rejected record without a readable key may be any of the rows that did not come
        unreadable = () in rejects.get(partition, ()) or () in rejects.get(None, ())
        # as many live as came: no need to look which did not
        if unreadable or self.account.came(table, partition) == self.store.live(table, keys_of((partition,))):
            return True
        of_partition = table.where(keys_of((partition,)))
        known = self.account.known[table.name].get(partition)
        where = self.store.unseen(table, of_partition, self.account.started_at, known)
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
        live = self.store.live(table, keys_of((partition,)))
        if not vanish_allowed(gone, live, self.options):
            self.account.miss(
                table,
                (partition,),
                f"{table.name} {named((partition,))}",
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

    def vanish_pairs(self, table: Table, parents: Sequence[int | str], now: str, counts: TableCounts) -> None:
        """Marks stored pairs of these parents that did not come with them."""
        if any(() in keys for keys in self.account.reject_keys[table.name].values()):
            return  # as in `vanish`
        values = msgspec.json.encode(list(parents)).decode()
        of_parents = (f'"{table.parent}" IN (SELECT value FROM json_each(?))', (values,))
        where = self.store.unseen(table, of_parents, self.account.started_at)
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
            self.account.miss(
                table,
                tuple(partitions),
                f"{table.name} of {len(parents)} {table.parent}",
                f"{gone} pairs were not in the source's answer, which makes more than {self.options.max_vanish_share:.0%} of "
                f"{live} in this run; they were not marked as vanished. If they are really gone, run again with --allow-vanish",
            )
            return
        self._pairs_vanished[table.name] += gone
        counts.vanished += self.store.vanish(table, where, now)
