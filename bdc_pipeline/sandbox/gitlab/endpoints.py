"""What is behind each path: one function an endpoint, and the label and topic that it goes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from urllib.parse import quote, unquote

from bdc_pipeline.sandbox.frame import Answer
from bdc_pipeline.sandbox.gitlab import lists, shown
from bdc_pipeline.sandbox.gitlab.answers import PLAIN, RefusedError, content, error, message
from bdc_pipeline.sandbox.gitlab.answers import shown as in_json
from bdc_pipeline.sandbox.gitlab.archives import archive, member
from bdc_pipeline.sandbox.gitlab.logs import log
from bdc_pipeline.sandbox.gitlab.paging import Ask, cursor_id
from bdc_pipeline.sandbox.gitlab.records import Job, Pipeline, Project
from bdc_pipeline.sandbox.gitlab.reports import report, summary
from bdc_pipeline.sandbox.gitlab.world import World

_BYTES = ((b"content-type", b"application/octet-stream"),)


@dataclass(frozen=True)
class Endpoint:
    """A path that was understood."""

    label: str
    topic: str
    answer: Callable[[], Answer]
    #: the project and the pipeline that are read, for what changes meanwhile
    project: int | None = None
    pipeline: int | None = None


class Endpoints:
    """The REST API and the storage that it redirects to."""

    def __init__(self, world: World, denied: Callable[[Project], int | None]) -> None:
        self.world = world
        self.denied = denied

    def visible(self) -> list[Project]:
        """The projects that are not hidden."""
        return [project for project in self.world.projects.values() if self.denied(project) != 404]

    def find(self, path: Sequence[str], ask: Ask) -> Endpoint | None:
        """The endpoint of a path below /api/v4/, given in parts; None if there is none."""
        match path:
            case ["projects"]:
                return Endpoint(f"projects {place(ask)}", "projects", lambda: lists.list_projects(self.visible(), ask))
            case ["projects", key, *rest]:
                return self._of_project(key, rest, ask)
            case ["user"]:
                return Endpoint("user", "user", lambda: in_json({**shown.user(0, ask.base), "is_admin": False}))
            case ["personal_access_tokens", "self"]:
                return Endpoint("token", "user", lambda: in_json(_TOKEN))
            case ["version"] | ["metadata"]:
                return Endpoint(
                    "version", "version", lambda: in_json({"version": "17.11.0-ee", "revision": "0ff3ae198f8"})
                )
        return None

    # --- below a project

    def _of_project(self, key: str, rest: list[str], ask: Ask) -> Endpoint | None:
        known = self._known(key)
        named = key if known is None else str(known)
        match rest:
            case []:
                return Endpoint(f"project {named}", "project", lambda: self._project(key, rest, ask), known)
            case ["pipelines"]:
                label = f"project {named} pipelines {place(ask)}"
                if "source" in ask.query:
                    label += f" source={ask.query['source']}"
                return Endpoint(
                    label,
                    "pipelines",
                    lambda: lists.list_pipelines(self.world, self._readable(key, rest, ask), ask),
                    known,
                )
            case ["jobs"]:
                return Endpoint(
                    f"project {named} jobs {place(ask)}",
                    "jobs",
                    lambda: lists.list_project_jobs(self.world, self._readable(key, rest, ask), ask),
                    known,
                )
            case ["pipelines", identifier, *more] if identifier.isdecimal():
                return self._of_pipeline(key, int(identifier), rest, more, ask)
            case ["jobs", identifier, *more] if identifier.isdecimal():
                return self._of_job(key, int(identifier), rest, more, ask)
        return None

    def _of_pipeline(self, key: str, identifier: int, rest: list[str], more: list[str], ask: Ask) -> Endpoint | None:
        def found() -> Pipeline:
            return self._pipeline(self._readable(key, rest, ask), identifier)

        def jobs() -> Sequence[Job]:
            return self.world.jobs_of(found().id)

        world = self.world
        answers: dict[str, tuple[str, Callable[[], Answer]]] = {
            "": ("pipeline", lambda: in_json(shown.pipeline(found(), world.projects[found().project_id], ask.base))),
            "jobs": ("jobs", lambda: lists.list_pipeline_jobs(world, found(), ask)),
            "bridges": ("bridges", lambda: lists.list_bridges(world, found(), ask)),
            "test_report": ("test_report", lambda: in_json(report(jobs(), found().project_id))),
            "test_report_summary": ("test_report_summary", lambda: in_json(summary(jobs(), found().project_id))),
            "variables": ("variables", lambda: in_json([{"key": "SYNTHETIC", "value": str(found().id)}])),
        }
        if len(more) > 1 or "".join(more) not in answers:
            return None
        topic, answer = answers["".join(more)]
        paged = f" {place(ask)}" if topic in {"jobs", "bridges"} else ""
        label = f"pipeline {identifier}{' ' + more[0] if more else ''}{paged}"
        return Endpoint(label, topic, answer, self._known(key), identifier)

    def _of_job(self, key: str, identifier: int, rest: list[str], more: list[str], ask: Ask) -> Endpoint | None:
        def found() -> Job:
            return self._job(self._readable(key, rest, ask), identifier)

        def one() -> Answer:
            job = found()
            pipeline = self.world.pipelines[job.pipeline_id]
            return in_json(shown.job(job, pipeline, self.world.projects[pipeline.project_id], ask.base))

        match more:
            case []:
                return Endpoint(f"job {identifier}", "job", one)
            case ["trace"]:
                return Endpoint(f"job {identifier} trace", "trace", lambda: self._trace(found()))
            case ["artifacts"]:
                return Endpoint(f"job {identifier} artifacts", "artifacts", lambda: self._archive(found(), ask))
            case ["artifacts", *path]:
                name = "/".join(path)
                return Endpoint(f"job {identifier} artifacts {name}", "artifacts", lambda: self._file(found(), name))
        return None

    # --- projects

    def _known(self, key: str) -> int | None:
        """The id that an id or a path stands for, also a former path."""
        world = self.world
        if key.isdecimal():
            return int(key) if int(key) in world.projects else None
        return world.by_path.get(key, world.moved.get(key))

    def _seen(self, key: str, rest: list[str], ask: Ask) -> Project:
        """The project, unless it is hidden or asked for under a former path."""
        known = self._known(key)
        project = None if known is None else self.world.projects[known]
        if project is None or self.denied(project) == 404:
            raise RefusedError(message(404, "404 Project Not Found"))
        if not key.isdecimal() and key not in self.world.by_path:
            raise RefusedError(_moved(project, rest, ask))
        return project

    def _readable(self, key: str, rest: list[str], ask: Ask) -> Project:
        """The project, if its pipelines may be read."""
        project = self._seen(key, rest, ask)
        if self.denied(project) is not None:
            raise RefusedError(message(403))
        return project

    def _project(self, key: str, rest: list[str], ask: Ask) -> Answer:
        return in_json(shown.project(self._seen(key, rest, ask), ask.base))

    def _pipeline(self, project: Project, identifier: int) -> Pipeline:
        pipeline = self.world.pipelines.get(identifier)
        if pipeline is None or pipeline.project_id != project.id:
            raise RefusedError(message(404))
        return pipeline

    def _job(self, project: Project, identifier: int) -> Job:
        """A job; a bridge is none."""
        job = self.world.job(identifier)
        if job is None or job.bridge or self.world.project_of(job).id != project.id:
            raise RefusedError(message(404))
        return job

    # --- bytes

    def _trace(self, job: Job) -> Answer:
        """The log whole; an empty one where there is none, and ranges are not known."""
        disposition = b'infile; filename="%d.log"' % job.id
        return Answer(log(job, self.world.project_of(job)), headers=(*PLAIN, (b"content-disposition", disposition)))

    def _archive(self, job: Job, ask: Ask) -> Answer:
        """The archive, or where it is stored."""
        if not job.has_archive:
            raise RefusedError(message(404))
        if ask.options.artifact_redirect:
            return Answer(b"", 302, ((b"location", storage_url(job.id, ask).encode()),))
        return _sent(archive(job), ask)

    def _file(self, job: Job, path: str) -> Answer:
        if ".." in path.split("/") or path.startswith("/"):
            raise RefusedError(error(400, "artifact_path should be a valid file path"))
        found = member(archive(job), path) if job.has_archive else None
        if found is None:
            raise RefusedError(message(404))
        return Answer(found, headers=_BYTES)

    def storage(self, parts: Sequence[str], ask: Ask) -> Endpoint | None:
        """An archive on the storage that a redirect leads to; whoever has the link is let in."""
        match parts:
            case [identifier, "artifacts.zip"] if identifier.isdecimal():
                return Endpoint(f"storage {identifier}", "storage", lambda: self._stored(int(identifier), ask))
        return None

    def _stored(self, identifier: int, ask: Ask) -> Answer:
        job = self.world.job(identifier)
        if ask.query.get("X-Amz-Signature") != _signature(identifier):
            return _storage_error(403, "SignatureDoesNotMatch")
        if "authorization" in ask.headers:
            # As such storage does when a token has followed the redirect
            return _storage_error(400, "InvalidArgument: Only one auth mechanism allowed")
        if job is None or not job.has_archive:
            return _storage_error(404, "NoSuchKey")
        return _sent(archive(job), ask)


_TOKEN = {"id": 1, "name": "SYNTHETIC", "revoked": False, "scopes": ["read_api"], "user_id": 1, "active": True}


def place(ask: Ask) -> str:
    """Which page of a list is asked for, as labels have it."""
    if not ask.by_keyset:
        return f"page={ask.query.get('page', '1')}"
    for name in ("id_after", "id_before"):
        if name in ask.query:
            return f"{name}={ask.query[name]}"
    try:
        cursor = cursor_id(ask)
    except RefusedError:
        cursor = None
    return "keyset" if cursor is None else f"cursor={cursor}"


def storage_url(job: int, ask: Ask) -> str:
    """A signed link to an archive on another host: the same server under another name."""
    base = ask.base.replace("//127.0.0.1", "//localhost", 1)
    return f"{base}/-/storage/{job}/artifacts.zip?X-Amz-Expires=600&X-Amz-Signature={_signature(job)}"


def parts_of(raw_path: bytes) -> list[str]:
    """A path's parts; what is encoded in one, such as a slash, stays in it."""
    return [unquote(part) for part in raw_path.decode("latin-1").partition("?")[0].strip("/").split("/")]


def _signature(job: int) -> str:
    return blake2b(b"%d" % job, digest_size=16).hexdigest()


def _sent(body: bytes, ask: Ask) -> Answer:
    headers = (*_BYTES, (b"content-disposition", b'attachment; filename="artifacts.zip"'))
    return content(body, headers, ask.headers.get("range"), ranges=ask.options.ranges)


def _storage_error(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>\n'
    return Answer(body.encode(), status, ((b"content-type", b"application/xml"),))


def _moved(project: Project, rest: Sequence[str], ask: Ask) -> Answer:
    """To the same under the project's id, which never changes."""
    path = "/".join(quote(part, safe="") for part in ("projects", str(project.id), *rest))
    query = f"?{ask.query}" if ask.query else ""
    target = f"{ask.base}/api/v4/{path}{query}".encode()
    body = b"This resource has been moved permanently to " + target + b".\n"
    return Answer(body, 301, (*PLAIN, (b"location", target)))
