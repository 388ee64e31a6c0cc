"""The stream of a plan: what it yields of pages that come, that repeat, that lie, and that do not come."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import SonarClient
from bdc_pipeline.sources.sonar.entities import FieldKinds
from bdc_pipeline.sources.sonar.listing import Listing
from bdc_pipeline.sources.sonar.plan import Plan, plan_lookups
from bdc_pipeline.sources.sonar.stream import DOWN_AFTER, SonarStream
from bdc_pipeline.warehouse.stream import Checked, Event, Missing, Reject, Rows
from bdc_pipeline_tests.fetching.loopback import Reply, Request, Server, reply
from bdc_pipeline_tests.sandbox.asking import small_sandbox
from bdc_pipeline_tests.sources.sonar.payloads import SECRET, account, address, connection, data, errors, field_data

Serve = Callable[..., Server]

WATERMARK = "2026-02-01T12:00:00Z"


def stream(
    url: str, *listings: Listing, page_size: int = 2, kinds: FieldKinds | None = None, stop: Stop | None = None
) -> tuple[list[Event], SonarStream]:
    """All events of a plan's stream."""
    stop = stop or Stop()
    session = ApiSession(url, workers=2, attempts=2, backoff=0.01, stop=stop)
    with closing(session):
        made = SonarStream(
            SonarClient(session),
            Plan(listings, WATERMARK, kinds or FieldKinds()),
            t.OF_CUSTOMERS,
            page_size=page_size,
            workers=2,
            stop=stop,
        )
        return list(made), made


def of(entity: e.Entity, expected: int | None, block: str = "1000-1999", **more: Any) -> Listing:
    low, high = (int(end) for end in block.split("-"))
    search = entity.search(between=(low, high))
    full = more.pop("full", True)
    return Listing(entity.root, (block,), full=full, search=search, expected=expected, between=(low, high), **more)


def rows_of(events: list[Event], table: Any) -> list[Any]:
    return [row for event in events if isinstance(event, Rows) and event.table is table for row in event.rows]


def only(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def paged(records: list[dict], total: int | None = None) -> Callable[[Request], Reply]:
    """Serves records page by page, under whatever root is asked for."""

    def respond(request: Request) -> Reply:
        asked = json.loads(request.body)
        page, size = asked["variables"]["p"]["page"], asked["variables"]["p"]["records_per_page"]
        root = asked["query"].partition("{ ")[2].partition("(")[0]
        chosen = records[(page - 1) * size : page * size]
        return data(**{root: connection(chosen, len(records) if total is None else total, page=page, size=size)})

    return respond


# -- what comes ------------------------------------------------------------------------------------------------


def test_rows_come_once_and_the_listing_is_checked_with_its_count(serve: Serve) -> None:
    records = [account(1000 + n, groups=[n]) for n in range(5)]
    events, made = stream(serve(respond=paged(records)).url, of(e.ACCOUNTS, 5))
    assert sorted(row.id for row in rows_of(events, t.CUSTOMERS)) == [1000, 1001, 1002, 1003, 1004]
    assert len(rows_of(events, t.CUSTOMER_GROUPS)) == 5
    assert only(events, Checked) == [
        Checked(t.CUSTOMERS, ("1000-1999",), 5, full=True, watermark=WATERMARK),
        Checked(t.CUSTOMER_GROUPS, ("1000-1999",), 5, full=True, watermark=WATERMARK),
    ]
    assert made.effort().requests == 3
    assert made.expected == 10


def test_changed_accounts_bring_their_memberships_as_a_whole(serve: Serve) -> None:
    events, _ = stream(
        serve(respond=paged([account(1000, groups=[1, 2]), account(1001)])).url, of(e.ACCOUNTS, 2, full=False)
    )
    [pairs] = [event for event in only(events, Rows) if event.table is t.CUSTOMER_GROUPS]
    assert (len(pairs.rows), pairs.parents) == (2, [1000, 1001])
    assert all(not checked.full for checked in only(events, Checked))


def test_what_was_counted_as_empty_is_checked_without_a_request(serve: Serve) -> None:
    server = serve(errors("not to be asked"))
    events, _ = stream(server.url, of(e.ADDRESSES, 0))
    assert events == [Checked(t.ADDRESSES, ("1000-1999",), 0, full=True, watermark=WATERMARK)]
    assert server.requests == []


def test_records_of_others_do_not_count(serve: Serve) -> None:
    records = [address(1, 1001), address(2, 1002, addressable_type="Vendor"), address(3, 1003)]
    events, _ = stream(serve(respond=paged(records)).url, of(e.ADDRESSES, 3))
    assert sorted(row.id for row in rows_of(events, t.ADDRESSES)) == [1, 3]
    [checked] = only(events, Checked)
    assert checked.expected == 2


def test_a_malformed_record_is_a_reject_and_its_list_is_checked(serve: Serve) -> None:
    records = [account(1000), account(1001, name=None, groups=[7]), account(1002)]
    events, _ = stream(serve(respond=paged(records)).url, of(e.ACCOUNTS, 3))
    [reject] = only(events, Reject)
    assert (reject.table, reject.partition, reject.key) == (t.CUSTOMERS, "1000-1999", (1001,))
    assert [pair.customer_id for pair in rows_of(events, t.CUSTOMER_GROUPS)] == [1001]
    assert [checked.expected for checked in only(events, Checked)] == [3, 1]


def test_secret_fields_are_in_no_event(serve: Serve) -> None:
    records = [field_data(1), field_data(2, field=23, value=SECRET), field_data(3, field=99, value=SECRET)]
    kinds = FieldKinds({21: "MAC_ADDRESS"}, (23,))
    events, _ = stream(serve(respond=paged(records)).url, of(e.FIELD_DATA, 3, "7000-7999"), kinds=kinds)
    assert [row.id for row in rows_of(events, t.INVENTORY_FIELDS)] == [1]
    assert [reject.key for reject in only(events, Reject)] == [(3,)]
    assert [checked.expected for checked in only(events, Checked)] == [2]
    assert SECRET not in repr(events)


def test_a_block_that_an_option_cuts_short_is_said_to_be(serve: Serve) -> None:
    cut = of(e.ADDRESSES, 1, cut=("1000-1999",))
    events, _ = stream(serve(respond=paged([address(1, 1001)])).url, cut)
    assert only(events, Checked) == [Checked(t.ADDRESSES, ("1000-1999",), 1, full=True, limited=True)]


# -- what does not come ----------------------------------------------------------------------------------------


def test_a_page_that_fails_is_missing_and_the_others_are_kept(serve: Serve) -> None:
    good = paged([account(1000 + n) for n in range(6)])

    def respond(request: Request) -> Reply:
        return reply(b"broken", 500) if b'"page":2' in request.body else good(request)

    events, _ = stream(serve(respond=respond).url, of(e.ACCOUNTS, 6))
    assert sorted(row.id for row in rows_of(events, t.CUSTOMERS)) == [1000, 1001, 1004, 1005]
    assert only(events, Checked) == []
    customers, groups = only(events, Missing)
    assert (customers.table, customers.partitions, customers.unit) == (
        t.CUSTOMERS,
        ("1000-1999",),
        "accounts 1000-1999 page 2",
    )
    assert "answered 500" in customers.error
    assert (customers.expected, customers.full) == (6, True)
    assert groups.table is t.CUSTOMER_GROUPS
    assert "some customers did not come" in groups.error


def test_a_list_that_is_refused_costs_no_other_and_is_asked_for_once(serve: Serve) -> None:
    def respond(request: Request) -> Reply:
        if b"addresses(" in request.body:
            return errors("You do not have permission to view addresses.", data={"addresses": None})
        return paged([account(1000)])(request)

    server = serve(respond=respond)
    blocks = [of(e.ADDRESSES, 40, f"{n}000-{n}999") for n in range(1, 6)]
    events, _ = stream(server.url, *blocks, of(e.ACCOUNTS, 1))
    assert [checked.table for checked in only(events, Checked)] == [t.CUSTOMERS, t.CUSTOMER_GROUPS]
    missing = only(events, Missing)
    assert {event.partitions for event in missing} == {(f"{n}000-{n}999",) for n in range(1, 6)}
    assert all("lacks a permission for 'addresses'" in event.error for event in missing)
    assert len(server.requests) <= 3


def test_a_count_that_never_fits_is_missing_not_checked(serve: Serve) -> None:
    server = serve(respond=paged([address(1, 1001), address(2, 1002)], total=3))
    events, _ = stream(server.url, of(e.ADDRESSES, 3))
    [missing] = only(events, Missing)
    assert missing.unit == "addresses 1000-1999 count"
    assert missing.error == "the server counts 3 records, 2 different ones came in 3 attempts"


def test_a_server_that_lies_about_its_filter_is_read_whole_and_sorted_here(serve: Serve) -> None:
    # it counts under the filter and answers without it
    records = [address(n, 1000 * n + 1) for n in range(1, 5)]
    blocks = ["1000-1999", "2000-2999"]
    events, _ = stream(serve(respond=paged(records)).url, *(of(e.ADDRESSES, 1, block) for block in blocks))
    assert sorted(row.id for row in rows_of(events, t.ADDRESSES)) == [1, 2]
    [checked] = only(events, Checked)
    assert sorted(checked.partitions) == blocks
    assert checked.expected == 2


def test_a_refused_token_ends_the_stream(serve: Serve) -> None:
    server = serve(errors("Unauthenticated."))
    events, _ = stream(server.url, *(of(e.ADDRESSES, 40, f"{n}000-{n}999") for n in range(1, 6)))
    assert only(events, Checked) == []
    assert {event.partitions for event in only(events, Missing)} == {(f"{n}000-{n}999",) for n in range(1, 6)}
    assert len(server.requests) <= 4


def test_a_server_that_is_gone_is_not_asked_for_every_page(serve: Serve) -> None:
    server = serve(reply())
    server.close()
    events, made = stream(server.url, of(e.ADDRESSES, 200))
    assert len(only(events, Missing)) >= 1
    assert only(events, Checked) == []
    assert made.effort().requests <= 2 * (DOWN_AFTER + 4)


def test_a_stopped_stream_says_what_was_not_tried(serve: Serve) -> None:
    stop = Stop()
    good = paged([address(n, 1001) for n in range(200)])

    def respond(request: Request) -> Reply:
        if b'"page":5,' in request.body:
            stop.set("interrupted")
        return good(request)

    events, _ = stream(serve(respond=respond).url, of(e.ADDRESSES, 200), stop=stop)
    assert rows_of(events, t.ADDRESSES)
    assert only(events, Checked) == []
    assert "interrupted" in " ".join(event.error for event in only(events, Missing))


def test_a_stream_that_was_stopped_before_it_began_asks_for_nothing(serve: Serve) -> None:
    stop = Stop()
    stop.set("interrupted")
    server = serve(reply())
    events, _ = stream(server.url, of(e.ADDRESSES, 200), stop=stop)
    [missing] = only(events, Missing)
    assert "interrupted" in missing.error
    assert server.requests == []


def test_every_listing_is_checked_or_missing_for_each_of_its_tables() -> None:
    with small_sandbox(customers=100) as sandbox:
        session = ApiSession(sandbox.sonar_url, secret_headers={"Authorization": "Bearer x"})
        with closing(session):
            client = SonarClient(session)
            made = SonarStream(client, plan_lookups(client, e.LOOKUPS), t.LOOKUPS, page_size=10, workers=4, stop=Stop())
            assert made.expected is None, "nothing is counted yet"
            events = list(made)
            assert {event.table.name: event.expected for event in only(events, Checked)} == {
                table.name: len(rows_of(events, table)) for table in t.LOOKUPS
            }
            assert made.expected == sum(len(event.rows) for event in only(events, Rows))


@pytest.mark.parametrize(("pages", "told"), [([2], "page 2"), ([1, 2, 3], "pages 1-3"), ([1, 3], "pages 1, 3")])
def test_pages_that_fail_alike_are_told_together(serve: Serve, pages: list[int], told: str) -> None:
    good = paged([address(n, 1001) for n in range(8)])

    def respond(request: Request) -> Reply:
        page = json.loads(request.body)["variables"]["p"]["page"]
        return reply(b"broken", 500) if page in pages else good(request)

    events, _ = stream(serve(respond=respond).url, of(e.ADDRESSES, 8))
    assert [event.unit for event in only(events, Missing)] == [f"addresses 1000-1999 {told}"]
