"""How a long list is divided, and what is done about what a division has missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.properties.payload import Sketch
from bdc_pipeline.sources.properties.places import ADDRESS_TYPES
from bdc_pipeline.sources.properties.split import (
    ZIPS_A_REQUEST,
    By,
    Divide,
    Done,
    GiveUp,
    Limits,
    Part,
    Range,
    Read,
    ReadBothWays,
    Standing,
    is_ignored,
    next_step,
    zip_groups,
)
from bdc_pipeline_tests.sources.properties.homes import town

LIMITS = Limits(10_000, 50)
CITY = Part("København", "villa")
ZIPS = ((2100,), (2300,))


def standing(total: int, known: int = 50, **more: object) -> Standing:
    return Standing(more.pop("part", CITY), total, town(known, without_area=0), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "step"),
    [
        (standing(50), Done()),
        (standing(0, 0), Done()),
        (standing(40), Done()),  # more have come than are told: that is for the end to find
        (standing(51), Read()),
        (standing(10_000), Read()),
        (standing(10_001, zips=ZIPS), Divide(By.ZIP, (Part("København", "villa", (2100,)), Part("København", "villa", (2300,))))),
        (standing(10_001, hidden=9_951), GiveUp()),
        (standing(20_000, tried=set(By)), ReadBothWays()),
        (standing(20_001, tried=set(By)), GiveUp()),
        # a few homes of many: reading 5 pages is cheaper than looking for the home, reading 200 is not
        (standing(250, 249), Read()),
        (standing(400, 399, tried=set(By)), Read()),
    ],
)  # fmt: skip
def test_what_is_done_about_a_part(told: Standing, step: object) -> None:
    assert next_step(told, LIMITS) == step


def test_a_few_missing_homes_are_looked_for_by_halves_of_the_known_areas() -> None:
    told = standing(5_000, 4_999)
    step = next_step(told, LIMITS)
    assert isinstance(step, Divide)
    assert step.by is By.AREA
    low, high = step.parts
    assert not step.inferred  # homes without an area are in neither
    in_low = sum(low.holds(home) for home in told.homes)
    assert 0.4 < in_low / len(told.homes) < 0.6
    assert in_low + sum(high.holds(home) for home in told.homes) == len(told.homes)


def test_the_second_half_of_a_range_is_what_the_first_leaves() -> None:
    part = Part("København", "villa", area=Range(80, 120))
    homes = [Sketch("x", "villa", 2100, 80 + n % 41) for n in range(5_000)]
    step = next_step(Standing(part, 5_001, homes), LIMITS)
    assert isinstance(step, Divide)
    assert step.inferred
    assert step.parts[0].area.low == 80
    assert step.parts[-1].area.high == 120


def test_a_list_of_which_nearly_all_is_missing_is_cut_into_parts_that_fit() -> None:
    step = next_step(standing(45_000, 500, tried={By.ZIP}), LIMITS)
    assert isinstance(step, Divide)
    assert step.by is By.AREA
    assert len(step.parts) == 7


@pytest.mark.parametrize(
    ("tried", "kind", "by"),
    [
        (set(), None, By.AREA),
        ({By.AREA}, None, By.PRICE),
        ({By.AREA, By.PRICE}, None, By.TYPE),
        ({By.AREA}, "villa", By.PRICE),
    ],
)
def test_the_order_of_divisions(tried: set[By], kind: str | None, by: By) -> None:
    step = next_step(standing(12_000, 50, part=Part("København", kind), tried=tried), LIMITS)
    assert isinstance(step, Divide)
    assert step.by is by
    if by is By.TYPE:
        assert [part.address_type for part in step.parts] == list(ADDRESS_TYPES)


def test_a_part_by_zip_codes_is_not_divided_by_them_again() -> None:
    step = next_step(standing(12_000, 50, part=Part("København", None, (2300,)), zips=ZIPS), LIMITS)
    assert isinstance(step, Divide)
    assert step.by is By.AREA


@given(
    low=st.none() | st.integers(0, 300),
    width=st.none() | st.integers(0, 300),
    values=st.lists(st.none() | st.integers(0, 700), max_size=60),
    total=st.integers(10_001, 100_000),
)
def test_ranges_hold_every_value_once_and_get_smaller(
    low: int | None, width: int | None, values: list[int | None], total: int
) -> None:
    whole = Range(low, None if width is None else (low or 0) + width)
    part = Part("K", "villa", area=whole)
    homes = [Sketch("x", "villa", 2100, value) for value in values if whole.holds(value)]
    step = next_step(Standing(part, total, homes, tried={By.PRICE, By.TYPE}), LIMITS)
    if not isinstance(step, Divide):
        assert whole.is_set
        assert whole.low == whole.high or (whole.high is not None and whole.high <= 0)
        return
    for value in range(-1, 800):
        assert sum(p.area.holds(value) for p in step.parts) == whole.holds(value)
    assert all(p.area != whole for p in step.parts)
    assert all(p.area.low is None or p.area.high is None or p.area.low <= p.area.high for p in step.parts)


# -- parts -----------------------------------------------------------------------------------------------------


def test_a_part_as_parameters() -> None:
    part = Part("Høje-Taastrup", "terraced house", (2630, 2640), Range(50, None), Range(None, 2_000_000))
    assert part.params() == {
        "municipalities": "Høje-Taastrup",
        "addressTypes": "terraced house",
        "zipCodes": [2630, 2640],
        "areaMin": 50,
        "priceMax": 2_000_000,
    }
    assert Part("Dragør").params() == {"municipalities": "Dragør"}
    assert str(part) == "Høje-Taastrup terraced house 2 zips from 2630 area 50- price -2000000"


@pytest.mark.parametrize(
    ("part", "held"),
    [
        (Part("K"), True),
        (Part("K", "villa"), True),
        (Part("K", "condo"), False),
        (Part("K", zips=(2100, 2200)), True),
        (Part("K", zips=(2200,)), False),
        (Part("K", area=Range(100, 100)), True),
        (Part("K", area=Range(101, None)), False),
        (Part("K", area=Range(None, 99)), False),
        (Part("K", price=Range(2, 2)), True),  # what is asked for it, before what it is valued at
        (Part("K", price=Range(1, 1)), False),
    ],
)
def test_which_homes_a_part_holds(part: Part, held: bool) -> None:
    assert part.holds(Sketch("x", "villa", 2100, 100, latest_valuation=1, case_price=2)) is held


def test_a_condition_holds_no_home_that_lacks_the_value() -> None:
    bare = Sketch("x")
    for part in (
        Part("K", "villa"),
        Part("K", zips=(1,)),
        Part("K", area=Range(None, 9)),
        Part("K", price=Range(0, None)),
    ):
        assert not part.holds(bare)


def test_a_filter_is_ignored_where_a_part_has_all_homes_though_some_do_not_belong_to_it() -> None:
    homes = town(50)
    part = Part("K", "villa", (2100,))
    assert is_ignored(9_000, 9_000, part, homes)
    assert not is_ignored(9_000, 8_999, part, homes)
    assert not is_ignored(9_000, 9_000, part, [home for home in homes if part.holds(home)])
    assert not is_ignored(0, 0, part, homes)


@given(st.lists(st.integers(1000, 9999), max_size=30), st.lists(st.integers(1000, 9999), max_size=900))
def test_zip_codes_are_asked_for_once_each_in_requests_that_are_not_too_long(own: list[int], others: list[int]) -> None:
    groups = zip_groups(own, others[:700], others[500:])
    assert sorted(code for group in groups for code in group) == sorted({*own, *others})
    assert all(len(group) <= ZIPS_A_REQUEST for group in groups)
    assert [group for group in groups if len(group) == 1][: len(set(own))] == [(code,) for code in dict.fromkeys(own)]
