"""Paging, order and what is left out."""

from typing import Any

import pytest

from bdc_pipeline.sandbox import PagingChange, Sandbox
from bdc_pipeline_tests.sandbox.asking import ALL, BY_ID, CUSTOMERS, ask, listed, small_sandbox

PAGE = """query($p: Paginator, $o: [Sorter]) { accounts(paginator: $p, sorter: $o, include_archived: true) {
  page_info { page total_pages total_count records_per_page } entities { id } } }"""
IDS = [{"attribute": "id", "direction": "ASC"}]


def page(sandbox: Sandbox, number: int, records: int, order: Any = IDS) -> tuple[dict[str, int], list[int]]:
    answer = ask(sandbox, PAGE, p={"page": number, "records_per_page": records}, o=order)["data"]["accounts"]
    return answer["page_info"], [int(e["id"]) for e in answer["entities"]]


def test_without_a_paginator_only_a_small_first_page_comes(shared: Sandbox) -> None:
    info, ids = (answer := ask(shared, PAGE)["data"]["accounts"])["page_info"], answer["entities"]
    assert info == {"page": 1, "total_pages": 27, "total_count": CUSTOMERS, "records_per_page": 15}
    assert len(ids) == 15


def test_pages_hold_every_row_once(shared: Sandbox) -> None:
    pages = [page(shared, number, 70) for number in range(1, 7)]
    ids = [i for _, some in pages for i in some]
    assert ids == sorted(set(ids))
    assert len(ids) == CUSTOMERS
    assert pages[5][0] == {"page": 6, "total_pages": 6, "total_count": CUSTOMERS, "records_per_page": 70}
    assert page(shared, 7, 70)[1] == []


def test_an_empty_list_has_one_page(shared: Sandbox) -> None:
    answer = ask(shared, "{ accounts(id: 1) { page_info { page total_pages total_count } entities { id } } }")
    assert answer["data"]["accounts"] == {"page_info": {"page": 1, "total_pages": 1, "total_count": 0}, "entities": []}


@pytest.mark.parametrize("paginator", [{"page": 0, "records_per_page": 5}, {"page": 1, "records_per_page": 0}])
def test_a_page_that_cannot_be_is_an_error(shared: Sandbox, paginator: dict[str, int]) -> None:
    answer = ask(shared, PAGE, p=paginator)
    assert answer["data"]["accounts"] is None
    assert "must be 1 or more" in answer["errors"][0]["message"]


def test_the_server_may_give_less_than_asked_and_says_so(own: Sandbox) -> None:
    own.configure(page_cap=30)
    info, ids = page(own, 2, 10_000)
    assert info == {"page": 2, "total_pages": 14, "total_count": CUSTOMERS, "records_per_page": 30}
    assert len(ids) == 30


def test_nested_lists_take_the_same_arguments(shared: Sandbox) -> None:
    [account] = listed(
        shared,
        "accounts",
        'general_search: "Example", paginator: {page: 3, records_per_page: 1}, ' + BY_ID,
        f"""all: account_groups(paginator: {{page: 1, records_per_page: 100}}, sorter: [{{attribute: "id", direction: DESC}}]) {{
             page_info {{ total_count }} entities {{ id }} }}
           second: account_groups(paginator: {{page: 2, records_per_page: 7}}, {BY_ID}) {{ page_info {{ page total_pages }} entities {{ id }} }}
           one: account_groups(id: 3) {{ entities {{ id }} }}""",
    )
    every = [int(g["id"]) for g in account["all"]["entities"]]
    assert every == sorted(every, reverse=True)
    assert len(every) == account["all"]["page_info"]["total_count"] == 40
    assert [int(g["id"]) for g in account["second"]["entities"]] == sorted(every)[7:14]
    assert account["one"]["entities"] == [{"id": "3"}]


def test_nested_lists_hold_what_points_back(shared: Sandbox) -> None:
    for owner, field, root, column in [
        ("accounts", "addresses", "addresses", "addressable_id"),
        ("accounts", "account_services", "account_services", "account_id"),
        ("accounts", "child_accounts", "accounts", "parent_account_id"),
        ("inventory_items", "inventory_model_field_data", "inventory_model_field_data", "inventory_item_id"),
        ("account_services", "inventory_items", "inventory_items", "account_service_id"),
    ]:
        archived = ", include_archived: true" if owner == "accounts" else ""
        inner = f"({ALL}, include_archived: true)" if root == "accounts" else f"({ALL})"
        nested = {
            (parent["id"], child["id"])
            for parent in every_row(shared, owner, archived, f"id {field}{inner} {{ entities {{ id }} }}")
            for child in parent[field]["entities"]
        }
        more = "addressable_type" if root == "addresses" else ""
        flat = {
            (row[column], row["id"])
            for row in every_row(
                shared, root, ", include_archived: true" if root == "accounts" else "", f"id {column} {more}"
            )
            if row[column] is not None and row.get("addressable_type", "Account") == "Account"
        }
        assert nested == flat
        assert nested


def every_row(sandbox: Sandbox, root: str, arguments: str, fields: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(1, 100):
        some = listed(
            sandbox, root, f"paginator: {{page: {number}, records_per_page: 1000}}, {BY_ID}{arguments}", fields
        )
        rows += some
        if len(some) < 1000:
            break
    return rows


def test_archived_accounts_are_absent_unless_asked_for(shared: Sandbox) -> None:
    visible = listed(shared, "accounts", ALL, "id archived_at")
    everything = listed(shared, "accounts", f"{ALL}, include_archived: true", "id archived_at")
    assert all(row["archived_at"] is None for row in visible)
    archived = [row for row in everything if row["archived_at"] is not None]
    assert len(visible) + len(archived) == len(everything) == CUSTOMERS
    assert archived


def test_the_order_unasked_for_is_not_that_of_ids_but_steady(shared: Sandbox) -> None:
    _, first = page(shared, 1, 100, None)
    _, again = page(shared, 1, 100, None)
    assert first == again
    assert first != sorted(first)


@pytest.mark.parametrize("root", ["accounts", "inventory_items", "account_statuses"])
def test_lists_are_sorted_as_asked(shared: Sandbox, root: str) -> None:
    down = [int(row["id"]) for row in listed(shared, root, f'{ALL}, sorter: [{{attribute: "id", direction: DESC}}]')]
    assert down == sorted(down, reverse=True)
    names = listed(
        shared,
        "services",
        f'{ALL}, sorter: [{{attribute: "type", direction: DESC}}, {{attribute: "name", direction: ASC}}]',
        "type name",
    )
    by_name = sorted(names, key=lambda row: row["name"])
    assert names == sorted(by_name, key=lambda row: row["type"], reverse=True)


def test_sorting_by_an_unknown_attribute_is_an_error(shared: Sandbox) -> None:
    answer = ask(shared, PAGE, o=[{"attribute": "nmae", "direction": "ASC"}])
    assert answer["data"]["accounts"] is None
    assert "no such attribute" in answer["errors"][0]["message"]


def test_a_row_deleted_while_paging_opens_a_gap() -> None:
    with small_sandbox(paging_changes=(PagingChange(entity="Account", action="delete", every=1, times=1),)) as sandbox:
        before = page_ids(sandbox, sandbox.rows("Account", ["id"]))
        _, first = page(sandbox, 1, 100)
        _, second = page(sandbox, 2, 100)
        missed = set(before[:200]) - {*first, *second}
        assert missed == {before[100]}
        assert page(sandbox, 1, 1)[0]["total_count"] == CUSTOMERS - 1


def test_a_row_inserted_while_paging_comes_last() -> None:
    with small_sandbox(paging_changes=(PagingChange(entity="Account", action="insert", every=2),)) as sandbox:
        counts = [page(sandbox, 1, 1)[0]["total_count"] for _ in range(5)]
        assert counts == [CUSTOMERS, CUSTOMERS, CUSTOMERS + 1, CUSTOMERS + 1, CUSTOMERS + 2]
        assert page(sandbox, 1, CUSTOMERS)[1] == sorted(page(sandbox, 1, CUSTOMERS)[1])


def test_a_row_touched_while_paging_lets_a_neighbour_slip_when_sorted_by_time() -> None:
    by_time = [{"attribute": "updated_at", "direction": "ASC"}]
    with small_sandbox() as sandbox:
        everything = page_ids(sandbox, sandbox.rows("Account", ["id"]))
        _, first = page(sandbox, 1, 100, by_time)
        sandbox.touch("Account", [first[0]])
        _, second = page(sandbox, 2, 100, by_time)
        assert len(set(everything) - {*first, *second}) == CUSTOMERS - 200
        slipped = page(sandbox, 1, 100, by_time)[1][-1]
        assert slipped not in {*first, *second}


def page_ids(_sandbox: Sandbox, rows: list[list[Any]]) -> list[int]:
    return [int(row[0]) for row in rows]


def test_aggregations_cover_all_pages(shared: Sandbox) -> None:
    answer = ask(
        shared,
        """{ services(paginator: {page: 1, records_per_page: 1}, aggregation: [
          {field_name: "amount", aggregation_function: MAX}, {field_name: "id", aggregation_function: COUNT}]) {
          aggregations { field_name value } entities { id } } }""",
    )
    assert answer["data"]["services"]["aggregations"] == [
        {"field_name": "amount", "value": "19900"},
        {"field_name": "id", "value": "30"},
    ]
