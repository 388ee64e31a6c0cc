"""What Dagster loads, assembled in one place."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from bdc_pipeline.sources.dmr import assets as dmr
from bdc_pipeline.sources.dmr.tables import SCHEMA as DMR
from bdc_pipeline.sources.gitlab import assets as gitlab
from bdc_pipeline.sources.gitlab import automation as gitlab_automation
from bdc_pipeline.sources.gitlab.tables import SCHEMA as GITLAB
from bdc_pipeline.sources.properties import assets as properties
from bdc_pipeline.sources.properties import automation as properties_automation
from bdc_pipeline.sources.properties.tables import SCHEMA as PROPERTIES
from bdc_pipeline.sources.sonar import assets as sonar
from bdc_pipeline.sources.sonar import automation as sonar_automation
from bdc_pipeline.sources.sonar.tables import SCHEMA as SONAR
from bdc_pipeline.warehouse.io_manager import KEY, sqlite_io_manager

SCHEMAS = (SONAR, GITLAB, PROPERTIES, DMR)


def build_defs(*, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The project's definitions, with some resources replaced where tests and the command line want others."""
    return dg.Definitions(
        assets=[*sonar.ASSETS, *gitlab.ASSETS, *properties.ASSETS, *dmr.ASSETS],
        jobs=[*gitlab_automation.JOBS, *properties_automation.JOBS],
        schedules=[*gitlab_automation.SCHEDULES, *properties_automation.SCHEDULES],
        sensors=[*sonar_automation.SENSORS, *gitlab_automation.SENSORS],
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


defs = build_defs()
