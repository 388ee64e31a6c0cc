"""What can be counted and what can be made to go wrong."""

from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.boligsiden.homes import BY_ADDRESS, get, hits, homes, listed

LABEL = "addresses municipality=København type=villa page=3 zip=2300,2500 area=50..99 price=..9000000 sort=-address"


def test_a_label_says_what_is_asked_for_in_one_order(own: Sandbox) -> None:
    asked = {"sortAscending": "false", "page": 3, "zipCodes": "2300,2500", "areaMax": 99, "areaMin": 50}
    listed(own, **asked, municipalities="København", addressTypes="villa", priceMax=9_000_000)
    get(own, "/search/addresses")
    get(own, "/search/cases", {"zipCodes": 2300, "per_page": 500})
    get(own, "/addresses/x")
    stats = own.stats()
    assert stats["labels"] == {
        LABEL: 1,
        "addresses page=1 records=20": 1,
        "cases page=1 zip=2300 records=500": 1,
        "address x": 1,
    }
    assert stats["topics"] == {"addresses": 2, "cases": 1, "address": 1}
    assert stats["authorized"] is False


def test_faults_are_aimed_by_label(own: Sandbox) -> None:
    own.configure(faults=["503~times=1@municipality=Greve type=villa page=2( |$)"])

    def status(**parameters: Any) -> int:
        return get(own, "/search/addresses", {"per_page": 50, "addressTypes": "villa", **parameters})[0]

    assert status(municipalities="Greve", page=1) == 200
    assert status(municipalities="Køge", page=2) == 200
    assert [status(municipalities="Greve", page=2) for _ in range(2)] == [503, 200]
    assert own.stats()["faults"] == {"503": 1}


@pytest.mark.parametrize(
    ("fault", "of_list", "of_home"),
    [
        ("shrunken", {"totalHits": 0, "addresses": []}, {"addressID": "x"}),
        ("throttle", *[{"message": "Too many requests, slow down."}] * 2),
        ("partial", {"totalHits": 2000, "addresses": []}, {}),
    ],
)
def test_answers_that_are_wrong_in_the_apis_own_form(own: Sandbox, fault: str, of_list: Any, of_home: Any) -> None:
    own.configure(faults=[fault])
    assert get(own, "/search/addresses", {"addressTypes": "villa"}) == (200, of_list)
    assert get(own, "/addresses/x") == (200, of_home)


def test_a_page_in_the_middle_can_be_empty(own: Sandbox) -> None:
    own.configure(faults=["partial@^addresses .*page=2( |$)"])
    answers = [listed(own, municipalities="Roskilde", page=page) for page in (1, 2, 3)]
    assert [len(answer["addresses"]) for answer in answers] == [50, 0, 50]
    assert len({answer["totalHits"] for answer in answers}) == 1


@pytest.mark.parametrize("answer", [200, 429])
def test_requests_above_the_limit_are_told_so(answer: int) -> None:
    with homes(rate_limit=0.001, rate_limit_status=answer) as sandbox:
        hits(sandbox)
        assert get(sandbox, "/search/addresses", BY_ADDRESS)[0] == answer
        assert sandbox.stats()["rate_limited"] == 1
