"""What each kind of answer means: rows, a reject, another attempt, or an end with a sentence."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable

import msgspec
import pytest

from bdc_pipeline.fetching.answers import BadAnswer, FetchError, Refused, Throttled, Unauthorized
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import COUNTS_A_REQUEST, Page, SonarClient, page_query, read_page, trouble_of
from bdc_pipeline.sources.sonar.entities import FieldKinds
from bdc_pipeline_tests.fetching.loopback import Reply, Server, reply
from bdc_pipeline_tests.sandbox.asking import small_sandbox
from bdc_pipeline_tests.sources.sonar.payloads import (
    HTML,
    SECRET,
    account,
    address,
    connection,
    data,
    errors,
    field_data,
)
from bdc_pipeline_tests.sources.sonar.syncing import TOKEN

Serve = Callable[..., Server]
ClientOf = Callable[..., SonarClient]

KINDS = FieldKinds({21: "MAC_ADDRESS", 22: "TEXT"}, secret=(23,))


def read(entity: e.Entity, *records: object, kinds: FieldKinds = KINDS) -> Page:
    return read_page(msgspec.Raw(json.dumps(connection(list(records))).encode()), entity, kinds)


# -- failures --------------------------------------------------------------------------------------------------

PARTIAL = errors("You do not have permission to view accounts.", data={"accounts": None, "services": connection([])})


@pytest.mark.parametrize(
    ("answer", "kind", "sentence", "requests"),
    [
        (
            errors('Cannot query field "nmae" on type "Account".'),
            Refused,
            "This Sonar's schema differs from the one that 'accounts' is asked by: Cannot query field \"nmae\"",
            1,
        ),
        (
            PARTIAL,
            Refused,
            "The token's user lacks a permission for 'accounts': You do not have permission to view accounts. Give the",
            1,
        ),
        (errors("This action is unauthorized."), Refused, "lacks a permission for 'accounts'", 1),
        (errors("You are not authorized to access accounts."), Refused, "lacks a permission for 'accounts'", 1),
        (errors("Cannot search by attribute id."), Refused, "'accounts' cannot be searched so: Cannot search by", 1),
        (
            errors("Unauthenticated."),
            Unauthorized,
            "Sonar does not accept the token: Unauthenticated. Check SONAR_TOKEN.",
            1,
        ),
        (errors("Unauthorized"), Unauthorized, "Sonar does not accept the token", 1),
        (reply(b"{}", 401), Unauthorized, "Check that the token is right and has not expired", 1),
        (reply(b"no such page", 404), Refused, "answered 404", 1),
        (
            errors("Too many requests, slow down.", data=None),
            Throttled,
            "after 2 attempts: Sonar asks to slow down: Too many requests, slow down.",
            2,
        ),
        (errors("Rate limit exceeded"), Throttled, "Sonar asks to slow down", 2),
        (errors("Internal server error", data=None), BadAnswer, "'accounts' was answered with an error: Internal", 2),
        (errors(), BadAnswer, "'accounts' was answered without data", 2),
        (data(accounts=None), BadAnswer, "'accounts' was answered with null for 'accounts'", 2),
        (data(), BadAnswer, "An answer lacks a list that was asked for", 1),
        (data(accounts={"page_info": None}), BadAnswer, "An answer is not shaped like a list", 1),
        (data(accounts={"entities": None}), BadAnswer, "An answer is not shaped like a list", 1),
        (data(accounts=connection([None])), BadAnswer, "answered with null among its records", 1),
        (reply(b"[]"), BadAnswer, "is no GraphQL answer", 2),
        (reply(b'{"data": {"accounts'), BadAnswer, "is no GraphQL answer", 2),
        (reply(b""), BadAnswer, "'accounts' was answered with nothing", 2),
        (reply(b" \n"), BadAnswer, "'accounts' was answered with nothing", 2),
        (
            reply(HTML, Content_Type="text/html; charset=UTF-8"),
            BadAnswer,
            "no GraphQL answer (text/html; JSON is malformed",
            2,
        ),
        (reply(HTML, Content_Type="text/html"), BadAnswer, "It begins: <!DOCTYPE html> <html><head><title>Please", 2),
        (reply(b"broken", 500), BadAnswer, "answered 500", 2),
        (reply(b"busy", 503), BadAnswer, "answered 503", 2),
        (reply(b"busy", 429), Throttled, "answered 429", 2),
    ],
)
def test_an_answer_without_records_is_an_error_that_says_why(
    serve: Serve, client_of: ClientOf, answer: Reply, kind: type[FetchError], sentence: str, requests: int
) -> None:
    server = serve(answer)
    with pytest.raises(FetchError) as caught:
        client_of(server.url).page(e.ACCOUNTS, {}, 1, 100)
    assert type(caught.value) is kind
    assert sentence in str(caught.value)
    assert len(server.requests) == requests
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [errors("Internal server error"), reply(HTML), reply(b""), data(accounts=None), reply(b"x", 502)]
)
def test_an_answer_that_may_go_better_is_asked_for_again(serve: Serve, client_of: ClientOf, answer: Reply) -> None:
    client = client_of(serve(answer, data(accounts=connection([account()]))).url)
    page = client.page(e.ACCOUNTS, {}, 1, 100)
    assert [row.id for row in page.rows] == [1001]
    assert (client.effort().requests, client.effort().retries) == (2, 1)


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        (["Something", "Too many requests"], Throttled),
        (["HTTP 429"], Throttled),
        (["There are 4290 of them"], BadAnswer),
        (["The token has expired"], Unauthorized),
        (["Forbidden"], Refused),
        (["Access denied for addresses"], Refused),
        ([], BadAnswer),
    ],
)
def test_the_words_of_an_error_decide(messages: list[str], kind: type[FetchError]) -> None:
    assert type(trouble_of(messages, "addresses")) is kind


def test_a_token_that_the_server_shows_back_is_hidden(serve: Serve, client_of: ClientOf) -> None:
    server = serve(errors(f"Token {TOKEN} has no permission"))
    with pytest.raises(Refused) as caught:
        client_of(server.url).page(e.ACCOUNTS, {}, 1, 100)
    assert "Token *** has no permission" in str(caught.value)
    assert TOKEN not in repr(caught.value)


# -- requests --------------------------------------------------------------------------------------------------


def test_a_request_carries_token_page_filter_and_order(serve: Serve, client_of: ClientOf) -> None:
    server = serve(data(addresses=connection([])))
    search = e.ADDRESSES.search(between=(1000, 1999), since="2025-06-01T00:00:00+00:00")
    client_of(server.url).page(e.ADDRESSES, search, 3, 50)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/api/graphql")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    body = json.loads(request.body)
    assert body["query"] == page_query(e.ADDRESSES)
    assert body["variables"] == {
        "p": {"page": 3, "records_per_page": 50},
        "o": [{"attribute": "id", "direction": "ASC"}],
        "s": [
            {
                "string_fields": [
                    {
                        "attribute": "addressable_type",
                        "search_value": "Account",
                        "match": True,
                        "partial_matching": False,
                    }
                ],
                "integer_fields": [
                    {"attribute": "addressable_id", "operator": "GTE", "search_value": "1000"},
                    {"attribute": "addressable_id", "operator": "LTE", "search_value": "1999"},
                ],
                "datetime_fields": [
                    {"attribute": "updated_at", "operator": "GTE", "search_value": "2025-06-01T00:00:00+00:00"}
                ],
            }
        ],
    }


def test_a_list_that_cannot_be_counted_is_asked_for_without_its_count_from_then_on(client_of: ClientOf) -> None:
    with small_sandbox(customers=60, no_page_info=frozenset({"addresses"})) as sandbox:
        client = client_of(sandbox.sonar_url)
        first = client.page(e.ADDRESSES, e.ADDRESSES.search(), 1, 20)
        asked = client.effort().requests
        second = client.page(e.ADDRESSES, e.ADDRESSES.search(), 2, 20)
        assert first.info is None
        assert (len(first.ids), len(second.ids)) == (20, 20)
        assert not set(first.ids) & set(second.ids)
        assert asked == 2
        assert client.effort().requests == 3
        assert client.page(e.ACCOUNTS, {}, 1, 20).info is not None, "other lists are still counted"


@pytest.mark.parametrize(("page_cap", "groups"), [(1000, 40), (17, 40), (1000, 64), (30, 64)])
def test_all_groups_of_an_account_come_however_many_a_nested_list_brings(
    client_of: ClientOf, page_cap: int, groups: int
) -> None:
    with small_sandbox(customers=20, page_cap=page_cap) as sandbox:
        client = client_of(sandbox.sonar_url)
        sandbox.insert(20, "AccountGroup")
        sandbox.update("Account", 1001, account_groups=list(range(1, groups + 1)))
        page = client.page(e.ACCOUNTS, e.ACCOUNTS.search(between=(1001, 1001)), 1, 10)
        assert sorted((pair.customer_id, pair.group_id) for pair in page.groups) == [
            (1001, number) for number in range(1, groups + 1)
        ]
        assert page.group_totals == {1001: groups}


def test_counts_of_many_lists_come_in_one_request(client_of: ClientOf) -> None:
    with small_sandbox(customers=60) as sandbox:
        client = client_of(sandbox.sonar_url)
        asked = [(e.ACCOUNTS, e.ACCOUNTS.search(between=(low, low + 4))) for low in range(1001, 1001 + 5 * 20, 5)]
        asked += [(e.ADDRESSES, e.ADDRESSES.search()), (e.ACCOUNTS, e.ACCOUNTS.search()), (e.SERVICES, {})]
        assert len(asked) <= COUNTS_A_REQUEST
        counts = client.counts(asked)
        assert client.effort().requests == 1
        assert sum(counts[:20]) == counts[21] == 60, "archived accounts are counted too"
        own = [kind for (kind,) in sandbox.rows("Address", ["addressable_type"]) if kind == "Account"]
        assert counts[20] == len(own)
        assert counts[22] == 30


def test_the_extent_and_the_nth_id(client_of: ClientOf) -> None:
    with small_sandbox(customers=60) as sandbox:
        client = client_of(sandbox.sonar_url)
        numbers = sorted(int(number) for (number,) in sandbox.rows("Account", ["id"]))
        assert client.extent(e.ACCOUNTS) == (60, numbers[-1])
        assert [client.nth_id(e.ACCOUNTS, n) for n in (1, 10, 60, 61, 1000)] == [
            *(numbers[n - 1] for n in (1, 10, 60)),
            None,
            None,
        ]
        sandbox.configure(no_page_info=["accounts"])
        client._uncounted.clear()
        assert [client.nth_id(e.ACCOUNTS, n) for n in (1, 10, 60, 61)] == [*(numbers[n - 1] for n in (1, 10, 60)), None]
        assert client.extent(e.ACCOUNTS) == (None, numbers[-1])


@pytest.mark.parametrize(
    ("entity", "name", "column"),
    [
        (e.ADDRESSES, "Address", "addressable_id"),
        (e.ACCOUNT_SERVICES, "AccountService", "account_id"),
        (e.FIELD_DATA, "InventoryModelFieldData", "inventory_item_id"),
    ],
)
def test_the_extent_ends_with_the_highest_owner(client_of: ClientOf, entity: e.Entity, name: str, column: str) -> None:
    with small_sandbox(customers=60) as sandbox:
        columns = [column, "addressable_type"] if entity is e.ADDRESSES else [column]
        rows = [row for row in sandbox.rows(name, columns) if row[1:] in ([], ["Account"])]
        total, highest = client_of(sandbox.sonar_url).extent(entity)
        owner = max(int(row[0]) for row in rows)
        assert total == len(rows)
        # of a record that becomes no row, all that is known is its block
        assert highest in {owner, owner // 1000 * 1000 + 999}


def test_the_extent_of_a_record_that_cannot_be_read_is_its_block(serve: Serve, client_of: ClientOf) -> None:
    server = serve(data(addresses=connection([address(1, 4711, latitude="far")], 9)))
    assert client_of(server.url).extent(e.ADDRESSES) == (9, 4999)


@pytest.mark.parametrize(("times", "found"), [(1, True), (2, False)])
@pytest.mark.parametrize("counted", [True, False])
def test_an_empty_list_is_asked_for_twice_before_it_is_believed(
    client_of: ClientOf, times: int, found: bool, counted: bool
) -> None:
    with small_sandbox(customers=60, no_page_info=frozenset() if counted else frozenset({"accounts"})) as sandbox:
        client = client_of(sandbox.sonar_url)
        client.page(e.ACCOUNTS, {}, 1, 1)
        known = client.extent(e.ACCOUNTS)
        sandbox.configure(faults=[f"shrunken~times={times}"])
        assert client.extent(e.ACCOUNTS) == (known if found else (0 if counted else None, -1))


def test_the_servers_clock_is_read_from_its_answers(serve: Serve, client_of: ClientOf) -> None:
    told = reply(json.dumps({"data": {"services": connection([])}}).encode(), Date="Sun, 01 Jun 2025 12:00:00 GMT")
    client = client_of(serve(told).url)
    assert client.now().tzinfo is dt.UTC, "this machine's before the first answer"
    client.page(e.SERVICES, {}, 1, 10)
    assert client.now() == dt.datetime(2025, 6, 1, 12, tzinfo=dt.UTC)


# -- records ---------------------------------------------------------------------------------------------------


def test_an_account_becomes_a_row_with_its_groups() -> None:
    page = read(e.ACCOUNTS, account(1001, groups=[7, 9]), account(1002, groups=[7], of=3))
    assert page.ids == [1001, 1002]
    assert page.rows[0] == t.Account(
        id=1001,
        name="Example Customer 1001",
        account_status_id=1,
        account_type_id=2,
        company_id=1,
        parent_account_id=None,
        activation_date=dt.date(2024, 2, 29),
        archived_at=None,
        version="3",
        created_at=dt.datetime(2020, 1, 1, 8, tzinfo=dt.UTC),
        updated_at=dt.datetime(2025, 6, 3, 8, tzinfo=dt.UTC),
    )
    assert [(pair.customer_id, pair.group_id) for pair in page.groups] == [(1001, 7), (1001, 9), (1002, 7)]
    assert page.group_totals == {1001: 2, 1002: 3}
    assert page.rejects == []


def test_an_archived_child_account_keeps_its_parent_and_its_time() -> None:
    archived = account(1003, parent_account_id="1002", archived_at="2025-06-05T08:00:00-06:00", _version="12")
    [row] = read(e.ACCOUNTS, archived).rows
    assert (row.parent_account_id, row.version) == (1002, "12")
    assert row.archived_at == dt.datetime(2025, 6, 5, 14, tzinfo=dt.UTC)


def test_ids_may_come_as_numbers_and_references_in_place_of_ids() -> None:
    record = account(1001, id=1001, account_type_id=2)
    record["account_status"] = {"id": "4", "name": "Disconnected"}
    del record["account_status_id"]
    [row] = read(e.ACCOUNTS, record).rows
    assert (row.id, row.account_status_id, row.account_type_id) == (1001, 4, 2)


def test_what_a_server_adds_to_a_record_is_left_where_it_is() -> None:
    page = read(e.ACCOUNTS, account(password=SECRET, contacts={"entities": [{"password": SECRET}]}))
    assert SECRET not in repr(page)


@pytest.mark.parametrize(
    ("coordinates", "expected"),
    [
        (("32.5", "-96.5"), (32.5, -96.5)),
        ((32.5, -96.5), (32.5, -96.5)),
        (("0", "0"), (None, None)),
        ((0, 0), (None, None)),
        ((None, None), (None, None)),
    ],
)
def test_an_address_without_coordinates_has_none(coordinates: tuple, expected: tuple) -> None:
    [row] = read(e.ADDRESSES, address(latitude=coordinates[0], longitude=coordinates[1])).rows
    assert (row.latitude, row.longitude) == expected
    assert (row.customer_id, row.state, row.county_fips, row.zip, row.plus4) == (1001, "TX", "48999", "75000", "1234")


def test_addresses_of_others_than_accounts_are_left_out() -> None:
    page = read(e.ADDRESSES, address(1), address(2, addressable_type="NetworkSite"))
    assert [row.id for row in page.rows] == [1]
    assert (page.ids, page.dropped, page.rejects) == ([1, 2], {2}, [])


def test_a_field_that_holds_a_key_is_dropped_though_the_server_sent_it() -> None:
    page = read(
        e.FIELD_DATA, field_data(1), field_data(2, field=23, value=SECRET), field_data(3, field=22, value="S-1")
    )
    assert [(row.id, row.value, row.normalized) for row in page.rows] == [
        (1, "00005E005302", "00:00:5E:00:53:02"),
        (3, "S-1", None),
    ]
    assert page.dropped == {2}
    assert SECRET not in repr(page)


@pytest.mark.parametrize(
    "record",
    [
        field_data(2, field=99, value=SECRET),
        field_data(2, field=23, value=SECRET, updated_at="yesterday"),
        field_data(2, value=[SECRET]),
        field_data("x", value=SECRET),
        account(2, name=None, password=SECRET),
        address(2, latitude="far", username=SECRET),
    ],
)
def test_a_rejected_record_is_kept_without_what_must_not_be(record: dict) -> None:
    entity = e.FIELD_DATA if "value" in record else e.ACCOUNTS if "name" in record else e.ADDRESSES
    page = read(entity, record)
    [reject] = page.rejects
    assert page.rows == []
    assert reject.key == (() if record["id"] == "x" else (2,))
    assert page.unread == (record["id"] == "x")
    assert record["updated_at"][:10] in reject.raw
    assert SECRET not in repr(page)


@pytest.mark.parametrize(
    ("entity", "good", "bad", "reason"),
    [
        (e.ACCOUNTS, account(1), account(2, name=None), "Expected `str`, got `null` - at `$.name`"),
        (e.ACCOUNTS, account(1), account(2, updated_at=None), "Expected `datetime`"),
        (e.ACCOUNTS, account(1), account(2, updated_at="2025-06-03 08:00"), "Invalid RFC3339"),
        (e.ACCOUNTS, account(1), account(2, account_status_id=None), "account_status_id is missing"),
        (e.ADDRESSES, address(1), address(2, serviceable="perhaps"), "Expected `bool`"),
        (
            e.ADDRESSES,
            address(1),
            address(2, latitude="91", longitude="1"),
            "latitude 91.0, longitude 1.0 is no place on Earth",
        ),
        (e.ADDRESSES, address(1), address(2, latitude="nan", longitude="1"), "no place on Earth"),
    ],
)
def test_one_malformed_record_costs_no_other(entity: e.Entity, good: dict, bad: dict, reason: str) -> None:
    third = {**good, "id": "3"}
    page = read(entity, good, bad, third)
    assert [row.id for row in page.rows] == [1, 3]
    assert sorted(page.ids) == [1, 2, 3]
    [reject] = page.rejects
    assert (reject.table, reject.key) == (entity.table, (2,))
    assert reason in reject.reason
    assert reject.partition == ("0-999" if entity is e.ACCOUNTS else "1000-1999")


def test_a_malformed_account_keeps_its_groups() -> None:
    page = read(e.ACCOUNTS, account(1, groups=[7]), account(2, groups=[7, 9], name=None))
    assert sorted((pair.customer_id, pair.group_id) for pair in page.groups) == [(1, 7), (2, 7), (2, 9)]


def test_accounts_with_null_in_place_of_their_groups_are_told_from_those_in_none() -> None:
    missing = account(3)
    del missing["account_groups"]
    page = read(e.ACCOUNTS, account(1, groups=[7]), account(2, account_groups=None), missing, account(4))
    assert [row.id for row in page.rows] == [1, 2, 3, 4]
    assert page.groupless == [2, 3]
    assert page.group_totals == {1: 1, 4: 0}
    assert page.rejects == []
    assert read(e.ADDRESSES, address(1)).groupless == []


@pytest.mark.parametrize(
    ("entity", "record", "blank"),
    [
        (e.ACCOUNTS, account(2, activation_date=""), "activation_date"),
        (e.ACCOUNTS, account(2, parent_account_id="", archived_at=""), "parent_account_id archived_at"),
        (e.ADDRESSES, address(2, census_year="", address_status_id=""), "census_year address_status_id"),
        (e.ADDRESSES, address(2, attainable_download_speed=""), "attainable_download_speed"),
    ],
)
def test_empty_texts_in_place_of_numbers_and_dates_are_nulls(entity: e.Entity, record: dict, blank: str) -> None:
    good = account(1, groups=[7]) if entity is e.ACCOUNTS else address(1)
    page = read(entity, good, record)
    assert page.rejects == []
    assert [row.id for row in page.rows] == page.ids == [1, 2]
    assert all(getattr(page.rows[1], name) is None for name in blank.split())
    assert page.rows[1].updated_at == dt.datetime(2025, 6, 3, 8, tzinfo=dt.UTC)


def test_an_empty_text_does_not_stand_for_what_must_be_there() -> None:
    page = read(e.ACCOUNTS, account(1, updated_at=""), account(2, id=""), account(3, activation_date="", name=None))
    assert page.rows == []
    assert [reject.key for reject in page.rejects] == [(1,), (), (3,)]


@pytest.mark.parametrize("record", ["text", 7, [], {"name": "no id"}, {"id": "x"}, {"id": {}}])
def test_a_record_whose_id_cannot_be_read_is_counted(record: object) -> None:
    page = read(e.ACCOUNTS, account(1), record)
    assert (len(page.rows), len(page.rejects), page.unread) == (1, 1, 1)
    assert page.rejects[0].key == ()


def test_no_secret_reaches_the_log(serve: Serve, client_of: ClientOf, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    page = data(inventory_model_field_data=connection([field_data(2, field=23, value=SECRET)]))
    client = client_of(serve(reply(b"", 503), page).url)
    client.page(e.FIELD_DATA, {}, 1, 10, KINDS)
    assert "Trying again" in caplog.text
    assert SECRET not in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(client.session)
