"""GraphQL executed a level at a time instead of a field at a time.

graphql-core parses, checks and coerces; its executor, which calls a resolver for each field of each row, would spend ten times
the processor time that a benchmark leaves to the server. Here a selection is compiled once into closures that answer one
column for all rows of a level, one query to a relation for all parents. What comes out is what graphql-core would answer
(`test_execute.py` holds the two against each other), but for two things that are wanted: values that break the schema's types
are served as they are, and an error has no `locations`.

How rows are chosen belongs to `select.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, TypeVar

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Visitor,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
    visit,
)
from graphql.execution.collect_fields import collect_fields, collect_sub_fields
from graphql.execution.values import get_argument_values, get_variable_values

from bdc_pipeline.sandbox.sonar import select
from bdc_pipeline.sandbox.sonar.schema import REVERSE, Model, load
from bdc_pipeline.sandbox.sonar.select import Arguments, Page, Rows, Rules
from bdc_pipeline.sandbox.sonar.tables import NEVER, World

Key = TypeVar("Key")
Value = TypeVar("Value")

_MANY_DOCUMENTS = 500
_INTROSPECTION = {"__schema", "__type"}

#: Where in the answer a row stands.
PathOf = Callable[[int], list[str | int]]


@dataclass(frozen=True)
class Permissions:
    """What the token's user may not do."""

    #: root fields or entities whose answer is null, with an error
    denied: frozenset[str] = frozenset()
    #: fields whose list fails once page_info is selected
    no_page_info: frozenset[str] = frozenset()


@dataclass
class Run:
    """One execution: what it reads, and the errors met on the way."""

    world: World
    query: Query
    rules: Rules
    permissions: Permissions
    #: answer as if there were no rows at all
    empty: bool = False
    errors: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, message: str, path: list[str | int]) -> None:
        """Note an error; the field's value is null."""
        self.errors.append({"message": message, "path": path})


Values = Callable[[Run, Rows, PathOf], list[Any]]


@dataclass(frozen=True)
class _Root:
    """One list at the root of a query."""

    key: str
    name: str
    entity: str
    node: FieldNode
    arguments: Callable[[Query], Arguments]
    answer: Callable[[Run, Page, Arguments, PathOf], Any]
    wants_page_info: bool


@dataclass(frozen=True)
class Plan:
    """A compiled operation."""

    roots: tuple[_Root, ...]
    constants: Mapping[str, Any]
    order: tuple[str, ...]
    #: "Account.name" for every column that is read
    selected: frozenset[str]


@dataclass(frozen=True)
class Query:
    """A request's operation with its variables, ready to run."""

    plan: Plan
    variables: dict[str, Any]
    #: field node -> its arguments, worked out when first asked for
    arguments: dict[int, Arguments] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each root list; see select.describe."""
        return tuple(select.describe(root.name, root.arguments(self)) for root in self.plan.roots)


class Refused(Exception):  # noqa: N818  # not an error of ours: it is what the server answers
    """A request that does not get as far as being executed."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


class Executor:
    """Prepares requests and runs them; holds what has been compiled."""

    def __init__(self) -> None:
        self.model = load()
        self._documents: OrderedDict[str, DocumentNode | Refused] = OrderedDict()
        self._plans: OrderedDict[tuple[Any, ...], tuple[DocumentNode, Plan]] = OrderedDict()

    def prepare(self, text: str, variables: dict[str, Any] | None, operation_name: str | None) -> Query:
        """Parse, check, coerce and compile.

        Raises Refused with the errors that the client is to see.
        """
        document = self._document(text)
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            raise Refused([{"message": "The request must name one of the operations in its query."}])
        if operation.operation is not OperationType.QUERY:
            raise Refused([{"message": f"This schema has no {operation.operation.value} operations."}])
        coerced = get_variable_values(self.model.graphql, operation.variable_definitions or (), variables or {})
        if isinstance(coerced, list):
            raise Refused([shown(error) for error in coerced])
        # Only variables that @include and @skip read change what is compiled
        switches = tuple(sorted((name, value) for name, value in coerced.items() if isinstance(value, bool)))
        key = (id(document), operation_name, switches)
        known = self._plans.get(key)
        if known is None:
            known = (document, _Compiler(self.model, document, operation, coerced).plan())
            _keep(self._plans, key, known)
        return Query(known[1], coerced)

    def run(self, run: Run) -> dict[str, Any]:
        """The answer: data and, if any, errors."""
        plan = run.query.plan
        data: dict[str, Any] = dict.fromkeys(plan.order)
        data.update(plan.constants)
        for root in plan.roots:
            data[root.key] = _answer_root(root, run)
        return {"errors": run.errors, "data": data} if run.errors else {"data": data}

    def _document(self, text: str) -> DocumentNode:
        known = self._documents.get(text)
        if known is None:
            known = self._check(text)
            _keep(self._documents, text, known)
        if isinstance(known, Refused):
            raise Refused(known.errors)
        return known

    def _check(self, text: str) -> DocumentNode | Refused:
        try:
            document = parse(text, no_location=False)
        except GraphQLSyntaxError as error:
            return Refused([shown(error)])
        errors = validate(self.model.graphql, document)
        return Refused([shown(error) for error in errors]) if errors else document


def shown(error: GraphQLError) -> dict[str, Any]:
    """An error as Sonar's PHP library words it: graphql-core's, in double quotes and without suggestions."""
    formatted = dict(error.formatted)
    formatted["message"] = _reword(error.message)
    return formatted


def _reword(message: str) -> str:
    message = message.partition(" Did you mean")[0]
    # graphql-core quotes in single quotes, and no name that it quotes holds one
    parts = message.split("'")
    return '"'.join(parts) if len(parts) % 2 else message


def _keep(cache: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    cache[key] = value
    while len(cache) > _MANY_DOCUMENTS:
        cache.popitem(last=False)


def _answer_root(root: _Root, run: Run) -> Any:
    path: list[str | int] = [root.key]
    if refused := _refusal(run, root.name, root.entity, wants_page_info=root.wants_page_info):
        run.fail(refused, path)
        return None
    table = run.world.tables[root.entity]
    try:
        arguments = root.arguments(run.query)
        rows = () if run.empty else select.find_all(run.world, table, arguments, run.rules)
        page = select.cut(rows, arguments, run.rules)
        return root.answer(run, page, arguments, lambda i: [root.key, "entities", i])
    except GraphQLError as error:
        run.fail(_reword(error.message), path)
        return None


def _refusal(run: Run, name: str, entity: str, *, wants_page_info: bool) -> str | None:
    permissions = run.permissions
    if name in permissions.denied or entity in permissions.denied:
        return f"You do not have permission to view {name}."
    if wants_page_info and (name in permissions.no_page_info or entity in permissions.no_page_info):
        return f"Cannot compute the aggregate for {name}: the relation does not exist."
    return None


class _Compiler:
    """Turns the selections of one operation into closures."""

    def __init__(
        self, model: Model, document: DocumentNode, operation: OperationDefinitionNode, variables: dict[str, Any]
    ) -> None:
        self.model = model
        self.schema = model.graphql
        self.document = document
        self.operation = operation
        self.variables = variables
        self.fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self.selected: set[str] = set()

    def plan(self) -> Plan:
        query = self.schema.query_type
        if query is None:
            raise TypeError("The schema has no queries.")
        fields = collect_fields(self.schema, self.fragments, self.variables, query, self.operation.selection_set)
        roots: list[_Root] = []
        constants: dict[str, Any] = {}
        for key, nodes in fields.items():
            name = nodes[0].name.value
            if name == "__typename":
                constants[key] = "Query"
            elif name in _INTROSPECTION:
                constants[key] = self._introspect(key, nodes)
            else:
                roots.append(self._root(key, name, nodes, query))
        return Plan(tuple(roots), constants, tuple(fields), frozenset(self.selected))

    def _introspect(self, key: str, nodes: list[FieldNode]) -> Any:
        """Questions about the schema go to graphql-core, one at a time."""
        operation = OperationDefinitionNode(
            operation=OperationType.QUERY,
            name=None,
            variable_definitions=self.operation.variable_definitions,
            directives=[],
            selection_set=SelectionSetNode(selections=tuple(nodes)),
        )
        document = DocumentNode(definitions=(operation, *self.fragments.values()))
        result = execute_sync(self.schema, document, variable_values=self.variables)
        return None if result.data is None else result.data.get(key)

    def _root(self, key: str, name: str, nodes: list[FieldNode], query: GraphQLObjectType) -> _Root:
        entity = self.model.roots[name]
        answer, wants_page_info = self._connection(entity, nodes)
        return _Root(key, name, entity, nodes[0], self._arguments(query, nodes[0]), answer, wants_page_info)

    def _type(self, name: str) -> GraphQLObjectType:
        found = self.schema.type_map[name]
        if not isinstance(found, GraphQLObjectType):
            raise TypeError(f"{name} is not an object type.")
        return found

    def _below(self, type_name: str, nodes: list[FieldNode]) -> dict[str, list[FieldNode]]:
        return collect_sub_fields(self.schema, self.fragments, self.variables, self._type(type_name), nodes)

    def _arguments(self, owner: GraphQLObjectType, node: FieldNode) -> Callable[[Query], Arguments]:
        """The field's arguments, worked out once a request, or just once where no variable is in them."""
        definition = owner.fields[node.name.value]
        if not _uses_variables(node):
            # What is written out in the query has been checked with it, so this cannot fail
            known = get_argument_values(definition, node, {})
            return lambda _: known

        def arguments(query: Query) -> Arguments:
            found = query.arguments.get(id(node))
            if found is None:
                found = query.arguments[id(node)] = get_argument_values(definition, node, query.variables)
            return found

        return arguments

    def _connection(
        self, entity: str, nodes: list[FieldNode]
    ) -> tuple[Callable[[Run, Page, Arguments, PathOf], Any], bool]:
        """One list's answer, for a root list."""
        parts = self._connection_parts(entity, nodes)

        def answer(run: Run, page: Page, arguments: Arguments, path_of: PathOf) -> dict[str, Any]:
            made: dict[str, Any] = {}
            for key, part in parts.items():
                if isinstance(part, _Entities):
                    made[key] = part.rows(run, page.rows, path_of)
                else:
                    made[key] = part(run, entity, page, arguments)
            return made

        return answer, any(isinstance(part, _PageInfo) for part in parts.values())

    def _connection_parts(self, entity: str, nodes: list[FieldNode]) -> dict[str, _Part]:
        parts: dict[str, _Part] = {}
        for key, inner in self._below(f"{entity}Connection", nodes).items():
            name = inner[0].name.value
            if name == "entities":
                parts[key] = _Entities(self._rows(entity, inner))
            elif name == "page_info":
                parts[key] = _PageInfo(self._plain_fields("PageInfo", inner))
            elif name == "aggregations":
                parts[key] = _Aggregations(self._plain_fields("Aggregation", inner))
            else:
                parts[key] = _Constant(f"{entity}Connection")
        return parts

    def _plain_fields(self, type_name: str, nodes: list[FieldNode]) -> tuple[tuple[str, str], ...]:
        return tuple((key, inner[0].name.value) for key, inner in self._below(type_name, nodes).items())

    def _rows(self, entity: str, nodes: list[FieldNode]) -> Values:
        """All rows of one level: a dict for each."""
        known = self.model.entities[entity]
        keys: list[str] = []
        columns: list[Values] = []
        for key, inner in self._below(entity, nodes).items():
            name = inner[0].name.value
            keys.append(key)
            if name == "__typename":
                columns.append(_typename(entity))
            elif name in known.columns:
                self.selected.add(f"{entity}.{name}")
                columns.append(_column(entity, name))
            elif name in known.one:
                columns.append(self._one(entity, name, known.one[name], key, inner))
            else:
                columns.append(self._many(entity, name, known.many[name], key, inner))

        def rows(run: Run, numbers: Rows, path_of: PathOf) -> list[Any]:
            values = [column(run, numbers, path_of) for column in columns]
            return [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)]

        return rows

    def _one(self, entity: str, name: str, target: str, key: str, nodes: list[FieldNode]) -> Values:
        below = self._rows(target, nodes)
        reverse = REVERSE.get((entity, name))

        def one(run: Run, numbers: Rows, path_of: PathOf) -> list[Any]:
            if refused := _refusal(run, name, target, wants_page_info=False):
                return _fail_all(run, refused, numbers, path_of, key)
            table = run.world.tables[entity]
            if reverse is None:
                targets = table.follow(name, numbers)
            else:
                pointing = run.world.tables[target].pointing(reverse[1], numbers)
                targets = [found[0] if found else NEVER for found in pointing]
            # Many rows share few statuses, services, models: each is made once
            distinct = list(dict.fromkeys(t for t in targets if t != NEVER))
            made = dict(
                zip(distinct, below(run, distinct, lambda i: [*path_of(targets.index(distinct[i])), key]), strict=True)
            )
            return [made.get(t) for t in targets]

        return one

    def _many(self, entity: str, name: str, target: str, key: str, nodes: list[FieldNode]) -> Values:
        parts = self._connection_parts(target, nodes)
        arguments_of = self._arguments(self._type(entity), nodes[0])
        wants_page_info = any(isinstance(part, _PageInfo) for part in parts.values())

        def many(run: Run, numbers: Rows, path_of: PathOf) -> list[Any]:
            if refused := _refusal(run, name, target, wants_page_info=wants_page_info):
                return _fail_all(run, refused, numbers, path_of, key)
            world, table = run.world, run.world.tables[target]
            try:
                arguments = arguments_of(run.query)
                pages = [
                    select.cut(select.find_among(world, table, found, arguments, run.rules), arguments, run.rules)
                    for found in select.related_rows(world, run.world.tables[entity], name, numbers)
                ]
            except GraphQLError as error:
                return _fail_all(run, _reword(error.message), numbers, path_of, key)
            starts = list(accumulate((len(page.rows) for page in pages), initial=0))
            flat = list(chain.from_iterable(page.rows for page in pages))

            def path_below(i: int) -> list[str | int]:
                parent = bisect_right(starts, i) - 1
                return [*path_of(parent), key, "entities", i - starts[parent]]

            answers: list[dict[str, Any]] = [{} for _ in pages]
            for part_key, part in parts.items():
                if isinstance(part, _Entities):
                    made = part.rows(run, flat, path_below)
                    for i, answer in enumerate(answers):
                        answer[part_key] = made[starts[i] : starts[i + 1]]
                else:
                    for page, answer in zip(pages, answers, strict=True):
                        answer[part_key] = part(run, target, page, arguments)
            return answers

        return many


@dataclass(frozen=True)
class _Entities:
    rows: Values


@dataclass(frozen=True)
class _PageInfo:
    fields: tuple[tuple[str, str], ...]

    def __call__(self, run: Run, entity: str, page: Page, arguments: Arguments) -> dict[str, Any]:
        del run, entity, arguments
        return {key: "PageInfo" if name == "__typename" else getattr(page, name) for key, name in self.fields}


@dataclass(frozen=True)
class _Aggregations:
    fields: tuple[tuple[str, str], ...]

    def __call__(self, run: Run, entity: str, page: Page, arguments: Arguments) -> list[dict[str, Any]] | None:
        wanted = arguments.get("aggregation")
        if not wanted:
            return None
        found = select.aggregate(run.world.tables[entity], page.everything, wanted)
        return [
            {key: "Aggregation" if name == "__typename" else one[name] for key, name in self.fields} for one in found
        ]


@dataclass(frozen=True)
class _Constant:
    value: Any

    def __call__(self, run: Run, entity: str, page: Page, arguments: Arguments) -> Any:
        del run, entity, page, arguments
        return self.value


_Part = _Entities | _PageInfo | _Aggregations | _Constant


def _column(entity: str, name: str) -> Values:
    return lambda run, rows, _path_of: run.world.tables[entity].values(name, rows)


def _typename(entity: str) -> Values:
    return lambda _run, rows, _path_of: [entity] * len(rows)


def _fail_all(run: Run, message: str, rows: Rows, path_of: PathOf, key: str) -> list[Any]:
    for i in range(len(rows)):
        run.fail(message, [*path_of(i), key])
    return [None] * len(rows)


class _FindVariable(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def enter_variable(self, *_: Any) -> None:
        self.found = True


def _uses_variables(node: FieldNode) -> bool:
    finder = _FindVariable()
    for argument in node.arguments:
        visit(argument, finder)
    return finder.found
