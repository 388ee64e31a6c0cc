"""What is sent of a home: its record with all that is nested in it, as the API's have it.

A key that would be null is absent. Everything is made up. The persons among it, realtors, are marked as SYNTHETIC and have
addresses at example.com, so that a copy can be searched for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from bdc_pipeline.sandbox.boligsiden.generate import FLATS, PLOTS, TYPES, World
from bdc_pipeline.sandbox.boligsiden.places import municipalities, road_name, slug, zip_names

Record = dict[str, Any]


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What records and what is nested in them may have
ADDRESS_KEYS = _keys(
    """_links addressID addressType allowNewValuationInfo bfeNumbers boligsidenInfo buildings casePrice cases city cityName
    coordinates daysOnMarket door energyLabel entryAddressID floor gstkvhx houseNumber isOnMarket isPublic
    latestSoldCaseDescription latestValuation livingArea municipality place placeName propertyNumber province registrations road
    roadName slug slugAddress weightedArea zip zipCode"""
)
BUILDING_KEYS = _keys(
    """asbestosContainingMaterial basementArea bathroomCondition buildingName buildingNumber businessArea externalWallMaterial
    heatingInstallation housingArea kitchenCondition numberOfBathrooms numberOfFloors numberOfKitchens numberOfRooms
    numberOfToilets otherArea roofingMaterial supplementaryHeating toiletCondition totalArea yearBuilt yearRenovated"""
)
REGISTRATION_KEYS = _keys(
    "amount area date livingArea municipalityCode perAreaPrice propertyNumber registrationID type"
)
CASE_KEYS = _keys(
    """_links basementArea caseID caseUrl daysOnMarket descriptionBody descriptionTitle distinction energyLabel hasBalcony
    hasElevator hasTerrace highlighted housingArea images lotArea monthlyExpense nextOpenHouse numberOfBathrooms numberOfFloors
    numberOfRooms numberOfToilets perAreaPrice priceCash priceChangePercentage providerCaseID realEstate realtor status
    timeOnMarket weightedArea yearBuilt"""
)
_WALLS = ["Mursten", "Letbetonsten", "Træ", "Bindingsværk", "Betonelementer"]
_ROOFS = ["Tegl", "Fibercement herunder asbest", "Betontagsten", "Stråtag", "Tagpap med lille hældning"]
_HEATING = ["Fjernvarme/blokvarme", "Centralvarme med én fyringsenhed", "Varmepumpe", "Elvarme"]
_SUPPLEMENTARY = [
    "(UDFASES) Bygningen har ingen supplerende varme",
    "Ovne til fast og flydende brændsel",
    "Varmepumpeanlæg",
]
_NAMES = {
    1: "Etagebolig-bygning, flerfamiliehus eller to-familiehus",
    2: "(UDFASES) Række-, kæde- eller dobbelthus (lodret adskillelse mellem enhederne).",
    3: "Sommerhus",
    4: "Etagebolig-bygning, flerfamiliehus eller to-familiehus",
    5: "Stuehus til landbrugsejendom",
    6: "Stuehus til landbrugsejendom",
    8: "Etagebolig-bygning, flerfamiliehus eller to-familiehus",
}
_OUTHOUSES = ["Carport", "Udhus", "Garage", "Anneks i tilknytning til helårsbolig.", "Drivhus"]
_LABELS = ["a2020", "a2015", "a2010", "b", "c", "c", "d", "d", "e", "f", "g"]
_SALES = ["normal"] * 11 + ["family", "family", "family", "auction", "other"]
_PLACES = ["Nordby", "Østerskov", "Åmarken", "Søndre Mose", "Højby Overdrev"]
_HOUSEBOAT = TYPES.index("houseboat")


class Records:
    """The records of a world's homes."""

    def __init__(self, world: World) -> None:
        self.world = world

    def record(self, n: int) -> Record:
        """A home's record."""
        world, drawn = self.world, self.world.digest("home", n)
        found = {**self._identity(n, drawn), **self._place(n, drawn), **self._figures(n, drawn)}
        if buildings := self._buildings(n, drawn):
            found["buildings"] = buildings
        if registrations := self._registrations(n):
            found["registrations"] = registrations
        if n in world.listings:
            found |= self._on_market(n, drawn)
        if changes := world.overrides.get(n):
            found |= changes
        for key in world.removed.get(n, ()):
            found.pop(key, None)
        return found

    def case(self, n: int) -> Record:
        """A listing as the list of listings has it, with the home in it."""
        address = self.record(n)
        address.pop("cases", None)
        return {**self._case(n, self.world.digest("home", n)), "address": address}

    def sort_key(self, n: int) -> tuple[str, int, int, int, int, int]:
        """By what homes are sorted when sorted by address; no two are the same."""
        world = self.world
        municipality, road = world.municipality[n], world.road[n]
        return (road_name(municipality, road), road, world.number[n], world.letter[n], world.flat[n], n)

    # --- the parts of a record

    def _identity(self, n: int, drawn: bytes) -> Record:
        world = self.world
        identifier = world.address_id(n)
        number = f"{world.number[n]}{'A' if world.letter[n] else ''}"
        found = {
            "_links": {"self": {"href": f"/addresses/{identifier}"}},
            "addressID": identifier,
            "allowNewValuationInfo": drawn[0] % 8 != 0,
            "bfeNumbers": [2_000_000 + n, 9_000_000 + n] if drawn[1] == 0 else [2_000_000 + n],
            "daysOnMarket": {"realtors": []},
            "entryAddressID": world.uuid("entry", world.entry[n]),
            "houseNumber": number,
            "isPublic": drawn[2] % 16 != 0,
            "propertyNumber": 0 if drawn[3] % 20 == 0 else 100_000 + n,
        }
        if (kind := TYPES[world.kind[n]]) is not None:
            found["addressType"] = kind
        if world.flat[n]:
            found["floor"], found["door"] = _flat(world.flat[n])
        return found

    def _place(self, n: int, drawn: bytes) -> Record:
        world = self.world
        place, zip_code = municipalities()[world.municipality[n]], world.zip[n]
        road = _road(place.index, world.road[n], world.uuid("road", place.index << 20 | world.road[n]))
        found: Record = {
            "municipality": place.record,
            "province": place.province,
            "road": road,
            "roadName": road["name"],
        }
        if zip_code:
            found["zipCode"], found["zip"] = zip_code, _zip(zip_code)
            name = found["zip"]["name"]
            found["city"], found["cityName"] = {"name": name, "slug": slug(name)}, name
        if drawn[4] % 5 == 0:
            name = _PLACES[world.road[n] % len(_PLACES)]
            found["placeName"], found["place"] = (
                name,
                {"id": 600_000 + world.road[n] % 5, "name": name, "slug": slug(name)},
            )
        if drawn[5] % 100:
            found["coordinates"] = {
                "lat": round(place.latitude + (int.from_bytes(drawn[6:8], "big") - 32768) / 800_000, 6),
                "lon": round(place.longitude + (int.from_bytes(drawn[8:10], "big") - 32768) / 500_000, 6),
                "type": "EPSG4326",
            }
        return found | self._links(n, road, zip_code)

    def _links(self, n: int, road: Record, zip_code: int) -> Record:
        world = self.world
        number = f"{world.number[n]}{'A' if world.letter[n] else ''}"
        floor, door = _flat(world.flat[n]) if world.flat[n] else ("", "")
        padded = f"{road['municipalityCode']:04d}{road['roadCode']:04d}{number:_>4}{floor:_>3}{door:_>4}"
        city = f"{zip_code}-{_zip(zip_code)['slug']}" if zip_code else ""
        spelled = "-".join(filter(None, [road["slug"], number.lower(), floor, door, city]))
        return {"gstkvhx": padded, "slugAddress": spelled, "slug": f"{spelled}-{padded.lower()}"}

    def _figures(self, n: int, drawn: bytes) -> Record:
        world, found = self.world, Record()
        if area := world.area[n]:
            found["livingArea"] = area
            found["weightedArea"] = area + drawn[10] % 30 / 5
        if valuation := world.valuation[n]:
            found["latestValuation"] = valuation
        if area and drawn[11] % 4:
            found["energyLabel"] = _LABELS[drawn[12] % len(_LABELS)]
        if area and drawn[13] % 3 == 0:
            found["boligsidenInfo"] = {"latestSoldArea": area + drawn[13] % 5}
        if drawn[14] % 6 == 0:
            found["latestSoldCaseDescription"] = {
                "body": f"SYNTHETIC: Lys bolig tæt på skole og indkøb. Ring til Testmægler {drawn[15] % 20}.",
                "date": f"20{10 + drawn[16] % 15}-{1 + drawn[17] % 12:02d}-{1 + drawn[18] % 28:02d}",
                "title": "SYNTHETIC: Dejlig bolig i grønne omgivelser",
            }
        return found

    def _buildings(self, n: int, drawn: bytes) -> list[Record]:
        world = self.world
        kind, area = world.kind[n], world.area[n]
        if kind in PLOTS or kind == _HOUSEBOAT or drawn[19] < 6:
            return []
        # A stairwell's flats stand in the same house
        shared = world.digest("building", world.entry[n])
        found = [_main_building(kind, area, shared, drawn)]
        for i in range(0 if kind in FLATS else drawn[20] % 3):
            built = 1950 + drawn[21 + i] % 70
            outhouse = {
                "buildingName": _OUTHOUSES[drawn[23 + i] % len(_OUTHOUSES)],
                # The register's numbers need not be in order, and some occur twice
                "buildingNumber": str(2 + i if drawn[19] > 8 else 2),
                "externalWallMaterial": _WALLS[drawn[24 + i] % len(_WALLS)],
                "roofingMaterial": _ROOFS[drawn[25 + i] % len(_ROOFS)],
                "totalArea": 8 + drawn[26 + i] % 60,
                "yearBuilt": built,
            }
            if drawn[21 + i] % 4 == 0:
                outhouse["heatingInstallation"] = "Ingen varmeinstallation"
            found.insert(1, outhouse)
        return found

    def _registrations(self, n: int) -> list[Record]:
        """The sales of a home's deed, the latest first: homes of one deed have the same ones."""
        world, deed = self.world, self.world.deed[n]
        drawn = world.digest("deed", deed)
        code, area = municipalities()[world.municipality[deed]].code, world.area[deed]
        found = [self._sale(n, i, code) for i in reversed(range(len(world.sales.get(n, ()))))]
        count = 3 + drawn[0] % 12 if world.flat[n] else drawn[0] % 6
        amount, year = (world.valuation[deed] or 2_000_000) * (60 + drawn[1]) // 140, 2025 - drawn[2] % 5
        for i in range(count):
            here = drawn[3 + 2 * i : 5 + 2 * i]
            one: Record = {
                "amount": amount // 1000 * 1000,
                "date": f"{year}-{1 + here[0] % 12:02d}-{1 + here[1] % 28:02d}",
                "municipalityCode": code,
                "propertyNumber": 100_000 + deed if i else 0,
                "registrationID": str(1_000_000 + deed * 16 + i) if i or drawn[0] & 64 else world.uuid("deed", deed),
                "type": _SALES[here[1] % len(_SALES)],
            }
            # What was sold long ago has no living area
            if area and i < 4:
                one |= {"area": area, "livingArea": area + 2, "perAreaPrice": one["amount"] // area}
            found.append(one)
            amount, year = amount * (60 + here[0] % 35) // 100, year - 1 - here[0] % 6
        return found

    def _sale(self, n: int, i: int, code: int) -> Record:
        sale = self.world.sales[n][i]
        return {
            "amount": sale.amount,
            "date": sale.date,
            "municipalityCode": code,
            "propertyNumber": 0,
            "registrationID": self.world.uuid("sale", n << 16 | i),
            "type": "normal",
        }

    def _on_market(self, n: int, drawn: bytes) -> Record:
        return {"casePrice": self.world.listings[n].price, "cases": [self._case(n, drawn)], "isOnMarket": True}

    def _case(self, n: int, drawn: bytes) -> Record:
        listing, area = self.world.listings[n], self.world.area[n]
        identifier = self.world.uuid("case", n << 16 | listing.serial)
        price, realtor = listing.price, _realtor(drawn[27] % 20)
        found = {
            "_links": {"self": {"href": f"/cases/{identifier}"}},
            "caseID": identifier,
            "caseUrl": f"https://maegler.example.com/sag/{identifier}",
            "daysOnMarket": listing.days,
            "descriptionBody": f"SYNTHETIC: Velholdt bolig. Kontakt {realtor['name']}.",
            "descriptionTitle": "SYNTHETIC: Indflytningsklar bolig",
            "distinction": "real_estate",
            "hasBalcony": drawn[28] % 3 == 0,
            "hasElevator": False,
            "hasTerrace": drawn[28] % 2 == 0,
            "highlighted": drawn[29] % 10 == 0,
            "images": [{"imageSources": [{"url": f"https://images.example.com/{identifier}.webp"}]}],
            "lotArea": 300 + 4 * drawn[30],
            "monthlyExpense": 1_500 + price // 2_000,
            "numberOfFloors": 1 + drawn[31] % 2,
            "numberOfRooms": 2 + drawn[32] % 5,
            "priceCash": price,
            "priceChangePercentage": listing.change_percentage,
            "providerCaseID": f"SYN{n}",
            "realEstate": {"downPayment": price // 20, "grossMortgage": price // 190, "netMortgage": price // 230},
            "realtor": realtor,
            "status": "open",
            "timeOnMarket": {
                "current": {"days": listing.days},
                "total": {"days": listing.days + drawn[33] % 50, "realtors": [realtor]},
            },
            "yearBuilt": 1900 + drawn[34] % 120,
        }
        if area:
            found |= {"housingArea": area, "weightedArea": area + drawn[10] % 30 / 5, "perAreaPrice": price // area}
        if drawn[35] % 4 == 0:
            found["nextOpenHouse"] = {"date": f"2026-01-{1 + drawn[36] % 28:02d}T11:00:00Z"}
        return found


#: Columns that can be said of a home without making its record
QUICK: dict[str, Callable[[World, int], Any]] = {
    "addressID": lambda world, n: world.address_id(n),
    "addressType": lambda world, n: TYPES[world.kind[n]],
    "zipCode": lambda world, n: world.zip[n] or None,
    "livingArea": lambda world, n: world.area[n] or None,
    "latestValuation": lambda world, n: world.valuation[n] or None,
    "isOnMarket": lambda world, n: True if n in world.listings else None,
    "casePrice": lambda world, n: world.listings[n].price if n in world.listings else None,
    "municipalityCode": lambda world, n: municipalities()[world.municipality[n]].code,
}


def _flat(flat: int) -> tuple[str, str]:
    """Floor and door of an entrance's flat, from 1: three doors to a floor, and small numbers instead of sides further up."""
    floor, door = divmod(flat - 1, 3)
    return str(floor), ("tv", "mf", "th")[door] if floor < 3 else str(door + 1)


def _main_building(kind: int, area: int, shared: bytes, drawn: bytes) -> Record:
    built = 1880 + shared[0] % 140
    found = {
        "bathroomCondition": "Badeværelse i enheden",
        "buildingName": _NAMES.get(kind, "Fritliggende enfamiliehus"),
        "buildingNumber": "1",
        "externalWallMaterial": _WALLS[shared[1] % len(_WALLS)],
        "heatingInstallation": _HEATING[shared[2] % len(_HEATING)],
        "kitchenCondition": "Eget køkken med afløb",
        "numberOfBathrooms": 1 + drawn[37] % 2,
        "numberOfFloors": 1 + shared[3] % 2,
        "numberOfKitchens": 1,
        "numberOfRooms": 2 + drawn[38] % 6,
        "numberOfToilets": 1 + drawn[39] % 3,
        "roofingMaterial": _ROOFS[shared[4] % len(_ROOFS)],
        "supplementaryHeating": _SUPPLEMENTARY[shared[5] % len(_SUPPLEMENTARY)],
        "toiletCondition": "Vandskyllende toilet i enheden",
        "totalArea": (area or 100) + drawn[40] % 40,
        "yearBuilt": built,
    }
    if area:
        found["housingArea"] = area
    if shared[6] % 4 == 0:
        found["yearRenovated"] = min(2024, built + 20 + shared[7] % 60)
    if shared[8] % 3 == 0:
        found["basementArea"] = 20 + shared[9] % 80
    if shared[10] % 20 == 0:
        found["businessArea"], found["otherArea"] = 15 + shared[11] % 50, 0
    if shared[12] % 12 == 0:
        found["asbestosContainingMaterial"] = "Asbestholdigt tagdækningsmateriale"
    return found


@lru_cache(maxsize=20_000)
def _road(municipality: int, number: int, identifier: str) -> Record:
    name = road_name(municipality, number)
    return {
        "municipalityCode": municipalities()[municipality].code,
        "name": name,
        "roadCode": 1 + number,
        "roadID": identifier,
        "slug": slug(name),
    }


@lru_cache
def _zip(code: int) -> Record:
    name = zip_names().get(code, "Ukendt")
    return {"name": name, "slug": slug(name), "zipCode": code}


@lru_cache
def _realtor(number: int) -> Record:
    return {
        "email": f"synthetic.maegler{number}@example.com",
        "name": f"SYNTHETIC Testmægler {number}",
        "phone": f"+45 00 00 00 {number:02d}",
        "rating": {"buyer": 4.1, "seller": 4.6},
        "realtorID": f"00000000-0000-4000-8000-{number:012d}",
        "registrationNumber": 10_000_000 + number,
    }
