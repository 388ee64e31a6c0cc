"""DataFrames on their way into a file and out of it.

What belongs here is how a DataFrame becomes a stream of rows, and how stored rows become a DataFrame. Who returns one or asks
for one is Dagster's matter: see `io_manager.py`.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from bdc_pipeline.warehouse.drained import Drained
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Reject, Rows
from bdc_pipeline.warehouse.table import Table


class ColumnError(ValueError):
    """The columns of a DataFrame are not those of its table; the message is a sentence for the user."""


class DataFrameStream:
    """A DataFrame as a stream: all rows of the partitions that it is for.

    Iterating raises `ColumnError` before anything is yielded where the columns are not the table's.
    """

    def __init__(self, schema: Schema, table: Table, frame: pd.DataFrame, partitions: tuple[str, ...]) -> None:
        self.schema = schema
        self.tables: tuple[Table, ...] = (table,)
        self.drained: Drained | None = None
        self._table, self._frame, self._partitions = table, frame, partitions

    def __iter__(self) -> Iterator[Event]:
        table = self._table
        names = [column.name for column in table.columns if column.name in self._frame.columns]
        if unknown := [str(name) for name in self._frame.columns if name not in names]:
            raise ColumnError(
                f"The DataFrame for {table.name} has columns that the table does not: {', '.join(unknown)}."
            )
        if len(set(self._frame.columns)) < len(self._frame.columns):
            twice = ", ".join(name for name in names if list(self._frame.columns).count(name) > 1)
            raise ColumnError(f"The DataFrame for {table.name} has columns more than once: {twice}.")
        counts: dict[str | None, int] = dict.fromkeys(self._partitions or (None,), 0)
        # column by column and tolist(): SQLite would keep numpy's integers and booleans as blobs
        columns = [self._frame[name].tolist() for name in names]
        rows: dict[Any, msgspec.Struct] = {}
        rejects: dict[str, Reject] = {}
        for values in zip(*columns, strict=True):
            record = {name: _plain(value) for name, value in zip(names, values, strict=True)}
            try:
                row = msgspec.convert(record, table.row, strict=False)
                partition = self._partition(row, counts)
            except (msgspec.ValidationError, ValueError) as error:
                reject = Reject(table, None, (), str(error), repr(record))
                rejects[reject.raw] = reject
                continue
            key = table.key_of(row)
            counts[partition] += key not in rows
            rows[key] = row
        yield Rows(table, list(rows.values()))
        yield from rejects.values()
        for partition, count in counts.items():
            yield Checked(table, (partition,), count + (len(rejects) if partition is None else 0), full=True)

    def _partition(self, row: msgspec.Struct, counts: Mapping[str | None, int]) -> str | None:
        partitioning = self._table.partitioning
        if partitioning is None or not self._partitions:
            return None
        key = partitioning.key_of(getattr(row, partitioning.column))
        if key not in counts:
            raise ValueError(f"it belongs to the partition {key}, which this run is not for")
        return key

    def stop(self, reason: str) -> None:
        """Nothing to stop: all is here."""

    def effort(self) -> Effort:
        """Nothing was fetched."""
        return Effort()


def _plain(value: Any) -> Any:
    """None for what pandas takes for missing; timestamps as datetimes, numpy's values as Python's."""
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime(warn=False)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    # `tolist()` leaves those in a column of objects as they are
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value).to_pydatetime(warn=False)
    return value.item() if isinstance(value, np.generic) else value


def load(
    store: Store,
    table: Table,
    partitions: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    include_vanished: bool = False,
) -> pd.DataFrame:
    """A table's rows as a DataFrame, limited to partitions and columns, sorted by key.

    Raises:
        KeyError: the table has no such column.
    """
    present = [str(row[1]) for row in store.connection.execute(f"PRAGMA table_info({quoted(table.name)})")]
    if missing := [column for column in columns or () if column not in present]:
        raise KeyError(f"{table.name} has no column {', '.join(missing)}; it has {', '.join(present)}.")
    names = list(columns or present)
    # the key comes along to sort by: chunks of partitions come in any order
    selected = ", ".join(map(quoted, (*names, *table.key)))
    vanished = "" if include_vanished else " AND vanished_at IS NULL"
    rows: list[tuple[Any, ...]] = []
    # by chunks: a statement binds 32,766 values at most
    groups: list[Sequence[str] | None] = (
        [None] if partitions is None else [partitions[i : i + 200] for i in range(0, len(partitions), 200)]
    )
    for group in groups:
        where, values = table.where(group)
        rows += store.connection.execute(f"SELECT {selected} FROM {quoted(table.name)} WHERE {where}{vanished}", values)
    rows.sort(key=operator.itemgetter(slice(len(names), None)))
    # one DataFrame of all: of parts, an empty one would change the types of the others
    frame = pd.DataFrame.from_records(rows, columns=[*names, *table.key], coerce_float=True)
    return frame.iloc[:, : len(names)]
