"""How fresh the copy of Danish homes is to be, and what its rows are to be like."""

from __future__ import annotations

import datetime as dt

from bdc_pipeline.operations.facts import Reference, Rule, Watched, Window, between, dated
from bdc_pipeline.sources.properties.places import places
from bdc_pipeline.sources.properties.tables import CHILDREN, SCHEMA

WINDOW = Window(dt.timedelta(days=7), dt.timedelta(days=6))

# Boligsiden names roads, places and cities that it says nothing more about
_SOME = 0.05

REFERENCES = (
    *(Reference(child.name, "address_id", "properties", "address_id") for child in CHILDREN),
    Reference("properties", "municipality_code", "municipalities", "municipality_code", share=_SOME),
    Reference("properties", "province_code", "provinces", "province_code", share=_SOME),
    Reference("properties", "zip_code", "zips", "zip_code", share=_SOME),
    Reference("properties", "road_id", "roads", "road_id", share=_SOME),
    Reference("properties", "city_slug", "cities", "slug", share=_SOME),
    Reference("properties", "place_id", "places", "place_id", share=_SOME),
)

RULES = (
    between("properties", "lat", 54.4, 57.9, "degrees, where Denmark is"),
    between("properties", "lon", 7.9, 15.3, "degrees, where Denmark is"),
    between("properties", "living_area", 0, 100_000, "m2"),
    between("properties", "zip_code", 1000, 9999),
    between("properties", "latest_valuation", 0, 10_000_000_000, "DKK"),
    between("properties", "case_price", 0, 10_000_000_000, "DKK"),
    between("buildings", "year_built", 1000, 2100),
    between("buildings", "total_area", 0, 1_000_000, "m2"),
    dated("registrations", "date"),
    Rule("registrations", "date from 1800 to 2100", "date BETWEEN '1800-01-01' AND '2100-12-31'"),
    between("registrations", "amount", 0, 100_000_000_000, "DKK"),
    between("cases", "price_cash", 0, 10_000_000_000, "DKK"),
    between("municipalities", "council_tax_percentage", 0, 100, "percent"),
    between("zips", "zip_code", 1000, 9999),
)


def _named(code: str) -> str:
    place = places().get(code)
    return f"{code} {place.name}" if place else code


WATCHED = Watched(
    schema=SCHEMA,
    window=lambda: WINDOW,
    owner="team:homes",
    partitions=tuple(places()),
    named=_named,
    references=REFERENCES,
    rules=RULES,
)
