"""What keeps a share readable and small, now and then, apart from the syncs: the plain database, acknowledgements, snapshots.

Bringing the plain database up to date takes seconds on a slow share, so it has a child process of its own, and nothing waits
for it but who asked for it.
"""

from __future__ import annotations

import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bdc_pipeline.share.errors import CacheError, ShareError
from bdc_pipeline.share.locks import FileLock
from bdc_pipeline.share.status import note, size_of
from bdc_pipeline.share.view import ViewUpdate, rebuild_view, refresh_view, update_view
from bdc_pipeline.share.worker import Worker

if TYPE_CHECKING:
    from bdc_pipeline.share.local import Cache
    from bdc_pipeline.share.model import Position
    from bdc_pipeline.share.outbox import Drained
    from bdc_pipeline.share.reach import Opened

LOG = logging.getLogger("bdc_pipeline.share")

Content: TypeAlias = "Callable[[Path], Position]"
"""Writes the content of a cache as the log has it to a file, and returns where in the log it stands."""

VIEW_SECONDS = 60.0
"""How often the plain database on the share is brought up to date, and what older programs wrote there is taken in."""

TENDED = "tended"
"""Where a cache keeps up to which segment, and when, its housekeeping came last."""

GROWTH_SEGMENTS = 32
GROWTH_MS = 6 * 3_600_000
"""After how many segments, or how long, housekeeping looks what is due."""


class Tending:
    """The upkeep of one share by one cache.

    Args:
        folder: the cache's directory.
        client: the cache's name among the share's clients.
        name: what a person sees of it.
    """

    def __init__(self, folder: Path, client: str, name: str) -> None:
        self._folder = folder
        self._client = client
        self._name = name
        self._viewed: float | None = None
        self._worker: Worker | None = None
        self._lock = FileLock(folder / "view.lock")

    def close(self) -> None:
        """Ends the child process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    # -- the plain database ------------------------------------------------------------------------------------

    def update_view(
        self, opened: Opened, app_db: Path, outbox: int, content: Content, *, forced: bool
    ) -> Drained | None:
        """Brings the plain database up to date where that is due; returns what older programs have written into it.

        Args:
            opened: the share.
            app_db: the plain database.
            outbox: the number of the last such write that the cache has.
            content: writes the cache's content as the log has it to a file, and returns where in the log it stands.
            forced: somebody waits for it.

        Raises:
            Offline: the share cannot be reached.
            ShareError: it cannot be brought up to date; says why.
        """
        now = time.monotonic()
        if not opened.probe.locks_safe or not (forced or self._viewed is None or now - self._viewed > VIEW_SECONDS):
            return None
        if not self._lock.acquire():  # another process of this machine is at it
            return None
        try:
            update = self._updated(opened, app_db, outbox, content)
        finally:
            self._lock.release()
        self._viewed = now
        if update.trouble:
            raise ShareError(update.trouble)
        if not update.busy:
            note(self._folder, view=update.position.sequence, view_trouble="", share_bytes=size_of(app_db))
        return update.drained

    def _updated(self, opened: Opened, app_db: Path, outbox: int, content: Content) -> ViewUpdate:
        files = self._files(opened)
        update = update_view(files, app_db, opened.share, self._client, outbox)
        if update.gone:
            return self._remade(opened, app_db, content)
        if not update.trouble or not update.position.sequence:
            return update
        # it fell behind what the log keeps: the whole content is loaded into it
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="view-") as beside:
            file = Path(beside) / "content.db"
            return refresh_view(files, app_db, opened.share, self._client, outbox, file, content(file))

    def _remade(self, opened: Opened, app_db: Path, content: Content) -> ViewUpdate:
        """Makes the plain database anew where somebody has removed it; what was in it is in the log."""
        LOG.warning("%s is gone; it is written anew.", app_db)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="view-") as beside:
            file = Path(beside) / "content.db"
            position = content(file)
            rebuild_view(self._files(opened), app_db, opened.share, file, position, only_gone=True)
        return ViewUpdate(position)

    def rebuild_view(self, opened: Opened, app_db: Path, content: Content) -> Position:
        """Writes the plain database anew and swaps it in, also where locks do not hold; returns where it stands.

        Raises:
            Offline, ShareError: the share cannot be reached, or refuses.
        """
        with self._lock.held(60.0), tempfile.TemporaryDirectory(dir=self._folder, prefix="view-") as beside:
            file = Path(beside) / "content.db"
            position = content(file)
            rebuild_view(self._files(opened), app_db, opened.share, file, position)
        note(self._folder, view=position.sequence, view_trouble="", share_bytes=size_of(app_db))
        return position

    def _files(self, opened: Opened) -> Worker:
        if self._worker is not None and self._worker.root != opened.files.root:
            self.close()
        if self._worker is None:
            self._worker = Worker(opened.files.root, self._client)
        return self._worker

    # -- the log's size ----------------------------------------------------------------------------------------

    def grow(self, opened: Opened, cache: Cache) -> None:
        """Says how far this cache is, and makes snapshots and packs where they are due.

        Nothing depends on it just now: what goes wrong is logged, and tried again.
        """
        position, now = cache.position, int(time.time() * 1000)
        sequence, at = (int(part) for part in (cache.get(TENDED) or "0 0").split())
        try:
            if 0 <= position.sequence - sequence < GROWTH_SEGMENTS and now - at < GROWTH_MS:
                opened.growth.acknowledge(position, self._name)
                return
            opened.growth.tend(position, cache.snapshot, self._name)
            cache.put(TENDED, f"{position.sequence} {now}")
        except (ShareError, sqlite3.Error, OSError) as error:
            LOG.warning("Housekeeping of the share could not be done: %s", error)


def content_of(cache: Cache) -> Content:
    """Writes a cache's content as the log has it, what is pending taken back.

    Raises:
        CacheError: it cannot be told just now, while a schema change waits.
    """

    def write(to: Path) -> Position:
        position = cache.snapshot(to)
        if position is None:
            raise CacheError(
                f"The content of {cache.path} as the log has it cannot be told while writes are pending. Sync first."
            )
        return position

    return write
