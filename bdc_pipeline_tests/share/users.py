"""People who share a database: each with a cache directory of their own, as on a machine of their own."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from bdc_pipeline.share.database import SharedDatabase


class Team:
    """A folder that stands for the share, and the users' machines beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "share"
        self.place.mkdir()
        self.share = self.place / "app.db"

    def user(self, name: str, **given: Any) -> SharedDatabase:
        """A user's database; syncs when it is told to."""
        defaults = {"enable_cache": True, "background": False, "user": name, "cache_directory": self.folder / name}
        return SharedDatabase(self.share, **{**defaults, **given})

    def go_away(self) -> None:
        """The share is gone, as when its server is off."""
        self.place.rename(self.folder / "away")

    def come_back(self) -> None:
        """It is there again, as it was."""
        (self.folder / "away").rename(self.place)

    def plain(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What an older program does, which knows nothing of a cache."""
        with contextlib.closing(sqlite3.connect(self.share, isolation_level=None)) as connection:
            return connection.execute(sql, parameters).fetchall()


def rows(database: SharedDatabase, sql: str = "SELECT * FROM stock ORDER BY id") -> list[tuple[Any, ...]]:
    """What a query gives."""
    return database.execute(sql).fetchall()
