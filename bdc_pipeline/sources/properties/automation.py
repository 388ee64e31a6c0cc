"""What keeps the copy of homes current by itself. Off until switched on, since it asks a public service.

Every night one run asks all 36 municipalities for their number of homes, one request each, and walks through a seventh of
them: so within a week each has been seen home by home, and no night asks much.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from bdc_pipeline.operations.backfill import Group
from bdc_pipeline.operations.refreshing import Launch, Refresh, Turn, schedule
from bdc_pipeline.sources.properties.assets import MUNICIPALITIES, properties
from bdc_pipeline.sources.properties.places import places

NIGHTS = 7

OVERDUE_DAYS = 8.0
"""A municipality whose night was missed, or failed, is walked through the night after."""

HOMES = Refresh(
    "refresh_properties",
    [properties],
    "Municipalities: those whose last walk is old are walked through, the others asked for their number of homes.",
)


def in_turn(codes: Sequence[str], night: dt.date) -> list[str]:
    """The municipalities of a night's seventh."""
    return list(codes[night.toordinal() % NIGHTS :: NIGHTS])


def nightly(turn: Turn) -> list[Launch]:
    """One run over all municipalities."""
    codes = list(places())
    asked = {"days": OVERDUE_DAYS, "in_turn": in_turn(codes, turn.at.date())}
    config = {"ops": {"properties": {"ops": {"plan_properties": {"config": asked}}}}}
    return [Launch((codes[0], codes[-1]), config)]


JOBS = [HOMES.as_job()]

SCHEDULES = [
    schedule(
        "properties_nightly",
        HOMES,
        "30 4 * * *",
        nightly,
        description="Every night: each municipality's number of homes, and a walk through a seventh of the municipalities.",
        timezone="Europe/Copenhagen",
    )
]

SENSORS: list[dg.SensorDefinition] = []

GROUPS = [Group("homes", [properties], MUNICIPALITIES)]
