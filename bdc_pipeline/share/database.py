"""A SQLite database on a share, as a Python program uses it.

    with SharedDatabase("//server/team/app.db") as database:
        database.execute("UPDATE stock SET quantity = quantity - 1 WHERE id = ?", (7,))

Reads and writes go to a local file at local speed; a thread syncs it with the share. `database.path` is that file: any
other program may open it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bdc_pipeline.share import config as configuration
from bdc_pipeline.share.background import Background
from bdc_pipeline.share.errors import CacheError, NoCache, Offline, ShareError
from bdc_pipeline.share.local import Cache
from bdc_pipeline.share.mounts import is_network
from bdc_pipeline.share.reach import Unsafe
from bdc_pipeline.share.service import Service
from bdc_pipeline.share.sessions import Parameters, Sessions
from bdc_pipeline.share.status import Light, Status, Sync, size_of, writes_not_sent

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from bdc_pipeline.share.audit import OpenConflict
    from bdc_pipeline.share.config import Config

LOG = logging.getLogger("bdc_pipeline.share")

LAST_SECONDS = 10.0
"""How long closing waits for what has not reached the share."""


class DirectAccess(UserWarning):
    """There is no cache: every statement goes to the share and takes as long as the share takes."""


def why_direct(config: Config) -> str:
    """Why a database is not to have a cache, in a sentence; empty where it is to have one."""
    if config.enable_cache is False:
        return "The cache is switched off."
    if config.enable_cache is None and not is_network(config.path):
        return f"{config.path} is on no network share; ask for a cache with enable_cache."
    return ""


def _left_behind(config: Config) -> str:
    """A sentence where a cache from before holds writes that have not reached the share."""
    if not config.cache.is_file():
        return ""
    with Cache(config.cache) as cache:
        pending = cache.pending()
    told = f" {writes_not_sent(pending, config.cache)} 'bdc-pipeline share sync' with the cache switched on sends them."
    return told if pending else ""


class SharedDatabase:
    """A database on a share, with a local cache that is kept in step with it.

    Where a cache is switched off or cannot be had (no directory for it, a share without atomic publish, a path on no
    network share and no cache asked for), the file on the share itself is opened, with a `DirectAccess` warning.

    Args:
        path: the database on the share; by default that of `config.yaml`.
        background: whether a thread syncs it at its interval.
        given: what stands above `config.yaml` and the environment: `sync_interval`, `enable_cache`, `cache_directory`,
            `secret`, `user`, `rules`, `migrations`; and `file`, a configuration file.

    Raises:
        SettingsError: the configuration cannot be used.
        Offline: the share cannot be reached, and this machine has no cache of it yet.
        ShareError: the share or the cache cannot be used.
    """

    def __init__(self, path: str | Path | None = None, *, background: bool = True, **given: Any) -> None:
        self.config: Config = configuration.load(path, **given)
        self._service = self._cached()
        self._background = Background(self._service) if self._service is not None and background else None
        self._sessions = Sessions(self.path, cached=self._service is not None)
        if self._background is not None:
            self._background.start()

    def _cached(self) -> Service | None:
        reason = why_direct(self.config)
        if not reason:
            try:
                return Service(self.config)
            except (NoCache, Unsafe) as error:
                reason = str(error)
        reason += f" {self.config.share} is used directly.{_left_behind(self.config)}"
        warnings.warn(reason, DirectAccess, stacklevel=3)
        LOG.warning("%s", reason)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Sends what is pending, as far as the share can be reached now, and closes everything.

        What cannot be sent stays in the cache, and is sent by the next program that opens it or by `bdc-pipeline share sync`.
        """
        self._sessions.close()
        if self._background is not None:
            self._background.stop()
        if self._service is None:
            return
        with contextlib.closing(self._service) as service:
            # a background that has just found the share away need not be asked twice
            is_away = self._background is not None and service.status().light is Light.OFFLINE
            if service.pending and is_away:
                LOG.warning("%s", writes_not_sent(service.pending, service.path))
            elif service.pending:
                try:
                    service.flush(LAST_SECONDS)
                except ShareError as error:
                    LOG.warning("%s", error)

    # -- SQL ---------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The file to open: the cache, or the file on the share itself."""
        return self._service.path if self._service is not None else self.config.share

    @property
    def share(self) -> Path:
        """The database on the share."""
        return self.config.share

    def execute(self, sql: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        """Executes a statement. Outside of a transaction, it is committed when it is done."""
        return self._sessions.execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> sqlite3.Cursor:
        """Executes a statement for many rows: all of them are written or none."""
        return self._sessions.executemany(sql, rows)

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """A block that is committed as a whole, or taken back as a whole where it raises."""
        return self._sessions.transaction()

    def engine(self, **options: Any) -> Engine:
        """A SQLAlchemy engine on the file. Dispose of it before the database is closed."""
        from sqlalchemy import create_engine  # noqa: PLC0415  (for those who use it)

        options.setdefault("connect_args", {"timeout": 30.0})
        return create_engine(f"sqlite:///{self.path}", **options)

    # -- the share ---------------------------------------------------------------------------------------------

    def sync(self) -> Sync | None:
        """Syncs now and returns how it went; None without a cache, where there is nothing to sync."""
        if self._service is None:
            return None
        with self._retried():
            return self._service.sync()

    @contextlib.contextmanager
    def _retried(self) -> Iterator[None]:
        """What was done by hand and did not end well is tried again by the background soon, not after the interval."""
        try:
            yield
        finally:
            if self._background is not None and self._with_cache().status().light is not Light.SUCCESS:
                self._background.wake()

    def flush(self, seconds: float = 60.0) -> None:
        """Returns when everything that was written here before is on the share.

        Raises:
            Offline: the share cannot be reached.
            ShareError: something else is in the way; says what. What was written stays, and is sent later.
        """
        if self._service is not None:
            with self._retried():
                self._service.flush(seconds)

    @property
    def interval(self) -> float:
        """Seconds between two syncs in the background."""
        return self._service.interval if self._service is not None else self.config.sync_interval

    def set_interval(self, seconds: Any) -> None:
        """Sets the interval, for all programs that use this cache.

        Raises:
            SettingsError: it is none.
            CacheError: there is no cache.
        """
        self._with_cache().set_interval(seconds)
        if self._background is not None:
            self._background.wake()

    def status(self) -> Status:
        """How it stands. With a cache, the share is not asked."""
        return self._service.status() if self._service is not None else self._direct_status()

    def history(self, limit: int = 100) -> list[Sync]:
        """The last syncs, the newest first."""
        return self._service.history(limit) if self._service is not None else []

    def conflicts(self) -> list[OpenConflict]:
        """Edits that met edits of others and that somebody has to decide."""
        return self._service.conflicts() if self._service is not None else []

    def resolve(self, number: int, take: Mapping[str, Any] | str | None) -> None:
        """Decides a conflict: `mine`, `theirs`, a row as a mapping, or None for a deleted row.

        Raises:
            CacheError: there is no such conflict, or the row cannot be stored.
        """
        self._with_cache().resolve(number, take)

    def clear(self, *, force: bool = False) -> None:
        """Removes the cache and fills it again from the share.

        Raises:
            CacheError: writes are pending and it is not forced, or another program has the cache open.
            Offline: the share cannot be reached.
        """
        service = self._with_cache()
        service.check_pending(force=force)
        paused = self._background is not None
        if self._background is not None:
            self._background.stop()
        self._sessions.close()
        try:
            service.clear(force=force)
        finally:
            if paused:
                self._background = Background(service)
                self._background.start()

    def _with_cache(self) -> Service:
        if self._service is None:
            raise CacheError(f"{self.config.share} is used directly; there is no cache.")
        return self._service

    def _direct_status(self) -> Status:
        size = size_of(self.config.share)
        light, sentence = Light.SUCCESS, "There is no cache: every statement goes to the share."
        try:
            self._sessions.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except (sqlite3.Error, ShareError) as error:
            light, sentence = Light.OFFLINE, f"{self.config.share} cannot be read: {error}."
        return Status(
            light=light,
            sentence=sentence,
            mode="direct",
            share=str(self.config.share),
            cache=None,
            user=self.config.user,
            share_bytes=size,
            synced=int(time.time() * 1000) if light is Light.SUCCESS else None,
            interval=self.config.sync_interval,
        )


__all__ = ["DirectAccess", "Offline", "ShareError", "SharedDatabase"]
