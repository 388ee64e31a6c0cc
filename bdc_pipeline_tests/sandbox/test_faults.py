import http.client
import json
import random
from typing import Any

import pytest

from bdc_pipeline.sandbox import Fault, Sandbox
from bdc_pipeline.sandbox.faults import FaultPlan, chance
from bdc_pipeline_tests.sandbox.asking import ask, send, small_sandbox

QUERY = {"query": "{ accounts { page_info { total_count } entities { id } } }"}


def test_a_share_does_not_depend_on_the_order_of_requests() -> None:
    labels = [f"accounts page={page}" for page in range(500)]
    shuffled = random.Random(1).sample(labels, len(labels))
    hits = [
        {label for label in order if plan.draw(label) is not None}
        for order, plan in ((labels, _plan()), (shuffled, _plan()))
    ]
    assert hits[0] == hits[1]
    assert 20 < len(hits[0]) < 80


def test_a_retry_is_a_new_draw() -> None:
    plan = _plan(share=0.5)
    assert {plan.draw("accounts page=1") is None for _ in range(50)} == {True, False}


def test_another_seed_hits_other_requests() -> None:
    assert chance(0, "503", "a", 1) != chance(1, "503", "a", 1)


def test_times_and_after_count_the_requests_that_match() -> None:
    plan = FaultPlan([Fault(kind="503", match="^items", after=2, times=2)], 0)
    drawn = [plan.draw(label) is not None for label in ["items", "accounts", "items", "items", "items", "items"]]
    assert drawn == [False, False, False, True, True, False]


def test_the_first_fault_that_applies_is_served() -> None:
    plan = FaultPlan([Fault(kind="503", times=1), Fault(kind="html")], 0)
    kinds = [fault.kind for _ in range(3) if (fault := plan.draw("a"))]
    assert kinds == ["503", "html", "html"]


def _plan(share: float = 0.1) -> FaultPlan:
    return FaultPlan([Fault(kind="503", share=share)], 7)


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "start"),
    [
        ("503", 503, "application/json", b'{"message":'),
        ("401", 401, "application/json", b'{"message":'),
        ("html", 200, "text/html; charset=UTF-8", b"<!DOCTYPE html>"),
        ("empty", 200, "text/html; charset=UTF-8", b""),
        ("timeout~seconds=0", 504, "text/html; charset=UTF-8", b"<!DOCTYPE html>"),
        ("throttle", 200, "application/json", b'{"errors":[{"message":"Too many requests, slow down."}],"data":null}'),
        (
            "partial",
            200,
            "application/json",
            b'{"errors":[{"message":"Internal server error","path":["accounts"]}],"data":null}',
        ),
        (
            "shrunken",
            200,
            "application/json",
            b'{"data":{"accounts":{"page_info":{"total_count":0},"entities":[]}}}',
        ),
    ],
)
def test_a_fault_that_is_an_answer(
    shared_faulty: Sandbox, fault: str, status: int, content_type: str, start: bytes
) -> None:
    shared_faulty.configure(faults=[fault])
    answered, headers, body = send(shared_faulty, QUERY)
    assert (answered, headers["content-type"]) == (status, content_type)
    assert body.startswith(start)
    assert "retry-after" not in headers


@pytest.fixture(scope="module")
def shared_faulty() -> Any:
    with small_sandbox() as sandbox:
        yield sandbox


def test_faults_may_be_given_as_objects(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=[Fault("502", times=1), Fault("500")])
    assert [send(shared_faulty, QUERY)[0] for _ in range(2)] == [502, 500]


def test_retry_after_comes_when_asked_for(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["429~seconds=7"])
    status, headers, _ = send(shared_faulty, QUERY)
    assert (status, headers["retry-after"]) == (429, "7")


def test_a_redirect_leads_to_another_host(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["redirect"])
    status, headers, _ = send(shared_faulty, QUERY)
    assert status == 302
    assert headers["location"] == shared_faulty.url.replace("127.0.0.1", "localhost") + "/sonar/api/graphql"


def test_a_cut_answer_is_shorter_than_it_says(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["cut"])
    with pytest.raises(http.client.IncompleteRead):
        send(shared_faulty, QUERY)


def test_a_reset_connection_gives_no_answer(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["reset"])
    with pytest.raises(ConnectionResetError):
        send(shared_faulty, QUERY)


def test_a_stalled_request_gets_no_answer_in_time(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["stall"])
    with pytest.raises(TimeoutError):
        send(shared_faulty, QUERY, timeout=0.2)


def test_a_stall_ends_with_a_closed_connection(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["stall~seconds=0.05"])
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        send(shared_faulty, QUERY)


def test_of_several_lists_a_partial_answer_lacks_the_first(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=["partial"])
    answer = ask(shared_faulty, "{ a: accounts { entities { id } } services { entities { id } } }")
    assert answer["data"]["a"] is None
    assert len(answer["data"]["services"]["entities"]) == 15
    assert answer["errors"] == [{"message": "Internal server error", "path": ["a"]}]


def test_faults_hit_only_what_they_match_and_are_counted(own: Sandbox) -> None:
    own.configure(faults=[r"503~times=1@^accounts page=2 records=5 \[id>1010\]$"])
    search = 'search: [{integer_fields: [{attribute: "id", operator: GT, search_value: 1010}]}]'

    def status(page: int) -> int:
        query = f"{{ accounts(paginator: {{page: {page}, records_per_page: 5}}, {search}) {{ entities {{ id }} }} }}"
        return send(own, {"query": query})[0]

    assert [status(page) for page in (1, 2, 2)] == [200, 503, 200]
    assert own.stats()["faults"] == {"503": 1}


def test_a_sandbox_with_faults_is_deterministic() -> None:
    def statuses() -> list[int]:
        with small_sandbox(faults=(Fault(kind="503", share=0.3),), seed=4) as sandbox:
            return [
                send(
                    sandbox,
                    {"query": f"{{ accounts(paginator: {{page: {p}, records_per_page: 5}}) {{ entities {{ id }} }} }}"},
                )[0]
                for p in range(1, 25)
            ]

    first = statuses()
    assert first == statuses()
    assert set(first) == {200, 503}


def test_an_answer_after_a_fault_is_whole(shared_faulty: Sandbox) -> None:
    shared_faulty.configure(faults=[])
    assert json.loads(send(shared_faulty, QUERY)[2])["data"]["accounts"]["page_info"]["total_count"] > 300
