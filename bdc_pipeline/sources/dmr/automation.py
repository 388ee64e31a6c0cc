"""What keeps the copy of the DMR registries current by itself. Off until switched on, since it asks public services.

DMR_PROFILE chooses between four profiles. A registry that wants longer pauses than a profile has is asked as rarely as it
wants: `realtime` leaves 20 minutes between two turns, where BrandMeister's floor is 15, so that none is lost to it.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.operations.backfill import Group
from bdc_pipeline.operations.refreshing import Launch, Refresh, Turn, schedule
from bdc_pipeline.sources.dmr.assets import PARTITIONS, VIEWS, dmr_downloads, dmr_tables
from bdc_pipeline.sources.dmr.registries import REGISTRIES


@dataclass(frozen=True, slots=True)
class Profile:
    """How the registries are kept.

    Args:
        cron: when they are asked.
        max_age: a download that is older is asked for again; None for each document's own age, a day for BrandMeister.
        workers: requests at the same time.
        mode: how downloads are loaded.
        chunk: records in memory at a time, where it is loaded by streaming.
    """

    cron: str
    max_age: dt.timedelta | None
    workers: int
    mode: str
    chunk: int | None = None

    def config(self) -> dict[str, Any]:
        """The configuration of a run."""
        warm = {} if self.max_age is None else {"max_age_minutes": self.max_age.total_seconds() / 60}
        load = {"mode": self.mode} | ({} if self.chunk is None else {"chunk": self.chunk})
        return {
            "ops": {
                dmr_downloads.node_def.name: {"config": warm},
                dmr_tables.node_def.name: {"ops": {"plan_registries": {"config": load}}},
            },
            "resources": {"dmr": {"config": {"workers": self.workers}}},
        }


_MINUTES = dt.timedelta(minutes=1)

PROFILES: Mapping[str, Profile] = {
    "realtime": Profile("*/20 * * * *", 15 * _MINUTES, workers=4, mode="auto"),
    "high_performance": Profile("12 * * * *", 45 * _MINUTES, workers=4, mode="parallel"),
    "standard": Profile("12 */2 * * *", None, workers=2, mode="auto"),
    "constrained": Profile("12 */3 * * *", None, workers=1, mode="streaming", chunk=500),
}

STANDARD = PROFILES["standard"]

REGISTRIES_REFRESH = Refresh(
    "refresh_dmr",
    [dmr_downloads, dmr_tables],
    "The registries' documents that are too old, then the tables that are loaded from them, then the views.",
    more=VIEWS,
)


def chosen_profile() -> Profile:
    """The profile that DMR_PROFILE names; the standard one while it names none that there is: its schedule then says so."""
    return PROFILES.get(settings.read(settings.DMR_PROFILE), STANDARD)


def refresh_registries(_: Turn) -> Sequence[Launch]:
    """One run over all registries.

    Raises:
        SettingsError: DMR_PROFILE names no profile.
    """
    return [Launch((REGISTRIES[0], REGISTRIES[-1]), PROFILES[settings.dmr_profile()].config())]


JOBS = [REGISTRIES_REFRESH.as_job()]

SCHEDULES = [
    schedule(
        "dmr_refresh",
        REGISTRIES_REFRESH,
        chosen_profile().cron,
        refresh_registries,
        description="Asks the registries for documents that are too old and loads them, as often as DMR_PROFILE says.",
    )
]

SENSORS: list[dg.SensorDefinition] = []

GROUPS = [Group("registries", [dmr_downloads, dmr_tables], PARTITIONS)]
