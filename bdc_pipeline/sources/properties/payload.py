"""What Boligsiden sends of a home, as far as it is asked for: keys that are not here are passed over and never stored.

Absent is the API's normal way to say null, so every key but an id may be missing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number as SQLite can hold it."""

Text = Annotated[str, msgspec.Meta(min_length=1)]


class Camel(msgspec.Struct, rename="camel"):
    """A record's keys are in camelCase."""


class Coordinates(Camel):
    """Where it is, in degrees."""

    lat: float | None = None
    lon: float | None = None


class Sold(Camel):
    """What Boligsiden notes of its last sale."""

    latest_sold_area: Whole | None = None


class Building(Camel):
    """A building."""

    building_number: str | None = None
    building_name: str | None = None
    year_built: Whole | None = None
    year_renovated: Whole | None = None
    total_area: Whole | None = None
    housing_area: Whole | None = None
    basement_area: Whole | None = None
    business_area: Whole | None = None
    other_area: Whole | None = None
    number_of_floors: Whole | None = None
    number_of_rooms: Whole | None = None
    number_of_bathrooms: Whole | None = None
    number_of_toilets: Whole | None = None
    number_of_kitchens: Whole | None = None
    kitchen_condition: str | None = None
    bathroom_condition: str | None = None
    toilet_condition: str | None = None
    external_wall_material: str | None = None
    supplementary_external_wall_material: str | None = None
    roofing_material: str | None = None
    supplementary_roofing_material: str | None = None
    heating_installation: str | None = None
    supplementary_heating: str | None = None
    asbestos_containing_material: str | None = None


class Registration(Camel):
    """A registered sale."""

    registration_id: str | None = msgspec.field(default=None, name="registrationID")
    date: str | None = None
    amount: Whole | None = None
    type: str | None = None
    area: Whole | None = None
    living_area: Whole | None = None
    per_area_price: Whole | None = None
    property_number: Whole | None = None


class Days(Camel):
    """A number of days."""

    days: Whole | None = None


class TimeOnMarket(Camel):
    """How long it has been for sale."""

    current: Days | None = None
    total: Days | None = None


class Finance(Camel):
    """What buying it costs."""

    down_payment: Whole | None = None
    gross_mortgage: Whole | None = None
    net_mortgage: Whole | None = None


class OpenHouse(Camel):
    """When it can be visited."""

    date: str | None = None


class PriceChange(Camel):
    """As an older importer reads it; absent from all full answers known."""

    created: str | None = None
    old_price: Whole | None = None
    new_price: Whole | None = None


class Case(Camel):
    """A listing."""

    case_id: Text = msgspec.field(name="caseID")
    status: str | None = None
    price_cash: Whole | None = None
    price_change_percentage: float | None = None
    per_area_price: Whole | None = None
    monthly_expense: Whole | None = None
    days_on_market: Whole | None = None
    time_on_market: TimeOnMarket | None = None
    real_estate: Finance | None = None
    lot_area: Whole | None = None
    housing_area: Whole | None = None
    basement_area: Whole | None = None
    weighted_area: float | None = None
    year_built: Whole | None = None
    number_of_floors: Whole | None = None
    number_of_rooms: Whole | None = None
    number_of_bathrooms: Whole | None = None
    number_of_toilets: Whole | None = None
    energy_label: str | None = None
    has_balcony: bool | None = None
    has_terrace: bool | None = None
    has_elevator: bool | None = None
    highlighted: bool | None = None
    distinction: str | None = None
    next_open_house: OpenHouse | str | None = None
    price_changes: list[PriceChange] | None = None


class Municipality(Camel):
    """The same for thousands of homes."""

    municipality_code: Whole | None = None
    name: str | None = None
    slug: str | None = None
    council_tax_percentage: float | None = None
    church_tax_percentage: float | None = None
    land_value_tax_level_per_thousand: float | None = None
    number_of_schools: Whole | None = None
    population: Whole | None = None


class Province(Camel):
    """A statistical province."""

    province_code: str | None = None
    name: str | None = None
    region_code: Whole | None = None
    slug: str | None = None


class Zip(Camel):
    """A zip code."""

    zip_code: Whole | None = None
    name: str | None = None
    slug: str | None = None


class City(Camel):
    """A city."""

    slug: str | None = None
    name: str | None = None


class Place(Camel):
    """A village or a quarter."""

    id: Whole | None = None
    name: str | None = None
    slug: str | None = None


class Road(Camel):
    """A road."""

    road_id: str | None = msgspec.field(default=None, name="roadID")
    municipality_code: Whole | None = None
    road_code: Whole | None = None
    name: str | None = None
    slug: str | None = None


class Home(Camel):
    """A home."""

    address_id: Text = msgspec.field(name="addressID")
    address_type: str | None = None
    road_name: str | None = None
    house_number: str | None = None
    floor: str | None = None
    door: str | None = None
    zip_code: Whole | None = None
    city_name: str | None = None
    place_name: str | None = None
    entry_address_id: str | None = msgspec.field(default=None, name="entryAddressID")
    gstkvhx: str | None = None
    coordinates: Coordinates | None = None
    living_area: Whole | None = None
    weighted_area: float | None = None
    boligsiden_info: Sold | None = None
    energy_label: str | None = None
    latest_valuation: Whole | None = None
    case_price: Whole | None = None
    is_on_market: bool | None = None
    is_public: bool | None = None
    property_number: Whole | None = None
    slug: str | None = None
    bfe_numbers: list[Whole] | None = None
    buildings: list[Building] | None = None
    registrations: list[Registration] | None = None
    cases: list[Case] | None = None
    # the same for thousands of homes: read once for each text that comes
    municipality: msgspec.Raw = msgspec.Raw()
    province: msgspec.Raw = msgspec.Raw()
    zip: msgspec.Raw = msgspec.Raw()
    city: msgspec.Raw = msgspec.Raw()
    place: msgspec.Raw = msgspec.Raw()
    road: msgspec.Raw = msgspec.Raw()


class Sketch(msgspec.Struct, frozen=True, rename="camel"):
    """As much of a record as its part of a list is told by."""

    address_id: Text = msgspec.field(name="addressID")
    address_type: str | None = None
    zip_code: int | None = None
    living_area: int | None = None
    latest_valuation: int | None = None
    case_price: int | None = None

    @property
    def price(self) -> int | None:
        """What ranges of prices go by."""
        return self.case_price if self.case_price is not None else self.latest_valuation


class Id(Camel):
    """As much of a record as tells whose it is."""

    address_id: Text = msgspec.field(name="addressID")
