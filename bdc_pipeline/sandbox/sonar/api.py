"""Sonar over HTTP: `POST /api/graphql` with a bearer token, and the answers that Sonar gives when it does not like a request.

A request's label, which faults match against, is for each root list `FIELD page=N records=N`, then its equality arguments as
`NAME=VALUE`, then each Search as its conditions in brackets: `accounts page=3 records=100 [updated_at>=2025-06-01T00:00:00+00:00]`.
Several root lists are joined by "; ". Without a paginator it is the page that the client gets, page=1 records=15.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from graphql import GraphQLError
from starlette.requests import Request

from bdc_pipeline.sandbox.frame import JSON, Answer, Call
from bdc_pipeline.sandbox.options import SandboxOptions
from bdc_pipeline.sandbox.sonar.changes import Changes
from bdc_pipeline.sandbox.sonar.execute import Executor, Permissions, Query, Refused, Run
from bdc_pipeline.sandbox.sonar.generate import build
from bdc_pipeline.sandbox.sonar.select import Rules


class _Body(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  # GraphQL over HTTP calls it so


class SonarSource:
    """One instance of Sonar."""

    name = "sonar"

    def __init__(self, options: SandboxOptions) -> None:
        self.world = build(customers=options.size, seed=options.seed, ids=options.ids)
        self.changes = Changes(self.world)
        self.executor = Executor()
        self._reads: Counter[str] = Counter()
        self.configure(options)

    def configure(self, options: SandboxOptions) -> None:
        """Take over changed options."""
        self.options = options
        self.rules = Rules(options.page_cap, options.id_filter)
        self.permissions = Permissions(options.denied, options.no_page_info)

    def read(self, request: Request, body: bytes) -> Call | Answer:
        """Understand a request; Sonar answers errors in GraphQL's form, most of them with status 200."""
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        try:
            asked = msgspec.json.decode(body, type=_Body)
        except msgspec.DecodeError as error:
            return _errors(f"The request's body must be JSON with a query: {error}.", 400)
        try:
            query = self.executor.prepare(asked.query, asked.variables, asked.operationName)
            return _SonarCall(self, query, "; ".join(query.labels))
        except Refused as refused:
            return Answer(msgspec.json.encode({"errors": refused.errors}))
        except GraphQLError as error:
            return Answer(msgspec.json.encode({"errors": [{"message": error.message}]}))

    def _refuse(self, request: Request) -> Answer | None:
        if request.scope["path"].removeprefix(request.scope.get("root_path", "")) != "/api/graphql":
            return _errors("Not found.", 404)
        if request.method != "POST":
            return Answer(
                _errors("The GET method is not supported. Supported methods: POST.").body,
                405,
                (*JSON, (b"allow", b"POST")),
            )
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip() or token.strip() != (self.options.token or token.strip()):
            return _errors("Unauthenticated.", 401)
        return None

    def change(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """See changes.py."""
        return self.changes.apply(action, arguments)

    def rows(self, entity: str, columns: Sequence[str]) -> list[list[Any]]:
        """All living rows of an entity by id, archived ones too."""
        table = self.world.tables.get(entity)
        if table is None:
            raise ValueError(f"There is no entity {entity!r}. There are: {', '.join(self.world.tables)}.")
        unknown = sorted(set(columns) - set(table.entity.columns))
        if unknown:
            raise ValueError(f"{entity} has no column {', '.join(unknown)}.")
        living = self.world.living(table, hidden=True)
        return [list(row) for row in zip(*(table.values(column, living) for column in columns), strict=True)]

    def served(self, call: Call) -> None:
        """Change what is to change while pages are read."""
        for change in self.options.paging_changes:
            for topic in call.topics:
                if change.entity == self.executor.model.roots[topic]:
                    self._reads[change.entity] += 1
                    self.changes.while_paging(change, self._reads[change.entity])


@dataclass(frozen=True)
class _SonarCall:
    source: SonarSource
    query: Query
    label: str

    @cached_property
    def topics(self) -> tuple[str, ...]:
        return tuple(root.name for root in self.query.plan.roots)

    @property
    def selected(self) -> frozenset[str]:
        return self.query.plan.selected

    def answer(self) -> Answer:
        return self._run(empty=False)

    def shrunken(self) -> Answer:
        return self._run(empty=True)

    def partial(self) -> Answer:
        if not self.query.plan.roots:
            return _errors("Internal server error")
        first, *others = self.query.plan.roots
        run = self._new_run(empty=False)
        result = self.source.executor.run(run)
        errors = [{"message": "Internal server error", "path": [first.key]}, *run.errors]
        data = {**result["data"], first.key: None}
        return Answer(msgspec.json.encode({"errors": errors, "data": data if others else None}))

    def throttled(self) -> Answer:
        return Answer(msgspec.json.encode({"errors": [{"message": "Too many requests, slow down."}], "data": None}))

    def _run(self, *, empty: bool) -> Answer:
        return Answer(msgspec.json.encode(self.source.executor.run(self._new_run(empty=empty))))

    def _new_run(self, *, empty: bool) -> Run:
        source = self.source
        return Run(source.world, self.query, source.rules, source.permissions, empty)


def _errors(message: str, status: int = 200) -> Answer:
    return Answer(msgspec.json.encode({"errors": [{"message": message}]}), status)
