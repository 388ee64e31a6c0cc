"""Projects, pipelines and jobs as the sandbox holds them. How the API shows them is in `shown.py`.

Moments are milliseconds since 1970 or None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SECOND = 1000
DAY = 86_400 * SECOND
#: The moment at which the generated data ends, 2026-06-01T00:00:00Z: what was due before has happened.
NOW = 1_780_272_000_000


@dataclass(slots=True)
class Record:
    """Keys of the answer that were set or taken away by a change, whatever the rest says."""

    id: int
    overrides: dict[str, Any] = field(default_factory=dict, kw_only=True)
    removed: set[str] = field(default_factory=set, kw_only=True)


@dataclass(slots=True)
class Project(Record):
    """A project."""

    namespace: str
    path: str
    name: str
    created: int
    last_activity: int
    #: where it is in the generated data, from 0
    index: int
    visibility: str = "private"
    archived: bool = False
    member: bool = True
    #: whether its runners put the time before each line of a log
    timestamps: bool = False
    topics: list[str] = field(default_factory=list)

    @property
    def full_path(self) -> str:
        """Its path with all groups."""
        return f"{self.namespace}/{self.path}"


@dataclass(slots=True)
class Pipeline(Record):
    """A pipeline; `plan` is what its jobs are made to fit."""

    iid: int
    project_id: int
    ref: str
    sha: str
    before_sha: str
    source: str
    status: str
    plan: str
    created: int
    updated: int | None
    started: int | None
    finished: int | None
    #: seconds
    queued: int | None
    duration: int | None
    coverage: float | None
    user: int
    #: how many jobs it has, without retried ones and bridges
    builds: int
    tag: bool = False
    yaml_errors: str | None = None
    name: str | None = None
    #: pipelines that its bridges start; None for one that has not run
    downstream: list[int | None] = field(default_factory=list)
    #: the pipeline whose bridge started it, of the same project
    parent: int | None = None


@dataclass(slots=True)
class Job(Record):
    """A job, or a bridge, which has neither runner nor log nor artifacts."""

    pipeline_id: int
    name: str
    stage: str
    status: str
    created: int
    started: int | None = None
    finished: int | None = None
    #: seconds in the queue
    queued: float | None = None
    #: what it makes, in the letters of `words.JOBS`
    makes: str = ""
    allow_failure: bool = False
    failure_reason: str | None = None
    coverage: float | None = None
    runner: int | None = None
    retried: bool = False
    erased: int | None = None
    #: when its artifacts expire
    expires: int | None = None
    #: whether its archive can no longer be had
    expired: bool = False
    #: whether expired artifacts have left the list too, which happens some time after the date
    swept: bool = False
    bridge: bool = False
    #: the pipeline that a bridge started
    downstream: int | None = None
    #: the log and the archive, where a change has set them
    log: bytes | None = None
    archive: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Whether its outcome is final."""
        return self.status in FINAL

    @property
    def has_log(self) -> bool:
        """Whether there is a log: it started and was not erased."""
        return self.started is not None and self.erased is None and not self.bridge

    @property
    def has_reports(self) -> bool:
        """Whether its JUnit files can still be read."""
        return "j" in self.makes and self.reported and self.erased is None and not self.expired

    @property
    def reported(self) -> bool:
        """Whether it ever handed in JUnit files."""
        return "j" in self.makes and self.started is not None and self.status in {"success", "failed"}

    @property
    def has_archive(self) -> bool:
        """Whether its archive can be downloaded."""
        return self.lists_archive and not self.expired

    @property
    def lists_archive(self) -> bool:
        """Whether its archive is still among its artifacts."""
        return (
            (self.archive is not None or ("a" in self.makes and self.status == "success"))
            and self.erased is None
            and not self.swept
        )


FINAL = frozenset({"success", "failed", "canceled", "skipped"})
