"""Dagster's way into and out of the files: the one module of the warehouse that imports Dagster.

An asset's op returns a stream (see `stream.py`) or a DataFrame; this I/O manager drains it into the source's file,
tells Dagster what came of it, and marks as materialized just those partitions that are complete. How DataFrames become rows
and back belongs to `frames.py`, how an interrupt is held off to `interruption.py`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import pandas as pd

from bdc_pipeline import settings
from bdc_pipeline.warehouse.drain import Drained, DrainOptions, Progress, drain
from bdc_pipeline.warehouse.frames import ColumnError, DataFrameStream, load
from bdc_pipeline.warehouse.interruption import interruptibly
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store, StoreError
from bdc_pipeline.warehouse.stream import Reject, Stream
from bdc_pipeline.warehouse.table import Table

KEY = "sqlite_io_manager"
"""The resource key that assets name."""

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
            dagster.Failure: the file cannot be written, a DataFrame's columns are not the table's, or not all partitions
                are complete; the complete ones are materialized, and what came of the others is stored.
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
        except (StoreError, ColumnError) as error:
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
