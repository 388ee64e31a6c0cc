import threading
import time

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline.sandbox.frame import RateLimit
from bdc_pipeline_tests.sandbox.asking import ask, send, small_sandbox
from bdc_pipeline_tests.waiting import SECONDS, until

QUERY = {"query": "{ accounts { entities { id name } } }"}


def test_latency_is_added_to_each_request_but_requests_overlap(own: Sandbox) -> None:
    own.configure(latency_ms=1000)
    together = threading.Barrier(10)
    taken = []

    def ask_at_once() -> None:
        together.wait(SECONDS)
        begun = time.monotonic()
        send(own, QUERY, timeout=SECONDS)
        taken.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask_at_once) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 10
    assert min(taken) > 0.9  # the timer of the event loop is no finer than a millisecond
    # one after the other there would be one at a time
    assert own.stats()["max_concurrent"] > 5


def test_requests_over_the_limit_get_a_message_that_says_so() -> None:
    with small_sandbox(rate_limit=0.001) as sandbox:
        assert "data" in ask(sandbox, QUERY["query"])
        assert ask(sandbox, QUERY["query"]) == {"errors": [{"message": "Too many requests, slow down."}], "data": None}
        assert sandbox.stats()["rate_limited"] == 1


def test_requests_over_the_limit_may_get_a_real_429() -> None:
    with small_sandbox(rate_limit=0.001, rate_limit_status=429) as sandbox:
        statuses = [send(sandbox, QUERY) for _ in range(2)]
        assert [status for status, _, _ in statuses] == [200, 429]
        assert int(statuses[1][1]["retry-after"]) > 900


def test_the_limit_admits_as_many_at_once_as_in_a_second_and_then_as_many_as_time_has_passed_for() -> None:
    now = 100.0
    limit = RateLimit(5, clock=lambda: now)
    assert sum(limit.admits() for _ in range(20)) == 5
    assert limit.retry_after == 1
    now += 0.5
    assert sum(limit.admits() for _ in range(20)) == 2
    now += 3600
    assert sum(limit.admits() for _ in range(20)) == 5


def test_stats_tell_what_was_asked(own: Sandbox) -> None:
    ask(own, "{ accounts(id: 1001) { entities { id s: account_status { name } } } services { entities { id } } }")
    send(own, QUERY, token=None)
    stats = own.stats()
    assert stats["total"] == 2
    assert stats["topics"] == {"accounts": 1, "services": 1}
    assert stats["labels"] == {"accounts page=1 records=15 id=1001; services page=1 records=15": 1}
    assert stats["selected"] == ["Account.id", "AccountStatus.name", "Service.id"]
    assert stats["authorized"] is False
    own.reset_stats()
    assert own.stats()["total"] == 0


def test_requests_that_are_under_way_at_a_reset_do_not_count_for_ever(own: Sandbox) -> None:
    own.configure(faults=["timeout~seconds=0.2"])
    held = [threading.Thread(target=send, args=(own, QUERY)) for _ in range(3)]
    for thread in held:
        thread.start()
    until(lambda: own.stats()["faults"].get("timeout") == 3, "the requests do not come")
    own.reset_stats()
    for thread in held:
        thread.join()
    own.configure(faults=[])
    send(own, QUERY)
    assert own.stats()["max_concurrent"] == 1


def test_control_is_free_of_faults_latency_and_limits(own: Sandbox) -> None:
    own.configure(faults=["reset"], latency_ms=60_000, rate_limit=0.001)
    assert own.stats()["total"] == 0
    own.touch("Account", [1001])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 3}, "seed cannot change while it runs"),
        ({"page_cap": 0}, "page_cap is 1 or more"),
        ({"nonsense": 1}, "no option nonsense"),
        ({"faults": ["oops"]}, "There is no fault 'oops'"),
        ({"id_filter": "maybe"}, "do not fit"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_a_sentence(
    shared: Sandbox, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        shared.configure(**changes)
