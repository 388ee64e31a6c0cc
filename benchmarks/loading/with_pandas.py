"""pandas: a DataFrame of what `json.loads` gives, `to_sql` into a table of its own, and a merge from there.

Through SQLAlchemy, as pandas' documentation wants it, or with the argument `sqlite3` without it, which it calls legacy.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from benchmarks.loading.data_set import KEY, DataSet, Load, Part

_SQL = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}
_PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
_INCOMING = "incoming"


def loader(data: DataSet, argument: str) -> Load:
    """Loads each table in one transaction."""

    def load_by_sqlalchemy(database: Path, files: Mapping[str, Path]) -> None:
        engine = sa.create_engine(f"sqlite:///{database}")
        with engine.connect() as connection:
            for pragma in _PRAGMAS:
                connection.exec_driver_sql(pragma)
            connection.commit()
            for part in data.parts:
                _frame(files[part.name]).to_sql(_INCOMING, connection, if_exists="replace", index=False)
                _merge(part, connection.exec_driver_sql)
                connection.commit()
        engine.dispose()

    def load_by_sqlite3(database: Path, files: Mapping[str, Path]) -> None:
        with closing(sqlite3.connect(database)) as connection:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            for part in data.parts:
                _frame(files[part.name]).to_sql(_INCOMING, connection, if_exists="replace", index=False)
                _merge(part, connection.execute)
                connection.commit()

    return load_by_sqlite3 if argument == "sqlite3" else load_by_sqlalchemy


def _frame(file: Path) -> pd.DataFrame:
    # not read_json, which takes texts for dates and is slower
    return pd.DataFrame(json.loads(file.read_bytes()))


def _merge(part: Part, execute: Callable[[str], object]) -> None:
    names = ", ".join(f'"{c.member}"' for c in part.columns)
    sets = ", ".join(f'"{c.member}" = excluded."{c.member}"' for c in part.columns if c.member != KEY)
    declared = ", ".join(
        f'"{c.member}" {_SQL[c.kind]}{" PRIMARY KEY" if c.member == KEY else ""}' for c in part.columns
    )
    execute(f"CREATE TABLE IF NOT EXISTS {part.name} ({declared})")
    execute(
        f"INSERT INTO {part.name} ({names}) SELECT {names} FROM {_INCOMING} WHERE 1 ON CONFLICT DO UPDATE SET {sets}"
    )
    execute(f"DROP TABLE {_INCOMING}")
