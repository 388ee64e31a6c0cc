"""The municipalities, and finding one by what a person types."""

from __future__ import annotations

import pytest

from bdc_pipeline.sources.properties.places import (
    ADDRESS_TYPES,
    ALL,
    UnknownMunicipality,
    all_zips,
    chosen_types,
    find_place,
    places,
)


def test_there_are_36_with_distinct_codes_names_and_zip_codes() -> None:
    assert len(places()) == 36
    assert list(places()) == sorted(places())
    assert len({place.name for place in places().values()}) == 36
    for place in places().values():
        assert len(place.code) == 4
        assert place.code.isdecimal()
        assert len(set(place.zips)) == len(place.zips) > 0
        assert all(1000 <= code <= 4999 for code in (*place.zips, *place.streets)), place.name
    assert len(all_zips()) > 100


@pytest.mark.parametrize(
    "text", ["0101", "101", "København", "københavn", "KØBENHAVN", "Koebenhavn", " København ", "koebenhavn"]
)
def test_a_municipality_is_found_by_code_or_name(text: str) -> None:
    assert find_place(text).code == "0101"


@pytest.mark.parametrize("text", ["Aarhus", "0751", "", "København,Dragør", "10101"])
def test_what_is_none_of_them_is_refused_with_their_names(text: str) -> None:
    with pytest.raises(UnknownMunicipality, match="0101 København, 0147 Frederiksberg"):
        find_place(text)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ([], ()),
        (["farm", "villa", "farm"], ("villa", "farm")),
        (["condo", ALL], (ALL,)),
        (list(reversed(ADDRESS_TYPES)), ADDRESS_TYPES),
    ],
)
def test_types_come_once_each_and_all_of_them_alone(asked: list[str], chosen: tuple[str, ...]) -> None:
    assert chosen_types(asked) == chosen
