"""What happens to the data between two runs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.asking import ALL, ask, listed, small_sandbox

FUTURE = "2030-01-01T00:00:00+00:00"
SINCE = 'search: [{datetime_fields: [{attribute: "updated_at", operator: GTE, search_value: "%s"}]}]'


def changed_since(sandbox: Sandbox, root: str, moment: str, more: str = "") -> list[str]:
    return sorted(row["id"] for row in listed(sandbox, root, f"{ALL}, {SINCE % moment}{more}"))


def test_a_share_of_the_rows_changes_and_says_so(own: Sandbox) -> None:
    columns = ["id", "name", "account_status_id", "_version", "updated_at"]
    before = {row[0]: row for row in own.rows("Account", columns)}
    done = own.change(0.05, ["Account", "InventoryItem"], seed=3)
    assert done == {"Account": 20, "InventoryItem": 60}
    after = {row[0]: row for row in own.rows("Account", columns)}
    changed = {i for i in before if before[i] != after[i]}
    assert len(changed) == 20
    for i in changed:
        assert before[i][1] != after[i][1]
        assert int(after[i][3]) == int(before[i][3]) + 1
        assert abs(datetime.fromisoformat(after[i][4]) - datetime.now(UTC)).total_seconds() < 600
    recent = changed_since(own, "accounts", "2026-01-01T00:00:00Z", ", include_archived: true")
    assert recent == sorted(changed)


def test_a_change_without_entities_touches_all_large_ones(own: Sandbox) -> None:
    done = own.change(0.1, at=FUTURE)
    assert (
        min(done[name] for name in ("Account", "Address", "AccountService", "InventoryModelFieldData", "Service")) > 0
    )
    for root in ("addresses", "account_services", "services"):
        assert changed_since(own, root, FUTURE)


def test_the_same_change_happens_twice_in_two_sandboxes() -> None:
    columns = ["id", "name", "updated_at", "_version"]
    found = []
    for _ in range(2):
        with small_sandbox() as sandbox:
            sandbox.change(0.2, at=FUTURE)
            sandbox.delete("Account", share=0.1, seed=5)
            sandbox.insert(3, at=FUTURE)
            found.append((sandbox.rows("Account", columns), sandbox.rows("Address", ["id", "line1"])))
    assert found[0] == found[1]


def test_a_new_customer_comes_with_all_that_belongs_to_it(own: Sandbox) -> None:
    made = own.insert(2, name="Example Newcomer")
    assert [len(ids) for ids in made.values()] == [2] * 6
    [account] = listed(
        own,
        "accounts",
        f"id: {made['Account'][0]}",
        """name updated_at account_status { id } account_services { entities { id service { type } } }
        addresses { entities { id type serviceable inventory_items { entities { id inventory_model_field_data {
          entities { value inventory_model_field { type } } } account_service { account { id } } } } } }
        serviceable_address_account_assignment_histories { entities { end_date address_id } }""",
    )
    [address] = account["addresses"]["entities"]
    [item] = address["inventory_items"]["entities"]
    assert account["name"] == "Example Newcomer"
    assert address["serviceable"] is True
    assert item["account_service"]["account"]["id"] == str(made["Account"][0])
    assert item["inventory_model_field_data"]["entities"][0]["inventory_model_field"]["type"] == "MAC_ADDRESS"
    assert account["serviceable_address_account_assignment_histories"]["entities"] == [
        {"end_date": None, "address_id": address["id"]}
    ]
    assert account["account_services"]["entities"][0]["service"]["type"] == "DATA"


@pytest.mark.parametrize(
    "entity", ["Account", "Service", "AccountGroup", "InventoryItem", "Manufacturer", "DataServiceDetail"]
)
def test_a_single_row_can_be_added_to_any_entity(own: Sandbox, entity: str) -> None:
    before = own.rows(entity, ["id"])
    [identifier] = own.insert(1, entity)[entity]
    after = own.rows(entity, ["id"])
    assert after == [*before, [str(identifier)]]


def test_what_is_deleted_is_gone_and_what_pointed_to_it_stays(own: Sandbox) -> None:
    [service] = listed(own, "account_services", "paginator: {page: 1, records_per_page: 1}", "id account_id")
    assert own.delete("Account", [int(service["account_id"])]) == [int(service["account_id"])]
    assert listed(own, "accounts", f"id: {service['account_id']}, include_archived: true") == []
    [left] = listed(own, "account_services", f"id: {service['id']}", "account_id account { id }")
    assert left == {"account_id": service["account_id"], "account": None}
    assert changed_since(own, "accounts", "2026-01-01T00:00:00Z", ", include_archived: true") == []
    with pytest.raises(ValueError, match="no Account with the id"):
        own.delete("Account", [int(service["account_id"])])


def test_an_archived_account_disappears_and_can_come_back(own: Sandbox) -> None:
    [account] = listed(own, "accounts", "paginator: {page: 1, records_per_page: 1}")
    identifier = int(account["id"])
    own.archive([identifier])
    assert listed(own, "accounts", f"id: {identifier}") == []
    [found] = listed(own, "accounts", f"id: {identifier}, include_archived: true", "archived_at updated_at")
    assert found["archived_at"] == found["updated_at"]
    own.update("Account", identifier, archived_at=None)
    assert listed(own, "accounts", f"id: {identifier}", "archived_at") == [{"archived_at": None}]


def test_touching_moves_only_the_time(own: Sandbox) -> None:
    before = own.rows("Address", ["id", "line1", "latitude", "zip"])
    touched = own.touch("Address", share=0.1, at=FUTURE)
    assert own.rows("Address", ["id", "line1", "latitude", "zip"]) == before
    assert changed_since(own, "addresses", FUTURE) == sorted(map(str, touched))


@pytest.mark.parametrize(
    ("root", "entity", "column", "value"),
    [
        ("accounts", "Account", "name", None),
        ("account_services", "AccountService", "quantity", "abc"),
        ("addresses", "Address", "latitude", [1, 2]),
        ("inventory_items", "InventoryItem", "status", "EXPLODED"),
        ("accounts", "Account", "updated_at", "yesterday"),
    ],
)
def test_broken_values_are_served_as_they_are(own: Sandbox, root: str, entity: str, column: str, value: Any) -> None:
    identifier = int(own.rows(entity, ["id"])[0][0])
    own.update(entity, identifier, **{column: value})
    archived = ", include_archived: true" if root == "accounts" else ""
    assert listed(own, root, f"id: {identifier}{archived}", column) == [{column: value}]
    assert "errors" not in ask(
        own, f'{{ {root}(sorter: [{{attribute: "{column}", direction: ASC}}]) {{ entities {{ id }} }} }}'
    )


def test_a_changed_link_is_followed_from_both_sides(own: Sandbox) -> None:
    [first, second] = [int(row["id"]) for row in listed(own, "accounts", "paginator: {page: 1, records_per_page: 2}")]
    [service] = own.insert(1, "AccountService")["AccountService"]
    for owner, other in ((first, second), (second, first)):
        own.update("AccountService", service, account_id=str(owner))
        assert str(service) in nested(own, "accounts", owner, "account_services")
        assert str(service) not in nested(own, "accounts", other, "account_services")
    own.update("AccountService", service, account_id="999999999")
    assert str(service) not in nested(own, "accounts", second, "account_services")
    assert listed(own, "account_services", f"id: {service}", "account_id account { id }") == [
        {"account_id": "999999999", "account": None}
    ]


def test_an_item_moves_to_a_truck_and_back(own: Sandbox) -> None:
    [item] = listed(
        own,
        "inventory_items",
        "inventoryitemable_type: Address, paginator: {page: 1, records_per_page: 1}",
        "id inventoryitemable_id",
    )
    identifier, address = int(item["id"]), int(item["inventoryitemable_id"])
    own.update("InventoryItem", identifier, inventoryitemable_type="Vehicle", inventoryitemable_id="3")
    assert item["id"] not in nested(own, "addresses", address, "inventory_items")
    own.update("InventoryItem", identifier, inventoryitemable_type="Address", inventoryitemable_id=str(address))
    assert item["id"] in nested(own, "addresses", address, "inventory_items")


def test_groups_of_an_account_can_be_set(own: Sandbox) -> None:
    own.update("Account", 1001, account_groups=[7, 3])
    assert nested(own, "accounts", 1001, "account_groups") == ["3", "7"]
    assert "1001" in nested(own, "account_groups", 7, "accounts")


def nested(sandbox: Sandbox, root: str, identifier: int, field: str) -> list[str]:
    archived = ", include_archived: true" if root == "accounts" else ""
    inner = f'{ALL}, sorter: [{{attribute: "id", direction: ASC}}]'
    inner += ", include_archived: true" if field == "accounts" else ""
    [row] = listed(sandbox, root, f"id: {identifier}{archived}", f"{field}({inner}) {{ entities {{ id }} }}")
    return [child["id"] for child in row[field]["entities"]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda s: s.update("Nothing", 1, name="x"), "no entity 'Nothing'"),
        (lambda s: s.update("Account", 1001, nmae="x"), "no column 'nmae'"),
        (lambda s: s.update("Account", 3, name="x"), "no Account with the id 3"),
        (lambda s: s.delete("Account"), "by their ids or by a share"),
        (lambda s: s.touch("Account", share=2.0), "between 0 and 1"),
        (lambda s: s.touch("Account", [1001], at="soon"), "must be ISO 8601"),
        (lambda s: s.rows("Account", ["oops"]), "no column oops"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_with_a_sentence(shared: Sandbox, call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call(shared)
