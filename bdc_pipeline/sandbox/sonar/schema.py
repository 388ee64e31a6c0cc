"""Sonar's schema as graphql-core holds it, and the same schema as the plain tables that data and executor work with.

`schema.graphql` is the authority. What belongs here is how it is read: the arguments that all lists share, the scalars, and
for each entity which fields are columns, which lead to one row and which to many. What the rows hold belongs to
`generate.py` and `columns.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    ObjectTypeDefinitionNode,
    build_ast_schema,
    concat_ast,
    get_named_type,
    parse,
)

_NOT_ENTITIES = {"Query", "PageInfo", "Aggregation"}

#: Lists found by asking another entity: (entity, field) -> (the rows' entity, the link by which they point back).
#: The two group lists have no link; they are many-to-many.
REVERSE = {
    ("Account", "child_accounts"): ("Account", "parent_account"),
    ("Account", "addresses"): ("Address", "account"),
    ("Account", "account_groups"): ("AccountGroup", "groups"),
    ("Account", "account_services"): ("AccountService", "account"),
    ("Account", "ip_assignments"): ("IpAssignment", "account"),
    ("Account", "radius_accounts"): ("RadiusAccount", "account"),
    ("Account", "uninventoried_mac_addresses"): ("UninventoriedMacAddress", "account"),
    ("Account", "contacts"): ("Contact", "account"),
    ("Account", "custom_field_data"): ("CustomFieldData", "account"),
    ("Account", "serviceable_address_account_assignment_histories"): (
        "ServiceableAddressAccountAssignmentHistory",
        "account",
    ),
    ("Account", "serviceable_address_account_assignment_futures"): (
        "ServiceableAddressAccountAssignmentFuture",
        "account",
    ),
    ("AccountGroup", "accounts"): ("Account", "groups"),
    ("AccountGroup", "services"): ("Service", "group"),
    ("AccountService", "inventory_items"): ("InventoryItem", "account_service"),
    ("Service", "data_service_detail"): ("DataServiceDetail", "service"),
    ("Address", "inventory_items"): ("InventoryItem", "address"),
    ("Address", "serviceable_address_account_assignment_histories"): (
        "ServiceableAddressAccountAssignmentHistory",
        "address",
    ),
    ("Address", "linked_addresses"): ("Address", "anchor_address"),
    ("InventoryItem", "inventory_model_field_data"): ("InventoryModelFieldData", "inventory_item"),
    ("InventoryItem", "ip_assignments"): ("IpAssignment", "inventory_item"),
    ("InventoryItem", "child_inventory_items"): ("InventoryItem", "parent_inventory_item"),
    ("InventoryModel", "inventory_model_fields"): ("InventoryModelField", "inventory_model"),
}


@dataclass(frozen=True)
class Entity:
    """One type of the schema: its columns with the name of their type, and where its relations lead."""

    name: str
    columns: Mapping[str, str]
    #: columns that are never null
    required: frozenset[str]
    #: field -> entity, through a link of the same name or, for the few in REVERSE, from the other side
    one: Mapping[str, str]
    #: field -> entity
    many: Mapping[str, str]


@dataclass(frozen=True)
class Model:
    """The whole schema, twice: for graphql-core and as plain tables."""

    graphql: GraphQLSchema
    entities: Mapping[str, Entity]
    #: root field -> entity
    roots: Mapping[str, str]


@cache
def load() -> Model:
    """Read `schema.graphql` and complete it. The result is shared and must not be changed."""
    document = parse(files(__package__).joinpath("schema.graphql").read_text(encoding="utf-8"))
    names = [
        node.name.value
        for node in document.definitions
        if isinstance(node, ObjectTypeDefinitionNode) and node.name.value not in _NOT_ENTITIES
    ]
    connections = "\n".join(
        f"type {name}Connection {{ entities: [{name}]! page_info: PageInfo! aggregations: [Aggregation] }}"
        for name in names
    )
    schema = build_ast_schema(concat_ast([document, parse(connections)]))
    _install_scalars(schema)
    entities = {name: _entity(_object(schema, name)) for name in names}
    arguments = {name: _list_arguments(schema, entity) for name, entity in entities.items()}
    query = _object(schema, "Query")
    for owner in [query, *(_object(schema, name) for name in names)]:
        for field in owner.fields.values():
            target = get_named_type(field.type).name
            if target.endswith("Connection"):
                field.args.update(arguments[target.removesuffix("Connection")])
    roots = {name: get_named_type(field.type).name.removesuffix("Connection") for name, field in query.fields.items()}
    return Model(schema, entities, roots)


def _object(schema: GraphQLSchema, name: str) -> GraphQLObjectType:
    found = schema.type_map[name]
    if not isinstance(found, GraphQLObjectType):
        raise TypeError(f"The schema's type {name} is not an object type.")
    return found


def _entity(kind: GraphQLObjectType) -> Entity:
    columns: dict[str, str] = {}
    required: set[str] = set()
    one: dict[str, str] = {}
    many: dict[str, str] = {}
    for name, field in kind.fields.items():
        target = get_named_type(field.type)
        if not isinstance(target, GraphQLObjectType):
            columns[name] = "Enum" if isinstance(target, GraphQLEnumType) else target.name
            if isinstance(field.type, GraphQLNonNull):
                required.add(name)
        elif target.name.endswith("Connection"):
            many[name] = target.name.removesuffix("Connection")
        else:
            one[name] = target.name
    return Entity(kind.name, columns, frozenset(required), one, many)


def _list_arguments(schema: GraphQLSchema, entity: Entity) -> dict[str, GraphQLArgument]:
    def of(name: str) -> GraphQLInputType:
        return schema.type_map[name]  # type: ignore[return-value]  # the file declares them as inputs, scalars, enums

    arguments = {
        "paginator": GraphQLArgument(of("Paginator")),
        "sorter": GraphQLArgument(GraphQLList(of("Sorter"))),
        "search": GraphQLArgument(GraphQLList(of("Search"))),
        "general_search": GraphQLArgument(GraphQLString),
        "general_search_mode": GraphQLArgument(of("GeneralSearchMode")),
        "reverse_relation_filters": GraphQLArgument(GraphQLList(of("ReverseRelationFilter"))),
        "aggregation": GraphQLArgument(GraphQLList(of("Aggregator"))),
    }
    if entity.name == "Account":
        arguments["include_archived"] = GraphQLArgument(GraphQLBoolean)
    fields = _object(schema, entity.name).fields
    for column in entity.columns:
        arguments[column] = GraphQLArgument(get_named_type(fields[column].type))
    return arguments


def _install_scalars(schema: GraphQLSchema) -> None:
    def as_it_is(value: Any) -> Any:
        return value

    for kind in schema.type_map.values():
        if not isinstance(kind, GraphQLScalarType) or kind.name in {"Int", "Float", "String", "Boolean", "ID"}:
            continue
        kind.serialize = as_it_is  # type: ignore[method-assign]
        kind.parse_value = _PARSERS.get(kind.name, as_it_is)  # type: ignore[method-assign]


def _parse_int64(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        number = int(value)
    else:
        raise GraphQLError(
            f"Int64Bit cannot represent the value {value!r}: it must be an integer or a string of digits."
        )
    if not -(2**63) <= number < 2**63:
        raise GraphQLError(f"Int64Bit cannot represent {number}: it does not fit 64 bits.")
    return number


def parse_datetime(value: Any) -> float:
    """Seconds since 1970 of a Datetime, whatever its offset; a Datetime without one is taken as UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise GraphQLError(
            f"Datetime cannot represent the value {value!r}: it must be ISO 8601 such as 2025-06-01T00:00:00+00:00."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _parse_datetime(value: Any) -> str:
    parse_datetime(value)
    return str(value)


def _parse_date(value: Any) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise GraphQLError(f"Date cannot represent the value {value!r}: it must be YYYY-MM-DD.") from None


def _parse_degrees(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise GraphQLError(f"A coordinate cannot be {value!r}: it must be degrees as a number.") from None


_PARSERS = {
    "Int64Bit": _parse_int64,
    "Datetime": _parse_datetime,
    "Date": _parse_date,
    "Latitude": _parse_degrees,
    "Longitude": _parse_degrees,
}
