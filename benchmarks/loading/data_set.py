"""What there is to be loaded: documents in three versions, the tables that they become, and a sample of the right values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["int", "float", "str"]

Load = Callable[[Path, Mapping[str, Path]], None]
"""Loads documents, given by part, into a database file."""

KEY = "id"
"""The key of every table."""


@dataclass(frozen=True, slots=True)
class Column:
    """A record's member, the column of ours that it becomes, and its type."""

    member: str
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Part:
    """One document: an array of records, which become the rows of one table."""

    name: str
    columns: tuple[Column, ...]
    records: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """Documents that are loaded together, as files in a directory."""

    name: str
    directory: Path
    parts: tuple[Part, ...]

    @property
    def records(self) -> int:
        """Of all its parts."""
        return sum(part.records for part in self.parts)

    def files(self, version: str) -> dict[str, Path]:
        """Each part's document: of the `sample` of ten records, `first`, or `changed` in 1 % of the records."""
        return {part.name: self.directory / f"{part.name}-{version}.json" for part in self.parts}

    def expected(self, part: Part) -> Path:
        """A sample of the rows that a part comes to in the end, half of them changed: JSON arrays, in the columns' order."""
        return self.directory / f"{part.name}-expected.jsonl"

    def save(self) -> None:
        """Writes it down for the processes that load it."""
        (self.directory / "set.json").write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, directory: Path) -> DataSet:
        """What `save` wrote."""
        found = json.loads((directory / "set.json").read_text())
        parts = (
            Part(part["name"], tuple(Column(**column) for column in part["columns"]), part["records"])
            for part in found["parts"]
        )
        return cls(found["name"], directory, tuple(parts))
