"""What a materialization tells of its fetch: latency, and how near it came to the ideal."""

import threading
import time
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from bdc_pipeline.fetching.pacing import Pacer
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.warehouse.drain import Drained
from bdc_pipeline.warehouse.io_manager import metadata_of
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline_tests.fetching.loopback import Reply, Server, reply
from bdc_pipeline_tests.waiting import SECONDS
from bdc_pipeline_tests.warehouse.shop import ITEMS, NOTES


def drained(effort: Effort, seconds: float) -> Drained:
    counts = {table.name: TableCounts(fetched=10, expected=10) for table in (ITEMS, NOTES)}
    return Drained("run", counts, effort=effort, seconds=seconds)


def test_latency_and_efficiency_are_told_beside_the_counts(tmp_path: Path) -> None:
    effort = Effort(requests=100, retries=2, bytes=5000, seconds=10.0, ideal=1.0)
    told = metadata_of(NOTES, drained(effort, 1.25), tmp_path / "shop.db")
    assert {name: told[name] for name in ("requests", "retries", "bytes", "expected", "latency_ms", "efficiency")} == {
        "requests": 100,
        "retries": 2,
        "bytes": 5000,
        "expected": 10,
        "latency_ms": 100.0,
        "efficiency": 0.8,
    }
    assert told["records_per_second"] == 16.0
    assert told["database"] == dg.MetadataValue.path(tmp_path / "shop.db")


def test_in_a_partitioned_table_they_are_the_runs(tmp_path: Path) -> None:
    told = metadata_of(ITEMS, drained(Effort(10, 0, 0, 1.0, 0.5), 1.0), tmp_path / "shop.db")
    assert (told["run_latency_ms"], told["run_efficiency"]) == (100.0, 0.5)


def test_a_load_that_asked_nobody_has_neither(tmp_path: Path) -> None:
    told = metadata_of(NOTES, drained(Effort(), 1.0), tmp_path / "shop.db")
    assert not {"latency_ms", "efficiency"} & set(told)


def test_what_planning_cost_counts_as_requests_and_not_as_time_that_was_used() -> None:
    plan, fetch = Effort(10, 1, 100, 2.0, 0.5), Effort(20, 0, 200, 4.0, 1.0)
    assert plan.beforehand() + fetch == Effort(30, 1, 300, 6.0, 1.0)


@pytest.mark.parametrize(
    ("workers", "pacer", "ideal"),
    [
        (4, Pacer(concurrency=4), lambda busy: busy / 4),
        (8, Pacer(concurrency=2), lambda busy: busy / 2),
        (4, Pacer(concurrency=4, requests_per_second=2.0), lambda _: 1.0),
    ],
    ids=["threads", "the source's limit", "the rate allowed"],
)
def test_the_ideal_is_all_threads_always_busy_or_the_highest_rate(workers: int, pacer: Pacer, ideal: object) -> None:
    with ApiSession("http://127.0.0.1:9", workers=workers, pacer=pacer) as session:
        session.stats.count(requests=2, busy=0.8)
        assert session.ideal_seconds() == pytest.approx(ideal(0.8))  # type: ignore[operator]


def test_the_time_that_requests_take_is_added_up_over_threads() -> None:
    together = threading.Barrier(3)

    def slow(_: object) -> Reply:
        together.wait(SECONDS)  # all three are under way at once
        return reply()

    server = Server(slow)
    try:
        with ApiSession(server.url, workers=3) as session:
            began = time.monotonic()
            ask = partial(session.fetch, "GET", "", parse=lambda answer: answer.status)
            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert 0 < session.stats.busy <= 3 * (time.monotonic() - began)
            assert session.ideal_seconds() == pytest.approx(session.stats.busy / 3)
    finally:
        server.close()
