"""The thread that syncs a cache again and again: one for each cache on a machine, whoever embeds it."""

from __future__ import annotations

import logging
import os
import random
import threading
from typing import TYPE_CHECKING

from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.status import Light

if TYPE_CHECKING:
    from bdc_pipeline.share.service import Service

LOG = logging.getLogger("bdc_pipeline.share")

FIRST_RETRY_SECONDS = 1.0
"""The wait after the first sync that failed; it doubles up to the interval."""

SPREAD = 0.1
"""By which share of itself an interval is drawn shorter or longer, so that clients do not fall into step."""


def next_wait(light: Light, interval: float, failures: int, lot: float) -> float:
    """Seconds until the next sync.

    Args:
        light: how the last one ended.
        interval: seconds between two that end well.
        failures: how many have ended otherwise since then, this one among them.
        lot: drawn from -1 to 1.
    """
    if light in (Light.OFFLINE, Light.FAILED):
        return min(interval, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 20))
    if light is Light.PENDING:  # others were first; they let us in before long
        return min(interval, FIRST_RETRY_SECONDS)
    return interval * (1 + SPREAD * lot)


class Background:
    """Syncs in a thread while it has the cache's lock; waits for the lock while another process has it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="share-sync", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether it is at work or waits for its turn."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts it."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it after the operation at hand."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Lets it look at the interval, and sync, at once."""
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Waits, unless it is stopped; returns whether it was."""
        return self._stopping.wait(seconds)

    def _run(self) -> None:
        failures = 0
        lock = self._service.background_lock
        try:
            while not self._stopping.is_set():
                wait = self._service.interval
                if lock.acquire():
                    self._service.note(pid=os.getpid())
                    light = self._synced()
                    failures = failures + 1 if light in (Light.OFFLINE, Light.FAILED) else 0
                    lot = random.uniform(-1, 1)  # noqa: S311  (no secret)
                    wait = next_wait(light, self._service.interval, failures, lot)
                self._wake.wait(wait)
                self._wake.clear()
        finally:
            if lock.is_held:
                self._service.note(pid=None)
                lock.release()

    def _synced(self) -> Light:
        try:
            return self._service.sync(forced=False, wait=self.wait).light
        except ShareError as error:  # another process is at it just now
            LOG.warning("%s", error)
            return Light.FAILED
        except Exception as error:
            # whatever nobody foresaw must not end the syncs for good, in silence
            LOG.exception("The sync of %s has failed.", self._service.path)
            self._service.note(
                light=Light.FAILED, sentence=f"The sync has failed ({error!r}); the log tells more.", phase=""
            )
            return Light.FAILED
