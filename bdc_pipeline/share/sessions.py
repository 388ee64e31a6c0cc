"""Connections to a shared database's file, one a thread, as programs use them.

The file is an ordinary SQLite file; a program may open it by itself just as well. What is here adds a connection with the
right settings, and transactions that never start as a read and want to write later.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bdc_pipeline.share.errors import CacheError

Parameters = Sequence[Any] | Mapping[str, Any]

BUSY_SECONDS = 30.0


class Sessions:
    """The connections of a process to one file.

    Args:
        path: the file.
        cached: whether it is a cache (in WAL mode, made by us) or the file on the share itself, whose journal stays as it
            is: WAL does not work over a network.
    """

    def __init__(self, path: Path, *, cached: bool) -> None:
        self.path = path
        self._cached = cached
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._file = self._found() if cached else None

    def connection(self) -> sqlite3.Connection:
        """This thread's connection; statements outside of a transaction commit by themselves.

        Raises:
            CacheError: the file cannot be opened, or is no longer the one that is open.
        """
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None or not found.in_transaction:
            self._check()
        if found is None:
            found = self._connect()
            self._local.connection = found
            with self._guard:
                self._open.append(found)
        return found

    def _check(self) -> None:
        """Refuses to go on where the cache was deleted: SQLite would write to a file that nobody finds again."""
        if not self._cached:
            return
        if self._file is None:
            self._file = self._found()
        if self._file is None or self._found() != self._file:
            raise CacheError(
                f"{self.path} was deleted or replaced while it was open: nothing more is written to it. "
                "Close the database and open it again; the cache is then filled from the share."
            )

    def _found(self) -> tuple[int, int] | None:
        """Which file is there now; None where there is none."""
        try:
            found = os.stat(self.path)  # noqa: PTH116  (at each statement: a third of the time)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        try:
            found = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            # a commit is acknowledged when it is on the disk: the sync accounts for it from then on
            found.execute(f"PRAGMA synchronous = {'FULL' if self._cached else 'EXTRA'}")
            found.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            raise CacheError(f"{self.path} cannot be opened ({error}).") from None
        return found

    def execute(self, sql: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        """One statement; committed when it is done, outside of a transaction."""
        return self.connection().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> sqlite3.Cursor:
        """One statement for many rows, in a transaction: all of them or none."""
        connection = self.connection()
        if connection.in_transaction:
            return connection.executemany(sql, rows)
        with self.transaction():
            return connection.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A block that is committed as a whole, or taken back as a whole where it raises. May stand in another.

        Raises:
            CacheError: the file is no longer the one that is open; what the block wrote is taken back.
        """
        connection = self.connection()
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN IMMEDIATE")
        # commits, or rolls back where the block raises; some errors of SQLite have ended the transaction already
        with connection:
            yield connection
            self._check()

    def close(self) -> None:
        """Closes the connections of all threads."""
        with self._guard:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._local = threading.local()
            self._file = None  # it may be made anew before the next one
