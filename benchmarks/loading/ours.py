"""Ours: a Dagster asset for each table, whose I/O manager drains a stream of documents into the file.

The argument is `WAY-MODE`: `manager` materializes the assets, `drain` hands the stream to the warehouse without Dagster; `empty-`
materializes as many assets that do nothing, which is what Dagster itself costs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import msgspec

from bdc_pipeline.sources.assembly import outputs
from bdc_pipeline.warehouse.documents import Document, DocumentStream, Kind, Mode, drain_options_for
from bdc_pipeline.warehouse.drain import drain
from bdc_pipeline.warehouse.io_manager import KEY, SQLiteIOManager, asset_key
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table
from benchmarks.loading.data_set import DataSet, Load
from benchmarks.loading.rows import TYPES

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def loader(data: DataSet, argument: str) -> Load:
    """Loads in one way and mode."""
    way, _, kind = argument.partition("-")
    schema = Schema("load", tuple(Table(TYPES[part.name], part.name, fingerprinted=True) for part in data.parts))
    if way == "empty":
        return _empty(schema)
    mode = next(Mode(known) for known in get_args(Kind) if known == kind)
    options = drain_options_for(mode)

    def load_by_drain(database: Path, files: Mapping[str, Path]) -> None:
        drained = drain(_stream(schema, mode, files), database, f"run {time.time_ns()}", options)
        if not drained.is_complete:
            raise RuntimeError(f"Not all was loaded: {dict(drained.incomplete)}")

    def load_by_manager(database: Path, files: Mapping[str, Path]) -> None:
        manager = SQLiteIOManager((schema,), options, databases={schema.source: str(database)})
        _materialize(_assets(schema, _stream(schema, mode, files)), manager)

    return load_by_manager if way == "manager" else load_by_drain


def _stream(schema: Schema, mode: Mode, files: Mapping[str, Path]) -> DocumentStream:
    documents = [
        Document(files[table.name], table, None, msgspec.json.Decoder(table.row).decode) for table in schema.tables
    ]
    return DocumentStream(schema, schema.tables, documents, mode)


def _assets(schema: Schema, stream: DocumentStream) -> dg.AssetsDefinition:
    outs = {table.name: dg.AssetOut(key=asset_key(table, schema), io_manager_key=KEY) for table in schema.tables}

    @dg.multi_asset(outs=outs, name=schema.source)
    def documents() -> Iterator[dg.Output[Any]]:
        yield from outputs(stream, schema.tables)

    return documents


def _materialize(assets: dg.AssetsDefinition, manager: dg.IOManager) -> None:
    if not dg.materialize([assets], resources={KEY: manager}, run_config=_QUIET).success:
        raise RuntimeError("The assets were not materialized.")


class _Nowhere(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Drops it."""

    def load_input(self, context: dg.InputContext) -> None:
        """There is nothing."""


def _empty(schema: Schema) -> Load:
    def load(_database: Path, files: Mapping[str, Path]) -> None:
        _materialize(_assets(schema, _stream(schema, Mode(), files)), _Nowhere())

    return load
