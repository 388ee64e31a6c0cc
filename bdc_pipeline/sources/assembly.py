"""What the sources' assets have in common: outputs of a fetch that fills several tables, failing clearly, the file.

A source's `assets.py` says what its partitions are and what its ops do; how a stream becomes outputs, and outputs
assets, is the same for all of them and stands here.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.fetching.answers import FetchError
from bdc_pipeline.fetching.pacing import Pacer
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.describe import public_columns
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY, Sibling, SQLiteIOManager, asset_key, column_schema
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.store import Store, StoreError
from bdc_pipeline.warehouse.stream import Stream
from bdc_pipeline.warehouse.table import Table

_PACERS: dict[tuple[str, int, float | None], Pacer] = {}


def shared_pacer(url: str, concurrency: int, requests_per_second: float | None) -> Pacer:
    """The pacer of an API: one for all runs of a process, so that they share its limits."""
    pacer = _PACERS.get((url, concurrency, requests_per_second))
    if pacer is None:
        fresh = Pacer(concurrency=concurrency, requests_per_second=requests_per_second)
        pacer = _PACERS.setdefault((url, concurrency, requests_per_second), fresh)
    return pacer


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turns what a user can mend into a run's failure with that sentence and no retry of the whole op."""
    try:
        yield
    except (FetchError, settings.SettingsError, StoreError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def read_states(path: Path, schema: Schema, tables: Iterable[Table]) -> dict[str, dict[str, ledger.PartitionState]]:
    """What the ledger knows of some tables: by table name, by partition. Makes the file where it is missing.

    Raises:
        StoreError: the file cannot be used. Said before anything is fetched.
    """
    with Store(path, schema) as store:
        return {table.name: ledger.partition_states(store.connection, table) for table in tables}


# -- outputs ---------------------------------------------------------------------------------------------------


def outs(tables: Iterable[Table]) -> dict[str, dg.Out]:
    """The outputs of an op whose stream fills these tables."""
    return {table.name: dg.Out(io_manager_key=KEY) for table in tables}


def outputs(stream: Stream, tables: Sequence[Table]) -> Iterator[dg.Output[Any]]:
    """Hands the stream to the I/O manager as the first output and the counts of the other tables as the others."""
    first, *others = tables
    yield dg.Output(stream, first.name)
    for table in others:
        yield dg.Output(Sibling(stream, table), table.name)


def asset_outs(schema: Schema, tables: Iterable[Table], *kinds: str) -> dict[str, dg.AssetOut]:
    """The assets that those outputs are, with what the UI shows of them."""
    columns = public_columns(schema)
    return {
        table.name: dg.AssetOut(
            key=asset_key(table, schema),
            description=table.description,
            io_manager_key=KEY,
            kinds={"sqlite", *kinds},
            metadata={
                "dagster/column_schema": column_schema(columns[table.name]),
                "dagster/table_name": f"{settings.DATABASE_FILES[schema.source]}.{table.name}",
            },
            tags={"source": schema.source},
        )
        for table in tables
    }


def named(results: Any, tables: Iterable[Table]) -> Mapping[str, Any]:
    """An op's outputs by table, as a graph returns them."""
    return {table.name: getattr(results, table.name) for table in tables}


def view_asset(schema: Schema, name: str, deps: Sequence[Table], group: str) -> dg.AssetsDefinition:
    """A view as an asset: materializing it counts its rows and shows the first of them.

    Its rows are always those of the tables that it reads; nothing is written.
    """
    view = next(view for view in schema.views if view.name == name)
    columns = public_columns(schema)[name]

    @dg.asset(
        key=[schema.source, name],
        deps=[asset_key(table, schema) for table in deps],
        description=view.description,
        group_name=group,
        kinds={"sqlite", "view"},
        tags={"source": schema.source},
        metadata={
            "dagster/column_schema": column_schema(columns),
            "dagster/table_name": f"{settings.DATABASE_FILES[schema.source]}.{name}",
        },
    )
    def view_of(sqlite_io_manager: dg.ResourceParam[SQLiteIOManager]) -> dg.MaterializeResult[Any]:
        with failing_clearly(), Store(sqlite_io_manager.path(schema.source), schema, read_only=True) as store:
            (count,) = store.connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()  # noqa: S608
            first = store.connection.execute(f"SELECT * FROM {quoted(name)} LIMIT 10").fetchall()  # noqa: S608
        records = [
            dg.TableRecord({column.name: value for column, value in zip(columns, row, strict=True)}) for row in first
        ]
        shown = {"first_rows": dg.MetadataValue.table(records)} if records else {}
        return dg.MaterializeResult(metadata={"dagster/row_count": count, **shown})

    return view_of


# -- the command line ------------------------------------------------------------------------------------------


def drain_options(options: Mapping[str, Any]) -> DrainOptions:
    """The options of the command line that concern the file."""
    names = {field.name for field in dataclasses.fields(DrainOptions)}
    return DrainOptions(**{name: value for name, value in options.items() if name in names and value is not None})


def files_of(
    schema: Schema, database: Path, drain: DrainOptions, run_id: str, on_progress: Callable[[Progress], None]
) -> SQLiteIOManager:
    """The I/O manager of one sync from the command line: one file, one run of the ledger."""
    databases = {schema.source: str(database)}
    return SQLiteIOManager((schema,), drain, databases=databases, run_id=run_id, on_progress=on_progress)
