"""dlt: a pipeline into SQLite that merges by key, with the columns' types declared."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.loading.data_set import KEY, DataSet, Load, Part

# only in the peers' environment
dlt = importlib.import_module("dlt")

_TYPES = {"int": "bigint", "float": "double", "str": "text"}


def loader(data: DataSet, _argument: str) -> Load:
    """Loads with the library's own settings; its working files go beside the database."""

    def load(database: Path, files: Mapping[str, Path]) -> None:
        pipeline = dlt.pipeline(
            pipeline_name=f"into_{database.stem}",
            pipelines_dir=str(database.with_suffix(".dlt")),
            destination=dlt.destinations.sqlalchemy(f"sqlite:///{database}"),
            dataset_name="main",
        )
        pipeline.run([_resource(part, json.loads(files[part.name].read_bytes())) for part in data.parts])

    return load


def _resource(part: Part, records: list[dict[str, Any]]) -> Any:
    columns = {c.member: {"data_type": _TYPES[c.kind], "nullable": c.member != KEY} for c in part.columns}
    return dlt.resource(records, name=part.name, primary_key=KEY, write_disposition="merge", columns=columns)
