"""The views: what they count, and that what has vanished is in none but the list of changes."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline_tests.sources.dmr.syncing import Shelf


def device(number: int, **values: Any) -> dict[str, Any]:
    place = {"lat": 50.0, "lng": 10.0, "city": "Springfield"}
    return {"id": number, "callsign": "K0ABC", "tx": "439.0", "rx": "430.0", "colorcode": 1, **place, **values}


def repeater(number: int, **values: Any) -> dict[str, Any]:
    place = {"latitude": 50.0, "longitude": 10.0, "city": "Springfield"}
    kind = {"frequency": 439_000_000, "offset": 0, "mode": "DMR", "encode": "CC2"}
    return {"id": number, "callsign": "K0ABC", **place, **kind, **values}


@pytest.fixture
def loaded(shelf: Shelf) -> Shelf:
    devices = [
        device(100001),
        device(100002, tx="145.0", city="Shelbyville"),
        device(1000001),
        device(100003, lat=0, lng=0),
    ]
    shelf.put("brandmeister_devices", devices)
    shelf.put("brandmeister_talkgroups", {"91": "World-wide"})
    shelf.put("tgif_talkgroups", [{"id": "1", "name": "One"}, {"id": "2", "name": "Two"}])
    others = [repeater(2, mode="FM", encode=""), repeater(3, latitude=51.0), repeater(4, frequency=145_000_000)]
    shelf.put("hearham_repeaters", [repeater(1), *others])
    assert shelf.load().is_complete
    return shelf


def test_by_place_and_band(loaded: Shelf) -> None:
    sql = (
        "SELECT place, band, mode, repeaters, without_hotspots, at_brandmeister, at_hearham FROM repeaters_by_place_and_band "
        "ORDER BY 1, 2, 3"
    )
    assert loaded.query(sql) == [
        ("Shelbyville", "2m", "DMR", 1, 1, 1, 0),
        ("Springfield", "2m", "DMR", 1, 1, 0, 1),
        ("Springfield", "70cm", "DMR", 5, 4, 3, 2),
        ("Springfield", "70cm", "FM", 1, 1, 0, 1),
    ]
    assert loaded.one("SELECT sum(repeaters) FROM repeaters_by_place_and_band") == loaded.live("repeaters")


def test_by_band_and_mode(loaded: Shelf) -> None:
    sql = "SELECT band, mode, kind, repeaters, with_coordinates FROM repeaters_by_band_and_mode ORDER BY 1, 2, 3"
    assert loaded.query(sql) == [
        ("2m", "DMR", "repeater", 2, 2),
        ("70cm", "DMR", "hotspot", 1, 1),
        ("70cm", "DMR", "repeater", 4, 3),
        ("70cm", "FM", "repeater", 1, 1),
    ]


def test_the_same_site_in_both_registries_is_found_by_call_sign_output_and_place(loaded: Shelf) -> None:
    sql = (
        "SELECT brandmeister_id, hearham_id, brandmeister_color_code, hearham_color_code FROM same_sites ORDER BY 1, 2"
    )
    assert loaded.query(sql) == [("100001", "1", 1, 2), ("100001", "2", 1, None), ("100002", "4", 1, 2)]


def test_changes_since_yesterday_are_told_apart(loaded: Shelf) -> None:
    for table in ("repeaters", "talkgroups"):
        long_ago = "UPDATE {} SET first_seen = '2020-01-01T00:00:00.000Z', last_updated = '2020-01-01T00:00:00.000Z'"
        connection = sqlite3.connect(loaded.path)
        with connection:
            connection.execute(long_ago.format(table))
        connection.close()
    assert loaded.query("SELECT * FROM recent_changes") == []
    devices = loaded.document("brandmeister_devices")
    loaded.put("brandmeister_devices", [device(100001, colorcode=9), *devices[2:], device(100009)])
    loaded.put("tgif_talkgroups", [{"id": "1", "name": "Uno"}, {"id": "3", "name": "Three"}])
    assert loaded.load().is_complete
    assert loaded.query("SELECT what, registry, id, change FROM recent_changes ORDER BY 1, 3") == [
        ("repeater", "brandmeister", "100001", "changed"),
        ("repeater", "brandmeister", "100002", "vanished"),
        ("repeater", "brandmeister", "100009", "new"),
        ("talkgroup", "tgif", "1", "changed"),
        ("talkgroup", "tgif", "2", "vanished"),
        ("talkgroup", "tgif", "3", "new"),
    ]
    assert loaded.one("SELECT count(*) FROM same_sites WHERE brandmeister_id = '100002'") == 0
    assert loaded.one("SELECT count(*) FROM repeaters_by_place_and_band WHERE place = 'Shelbyville'") == 0


@pytest.mark.parametrize("view", t.SCHEMA.views, ids=lambda view: view.name)
def test_views_of_an_empty_file_are_empty(shelf: Shelf, view: Any) -> None:
    shelf.load()
    assert shelf.query(f"SELECT * FROM {view.name}") == []
