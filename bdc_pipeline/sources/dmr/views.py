"""Views that answer what people ask of repeaters. Each is about what is there now: vanished rows are left out."""

from __future__ import annotations

from bdc_pipeline.warehouse.schema import View

BY_PLACE_AND_BAND = """
    SELECT l.city_raw AS place, r.band, r.mode, count(*) AS repeaters,
        sum(r.kind = 'repeater') AS without_hotspots,
        sum(r.source = 'brandmeister') AS at_brandmeister, sum(r.source = 'hearham') AS at_hearham,
        avg(l.lat) AS lat, avg(l.lon) AS lon
    FROM repeaters r LEFT JOIN locations l ON l.id = r.location_id
    WHERE r.vanished_at IS NULL
    GROUP BY l.city_raw, r.band, r.mode
"""

BY_BAND_AND_MODE = """
    SELECT band, mode, kind, count(*) AS repeaters, count(lat) AS with_coordinates
    FROM repeaters WHERE vanished_at IS NULL
    GROUP BY band, mode, kind
"""

# Registries round coordinates differently; 0.1 degrees is 11 km at most
SAME_SITES = """
    SELECT b.callsign, b.output_hz, b.external_id AS brandmeister_id, h.external_id AS hearham_id,
        b.color_code AS brandmeister_color_code, h.color_code AS hearham_color_code,
        b.lat, b.lon, b.city_raw AS brandmeister_city, h.city_raw AS hearham_city
    FROM repeaters b JOIN repeaters h
        ON h.callsign = b.callsign AND h.source = 'hearham' AND h.output_hz = b.output_hz
    WHERE b.source = 'brandmeister' AND b.kind = 'repeater' AND b.vanished_at IS NULL AND h.vanished_at IS NULL
        AND abs(b.lat - h.lat) < 0.1 AND abs(b.lon - h.lon) < 0.1
"""

RECENT_CHANGES = """
    SELECT 'repeater' AS what, source AS registry, external_id AS id, callsign AS name, city_raw AS place,
        CASE WHEN vanished_at IS NOT NULL THEN 'vanished' WHEN first_seen = last_updated THEN 'new' ELSE 'changed' END
            AS change,
        max(last_updated, coalesce(vanished_at, '')) AS at
    FROM repeaters
    WHERE last_updated >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')
        OR vanished_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')
    UNION ALL
    SELECT 'talkgroup', network, CAST(talkgroup_id AS TEXT), name, NULL,
        CASE WHEN vanished_at IS NOT NULL THEN 'vanished' WHEN first_seen = last_updated THEN 'new' ELSE 'changed' END,
        max(last_updated, coalesce(vanished_at, ''))
    FROM talkgroups
    WHERE last_updated >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')
        OR vanished_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')
"""

VIEWS = (
    View("repeaters_by_place_and_band", BY_PLACE_AND_BAND, "How many repeaters a place has, by band and mode."),
    View("repeaters_by_band_and_mode", BY_BAND_AND_MODE, "How many repeaters there are, by band and mode."),
    View("same_sites", SAME_SITES, "Repeaters that both registries know: call sign, output and place agree."),
    View("recent_changes", RECENT_CHANGES, "What is new, changed or gone since this time yesterday."),
)

NOTES = {
    "repeaters_by_place_and_band": {
        "place": "The place as given; NULL for repeaters without one",
        "repeaters": "How many, hotspots among them",
        "without_hotspots": "How many of them are no hotspots",
        "at_brandmeister": "How many of them BrandMeister lists",
        "at_hearham": "How many of them hearham lists",
        "lat": "Degrees, WGS 84; the mean of the places of that name",
        "lon": "Degrees, WGS 84; the mean of the places of that name",
    },
    "repeaters_by_band_and_mode": {
        "repeaters": "How many",
        "with_coordinates": "How many of them have coordinates",
    },
    "same_sites": {
        "brandmeister_id": "`repeaters.external_id` at BrandMeister",
        "hearham_id": "`repeaters.external_id` at hearham",
        "brandmeister_color_code": "What BrandMeister says",
        "hearham_color_code": "What hearham says",
        "lat": "Degrees, WGS 84, at BrandMeister",
        "lon": "Degrees, WGS 84, at BrandMeister",
        "brandmeister_city": "The place as BrandMeister gives it",
        "hearham_city": "The place as hearham gives it",
    },
    "recent_changes": {
        "what": "`repeater` or `talkgroup`",
        "registry": "Which registry's",
        "id": "The registry's own id",
        "name": "Call sign, or the talkgroup's name",
        "place": "The place as given",
        "change": "`new`, `changed` or `vanished`",
        "at": "When it was noticed here (UTC)",
    },
}
