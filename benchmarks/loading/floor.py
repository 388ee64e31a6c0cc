"""The floor: what a load costs at least. Typed rows straight from the JSON, one upsert, one transaction, nothing checked or kept."""

from __future__ import annotations

import sqlite3
import types
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from benchmarks.loading.data_set import KEY, DataSet, Load
from benchmarks.loading.rows import TYPES

_SQL = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}


def loader(data: DataSet, _argument: str) -> Load:
    """Each table is written whole."""
    decoders = {name: msgspec.json.Decoder(types.GenericAlias(list, (row,))) for name, row in TYPES.items()}

    def load(database: Path, files: Mapping[str, Path]) -> None:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            for part in data.parts:
                declared = ", ".join(
                    f'"{c.name}" {_SQL[c.kind]}{" PRIMARY KEY" if c.name == KEY else ""}' for c in part.columns
                )
                connection.execute(f"CREATE TABLE IF NOT EXISTS {part.name} ({declared})")
                marks = ", ".join("?" * len(part.columns))
                sets = ", ".join(f'"{c.name}" = excluded."{c.name}"' for c in part.columns if c.name != KEY)
                upsert = f"INSERT INTO {part.name} VALUES ({marks}) ON CONFLICT DO UPDATE SET {sets}"
                rows = decoders[part.name].decode(files[part.name].read_bytes())
                connection.executemany(upsert, map(msgspec.structs.astuple, rows))
            connection.execute("COMMIT")

    return load
