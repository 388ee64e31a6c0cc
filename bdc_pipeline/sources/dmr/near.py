"""Repeaters around a point: an R*Tree narrows the places down, the distance on the sphere decides."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass

import msgspec

from bdc_pipeline.sources.dmr.reading import usual_mode

EARTH_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""

_ROUNDING = 1e-9
"""Degrees by which boxes are larger than what is calculated: 0.1 mm. The distance decides."""


@dataclass(frozen=True, slots=True)
class Around:
    """A circle on the Earth: degrees (WGS 84) and kilometres.

    Raises:
        ValueError: it lies on no place on Earth.
    """

    lat: float
    lon: float
    km: float

    def __post_init__(self) -> None:
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 180):
            raise ValueError(
                f"({self.lat:g}, {self.lon:g}) is no place on Earth: latitude -90 to 90, longitude -180 to 180."
            )
        if not 0 < self.km < math.inf:
            raise ValueError(f"A distance of {self.km:g} km finds nothing; give one above 0.")

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Boxes (south, north, west, east) that together hold the circle: two where it crosses 180 degrees."""
        angle = self.km / EARTH_KM
        south, north = self.lat - math.degrees(angle) - _ROUNDING, self.lat + math.degrees(angle) + _ROUNDING
        if south <= -90 or north >= 90 or angle >= math.pi / 2:
            return [(max(south, -90.0), min(north, 90.0), -180.0, 180.0)]
        # rounding may bring a circle that touches a pole above 1
        width = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(self.lat))))) + _ROUNDING
        west, east = self.lon - width, self.lon + width
        if west < -180:
            return [(south, north, -180.0, east), (south, north, west + 360, 180.0)]
        if east > 180:
            return [(south, north, west, 180.0), (south, north, -180.0, east - 360)]
        return [(south, north, west, east)]


class Found(msgspec.Struct):
    """A repeater and how far away it is."""

    km: float
    source: str
    external_id: str
    kind: str
    callsign: str | None
    output_hz: int | None
    input_hz: int | None
    band: str | None
    mode: str | None
    color_code: int | None
    city: str | None
    lat: float
    lon: float
    operational: bool | None


# CROSS JOIN: the tree comes first, whatever index of the repeaters SQLite holds for the better way
_NEAR = """
    SELECT r.source, r.external_id, r.kind, coalesce(r.callsign, r.callsign_raw),
        r.output_hz, r.input_hz, r.band, r.mode, r.color_code, r.city_raw, r.lat, r.lon, r.operational
    FROM locations_rtree b CROSS JOIN repeaters r ON r.location_id = b.id
    WHERE b.max_lat >= ? AND b.min_lat <= ? AND b.max_lon >= ? AND b.min_lon <= ?
        AND r.vanished_at IS NULL AND r.lat IS NOT NULL AND r.lon IS NOT NULL
"""


def near(
    connection: sqlite3.Connection,
    around: Around,
    *,
    band: str | None = None,
    mode: str | None = None,
    hotspots: bool = False,
) -> list[Found]:
    """The repeaters within a circle, nearest first.

    Args:
        connection: to a file with the tables of `tables.py`.
        around: the circle.
        band: only of this band, such as `70cm`.
        mode: only with this mode, alone or among others, such as `DMR`; in any spelling that `reading.py` knows.
        hotspots: hotspots too.
    """
    sql, further = _NEAR, list[str]()
    if band:
        sql += " AND r.band = ?"
        further.append(band.lower())
    if mode:
        sql += " AND instr('/' || upper(r.mode) || '/', '/' || ? || '/')"
        further.append((usual_mode(mode) or mode).upper())
    if not hotspots:
        sql += " AND r.kind = 'repeater'"
    found: dict[tuple[str, str], Found] = {}
    for box in around.boxes():
        for row in connection.execute(sql, (*box, *further)):
            # measured here: a function in the statement is called for whatever rows SQLite looks at, those without a place too
            values = dict(zip(Found.__struct_fields__[1:], row, strict=True))
            km = distance_km(around.lat, around.lon, values["lat"], values["lon"])
            if km <= around.km:
                one = msgspec.convert({"km": km} | values, Found, strict=False)
                found[one.source, one.external_id] = one
    return sorted(found.values(), key=lambda one: (one.km, one.source, one.external_id))


def distance_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """The distance along the sphere, in km (haversine; 0.5 % off the ellipsoid at most)."""
    phi, other_phi = math.radians(lat), math.radians(other_lat)
    a = (
        math.sin((other_phi - phi) / 2) ** 2
        + math.cos(phi) * math.cos(other_phi) * math.sin(math.radians(other_lon - lon) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, a)))
