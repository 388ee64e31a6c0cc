"""What a search finds, and what it silently does not."""

from collections import Counter
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.boligsiden.homes import BY_ADDRESS, get, hits, homes, listed, pages, rows, walk

ASKABLE = [
    "villa",
    "condo",
    "terraced house",
    "holiday house",
    "cooperative",
    "farm",
    "hobby farm",
    "full year plot",
    "villa apartment",
    "holiday plot",
    "houseboat",
]


def in_municipality(sandbox: Sandbox, code: int, *columns: str) -> list[list[Any]]:
    found = rows(sandbox, "Address", "municipalityCode", *columns)
    return [row[1:] for row in found if row[0] == code]


def test_the_pages_of_a_municipality_hold_each_of_its_homes_once(own: Sandbox) -> None:
    found = walk(own, municipalities="København")
    assert sorted(found) == [identifier for [identifier] in in_municipality(own, 101, "addressID")]
    assert len(found) == hits(own, municipalities="København") > 100


@pytest.mark.parametrize("name", ["København,Roskilde", "Aarhus", "københavn", "0101", "K\u00c3\u00b8benhavn"])
def test_all_but_one_municipality_by_its_exact_name_finds_nothing_without_an_error(shared: Sandbox, name: str) -> None:
    assert listed(shared, municipalities=name) == {"totalHits": 0, "addresses": []}


def test_a_municipality_twice_is_as_a_comma_list(shared: Sandbox) -> None:
    status, answer = get(shared, "/search/addresses?municipalities=Greve&municipalities=Lejre")
    assert (status, answer["totalHits"]) == (200, 0)


@pytest.mark.parametrize("ignored", ["zipCode", "isOnMarket", "municipality", "addressType", "q"])
def test_unknown_parameters_are_ignored_without_a_word(shared: Sandbox, ignored: str) -> None:
    everything = listed(shared, municipalities="Roskilde")
    assert listed(shared, municipalities="Roskilde", **{ignored: "4000"}) == everything


def test_zip_codes_filter_alone_and_as_a_list(shared: Sandbox) -> None:
    truth = Counter(zip_code for [zip_code] in in_municipality(shared, 265, "zipCode"))
    for asked, expected in {
        "4000": truth[4000],
        "4000,4040": truth[4000] + truth[4040],
        "9999": 0,
        "0": 0,
        "x": 0,
    }.items():
        assert hits(shared, municipalities="Roskilde", zipCodes=asked) == expected


def test_zip_codes_add_up_to_all_homes_but_those_without_one(shared: Sandbox) -> None:
    truth = Counter(zip_code for [zip_code] in in_municipality(shared, 101, "zipCode"))
    without = truth.pop(None)
    assert without > 0
    assert len(truth) > 5
    by_zip = sum(hits(shared, municipalities="København", zipCodes=zip_code) for zip_code in truth)
    assert by_zip == hits(shared, municipalities="København") - without


def test_a_zip_code_may_lie_in_two_municipalities(shared: Sandbox) -> None:
    places = {code for code, zip_code in rows(shared, "Address", "municipalityCode", "zipCode") if zip_code == 2000}
    assert places == {101, 147}


def test_types_add_up_to_all_homes_but_those_without_an_askable_one(shared: Sandbox) -> None:
    truth = Counter(kind for [kind] in rows(shared, "Address", "addressType"))
    assert set(truth) == {*ASKABLE, "special", None}
    by_type = sum(hits(shared, addressTypes=kind) for kind in ASKABLE)
    assert by_type == hits(shared) - truth[None] - truth["special"]
    assert hits(shared, addressTypes="villa") == 2000


@pytest.mark.parametrize("kind", ["castle", "special", "villa,condo", "Villa"])
def test_a_type_that_cannot_be_asked_for_is_refused_with_those_that_can(shared: Sandbox, kind: str) -> None:
    status, answer = get(shared, "/search/addresses", {"addressTypes": kind})
    assert (status, answer["validValues"]) == (400, ASKABLE)


@pytest.mark.parametrize(
    ("asked", "column", "least", "greatest"),
    [
        ({"areaMin": 100, "areaMax": 150}, "livingArea", 100, 150),
        ({"areaMax": 120}, "livingArea", 1, 120),
        ({"priceMin": 5_000_000}, "latestValuation", 5_000_000, 10**9),
    ],
)
def test_ranges_include_their_ends_and_leave_out_homes_without_the_value(
    shared: Sandbox, asked: dict[str, int], column: str, least: int, greatest: int
) -> None:
    truth = in_municipality(shared, 316, column, "casePrice")
    values = [price if price is not None and column != "livingArea" else value for value, price in truth]
    assert None in values
    expected = sum(value is not None and least <= value <= greatest for value in values)
    assert hits(shared, municipalities="Holbæk", **asked) == expected > 0


def test_area_ranges_add_up(shared: Sandbox) -> None:
    parts = [(1, 99), (100, 149), (150, 10_000)]
    total = sum(hits(shared, addressTypes="villa", areaMin=low, areaMax=high) for low, high in parts)
    assert total == hits(shared, addressTypes="villa", areaMin=0)


@pytest.mark.parametrize(("asked", "shown"), [(None, 20), (10, 10), (50, 50), (51, 50), (5000, 50)])
def test_a_page_has_fifty_homes_at_most(shared: Sandbox, asked: int | None, shown: int) -> None:
    _, answer = get(shared, "/search/addresses", {} if asked is None else {"per_page": asked})
    assert len(answer["addresses"]) == shown


def test_no_page_beyond_the_cap_can_be_asked_for(shared: Sandbox) -> None:
    assert len(listed(shared, page=2)["addresses"]) == 50
    assert get(shared, "/search/addresses", {"per_page": 50, "page": 3})[0] == 400
    assert get(shared, "/search/addresses", {"per_page": 1, "page": 3})[0] == 400


def test_by_default_it_is_two_hundred_pages(own: Sandbox) -> None:
    assert listed(own, page=200)["addresses"] == []
    assert get(own, "/search/addresses", {"per_page": 50, "page": 201})[0] == 400


@pytest.mark.parametrize("asked", [{"page": 0}, {"page": "x"}, {"per_page": 0}, {"per_page": -1}])
def test_a_page_that_is_none_is_refused(shared: Sandbox, asked: dict[str, Any]) -> None:
    assert get(shared, "/search/addresses", asked)[0] == 400


def test_smaller_pages_reach_no_fewer_homes() -> None:
    with homes(page_cap=10, hit_cap=100) as sandbox:
        assert len(listed(sandbox, page=10)["addresses"]) == 10
        assert get(sandbox, "/search/addresses", {"page": 11})[0] == 400


def test_addresses_are_sorted_both_ways(own: Sandbox) -> None:
    ascending = walk(own, municipalities="Køge")
    assert walk(own, municipalities="Køge", sortAscending="false") == ascending[::-1]
    names = dict(rows(own, "Address", "addressID", "roadName"))
    roads = [names[identifier] for identifier in ascending]
    assert roads == sorted(roads)
    assert len(set(roads)) > 2


def test_without_repeats_any_order_is_stable(own: Sandbox) -> None:
    found = walk(own, municipalities="Køge", sortBy="price")
    assert found == walk(own, municipalities="Køge", sortBy="")
    assert len(set(found)) == len(found)
    assert found != walk(own, municipalities="Køge")


def test_with_repeats_unsorted_pages_repeat_and_skip_homes() -> None:
    with homes(repeats=True) as sandbox:
        sorted_ids = walk(sandbox, municipalities="Roskilde")
        unsorted = walk(sandbox, municipalities="Roskilde", sortBy="")
        assert len(unsorted) == len(sorted_ids) == len(set(sorted_ids))
        assert 0 < len(set(sorted_ids) - set(unsorted)) < 60
        again = walk(sandbox, municipalities="Roskilde", sortBy="")
    assert again != unsorted
    with homes(repeats=True) as sandbox:
        assert walk(sandbox, municipalities="Roskilde", sortBy="") == unsorted


def test_pages_are_full_but_for_the_last(own: Sandbox) -> None:
    lengths = [len(page) for page in pages(own, municipalities="Roskilde")]
    assert lengths[:-1] == [50] * (len(lengths) - 1)
    assert 0 < lengths[-1] <= 50


def test_cases_are_the_homes_for_sale_with_their_address(own: Sandbox) -> None:
    status, answer = get(own, "/search/cases", {"per_page": 500, **BY_ADDRESS})
    truth = rows(own, "Case", "addressID", "caseID", "priceCash")
    assert (status, answer["totalHits"]) == (200, len(truth))
    served = [[case["address"]["addressID"], case["caseID"], case["priceCash"]] for case in answer["cases"]]
    assert sorted(served) == sorted(truth)
    zip_code = next(case["address"]["zipCode"] for case in answer["cases"] if "zipCode" in case["address"])
    _, of_zip = get(own, "/search/cases", {"zipCodes": zip_code})
    assert 0 < of_zip["totalHits"] < len(truth)


def test_other_paths_and_methods_are_refused(shared: Sandbox) -> None:
    assert get(shared, "/search/homes")[0] == 404
    assert get(shared, "/addresses/")[0] == 404
    assert get(shared, "/addresses/00000000-aaaa-4bbb-8ccc-000000000001")[0] == 404
    assert get(shared, "/addresses/none")[0] == 404
    assert get(shared, "/search/addresses", method="POST")[0] == 405
