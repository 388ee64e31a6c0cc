"""What one source's database file holds: its tables, and the views and triggers beside them.

Nothing here opens a file: see `store.py`; what changes a file of an earlier declaration is in `migration.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import msgspec

from bdc_pipeline.warehouse.columns import TableError
from bdc_pipeline.warehouse.fingerprints import fingerprints_of
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.triggers import Trigger


@dataclass(frozen=True, slots=True)
class View:
    """A view that belongs to no single table."""

    name: str
    select: str
    description: str


@dataclass(frozen=True, eq=False)
class Schema:
    """What one source's database file holds.

    Every table NAME is accompanied by a view `live_NAME`: the rows that have not vanished. `notes` says what the
    computed columns of views mean: by view, by column. `revision` is to be raised when records are read otherwise than
    before while the tables stay as they are, so that no record is taken for read already.
    """

    source: str
    tables: tuple[Table, ...]
    views: tuple[View, ...] = ()
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    triggers: tuple[Trigger, ...] = ()
    revision: int = 1

    def __post_init__(self) -> None:
        names = {table.name for table in self.tables}
        for table in self.tables:
            for other in (table.owner, table.gathered_with):
                if other and other not in names:
                    raise TableError(f"{table.name} belongs to {other}, which is no table of {self.source}.")

    @cached_property
    def digest(self) -> bytes:
        """What tells this declaration of the tables from an earlier one: 16 bytes."""
        told = [(table.name, [(c.name, c.type, c.nullable) for c in table.columns]) for table in self.tables]
        return blake2b(repr((self.revision, told)).encode(), digest_size=16).digest()

    def fingerprints(self, records: Iterable[bytes | msgspec.Raw]) -> list[int]:
        """The fingerprint of each raw record."""
        return fingerprints_of(records, int.from_bytes(self.digest[:8]))

    @cached_property
    def all_triggers(self) -> dict[str, str]:
        """Name and statement of every trigger."""
        own = (trigger for table in self.tables for trigger in table.triggers)
        return {trigger.name: " ".join(trigger.sql.split()) for trigger in (*own, *self.triggers)}

    def table(self, name: str) -> Table:
        """A table by its public name.

        Raises:
            KeyError: the source has none of that name.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(f"{self.source} has no table '{name}'; it has {', '.join(t.name for t in self.tables)}.")

    @cached_property
    def all_views(self) -> dict[str, str]:
        """Name and SELECT of every view, in an order in which they can be created."""
        views = {table.name: table.view for table in self.tables if table.view}
        views |= {view.name: view.select for view in self.views}
        views |= {
            f"live_{table.name}": f"SELECT * FROM {quoted(table.name)} WHERE vanished_at IS NULL"
            for table in self.tables
        }
        return {name: " ".join(select.split()) for name, select in views.items()}
