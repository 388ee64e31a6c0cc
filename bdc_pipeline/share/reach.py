"""The share as this machine reaches it: opened on first use, let go when it fails, opened anew on the next use.

All that touches the share goes through a child process with a deadline for each operation; this is where it is begun.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bdc_pipeline.share.answers import Refused
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.growth import Growth
from bdc_pipeline.share.log import Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.probe import Probe, probe
from bdc_pipeline.share.start import FORMAT_NAME, Share, begin, parse
from bdc_pipeline.share.worker import Worker

if TYPE_CHECKING:
    from bdc_pipeline.share.config import Config

FOLDER_SUFFIX = ".sync"


class Unsafe(ShareError):  # noqa: N818  (a property of the share)
    """The share cannot publish a file atomically: no cache can be kept in step with it."""


@dataclass(frozen=True)
class Opened:
    """An open share: its child process, its log, its housekeeping, what it can do."""

    files: Worker
    share: Share
    log: Log
    growth: Growth
    probe: Probe


class Reach:
    """The share of one cache.

    Args:
        config: which share.
        client: the cache's name among its clients.
        expected: the share's id, as the cache knows it; None for a cache that is yet to be made.
    """

    def __init__(self, config: Config, client: str, expected: str | None = None) -> None:
        self._config = config
        self._client = client
        self._expected = expected
        self._opened: Opened | None = None
        self._unsure = False
        self.is_quiet = False
        """Whether nobody else had written anything new when we looked last."""
        self._worker: Worker | None = None

    def open(self) -> Opened:
        """The share, opened where it is not.

        Raises:
            Offline: it cannot be reached.
            Another: another share has taken its place.
            Unsafe: it has no atomic publish.
            ShareError: it is another's, has another secret, or a later format.
        """
        if self._opened is not None and self._unsure and not self._is_same(self._opened):
            self._opened = None
        if self._opened is None:
            self._opened = self._open()
        self._unsure = False
        return self._opened

    @staticmethod
    def _is_same(opened: Opened) -> bool:
        """Whether the share is still the one that was opened: somebody may have put another in its place."""
        try:
            return parse(opened.files.read(FORMAT_NAME)).id == opened.share.id
        except FileNotFoundError:
            return False

    def _open(self) -> Opened:
        if not self._config.is_mounted:
            raise Offline(
                f"{self._config.path} is on no share that is mounted here. Mount it; what was written here is kept."
            )
        app_db = self._config.share
        files = self._files(app_db.with_name(app_db.name + FOLDER_SUFFIX))
        try:
            share = self._begun(app_db, files)
        except Refused:
            if (found := probe(app_db, files)).publishes:
                raise
            raise Unsafe(found.sentence) from None
        found = probe(app_db, files)
        if not found.publishes:
            raise Unsafe(found.sentence)
        with contextlib.suppress(FileNotFoundError):
            files.stat("tmp/none")  # the folder is held open from now on: not each first push has to look for it
        log = Log(files, share.key)
        log.offset_ms = found.offset_ms
        return Opened(files, share, log, Growth(files, log, self._client), found)

    def _begun(self, app_db: Path, files: Worker) -> Share:
        return begin(app_db, files, client=self._client, secret=self._config.secret or None, expected=self._expected)

    def _files(self, root: Path) -> Worker:
        if self._worker is not None and self._worker.root != root:  # mounted elsewhere since then
            self.close()
        if self._worker is None:
            self._worker = Worker(root, self._client)
        return self._worker

    def first_content(self, to: Path) -> Position:
        """Fetches the newest snapshot into a file and returns where in the log it stands."""
        return self.open().growth.newest_snapshot(to)

    def refresh(self) -> None:
        """Looks at the share's folders anew with the next operation: they may have been moved or replaced."""
        self._unsure = True
        self.is_quiet = False
        if self._worker is not None:
            self._worker.refresh()

    def accept(self) -> None:
        """Takes the share that is there for this cache's, whichever it is: somebody has asked for its content."""
        self._expected = None
        self.let_go()

    def let_go(self) -> None:
        """Forgets what is known of the share, which may be another one when it comes back."""
        self._opened = None
        self.is_quiet = False
        with contextlib.suppress(ShareError):  # it is away: that is why
            self.refresh()

    def close(self) -> None:
        """Ends the child process."""
        self._opened = None
        if self._worker is not None:
            self._worker.close()
            self._worker = None
