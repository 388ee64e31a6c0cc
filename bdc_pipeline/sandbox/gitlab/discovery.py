"""`POST /api/graphql` as far as it helps to discover activity: projects, their pipelines, and what the query costs.

Complexity is counted as GitLab counts it: each field costs 1 and what is below it, and a connection that much more, a hundredth
for each row that it may have. Over the limit nothing is answered but an error, with status 200. Pages have 100 rows at most.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    parse,
    validate,
    value_from_ast_untyped,
)

from bdc_pipeline.sandbox.gitlab import words
from bdc_pipeline.sandbox.gitlab.lists import Wanted, chosen, milliseconds
from bdc_pipeline.sandbox.gitlab.records import Pipeline, Project
from bdc_pipeline.sandbox.gitlab.shown import moment
from bdc_pipeline.sandbox.gitlab.world import World

_MOST = 100
_LONGEST = 10_000
_CONNECTIONS = frozenset({"projects", "pipelines"})


@dataclass(frozen=True)
class Discovery:
    """One query's view of the data."""

    world: World
    visible: Sequence[Project]
    #: whether a project's pipelines may be seen
    readable: Callable[[Project], bool]
    base: str
    limit: int

    def answer(self, query: str, variables: Mapping[str, Any] | None, operation: str | None) -> dict[str, Any]:
        """The response, with errors if there are any."""
        if len(query) > _LONGEST:
            return _errors("Query too large")
        try:
            document = parse(query)
        except GraphQLError as error:
            return _errors(error.message)
        errors = validate(_schema(), document)
        if errors:
            return {"errors": [error.formatted for error in errors]}
        score = max(
            _Cost(document.definitions, dict(variables or {})).of(definition.selection_set, 0)
            for definition in document.definitions
            if isinstance(definition, OperationDefinitionNode)
        )
        if score > self.limit:
            return _errors(f"Query has complexity of {score}, which exceeds max complexity of {self.limit}")
        root = _Root(self, score)
        result = execute_sync(
            _schema(),
            document,
            root_value=root,
            variable_values=dict(variables or {}),
            operation_name=operation,
            field_resolver=_resolve,
        )
        return dict(result.formatted)


def _resolve(parent: Any, info: GraphQLResolveInfo, /, **arguments: Any) -> Any:
    """As graphql-core's own resolver, which takes no argument of the name `source`."""
    name = info.field_name
    value = parent.get(name) if isinstance(parent, Mapping) else getattr(parent, name, None)
    return value(info, **arguments) if callable(value) else value


class _Root:
    """The fields of Query."""

    def __init__(self, asked: Discovery, score: int) -> None:
        self._asked = asked
        self.queryComplexity = {"score": score, "limit": asked.limit}  # the schema's name

    def currentUser(self, _info: GraphQLResolveInfo) -> dict[str, Any]:  # noqa: N802  # the schema's name
        """Who the token belongs to."""
        return {"id": "gid://gitlab/User/1", "username": words.PEOPLE[0][0], "name": words.PEOPLE[0][1]}

    def project(self, _info: GraphQLResolveInfo, fullPath: str) -> _Project | None:  # noqa: N803  # the schema's name
        """One project, or null."""
        found = next((project for project in self._asked.visible if project.full_path == fullPath), None)
        return None if found is None else _Project(self._asked, found)

    def projects(
        self,
        _info: GraphQLResolveInfo,
        ids: Sequence[str] | None = None,
        fullPaths: Sequence[str] | None = None,  # noqa: N803  # the schema's name
        membership: bool | None = None,  # noqa: FBT001  # an argument of the query
        search: str | None = None,
        sort: str | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """The projects that are asked for, the newest first; those that may not be seen are missing."""
        rows = [
            project
            for project in self._asked.visible
            if (ids is None or f"gid://gitlab/Project/{project.id}" in ids)
            and (fullPaths is None or project.full_path in fullPaths)
            and (not membership or project.member)
            and (search is None or search.lower() in project.full_path.lower())
        ]
        if (sort or "id_desc").lower() != "id_asc":
            rows.reverse()
        return _connection(rows, first, after, lambda project: _Project(self._asked, project))


class _Project:
    """A project's fields."""

    def __init__(self, asked: Discovery, record: Project) -> None:
        self._asked, self._record = asked, record

    def __getattr__(self, name: str) -> Any:
        record = self._record
        made: dict[str, Callable[[], Any]] = {
            "id": lambda: f"gid://gitlab/Project/{record.id}",
            "name": lambda: record.name,
            "path": lambda: record.path,
            "fullPath": lambda: record.full_path,
            "webUrl": lambda: f"{self._asked.base}/{record.full_path}",
            "archived": lambda: record.archived,
            "createdAt": lambda: moment(record.created),
            "updatedAt": lambda: moment(record.last_activity),
            "lastActivityAt": lambda: moment(record.last_activity),
        }
        if name not in made:
            raise AttributeError(name)
        return made[name]()

    def pipelines(
        self,
        _info: GraphQLResolveInfo,
        updatedAfter: str | None = None,  # noqa: N803  # the schema's name
        updatedBefore: str | None = None,  # noqa: N803  # the schema's name
        status: str | None = None,
        source: str | None = None,
        ref: str | None = None,
        sha: str | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """Pipelines, the newest first; none where CI may not be seen, as GitLab's `PipelinesFinder` has it."""
        if not self._asked.readable(self._record):
            return _connection([], first, after, _pipeline)
        bounds = (_time(updatedAfter), _time(updatedBefore))
        wanted = Wanted(None if status is None else status.lower(), source, bounds)
        rows = chosen(self._asked.world, self._record, wanted)
        rows = [row for row in reversed(rows) if (ref is None or row.ref == ref) and (sha is None or row.sha == sha)]
        return _connection(rows, first, after, _pipeline)


def _pipeline(record: Pipeline) -> dict[str, Any]:
    return {
        "id": f"gid://gitlab/Ci::Pipeline/{record.id}",
        "iid": str(record.iid),
        "sha": record.sha,
        "ref": record.ref,
        "source": record.source,
        "status": record.status.upper(),
        "createdAt": moment(record.created),
        "updatedAt": moment(record.updated),
        "startedAt": moment(record.started),
        "finishedAt": moment(record.finished),
        "duration": record.duration,
        "coverage": record.coverage,
        "yamlErrors": record.yaml_errors is not None,
    }


def _connection(
    rows: Sequence[Any], first: int | None, after: str | None, node: Callable[[Any], Any]
) -> dict[str, Any]:
    """A page of rows behind a cursor."""
    begin = 0
    if after is not None:
        last = b64decode(after).decode(errors="replace")
        begin = next((place + 1 for place, row in enumerate(rows) if str(row.id) == last), len(rows))
    page = rows[begin : begin + min(first if first is not None else _MOST, _MOST)]
    cursors = [b64encode(str(row.id).encode()).decode() for row in page]
    return {
        "nodes": [node(row) for row in page],
        "count": len(rows),
        "pageInfo": {
            "hasNextPage": begin + len(page) < len(rows),
            "hasPreviousPage": begin > 0,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return milliseconds(text)
    except ValueError:
        raise GraphQLError(f'"{text}" could not be parsed as a Time') from None


class _Cost:
    """What a query costs before it is answered."""

    def __init__(self, definitions: Sequence[Any], variables: Mapping[str, Any]) -> None:
        self._fragments = {one.name.value: one for one in definitions if isinstance(one, FragmentDefinitionNode)}
        self._variables = variables

    def of(self, selections: SelectionSetNode | None, so_far: int) -> int:
        """So much more than what there is already."""
        total = so_far
        for part in selections.selections if selections is not None else ():
            if isinstance(part, FieldNode):
                total += self._field(part)
            elif isinstance(part, InlineFragmentNode):
                total = self.of(part.selection_set, total)
            elif isinstance(part, FragmentSpreadNode):
                total = self.of(self._fragments[part.name.value].selection_set, total)
        return total

    def _field(self, field: FieldNode) -> int:
        cost = self.of(field.selection_set, 1)
        if field.name.value not in _CONNECTIONS:
            return cost
        given = {one.name.value: value_from_ast_untyped(one.value, dict(self._variables)) for one in field.arguments}
        rows = min(given.get("first") or _MOST, _MOST)
        return round(cost * (1 + rows / 100))


@cache
def _schema() -> GraphQLSchema:
    return build_schema(files("bdc_pipeline.sandbox.gitlab").joinpath("schema.graphql").read_text(encoding="utf-8"))


def _errors(text: str) -> dict[str, Any]:
    return {"errors": [{"message": text}]}
