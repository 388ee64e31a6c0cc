"""sqlite-utils: `upsert_all` of what `json.loads` gives; with the argument `wal` into a file in WAL mode."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from benchmarks.loading.data_set import KEY, DataSet, Load

# only in the peers' environment
sqlite_utils = importlib.import_module("sqlite_utils")


def loader(data: DataSet, argument: str) -> Load:
    """Loads with the library's own size of batches."""

    def load(database: Path, files: Mapping[str, Path]) -> None:
        opened = sqlite_utils.Database(str(database))
        with closing(opened.conn):
            if argument == "wal":
                opened.enable_wal()
            for part in data.parts:
                opened[part.name].upsert_all(json.loads(files[part.name].read_bytes()), pk=KEY)

    return load
