"""What Dagster loads, assembled in one place."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.operations.checks import checks_of, current_limits
from bdc_pipeline.operations.freshness import watched_over
from bdc_pipeline.operations.maintenance import maintenance
from bdc_pipeline.operations.telling import alert_on_copies, alert_on_failed_runs
from bdc_pipeline.operations.watching import watch_copies
from bdc_pipeline.sources.dmr import assets as dmr
from bdc_pipeline.sources.dmr import automation as dmr_automation
from bdc_pipeline.sources.dmr.checks import WATCHED as DMR
from bdc_pipeline.sources.gitlab import assets as gitlab
from bdc_pipeline.sources.gitlab import automation as gitlab_automation
from bdc_pipeline.sources.gitlab.checks import WATCHED as GITLAB
from bdc_pipeline.sources.properties import assets as properties
from bdc_pipeline.sources.properties import automation as properties_automation
from bdc_pipeline.sources.properties.checks import WATCHED as PROPERTIES
from bdc_pipeline.sources.sonar import assets as sonar
from bdc_pipeline.sources.sonar import automation as sonar_automation
from bdc_pipeline.sources.sonar.checks import WATCHED as SONAR
from bdc_pipeline.warehouse.io_manager import KEY, sqlite_io_manager

WATCHED = (SONAR, GITLAB, PROPERTIES, DMR)

SCHEMAS = tuple(watched.schema for watched in WATCHED)

AUTOMATIONS = {
    "sonar": sonar_automation,
    "gitlab": gitlab_automation,
    "properties": properties_automation,
    "dmr": dmr_automation,
}


def build_defs(*, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The project's definitions, with some resources replaced where tests and the command line want others."""
    assets = [*sonar.ASSETS, *gitlab.ASSETS, *properties.ASSETS, *dmr.ASSETS]
    limits = current_limits(WATCHED)
    checks = [check for watched in WATCHED for check in checks_of(watched, assets, limits)]
    local = maintenance(SCHEMAS, [key for check in checks for key in check.check_keys])
    project = dg.Definitions(
        assets=watched_over(assets, WATCHED, limits.windows),
        asset_checks=checks,
        jobs=[*(job for source in AUTOMATIONS.values() for job in source.JOBS), *local.jobs],
        schedules=[*(one for source in AUTOMATIONS.values() for one in source.SCHEDULES), *local.schedules],
        sensors=[
            *(sensor for source in AUTOMATIONS.values() for sensor in source.SENSORS),
            watch_copies(WATCHED, limits),
            alert_on_failed_runs,
            alert_on_copies(
                WATCHED,
                {name: [job.name for job in source.JOBS] for name, source in AUTOMATIONS.items()},
                {name: {key for asset in assets for key in asset.keys if key.path[0] == name} for name in AUTOMATIONS},
            ),
        ],
        resources={
            "sonar": sonar.SonarResource(),
            "gitlab": gitlab.GitLabResource(),
            "boligsiden": properties.BoligsidenResource(),
            "dmr": dmr.DmrResource(),
            KEY: sqlite_io_manager(SCHEMAS),
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )
    if settings.share_dir() is None:
        return project
    from bdc_pipeline.share.assets import definitions as shared  # noqa: PLC0415  (0.2 s for those who share)

    return dg.Definitions.merge(project, shared(SCHEMAS))


defs = build_defs()
