"""The stream of a plan: what it yields of pages that come, that repeat, that lie, and that do not come."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.fetching.reaching import DOWN_AFTER
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import SonarClient
from bdc_pipeline.sources.sonar.entities import FieldKinds
from bdc_pipeline.sources.sonar.listing import Listing
from bdc_pipeline.sources.sonar.plan import Plan, plan_lookups
from bdc_pipeline.sources.sonar.stream import SonarStream
from bdc_pipeline.warehouse.stream import Checked, Compare, Erase, Event, Missing, Reject, Rows
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.fetching.loopback import Reply, Request, Server, reply
from bdc_pipeline_tests.sandbox.asking import small_sandbox
from bdc_pipeline_tests.sources.sonar.payloads import SECRET, account, address, connection, data, errors, field_data

Serve = Callable[..., Server]

WATERMARK = "2026-02-01T12:00:00Z"


def stream(
    url: str,
    *listings: Listing,
    page_size: int = 2,
    kinds: FieldKinds | None = None,
    stop: Stop | None = None,
    left_out: tuple[int, ...] = (),
    tables: Sequence[Table] = t.OF_CUSTOMERS,
    differing: Sequence[str] = (),
) -> tuple[list[Event], SonarStream]:
    """All events of a plan's stream; those blocks differ, whenever blocks are to be compared."""
    stop = stop or Stop()
    session = ApiSession(url, workers=2, attempts=2, backoff=0.01, stop=stop)
    with closing(session):
        made = SonarStream(
            SonarClient(session),
            Plan(listings, WATERMARK, kinds or FieldKinds(), left_out),
            tables,
            page_size=page_size,
            workers=2,
            stop=stop,
        )
        events = []
        for event in made:
            events.append(event)
            if isinstance(event, Compare):
                event.differing += [block for block in differing if block in event.totals]
        return events, made


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


def test_accounts_that_come_without_their_groups_are_in_unknown_ones(serve: Serve) -> None:
    records = [account(1000, groups=[7]), account(1001, account_groups=None), account(1002)]
    events, _ = stream(serve(respond=paged(records)).url, of(e.ACCOUNTS, 3, full=False), page_size=10)
    assert [row.id for row in rows_of(events, t.CUSTOMERS)] == [1000, 1001, 1002]
    [pairs] = [event for event in only(events, Rows) if event.table is t.CUSTOMER_GROUPS]
    assert pairs.parents == [1000, 1002], "nothing is said of the groups of 1001"
    assert [checked.table for checked in only(events, Checked)] == [t.CUSTOMERS]
    [missing] = only(events, Missing)
    assert (missing.table, missing.partitions, missing.unit) == (
        t.CUSTOMER_GROUPS,
        ("1000-1999",),
        "accounts changed in 1000-1999, groups",
    )
    assert missing.error == (
        "1 customers came with null in place of their groups: the token's user may lack the permission to read account groups"
    )


def test_values_of_secret_fields_that_were_once_kept_are_erased_first(serve: Serve) -> None:
    kinds = FieldKinds({21: "MAC_ADDRESS"}, (23, 24))
    listing = of(e.FIELD_DATA, 1, "7000-7999")
    server = serve(respond=paged([field_data(1)]))
    events, _ = stream(server.url, listing, kinds=kinds, tables=t.OF_INVENTORY)
    assert events[0] == Erase(t.INVENTORY_FIELDS, "inventory_model_field_id", (23, 24))
    assert only(events[1:], Erase) == []
    events, _ = stream(server.url, of(e.ACCOUNTS, 0), kinds=kinds)
    assert only(events, Erase) == []
    events, _ = stream(server.url, listing, kinds=FieldKinds({21: "MAC_ADDRESS"}), tables=t.OF_INVENTORY)
    assert only(events, Erase) == []


def test_an_empty_page_before_others_of_a_list_without_counts_is_missing(serve: Serve) -> None:
    records = [address(n, 1001) for n in range(6)]

    def respond(request: Request) -> Reply:
        page = json.loads(request.body)["variables"]["p"]["page"]
        chosen = [] if page == 2 else records[(page - 1) * 2 : page * 2]
        return data(addresses={"page_info": None, "entities": chosen})

    server = serve(respond=respond)
    events, _ = stream(server.url, of(e.ADDRESSES, None))
    assert sorted(row.id for row in rows_of(events, t.ADDRESSES)) == [0, 1, 4, 5]
    assert only(events, Checked) == []
    [missing] = only(events, Missing)
    assert missing.unit == "addresses 1000-1999 page 2"
    assert missing.error == "it came back empty, though pages behind it hold records"
    assert sum(json.loads(r.body)["variables"]["p"]["page"] == 2 for r in server.requests) == 3


# -- blocks that are compared after their changes --------------------------------------------------------------


def changes(entity: e.Entity, expected: int, *blocks: str) -> Listing:
    search = entity.search(since="2026-01-31T11:55:00+00:00")
    return Listing(entity.root, blocks, full=False, search=search, expected=expected, comparable=True)


def kept(records: list[dict], changed: Sequence[int], counted: Reply | None = None) -> Callable[[Request], Reply]:
    """Serves records of accounts and addresses with their filters by block and by time, and counts them by block."""

    def under(search: dict) -> list[dict]:
        low, high = 0, 10**9
        for condition in search.get("integer_fields", ()):
            low = int(condition["search_value"]) if condition["operator"] == "GTE" else low
            high = int(condition["search_value"]) if condition["operator"] == "LTE" else high
        found = [r for r in records if low <= int(r.get("addressable_id", r["id"])) <= high]
        return [r for r in found if int(r["id"]) in changed] if "datetime_fields" in search else found

    def respond(request: Request) -> Reply:
        asked = json.loads(request.body)
        variables = asked["variables"]
        if "query Counts" in asked["query"]:
            totals = {f"c{place}": len(under(found[0])) for place, found in enumerate(variables.values())}
            return counted or data(**{name: {"page_info": {"total_count": n}} for name, n in totals.items()})
        root = asked["query"].partition("{ ")[2].partition("(")[0]
        chosen, page, size = under(variables["s"][0]), variables["p"]["page"], variables["p"]["records_per_page"]
        return data(**{root: connection(chosen[(page - 1) * size : page * size], len(chosen), page=page, size=size)})

    return respond


TWO = ("1000-1999", "2000-2999")


def test_after_the_changes_blocks_are_counted_and_those_that_differ_are_listed_in_full(serve: Serve) -> None:
    records = [address(1, 1001), address(2, 1002), address(3, 2001), address(4, 2002), address(5, 2003)]
    server = serve(respond=kept(records, changed=[2, 4]))
    events, made = stream(server.url, changes(e.ADDRESSES, 2, *TWO), differing=["2000-2999"])
    [compare] = only(events, Compare)
    assert (compare.table, compare.totals) == (t.ADDRESSES, {"1000-1999": 2, "2000-2999": 3})
    place = events.index(compare)
    assert sorted(row.id for row in rows_of(events[:place], t.ADDRESSES)) == [2, 4]
    assert sorted(row.id for row in rows_of(events[place:], t.ADDRESSES)) == [3, 4, 5]
    assert only(events, Checked) == [
        Checked(t.ADDRESSES, TWO, 2, full=False, watermark=WATERMARK),
        Checked(t.ADDRESSES, ("2000-2999",), 3, full=True, watermark=WATERMARK, again=1),
    ]
    assert only(events, Missing) == []
    assert len(server.requests) == 4, "the changes, the counts, and two pages of a block"
    assert made.expected == 5


def test_blocks_that_do_not_differ_are_not_listed(serve: Serve) -> None:
    server = serve(respond=kept([address(1, 1001), address(2, 2001)], changed=[]))
    events, _ = stream(server.url, changes(e.ADDRESSES, 0, *TWO))
    assert only(events, Checked) == [Checked(t.ADDRESSES, TWO, 0, full=False, watermark=WATERMARK)]
    assert only(events, Compare) == [Compare(t.ADDRESSES, {"1000-1999": 1, "2000-2999": 1})]
    assert rows_of(events, t.ADDRESSES) == []
    assert len(server.requests) == 1


def test_customers_that_come_a_second_time_bring_their_groups_a_second_time(serve: Serve) -> None:
    records = [account(1001, groups=[7, 8]), account(1002, groups=[7]), account(1003)]
    server = serve(respond=kept(records, changed=[1001]))
    events, _ = stream(server.url, changes(e.ACCOUNTS, 1, "1000-1999"), differing=["1000-1999"])
    assert [(c.table, c.expected, c.full, c.again) for c in only(events, Checked)] == [
        (t.CUSTOMERS, 1, False, 0),
        (t.CUSTOMER_GROUPS, 2, False, 0),
        (t.CUSTOMERS, 3, True, 1),
        (t.CUSTOMER_GROUPS, 3, True, 2),
    ]


def test_a_block_that_was_emptied_is_counted_twice_and_checked_without_a_page(serve: Serve) -> None:
    server = serve(respond=kept([], changed=[]))
    events, _ = stream(server.url, changes(e.ADDRESSES, 0, "1000-1999"), differing=["1000-1999"])
    assert only(events, Checked)[-1] == Checked(t.ADDRESSES, ("1000-1999",), 0, full=True, watermark=WATERMARK)
    assert len(server.requests) == 2


def test_secret_fields_are_left_out_of_what_is_compared(serve: Serve) -> None:
    server = serve(respond=kept([], changed=[]))
    listing = changes(e.FIELD_DATA, 0, "7000-7999")
    stream(server.url, listing, kinds=FieldKinds({}, (23,)), left_out=(23,), tables=t.OF_INVENTORY)
    searches = [json.loads(request.body)["variables"]["s0"] for request in server.requests]
    assert searches[0] == [e.FIELD_DATA.search(between=(7000, 7999), secret=(23,))]


@pytest.mark.parametrize(
    "listing",
    [
        Listing("addresses", TWO, full=False, search={"datetime_fields": []}, expected=2),
        of(e.ADDRESSES, 2),
    ],
)
def test_what_is_not_comparable_is_not_counted(serve: Serve, listing: Listing) -> None:
    server = serve(respond=paged([address(1, 1001), address(2, 1002)]))
    events, _ = stream(server.url, listing, differing=TWO)
    assert only(events, Compare) == []
    assert len(server.requests) == 1


def test_changes_that_did_not_come_are_not_compared(serve: Serve) -> None:
    events, _ = stream(serve(reply(b"broken", 500)).url, changes(e.ADDRESSES, 2, *TWO), differing=TWO)
    assert only(events, Compare) == []
    assert [event.full for event in only(events, Missing)] == [False]


def test_counts_that_do_not_come_leave_the_blocks_incomplete_for_the_next_changes(serve: Serve) -> None:
    server = serve(respond=kept([address(1, 1001)], changed=[1], counted=reply(b"broken", 500)))
    events, _ = stream(server.url, changes(e.ADDRESSES, 1, *TWO), differing=TWO)
    assert only(events, Compare) == []
    [missing] = only(events, Missing)
    assert (missing.partitions, missing.unit, missing.full) == (TWO, "addresses counts of 2 blocks", False)
    assert "answered 500" in missing.error


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
