"""GitLab over HTTP: who is let in, what is counted, and how answers go wrong.

Served below /gitlab: `/api/v4/...` (GET and HEAD), `POST /api/graphql`, and `/-/storage/...`, the storage that archives are
redirected to when the option artifact_redirect is set.

Labels, which faults match against: `projects page=2`, `projects keyset`, `projects id_after=104`, `project 101`, `project 101
pipelines page=1`, the same with ` source=parent_pipeline`, `project 101 jobs page=1`, `project 101 jobs keyset`, `project 101 jobs
cursor=1000001`, `pipeline 50001`, `pipeline 50001 jobs page=1`, `pipeline 50001 bridges page=1`, `pipeline 50001 test_report`,
`pipeline 50001 test_report_summary`, `job 1000001`, `job 1000001 trace`, `job 1000001 artifacts`, `job 1000001 artifacts PATH`,
`storage 1000001`, `graphql`, `user`, `token`, `version`. A project that is asked for by its path is labelled with its id.

Topics: projects, project, pipelines, pipeline, jobs, bridges, job, trace, test_report, test_report_summary, artifacts, storage,
graphql, user, version; and token_leak for each request that brings a token to another host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from bdc_pipeline.sandbox.frame import Answer, Call
from bdc_pipeline.sandbox.gitlab.answers import (
    Headers,
    RefusedError,
    emptied,
    error,
    halved,
    message,
    refusal,
    with_headers,
)
from bdc_pipeline.sandbox.gitlab.answers import shown as in_json
from bdc_pipeline.sandbox.gitlab.changes import Changes
from bdc_pipeline.sandbox.gitlab.discovery import Discovery
from bdc_pipeline.sandbox.gitlab.endpoints import Endpoint, Endpoints, parts_of
from bdc_pipeline.sandbox.gitlab.generate import Generator
from bdc_pipeline.sandbox.gitlab.limits import Limits
from bdc_pipeline.sandbox.gitlab.paging import Ask
from bdc_pipeline.sandbox.gitlab.records import Project
from bdc_pipeline.sandbox.gitlab.truth import Truth
from bdc_pipeline.sandbox.gitlab.world import World
from bdc_pipeline.sandbox.options import SOURCES, SandboxOptions

_LISTS = {"pipelines": "Pipeline", "jobs": "Job"}


class _Query(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  # GraphQL over HTTP calls it so


class GitLabSource:
    """One instance of GitLab."""

    name = "gitlab"

    def __init__(self, options: SandboxOptions) -> None:
        projects, pipelines, jobs = options.ci_size
        self.world = World(Generator(projects, pipelines, jobs, options.seed, options.regular))
        self.changes = Changes(self.world)
        self._base = f"http://127.0.0.1:{options.port}/{self.name}"
        self.endpoints = Endpoints(self.world, self.denied)
        self.configure(options)
        if options.sources != SOURCES:
            # Asked for by name, so it will be used; where all are served, most users need one and should not wait for others
            self.world.load()

    def configure(self, options: SandboxOptions) -> None:
        """Take over changed options; the counters of limits begin anew."""
        self.options = options
        self.limits = Limits(options)
        self._denied = {name: int(status or 403) for name, _, status in (one.partition("=") for one in options.denied)}

    def denied(self, project: Project) -> int | None:
        """The status that a project answers instead of its pipelines: 403, or 404 if it is hidden."""
        by_change = self.world.denied.get(project.id)
        if by_change is not None or not self._denied:
            return by_change
        return self._denied.get(str(project.id), self._denied.get(project.full_path))

    def read(self, request: Request, body: bytes) -> Call | Answer:
        """Understand a request."""
        ask = self._ask(request)
        parts = parts_of(request.scope["raw_path"])[1:]
        leaks = request.url.hostname != "127.0.0.1" and bool(_token(request))
        if parts[:2] == ["-", "storage"]:
            stored = self.endpoints.storage(parts[2:], ask)
            return message(404) if stored is None else _Call(stored, (), None, leaks)
        refused = self._refuse(request, parts)
        if refused is not None:
            return refused
        found = self._graphql(body, ask) if parts == ["api", "graphql"] else self.endpoints.find(parts[2:], ask)
        if found is None:
            return error(404, "404 Not Found")
        if isinstance(found, Answer):
            return found
        headers, too_many = self.limits.take(found.topic)
        return _Call(found, headers, too_many, leaks)

    def _ask(self, request: Request) -> Ask:
        port = request.scope["server"][1]
        self._base = base = f"http://127.0.0.1:{port}/{self.name}"
        path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        return Ask(base, f"http://127.0.0.1:{port}{path}", request.query_params, request.headers, self.options)

    def _refuse(self, request: Request, parts: Sequence[str]) -> Answer | None:
        graphql = parts == ["api", "graphql"]
        if not graphql and parts[:2] != ["api", "v4"]:
            return error(404, "404 Not Found")
        token = _token(request)
        if not token or token != (self.options.token or token):
            return in_json({"errors": [{"message": "Invalid token"}]}) if graphql else message(401)
        if request.method not in ({"POST"} if graphql else {"GET", "HEAD"}):
            return error(405, "405 Not Allowed")
        return None

    def _graphql(self, body: bytes, ask: Ask) -> Endpoint | Answer:
        try:
            asked = msgspec.json.decode(body, type=_Query)
        except msgspec.DecodeError:
            return in_json({"errors": [{"message": "No query given"}]})

        def answer() -> Answer:
            visible = self.endpoints.visible()
            view = Discovery(
                self.world, visible, lambda one: self.denied(one) is None, ask.base, self.options.complexity_limit
            )
            return in_json(view.answer(asked.query, asked.variables, asked.operationName))

        return Endpoint("graphql", "graphql", answer)

    def change(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """See changes.py."""
        return self.changes.apply(action, arguments)

    def rows(self, entity: str, columns: Sequence[str]) -> list[list[Any]]:
        """See truth.py."""
        return Truth(self.world, self._base).rows(entity, columns)

    def served(self, call: Call) -> None:
        """Change what is to change while pages are read."""
        if self.options.paging_changes and isinstance(call, _Call):
            entity = _LISTS.get(call.endpoint.topic)
            if entity is not None and call.endpoint.project in self.world.projects:
                self.changes.while_paging(self.options.paging_changes, entity, call.endpoint)


@dataclass(frozen=True)
class _Call:
    """A request that was understood."""

    endpoint: Endpoint
    headers: Headers
    too_many: Answer | None
    leaks: bool

    @property
    def label(self) -> str:
        """See the module's list."""
        return self.endpoint.label

    @property
    def topics(self) -> tuple[str, ...]:
        """What is read, and whether the token went astray."""
        return (self.endpoint.topic, "token_leak") if self.leaks else (self.endpoint.topic,)

    @property
    def selected(self) -> frozenset[str]:
        """No fields are chosen: all are sent."""
        return frozenset()

    def answer(self) -> Answer:
        """What was asked for, or why not."""
        if self.too_many is not None:
            return self.too_many
        try:
            found = self.endpoint.answer()
        except RefusedError as refused:
            found = refused.answer
        return with_headers(found, self.headers)

    def shrunken(self) -> Answer:
        """The same with every list empty; logs and archives without a byte."""
        return emptied(self.answer())

    def partial(self) -> Answer:
        """Half of the answer under a status of 200; GraphQL puts an error beside null."""
        if self.endpoint.topic == "graphql":
            errors = [{"message": "Internal server error", "path": ["projects"]}]
            return in_json({"data": {"projects": None}, "errors": errors})
        return halved(self.answer())

    def throttled(self) -> Answer:
        """GitLab never says so with a status of 200."""
        return self.refused(429, 1)

    def refused(self, status: int, retry_after: float | None) -> Answer:
        """A refusal as GitLab words it."""
        return refusal(status, retry_after)


def _token(request: Request) -> str:
    """The token that a request brings, if any."""
    private: str | None = request.headers.get("private-token")
    if private is not None:
        return private.strip()
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    return bearer.strip() if kind.lower() == "bearer" else ""
