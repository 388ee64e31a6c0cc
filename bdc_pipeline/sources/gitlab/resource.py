"""How GitLab is asked: the resource with its limits, and clients whose connections outlive a stage.

A sync is a run of stages, each with a client of its own. A new connection costs two round trips or three before the first answer,
in every slot, so the connections of the last client are kept in the process for the next one.
"""

import tempfile
import threading
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.settings import GitLabSettings
from bdc_pipeline.sources.assembly import shared_pacer
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import GitLabClient

MB = 1024 * 1024


class GitLabResource(dg.ConfigurableResource[Any]):
    """How GitLab is asked. Address, token and limits come from GITLAB_URL, GITLAB_TOKEN and the other variables when a run needs
    them; the token is in no configuration."""

    workers: int | None = Field(
        default=None, ge=1, le=200, description="Requests at the same time; GITLAB_WORKERS where not set"
    )
    requests_per_second: float | None = Field(
        default=None, gt=0, description="Upper limit; GITLAB_REQUESTS_PER_SECOND where not set"
    )
    read_timeout: float = Field(
        default=60.0, gt=0, description="Seconds without a byte after which a request is given up"
    )
    attempts: int = Field(default=6, ge=1, description="Times a request is sent before it counts as failed")
    graphql: bool = Field(default=True, description="Ask GraphQL which projects have changed, before their lists")
    max_log_mb: float = Field(
        default=100.0, gt=0, le=1e6, description="Larger logs are marked and left out; GitLab cuts at 100 MB"
    )
    max_artifact_mb: float = Field(default=200.0, gt=0, le=1e6, description="Larger archives are not downloaded")
    artifact_directory: str = Field(default="", description="Where to store archives; nowhere where empty")

    @property
    def threads(self) -> int:
        """Requests at the same time.

        Raises:
            SettingsError: a variable cannot be used.
        """
        return self.workers or settings.gitlab().workers

    @property
    def caps(self) -> tuple[Caps, Caps]:
        """Further limits: on pipelines, and on jobs."""
        found = settings.gitlab()
        return (
            Caps(found.projects_at_once, found.pipelines_at_once),
            Caps(found.projects_at_once, found.jobs_at_once),
        )

    @property
    def directory(self) -> Path | None:
        """Where to store archives."""
        return Path(self.artifact_directory).expanduser().absolute() if self.artifact_directory else None

    @property
    def most_log_bytes(self) -> int:
        """The largest log that is stored."""
        return int(self.max_log_mb * MB)

    @property
    def most_artifact_bytes(self) -> int:
        """The largest archive that is downloaded."""
        return int(self.max_artifact_mb * MB)

    @property
    def bytes_up_to(self) -> int | None:
        """The largest archive that is stored; None where none is."""
        return self.most_artifact_bytes if self.artifact_directory else None

    def check(self) -> None:
        """Says at once which variable is missing or cannot be used.

        Raises:
            SettingsError: one is.
        """
        self.client(Stop()).release()
        if self.directory is not None:
            _check_directory(self.directory)

    def client(self, stop: Stop) -> GitLabClient:
        """A client of the GitLab that the environment names. The caller closes it; released before, it leaves its connections to
        the next.

        Raises:
            SettingsError: a variable is missing or cannot be used.
        """
        found = settings.gitlab()
        key = (found, self.workers, self.requests_per_second, self.read_timeout, self.attempts)
        session = _KEPT.take(key) or self._session(found)
        session.stop = stop
        return GitLabClient(
            session,
            most_bytes=int(max(self.max_log_mb, self.max_artifact_mb) * MB),
            keep=lambda released: _KEPT.keep(key, released),
        )

    def _session(self, found: GitLabSettings) -> ApiSession:
        workers = self.workers or found.workers
        return ApiSession(
            found.url,
            secret_headers={"PRIVATE-TOKEN": found.token},
            workers=workers,
            pacer=shared_pacer(found.url, workers, self.requests_per_second or found.requests_per_second),
            read_timeout=self.read_timeout,
            attempts=self.attempts,
        )


def _check_directory(path: Path) -> None:
    """Says at once that archives cannot be stored, and not once there is one to store."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise settings.SettingsError(
            f"Archives cannot be stored in '{path}' ({error.strerror or error}). Name another directory."
        ) from None


# -- connections -----------------------------------------------------------------------------------------------


class _Kept:
    """The session that was released last; one, since a process talks to one GitLab."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: Any = None
        self._session: ApiSession | None = None

    def take(self, key: Any) -> ApiSession | None:
        with self._lock:
            if self._key != key:
                return None
            found, self._session = self._session, None
            return found

    def keep(self, key: Any, session: ApiSession | None) -> None:
        with self._lock:
            former, self._key, self._session = self._session, key, session
        if former is not None:
            former.close()


_KEPT = _Kept()


def disconnect() -> None:
    """Closes the connections that wait for a next client."""
    _KEPT.keep(None, None)
