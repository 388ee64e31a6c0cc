"""Invented homes: records as the API sends them, and sketches for what needs no server."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import msgspec

from bdc_pipeline.sources.properties.payload import Sketch
from bdc_pipeline.sources.properties.split import Part

#: Of the same keys, nesting and kinds of values as a captured answer; all values are invented.
FULL: dict[str, Any] = {
    "_links": {"self": {"href": "/addresses/00000000-0000-4000-8000-000000000001"}},
    "addressID": "00000000-0000-4000-8000-000000000001",
    "addressType": "terraced house",
    "allowNewValuationInfo": True,
    "bfeNumbers": [7654321, 7654322],
    "boligsidenInfo": {"latestSoldArea": 120},
    "buildings": [
        {
            "bathroomCondition": "Badeværelse i enheden",
            "buildingName": "(UDFASES) Række-, kæde- eller dobbelthus (lodret adskillelse mellem enhederne).",
            "buildingNumber": "1",
            "externalWallMaterial": "Mursten",
            "heatingInstallation": "Fjernvarme/blokvarme",
            "housingArea": 118,
            "kitchenCondition": "Eget køkken med afløb",
            "numberOfBathrooms": 1,
            "numberOfFloors": 2,
            "numberOfRooms": 5,
            "numberOfToilets": 2,
            "roofingMaterial": "Tegl",
            "supplementaryHeating": "(UDFASES) Bygningen har ingen supplerende varme",
            "toiletCondition": "Vandskyllende toilet i enheden",
            "totalArea": 70,
            "yearBuilt": 1912,
        },
        {
            "buildingName": "Carport",
            "buildingNumber": "3",
            "roofingMaterial": "Tegl",
            "totalArea": 20,
            "yearBuilt": 2004,
        },
        {"buildingName": "Udhus", "buildingNumber": "3", "externalWallMaterial": "Træ", "totalArea": 9},
    ],
    "city": {"name": "Prøveby", "slug": "proeveby"},
    "cityName": "Prøveby",
    "coordinates": {"lat": 55.5, "lon": 12.25, "type": "EPSG4326"},
    "daysOnMarket": {"realtors": []},
    "energyLabel": "c",
    "entryAddressID": "00000000-0000-4000-8000-000000000002",
    "gstkvhx": "01010123_4B_______",
    "houseNumber": "4B",
    "isPublic": True,
    "latestSoldCaseDescription": {"title": "SECRET title", "body": "SECRET body", "date": "2019-03-04"},
    "latestValuation": 3_100_000,
    "livingArea": 118,
    "municipality": {
        "churchTaxPercentage": 0.8,
        "councilTaxPercentage": 23.39,
        "landValueTaxLevelPerThousand": 5,
        "municipalityCode": 101,
        "name": "København",
        "numberOfSchools": 80,
        "population": 660_000,
        "slug": "koebenhavn",
    },
    "place": {"id": 600_001, "name": "Prøvelund", "slug": "proevelund", "bbox": [12.1, 55.4, 12.3, 55.6]},
    "placeName": "Prøvelund",
    "propertyNumber": 654321,
    "province": {"name": "Byen København", "provinceCode": "DK011", "regionCode": 1084, "slug": "byen-koebenhavn"},
    "registrations": [
        {
            "amount": 2_900_000,
            "area": 118,
            "date": "2024-05-06",
            "livingArea": 118,
            "municipalityCode": 101,
            "perAreaPrice": 24_576,
            "propertyNumber": 0,
            "registrationID": "00000000-0000-4000-8000-000000000101",
            "type": "normal",
        },
        {"amount": 900_000, "date": "2001-02-03", "registrationID": "2000002", "type": "family"},
    ],
    "road": {
        "municipalityCode": 101,
        "name": "Prøvevej",
        "roadCode": 123,
        "roadID": "00000000-0000-4000-8000-000000000003",
        "slug": "proevevej",
    },
    "roadName": "Prøvevej",
    "slug": "proevevej-4b-2300-proeveby-01010123_4b_______",
    "weightedArea": 121.5,
    "zip": {"name": "Prøveby", "slug": "proeveby", "zipCode": 2300},
    "zipCode": 2300,
}

CASE: dict[str, Any] = {
    "caseID": "00000000-0000-4000-8000-000000000201",
    "caseUrl": "https://secret.example.com/1",
    "daysOnMarket": 12,
    "descriptionBody": "SECRET prose",
    "descriptionTitle": "SECRET headline",
    "hasBalcony": False,
    "hasTerrace": True,
    "housingArea": 118,
    "images": [{"url": "https://secret.example.com/1.webp"}],
    "lotArea": 310,
    "monthlyExpense": 2500,
    "nextOpenHouse": {"date": "2026-01-04T11:00:00Z"},
    "perAreaPrice": 25_000,
    "priceCash": 2_950_000,
    "priceChangePercentage": -1.5,
    "providerCaseID": "SECRET7",
    "realEstate": {"downPayment": 150_000, "grossMortgage": 15_000, "netMortgage": 12_000},
    "realtor": {"name": "SECRET Realtor", "email": "secret@example.com", "phone": "+45 SECRET"},
    "status": "open",
    "timeOnMarket": {"current": {"days": 14}, "total": {"days": 60, "realtors": [{"name": "SECRET"}]}},
    "yearBuilt": 1912,
}


def record(**changes: Any) -> dict[str, Any]:
    """The full record with some keys replaced; `...` takes one away."""
    found = {**copy.deepcopy(FULL), **changes}
    return {key: value for key, value in found.items() if value is not ...}


def raw(found: object) -> msgspec.Raw:
    """A record as it comes in a page."""
    return msgspec.Raw(msgspec.json.encode(found))


def town(
    count: int,
    seed: int = 0,
    *,
    zips: tuple[int, ...] = (2100, 2200, 2300),
    without_zip: float = 0.01,
    without_area: float = 0.02,
    types: tuple[str | None, ...] = ("villa",),
) -> list[Sketch]:
    """Homes of a town, some of which lack what lists are divided by."""
    random = Random(seed)
    return [
        Sketch(
            address_id=f"home-{number}",
            address_type=random.choice(types),
            zip_code=None if random.random() < without_zip else random.choice(zips),
            living_area=None if random.random() < without_area else 40 + sum(random.randrange(60) for _ in range(3)),
            latest_valuation=None if random.random() < 0.02 else random.randrange(500_000, 9_000_000),
        )
        for number in range(count)
    ]


class Lists:
    """The API's lists of a town, with the cap that it has: asking for more than it shows fails."""

    def __init__(self, homes: list[Sketch], *, hits: int, page: int, ignored: frozenset[str] = frozenset()) -> None:
        self.homes, self.hits, self.size, self.ignored = homes, hits, page, ignored
        self.requests = 0

    def page(self, part: Part, number: int) -> tuple[int, list[Sketch]]:
        """How many homes a part has, and those on a page of it."""
        assert number * self.size <= self.hits, f"page {number} of {part} is beyond what is shown"
        self.requests += 1
        params = part.params()
        honoured = Part(
            part.municipality,
            part.address_type if "addressTypes" in params and "type" not in self.ignored else None,
            part.zips if "zip" not in self.ignored else (),
            part.area if "area" not in self.ignored else type(part.area)(),
            part.price if "price" not in self.ignored else type(part.price)(),
        )
        found = [home for home in self.homes if honoured.holds(home)]
        ordered = found if part.ascending else found[::-1]
        return len(found), ordered[(number - 1) * self.size : number * self.size]
