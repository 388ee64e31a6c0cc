"""The views of the copy of Boligsiden's homes: what an analyst asks first."""

from __future__ import annotations

from collections.abc import Mapping

from bdc_pipeline.warehouse.schema import View

# A deed that is for several homes tells the price of none of them; family and auction sales tell no market price.
_SALES = """
    SELECT r.address_id, r.municipality_code, p.zip_code, p.address_type, CAST(substr(r.date, 1, 4) AS INTEGER) AS year,
        r.amount, CAST(r.amount AS REAL) / coalesce(nullif(r.living_area, 0), r.area) AS per_m2
    FROM registrations r
    JOIN properties p ON p.address_id = r.address_id
    WHERE r.vanished_at IS NULL AND p.vanished_at IS NULL AND r.type = 'normal' AND r.amount > 0
        AND coalesce(nullif(r.living_area, 0), r.area) > 0 AND length(r.date) >= 4
        AND NOT EXISTS (
            SELECT 1 FROM registrations o WHERE o.registration_id = r.registration_id
            AND o.address_id <> r.address_id AND o.vanished_at IS NULL
        )
"""

# SQLite has no median: the mean of the one or two values in the middle.
_MEDIANS = """
    count(*) AS sales,
    round(avg(per_m2) FILTER (WHERE place IN ((number + 1) / 2, (number + 2) / 2))) AS median_price_per_m2,
    round(avg(per_m2)) AS average_price_per_m2
"""


def _by(column: str) -> str:
    return f"""
        SELECT s.*, row_number() OVER (PARTITION BY {column}, year ORDER BY per_m2) AS place,
            count(*) OVER (PARTITION BY {column}, year) AS number
        FROM ({_SALES}) s
    """  # noqa: S608  (composed of the constants above)


_PRICE_PER_M2 = f"""
    SELECT r.municipality_code, m.name AS municipality, r.year, {_MEDIANS}
    FROM ({_by("municipality_code")}) r
    LEFT JOIN municipalities m ON m.municipality_code = r.municipality_code
    GROUP BY r.municipality_code, r.year
"""  # noqa: S608

_SALES_BY_ZIP = f"""
    SELECT r.zip_code, z.name AS zip_name, r.year, {_MEDIANS}, sum(r.amount) AS total_amount
    FROM ({_by("zip_code")}) r
    LEFT JOIN zips z ON z.zip_code = r.zip_code
    WHERE r.zip_code IS NOT NULL
    GROUP BY r.zip_code, r.year
"""  # noqa: S608

# What Boligsiden itself tells of a listing's prices is all there was; what was seen here is then the same once more.
_FOR_SALE = """
    SELECT p.address_id, c.case_id, p.address_type,
        p.road_name || coalesce(' ' || p.house_number, '') || coalesce(', ' || p.floor || '.', '')
            || coalesce(' ' || p.door, '') AS address,
        p.zip_code, p.city_name, p.municipality_code, m.name AS municipality, c.price_cash,
        coalesce(h.first_price, c.price_cash) AS first_price, coalesce(h.price_cuts, 0) AS price_cuts,
        c.price_cash - coalesce(h.first_price, c.price_cash) AS price_change, c.price_change_percentage,
        c.days_current AS days_on_market, c.days_total, coalesce(c.housing_area, p.living_area) AS living_area,
        c.per_area_price, p.latest_valuation, p.energy_label, c.next_open_house, c.first_seen AS listed_since, p.slug
    FROM cases c
    JOIN properties p ON p.address_id = c.address_id
    LEFT JOIN municipalities m ON m.municipality_code = p.municipality_code
    LEFT JOIN (
        SELECT case_id, sum(new_price < old_price) AS price_cuts,
            max(CASE WHEN place = 1 THEN old_price END) AS first_price
        FROM (
            SELECT h.*, row_number() OVER (PARTITION BY case_id ORDER BY seen_at) AS place FROM price_changes h
            WHERE h.observed = 0 OR NOT EXISTS (
                SELECT 1 FROM price_changes o WHERE o.case_id = h.case_id AND o.observed = 0
            )
        )
        GROUP BY case_id
    ) h ON h.case_id = c.case_id
    WHERE c.vanished_at IS NULL AND p.vanished_at IS NULL
"""

_LISTINGS = """
    SELECT c.case_id, c.address_id, c.municipality_code, c.status, c.price_cash, c.days_current,
        c.first_seen, c.vanished_at AS ended_at
    FROM cases c
"""

_VALUATION_HISTORY = """
    SELECT v.address_id, p.municipality_code, p.zip_code, v.seen_at, v.old_valuation, v.new_valuation,
        v.new_valuation - v.old_valuation AS change,
        round(100.0 * (v.new_valuation - v.old_valuation) / nullif(v.old_valuation, 0), 1) AS change_percentage
    FROM valuations v
    JOIN properties p ON p.address_id = v.address_id
"""

VIEWS = (
    View(
        "price_per_m2",
        _PRICE_PER_M2,
        "What a square metre cost in normal sales, by municipality and year. Deeds for several homes are left out.",
    ),
    View("homes_for_sale", _FOR_SALE, "Homes for sale now, with their days on the market and price cuts."),
    View("sales_by_zip", _SALES_BY_ZIP, "Normal sales by zip code and year. Deeds for several homes are left out."),
    View("listings", _LISTINGS, "All listings ever seen, with when they came and ended."),
    View("valuation_history", _VALUATION_HISTORY, "Changes of homes' valuations, as seen between runs."),
)

_MEDIAN_NOTES = {
    "year": "Year of the sales",
    "sales": "How many sales",
    "median_price_per_m2": "DKK a square metre to live in: half of the sales were below",
    "average_price_per_m2": "DKK a square metre to live in, mean of the sales",
}

NOTES: Mapping[str, Mapping[str, str]] = {
    "price_per_m2": {"municipality": "Its name", **_MEDIAN_NOTES},
    "sales_by_zip": {"zip_name": "City of the zip code", "total_amount": "DKK, all sales together", **_MEDIAN_NOTES},
    "homes_for_sale": {
        "address": "Road, number, floor and door",
        "municipality": "Its name",
        "first_price": "DKK asked at first, as far as known",
        "price_cuts": "How often the price was lowered since, as far as known",
        "price_change": "DKK: the price now less the first one",
        "days_on_market": "Days in this listing",
        "living_area": "Square metres, by the listing or else by the register",
        "listed_since": "When the listing was first seen here (UTC)",
    },
    "listings": {"ended_at": "When a complete walk first came without it (UTC); NULL while it is there"},
    "valuation_history": {
        "change": "DKK",
        "change_percentage": "Percent of the valuation before",
    },
}
