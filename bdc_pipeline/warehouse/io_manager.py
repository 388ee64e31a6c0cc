"""Dagster's way into and out of the files: the one module of the warehouse that imports Dagster.

An asset's op returns a stream (see `stream.py`) or a DataFrame; this I/O manager drains it into the source's file,
tells Dagster what came of it, and marks as materialized just those partitions that are complete.
"""

import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import numpy as np
import pandas as pd

from bdc_pipeline import settings
from bdc_pipeline.warehouse.drain import Drained, DrainOptions, Progress, drain
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.store import Store, StoreError
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Reject, Rows, Stream
from bdc_pipeline.warehouse.table import Table

KEY = "sqlite_io_manager"
"""The resource key that assets name."""

STOP_SECONDS = 4.5
"""How long a stop waits for what has arrived to be committed."""

PROGRESS_SECONDS = 10.0
"""How often a drain writes a line to the run's log."""

FIRST_REJECTS = 10

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Sibling:
    """The output for a table that another output's stream has filled already."""

    stream: Stream
    table: Table


def asset_key(table: Table, schema: Schema) -> dg.AssetKey:
    """The key of a table's asset: `[source, table]`."""
    return dg.AssetKey([schema.source, table.name])


class SQLiteIOManager(dg.IOManager):
    """Drains streams and DataFrames into SQLite files; loads DataFrames from them.

    Args:
        schemas: what each source's file holds.
        options: batch sizes and limits.
        databases: files of sources, where they are not the usual ones.
        run_id: the run in the ledger; Dagster's own where it is empty.
        on_progress: told how far a drain has come; by default lines go to the run's log.
    """

    def __init__(
        self,
        schemas: Iterable[Schema],
        options: DrainOptions | None = None,
        *,
        databases: Mapping[str, str] | None = None,
        run_id: str = "",
        on_progress: OnProgress | None = None,
    ) -> None:
        self.schemas = {schema.source: schema for schema in schemas}
        self.options = options or DrainOptions()
        self.run_id = run_id
        self._databases = dict(databases or {})
        self._on_progress = on_progress

    def path(self, source: str) -> Path:
        """The database file of a source."""
        named = self._databases.get(source)
        return Path(named).expanduser().absolute() if named else settings.database_path(source)

    # -- in ----------------------------------------------------------------------------------------------------

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Writes an output.

        Raises:
            dagster.Failure: the file cannot be written, or not all partitions are complete; the complete ones are
                materialized, and what came of the others is stored.
        """
        if isinstance(obj, Sibling):
            if obj.stream.drained is None:
                raise dg.Failure(
                    f"{context.asset_key.to_user_string()} came before the stream that fills it was drained. Yield the "
                    "stream as the op's first output, its siblings after it.",
                    allow_retries=False,
                )
            self._describe(context, obj.stream, obj.table, obj.stream.drained)
            return
        stream = self._stream_of(context, obj)
        table = self._table(context.asset_key)
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else None
        try:
            drained = self._drain(context, stream, keys)
        except StoreError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        stream.drained = drained
        if self._all_complete(stream, keys, drained):
            self._describe(context, stream, table, drained)
            return
        self._fail(context, stream, keys, drained)

    def _stream_of(self, context: dg.OutputContext, obj: object) -> Stream:
        if isinstance(obj, pd.DataFrame):
            table = self._table(context.asset_key)
            keys = tuple(context.asset_partition_keys) if context.has_asset_partitions else ()
            return DataFrameStream(self.schemas[context.asset_key.path[0]], table, obj, keys)
        if hasattr(obj, "schema") and hasattr(obj, "tables") and hasattr(obj, "effort"):
            return obj  # type: ignore[return-value]
        raise dg.Failure(
            f"{context.asset_key.to_user_string()} returned a {type(obj).__name__}. Return a stream of rows (see "
            "bdc_pipeline.warehouse.stream) or a DataFrame.",
            allow_retries=False,
        )

    def _drain(self, context: dg.OutputContext, stream: Stream, keys: Sequence[str] | None) -> Drained:
        on_progress = self._on_progress or _logged(context)
        run_id = self.run_id or context.run_id
        path = self.path(stream.schema.source)
        return interruptibly(
            lambda: drain(stream, path, run_id, self.options, partitions=keys, on_progress=on_progress), stream.stop
        )

    def _table(self, key: dg.AssetKey) -> Table:
        source, name = key.path[0], key.path[-1]
        try:
            return self.schemas[source].table(name)
        except KeyError:
            known = ", ".join(f"{s.source}/{t.name}" for s in self.schemas.values() for t in s.tables)
            raise dg.Failure(
                f"{key.to_user_string()} is no declared table. Declared are {known}.", allow_retries=False
            ) from None

    def _all_complete(self, stream: Stream, keys: Sequence[str] | None, drained: Drained) -> bool:
        wanted: set[str | None] = {None} if keys is None else set(keys)
        return drained.is_complete and all(wanted <= set(drained.complete[table.name]) for table in stream.tables)

    def _fail(self, context: dg.OutputContext, stream: Stream, keys: Sequence[str] | None, drained: Drained) -> None:
        """Marks what is complete as materialized, one by one, and fails for the rest.

        A normal return would mark every partition of the range as materialized, the failed ones too.
        """
        for table in stream.tables:
            shared = metadata_of(table, drained, self.path(stream.schema.source))
            for key in drained.complete[table.name]:
                own = {_row_count(key): drained.partition_counts[table.name].get(key, 0)}
                context.log_event(
                    dg.AssetMaterialization(asset_key(table, stream.schema), partition=key, metadata={**shared, **own})
                )
        # sibling tables often miss the same page
        problems = list(dict.fromkeys(p for incomplete in drained.incomplete.values() for p in incomplete.values()))
        wanted = len(keys) if keys is not None else 1
        asked: Sequence[str | None] = (None,) if keys is None else keys
        short = {key for table in stream.tables for key in asked if key not in drained.complete[table.name]}
        what = f"{len(short)} of {wanted} partitions" if keys is not None else stream.schema.source
        text = (
            f"{what} not complete: {'; '.join(problems[:5])}"
            if problems
            else f"{what} not complete: cut short by 'limit', as asked"
        )
        if len(problems) > 5:
            text += f"; and {len(problems) - 5} more"
        # the ledger has all of it; what runs several of these for one report need not add it
        metadata = {"told_in_ledger": True, **rejects_metadata(drained.rejects)}
        raise dg.Failure(text, metadata=metadata, allow_retries=False)

    def _describe(self, context: dg.OutputContext, stream: Stream, table: Table, drained: Drained) -> None:
        shared = metadata_of(table, drained, self.path(stream.schema.source))
        rows = drained.partition_counts[table.name]
        if not context.has_asset_partitions:
            context.add_output_metadata({**shared, _row_count(None): rows.get(None, 0)})
            return
        for key in context.asset_partition_keys:
            own = {**shared, _row_count(key): rows.get(key, 0)}
            context.step_context.add_asset_metadata(own, context.asset_key, key)

    # -- out ---------------------------------------------------------------------------------------------------

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Reads the partitions and columns asked for; the input's metadata may name `columns`, and with
        `include_vanished` rows that are gone from the source come too.

        Raises:
            dagster.Failure: there is no such file or column.
        """
        key = context.asset_key
        table = self._table(key)
        schema = self.schemas[key.path[0]]
        options: Mapping[str, Any] = context.definition_metadata or {}
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else None
        try:
            with Store(self.path(schema.source), schema, read_only=True) as store:
                return load(
                    store, table, keys, options.get("columns"), include_vanished=bool(options.get("include_vanished"))
                )
        except (StoreError, KeyError) as error:
            raise dg.Failure(str(error.args[0]), allow_retries=False) from error


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


# -- what the UI shows -----------------------------------------------------------------------------------------


def metadata_of(table: Table, drained: Drained, path: Path) -> dict[str, Any]:
    """What a materialization tells of its run.

    A run over many partitions has one set of numbers, which each partition's event repeats: in a partitioned table
    their names begin with `run_`, lest they pass for the partition's own.
    """
    counts = drained.counts[table.name]
    rows = sum(c.fetched for c in drained.counts.values())
    numbers = {
        **{name: value for name, value in msgspec.structs.asdict(counts).items() if value is not None},
        "requests": drained.effort.requests,
        "retries": drained.effort.retries,
        "bytes": drained.effort.bytes,
        "seconds": round(drained.seconds, 3),
        "records_per_second": round(rows / drained.seconds, 1) if drained.seconds else 0.0,
        **_pace_of(drained),
    }
    prefix = "run_" if table.partitioning else ""
    return {
        **{f"{prefix}{name}": value for name, value in numbers.items()},
        "database": dg.MetadataValue.path(path),
        "dagster/relation_identifier": f"{path.name}.{table.name}",
        **rejects_metadata([reject for reject in drained.rejects if reject.table is table]),
    }


def _pace_of(drained: Drained) -> dict[str, float]:
    """How long requests took, and how near the fetch came to the ideal: 1 is all threads always busy, or the rate allowed."""
    effort = drained.effort
    if not effort.seconds or not drained.seconds:
        return {}
    return {
        "latency_ms": round(1000 * effort.seconds / effort.requests, 1),
        "efficiency": round(effort.ideal / drained.seconds, 3),
    }


def _row_count(partition: str | None) -> str:
    """Where Dagster looks for a number of rows: a partition's is not the table's."""
    return "dagster/row_count" if partition is None else "dagster/partition_row_count"


def rejects_metadata(rejects: Sequence[Reject]) -> dict[str, Any]:
    """The first rejected records as a table, without their contents: a run's history is kept for long and read by many."""
    if not rejects:
        return {}
    records = [
        dg.TableRecord(
            {
                "table": reject.table.name,
                "partition": reject.partition or "",
                "key": "/".join(map(str, reject.key)),
                "reason": reject.reason,
            }
        )
        for reject in rejects[:FIRST_REJECTS]
    ]
    return {"first_rejects": dg.MetadataValue.table(records)}


def _logged(context: dg.OutputContext) -> OnProgress:
    last = time.monotonic()

    def log(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < PROGRESS_SECONDS:
            return
        last = time.monotonic()
        of = f" of {progress.expected}" if progress.expected is not None else ""
        rate = progress.rows / progress.seconds if progress.seconds else 0.0
        text = f"{progress.rows}{of} records, {progress.effort.requests} requests, {rate:.0f} records/s"
        context.log.info(text)

    return log


def interruptibly(work: Callable[[], Drained], stop: Callable[[str], None]) -> Drained:
    """Runs a drain in a thread of its own, so that Ctrl-C or a terminated run cannot hit a transaction.

    Python delivers signals to the main thread between any two of its instructions. There they find a wait; the drain
    is asked to stop and has seconds to commit what arrived.
    """
    done = threading.Event()
    result: list[Drained] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again by the caller's thread)
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="drain", daemon=True)
    try:
        thread.start()
        while not done.wait(0.5):
            pass
    except BaseException:
        stop("interrupted")
        done.wait(STOP_SECONDS)
        raise
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


# -- DataFrames ------------------------------------------------------------------------------------------------


class DataFrameStream:
    """A DataFrame as a stream: all rows of the partitions that it is for."""

    def __init__(self, schema: Schema, table: Table, frame: pd.DataFrame, partitions: tuple[str, ...]) -> None:
        self.schema = schema
        self.tables: tuple[Table, ...] = (table,)
        self.drained: Drained | None = None
        self._table, self._frame, self._partitions = table, frame, partitions

    def __iter__(self) -> Iterator[Event]:
        table = self._table
        names = [column.name for column in table.columns if column.name in self._frame.columns]
        if unknown := [str(name) for name in self._frame.columns if name not in names]:
            raise dg.Failure(
                f"The DataFrame for {table.name} has columns that the table does not: {', '.join(unknown)}.",
                allow_retries=False,
            )
        if len(set(self._frame.columns)) < len(self._frame.columns):
            twice = ", ".join(name for name in names if list(self._frame.columns).count(name) > 1)
            raise dg.Failure(
                f"The DataFrame for {table.name} has columns more than once: {twice}.", allow_retries=False
            )
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


# -- the resource ----------------------------------------------------------------------------------------------


def sqlite_io_manager(schemas: Iterable[Schema], *, on_progress: OnProgress | None = None) -> dg.IOManagerDefinition:
    """The I/O manager as a resource whose options can be set in the UI."""
    defaults = DrainOptions()

    @dg.io_manager(
        config_schema={
            "databases": dg.Field(
                dict,
                default_value={},
                description="Files of sources, where not in BDC_DATA_DIR under their usual names",
            ),
            "commit_interval": dg.Field(
                dg.Noneable(int),
                default_value=defaults.commit_interval,
                description="Rows a transaction; where not set, what suits the source",
            ),
            "max_rejects": dg.Field(
                int,
                default_value=defaults.max_rejects,
                description="More rejected records than this make partitions incomplete",
            ),
            "max_vanish_share": dg.Field(
                float,
                default_value=defaults.max_vanish_share,
                description="Share of a partition's rows that may vanish in one go",
            ),
            "allow_vanish": dg.Field(bool, default_value=False, description="The explicit yes to any share"),
            "run_id": dg.Field(str, default_value="", description="The run in the ledger; Dagster's own where empty"),
        },
        description="Bulk upserts into SQLite; exact counts; partitions that are incomplete are not materialized.",
    )
    def build(init_context: dg.InitResourceContext) -> SQLiteIOManager:
        config = dict(init_context.resource_config)
        databases, run_id = config.pop("databases"), config.pop("run_id")
        return SQLiteIOManager(
            schemas, DrainOptions(**config), databases=databases, run_id=run_id, on_progress=on_progress
        )

    return build


def column_schema(columns: Iterable[Any]) -> dg.TableSchema:
    """Described columns as Dagster shows them."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                column.type or "ANY",
                description=column.description or None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in columns
        ]
    )
