"""The fetch of logs: each once; what GitLab has no more is kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from bdc_pipeline.fetching.answers import Refused, TooLarge
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.gitlab import log_text, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import SMALL, GitLabClient, is_gone
from bdc_pipeline.sources.gitlab.fetch import UnitTask
from bdc_pipeline.sources.gitlab.plan_units import Unit, UnitsPlan
from bdc_pipeline.sources.gitlab.units import Forbidden, UnitsStream
from bdc_pipeline.sources.gitlab.windows import SETTLING
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Event, Plain, Rows, Same

SHORT = 256 * 1024
"""Bytes up to which a log is read by the thread that writes, while the slot that brought it asks for the next one. A longer one would
hold up the writing, and many of them the memory."""


MOST_PUT_OFF = 64
"""Short logs that wait to be read."""


@dataclass(frozen=True, slots=True)
class _Came:
    """A short log as it came."""

    unit: Unit
    raw: bytes | bytearray


class LogsStream(UnitsStream):
    """Fetches logs.

    Args:
        client: where to ask.
        plan: the jobs.
        stored: the file, for rows of logs that are gone from GitLab.
        most_bytes: larger ones are marked and left out.
        now: the time (UTC).
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
    """

    what = "log of job"

    def __init__(
        self,
        client: GitLabClient,
        plan: UnitsPlan,
        *,
        stored: StoredRows,
        most_bytes: int,
        now: str,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(client, t.OF_LOGS, plan, workers=workers, stop=stop, caps=caps)
        self._stored, self._most, self._now = stored, most_bytes, now
        self._large = threading.Semaphore(2)
        self._came: list[tuple[UnitTask, _Came]] = []
        self._awaited = len(plan.units)

    def work(self) -> Iterator[Event]:
        """Marks logs of jobs that were erased since, one after the other, and fetches."""
        self.count(t.JOB_LOGS, len(self.plan.again))
        for job in self.plan.again:
            yield Rows(t.JOB_LOGS, [msgspec.structs.replace(self._stored.one(t.JOB_LOGS, job), gone_at=self._now)])
        yield from super().work()
        yield from self.idle()

    def fetch(self, unit: Unit) -> Any:
        """A log, or why there is none."""
        if unit.size is not None and unit.size > self._most:
            return _unless_stored(unit, "too_large", unit.size)
        if (unit.size or 0) <= SMALL:
            with contextlib.suppress(TooLarge):
                return self._log(unit, large=False)
        with self._large:
            return self._log(unit, large=True)

    def take(self, task: UnitTask, value: r.JobLog | Same | _Came) -> Iterable[Plain]:
        """Passes a row on; a short log is read when nothing arrives."""
        self._awaited -= 1
        if not isinstance(value, _Came):
            return [value if isinstance(value, Same) else Rows(t.JOB_LOGS, [value])]
        self._came.append((task, value))
        # behind the last request nothing is held up any more
        return self.idle() if len(self._came) >= MOST_PUT_OFF or self._awaited < self._workers else ()

    def failed(self, task: UnitTask, error: Exception) -> Iterable[Plain]:
        """Notes that nothing more comes of it."""
        self._awaited -= 1
        return super().failed(task, error)

    def idle(self) -> Iterable[Plain]:
        """Reads the logs that have come."""
        came, self._came = self._came, []
        rows = []
        for task, one in came:
            try:
                rows.append(self._row(one.unit, one.raw))
            except Exception as error:  # noqa: BLE001 - as in the pool's threads: whatever it is, it is this log's failure alone
                super().failed(task, error)
        return [Rows(t.JOB_LOGS, rows)] if rows else ()

    def _log(self, unit: Unit, *, large: bool) -> r.JobLog | Same | _Came:
        try:
            raw = self.requested(unit, lambda: self.client.log(unit.project_id, unit.id, large=large))
        except TooLarge:
            if not large:
                raise
            # where no artifact tells its size, it is known to be over the limit: a higher one asks for it again
            return _unless_stored(unit, "too_large", unit.size or self._most + 1)
        except Refused as refused:
            if not is_gone(refused):
                raise
            return self._kept(unit) if unit.stored else _without(unit, self._none_yet(unit, "missing"), unit.size)
        except Forbidden:
            return _unless_stored(unit, "forbidden", unit.size)
        return self._read(unit, raw)

    def _read(self, unit: Unit, raw: bytes | bytearray) -> r.JobLog | Same | _Came:
        if len(raw) > self._most:
            return _unless_stored(unit, "too_large", len(raw))
        if raw:
            return _Came(unit, raw) if len(raw) <= SHORT else self._row(unit, raw)
        if unit.stored:
            return self._kept(unit)
        # 200 without a byte: no log yet, or erased. With an artifact of a log there is one
        return _without(unit, "partial" if unit.size else self._none_yet(unit, "empty"), unit.size)

    def _none_yet(self, unit: Unit, state: str) -> str:
        """What it means that there is no log: of a young job it may just be on its way to the archive."""
        return "partial" if self._is_young(unit) else state

    def _kept(self, unit: Unit) -> r.JobLog | Same:
        """The stored log, marked: GitLab has it no more. While a job is young it may just be on its way to the archive."""
        if self._is_young(unit):
            return Same(t.JOB_LOGS, 1)
        row: r.JobLog = self._stored.one(t.JOB_LOGS, unit.id)
        return msgspec.structs.replace(row, gone_at=row.gone_at or self._now, day=unit.day)

    def _row(self, unit: Unit, raw: bytes | bytearray) -> r.JobLog:
        found = log_text.parsed(raw)
        return r.JobLog(
            id=unit.id,
            pipeline_id=unit.pipeline_id,
            project_id=unit.project_id,
            day=unit.day,
            state="partial" if self._is_partial(unit, len(raw)) else "complete",
            gone_at=None,
            size=found.size,
            sha256=found.sha256,
            lines=found.lines,
            invalid_bytes=found.invalid_bytes,
            sections=msgspec.json.encode(found.sections).decode(),
            error_lines="\n".join(found.error_lines),
            text=found.text,
            text_cut=found.text_cut,
            raw=log_text.compressed(raw),
        )

    def _is_partial(self, unit: Unit, size: int) -> bool:
        """Whether a log is shorter than its artifact, or too young to be sure that it is whole."""
        return size < unit.size if unit.size is not None else self._is_young(unit)

    def _is_young(self, unit: Unit) -> bool:
        return bool(unit.as_of) and values.shifted(unit.as_of, SETTLING) > self._now


def _unless_stored(unit: Unit, state: str, size: int | None) -> r.JobLog | Same:
    """A row that says why there is no log, unless one is stored from before: that one stays."""
    return Same(t.JOB_LOGS, 1) if unit.stored else _without(unit, state, size)


def _without(unit: Unit, state: str, size: int | None) -> r.JobLog:
    """A row that says why there is no log."""
    return r.JobLog(
        id=unit.id,
        pipeline_id=unit.pipeline_id,
        project_id=unit.project_id,
        day=unit.day,
        state=state,
        gone_at=None,
        size=size if size is not None and state == "too_large" else None,
        sha256=None,
        lines=None,
        invalid_bytes=None,
        sections=None,
        error_lines=None,
        text=None,
        text_cut=False,
        raw=None,
    )
