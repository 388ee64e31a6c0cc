"""The rows of the copy of Boligsiden's homes and the tables that hold them.

Columns are chosen one by one. Realtors (names, e-mails, phones), descriptions, images and the prose of past sales are never
stored. What many homes share (municipality, province, zip code, city, place, road) is stored once. Boligsiden shows the present
alone, so what was before is kept by triggers: prices asked, valuations, being on the market.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from bdc_pipeline.sources.properties.views import NOTES, VIEWS
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.triggers import Trigger

HomeId = Annotated[str, Meta(description="`properties.address_id`")]
CaseId = Annotated[str, Meta(description="`cases.case_id`")]
MunicipalityCode = Annotated[
    int,
    Meta(
        description="`municipalities.municipality_code`: 101 for the partition 0101; of the list if the record lacks it"
    ),
]
Slug = Annotated[str | None, Meta(description="Its name in Boligsiden's links")]
SeenAt = Annotated[str, Meta(description="When the change was seen here (UTC)")]


class Property(msgspec.Struct, frozen=True):
    """A home: its address, areas, valuation and whether it is for sale."""

    address_id: Annotated[str, Meta(description="Boligsiden's addressID: the national address register's id (UUID)")]
    address_type: Annotated[
        str | None, Meta(description="villa, condo, terraced house, ...; NULL where the record has none")
    ]
    road_name: Annotated[str | None, Meta(description="Name of the road")]
    house_number: Annotated[str | None, Meta(description="With its letter: `82A`")]
    floor: Annotated[str | None, Meta(description="`0`, `1`, `-1`, ...")]
    door: Annotated[str | None, Meta(description="`tv`, `th`, `mf` or a number")]
    zip_code: Annotated[int | None, Meta(description="`zips.zip_code`")]
    city_name: Annotated[str | None, Meta(description="City of the zip code")]
    place_name: Annotated[str | None, Meta(description="Village or quarter, where the address names one")]
    municipality_code: MunicipalityCode
    province_code: Annotated[str | None, Meta(description="`provinces.province_code`, such as `DK042`")]
    road_id: Annotated[str | None, Meta(description="`roads.road_id`")]
    city_slug: Annotated[str | None, Meta(description="`cities.slug`")]
    place_id: Annotated[int | None, Meta(description="`places.place_id`")]
    entry_address_id: Annotated[
        str | None, Meta(description="The access address (entrance), which several homes may share")
    ]
    gstkvhx: Annotated[
        str | None, Meta(description="Municipality, road, house number, floor and door, padded by underscores")
    ]
    lat: Annotated[float | None, Meta(description="Degrees north (WGS 84)")]
    lon: Annotated[float | None, Meta(description="Degrees east (WGS 84)")]
    living_area: Annotated[int | None, Meta(description="Square metres")]
    weighted_area: Annotated[float | None, Meta(description="Square metres, weighted by use")]
    latest_sold_area: Annotated[int | None, Meta(description="Square metres when it was last sold")]
    energy_label: Annotated[str | None, Meta(description="`a2020` (best) to `g`")]
    latest_valuation: Annotated[int | None, Meta(description="Boligsiden's or the public valuation, DKK")]
    case_price: Annotated[int | None, Meta(description="What is asked for it now, DKK")]
    is_on_market: Annotated[bool | None, Meta(description="Whether it is for sale; absent (NULL) in most that are not")]
    is_public: Annotated[bool | None, Meta(description="Whether Boligsiden shows it publicly")]
    property_number: Annotated[int | None, Meta(description="Number in the old property register; 0 is unknown")]
    bfe_number: Annotated[int | None, Meta(description="First of its property numbers (`property_bfe` has all)")]
    slug: Annotated[str | None, Meta(description="Its page: https://www.boligsiden.dk/adresse/SLUG")]


class Building(msgspec.Struct, frozen=True):
    """A building of a home, from the building register (BBR): the house, a carport, a shed. Texts are Danish."""

    address_id: HomeId
    building_number: Annotated[str, Meta(description="The register's number on the property; empty where it has none")]
    occurrence: Annotated[int, Meta(description="1; counts on where a number occurs again in the same home")]
    municipality_code: MunicipalityCode
    building_name: Annotated[
        str | None, Meta(description="What it is used as; `(UDFASES)` marks terms that are going out")
    ]
    year_built: Annotated[int | None, Meta(description="Year")]
    year_renovated: Annotated[int | None, Meta(description="Year of the last large renovation or extension")]
    total_area: Annotated[int | None, Meta(description="Square metres")]
    housing_area: Annotated[int | None, Meta(description="Square metres to live in")]
    basement_area: Annotated[int | None, Meta(description="Square metres of basement")]
    business_area: Annotated[int | None, Meta(description="Square metres of business")]
    other_area: Annotated[int | None, Meta(description="Square metres of other use")]
    number_of_floors: Annotated[int | None, Meta(description="Floors")]
    number_of_rooms: Annotated[int | None, Meta(description="Rooms")]
    number_of_bathrooms: Annotated[int | None, Meta(description="Bathrooms")]
    number_of_toilets: Annotated[int | None, Meta(description="Toilets")]
    number_of_kitchens: Annotated[int | None, Meta(description="Kitchens")]
    kitchen_condition: Annotated[str | None, Meta(description="Of the kitchen")]
    bathroom_condition: Annotated[str | None, Meta(description="Of the bathroom")]
    toilet_condition: Annotated[str | None, Meta(description="Of the toilet")]
    external_wall_material: Annotated[str | None, Meta(description="Of the walls")]
    supplementary_external_wall_material: Annotated[str | None, Meta(description="Of further walls")]
    roofing_material: Annotated[str | None, Meta(description="Of the roof")]
    supplementary_roofing_material: Annotated[str | None, Meta(description="Of further roofs")]
    heating_installation: Annotated[str | None, Meta(description="How it is heated")]
    supplementary_heating: Annotated[str | None, Meta(description="How it is heated besides")]
    asbestos_containing_material: Annotated[str | None, Meta(description="What contains asbestos")]


class Registration(msgspec.Struct, frozen=True):
    """A registered sale of a home. One deed may be for many homes, which then have a row each with the same id."""

    address_id: HomeId
    registration_id: Annotated[
        str,
        Meta(
            description="Boligsiden's id: a UUID or a number; `no-id:DATE:AMOUNT` where there is none. Shared by homes"
        ),
    ]
    municipality_code: MunicipalityCode
    date: Annotated[str | None, Meta(description="Day of the sale, `2025-04-01`")]
    amount: Annotated[int | None, Meta(description="DKK, for all that the deed is for")]
    type: Annotated[str | None, Meta(description="normal, family, auction or other")]
    area: Annotated[int | None, Meta(description="Square metres at the sale")]
    living_area: Annotated[int | None, Meta(description="Square metres to live in at the sale")]
    per_area_price: Annotated[int | None, Meta(description="DKK a square metre, as Boligsiden has it")]
    property_number: Annotated[int | None, Meta(description="Number in the old property register; 0 is unknown")]


class PropertyBfe(msgspec.Struct, frozen=True):
    """A number of a home in the land register (BFE). Most homes have one, some several."""

    address_id: HomeId
    bfe_number: Annotated[int, Meta(description="The land register's number of the property")]
    municipality_code: MunicipalityCode


class Case(msgspec.Struct, frozen=True):
    """A listing: a home being offered for sale. When it ends, its row stays, with `vanished_at`."""

    case_id: Annotated[str, Meta(description="Boligsiden's caseID (UUID)")]
    address_id: HomeId
    municipality_code: MunicipalityCode
    status: Annotated[str | None, Meta(description="`open`, ...")]
    price_cash: Annotated[int | None, Meta(description="What is asked, DKK")]
    price_change_percentage: Annotated[float | None, Meta(description="The latest change of the price, in percent")]
    per_area_price: Annotated[int | None, Meta(description="DKK a square metre")]
    monthly_expense: Annotated[int | None, Meta(description="Costs of owning, DKK a month")]
    days_current: Annotated[int | None, Meta(description="Days on the market in this listing")]
    days_total: Annotated[int | None, Meta(description="Days on the market, earlier listings included")]
    down_payment: Annotated[int | None, Meta(description="DKK")]
    gross_mortgage: Annotated[int | None, Meta(description="DKK a month before tax")]
    net_mortgage: Annotated[int | None, Meta(description="DKK a month after tax")]
    lot_area: Annotated[int | None, Meta(description="Square metres of ground")]
    housing_area: Annotated[int | None, Meta(description="Square metres to live in")]
    basement_area: Annotated[int | None, Meta(description="Square metres of basement")]
    weighted_area: Annotated[float | None, Meta(description="Square metres, weighted by use")]
    year_built: Annotated[int | None, Meta(description="Year")]
    number_of_floors: Annotated[int | None, Meta(description="Floors")]
    number_of_rooms: Annotated[int | None, Meta(description="Rooms")]
    number_of_bathrooms: Annotated[int | None, Meta(description="Bathrooms")]
    number_of_toilets: Annotated[int | None, Meta(description="Toilets")]
    energy_label: Annotated[str | None, Meta(description="`a2020` (best) to `g`")]
    has_balcony: Annotated[bool | None, Meta(description="Whether it has a balcony")]
    has_terrace: Annotated[bool | None, Meta(description="Whether it has a terrace")]
    has_elevator: Annotated[bool | None, Meta(description="Whether it has a lift")]
    highlighted: Annotated[bool | None, Meta(description="Whether the listing is paid to stand out")]
    distinction: Annotated[str | None, Meta(description="Kind of listing: `real_estate`, ...")]
    next_open_house: Annotated[str | None, Meta(description="When it can be visited next, as Boligsiden has it")]


class PriceChange(msgspec.Struct, frozen=True):
    """That another price is asked in a listing than before."""

    case_id: CaseId
    seen_at: Annotated[
        str, Meta(description="When it was seen here (UTC), or when Boligsiden says that it was changed")
    ]
    old_price: Annotated[int | None, Meta(description="DKK before")]
    new_price: Annotated[int | None, Meta(description="DKK from then on")]
    observed: Annotated[bool, Meta(description="1: seen between two runs; 0: told by Boligsiden")] = True


class Valuation(msgspec.Struct, frozen=True):
    """That a home is valued otherwise than before."""

    address_id: HomeId
    seen_at: SeenAt
    old_valuation: Annotated[int | None, Meta(description="DKK before")]
    new_valuation: Annotated[int | None, Meta(description="DKK from then on")]


class MarketChange(msgspec.Struct, frozen=True):
    """That a home came on the market or left it."""

    address_id: HomeId
    seen_at: SeenAt
    is_on_market: Annotated[bool, Meta(description="1: it came on the market; 0: it left it")]
    price: Annotated[int | None, Meta(description="What is asked, or was asked last, DKK")]


class Municipality(msgspec.Struct, frozen=True):
    """A municipality, with its tax rates and size as of the last change."""

    municipality_code: Annotated[int, Meta(description="The national code: 101 for 0101")]
    name: Annotated[str | None, Meta(description="Its name")]
    slug: Slug
    council_tax_percentage: Annotated[float | None, Meta(description="Municipal tax, percent")]
    church_tax_percentage: Annotated[float | None, Meta(description="Church tax, percent")]
    land_value_tax_level_per_thousand: Annotated[float | None, Meta(description="Land tax, per thousand")]
    number_of_schools: Annotated[int | None, Meta(description="Schools")]
    population: Annotated[int | None, Meta(description="Inhabitants")]


class Province(msgspec.Struct, frozen=True):
    """A statistical province (NUTS 3)."""

    province_code: Annotated[str, Meta(description="NUTS code: `DK042`")]
    name: Annotated[str | None, Meta(description="Its name")]
    region_code: Annotated[int | None, Meta(description="Code of its region: 1084 is Hovedstaden")]
    slug: Slug


class Zip(msgspec.Struct, frozen=True):
    """A zip code."""

    zip_code: Annotated[int, Meta(description="Four digits")]
    name: Annotated[str | None, Meta(description="Its city")]
    slug: Slug


class City(msgspec.Struct, frozen=True):
    """A city. Boligsiden gives it no id but its slug."""

    slug: Annotated[str, Meta(description="Its name in Boligsiden's links")]
    name: Annotated[str | None, Meta(description="Its name")]


class Place(msgspec.Struct, frozen=True):
    """A village or a quarter."""

    place_id: Annotated[int, Meta(description="Boligsiden's id")]
    name: Annotated[str | None, Meta(description="Its name")]
    slug: Slug


class Road(msgspec.Struct, frozen=True):
    """A road."""

    road_id: Annotated[str, Meta(description="Boligsiden's roadID (UUID)")]
    municipality_code: Annotated[int | None, Meta(description="`municipalities.municipality_code`")]
    road_code: Annotated[int | None, Meta(description="Its code in the municipality")]
    name: Annotated[str | None, Meta(description="Its name")]
    slug: Slug


_BY_MUNICIPALITY = ByValue("municipality_code", digits=4)

PROPERTIES = Table(
    Property,
    "properties",
    key=("address_id",),
    partitioning=_BY_MUNICIPALITY,
    indexes=(("municipality_code",), ("zip_code",), ("road_id",)),
    fingerprinted=True,
)


def _child(
    row: type[msgspec.Struct],
    name: str,
    *key: str,
    indexes: tuple[tuple[str, ...], ...] = (),
    transient: bool = False,
) -> Table:
    return Table(
        row,
        name,
        key=key,
        partitioning=_BY_MUNICIPALITY,
        indexes=(("municipality_code",), *indexes),
        parent="address_id",
        owner="properties",
        transient=transient,
    )


BUILDINGS = _child(Building, "buildings", "address_id", "building_number", "occurrence")
REGISTRATIONS = _child(
    Registration, "registrations", "address_id", "registration_id", indexes=(("registration_id",), ("date",))
)
PROPERTY_BFE = _child(PropertyBfe, "property_bfe", "address_id", "bfe_number", indexes=(("bfe_number",),))
CASES = _child(Case, "cases", "case_id", indexes=(("address_id",),), transient=True)

PRICE_CHANGES = Table(PriceChange, "price_changes", key=("case_id", "seen_at"), gathered_with="cases")
VALUATIONS = Table(Valuation, "valuations", key=("address_id", "seen_at"), gathered_with="properties")
MARKET_CHANGES = Table(MarketChange, "market_changes", key=("address_id", "seen_at"), gathered_with="properties")

MUNICIPALITIES = Table(Municipality, "municipalities", key=("municipality_code",), gathered_with="properties")
PROVINCES = Table(Province, "provinces", key=("province_code",), gathered_with="properties")
ZIPS = Table(Zip, "zips", key=("zip_code",), gathered_with="properties")
CITIES = Table(City, "cities", key=("slug",), gathered_with="properties")
PLACES = Table(Place, "places", key=("place_id",), gathered_with="properties")
ROADS = Table(
    Road, "roads", key=("road_id",), indexes=(("municipality_code", "road_code"),), gathered_with="properties"
)

CHILDREN = (BUILDINGS, REGISTRATIONS, PROPERTY_BFE, CASES)
HISTORIES = (PRICE_CHANGES, VALUATIONS, MARKET_CHANGES)
LOOKUPS = (MUNICIPALITIES, PROVINCES, ZIPS, CITIES, PLACES, ROADS)
TABLES = (PROPERTIES, *CHILDREN, *HISTORIES, *LOOKUPS)

TABLE_OF: Mapping[type[msgspec.Struct], Table] = {table.row: table for table in TABLES}


def _history(name: str, on: str, column: str, table: Table, values: str, when: str) -> Trigger:
    """A trigger that adds a row to a history; one that is there already stays, since a batch must not fail for it."""
    columns = ", ".join((*(c.name for c in table.columns), "last_updated", "first_seen"))
    return Trigger(
        name,
        f"CREATE TRIGGER {name} AFTER UPDATE OF {column} ON {on} WHEN {when} BEGIN "
        f"INSERT INTO {table.stored} ({columns}) SELECT {values}, NEW.last_updated, NEW.last_updated "
        f"WHERE true ON CONFLICT DO NOTHING; END",
        table.name,
    )


_TRIGGERS = (
    _history(
        "cases_price_cash",
        "cases",
        "price_cash",
        PRICE_CHANGES,
        "NEW.case_id, NEW.last_updated, OLD.price_cash, NEW.price_cash, 1",
        "OLD.price_cash IS NOT NEW.price_cash",
    ),
    _history(
        "properties_latest_valuation",
        "properties",
        "latest_valuation",
        VALUATIONS,
        "NEW.address_id, NEW.last_updated, OLD.latest_valuation, NEW.latest_valuation",
        "OLD.latest_valuation IS NOT NEW.latest_valuation",
    ),
    _history(
        "properties_is_on_market",
        "properties",
        "is_on_market",
        MARKET_CHANGES,
        "NEW.address_id, NEW.last_updated, coalesce(NEW.is_on_market, 0), coalesce(NEW.case_price, OLD.case_price)",
        "coalesce(OLD.is_on_market, 0) <> coalesce(NEW.is_on_market, 0)",
    ),
)

SCHEMA = Schema("properties", TABLES, VIEWS, NOTES, _TRIGGERS)
