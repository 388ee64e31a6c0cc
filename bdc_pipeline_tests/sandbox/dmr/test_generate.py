import base64
import binascii
import json
import re
from collections import Counter
from typing import Any

import pytest

from bdc_pipeline.sandbox.dmr.generate import FIRST_NEW_ID, registries
from bdc_pipeline.sandbox.dmr.words import callsign

DEVICE = [
    "id",
    "lastKnownMaster",
    "callsign",
    "tx",
    "rx",
    "colorcode",
    "status",
    "lat",
    "lng",
    "city",
    "pep",
    "agl",
    "last_seen",
]
DEVICE_SOMETIMES = ["linkname", "hardware", "firmware", "website", "priorityDescription", "description"]
REPEATER = [
    "id",
    "callsign",
    "latitude",
    "longitude",
    "city",
    "group",
    "internet_node",
    "mode",
    "encode",
    "decode",
    "frequency",
    "offset",
    "description",
    "power",
    "operational",
    "restriction",
]
CALL = r"Q[A-Z]\d[A-Z]{3}"


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    made = registries()
    return {
        "devices": json.loads(made.brandmeister_devices),
        "talkgroups": json.loads(made.brandmeister_talkgroups),
        "tgif": json.loads(made.tgif_talkgroups),
        "hearham": json.loads(made.hearham_repeaters),
    }


def test_there_are_as_many_records_as_there_were(real: dict[str, Any]) -> None:
    assert {name: len(found) for name, found in real.items()} == {
        "devices": 34_200,
        "talkgroups": 1_844,
        "tgif": 2_549,
        "hearham": 16_189,
    }
    assert sum(len(real[name]) for name in ("devices", "tgif", "hearham")) == 52_938


@pytest.mark.parametrize(("devices", "counts"), [(3_420, (184, 255, 1_619)), (20, (1, 1, 9))])
def test_other_sizes_are_in_proportion(devices: int, counts: tuple[int, ...]) -> None:
    made = registries(devices)
    assert len(made.devices) == devices
    assert (len(made.talkgroups), len(made.tgif), len(made.hearham)) == counts


def test_documents_weigh_what_the_real_ones_do() -> None:
    made = registries(3_420)
    assert 280 < len(made.brandmeister_devices) / 3_420 < 300
    assert 340 < len(made.hearham_repeaters) / 1_619 < 440


def test_the_same_arguments_give_the_same_bytes_in_any_order_of_use() -> None:
    one, two, other = registries(500), registries(500), registries(500, seed=1)
    first = (one.brandmeister_devices, one.brandmeister_talkgroups, one.tgif_talkgroups, one.hearham_repeaters)
    hearham, tgif = two.hearham_repeaters, two.tgif_talkgroups
    assert (two.brandmeister_devices, two.brandmeister_talkgroups, tgif, hearham) == first
    assert not {other.brandmeister_devices, other.hearham_repeaters, other.tgif_talkgroups} & set(first)


@pytest.mark.parametrize("name", ["devices", "tgif", "hearham"])
def test_ids_are_keys_and_leave_room_for_new_ones(real: dict[str, Any], name: str) -> None:
    ids = [record["id"] for record in real[name]]
    assert len(set(ids)) == len(ids)
    assert all(int(n) < FIRST_NEW_ID or len(str(n)) == 9 for n in ids)


def test_one_device_in_ten_is_a_repeater(real: dict[str, Any]) -> None:
    digits = Counter(len(str(device["id"])) for device in real["devices"])
    assert set(digits) == {6, 7, 9}
    assert digits[6] == 3_420
    assert digits[9] < 0.02 * 34_200


def test_callsigns_are_no_keys(real: dict[str, Any]) -> None:
    assert len({record["callsign"] for record in real["hearham"]}) == 11_179
    calls = [device["callsign"] for device in real["devices"]]
    assert len(set(calls)) < 0.6 * len(calls)
    assert 0.05 < sum(not re.fullmatch(CALL, call) for call in calls) / len(calls) < 0.2


def test_callsigns_are_of_a_series_that_no_country_has(real: dict[str, Any]) -> None:
    assert all(re.match(CALL, record["callsign"]) for name in ("devices", "hearham") for record in real[name])
    assert len({callsign(n) for n in range(50_000)}) == 50_000


def test_a_device_has_its_keys_and_their_types(real: dict[str, Any]) -> None:
    for device in real["devices"]:
        assert [key for key in device if key not in DEVICE_SOMETIMES] == DEVICE
        assert all(isinstance(device[key], int) for key in ("id", "lastKnownMaster", "colorcode", "status"))
        assert all(isinstance(device[key], int | None) for key in ("pep", "agl"))
        assert all(isinstance(device[key], float | None) for key in ("lat", "lng"))
        assert re.fullmatch(r"\d{3}\.\d{4} \d{3}\.\d{4}", f"{device['tx']} {device['rx']}")
        assert re.fullmatch(r"2025-06-07 \d\d:\d\d:\d\d", device["last_seen"])
        assert 0 <= device["status"] <= 4
        assert 0 <= device["colorcode"] <= 15


def test_devices_are_irregular(real: dict[str, Any]) -> None:
    devices = real["devices"]
    assert 0.72 < sum(d["tx"] == d["rx"] for d in devices) / len(devices) < 0.78
    for key in DEVICE_SOMETIMES:
        said = {d.get(key, "absent") for d in devices}
        assert {"absent", ""} <= said
        assert len(said) > 3
    places = Counter((d["lat"], d["lng"]) for d in devices)
    assert places[0.0, 0.0] > 1000
    assert places[None, None] > 100
    assert any(lat is not None and abs(lat) > 90 for lat, _ in places)
    assert {None, 0, -1, 65535} <= {d["pep"] for d in devices}
    assert any("<p>" in (d.get("description") or "") for d in devices)


def test_tgif_descriptions_are_base64_but_for_the_few_that_break_parsers(real: dict[str, Any]) -> None:
    kinds: Counter[str] = Counter()
    for group in real["tgif"]:
        assert re.fullmatch(r"\d{3,7}", group["id"])
        assert all(isinstance(value, str) for value in group.values())
        kinds[_kind(group["description"])] += 1
    assert kinds["not base64"] == 3
    assert kinds["not UTF-8"] == 3
    assert 0.25 < kinds["marked up"] / 2_549 < 0.4
    assert kinds["empty"] > 800
    assert max(len(group["description"]) for group in real["tgif"]) == 73_152
    assert any(not group["name"].strip() for group in real["tgif"])
    assert any(group["name"] != group["name"].strip() for group in real["tgif"])
    assert {"", " ", "https://", "https:// ", "N/A"} < {group["website"] for group in real["tgif"]}


def _kind(description: str) -> str:
    try:
        text = base64.b64decode(description).decode()
    except binascii.Error:
        return "not base64"
    except UnicodeDecodeError:
        return "not UTF-8"
    return "marked up" if re.search(r"<\w|&\w+;", text) else "plain" if text else "empty"


def test_small_data_has_the_strange_descriptions_too() -> None:
    kinds = {_kind(group.description) for group in registries(400).tgif}
    assert kinds == {"empty", "plain", "marked up", "not UTF-8", "not base64"}


def test_hearham_repeaters_are_as_documented(real: dict[str, Any]) -> None:
    repeaters = real["hearham"]
    for repeater in repeaters:
        assert list(repeater) == REPEATER
        assert all(isinstance(repeater[key], int) for key in ("id", "frequency", "offset", "operational"))
        assert all(isinstance(repeater[key], int | float) for key in ("latitude", "longitude"))
        assert 144_000_000 <= repeater["frequency"] <= 450_000_000
        assert repeater["city"].count(", ") == 1
    for key in ("offset", "operational"):
        assert 0.17 < sum(repeater[key] == 0 for repeater in repeaters) / len(repeaters) < 0.24
    assert min(repeater["offset"] for repeater in repeaters) < 0
    assert {"DMR", "DMR    ", "D-STAR", "D-star", "DSTAR", "YSF/FM", "NFM"} < {r["mode"] for r in repeaters}
    assert {"CC0", "CC15", "100.0", "DCS023", ""} < {r["encode"] for r in repeaters}
    assert any(repeater["latitude"] == repeater["longitude"] == 0 for repeater in repeaters)


def test_some_sites_are_in_two_registries(real: dict[str, Any]) -> None:
    def sites(records: list[dict[str, Any]], frequency: str, scale: float) -> set[tuple[str, int]]:
        return {(r["callsign"][:6], round(float(r[frequency]) * scale)) for r in records}

    shared = sites(real["devices"], "tx", 1e6) & sites(real["hearham"], "frequency", 1)
    assert len(shared) > 500


def test_repeaters_are_close_together_somewhere() -> None:
    found = registries(3420)
    places = [(one.lat, one.lng) for one in found.repeaters], [(one.latitude, one.longitude) for one in found.hearham]
    for those in places:
        near = [(lat, lon) for lat, lon in those if lat and lon and abs(lat - 55.68) < 0.2 and abs(lon - 12.57) < 0.4]
        assert len(those) / 40 < len(near) < len(those) / 20
