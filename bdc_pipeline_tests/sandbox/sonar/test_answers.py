"""What comes over the wire: endpoint, token, scalars, errors, permissions."""

import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from graphql import build_client_schema, get_introspection_query

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.asking import ALL, BY_ID, ask, listed, send, small_sandbox

QUERY = {"query": "{ accounts { entities { id } } }"}


def test_only_post_is_served(shared: Sandbox) -> None:
    assert send(shared, b"", method="GET")[0] == 405


@pytest.mark.parametrize("token", [None, "", " "])
def test_without_a_token_nobody_comes_in(shared: Sandbox, token: str | None) -> None:
    status, headers, body = send(shared, QUERY, token=token)
    assert (status, headers["content-type"]) == (401, "application/json")
    assert json.loads(body) == {"errors": [{"message": "Unauthenticated."}]}


def test_a_token_may_be_prescribed() -> None:
    with small_sandbox(token="SYNTHETIC-TOKEN") as sandbox:
        assert send(sandbox, QUERY, token="another")[0] == 401
        assert send(sandbox, QUERY, token=sandbox.token)[0] == 200


def test_answers_carry_the_servers_time(shared: Sandbox) -> None:
    assert parsedate_to_datetime(send(shared, QUERY)[1]["date"]).year >= 2026


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b'{"variables": {}}', 400), (b'{"query": 3}', 400), (b'{"query": "{ accounts"}', 200)],
)
def test_a_body_that_is_no_query_is_refused(shared: Sandbox, body: bytes, status: int) -> None:
    answered, _, text = send(shared, body)
    answer = json.loads(text)
    assert answered == status
    assert answer["errors"][0]["message"]
    assert "data" not in answer


def test_an_unknown_path_is_not_found(shared: Sandbox) -> None:
    assert send(shared, QUERY, path="/sonar/api/v1/accounts")[0] == 404


def test_an_unknown_field_is_an_error_without_data(shared: Sandbox) -> None:
    assert ask(shared, "{ accounts { entities { id nmae } } }") == {
        "errors": [
            {"message": 'Cannot query field "nmae" on type "Account".', "locations": [{"line": 1, "column": 28}]}
        ]
    }


def test_mutations_are_refused(shared: Sandbox) -> None:
    assert "errors" in ask(shared, "mutation { delete }")


def test_a_variable_of_the_wrong_type_is_an_error(shared: Sandbox) -> None:
    answer = ask(shared, "query($p: Paginator) { accounts(paginator: $p) { entities { id } } }", p={"page": "x"})
    assert "data" not in answer
    assert "paginator" in answer["errors"][0]["message"].lower() or "page" in answer["errors"][0]["message"]


def test_ids_are_strings_on_the_wire_and_strings_or_numbers_in_arguments(shared: Sandbox) -> None:
    as_number = listed(shared, "accounts", "id: 1001", "id account_status_id parent_account_id")
    as_text = listed(shared, "accounts", 'id: "1001"', "id account_status_id parent_account_id")
    assert as_number == as_text
    assert as_number[0]["id"] == "1001"
    assert isinstance(as_number[0]["account_status_id"], str)


def test_several_lists_with_aliases_fit_one_request(shared: Sandbox) -> None:
    answer = ask(shared, "{ a: accounts { entities { n: id } } b: services { entities { id t: __typename } } }")
    assert set(answer["data"]) == {"a", "b"}
    assert answer["data"]["b"]["entities"][0]["t"] == "Service"
    assert set(answer["data"]["a"]["entities"][0]) == {"n"}


def test_a_missing_permission_is_null_and_a_sentence(own: Sandbox) -> None:
    own.configure(denied=["services"])
    answer = ask(own, "{ accounts { entities { id } } services { entities { id } } }")
    assert answer["data"]["services"] is None
    assert len(answer["data"]["accounts"]["entities"]) == 15
    assert answer["errors"] == [{"message": "You do not have permission to view services.", "path": ["services"]}]


def test_permission_may_be_missing_for_an_entity_wherever_it_is_met(own: Sandbox) -> None:
    own.configure(denied=["AccountGroup", "AccountStatus"])
    answer = ask(
        own,
        "{ accounts(paginator: {page: 1, records_per_page: 2}) { entities { id account_status { id }"
        " account_groups { entities { id } } } } account_groups { entities { id } } }",
    )
    assert answer["data"]["account_groups"] is None
    assert [e["account_groups"] for e in answer["data"]["accounts"]["entities"]] == [None, None]
    assert [e["account_status"] for e in answer["data"]["accounts"]["entities"]] == [None, None]
    assert ["accounts", "entities", 1, "account_groups"] in [error["path"] for error in answer["errors"]]
    assert ["accounts", "entities", 0, "account_status"] in [error["path"] for error in answer["errors"]]


def test_some_lists_cannot_tell_their_size(own: Sandbox) -> None:
    own.configure(no_page_info=["manufacturers"])
    answer = ask(own, "{ manufacturers { page_info { total_count } entities { id } } }")
    assert answer["data"]["manufacturers"] is None
    assert "aggregate" in answer["errors"][0]["message"]
    assert "does not exist" in answer["errors"][0]["message"]
    assert "errors" not in ask(own, "{ manufacturers { entities { id } } }")


def test_the_schema_describes_itself(shared: Sandbox) -> None:
    answer = ask(shared, get_introspection_query())
    schema = build_client_schema(answer["data"])
    assert schema.query_type is not None
    assert "include_archived" in schema.query_type.fields["accounts"].args
    assert "include_archived" not in schema.query_type.fields["services"].args
    both = ask(shared, '{ __typename __type(name: "Account") { name } services(id: 1) { entities { id } } }')
    assert both["data"] == {
        "__typename": "Query",
        "__type": {"name": "Account"},
        "services": {"entities": [{"id": "1"}]},
    }


def test_secrets_are_marked_and_reading_them_is_recorded(own: Sandbox) -> None:
    accounts = listed(
        own,
        "accounts",
        f"{ALL}, include_archived: true",
        "radius_accounts { entities { username password } } contacts { entities { password email_address } }",
    )
    radius = [r for a in accounts for r in a["radius_accounts"]["entities"]]
    assert radius
    assert all(value.startswith("SYNTHETIC-SECRET-") for r in radius for value in r.values())
    assert all(c["password"].startswith("SYNTHETIC-SECRET-") for a in accounts for c in a["contacts"]["entities"])
    assert "RadiusAccount.password" in own.stats()["selected"]


def test_keys_of_sims_are_marked(shared: Sandbox) -> None:
    found: set[tuple[str, bool]] = set()
    for item in listed(
        shared,
        "inventory_items",
        ALL,
        "inventory_model_field_data { entities { value inventory_model_field { type } } }",
    ):
        for data in item["inventory_model_field_data"]["entities"]:
            found.add((data["inventory_model_field"]["type"], "SYNTHETIC-SIM-KEY" in data["value"]))
    assert {("LTEAUTHKEY", True), ("OPOPC", True), ("MAC_ADDRESS", False), ("IMSI", False), ("TEXT", False)} == found


def test_times_come_in_more_than_one_offset(shared: Sandbox) -> None:
    offsets = {row["updated_at"][19:] for row in listed(shared, "accounts", ALL, "updated_at")}
    assert {"+00:00", "+04:00"} < offsets


def test_coordinates_come_as_text_number_zero_and_null(shared: Sandbox) -> None:
    kinds: set[Any] = {
        "0" if row["latitude"] == "0" else type(row["latitude"]) for row in listed(shared, "addresses", ALL, "latitude")
    }
    assert kinds == {str, float, "0", type(None)}


def test_an_account_with_many_groups_shows_only_some_unasked(shared: Sandbox) -> None:
    [account] = [
        a
        for a in listed(
            shared,
            "accounts",
            f"{ALL}, {BY_ID}",
            "account_groups { page_info { total_count records_per_page } entities { id } }",
        )
        if a["account_groups"]["page_info"]["total_count"] > 15
    ]
    assert account["account_groups"]["page_info"] == {"total_count": 40, "records_per_page": 15}
    assert len(account["account_groups"]["entities"]) == 15
