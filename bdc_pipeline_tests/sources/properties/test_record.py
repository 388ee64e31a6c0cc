"""A home's record becomes rows of every table that it feeds; what is not to be kept is in none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.record import RAW_LENGTH, Homes, Reader, reject, sketch
from bdc_pipeline_tests.sources.properties.homes import CASE, FULL, raw, record

HOME = FULL["addressID"]


def read(*records: object, code: int = 101) -> Homes:
    raws = [raw(one) for one in records]
    return Reader().read(raws, range(len(raws)), code)


def test_a_full_record_feeds_every_table() -> None:
    homes = read(record(cases=[CASE], isOnMarket=True, casePrice=2_950_000))
    assert homes.rejects == []
    [home] = homes.properties
    assert home == t.Property(
        address_id=HOME, address_type="terraced house", road_name="Prøvevej", house_number="4B", floor=None, door=None,
        zip_code=2300, city_name="Prøveby", place_name="Prøvelund", municipality_code=101, province_code="DK011",
        road_id="00000000-0000-4000-8000-000000000003", city_slug="proeveby", place_id=600_001,
        entry_address_id="00000000-0000-4000-8000-000000000002", gstkvhx="01010123_4B_______", lat=55.5, lon=12.25,
        living_area=118, weighted_area=121.5, latest_sold_area=120, energy_label="c", latest_valuation=3_100_000,
        case_price=2_950_000, is_on_market=True, is_public=True, property_number=654321, bfe_number=7654321,
        slug="proevevej-4b-2300-proeveby-01010123_4b_______",
    )  # fmt: skip
    assert [(b.building_number, b.occurrence, b.building_name, b.total_area) for b in homes.buildings] == [
        ("1", 1, FULL["buildings"][0]["buildingName"], 70), ("3", 1, "Carport", 20), ("3", 2, "Udhus", 9),
    ]  # fmt: skip
    assert homes.renumbered == 1
    house = homes.buildings[0]
    assert (house.number_of_rooms, house.housing_area, house.year_renovated) == (5, 118, None)
    assert [(r.registration_id, r.date, r.amount, r.type, r.per_area_price) for r in homes.registrations] == [
        ("00000000-0000-4000-8000-000000000101", "2024-05-06", 2_900_000, "normal", 24_576),
        ("2000002", "2001-02-03", 900_000, "family", None),
    ]
    assert [pair.bfe_number for pair in homes.bfe_numbers] == [7654321, 7654322]
    [case] = homes.cases
    assert (case.price_cash, case.days_current, case.days_total, case.net_mortgage) == (2_950_000, 14, 60, 12_000)
    assert case.next_open_house == "2026-01-04T11:00:00Z"
    assert {type(row) for row in homes.shared.values()} == {t.Municipality, t.Province, t.Zip, t.City, t.Place, t.Road}
    assert homes.unlisted == homes.foreign == []


def test_missing_keys_are_null_and_unknown_keys_are_passed_over() -> None:
    homes = read({"addressID": "x", "somethingNew": {"a": [1]}})
    [home] = homes.properties
    values = msgspec.structs.asdict(home)
    assert {name for name, value in values.items() if value is not None} == {"address_id", "municipality_code"}
    assert home.municipality_code == 101  # that of the list
    assert (homes.buildings, homes.registrations, homes.cases, homes.shared, homes.rejects) == ([], [], [], {}, [])


@pytest.mark.parametrize("key", sorted(FULL.keys() - {"addressID"}))
def test_any_key_may_be_missing_or_null(key: str) -> None:
    for changed in (record(**{key: ...}), record(**{key: None})):
        homes = read(changed)
        assert homes.rejects == []
        assert len(homes.properties) == 1


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"livingArea": "118"}, "$.livingArea"),
        ({"zipCode": "2300"}, "$.zipCode"),
        ({"buildings": [{"yearBuilt": "old"}]}, "$.buildings[0].yearBuilt"),
        ({"registrations": {}}, "$.registrations"),
        ({"cases": [{"status": "open"}]}, "caseID"),
        ({"municipality": {"municipalityCode": "0101"}}, "$.municipalityCode"),
        ({"isOnMarket": "yes"}, "$.isOnMarket"),
        ({"bfeNumbers": [1.5]}, "$.bfeNumbers[0]"),
        ({"latestValuation": 2**70}, "$.latestValuation"),
    ],
)
def test_a_value_of_the_wrong_type_refuses_its_record_alone(changes: dict[str, Any], where: str) -> None:
    homes = read(record(addressID="before"), record(**changes), record(addressID="behind"))
    assert [home.address_id for home in homes.properties] == ["before", "behind"]
    assert homes.raws == [0, 2]
    assert {row.address_id for row in (*homes.buildings, *homes.registrations)} == {"before", "behind"}
    [refused] = homes.rejects
    assert refused.key == (HOME,)
    assert refused.partition == "0101"
    assert where in refused.reason


@pytest.mark.parametrize("found", ["a text", 3, None, [], {}, {"addressID": 7}, {"addressID": ""}])
def test_what_is_no_record_is_refused_without_a_key(found: object) -> None:
    homes = read(found)
    [refused] = homes.rejects
    assert refused.key == ()


def test_a_home_of_another_municipality_is_told_and_not_kept() -> None:
    homes = read(record(), code=147)
    assert homes.foreign == [HOME]
    assert (homes.properties, homes.buildings, homes.registrations, homes.shared) == ([], [], [], {})


def test_a_home_on_the_market_without_its_listing_is_told() -> None:
    assert read(record(isOnMarket=True)).unlisted == [HOME]
    assert read(record(isOnMarket=True, cases=[])).unlisted == [HOME]
    assert read(record(isOnMarket=True, cases=[CASE])).unlisted == []
    assert read(record(isOnMarket=False)).unlisted == []


def test_a_sale_without_an_id_is_kept_by_its_date_and_amount_and_the_same_one_once() -> None:
    sale = {"date": "1999-01-01", "amount": 5}
    homes = read(record(registrations=[sale, sale, {"amount": 6}, {"registrationID": "7"}, {"registrationID": "7"}]))
    assert [r.registration_id for r in homes.registrations] == ["no-id:1999-01-01:5", "no-id:None:6", "7"]


def test_price_changes_that_boligsiden_tells_are_kept_as_told() -> None:
    told = [{"created": "2026-01-01T00:00:00Z", "oldPrice": 3, "newPrice": 2, "priceChange": -1}, {"oldPrice": 4}]
    homes = read(record(cases=[{**CASE, "priceChanges": told}]))
    assert homes.price_changes == [t.PriceChange(CASE["caseID"], "2026-01-01T00:00:00Z", 3, 2, observed=False)]


def test_what_homes_share_is_one_row_however_often_it_comes() -> None:
    homes = read(*(record(addressID=f"home-{n}") for n in range(5)))
    assert len(homes.shared) == 6


@pytest.mark.parametrize(
    "broken", [{"livingArea": "x"}, {"cases": "SECRET"}, {"city": "SECRET"}, {"realtor": 1, "zipCode": "x"}]
)
def test_nothing_personal_is_kept_of_any_record(broken: dict[str, Any]) -> None:
    case = {**CASE, "priceCash": "x"} if "livingArea" in broken else CASE
    full = record(**{"cases": [case], "isOnMarket": True, "realtor": {"name": "SECRET"}, **broken})
    for homes in (read(record(cases=[CASE], isOnMarket=True)), read(full)):
        kept = [homes.properties, homes.buildings, homes.registrations, homes.cases, list(homes.shared.values())]
        told = repr(kept) + repr([(r.reason, r.raw) for r in homes.rejects])
        assert "SECRET" not in told.replace("SECRET'", "SECRET")
        assert "secret" not in told.lower()


def test_the_text_of_a_refused_record_is_not_endless() -> None:
    many = record(livingArea="x", buildings=[{"buildingName": "n" * 500}] * 50)
    assert len(reject(raw(many), "why", 101).raw) == RAW_LENGTH


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_whatever_comes_is_a_row_or_a_reject(found: object) -> None:
    for value in (
        found,
        {"addressID": "x", "buildings": found},
        {"addressID": "x", "zip": found},
        {"addressID": found},
    ):
        homes = read(value)
        assert len(homes.properties) + len(homes.rejects) + len(homes.foreign) == 1


def test_a_record_is_told_by_as_much_as_can_be_read_of_it() -> None:
    found = sketch(raw(record(casePrice=5)))
    assert found is not None
    assert (found.address_id, found.zip_code, found.living_area, found.price) == (HOME, 2300, 118, 5)
    partly = sketch(raw(record(livingArea="x")))
    assert partly is not None
    assert (partly.address_id, partly.living_area, partly.zip_code) == (HOME, None, None)
    assert sketch(raw({"livingArea": 1})) is None
    assert sketch(raw("text")) is None
