"""What Boligsiden sends of a home, read into the rows of every table that it feeds.

Absent is the API's normal way to say null: every key but addressID may be missing. Unknown keys are passed over. A value of the
wrong type refuses the record as a whole, so that nothing is stored of it that might be wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from bdc_pipeline.sources.properties import payload as p
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.warehouse.stream import Reject

T = TypeVar("T")

RAW_LENGTH = 2000
"""Characters kept of a rejected record."""


@dataclass(slots=True)
class Homes:
    """Rows of some homes by table.

    `raws` are the places of those homes among the records that were read. `shared` are the rows of what they have in common with
    others (municipality, zip code, road, ...), each once, by identity. `renumbered` counts buildings whose number occurs
    again in their home. `unlisted` are homes on the market whose record lacks the listing, `foreign` those of another
    municipality, which have no rows.
    """

    properties: list[t.Property] = field(default_factory=list)
    raws: list[int] = field(default_factory=list)
    buildings: list[t.Building] = field(default_factory=list)
    registrations: list[t.Registration] = field(default_factory=list)
    bfe_numbers: list[t.PropertyBfe] = field(default_factory=list)
    cases: list[t.Case] = field(default_factory=list)
    price_changes: list[t.PriceChange] = field(default_factory=list)
    shared: dict[int, msgspec.Struct] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    renumbered: int = 0


_HOME = msgspec.json.Decoder(p.Home)
_SKETCH = msgspec.json.Decoder(p.Sketch)
_ID = msgspec.json.Decoder(p.Id)


def sketch(raw: msgspec.Raw) -> p.Sketch | None:
    """What a record is told by; None where its addressID cannot be read."""
    try:
        return _SKETCH.decode(raw)
    except msgspec.MsgspecError:
        pass
    try:
        return p.Sketch(address_id=_ID.decode(raw).address_id)
    except msgspec.MsgspecError:
        return None


class _Shared:
    """What many homes have in common, read once for each text that it comes as. For any thread: a text that two read at once
    is read twice."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, bytes], tuple[Any, msgspec.Struct | None]] = {}

    def read(self, raw: msgspec.Raw, kind: type[T], rows: dict[int, msgspec.Struct]) -> T | None:
        """The object, None for none. Its row, where it has a key, is added to `rows`.

        Raises:
            msgspec.ValidationError: it is something else.
        """
        text = bytes(raw)
        if not text or text == b"null":
            return None
        found = self._known.get((kind, text))
        if found is None:
            value = msgspec.json.decode(text, type=kind)
            found = self._known[kind, text] = (value, _shared_row(value))
        value, row = found
        if row is not None:
            rows[id(row)] = row
        return value


class Reader:
    """Reads the records of one run, from any thread."""

    def __init__(self) -> None:
        self._shared = _Shared()

    def read(self, raws: Sequence[msgspec.Raw], places: Iterable[int], municipality: int) -> Homes:
        """The rows of some records of a list of a municipality.

        Args:
            raws: records.
            places: which of them to read.
            municipality: whose list they came in; of records that name another nothing is kept.
        """
        homes = Homes()
        for place in places:
            raw = raws[place]
            try:
                self._add(homes, _HOME.decode(raw), place, municipality)
            except msgspec.MsgspecError as error:
                homes.rejects.append(reject(raw, str(error), municipality))
        return homes

    def _add(self, homes: Homes, home: p.Home, place: int, listed: int) -> None:
        """Adds the rows of a home. Whatever may raise stands before the first of them is added."""
        read, rows = self._shared.read, dict[int, msgspec.Struct]()
        municipality = read(home.municipality, p.Municipality, rows)
        province = read(home.province, p.Province, rows)
        read(home.zip, p.Zip, rows)
        city = read(home.city, p.City, rows)
        spot = read(home.place, p.Place, rows)
        road = read(home.road, p.Road, rows)
        code = municipality.municipality_code if municipality is not None else None
        if code is not None and code != listed:
            homes.foreign.append(home.address_id)
            return
        homes.shared |= rows
        homes.properties.append(_property(home, listed, province, road, city, spot))
        homes.raws.append(place)
        _add_children(homes, home, listed)


def _property(
    home: p.Home,
    code: int,
    province: p.Province | None,
    road: p.Road | None,
    city: p.City | None,
    place: p.Place | None,
) -> t.Property:
    coordinates, sold = home.coordinates, home.boligsiden_info
    return t.Property(
        home.address_id,
        home.address_type,
        home.road_name,
        home.house_number,
        home.floor,
        home.door,
        home.zip_code,
        home.city_name,
        home.place_name,
        code,
        province.province_code if province else None,
        road.road_id if road else None,
        city.slug if city else None,
        place.id if place else None,
        home.entry_address_id,
        home.gstkvhx,
        coordinates.lat if coordinates else None,
        coordinates.lon if coordinates else None,
        home.living_area,
        home.weighted_area,
        sold.latest_sold_area if sold else None,
        home.energy_label,
        home.latest_valuation,
        home.case_price,
        home.is_on_market,
        home.is_public,
        home.property_number,
        home.bfe_numbers[0] if home.bfe_numbers else None,
        home.slug,
    )


def _add_children(homes: Homes, home: p.Home, code: int) -> None:
    address_id = home.address_id
    seen: dict[str, int] = {}
    for building in home.buildings or ():
        number = building.building_number or ""
        occurrence = seen[number] = seen.get(number, 0) + 1
        homes.renumbered += occurrence > 1
        _, *rest = msgspec.structs.astuple(building)
        homes.buildings.append(t.Building(address_id, number, occurrence, code, *rest))
    # the same id twice in one home is the same sale twice
    sales = {sale.registration_id or f"no-id:{sale.date}:{sale.amount}": sale for sale in home.registrations or ()}
    for registration_id, sale in sales.items():
        _, *rest = msgspec.structs.astuple(sale)
        homes.registrations.append(t.Registration(address_id, registration_id, code, *rest))
    homes.bfe_numbers += [t.PropertyBfe(address_id, number, code) for number in dict.fromkeys(home.bfe_numbers or ())]
    for case in home.cases or ():
        homes.cases.append(_case(case, address_id, code))
        homes.price_changes += [
            t.PriceChange(case.case_id, change.created, change.old_price, change.new_price, observed=False)
            for change in case.price_changes or ()
            if change.created
        ]
    if home.is_on_market and not home.cases:
        homes.unlisted.append(address_id)


def _case(case: p.Case, address_id: str, code: int) -> t.Case:
    time, finance, visit = (
        case.time_on_market or p.TimeOnMarket(),
        case.real_estate or p.Finance(),
        case.next_open_house,
    )
    current = time.current.days if time.current else None
    return t.Case(
        case.case_id,
        address_id,
        code,
        case.status,
        case.price_cash,
        case.price_change_percentage,
        case.per_area_price,
        case.monthly_expense,
        case.days_on_market if current is None else current,
        time.total.days if time.total else None,
        finance.down_payment,
        finance.gross_mortgage,
        finance.net_mortgage,
        case.lot_area,
        case.housing_area,
        case.basement_area,
        case.weighted_area,
        case.year_built,
        case.number_of_floors,
        case.number_of_rooms,
        case.number_of_bathrooms,
        case.number_of_toilets,
        case.energy_label,
        case.has_balcony,
        case.has_terrace,
        case.has_elevator,
        case.highlighted,
        case.distinction,
        visit.date if isinstance(visit, p.OpenHouse) else visit,
    )


def _shared_row(found: Any) -> msgspec.Struct | None:
    """The row of what homes share; None where it lacks its key."""
    row: msgspec.Struct | None = None
    match found:
        case p.Municipality() if found.municipality_code is not None:
            row = t.Municipality(
                found.municipality_code,
                found.name,
                found.slug,
                found.council_tax_percentage,
                found.church_tax_percentage,
                found.land_value_tax_level_per_thousand,
                found.number_of_schools,
                found.population,
            )
        case p.Province() if found.province_code is not None:
            row = t.Province(found.province_code, found.name, found.region_code, found.slug)
        case p.Zip() if found.zip_code is not None:
            row = t.Zip(found.zip_code, found.name, found.slug)
        case p.City() if found.slug is not None:
            row = t.City(found.slug, found.name)
        case p.Place() if found.id is not None:
            row = t.Place(found.id, found.name, found.slug)
        case p.Road() if found.road_id is not None:
            row = t.Road(found.road_id, found.municipality_code, found.road_code, found.name, found.slug)
    return row


# -- rejects ---------------------------------------------------------------------------------------------------


def reject(raw: msgspec.Raw, reason: str, municipality: int) -> Reject:
    """A record that could not be read, with its addressID where that can be, and with the keys alone that are asked for: no
    realtor, no prose."""
    partition = f"{municipality:04d}"
    try:
        record = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        record = None
    if not isinstance(record, dict):
        # what it holds may be anything; the digest tells one from another
        digest = hashlib.blake2b(raw, digest_size=4).hexdigest()
        return Reject(t.PROPERTIES, partition, (), reason, f"no record but a {type(record).__name__} ({digest})")
    address_id = record.get("addressID")
    key = (address_id,) if isinstance(address_id, str) and address_id else ()
    text = msgspec.json.encode(_asked_for(record, p.Home)).decode()[:RAW_LENGTH]
    return Reject(t.PROPERTIES, partition, key, reason, text)


def _asked_for(value: Any, kind: Any) -> Any:
    """Of a decoded value what a type has fields for; a text where an object is asked for is left out, since it may be prose."""
    if isinstance(value, list):
        return [_asked_for(item, kind) for item in value]
    if not isinstance(value, dict):
        return value if kind is None or not isinstance(value, str) else "(a text)"
    if kind is None:
        return "(an object)"
    kept = {}
    for info in msgspec.structs.fields(kind):
        if info.encode_name in value:
            kept[info.encode_name] = _asked_for(value[info.encode_name], _NESTED.get((kind, info.name)))
    return kept


_NESTED: dict[tuple[type, str], type] = {
    (p.Home, "coordinates"): p.Coordinates,
    (p.Home, "boligsiden_info"): p.Sold,
    (p.Home, "buildings"): p.Building,
    (p.Home, "registrations"): p.Registration,
    (p.Home, "cases"): p.Case,
    (p.Home, "municipality"): p.Municipality,
    (p.Home, "province"): p.Province,
    (p.Home, "zip"): p.Zip,
    (p.Home, "city"): p.City,
    (p.Home, "place"): p.Place,
    (p.Home, "road"): p.Road,
    (p.Case, "time_on_market"): p.TimeOnMarket,
    (p.Case, "real_estate"): p.Finance,
    (p.Case, "next_open_house"): p.OpenHouse,
    (p.Case, "price_changes"): p.PriceChange,
    (p.TimeOnMarket, "current"): p.Days,
    (p.TimeOnMarket, "total"): p.Days,
}
