"""Which rows a search finds, against a search through all rows by hand."""

import operator
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline.sandbox.sonar.generate import build
from bdc_pipeline.sandbox.sonar.select import Rules, find_all
from bdc_pipeline_tests.sandbox.asking import ALL, BY_ID, ask, listed

SEARCH = """query($s: [Search]) { accounts(search: $s, paginator: {page: 1, records_per_page: 1000}, include_archived: true,
  sorter: [{attribute: "id", direction: ASC}]) { page_info { total_count } entities { id name updated_at account_status_id
  is_delinquent parent_account_id data_usage_percentage next_bill_date geopoint } } }"""
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": operator.eq,
    "NEQ": operator.ne,
    "GT": operator.gt,
    "GTE": operator.ge,
    "LT": operator.lt,
    "LTE": operator.le,
}


def search(sandbox: Sandbox, *searches: dict[str, Any]) -> list[dict[str, Any]]:
    answer = ask(sandbox, SEARCH, s=list(searches))
    assert "errors" not in answer, answer
    found: list[dict[str, Any]] = answer["data"]["accounts"]["entities"]
    assert answer["data"]["accounts"]["page_info"]["total_count"] == len(found)
    return found


def integers(attribute: str, sign: str, value: int | str) -> dict[str, Any]:
    return {"attribute": attribute, "operator": sign, "search_value": value}


@pytest.mark.parametrize("sign", OPERATORS)
def test_integer_fields(shared: Sandbox, sign: str) -> None:
    everything = search(shared)
    for attribute, value in [("id", 1100), ("account_status_id", 3), ("data_usage_percentage", 50)]:
        found = search(shared, {"integer_fields": [integers(attribute, sign, value)]})
        assert found == [
            row for row in everything if row[attribute] is not None and OPERATORS[sign](int(row[attribute]), value)
        ]
    assert search(shared, {"integer_fields": [integers("id", sign, "1100")]}) == search(
        shared, {"integer_fields": [integers("id", sign, 1100)]}
    )


@pytest.mark.parametrize(
    "moment", ["2025-06-01T00:00:00+00:00", "2025-06-01T04:00:00+04:00", "2025-05-31T19:00:00-05:00"]
)
@pytest.mark.parametrize("sign", ["GTE", "LT"])
def test_times_are_compared_in_utc_whatever_their_offset(shared: Sandbox, moment: str, sign: str) -> None:
    found = search(shared, {"datetime_fields": [integers("updated_at", sign, moment)]})
    border = datetime.fromisoformat(moment)
    assert found == [r for r in search(shared) if OPERATORS[sign](datetime.fromisoformat(r["updated_at"]), border)]
    assert 0 < len(found) < 400


def test_conditions_of_one_search_are_anded_and_searches_are_ored(shared: Sandbox) -> None:
    low, high = integers("id", "GTE", 1100), integers("id", "LT", 1110)
    both = search(shared, {"integer_fields": [low, high]})
    assert {int(row["id"]) for row in both} <= set(range(1100, 1110))
    assert both
    either = search(shared, {"integer_fields": [integers("id", "LT", 1010)]}, {"integer_fields": [low, high]})
    assert {int(row["id"]) for row in either} <= {*range(1001, 1010), *range(1100, 1110)}
    assert len(either) > len(both)
    crossed = search(
        shared, {"integer_fields": [low], "boolean_fields": [{"attribute": "is_delinquent", "search_value": True}]}
    )
    assert crossed == [row for row in search(shared) if int(row["id"]) >= 1100 and row["is_delinquent"]]


def test_two_equalities_in_one_search_match_nothing(shared: Sandbox) -> None:
    one, two = integers("id", "EQ", 1001), integers("id", "EQ", 1002)
    assert search(shared, {"integer_fields": [one, two]}) == []
    assert len(search(shared, {"integer_fields": [one]}, {"integer_fields": [two]})) == 2


def test_text_matches_in_part_unless_told_otherwise(shared: Sandbox) -> None:
    name = search(shared)[0]["name"]
    part = {"attribute": "name", "search_value": name[3:-1].upper(), "match": True}
    assert name in [row["name"] for row in search(shared, {"string_fields": [part]})]
    assert search(shared, {"string_fields": [{**part, "partial_matching": False}]}) == []
    whole = {**part, "search_value": name, "partial_matching": False}
    assert [row["name"] for row in search(shared, {"string_fields": [whole]})] == [name]
    others = search(shared, {"string_fields": [{**whole, "match": False}]})
    assert len(others) == len(search(shared)) - 1


def test_null_and_not_null(shared: Sandbox) -> None:
    unset = search(shared, {"unset_fields": ["parent_account_id"]})
    exists = search(shared, {"exists": ["parent_account_id"]})
    assert all(row["parent_account_id"] is None for row in unset)
    assert all(row["parent_account_id"] is not None for row in exists)
    assert exists
    assert len(unset) + len(exists) == 400


def test_dates_booleans_and_polygons(shared: Sandbox) -> None:
    early = search(shared, {"date_fields": [integers("next_bill_date", "LTE", "2026-01-10")]})
    assert early == [row for row in search(shared) if row["next_bill_date"] <= "2026-01-10"]
    calm = search(shared, {"boolean_fields": [{"attribute": "is_delinquent", "search_value": True, "operator": "NEQ"}]})
    assert calm == [row for row in search(shared) if not row["is_delinquent"]]
    corners = [(32, -97), (32, -96), (32.5, -96), (32.5, -97)]
    inside = search(shared, {"geopoint_fields": [{"latitude": y, "longitude": x} for y, x in corners]})
    assert inside == [row for row in search(shared) if row["geopoint"] and float(row["geopoint"].split(",")[0]) < 32.5]


def test_equality_arguments(shared: Sandbox) -> None:
    found = listed(
        shared, "accounts", f"{ALL}, {BY_ID}, account_status_id: 3, include_archived: true", "id account_status_id"
    )
    assert [row["id"] for row in found] == [row["id"] for row in search(shared) if row["account_status_id"] == "3"]
    typed = listed(shared, "addresses", f"{ALL}, type: MAILING, serviceable: false", "type serviceable")
    assert typed
    assert {(row["type"], row["serviceable"]) for row in typed} == {("MAILING", False)}


def test_general_search_looks_at_all_text(shared: Sandbox) -> None:
    found = listed(shared, "addresses", f'{ALL}, general_search: "sampleton"', "city")
    assert {row["city"] for row in found} == {"Sampleton"}
    by_relation = listed(
        shared,
        "account_services",
        f'{ALL}, general_search: "Fiber 500", general_search_mode: ROOT_PLUS_RELATIONS',
        "service { name }",
    )
    assert {row["service"]["name"] for row in by_relation} == {"Fiber 500"}


def test_reverse_relation_filters(shared: Sandbox) -> None:
    def accounts(filters: str) -> set[str]:
        arguments = f"{ALL}, include_archived: true, reverse_relation_filters: [{filters}]"
        return {row["id"] for row in listed(shared, "accounts", arguments)}

    fiber = 'search: [{string_fields: [{attribute: "name", search_value: "Fiber", match: true}]}]'
    with_fiber = accounts(f'{{relation: "account_services.service", {fiber}}}')
    rows = listed(shared, "account_services", ALL, "account_id service { name }")
    assert with_fiber == {row["account_id"] for row in rows if "Fiber" in row["service"]["name"]}
    without = accounts(f'{{relation: "account_services.service", {fiber}, is_empty: true}}')
    assert without.isdisjoint(with_fiber)
    assert len(without) + len(with_fiber) == 400
    mail = (
        '{relation: "addresses", search: [{string_fields: [{attribute: "type", search_value: "MAILING", match: true}]}]'
    )
    both = accounts(f'{{relation: "account_services.service", {fiber}}}, {mail}}}')
    either = accounts(f'{{relation: "account_services.service", {fiber}}}, {mail}, group: "2"}}')
    assert both < with_fiber < either


@pytest.mark.parametrize("attribute", ["id", "account_status_id"])
def test_searching_by_id_may_be_ignored_or_refused(own: Sandbox, attribute: str) -> None:
    condition = {"integer_fields": [integers(attribute, "EQ", 1)]}
    own.configure(id_filter="ignored")
    assert len(search(own, condition)) == 400
    own.configure(id_filter="refused")
    answer = ask(own, SEARCH, s=[condition])
    assert answer["errors"][0]["message"] == f"Cannot search by attribute {attribute}."
    assert answer["data"]["accounts"] is None
    assert len(listed(own, "accounts", "id: 1001, include_archived: true")) == 1
    since = {"datetime_fields": [integers("updated_at", "GTE", "2025-06-01T00:00:00Z")]}
    assert 0 < len(search(own, since)) < 400


def test_searching_by_an_unknown_attribute_is_an_error(shared: Sandbox) -> None:
    answer = ask(shared, SEARCH, s=[{"integer_fields": [integers("idd", "EQ", 1)]}])
    assert answer["errors"][0]["path"] == ["accounts"]
    assert "no such attribute" in answer["errors"][0]["message"]


WORLD = build(customers=60, seed=3, ids="sparse")
ITEMS = WORLD.tables["InventoryItem"]
FACTS = [
    {"id": i, "updated_at": stamp, "inventory_model_id": int(model)}
    for i, stamp, model in zip(
        ITEMS.ids, ITEMS.stamps, ITEMS.values("inventory_model_id", range(len(ITEMS))), strict=True
    )
]
conditions = st.tuples(
    st.sampled_from(["id", "updated_at", "inventory_model_id"]),
    st.sampled_from(list(OPERATORS)),
    st.sampled_from(FACTS),
    st.integers(-1, 1),
)


@given(st.lists(st.lists(conditions, min_size=1, max_size=3), max_size=3), st.booleans())
def test_any_search_finds_what_looking_at_each_row_finds(
    searches: list[list[tuple[str, str, dict[str, int], int]]], by_id: bool
) -> None:
    def entry(attribute: str, sign: str, fact: dict[str, int], step: int) -> tuple[str, dict[str, Any]]:
        value: Any = fact[attribute] + step
        kind = "integer_fields"
        if attribute == "updated_at":
            kind, value = "datetime_fields", datetime.fromtimestamp(value).astimezone().isoformat()
        return kind, integers(attribute, sign, value)

    wanted: list[dict[str, Any]] = []
    for one in searches:
        search_object: dict[str, Any] = {}
        for condition in one:
            kind, made = entry(*condition)
            search_object.setdefault(kind, []).append(made)
        wanted.append(search_object)
    arguments: dict[str, Any] = {"search": wanted}
    if by_id:
        arguments["sorter"] = [{"attribute": "id", "direction": "ASC"}]
    found = find_all(WORLD, ITEMS, arguments, Rules())
    expected = [
        n
        for n, row in enumerate(FACTS)
        if not searches
        or any(all(OPERATORS[sign](row[name], fact[name] + step) for name, sign, fact, step in one) for one in searches)
    ]
    assert (list(found) if by_id else sorted(found)) == expected
