"""What is fetched: which blocks in full, which by their changes, from when on, and with which counts."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.fetching.answers import BadAnswer, Refused, Unauthorized
from bdc_pipeline.fetching.pool import Stop, Stopped
from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar.client import SonarClient
from bdc_pipeline.sources.sonar.plan import (
    Plan,
    SyncOptions,
    discover_blocks,
    divide,
    filters_by_id,
    gather,
    is_due,
    make_plan,
    plan_lookups,
    read_field_kinds,
    since,
)
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline_tests.fetching.loopback import Reply, Request, Server
from bdc_pipeline_tests.sandbox.asking import small_sandbox
from bdc_pipeline_tests.sources.sonar.payloads import data

ClientOf = Callable[..., SonarClient]

NOW = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)


def state(**more: Any) -> PartitionState:
    """A block that was listed in full a day ago and is complete."""
    known: dict[str, Any] = {
        "complete": True,
        "watermark": "2026-01-31T12:00:00Z",
        "verified_at": "2026-01-31T12:00:00.000Z",
        "synced_at": "2026-01-31T12:00:00.000Z",
        "expected": 10,
        "stored": 10,
        "rejected": 0,
        "problem": None,
    }
    return PartitionState(**known | more)


# -- decisions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "options", "due"),
    [
        (None, {}, True),
        (state(), {}, False),
        (state(stored=8, rejected=2), {}, False),
        (state(stored=None), {}, False),  # what is stored is compared with the counts after the changes
        (state(verified_at=None), {}, True),
        (state(watermark=None), {}, True),
        (state(complete=False), {}, False),  # what is missing are changes, which the watermark still covers
        (state(), {"force": True}, True),
        (state(), {"days": 1.0}, False),
        (state(), {"days": 0.99}, True),
        (state(), {"days": 0}, True),
        (state(verified_at="2026-01-25T11:59:59.999Z"), {}, True),
        (state(verified_at="2026-01-25T12:00:00.000Z"), {}, False),
        (state(verified_at="2036-01-25T12:00:00.000Z"), {}, True),  # a clock was wrong once
    ],
)
def test_when_a_block_is_listed_in_full(known: PartitionState | None, options: dict[str, Any], due: bool) -> None:
    assert is_due(known, NOW, SyncOptions(**options)) is due


@pytest.mark.parametrize(
    ("watermarks", "minutes", "expected"),
    [
        (["2026-01-31T12:00:00Z"], 5, "2026-01-31T11:55:00+00:00"),
        (["2026-01-31T12:00:00Z", "2026-01-30T00:02:00Z"], 5, "2026-01-29T23:57:00+00:00"),
        (["2026-01-31T12:00:00Z"], 0, "2026-01-31T12:00:00+00:00"),
        (["2026-03-01T00:00:30Z"], 0.5, "2026-03-01T00:00:00+00:00"),
    ],
)
def test_changes_are_searched_from_the_oldest_watermark_less_the_overlap(
    watermarks: list[str], minutes: float, expected: str
) -> None:
    states = [state(watermark=watermark) for watermark in watermarks]
    assert since(states, SyncOptions(overlap_minutes=minutes)) == expected


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 60))
def test_a_range_divides_into_neighbours_without_a_gap(first: int, length: int, parts: int) -> None:
    divided = divide(first, first + length, parts)
    assert divided[0][0] == first
    assert divided[-1][1] == first + length
    assert len(divided) <= parts
    assert all(low < high for low, high in divided)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(divided))


# -- calls side by side ----------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_calls() -> None:
    assert gather([lambda n=n: n * n for n in range(30)], 4, Stop()) == [n * n for n in range(30)]
    assert gather([], 4, Stop()) == []


def test_the_first_call_that_fails_is_the_failure_of_all() -> None:
    def fail() -> int:
        raise Refused("no")

    with pytest.raises(Refused, match="no"):
        gather([lambda: 1, fail, lambda: 2], 1, Stop())


def test_a_stop_ends_them() -> None:
    stop = Stop()
    stop.set("interrupted")
    with pytest.raises(Stopped, match="interrupted"):
        gather([lambda: 1], 1, stop)


# -- blocks ----------------------------------------------------------------------------------------------------


def numbers_of(sandbox: Sandbox, entity: str) -> list[int]:
    return sorted(int(number) for (number,) in sandbox.rows(entity, ["id"]))


def blocks_of(numbers: Sequence[int]) -> list[str]:
    return [f"{block}000-{block}999" if block else "0-999" for block in sorted({n // 1000 for n in numbers})]


@pytest.mark.parametrize("ids", ["dense", "sparse"])
@pytest.mark.parametrize(("entity", "name"), [(e.ACCOUNTS, "Account"), (e.INVENTORY_ITEMS, "InventoryItem")])
def test_just_the_blocks_that_hold_records_are_found(
    client_of: ClientOf, ids: Any, entity: e.Entity, name: str
) -> None:
    with small_sandbox(customers=300, ids=ids) as sandbox:
        client = client_of(sandbox.sonar_url)
        found = discover_blocks(client, (entity,), 4, Stop())
        assert found == blocks_of(numbers_of(sandbox, name))
        assert client.effort().requests < 40


@pytest.mark.parametrize("id_filter", ["honoured", "ignored"])
def test_blocks_that_hold_what_belongs_to_no_account_are_found_too(client_of: ClientOf, id_filter: Any) -> None:
    with small_sandbox(customers=1500, id_filter=id_filter) as sandbox:
        sandbox.delete("Account", [number for number in numbers_of(sandbox, "Account") if number >= 2000])
        client = client_of(sandbox.sonar_url)
        assert discover_blocks(client, (e.ACCOUNTS,), 4, Stop())[-1] == "1000-1999"
        assert discover_blocks(client, e.OF_CUSTOMERS, 4, Stop())[-1] == "2000-2999"
        sandbox.delete("Address", numbers_of(sandbox, "Address"))
        assert discover_blocks(client, e.OF_CUSTOMERS, 4, Stop())[-1] == "2000-2999", "subscriptions are left"


def test_a_limit_looks_for_the_first_records_alone(client_of: ClientOf) -> None:
    with small_sandbox(customers=300, ids="sparse") as sandbox:
        client = client_of(sandbox.sonar_url)
        numbers = numbers_of(sandbox, "Account")
        for limit in (1, 100, 149, 299):
            found = discover_blocks(client, e.OF_CUSTOMERS, 4, Stop(), limit=limit)
            assert found == blocks_of(numbers[:limit])
        everything = discover_blocks(client, e.OF_CUSTOMERS, 4, Stop(), limit=5000)
        assert everything == discover_blocks(client, e.OF_CUSTOMERS, 4, Stop())


@pytest.mark.parametrize("id_filter", ["ignored", "refused"])
def test_without_a_filter_by_id_all_blocks_up_to_the_highest_are_taken(client_of: ClientOf, id_filter: Any) -> None:
    with small_sandbox(customers=2300, id_filter=id_filter) as sandbox:
        highest = numbers_of(sandbox, "Account")[-1]
        found = discover_blocks(client_of(sandbox.sonar_url), (e.ACCOUNTS,), 4, Stop())
        assert found == blocks_of([n * 1000 for n in range(highest // 1000 + 1)])


def test_an_empty_list_has_no_blocks(client_of: ClientOf) -> None:
    with small_sandbox(customers=20) as sandbox:
        sandbox.configure(faults=["shrunken"])
        client = client_of(sandbox.sonar_url)
        assert discover_blocks(client, (e.ACCOUNTS,), 4, Stop()) == []
        assert client.effort().requests == 3, "one probe, and an empty list is asked for twice"


@pytest.mark.parametrize("ids", ["dense", "sparse"])
@pytest.mark.parametrize("after", range(7))
def test_an_empty_answer_on_the_way_hides_no_block(client_of: ClientOf, ids: Any, after: int) -> None:
    with small_sandbox(customers=300, ids=ids) as sandbox:
        client = client_of(sandbox.sonar_url)
        expected = discover_blocks(client, e.OF_CUSTOMERS, 1, Stop())
        sandbox.configure(faults=[f"shrunken~times=1,after={after}"])
        assert discover_blocks(client, e.OF_CUSTOMERS, 1, Stop()) == expected
        assert sandbox.stats()["faults"] == {"shrunken": 1}


def test_records_behind_what_the_server_gives_for_the_highest_are_searched_for(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a server that does not sort backwards answers with the first record
    with small_sandbox(customers=300, ids="sparse") as sandbox:
        client = client_of(sandbox.sonar_url)
        numbers = numbers_of(sandbox, "Account")
        monkeypatch.setattr(client, "extent", lambda _: (len(numbers), numbers[0]))
        assert discover_blocks(client, (e.ACCOUNTS,), 4, Stop()) == blocks_of(numbers)


def test_counts_that_contradict_each_other_are_not_believed(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_sandbox(customers=100) as sandbox:
        client = client_of(sandbox.sonar_url)
        monkeypatch.setattr(client, "extent", lambda _: (101, 1100))
        with pytest.raises(BadAnswer, match="'accounts' counts 101 records, but only 100 by ranges of ids"):
            discover_blocks(client, (e.ACCOUNTS,), 4, Stop())


def test_records_that_go_while_blocks_are_searched_for_are_no_contradiction(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_sandbox(customers=100) as sandbox:
        client = client_of(sandbox.sonar_url)
        answers = iter([(101, 1100), (100, 1100)])
        monkeypatch.setattr(client, "extent", lambda _: next(answers))
        assert discover_blocks(client, (e.ACCOUNTS,), 4, Stop()) == ["1000-1999"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"id_filter": "honoured"}, {"accounts": True, "addresses": True, "account_services": True}),
        ({"id_filter": "ignored"}, {"accounts": False, "addresses": False, "account_services": False}),
        ({"id_filter": "refused"}, {"accounts": False, "addresses": False, "account_services": False}),
        ({"denied": frozenset({"addresses"})}, {"accounts": True, "addresses": False, "account_services": True}),
        ({"no_page_info": frozenset({"accounts"})}, {"accounts": False, "addresses": True, "account_services": True}),
    ],
)
def test_whether_the_server_filters_by_id_is_asked_of_each_list(
    client_of: ClientOf, options: dict[str, Any], expected: Mapping[str, bool]
) -> None:
    with small_sandbox(customers=20, **options) as sandbox:
        assert filters_by_id(client_of(sandbox.sonar_url), e.OF_CUSTOMERS, Stop()) == expected


def test_a_refused_token_is_not_taken_for_a_missing_filter(client_of: ClientOf) -> None:
    with small_sandbox(customers=20, token="another") as sandbox, pytest.raises(Unauthorized):
        filters_by_id(client_of(sandbox.sonar_url), e.OF_CUSTOMERS, Stop())


# -- plans -----------------------------------------------------------------------------------------------------


def plan(
    client: SonarClient,
    blocks: Sequence[str],
    states: Mapping[str, Mapping[str, PartitionState]] | None = None,
    entities: Sequence[e.Entity] = e.OF_CUSTOMERS,
    **options: Any,
) -> Plan:
    return make_plan(client, entities, blocks, states or {}, SyncOptions(**options), workers=4, stop=Stop(), now=NOW)


def verified(counts: Mapping[str, int]) -> dict[str, PartitionState]:
    return {block: state(stored=count) for block, count in counts.items()}


def counts_by_block(sandbox: Sandbox) -> dict[str, dict[str, int]]:
    """Rows by table and block, of the lists that belong to customers."""
    found: dict[str, dict[str, int]] = {"customers": {}, "addresses": {}, "services": {}}
    for table, owners in {
        "customers": [row[0] for row in sandbox.rows("Account", ["id"])],
        "addresses": [
            n for kind, n in sandbox.rows("Address", ["addressable_type", "addressable_id"]) if kind == "Account"
        ],
        "services": [row[0] for row in sandbox.rows("AccountService", ["account_id"])],
    }.items():
        for owner in owners:
            [block] = blocks_of([int(owner)])
            found[table][block] = found[table].get(block, 0) + 1
    return found


def test_a_first_plan_lists_every_block_in_full_with_its_counts(client_of: ClientOf) -> None:
    with small_sandbox(customers=1500) as sandbox:
        client = client_of(sandbox.sonar_url)
        blocks = ["1000-1999", "2000-2999"]
        found = plan(client, blocks)
        counts = counts_by_block(sandbox)
        assert [(x.root, x.blocks, x.full, x.expected) for x in found.listings] == [
            (entity.root, (block,), True, counts[entity.table.name][block])
            for entity in e.OF_CUSTOMERS
            for block in blocks
        ]
        assert found.describe()["records_expected"] == sum(sum(of.values()) for of in counts.values())
        assert found.effort.requests == 2, "one for all probes, one for all counts"
        assert dt.datetime.strptime(found.watermark, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC) <= client.now()


def test_a_block_that_is_due_is_listed_in_full_and_the_others_by_their_changes(client_of: ClientOf) -> None:
    with small_sandbox(customers=1500) as sandbox:
        counts = counts_by_block(sandbox)
        blocks = ["1000-1999", "2000-2999"]
        states = {table: verified(of) for table, of in counts.items()}
        states["customer_groups"] = verified(dict.fromkeys(blocks, 1))
        # another number than the server counts: the changes may explain it
        states["services"]["1000-1999"] = state(stored=counts["services"]["1000-1999"] - 1)
        states["addresses"]["2000-2999"] = state(verified_at=None)
        found = plan(client_of(sandbox.sonar_url), blocks, states)
        assert [(x.root, x.blocks, x.full, x.expected, x.comparable) for x in found.listings] == [
            ("accounts", ("1000-1999", "2000-2999"), False, 0, True),
            ("addresses", ("1000-1999",), False, 0, True),
            ("account_services", ("1000-1999", "2000-2999"), False, 0, True),
            ("addresses", ("2000-2999",), True, counts["addresses"]["2000-2999"], False),
        ]
        assert found.listings[0].search == e.ACCOUNTS.search(since="2026-01-31T11:55:00+00:00")


@pytest.mark.parametrize("id_filter", ["ignored", "refused"])
def test_without_a_filter_by_id_blocks_cannot_be_compared(client_of: ClientOf, id_filter: Any) -> None:
    with small_sandbox(customers=100, id_filter=id_filter) as sandbox:
        states = {table: verified(of) for table, of in counts_by_block(sandbox).items()}
        states["customer_groups"] = verified({"1000-1999": 1})
        found = plan(client_of(sandbox.sonar_url), ["1000-1999"], states)
        assert [(x.root, x.full, x.comparable) for x in found.listings] == [
            (entity.root, False, False) for entity in e.OF_CUSTOMERS
        ]


@pytest.mark.parametrize("ahead", [dt.timedelta(days=2), dt.timedelta(days=-2)])
def test_the_watermark_is_ahead_of_neither_clock(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, ahead: dt.timedelta
) -> None:
    with small_sandbox(customers=20) as sandbox:
        client = client_of(sandbox.sonar_url)
        monkeypatch.setattr(client, "now", lambda: NOW + ahead)
        earlier = min(NOW, NOW + ahead)
        assert plan(client, ["1000-1999"]).watermark == earlier.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_changes_are_counted_so_that_nothing_is_asked_for_where_there_are_none(client_of: ClientOf) -> None:
    with small_sandbox(customers=100) as sandbox:
        states = {table: verified(of) for table, of in counts_by_block(sandbox).items()}
        states["customer_groups"] = verified({"1000-1999": 1})
        sandbox.touch("Address", [5001, 5002], at="2026-01-31T13:00:00+00:00")
        found = plan(client_of(sandbox.sonar_url), ["1000-1999"], states)
        assert {x.root: x.expected for x in found.listings} == {"accounts": 0, "addresses": 2, "account_services": 0}


@pytest.mark.parametrize("full", [True, False])
def test_counts_without_a_single_record_are_asked_for_twice(client_of: ClientOf, full: bool) -> None:
    with small_sandbox(customers=100) as sandbox:
        states = {table: verified(of) for table, of in counts_by_block(sandbox).items()}
        states["customer_groups"] = verified({"1000-1999": 1})
        sandbox.touch("Address", [5001, 5002], at="2026-01-31T13:00:00+00:00")
        client = client_of(sandbox.sonar_url)
        expected = plan(client, ["1000-1999"], states, force=full).listings
        sandbox.configure(faults=["shrunken~times=1@id>=[0-9]{2,}.*; addresses|updated_at"])
        assert plan(client, ["1000-1999"], states, force=full).listings == expected
        assert sandbox.stats()["faults"] == {"shrunken": 1}


def test_groups_that_were_never_complete_bring_their_accounts_along(client_of: ClientOf) -> None:
    with small_sandbox(customers=100) as sandbox:
        states = {table: verified(of) for table, of in counts_by_block(sandbox).items()}
        found = plan(client_of(sandbox.sonar_url), ["1000-1999"], states)
        assert [x.root for x in found.listings if x.full] == ["accounts"]


@pytest.mark.parametrize("id_filter", ["ignored", "refused"])
def test_without_a_filter_by_id_each_list_is_taken_whole(client_of: ClientOf, id_filter: Any) -> None:
    with small_sandbox(customers=300, id_filter=id_filter) as sandbox:
        blocks = ["0-999", "1000-1999"]
        found = plan(client_of(sandbox.sonar_url), blocks)
        assert [(x.root, x.blocks, x.full, x.whole) for x in found.listings] == [
            (entity.root, tuple(blocks), True, True) for entity in e.OF_CUSTOMERS
        ]
        inventory = plan(client_of(sandbox.sonar_url), ["7000-7999"], entities=e.OF_INVENTORY)
        [fields] = [x for x in inventory.listings if x.root == "inventory_model_field_data"]
        # where the server refuses to leave secret fields out, it is not asked to
        assert bool(fields.search) is (id_filter == "ignored")
        assert inventory.left_out == (inventory.kinds.secret if id_filter == "ignored" else ())


def test_a_plan_keeps_which_fields_the_server_is_asked_to_leave_out(client_of: ClientOf) -> None:
    with small_sandbox(customers=60) as sandbox:
        client = client_of(sandbox.sonar_url)
        inventory = plan(client, ["7000-7999"], entities=e.OF_INVENTORY)
        assert inventory.left_out == inventory.kinds.secret != ()
        assert plan(client, ["1000-1999"]).left_out == ()


def test_a_limit_cuts_the_blocks_at_the_last_wanted_record(client_of: ClientOf) -> None:
    with small_sandbox(customers=1500) as sandbox:
        numbers = numbers_of(sandbox, "Account")
        last = numbers[999]
        assert 2000 <= last <= 2999
        found = plan(client_of(sandbox.sonar_url), ["1000-1999", "2000-2999"], limit=1000)
        accounts = {x.blocks[0]: x for x in found.listings if x.root == "accounts"}
        assert accounts["1000-1999"].cut == ()
        assert accounts["2000-2999"].cut == ("2000-2999",)
        assert accounts["2000-2999"].between == (2000, last)
        assert sum(x.expected or 0 for x in accounts.values()) == 1000
        assert all(x.between == (2000, last) for x in found.listings if x.blocks == ("2000-2999",))


def test_a_limit_holds_where_the_list_cannot_be_counted(client_of: ClientOf) -> None:
    with small_sandbox(customers=100, no_page_info=frozenset({"accounts"})) as sandbox:
        last = numbers_of(sandbox, "Account")[9]
        found = plan(client_of(sandbox.sonar_url), ["1000-1999"], limit=10)
        assert {x.root: x.between for x in found.listings}["accounts"] == (0, last)


def test_fields_that_hold_keys_are_told_from_others_on_all_pages(client_of: ClientOf) -> None:
    with small_sandbox(customers=20, page_cap=10) as sandbox:
        rows = sandbox.rows("InventoryModelField", ["id", "type"])
        kinds = read_field_kinds(client_of(sandbox.sonar_url))
        assert set(kinds.secret) == {int(number) for number, kind in rows if kind in {"LTEAUTHKEY", "OPOPC"}}
        assert dict(kinds.readable) == {
            int(number): kind for number, kind in rows if kind not in {"LTEAUTHKEY", "OPOPC"}
        }
        assert kinds.secret


def test_fields_are_read_to_their_end_where_the_server_repeats_its_last_page(
    serve: Callable[..., Server], client_of: ClientOf
) -> None:
    fields = [model_field(number) for number in range(1, 6)]

    def respond(request: Request) -> Reply:
        page = min(json.loads(request.body)["variables"]["p"]["page"], 3)
        records = fields[(page - 1) * 2 : page * 2]
        return data(inventory_model_fields={"page_info": None, "entities": records})

    server = serve(respond=respond)
    kinds = read_field_kinds(client_of(server.url))
    assert set(kinds.readable) == {1, 2, 3, 4, 5}
    assert len(server.requests) == 4


def model_field(number: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "_version": "1",
        "created_at": None,
        "updated_at": "2025-06-03T08:00:00+00:00",
        "inventory_model_id": "1",
        "name": "Port",
        "type": "TEXT",
        "primary": False,
    }


def test_fields_whose_kind_cannot_be_read_are_not_fetched(client_of: ClientOf) -> None:
    with (
        small_sandbox(customers=20, denied=frozenset({"inventory_model_fields"})) as sandbox,
        pytest.raises(Refused, match="permission for 'inventory_model_fields'"),
    ):
        plan(client_of(sandbox.sonar_url), ["7000-7999"], entities=e.OF_INVENTORY)


def test_small_lists_are_planned_whole_without_a_request(client_of: ClientOf) -> None:
    with small_sandbox(customers=20) as sandbox:
        client = client_of(sandbox.sonar_url)
        found = plan_lookups(client, e.LOOKUPS)
        assert [(x.root, x.blocks, x.full, x.expected) for x in found.listings] == [
            (entity.root, (), True, None) for entity in e.LOOKUPS
        ]
        assert client.effort().requests == 0
