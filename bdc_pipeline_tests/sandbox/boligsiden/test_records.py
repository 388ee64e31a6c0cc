"""Which homes there are and what is said of them."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox, SandboxOptions
from bdc_pipeline.sandbox.boligsiden.generate import TYPES, build
from bdc_pipeline.sandbox.boligsiden.places import municipalities
from bdc_pipeline.sandbox.boligsiden.record import ADDRESS_KEYS, BUILDING_KEYS, CASE_KEYS, REGISTRATION_KEYS
from bdc_pipeline.sandbox.command import parse_arguments
from bdc_pipeline_tests.sandbox.boligsiden.homes import detail, homes, listed, rows, walk


def records(sandbox: Sandbox, municipality: str) -> list[Any]:
    pages = -(-listed(sandbox, municipalities=municipality)["totalHits"] // 50)
    return [
        home
        for page in range(1, pages + 1)
        for home in listed(sandbox, municipalities=municipality, page=page)["addresses"]
    ]


@pytest.fixture(scope="module")
def everything() -> Any:
    with homes() as sandbox:
        yield [record for place in municipalities() for record in records(sandbox, place.name)]


def test_records_have_all_keys_that_are_known_and_no_nulls(everything: list[Any]) -> None:
    assert {key for home in everything for key in home} == ADDRESS_KEYS
    children = {"buildings": BUILDING_KEYS, "registrations": REGISTRATION_KEYS}
    for name, keys in children.items():
        assert {key for home in everything for child in home.get(name, ()) for key in child} == keys
    assert {key for home in everything for case in home.get("cases", ()) for key in case} == CASE_KEYS - {
        "basementArea",
        "energyLabel",
        "numberOfBathrooms",
        "numberOfToilets",
    }
    assert "null" not in json.dumps(everything)


def test_most_keys_are_absent_somewhere(everything: list[Any]) -> None:
    counts = Counter(key for home in everything for key in home)
    sometimes = {"addressType", "buildings", "registrations", "zipCode", "livingArea", "latestValuation", "coordinates"}
    assert all(0 < counts[key] < len(everything) for key in sometimes)


def test_ids_are_distinct_and_flats_share_an_entrance(everything: list[Any]) -> None:
    assert len({home["addressID"] for home in everything}) == len(everything)
    entrances = defaultdict(list)
    for home in everything:
        entrances[home["entryAddressID"]].append(home)
    shared = [flats for flats in entrances.values() if len(flats) > 2]
    assert shared
    for flats in shared:
        assert len({(flat["roadName"], flat["houseNumber"]) for flat in flats}) == 1
        assert len({(flat["floor"], flat["door"]) for flat in flats}) == len(flats)


def test_a_register_number_spells_the_address(everything: list[Any]) -> None:
    assert all(len(home["gstkvhx"]) == 19 for home in everything)
    home = next(home for home in everything if home.get("door") == "th")
    code, road = home["municipality"]["municipalityCode"], home["road"]["roadCode"]
    assert home["gstkvhx"] == f"{code:04}{road:04}{home['houseNumber']:_>4}{home['floor']:_>3}__th"


def test_a_registration_is_shared_between_the_homes_of_a_deed(everything: list[Any]) -> None:
    homes_of = defaultdict(list)
    for home in everything:
        for registration in home.get("registrations", ()):
            homes_of[registration["registrationID"]].append((home["entryAddressID"], json.dumps(registration)))
    shared = [found for found in homes_of.values() if len(found) > 1]
    assert max(map(len, shared)) > 5
    assert all(len({said for _, said in found}) == 1 for found in shared)
    # houses too
    assert any(len({entrance for entrance, _ in found}) > 1 for found in shared)
    assert any(identifier.isdecimal() for identifier in homes_of)
    assert any(len(identifier) == 36 for identifier in homes_of)


def test_buildings_may_repeat_their_number(everything: list[Any]) -> None:
    numbers = [[building["buildingNumber"] for building in home.get("buildings", ())] for home in everything]
    assert any(len(set(of_home)) < len(of_home) for of_home in numbers)


def test_persons_are_marked_and_only_with_homes_for_sale(everything: list[Any]) -> None:
    for home in everything:
        for_sale = home.get("isOnMarket", False)
        assert ("cases" in home) == for_sale == ("casePrice" in home)
        assert ("@example.com" in json.dumps(home)) == for_sale
        for case in home.get("cases", ()):
            assert case["priceCash"] == home["casePrice"]
            assert case["realtor"]["name"].startswith("SYNTHETIC ")
            assert case["timeOnMarket"]["total"]["realtors"] == [case["realtor"]]


def test_one_home_is_what_the_list_says(shared: Sandbox) -> None:
    for home in listed(shared, municipalities="Tårnby")["addresses"][:5]:
        assert detail(shared, home["addressID"]) == home


def test_the_truth_is_what_is_served(own: Sandbox) -> None:
    served = {home["addressID"]: home for home in records(own, "Gentofte")}
    columns = sorted(ADDRESS_KEYS)
    at = columns.index("addressID")
    truth = [row for row in rows(own, "Address", *columns) if row[at] in served]
    assert len(truth) == len(served)
    for row in truth:
        assert row == [served[row[at]].get(column) for column in columns]
    ids = [row[0] for row in rows(own, "Address", "addressID")]
    assert ids == sorted(ids)
    few = ["addressID", "addressType", "zipCode", "livingArea", "latestValuation", "casePrice", "isOnMarket"]
    quick, whole = rows(own, "Address", *few), rows(own, "Address", *few, "roadName")
    assert quick == [row[:-1] for row in whole]
    for entity, key, column in (
        ("Building", "buildings", "totalArea"),
        ("Registration", "registrations", "registrationID"),
    ):
        expected = [[i, child[column]] for i in sorted(served) for child in served[i].get(key, ())]
        assert [row for row in rows(own, entity, "addressID", column) if row[0] in served] == expected


def test_there_is_no_truth_about_what_is_not_there(shared: Sandbox) -> None:
    with pytest.raises(ValueError, match="no entity 'Home'"):
        rows(shared, "Home", "addressID")
    with pytest.raises(ValueError, match="Building has no column floor"):
        rows(shared, "Building", "floor")


def test_the_same_seed_gives_the_same_homes() -> None:
    def homes_of(seed: int) -> Any:
        with homes(homes=200, seed=seed) as sandbox:
            return listed(sandbox, municipalities="Roskilde"), rows(sandbox, "Case", "caseID", "priceCash")

    assert homes_of(3) == homes_of(3)
    assert homes_of(3) != homes_of(4)


def test_at_medium_scale_kobenhavn_is_above_the_cap() -> None:
    world = build(homes=SandboxOptions(scale="medium").home_count)
    villas = Counter(place for place, kind in zip(world.municipality, world.kind, strict=True) if kind == 0)
    assert (sum(villas.values()), villas[0]) == (50_000, 14_368)
    assert 1.29 < len(world) / 50_000 < 1.31
    assert set(world.kind) == set(range(len(TYPES)))
    zips = Counter(zip_code for place, zip_code in zip(world.municipality, world.zip, strict=True) if place == 0)
    assert 0 < zips[0] < 20
    assert max(zips.values()) < 10_000
    assert all(world.row(world.address_id(n)) == n for n in range(0, len(world), 97))


@pytest.mark.parametrize("count", [36, 40, 100, 2_000, 50_000, 230_000])
def test_villas_are_as_many_as_asked_for(count: int) -> None:
    world = build(homes=count)
    assert world.kind.count(0) == count
    assert len(set(world.municipality)) == 36


def test_a_zip_code_can_be_pushed_above_the_cap() -> None:
    with homes(biggest_zip_share=0.8, hit_cap=50) as sandbox:
        villas = {"municipalities": "København", "addressTypes": "villa"}
        assert listed(sandbox, **villas, zipCodes=2300)["totalHits"] > 0.7 * listed(sandbox, **villas)["totalHits"]


def test_without_a_share_of_homes_without_a_zip_code_there_are_none() -> None:
    with homes(zipless_share=0) as sandbox:
        assert None not in [zip_code for [zip_code] in rows(sandbox, "Address", "zipCode")]


@pytest.mark.parametrize(
    "options",
    [
        SandboxOptions(homes=40, zipless_share=0.1, biggest_zip_share=0.8, hit_cap=100, repeats=True),
        SandboxOptions(biggest_zip_share=0.0, sources=frozenset({"boligsiden"})),
    ],
)
def test_options_survive_the_command_line(options: SandboxOptions) -> None:
    assert parse_arguments(options.to_args()) == options


@pytest.mark.parametrize("wrong", [{"homes": 35}, {"zipless_share": 1.1}, {"biggest_zip_share": -1}, {"hit_cap": 0}])
def test_options_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SandboxOptions(**wrong)


def test_a_municipality_of_any_size_has_some_homes() -> None:
    with homes(homes=36) as sandbox:
        assert all(walk(sandbox, municipalities=place.name) for place in municipalities())
