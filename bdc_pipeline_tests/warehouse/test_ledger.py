"""What the ledger keeps of runs, partitions and rejected records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.ledger import Failure, SyncReport, TableCounts
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline_tests.warehouse.shop import ITEMS, LATER, NOTES, SHOP, rejected

NOW = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "shop.db", SHOP) as opened:
        yield opened


def state(store: Store, key: str = "0-9") -> ledger.PartitionState:
    return ledger.partition_states(store.connection, ITEMS)[key]


def rejects(store: Store) -> list[tuple[str, ...]]:
    sql = "SELECT record_key, raw, reason, first_seen, last_seen, resolved_at, run_id FROM _rejects ORDER BY 1, 2"
    return store.connection.execute(sql).fetchall()


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_run_that_nobody_noted_has_no_report(store: Store) -> None:
    assert ledger.report_of(store.connection, "nobody") is None
    assert ledger.counts_of(store.connection, "nobody") == {}
    assert ledger.failures_of(store.connection, "nobody") == []


def test_a_report_holds_the_sums_of_what_transactions_and_drains_did(store: Store) -> None:
    with store.transaction():
        for seconds in (1.5, 2.0):
            ledger.begin_run(store, "run 1", "shop", NOW)
            ledger.add_counts(
                store, "run 1", NOTES, TableCounts(expected=3, fetched=2, inserted=1, unchanged=1, rejected=1)
            )
            ledger.add_counts(store, "run 1", ITEMS, TableCounts(vanished=4, updated=1, fetched=1))
            ledger.end_run(store, "run 1", Effort(requests=10, retries=1, bytes=99, seconds=8), seconds, NOW)
    assert ledger.report_of(store.connection, "run 1") == SyncReport(
        source="shop",
        complete=True,
        seconds=3.5,
        requests=20,
        retries=2,
        tables={
            "notes": TableCounts(expected=6, fetched=4, inserted=2, unchanged=2, rejected=2),
            "items": TableCounts(vanished=8, updated=2, fetched=2),
        },
        failures=[],
    )


def test_a_run_is_incomplete_until_it_has_ended_and_after_any_failure(store: Store) -> None:
    def is_complete() -> bool:
        report = ledger.report_of(store.connection, "run 1")
        assert report
        return report.complete

    with store.transaction():
        ledger.begin_run(store, "run 1", "shop", NOW)
        assert not is_complete()
        ledger.end_run(store, "run 1", Effort(), 1.0, NOW)
        assert is_complete()
        ledger.begin_run(store, "run 1", "shop", NOW)
        assert not is_complete()
        ledger.add_failure(store, "run 1", ITEMS, ["0-9"], "page 2", "HTTP 502", NOW)
        ledger.end_run(store, "run 1", Effort(), 1.0, NOW)
        assert not is_complete()
        ledger.begin_run(store, "run 1", "shop", NOW)
        ledger.end_run(store, "run 1", Effort(), 1.0, NOW)
        assert not is_complete()
        ledger.begin_run(store, "run 2", "shop", NOW)
        ledger.end_run(store, "run 2", Effort(), 1.0, NOW)
    report = ledger.report_of(store.connection, "run 2")
    assert report
    assert report.complete


def test_an_unknown_total_stays_unknown(store: Store) -> None:
    with store.transaction():
        for expected in (3, None, 4):
            ledger.add_counts(store, "run 1", ITEMS, TableCounts(expected=expected, fetched=1))
    assert ledger.counts_of(store.connection, "run 1") == {"items": TableCounts(expected=None, fetched=3)}


def test_failures_are_told_in_the_order_in_which_they_were_found(store: Store) -> None:
    with store.transaction():
        for number in (3, 1, 2):
            ledger.add_failure(store, "run 1", ITEMS, ["0-9", "10-19"], f"page {number}", "HTTP 502", NOW)
    assert ledger.failures_of(store.connection, "run 1") == [Failure(f"page {n}", "HTTP 502") for n in (3, 1, 2)]


def test_a_report_prints_as_json_with_null_for_an_unknown_total(store: Store) -> None:
    with store.transaction():
        ledger.begin_run(store, "run 1", "shop", NOW)
        ledger.add_counts(store, "run 1", ITEMS, TableCounts(expected=None))
    printed = msgspec.json.decode(msgspec.json.encode(ledger.report_of(store.connection, "run 1")))
    assert list(printed) == ["source", "complete", "seconds", "requests", "retries", "tables", "failures"]
    assert list(printed["tables"]["items"]) == [
        "expected", "fetched", "inserted", "updated", "unchanged", "vanished", "rejected",
    ]  # fmt: skip
    assert printed["tables"]["items"]["expected"] is None


# -- partitions ----------------------------------------------------------------------------------------------------


def test_a_partition_is_incomplete_until_it_is_said_to_be_complete(store: Store) -> None:
    with store.transaction():
        ledger.record_partition(store, ITEMS, "0-9", "run 1", NOW, {"stored": 5})
        assert state(store) == ledger.PartitionState(False, None, None, NOW, None, 5, 0, None)
        ledger.record_partition(store, ITEMS, "0-9", "run 2", LATER, {"complete": 1})
        assert state(store) == ledger.PartitionState(True, None, None, LATER, None, 5, 0, None)
        ledger.record_partition(store, ITEMS, "0-9", "run 3", LATER, {"stored": 6})
        assert state(store).complete


def test_what_is_recorded_of_a_partition_keeps_what_else_is_known_of_it_and_of_others(store: Store) -> None:
    with store.transaction():
        for key in ("0-9", "10-19"):
            values = {"complete": 1, "watermark": "w", "verified_at": NOW, "stored": 3}
            ledger.record_partition(store, ITEMS, key, "run 1", NOW, values)
        ledger.record_partition(store, ITEMS, "0-9", "run 2", LATER, {"complete": 0, "problem": "page 2: HTTP 502"})
    hurt = ledger.PartitionState(False, "w", NOW, LATER, None, 3, 0, "page 2: HTTP 502")
    whole = ledger.PartitionState(True, "w", NOW, NOW, None, 3, 0, None)
    assert ledger.partition_states(store.connection, ITEMS) == {"0-9": hurt, "10-19": whole}
    assert ledger.partition_states(store.connection, NOTES) == {}


def test_a_table_without_partitions_has_one_entry(store: Store) -> None:
    with store.transaction():
        ledger.record_partition(store, NOTES, None, "run 1", NOW, {"complete": 1})
    assert list(ledger.partition_states(store.connection, NOTES)) == [""]


@given(st.lists(st.none() | st.integers(0, 10**6).map("2026-{:07}".format), min_size=1))
def test_a_watermark_only_moves_forward(marks: list[str | None]) -> None:
    with Store(Path(":memory:"), SHOP) as store, store.transaction():
        for place in range(len(marks)):
            values = {} if marks[place] is None else {"watermark": marks[place]}
            ledger.record_partition(store, ITEMS, "0-9", "run 1", NOW, values)
            assert state(store).watermark == max((m for m in marks[: place + 1] if m), default=None)


# -- rejected records ----------------------------------------------------------------------------------------------


def test_a_record_rejected_again_is_kept_once_and_noted_as_seen_again(store: Store) -> None:
    with store.transaction():
        ledger.record_reject(store, rejected(7, raw='{"id": 7}'), "run 1", NOW)
        ledger.record_reject(store, rejected(7, raw='{"id": 7}', reason="no price"), "run 2", LATER)
    assert rejects(store) == [("7", '{"id": 7}', "no price", NOW, LATER, None, "run 2")]


def test_records_without_a_key_are_told_apart_by_their_text(store: Store) -> None:
    with store.transaction():
        for raw in ("{}", "[]", "{}"):
            ledger.record_reject(store, rejected(raw=raw), "run 1", NOW)
    assert [raw for _, raw, *_ in rejects(store)] == ["[]", "{}"]
    assert ledger.open_rejects(store.connection, ITEMS, ["0-9"])["0-9"] == 2


def test_a_record_that_changed_and_is_still_rejected_is_one_open_reject(store: Store) -> None:
    with store.transaction():
        ledger.record_reject(store, rejected(7, raw="old"), "run 1", NOW)
        ledger.record_reject(store, rejected(7, raw="new"), "run 2", LATER)
    assert ledger.open_rejects(store.connection, ITEMS, ["0-9"])["0-9"] == 1
    assert [(raw, resolved) for _, raw, _, _, _, resolved, _ in rejects(store)] == [("new", None), ("old", LATER)]


@pytest.mark.parametrize(
    "reject",
    [
        rejected("\ud800", raw="\ud800", reason="\ud800"),
        rejected(2**70, raw="x" * 10**6, reason="\x00"),
        rejected(None, raw=""),  # type: ignore[arg-type]
        rejected("a/b", "Ærø", partition=None),
    ],
    ids=["lone surrogates", "long", "no text", "no partition"],
)
def test_a_reject_is_kept_whatever_is_in_it(store: Store, reject: ledger.Reject) -> None:
    with store.transaction():
        ledger.record_reject(store, reject, "run 1", NOW)
        ledger.record_reject(store, reject, "run 1", NOW)
    assert ledger.open_rejects(store.connection, ITEMS, [reject.partition]).total() == 1


def test_rejects_that_a_full_listing_did_not_bring_again_are_resolved_in_its_partitions_alone(store: Store) -> None:
    with store.transaction():
        ledger.record_reject(store, rejected(1), "run 1", NOW)
        ledger.record_reject(store, rejected(2), "run 1", NOW)
        ledger.record_reject(store, rejected(12, partition="10-19"), "run 1", NOW)
        ledger.record_reject(store, rejected("x", partition=None, table=NOTES), "run 1", NOW)
        ledger.record_reject(store, rejected(2), "run 2", LATER)
        ledger.resolve_rejects(store, ITEMS, ["0-9"], "run 2", LATER)
    assert [(key, resolved) for key, _, _, _, _, resolved, _ in rejects(store)] == [
        ("1", LATER),
        ("12", None),
        ("2", None),
        ("x", None),
    ]
    with store.transaction():
        ledger.record_reject(store, rejected(1), "run 3", LATER)
    assert ledger.open_rejects(store.connection, ITEMS, ["0-9"])["0-9"] == 2


# -- facts ---------------------------------------------------------------------------------------------------------


def test_a_fact_told_again_replaces_the_one_before_and_others_stay(store: Store) -> None:
    with store.transaction():
        ledger.set_metadata(store, {"a": "1", "b": "2"}, NOW)
        ledger.set_metadata(store, {"b": "3"}, LATER)
    assert store.connection.execute("SELECT * FROM metadata ORDER BY key").fetchall() == [
        ("a", "1", NOW),
        ("b", "3", LATER),
    ]
