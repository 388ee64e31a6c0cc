"""How fresh the copy of the DMR registries is to be, and what its rows are to be like."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from bdc_pipeline import settings
from bdc_pipeline.operations.facts import Reference, Rule, Watched, Window, between, one_of
from bdc_pipeline.sources.dmr.cache import Cache
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES
from bdc_pipeline.sources.dmr.tables import SCHEMA

FRESH_WITHIN: Mapping[str, dt.timedelta] = {
    "realtime": dt.timedelta(hours=1),
    "high_performance": dt.timedelta(hours=2),
    "standard": dt.timedelta(hours=3),
    "constrained": dt.timedelta(hours=4),
}
"""By profile: some of its pauses."""

GRACE = dt.timedelta(hours=4)
"""So long after its own age a download may wait to be asked for again, by the profile with the longest pauses."""

REFERENCES = (
    Reference("repeaters", "location_id", "locations"),
    Reference("repeaters", "document", "sources", "document"),
    Reference("talkgroups", "document", "sources", "document"),
)

RULES = (
    between("repeaters", "lat", -90, 90, "degrees"),
    between("repeaters", "lon", -180, 180, "degrees"),
    Rule("repeaters", "lat and lon together", "(lat IS NULL) = (lon IS NULL)"),
    between("repeaters", "color_code", 0, 15),
    between("repeaters", "output_hz", 0, 300_000_000_000, "Hz"),
    between("repeaters", "input_hz", 0, 300_000_000_000, "Hz"),
    Rule("repeaters", "offset_hz is input less output", "offset_hz = input_hz - output_hz OR source = 'hearham'"),
    between("repeaters", "status", 0, 4),
    # BrandMeister's are typed in: -1, ten million
    between("repeaters", "power_watts", 0, 1_000_000, "W", share=0.2),
    one_of("repeaters", "kind", "repeater", "hotspot"),
    Rule("talkgroups", "talkgroup_id above 0", "talkgroup_id > 0"),
    between("locations", "lat", -90, 90, "degrees"),
    between("locations", "lon", -180, 180, "degrees"),
    Rule("sources", "bytes and records not negative", "bytes >= 0 AND records >= 0"),
)


def _window() -> Window:
    # a profile that there is not is told by the schedule that reads it
    profile = settings.read(settings.DMR_PROFILE)
    return Window(FRESH_WITHIN.get(profile, FRESH_WITHIN["standard"]))


def _overdue(now: dt.datetime) -> dict[str, dt.timedelta]:
    """How old downloads are that should have been asked for again: loading them anew makes nothing fresh."""
    cache, found = Cache(settings.cache_dir() / "dmr"), dict[str, dt.timedelta]()
    for feed in FEEDS:
        cached = cache.look_up(feed)
        age = cached.age(now) if cached else None
        if age is not None and age > feed.max_age + GRACE:
            found[feed.registry] = max(age, found.get(feed.registry, age))
    return found


WATCHED = Watched(
    schema=SCHEMA,
    window=_window,
    owner="team:radio",
    others=("downloads", "repeaters_by_place_and_band", "repeaters_by_band_and_mode", "same_sites"),
    partitions=REGISTRIES,
    ages=_overdue,
    references=REFERENCES,
    rules=RULES,
)
