"""SQLAlchemy Core: `insert().on_conflict_do_update` of what `json.loads` gives, as one executemany."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from benchmarks.loading.data_set import KEY, DataSet, Load, Part

_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {"int": sa.BigInteger, "float": sa.Float, "str": sa.Text}


def loader(data: DataSet, _argument: str) -> Load:
    """Loads each table in one transaction."""
    metadata = sa.MetaData()
    tables = {part.name: _table(part, metadata) for part in data.parts}

    def load(database: Path, files: Mapping[str, Path]) -> None:
        engine = sa.create_engine(f"sqlite:///{database}")
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
            connection.commit()
            metadata.create_all(connection)
            for part in data.parts:
                # a value for every column: records leave out what they do not know
                empty = dict.fromkeys(column.member for column in part.columns)
                records = [{**empty, **record} for record in json.loads(files[part.name].read_bytes())]
                statement = insert(tables[part.name])
                sets = {c.member: statement.excluded[c.member] for c in part.columns if c.member != KEY}
                connection.execute(statement.on_conflict_do_update(index_elements=[KEY], set_=sets), records)
                connection.commit()
        engine.dispose()

    return load


def _table(part: Part, metadata: sa.MetaData) -> sa.Table:
    columns = (sa.Column(c.member, _TYPES[c.kind](), primary_key=c.member == KEY) for c in part.columns)
    return sa.Table(part.name, metadata, *columns)
