"""Walks through a town's lists: everything comes, whatever the homes lack, or what is missing is told."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.fetching.answers import BadAnswer
from bdc_pipeline.sources.properties.payload import Sketch
from bdc_pipeline.sources.properties.places import all_zips, find_place
from bdc_pipeline.sources.properties.split import Limits, Part, zip_groups
from bdc_pipeline.sources.properties.visiting import sum_of_parts
from bdc_pipeline.sources.properties.walk import PASSES, Ask, For, Walk
from bdc_pipeline_tests.sources.properties.homes import Lists, town

ZIPS = [(2100,), (2200,), (2300,), (2400, 2500)]


def walked(
    lists: Lists,
    root: Part | None = None,
    zips: list[tuple[int, ...]] | None = None,
    *,
    seed: int = 0,
    at_most: int | None = None,
    after: Callable[[int, Ask], Exception | None] = lambda number, ask: None,
) -> Walk:
    """A walk to its end, with answers in any order; `after` may change the town or give an error in place of an answer."""
    walk = Walk(root or Part("Town"), Limits(lists.hits, lists.size), ZIPS if zips is None else zips, at_most=at_most)
    random, waiting, number = Random(seed), walk.begin(), 0
    while waiting:
        ask = waiting.pop(random.randrange(len(waiting)))
        number += 1
        if error := after(number, ask):
            waiting += walk.failed(ask, error)
            continue
        total, homes = lists.page(ask.part, ask.number)
        came = () if ask.purpose is For.COUNT else [(home.address_id, home) for home in homes]
        waiting += walk.arrived(ask, total, came)[1]
    assert walk.over
    return walk


def test_a_list_that_is_shown_whole_is_read_page_by_page() -> None:
    lists = Lists(town(95), hits=100, page=10)
    walk = walked(lists)
    assert (lists.requests, len(walk.homes), walk.total, walk.problems) == (10, 95, 95, {})
    assert walk.zip_parts == []


def test_a_longer_one_comes_whole_too_and_its_parts_are_told() -> None:
    lists = Lists(town(900, without_zip=0.005), hits=500, page=10)
    walk = walked(lists)
    assert (len(walk.homes), walk.total, walk.problems) == (900, 900, {})
    found = sum(part.total for part in walk.zip_parts)
    without = sum(home.zip_code is None for home in lists.homes)
    assert found == 900 - without
    assert sum_of_parts(walk) == f"900 homes = {found} in 3 parts by zip code + {without} found otherwise"


def test_copenhagens_villas_take_a_fortieth_of_a_request_for_each() -> None:
    place = find_place("0101")
    homes = town(14_368, zips=(*place.zips, 1799, 2000), without_zip=0.0005, without_area=0.004)
    lists = Lists(homes, hits=10_000, page=50)
    walk = walked(lists, Part("København", "villa"), zip_groups(place.zips, place.streets, all_zips()))
    assert (len(walk.homes), walk.problems) == (14_368, {})
    assert lists.requests <= 14_368 / 40


def test_zip_codes_that_nobody_knew_are_taken_from_the_homes_that_come() -> None:
    lists = Lists(town(900, zips=(2100, 9990, 9991)), hits=500, page=10)
    walk = walked(lists)
    assert len(walk.homes) == 900
    assert {part.part.zips for part in walk.zip_parts} >= {(9990,), (9991,)}


@pytest.mark.parametrize("ignored", ["zip", "area", "price"])
def test_a_filter_that_is_ignored_is_noticed_and_done_without(ignored: str) -> None:
    lists = Lists(town(900, without_zip=0.1, without_area=0.3), hits=500, page=10, ignored=frozenset({ignored}))
    walk = walked(lists)
    assert len(walk.homes) == 900
    assert walk.problems == {}
    if ignored == "zip":
        assert "the filter by zip code is ignored" in walk.notes[0]


def test_a_type_filter_that_is_ignored_ends_the_walk() -> None:
    lists = Lists(town(300, types=("villa", "condo", "farm")), hits=500, page=10, ignored=frozenset({"type"}))
    walk = walked(lists, Part("Town", "villa"))
    assert "the filter by type is ignored" in walk.problems["filter"]
    assert lists.requests == 1


def test_homes_that_lack_all_that_lists_are_divided_by_are_read_from_both_ends_or_counted_as_missing() -> None:
    bare = [Sketch(f"bare-{n}") for n in range(180)]
    assert len(walked(Lists(bare, hits=100, page=10)).homes) == 180
    walk = walked(Lists(bare * 1 + [Sketch(f"more-{n}") for n in range(120)], hits=100, page=10))
    missing = 300 - len(walk.homes)
    assert missing > 0
    assert f"{missing} are missing" in walk.problems["count"]


@settings(max_examples=60)
@given(
    count=st.integers(0, 700),
    seed=st.integers(0, 10_000),
    hits=st.sampled_from([50, 100, 300, 1000]),
    without=st.sampled_from([(0.0, 0.0), (0.02, 0.05), (0.3, 0.1), (1.0, 0.0), (0.0, 1.0)]),
    typed=st.booleans(),
    known=st.booleans(),
)
def test_whatever_the_town_everything_comes_or_its_number_is_told(
    count: int, seed: int, hits: int, without: tuple[float, float], typed: bool, known: bool
) -> None:
    types = ("villa", "condo", None, "special") if typed else ("villa",)
    homes = town(count, seed, without_zip=without[0], without_area=without[1], types=types)
    walk = walked(Lists(homes, hits=hits, page=10), zips=ZIPS if known else [], seed=seed)
    assert walk.total == count
    if walk.problems:
        assert f"{count - len(walk.homes)} are missing" in walk.problems["count"]
    else:
        assert walk.homes.keys() == {home.address_id for home in homes}


# -- what moves, what fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["delete", "insert", "both"])
@pytest.mark.parametrize("count", [95, 900])
def test_a_town_that_changes_meanwhile_is_walked_through_again(change: str, count: int) -> None:
    lists = Lists(town(count), hits=500, page=10)

    def after(number: int, ask: Ask) -> None:
        if number == 6:
            if change != "insert":
                lists.homes.pop(3)
            if change != "delete":
                lists.homes[2:2] = [Sketch("new-1", "villa", 2100, 90), Sketch("new-2", "villa", 2200, 90)]

    walk = walked(lists, after=after)
    assert walk.problems == {}
    assert walk.homes.keys() == {home.address_id for home in lists.homes}
    assert walk.gone.isdisjoint(walk.homes)
    assert walk.gone <= {"home-3"}


def test_a_number_that_never_stands_still_is_told() -> None:
    lists = Lists(town(95), hits=500, page=10)

    def after(number: int, ask: Ask) -> None:
        lists.homes.append(Sketch(f"new-{number}", "villa", 2100, 90))

    walk = walked(lists, after=after)
    assert walk.passes == PASSES
    assert f"the number changed in each of {PASSES} passes" in walk.problems["count"]


def test_a_home_that_is_listed_twice_is_one_home_and_one_is_missing() -> None:
    homes = town(95)
    homes[50] = homes[20]
    walk = walked(Lists(homes, hits=500, page=10))
    assert walk.problems == {"count": "95 homes are told, 94 came: 1 are missing"}
    assert walk.passes == 2


@pytest.mark.parametrize("count", [95, 900])
def test_pages_that_do_not_come_are_told_and_nothing_is_looked_for_in_their_place(count: int) -> None:
    lists = Lists(town(count), hits=500, page=10)
    failed: list[str] = []

    def after(number: int, ask: Ask) -> Exception | None:
        if number in {5, 9}:
            failed.append(str(ask))
            return BadAnswer("broken")
        return None

    walk = walked(lists, after=after)
    assert walk.problems == dict.fromkeys(failed, "broken")
    assert lists.requests <= 1 + count // 10 + len(ZIPS) + 10
    lost = count - len(walk.homes)
    assert lost > 0
    # a page each; where a part was not even counted, the part
    assert lost <= 20 or any(name.endswith("page 1") for name in failed)
    assert lost <= count // 2


def test_a_first_answer_without_homes_is_asked_for_again() -> None:
    homes = town(40)
    lists = Lists([], hits=500, page=10)

    def after(number: int, ask: Ask) -> None:
        if number == 2:
            lists.homes = homes

    assert len(walked(lists, after=after).homes) == 40
    empty = Lists([], hits=500, page=10)
    assert walked(empty).total == 0
    assert empty.requests == 2


@pytest.mark.parametrize(("count", "at_most"), [(95, 30), (95, 31), (900, 120), (900, 650), (95, 95), (95, 200)])
def test_a_limit_cuts_a_walk_off(count: int, at_most: int) -> None:
    lists = Lists(town(count), hits=500, page=10)
    walk = walked(lists, at_most=at_most)
    assert len(walk.homes) == min(count, at_most)
    assert walk.cut is (at_most < count)
    assert walk.problems == {}
    if at_most < 500:
        assert lists.requests == -(-min(count, at_most) // 10)
