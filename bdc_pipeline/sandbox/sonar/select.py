"""Which rows a list answers: search, equality arguments, general search, filters by relation, order, page.

Works on row numbers alone; turning rows into an answer belongs to `execute.py`. Rows are numbered in the order of their ids,
so a condition on `id` is a pair of bounds, found by bisection and cut out of the list without looking at a single row.
"""

from __future__ import annotations

import ipaddress
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from graphql import GraphQLError

from bdc_pipeline.sandbox.sonar.schema import REVERSE, parse_datetime
from bdc_pipeline.sandbox.sonar.tables import NEVER, Table, World

#: What comes back unasked, at the root and inside each entity.
SMALL_PAGE = 15
#: So many rows are looked at one by one rather than by an index.
_FEW = 2000
IdFilter = Literal["honoured", "ignored", "refused"]

Rows = Sequence[int]
Keep = Callable[[Rows], list[int]]
Arguments = Mapping[str, Any]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": operator.eq,
    "NEQ": operator.ne,
    "GT": operator.gt,
    "GTE": operator.ge,
    "LT": operator.lt,
    "LTE": operator.le,
}
_SIGNS = {"EQ": "=", "NEQ": "!=", "GT": ">", "GTE": ">=", "LT": "<", "LTE": "<="}
_TEXT = {"String", "Text", "Clob", "ID", "MacAddress", "SubnetScalar", "Numeric"}
#: Arguments that are not equality with a column.
_LIST_ARGUMENTS = {
    "paginator",
    "sorter",
    "search",
    "general_search",
    "general_search_mode",
    "reverse_relation_filters",
    "aggregation",
    "include_archived",
}


@dataclass(frozen=True)
class Page:
    """One page of a list: its rows, and what page_info says."""

    rows: Rows
    page: int
    records_per_page: int
    #: the rows of all pages
    everything: Rows

    @property
    def total_count(self) -> int:
        """How many rows the list has on all pages."""
        return len(self.everything)

    @property
    def total_pages(self) -> int:
        """At least one, even of an empty list."""
        return max(1, -(-self.total_count // self.records_per_page))


@dataclass(frozen=True)
class Rules:
    """How this instance of Sonar treats lists."""

    page_cap: int = 1000
    id_filter: IdFilter = "honoured"


def find_all(world: World, table: Table, arguments: Arguments, rules: Rules) -> Rows:
    """Rows of a root list in their order, of all pages."""
    hidden = bool(arguments.get("include_archived"))
    if _is_plain(arguments):
        rows = world.living(table, hidden=hidden)
        return (
            rows
            if arguments.get("sorter")
            else world.remember(("order", table.name, hidden), lambda: _order(table, rows, None))
        )
    key = (table.name, rules.id_filter, msgspec.json.encode({k: v for k, v in arguments.items() if k != "paginator"}))
    selection = _compile(world, table, arguments, rules)
    if selection.is_cheap and _by_id(arguments):
        return selection.of(world.living(table, hidden=hidden))
    found: Rows = world.remember(
        key,
        lambda: array("q", _order(table, selection.of(world.living(table, hidden=hidden)), arguments.get("sorter"))),
    )
    return found


def find_among(world: World, table: Table, rows: Rows, arguments: Arguments, rules: Rules) -> Rows:
    """The same for a nested list, whose rows are few and known."""
    if table.hidden and not arguments.get("include_archived"):
        rows = [n for n in rows if n not in table.hidden]
    if not rows:
        return rows
    if not _is_plain(arguments):
        rows = _compile(world, table, arguments, rules).of(rows)
    return _order(table, rows, arguments.get("sorter"))


def cut(rows: Rows, arguments: Arguments, rules: Rules) -> Page:
    """One page of a list; without a paginator a small first one."""
    paginator = arguments.get("paginator")
    page, asked = (paginator["page"], paginator["records_per_page"]) if paginator else (1, SMALL_PAGE)
    if page < 1:
        raise GraphQLError(f"The page must be 1 or more, not {page}.")
    if asked < 1:
        raise GraphQLError(f"The records_per_page must be 1 or more, not {asked}.")
    size = min(asked, rules.page_cap)
    return Page(rows[(page - 1) * size : page * size], page, size, rows)


def describe(root: str, arguments: Arguments) -> str:
    """The label of a request to a list: `accounts page=3 records=100 [id>5,updated_at>=2025-06-01T00:00:00+00:00]`.

    Equality arguments follow the page as `name=value`. Each Search is one pair of brackets.
    """
    paginator = arguments.get("paginator") or {"page": 1, "records_per_page": SMALL_PAGE}
    parts = [root, f"page={paginator['page']}", f"records={paginator['records_per_page']}"]
    parts += [f"{name}={value}" for name, value in sorted(arguments.items()) if name not in _LIST_ARGUMENTS]
    if arguments.get("general_search"):
        parts.append(f"general={arguments['general_search']}")
    parts += [f"[{','.join(_conditions(search))}]" for search in arguments.get("search") or () if search]
    return " ".join(parts)


def _conditions(search: Arguments) -> Iterable[str]:
    for kind, entries in search.items():
        for entry in entries or ():
            if kind in {"unset_fields", "exists"}:
                yield f"{entry} {'null' if kind == 'unset_fields' else 'set'}"
            elif kind in {"string_fields", "ip_address_fields"}:
                sign = "~" if entry.get("partial_matching", True) else "="
                yield f"{entry['attribute']}{'' if entry['match'] else '!'}{sign}{entry['search_value']}"
            elif "operator" in entry:
                yield f"{entry['attribute']}{_SIGNS[entry['operator'] or 'EQ']}{entry['search_value']}"
            else:
                yield kind


def aggregate(table: Table, rows: Rows, wanted: Sequence[Arguments]) -> list[dict[str, Any]]:
    """One figure for each aggregator, over the rows of all pages. The shape of Sonar's own answer is not published."""
    return [
        {
            "field_name": one["field_name"],
            "aggregation_function": one["aggregation_function"],
            "value": _aggregate(table, rows, one),
        }
        for one in wanted
    ]


def _aggregate(table: Table, rows: Rows, wanted: Arguments) -> str | None:
    column, function = wanted["field_name"], wanted["aggregation_function"]
    _check(table, column, "aggregate")
    if wanted.get("sub_aggregators"):
        raise GraphQLError("The sandbox does not model sub_aggregators.")
    values = [v for v in _comparable(table, column, rows) if v is not None]
    if function == "COUNT":
        return str(len(values))
    if not values:
        return None
    if function in {"MIN", "MAX"}:
        return str(min(values) if function == "MIN" else max(values))
    try:
        total = sum(values)
    except TypeError:
        raise GraphQLError(f"Cannot compute {function} of {column}: it is not a number.") from None
    return str(total if function == "SUM" else total / len(values))


# --- order


def _is_plain(arguments: Arguments) -> bool:
    """Whether no row is left out and the order is that of the ids or none."""
    return all(name in {"paginator", "include_archived", "aggregation", "sorter"} for name in arguments) and (
        not arguments.get("sorter") or _by_id(arguments)
    )


def _by_id(arguments: Arguments) -> bool:
    sorter: Sequence[Arguments] = arguments.get("sorter") or ()
    return len(sorter) > 0 and sorter[0]["attribute"] == "id" and sorter[0]["direction"] == "ASC"


def _order(table: Table, rows: Rows, sorter: Sequence[Arguments] | None) -> Rows:
    """Sorted rows. Without a sorter by time of change, which moves rows about while someone reads pages."""
    if not sorter:
        return rows if len(rows) < 2 else sorted(rows, key=table.stamps.__getitem__)
    ordered = rows
    for by in reversed(sorter):
        attribute, descending = by["attribute"], by["direction"] == "DESC"
        if attribute == "id":
            ordered = sorted(ordered, reverse=descending)
        elif attribute == "updated_at":
            ordered = sorted(ordered, key=table.stamps.__getitem__, reverse=descending)
        else:
            _check(table, attribute, "sort")
            values = dict(zip(ordered, _comparable(table, attribute, ordered), strict=True))
            ordered = sorted(ordered, key=lambda n: (values[n] is not None, values[n]), reverse=descending)
    return ordered


# --- conditions


@dataclass
class _Conditions:
    """What one Search asks for: bounds on the row number, ranges of links, and whatever has to be looked at row by row."""

    world: World
    table: Table
    low: int = 0
    high: int = 2**62
    #: attribute -> lowest and highest value
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    keeps: list[Keep] = field(default_factory=list)

    def within(self, attribute: str, sign: str, value: int) -> None:
        """Narrow the range of an attribute."""
        low, high = self.ranges.get(attribute, (-(2**63), 2**63))
        if sign in {"EQ", "GTE", "GT"}:
            low = max(low, value + (sign == "GT"))
        if sign in {"EQ", "LTE", "LT"}:
            high = min(high, value - (sign == "LT"))
        self.ranges[attribute] = (low, high)

    def of(self, rows: Rows) -> Rows:
        if self.low > 0 or self.high < 2**62:
            if isinstance(rows, range):
                rows = range(max(rows.start, self.low), max(self.low, min(rows.stop, self.high)))
            else:
                rows = rows[bisect_left(rows, self.low) : bisect_left(rows, self.high)]
        for attribute, (low, high) in self.ranges.items():
            rows = self._in_range(rows, attribute, low, high)
        for keep in self.keeps:
            rows = keep(rows)
        return rows

    def _in_range(self, rows: Rows, attribute: str, low: int, high: int) -> Rows:
        if len(rows) <= _FEW:
            values = _comparable(self.table, attribute, rows)
            return [n for n, v in zip(rows, values, strict=True) if isinstance(v, int) and low <= v <= high]
        keys, order = self.world.remember(("index", self.table.name, attribute), lambda: _index(self.table, attribute))
        found = sorted(order[bisect_left(keys, low) : bisect_right(keys, high)])
        if isinstance(rows, range):
            return found[bisect_left(found, rows.start) : bisect_left(found, rows.stop)]
        places = [bisect_left(rows, n) for n in found]
        return [n for n, place in zip(found, places, strict=True) if place < len(rows) and rows[place] == n]


def _index(table: Table, attribute: str) -> tuple[array[int], array[int]]:
    """The values of an attribute in their order, and the rows that have them."""
    values = _comparable(table, attribute, range(len(table)))
    pairs = sorted((v, n) for n, v in enumerate(values) if isinstance(v, int))
    return array("q", [v for v, _ in pairs]), array("q", [n for _, n in pairs])


@dataclass
class _Selection:
    """Alternatives, of which one is enough, and what must hold besides."""

    alternatives: list[_Conditions]
    besides: _Conditions

    @property
    def is_cheap(self) -> bool:
        """Whether bounds decide it all."""
        return (
            not self.besides.keeps
            and len(self.alternatives) <= 1
            and not any(a.keeps or a.ranges for a in self.alternatives)
        )

    def of(self, rows: Rows) -> Rows:
        rows = self.besides.of(rows)
        if not self.alternatives:
            return rows
        if len(self.alternatives) == 1:
            return self.alternatives[0].of(rows)
        return sorted({n for alternative in self.alternatives for n in alternative.of(rows)})


def _compile(world: World, table: Table, arguments: Arguments, rules: Rules) -> _Selection:
    besides = _Conditions(world, table)
    for name, value in arguments.items():
        if name not in _LIST_ARGUMENTS:
            _add_equality(besides, table, name, value)
    if arguments.get("general_search"):
        related = arguments.get("general_search_mode") == "ROOT_PLUS_RELATIONS"
        besides.keeps.append(_general(world, table, arguments["general_search"], related=related))
    if arguments.get("reverse_relation_filters"):
        besides.keeps.append(_by_relation(world, table, arguments["reverse_relation_filters"], rules))
    searches = [search for search in arguments.get("search") or () if search]
    return _Selection([_compile_search(world, table, search, rules) for search in searches], besides)


def _compile_search(world: World, table: Table, search: Arguments, rules: Rules) -> _Conditions:
    conditions = _Conditions(world, table)
    for kind, entries in search.items():
        if kind == "reverse_relation_filters" and entries:
            conditions.keeps.append(_by_relation(world, table, entries, rules))
        elif kind == "geopoint_fields" and entries:
            conditions.keeps.append(_in_polygon(table, entries))
        else:
            for entry in entries or ():
                _add(conditions, table, kind, entry, rules)
    return conditions


def _add(conditions: _Conditions, table: Table, kind: str, entry: Any, rules: Rules) -> None:
    attribute = entry if isinstance(entry, str) else entry["attribute"]
    _check(table, attribute, "search by")
    if (attribute == "id" or attribute.endswith("_id")) and rules.id_filter != "honoured":
        if rules.id_filter == "refused":
            raise GraphQLError(f"Cannot search by attribute {attribute}.")
        return
    if kind in {"unset_fields", "exists"}:
        conditions.keeps.append(_null(table, attribute, wanted=kind == "unset_fields"))
    elif kind == "string_fields":
        conditions.keeps.append(_text(table, attribute, entry))
    elif kind == "ip_address_fields":
        conditions.keeps.append(_address(table, attribute, entry))
    else:
        sign, value = entry.get("operator") or "EQ", entry["search_value"]
        if kind == "datetime_fields":
            value = parse_datetime(value)
        if attribute == "id":
            _bound(conditions, table, sign, value)
        elif attribute == "updated_at":
            conditions.keeps.append(_changed(table, sign, value))
        elif kind == "integer_fields" and attribute.endswith("_id") and sign != "NEQ":
            conditions.within(attribute, sign, value)
        else:
            conditions.keeps.append(_compared(table, attribute, sign, value))


def _add_equality(conditions: _Conditions, table: Table, column: str, value: Any) -> None:
    if value is None:
        conditions.keeps.append(_null(table, column, wanted=True))
    elif column == "id":
        _bound(conditions, table, "EQ", value)
    elif table.entity.columns[column] == "Datetime":
        moment = parse_datetime(value)
        conditions.keeps.append(
            _changed(table, "EQ", moment) if column == "updated_at" else _compared(table, column, "EQ", moment)
        )
    else:
        conditions.keeps.append(_compared(table, column, "EQ", value))


def _bound(conditions: _Conditions, table: Table, sign: str, identifier: int) -> None:
    low, high = bisect_left(table.ids, identifier), bisect_right(table.ids, identifier)
    if sign == "NEQ":
        conditions.keeps.append(lambda rows: [n for n in rows if not low <= n < high])
    if sign in {"EQ", "GTE"}:
        conditions.low = max(conditions.low, low)
    if sign in {"EQ", "LTE"}:
        conditions.high = min(conditions.high, high)
    if sign == "GT":
        conditions.low = max(conditions.low, high)
    if sign == "LT":
        conditions.high = min(conditions.high, low)


def _changed(table: Table, sign: str, moment: float) -> Keep:
    stamps = table.stamps
    if sign == "GTE":
        # By far the most frequent one: an incremental load asks for it on each page
        return lambda rows: [n for n in rows if stamps[n] >= moment]
    compare = _OPERATORS[sign]
    return lambda rows: [n for n in rows if compare(stamps[n], moment)]


def _compared(table: Table, column: str, sign: str, value: Any) -> Keep:
    compare = _OPERATORS[sign]
    text = isinstance(value, str)

    def keep(rows: Rows) -> list[int]:
        values = _comparable(table, column, rows)
        # As in SQL, null is neither equal nor unequal to anything; nor is what cannot be compared
        return [
            n
            for n, v in zip(rows, values, strict=True)
            if v is not None and isinstance(v, str) == text and compare(v, value)
        ]

    return keep


def _null(table: Table, column: str, *, wanted: bool) -> Keep:
    return lambda rows: [n for n, v in zip(rows, table.values(column, rows), strict=True) if (v is None) == wanted]


def _text(table: Table, column: str, entry: Arguments) -> Keep:
    # Sonar's database compares text without regard to case
    needle, match = str(entry["search_value"]).lower(), entry["match"]
    partial = entry.get("partial_matching", True)

    def keep(rows: Rows) -> list[int]:
        return [
            n
            for n, v in zip(rows, table.values(column, rows), strict=True)
            if v is not None and (needle in str(v).lower() if partial else needle == str(v).lower()) == match
        ]

    return keep


def _address(table: Table, column: str, entry: Arguments) -> Keep:
    try:
        wanted = ipaddress.ip_network(entry["search_value"], strict=False)
    except ValueError:
        raise GraphQLError(f"{entry['search_value']!r} is not an IP address or subnet.") from None

    def keep(rows: Rows) -> list[int]:
        return [
            n
            for n, v in zip(rows, table.values(column, rows), strict=True)
            if v is not None and ipaddress.ip_network(v, strict=False).overlaps(wanted) == entry["match"]
        ]

    return keep


def _in_polygon(table: Table, corners: Sequence[Arguments]) -> Keep:
    if "geopoint" not in table.entity.columns:
        raise GraphQLError(f"{table.name} has no geopoint to search by.")
    if len(corners) < 3:
        raise GraphQLError(f"A polygon needs at least 3 vertices, not {len(corners)}.")
    points = [(c["latitude"], c["longitude"]) for c in corners]

    def inside(text: str | None) -> bool:
        if text is None:
            return False
        y, x = map(float, text.split(","))
        crossings = 0
        for (y1, x1), (y2, x2) in zip(points, [*points[1:], points[0]], strict=True):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                crossings += 1
        return crossings % 2 == 1

    return lambda rows: [n for n, v in zip(rows, table.values("geopoint", rows), strict=True) if inside(v)]


def _general(world: World, table: Table, text: str, *, related: bool) -> Keep:
    needle = text.lower()
    texts = [name for name, kind in table.entity.columns.items() if kind in _TEXT]

    def keep(rows: Rows) -> list[int]:
        hits: set[int] = set()
        for column in texts:
            hits.update(
                n for n, v in zip(rows, table.values(column, rows), strict=True) if needle in str(v or "").lower()
            )
        if related:
            for relation, target in {**table.entity.one, **table.entity.many}.items():
                search = _general(world, world.tables[target], text, related=False)
                found = [related_rows(world, table, relation, [n])[0] for n in rows]
                passing = set(search(sorted({t for some in found for t in some})))
                hits.update(n for n, some in zip(rows, found, strict=True) if not passing.isdisjoint(some))
        return [n for n in rows if n in hits]

    return keep


def _by_relation(world: World, table: Table, filters: Sequence[Arguments], rules: Rules) -> Keep:
    groups: dict[str, list[Keep]] = {}
    for wanted in filters:
        group = wanted.get("group") or "1"
        groups.setdefault(group, []).append(_relation_keep(world, table, wanted, rules))

    def keep(rows: Rows) -> list[int]:
        hits: set[int] = set()
        for keeps in groups.values():
            left: Rows = rows
            for one in keeps:
                left = one(left)
            hits.update(left)
        return [n for n in rows if n in hits]

    return keep


def _relation_keep(world: World, table: Table, wanted: Arguments, rules: Rules) -> Keep:
    path = wanted["relation"].split(".")
    targets = [table]
    for relation in path:
        entity = targets[-1].entity
        name = entity.one.get(relation) or entity.many.get(relation)
        if name is None:
            raise GraphQLError(f"{entity.name} has no relation {relation}.")
        targets.append(world.tables[name])
    inner: dict[str, Any] = {name: wanted[name] for name in ("search", "general_search") if wanted.get(name)}
    selection = _compile(world, targets[-1], inner, rules)

    def keep(rows: Rows) -> list[int]:
        reached: list[Rows] = [[n] for n in rows]
        for table_there, relation in zip(targets, path, strict=False):
            reached = [
                sorted({t for some in related_rows(world, table_there, relation, here) for t in some})
                for here in reached
            ]
        passing = set(selection.of(sorted({t for some in reached for t in some})))
        empty = bool(wanted.get("is_empty"))
        return [n for n, some in zip(rows, reached, strict=True) if passing.isdisjoint(some) == empty]

    return keep


def related_rows(world: World, table: Table, relation: str, rows: Rows) -> list[Rows]:
    """For each row, where a relation leads: living rows, by id."""
    reverse = REVERSE.get((table.name, relation))
    if reverse is None:
        return [() if t == NEVER else (t,) for t in table.follow(relation, rows)]
    target, link = reverse
    if link != "groups":
        return world.tables[target].pointing(link, rows)
    return world.groups_of(rows) if table.name == "Account" else world.members_of(rows)


# --- values


def _check(table: Table, attribute: str, verb: str) -> None:
    if attribute not in table.entity.columns:
        raise GraphQLError(f"Cannot {verb} attribute {attribute}: {table.name} has no such attribute.")


def _comparable(table: Table, column: str, rows: Rows) -> list[Any]:
    """Values of a column as what they mean: ids as numbers, moments as seconds, coordinates as degrees."""
    if column == "id":
        return [table.ids[n] for n in rows]
    if column == "updated_at":
        return [table.stamps[n] for n in rows]
    meaning = _MEANINGS.get(table.entity.columns[column])
    values = table.values(column, rows)
    return values if meaning is None else [None if v is None else _as(meaning, v) for v in values]


def _as(meaning: Callable[[Any], Any], value: Any) -> Any:
    try:
        return meaning(value)
    except (ValueError, TypeError, GraphQLError):
        # A value that was broken on purpose
        return None


_MEANINGS: dict[str, Callable[[Any], Any]] = {
    "Int64Bit": int,
    "Int": int,
    "Float": float,
    "Datetime": parse_datetime,
    "Latitude": float,
    "Longitude": float,
    "Enum": str,
}
