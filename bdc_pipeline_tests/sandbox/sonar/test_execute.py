"""Our executor against graphql-core's, which resolves the same schema field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from graphql import GraphQLResolveInfo, execute_sync, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.sandbox.sonar import select
from bdc_pipeline.sandbox.sonar.execute import Executor, Permissions, Refused, Run
from bdc_pipeline.sandbox.sonar.generate import build
from bdc_pipeline.sandbox.sonar.schema import load
from bdc_pipeline.sandbox.sonar.select import Rules

WORLD = build(customers=60)
WORLD.tables["Account"].hidden.update({4, 9})
MODEL = load()
EXECUTOR = Executor()
RULES = Rules(page_cap=40)


def resolve(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
    """The same rows by the plainest way: one field of one row at a time."""
    parent, name = info.parent_type.name, info.field_name
    if parent == "Query":
        table = WORLD.tables[MODEL.roots[name]]
        return table, select.cut(select.find_all(WORLD, table, arguments, RULES), arguments, RULES), arguments
    if parent.endswith("Connection"):
        table, page, given_arguments = source
        if name == "entities":
            return [(table, n) for n in page.rows]
        if name == "page_info":
            return page
        wanted = given_arguments.get("aggregation")
        return select.aggregate(table, page.everything, wanted) if wanted else None
    if parent == "PageInfo":
        return getattr(source, name)
    if parent == "Aggregation":
        return source[name]
    table, n = source
    if name in table.entity.columns:
        return table.values(name, [n])[0]
    [rows] = select.related_rows(WORLD, table, name, [n])
    if name in table.entity.one:
        return (WORLD.tables[table.entity.one[name]], rows[0]) if rows else None
    target = WORLD.tables[table.entity.many[name]]
    return target, select.cut(select.find_among(WORLD, target, rows, arguments, RULES), arguments, RULES), arguments


def theirs(query: str, variables: dict[str, Any]) -> Any:
    result = execute_sync(MODEL.graphql, parse(query), variable_values=variables, field_resolver=resolve)
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        answer["errors"] = sorted((error.message, error.path) for error in result.errors)
    return msgspec.json.decode(msgspec.json.encode(answer))


def ours(query: str, variables: dict[str, Any]) -> Any:
    run = Run(WORLD, EXECUTOR.prepare(query, variables, None), RULES, Permissions())
    answer = EXECUTOR.run(run)
    if "errors" in answer:
        answer["errors"] = sorted((error["message"], error["path"]) for error in answer["errors"])
    return msgspec.json.decode(msgspec.json.encode(answer))


LISTS = [
    "",
    "(paginator: {page: 1, records_per_page: 3})",
    "(paginator: $page)",
    '(paginator: {page: 2, records_per_page: 2}, sorter: [{attribute: "id", direction: DESC}])',
    '(sorter: [{attribute: "updated_at", direction: ASC}], search: $search)',
    '(search: [{integer_fields: [{attribute: "id", operator: GT, search_value: "40"}]}])',
    '(search: [{unset_fields: ["updated_at"]}, {exists: ["id"]}], aggregation: [{field_name: "id", aggregation_function: MAX}])',
]
FLAGS = ["", "", "", " @include(if: $yes)", " @skip(if: $yes)", " @include(if: false)", " @skip(if: $no)"]


@st.composite
def selections(draw: st.DrawFn, entity: str, depth: int) -> str:
    known = MODEL.entities[entity]
    fields = ["id"]
    for column in draw(st.lists(st.sampled_from([*known.columns, "__typename"]), max_size=4)):
        alias = draw(st.sampled_from(["", "", f"x_{column}: "]))
        fields.append(f"{alias}{column}{draw(st.sampled_from(FLAGS))}")
    if depth > 0:
        relations = {**known.one, **known.many}
        names = draw(st.lists(st.sampled_from(sorted(relations)), max_size=2)) if relations else []
        fields += [draw(relation(name, relations[name], depth, many=name in known.many)) for name in names]
    text = " ".join(fields)
    if draw(st.booleans()):
        inner = draw(st.sampled_from(list(known.columns)))
        text += f" ... on {entity}{draw(st.sampled_from(FLAGS))} {{ {inner} }}"
    if draw(st.booleans()):
        text += f" ...{entity}Fields"
    return text


@st.composite
def relation(draw: st.DrawFn, name: str, entity: str, depth: int, *, many: bool) -> str:
    flag = draw(st.sampled_from(FLAGS))
    below = draw(selections(entity, depth - 1))
    if not many:
        return f"{name}{flag} {{ {below} }}"
    arguments = draw(st.sampled_from(LISTS))
    # Two fields of one name merge, which validation allows only if their arguments are the same
    alias = f"a{LISTS.index(arguments)}_{name}: "
    return f"{alias}{name}{arguments}{flag} {{ {draw(connection(below))} }}"


@st.composite
def connection(draw: st.DrawFn, below: str) -> str:
    parts = [f"entities {{ {below} }}"]
    if draw(st.booleans()):
        parts.append("page_info { total_count page records_per_page n: total_pages __typename }")
    if draw(st.booleans()):
        parts.append("aggregations { value field_name }")
    if draw(st.booleans()):
        parts.append("__typename more: entities { id }")
    return " ".join(draw(st.permutations(parts)))


@st.composite
def queries(draw: st.DrawFn) -> str:
    parts = []
    for n in range(draw(st.integers(1, 2))):
        root = draw(st.sampled_from(sorted(MODEL.roots)))
        arguments = draw(st.sampled_from(LISTS))
        below = draw(selections(MODEL.roots[root], 2))
        parts.append(f"r{n}: {root}{arguments} {{ {draw(connection(below))} }}")
    body = " ".join(parts)
    fragments = "".join(
        f" fragment {name}Fields on {name} {{ updated_at u: _version }}"
        for name in MODEL.entities
        if f"...{name}Fields" in body
    )
    declared = [
        f"${name}: {kind}"
        for name, kind in {"page": "Paginator", "search": "[Search]", "yes": "Boolean!", "no": "Boolean!"}.items()
        if f"${name}" in body
    ]
    head = f"query Q({', '.join(declared)})" if declared else "query Q"
    return f"{head} {{ {body} __typename }}{fragments}"


VARIABLES: dict[str, Any] = {
    "page": {"page": 1, "records_per_page": 4},
    "search": [
        {
            "datetime_fields": [
                {"attribute": "updated_at", "operator": "GTE", "search_value": "2025-01-01T00:00:00+00:00"}
            ]
        }
    ],
    "yes": True,
    "no": False,
}


@settings(max_examples=150)
@given(queries(), st.booleans())
def test_any_query_is_answered_as_graphql_core_answers_it(query: str, flipped: bool) -> None:
    variables = {**VARIABLES, "yes": not flipped, "no": flipped}
    try:
        answer = ours(query, variables)
    except Refused as refused:
        pytest.fail(f"{query}\n{refused.errors}")
    assert answer == theirs(query, variables)


@pytest.mark.parametrize(
    "query",
    [
        # a default value, a merged field, a fragment in a fragment
        """query($p: Paginator = {page: 2, records_per_page: 3}) { accounts(paginator: $p) { entities { id } }
           accounts(paginator: $p) { page_info { page } entities { name account_status { id } account_status { name } } } }""",
        """{ accounts { ...A } } fragment A on AccountConnection { entities { ...B } } fragment B on Account { id name }""",
        "{ accounts(account_status_id: 1, include_archived: true) { entities { id archived_at } } }",
        "{ data_service_details { entities { service { data_service_detail { service { id } } } } } }",
        '{ accounts(id: null) { entities { id } } services(name: "Fiber 100") { entities { id } } }',
    ],
)
def test_these_queries_too(query: str) -> None:
    assert ours(query, {}) == theirs(query, {})


@pytest.mark.parametrize(
    "query",
    [
        "{ accounts(paginator: {page: 0, records_per_page: 1}) { entities { id } } services { entities { id } } }",
        '{ accounts(sorter: [{attribute: "oops", direction: ASC}]) { entities { id } } }',
        '{ accounts(paginator: {page: 1, records_per_page: 3}) { entities { id addresses(search: [{exists: ["oops"]}]) { entities { id } } } } }',
    ],
)
def test_errors_stand_where_graphql_core_puts_them(query: str) -> None:
    found = ours(query, {})
    assert found["errors"]
    assert found == theirs(query, {})


def test_the_variables_of_include_do_not_stick() -> None:
    query = "query($yes: Boolean!) { services(id: 1) { entities { id name @include(if: $yes) } } }"
    with_name, without = ours(query, {"yes": True}), ours(query, {"yes": False})
    assert set(with_name["data"]["services"]["entities"][0]) == {"id", "name"}
    assert set(without["data"]["services"]["entities"][0]) == {"id"}
