"""What keeps the copy of homes current by itself. Off until switched on, since it asks a public service."""

import dagster as dg

from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.sources.properties.assets import properties
from bdc_pipeline.sources.properties.places import places

_REFRESH = dg.define_asset_job(
    "refresh_properties",
    selection=dg.AssetSelection.assets(properties),
    description="All municipalities: those whose last walk is old are walked through, the others asked for their number of homes.",
)


@dg.schedule(
    job=_REFRESH,
    cron_schedule="30 4 * * *",
    execution_timezone="Europe/Copenhagen",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    name="properties_daily",
    description="Every night: one request for each municipality, and a walk through those that are due.",
)
def properties_daily() -> dg.RunRequest:
    """One run over all municipalities."""
    codes = list(places())
    return dg.RunRequest(tags={RANGE_START: codes[0], RANGE_END: codes[-1]})


JOBS = [_REFRESH]
SCHEDULES = [properties_daily]
