"""One shared database on this machine: its cache, its share, and what can be done with the two.

Programs use it through `SharedDatabase`, people through the commands and the page.
"""

from __future__ import annotations

import contextlib
import platform
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from bdc_pipeline.share import status as look
from bdc_pipeline.share.caches import BUSY_SECONDS, make_cache, replace_cache, sweep
from bdc_pipeline.share.config import with_interval
from bdc_pipeline.share.cycle import Cycle, Tally
from bdc_pipeline.share.errors import CacheError, Offline, ShareError
from bdc_pipeline.share.local import Cache
from bdc_pipeline.share.locks import FileLock
from bdc_pipeline.share.reach import Opened, Reach
from bdc_pipeline.share.start import Another
from bdc_pipeline.share.status import Light, Noted, Status, Sync
from bdc_pipeline.share.tend import Tending, content_of

if TYPE_CHECKING:
    from bdc_pipeline.share.audit import OpenConflict
    from bdc_pipeline.share.config import Config
    from bdc_pipeline.share.model import Position

Wait = Callable[[float], bool]


def _together(one: Sync, more: Sync) -> Sync:
    """Two syncs right after each other as one in the history."""
    counts = (
        "milliseconds",
        "rows_out",
        "rows_in",
        "segments_out",
        "segments_in",
        "bytes_out",
        "bytes_in",
        "conflicts",
        "operations",
    )
    sums = {name: getattr(one, name) + getattr(more, name) for name in counts}
    return msgspec.structs.replace(more, at=one.at, **sums)


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


class Service:
    """A cache and its share. Its methods may be called from any thread.

    Args:
        config: which database, and how it is kept.

    Raises:
        Offline, CacheError, ShareError: as `make_cache`, where there is no cache yet.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.folder
        self.path = config.cache
        sweep(self.folder)
        is_new = not self.path.exists()
        if is_new:
            make_cache(config, self.path)
        self.background_lock = FileLock(self.folder / "background.lock")
        self._guard = threading.RLock()
        self._reading = threading.Lock()
        self._open()
        if is_new:
            self.sync(forced=False, view=False)  # a snapshot may be some hundred segments old

    def _open(self) -> None:
        migrations = self.config.migrations
        self._cache = Cache(self.path, migrations=migrations)
        self._reader = Cache(self.path, migrations=migrations)
        self._reach = Reach(self.config, self._cache.client, self._cache.state().share)
        self._tending = Tending(self.folder, self._cache.client, f"{self.config.user}@{platform.node()}")

    def close(self) -> None:
        """Closes the cache and ends the child process. What is pending waits for the next one who opens it."""
        with self._guard, self._reading:
            self._tending.close()
            self._reach.close()
            self._cache.close()
            self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- syncing -----------------------------------------------------------------------------------------------

    @property
    def interval(self) -> float:
        """Seconds between two syncs: what was set for this cache, else what is configured."""
        with self._reading:
            found = self._reader.get("interval")
        return float(found) if found else self.config.sync_interval

    def set_interval(self, seconds: Any) -> None:
        """Sets the interval for this cache, whoever syncs it.

        Raises:
            SettingsError: it is none.
        """
        value = with_interval(self.config, seconds).sync_interval
        with self._guard:
            self._cache.put("interval", f"{value:g}")

    def note(self, **changes: Any) -> Noted:
        """Notes what is being done for those who look."""
        return look.note(self.folder, **changes)

    def sync(self, *, forced: bool = True, view: bool = True, wait: Wait = _slept) -> Sync:
        """Syncs now. How it ended is in what it returns.

        Args:
            forced: somebody waits for it; it is then in the history even if nothing moved.
            view: with the plain database on the share, where that is due or it is forced.
            wait: waits some seconds, or until it should stop, which it returns.

        Raises:
            CacheError: another process has been syncing for too long.
        """
        before = look.read_noted(self.folder).light
        done = self._synced(forced=forced, comes_back=not forced and before is Light.OFFLINE, wait=wait)
        in_step = done.light is Light.SUCCESS
        if in_step and view:
            done = self._tended(done, forced=forced, wait=wait)
        self._conclude(done, keep=forced or done.moved or done.light is not before, in_step=in_step)
        return done

    def _synced(self, *, forced: bool, comes_back: bool, wait: Wait) -> Sync:
        with self._guard, FileLock(self.folder / "sync.lock").held(BUSY_SECONDS):
            if forced and not self._cache.pending():
                # a look through folders that are held open would not notice that they were moved; publishing does
                self._reach.refresh()
            return self._cycle(wait).run(comes_back=comes_back)

    def _cycle(self, wait: Wait) -> Cycle:
        return Cycle(self._cache, self._reach, self.config, note=self.note, wait=wait)

    def _tended(self, done: Sync, *, forced: bool, wait: Wait) -> Sync:
        """The upkeep after a sync, and another sync where older programs have written into the plain database."""
        try:
            with self._guard:
                opened, outbox = self._reach.open(), self._cache.outbox
                self._tending.grow(opened, self._cache)
            self.note(phase="bringing the database on the share up to date")
            drained = self._tending.update_view(opened, self.config.share, outbox, self._content, forced=forced)
            if drained is None:
                trouble = look.read_noted(self.folder).view_trouble
                return msgspec.structs.replace(done, light=Light.FAILED, sentence=trouble) if trouble else done
            with self._guard:
                self._cache.enter(drained, self.config.rules, int(time.time() * 1000) + (opened.probe.offset_ms or 0))
            return _together(done, self._synced(forced=False, comes_back=False, wait=wait))
        except Offline as error:
            return msgspec.structs.replace(done, light=Light.OFFLINE, sentence=str(error))
        except (ShareError, sqlite3.Error) as error:
            # what was written here is in the log; older programs read what is old until this is mended
            told = f"The database on the share is not up to date: {error}"
            self.note(view_trouble=told)
            return msgspec.structs.replace(done, light=Light.FAILED, sentence=told)

    def _content(self, to: Path) -> Position:
        with self._guard:
            return content_of(self._cache)(to)

    def _conclude(self, done: Sync, *, keep: bool, in_step: bool = True) -> None:
        changes: dict[str, Any] = {"light": done.light, "sentence": done.sentence, "attempted": done.at, "phase": ""}
        if in_step:  # with the log; the plain database may be in trouble all the same
            changes["synced"] = done.at + done.milliseconds
        self.note(**changes)
        if keep:
            with self._guard, contextlib.suppress(sqlite3.Error):  # the history is for those who look
                self._cache.record(msgspec.structs.asdict(done))

    def flush(self, seconds: float) -> Sync:
        """Returns when everything that was written before is in the log.

        Raises:
            ShareError: it is not; says why. It stays pending.
        """
        deadline = time.monotonic() + seconds
        while True:
            done = self.sync(view=False)
            if done.light is Light.SUCCESS:
                return done
            waiting = look.writes_not_sent(self.pending, self.path)
            if done.light is Light.OFFLINE:
                raise Offline(f"{done.sentence} {waiting}")
            if done.light is Light.FAILED or time.monotonic() > deadline:
                raise ShareError(f"{done.sentence} {waiting}")

    @contextlib.contextmanager
    def held(self) -> Iterator[tuple[Cache, Opened]]:
        """The cache and the share to oneself: no sync runs meanwhile.

        Raises:
            Offline, ShareError: the share cannot be reached or used.
        """
        with self._guard, FileLock(self.folder / "sync.lock").held(BUSY_SECONDS):
            yield self._cache, self._reach.open()

    # -- looking -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _look(self) -> Iterator[Cache]:
        with self._reading:
            yield self._reader

    @property
    def pending(self) -> int:
        """Rows that have changed here and are not on the share yet."""
        with self._look() as cache:
            return cache.pending()

    def history(self, limit: int = 100) -> list[Sync]:
        """The last syncs that moved something or were asked for, the newest first."""
        with self._look() as cache:
            return [msgspec.convert(row, Sync, strict=False) for row in cache.history(limit)]

    def conflicts(self) -> list[OpenConflict]:
        """What somebody has to decide."""
        with self._look() as cache:
            return cache.conflicts()

    def resolve(self, number: int, take: Mapping[str, Any] | str | None) -> None:
        """Decides a conflict: `mine`, `theirs`, a row, or None for a deleted one. It is published with the next sync.

        Raises:
            CacheError: there is no such conflict, or the row cannot be stored.
        """
        with self._guard:
            self._cache.resolve(number, take if isinstance(take, str) or take is None else dict(take))

    def status(self) -> Status:
        """How it stands. Neither the share nor a running sync is waited for."""
        noted = look.read_noted(self.folder)
        with self._look() as cache:
            state = cache.state()
        since = state.pending_since
        now = int(time.time() * 1000)
        light = look.light_of(noted.light, state.pending, noted.view_trouble)
        head = max(noted.head, state.position.sequence)
        told = look.sentence_of(light, state.pending, state.open_conflicts, noted.sentence or noted.view_trouble)
        return Status(
            light=light,
            sentence=" ".join([told, *(part for part in (state.problem, state.skew) if part and part not in told)]),
            mode="cache",
            share=str(self.config.share),
            cache=str(self.path),
            user=self.config.user,
            client=state.client,
            pending=state.pending,
            pending_seconds=None if since is None else max(0, now - since) / 1000,
            conflicts=state.open_conflicts,
            synced=noted.synced,
            attempted=noted.attempted,
            phase=noted.phase,
            position=state.position.sequence,
            head=head,
            lag=head - state.position.sequence,
            lag_seconds=None if noted.synced is None else max(0, now - noted.synced) / 1000,
            view=noted.view,
            view_lag=None if noted.view is None else max(0, head - noted.view),
            interval=self.interval,
            cache_bytes=state.size,
            share_bytes=noted.share_bytes,
            offset=noted.offset,
            probe=noted.probe,
            schema=state.schema,
            pid=noted.pid,
        )

    # -- mending -----------------------------------------------------------------------------------------------

    def rebuild(self) -> Sync:
        """Loads the content anew from the share's newest snapshot and log; what is pending stays pending.

        Also that of another share that has taken the place of the one this cache was made from.

        Raises:
            Offline, ShareError: the share cannot be reached or used.
        """
        self._reach.refresh()
        try:
            return self._rebuilt()
        except Another:
            with self._guard:
                self._reach.accept()
            return self._rebuilt()

    def _rebuilt(self) -> Sync:
        tally = Tally()
        with self.held() as (cache, opened):
            self._cycle(_slept).load_anew(opened)
            if opened.share.id != cache.state().share:
                cache.adopt(opened.share.id)
            done = tally.concluded(Light.SUCCESS, "The cache was loaded anew.", opened)
        self._conclude(done, keep=True)
        return done

    def rebuild_view(self) -> str:
        """Writes the plain database on the share anew and swaps it in; returns what was done in a sentence.

        Raises:
            Offline, ShareError: the share cannot be reached or used.
        """
        done = self.sync(view=False)
        if done.light is not Light.SUCCESS:
            raise ShareError(f"It is not written anew, since the cache could not be synced first: {done.sentence}")
        with self._guard:
            opened = self._reach.open()
        position = self._tending.rebuild_view(opened, self.config.share, self._content)
        return f"{self.config.share} was written anew, as it is at segment {position.sequence:,}."

    def clear(self, *, force: bool = False) -> None:
        """Makes the cache anew from the share. Its audit, its history and open conflicts are kept.

        Args:
            force: even where writes have not reached the share; they are thrown away.

        Raises:
            CacheError: writes are pending, or another program has the cache open.
            Offline: the share cannot be reached, so that the cache could not be filled again; it is as it was.
        """
        self.check_pending(force=force)
        with self._guard, self._reading:
            client = self._cache.client
            self._tending.close()
            self._reach.close()
            self._cache.close()
            self._reader.close()
            try:
                replace_cache(self.config, self.path, client, force=force)
                self.note(light=None, sentence="", synced=None, head=0)
            finally:
                self._open()
        self.sync(view=False)

    def check_pending(self, *, force: bool) -> None:
        """Refuses where clearing would throw writes away and nobody has said that it should.

        Raises:
            CacheError: writes are pending.
        """
        with self._guard:
            pending = self._cache.pending()
        if pending and not force:
            told = look.writes_not_sent(pending, self.path)
            raise CacheError(f"{told} Sync first, or force it to throw them away.")
