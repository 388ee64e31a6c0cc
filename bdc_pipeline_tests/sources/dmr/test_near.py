"""Repeaters around a point, against a look at every one of them."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bdc_pipeline.sources.dmr import reading
from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.near import EARTH_KM, Around, distance_km, near
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline_tests.sources.dmr.syncing import Shelf

LAT, LON = st.floats(-90, 90), st.floats(-180, 180)
# also where boxes end, and what a tree of 32 bits a number holds exactly
PLACES = st.tuples(
    LAT | st.sampled_from([-90.0, -89.5, 0.0, 89.5, 90.0]), LON | st.sampled_from([-180.0, -179.5, 0.0, 179.5, 180.0])
)


def straight_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The distance by the angle between two vectors, which has nothing to do with haversines."""
    a, b = (
        (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))
        for lat, lon in (map(math.radians, one), map(math.radians, other))
    )
    cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    return EARTH_KM * math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(a, b, strict=True)))


@contextlib.contextmanager
def holding(places: list[tuple[float, float]]) -> Iterator[sqlite3.Connection]:
    """The tables as near() asks them, with a repeater at each place."""
    connection = sqlite3.connect(":memory:")
    with contextlib.closing(connection):
        connection.execute("CREATE TABLE repeaters (source, external_id, kind, callsign, callsign_raw, output_hz, input_hz, "
            "band, mode, color_code, city_raw, lat, lon, operational, location_id, vanished_at)")  # fmt: skip
        connection.execute("CREATE VIRTUAL TABLE locations_rtree USING rtree (id, min_lat, max_lat, min_lon, max_lon)")
        for number, (lat, lon) in enumerate(places):
            connection.execute("INSERT INTO locations_rtree VALUES (?, ?, ?, ?, ?)", (number, lat, lat, lon, lon))
            connection.execute(
                "INSERT INTO repeaters (source, external_id, kind, lat, lon, location_id) VALUES ('x', ?, 'repeater', ?, ?, ?)",
                (str(number), lat, lon, number),
            )
        yield connection


@settings(max_examples=150)
@given(st.lists(PLACES, min_size=1, max_size=30), PLACES, st.floats(0.001, 21_000))
@example([(89.9, 0.0), (89.9, 180.0), (90.0, 5.0)], (89.95, 90.0), 50.0)
@example([(10.0, -179.9), (10.0, 179.9)], (10.0, 180.0), 30.0)
@example([(10.0, -180.0), (10.0, 180.0)], (10.0, 179.5), 60.0)
@example([(0.0, 0.0)], (-90.0, 0.0), EARTH_KM * math.pi / 2 - 1e-9)
def test_the_circle_holds_what_a_look_at_each_place_finds(
    places: list[tuple[float, float]], centre: tuple[float, float], km: float
) -> None:
    with holding(places) as connection:
        found = {one.external_id for one in near(connection, Around(*centre, km))}
    distances = {str(number): straight_km(centre, place) for number, place in enumerate(places)}
    assert {number for number, away in distances.items() if away <= km - 1e-3} <= found
    assert found <= {number for number, away in distances.items() if away <= km + 1e-3}


@settings(max_examples=100)
@given(PLACES, PLACES)
def test_a_place_at_just_the_distance_asked_for_is_found(
    centre: tuple[float, float], place: tuple[float, float]
) -> None:
    km = distance_km(*centre, *place)
    if km > 0:
        with holding([place]) as connection:
            assert len(near(connection, Around(*centre, km))) == 1


@given(PLACES, PLACES)
def test_distances_are_those_of_a_sphere(one: tuple[float, float], other: tuple[float, float]) -> None:
    assert distance_km(*one, *other) == pytest.approx(straight_km(one, other), abs=1e-3)


def test_a_known_distance() -> None:
    # Copenhagen to Aarhus
    assert distance_km(55.6761, 12.5683, 56.1629, 10.2039) == pytest.approx(156.7, abs=1)


@pytest.mark.parametrize(
    ("lat", "lon", "km", "sentence"),
    [
        (90.5, 0, 1, "no place on Earth"),
        (0, -181, 1, "no place on Earth"),
        (math.nan, 0, 1, "no place on Earth"),
        (0, 0, 0, "give one above 0"),
        (0, 0, -1, "give one above 0"),
        (0, 0, math.nan, "give one above 0"),
        (0, 0, math.inf, "give one above 0"),
    ],
)
def test_a_circle_that_is_none_is_refused(lat: float, lon: float, km: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Around(lat, lon, km)


# -- in a loaded file ------------------------------------------------------------------------------------------


def device(number: int, lat: float, lng: float, **values: Any) -> dict[str, Any]:
    return {"id": number, "callsign": f"K{number}A", "tx": "439.0", "rx": "430.0", "lat": lat, "lng": lng, **values}


def repeater(number: int, lat: float, lng: float, **values: Any) -> dict[str, Any]:
    return {"id": number, "callsign": "W9TST", "latitude": lat, "longitude": lng, "city": "", "offset": 0, **values}


@pytest.fixture
def find(shelf: Shelf) -> Iterator[Callable[..., list[str]]]:
    shelf.put(
        "brandmeister_devices",
        [
            device(100001, 50.0, 10.0),
            device(1000001, 50.0, 10.0),
            device(100002, 50.1, 10.0, tx="145.0"),
            {"id": 100003, "callsign": "K3A", "tx": "439.0", "rx": "430.0"},  # nobody knows where it is
        ],
    )
    shelf.put("brandmeister_talkgroups", {"91": "World-wide"})
    shelf.put("tgif_talkgroups", [{"id": "1"}])
    shelf.put(
        "hearham_repeaters",
        [
            repeater(1, 50.2, 10.0, frequency=145_000_000, mode="YSF/FM"),
            repeater(2, 50.3, 10.0, frequency=439_000_000, mode="D-star", operational=0),
            repeater(3, 0, 0, frequency=439_000_000, mode="DMR"),
            repeater(4, 59.0, 10.0, frequency=439_000_000, mode="DMR"),
        ],
    )
    assert shelf.load().is_complete
    with Store(shelf.path, t.SCHEMA, read_only=True) as store:
        yield lambda km=50.0, **options: [
            one.external_id for one in near(store.connection, Around(50.0, 10.0, km), **options)
        ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["100001", "100002", "1", "2"]),
        ({"hotspots": True}, ["1000001", "100001", "100002", "1", "2"]),
        ({"km": 12.0}, ["100001", "100002"]),
        ({"km": 5000.0}, ["100001", "100002", "1", "2", "4"]),
        ({"band": "70cm"}, ["100001", "2"]),
        ({"band": "70cm", "mode": "DMR"}, ["100001"]),
        ({"band": "2m"}, ["100002", "1"]),
        ({"band": "2M"}, ["100002", "1"]),
        ({"mode": "DMR"}, ["100001", "100002"]),
        ({"mode": "fm"}, ["1"]),
        ({"mode": "C4FM"}, ["1"]),
        ({"mode": "dstar"}, ["2"]),
        ({"mode": "F"}, []),
        ({"mode": "%"}, []),
        ({"mode": "_M"}, []),
        ({"band": "70cm", "mode": "D-STAR"}, ["2"]),
        ({"band": "23cm"}, []),
    ],
)
def test_filters(find: Callable[..., list[str]], options: dict[str, Any], expected: list[str]) -> None:
    assert find(**options) == expected


def test_what_has_vanished_is_not_found(shelf: Shelf, find: Callable[..., list[str]], tmp_path: Path) -> None:
    shelf.put("hearham_repeaters", [*shelf.document("hearham_repeaters")[1:], repeater(9, 50.0, 10.001)])
    assert shelf.load().is_complete
    assert find() == ["100001", "9", "100002", "2"]


def test_what_moves_is_found_where_it_is_now(shelf: Shelf, find: Callable[..., list[str]]) -> None:
    moved = shelf.document("hearham_repeaters")
    moved[3]["latitude"] = 50.05
    shelf.put("hearham_repeaters", moved)
    assert shelf.load().is_complete
    assert find() == ["100001", "4", "100002", "1", "2"]


def test_every_known_spelling_of_a_mode_is_understood() -> None:
    assert all(reading.usual_mode(spelling) == mode for spelling, mode in reading.MODES.items())
