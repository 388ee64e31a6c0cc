"""`bdc-pipeline sync properties`: which municipalities a sync is about, and running it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdc_pipeline.running import Stage, run_stages
from bdc_pipeline.sources.assembly import files_of, read_states
from bdc_pipeline.sources.properties import assets
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.places import places
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY
from bdc_pipeline.warehouse.ledger import SyncReport
from bdc_pipeline.warehouse.stream import Effort

STAGE = "homes"


@dataclass(frozen=True, slots=True)
class PropertiesSync:
    """What `sync properties` was asked to do; `partitions` are codes, () for all 36."""

    database: Path
    resource: assets.BoligsidenResource
    config: assets.PropertiesSyncConfig
    drain: DrainOptions
    partitions: Sequence[str] = ()

    @property
    def is_restricted(self) -> bool:
        """Whether less than everything was asked for."""
        return bool(self.partitions) or self.config.limit is not None


def sync(asked: PropertiesSync, on_progress: Callable[[str, Progress], None], started: float) -> SyncReport:
    """Materializes the municipalities and reports.

    Raises:
        SettingsError, StoreError: a variable or the file cannot be used.
        Interrupted: by Ctrl-C.
    """
    # said before anything is fetched: a file that cannot be used, a type that there is not
    read_states(asked.database, t.SCHEMA, ())
    asked.config.options()
    keys = sorted(dict.fromkeys(asked.partitions)) or list(places())
    config = {"plan_properties": {"config": asked.config.model_dump()}}

    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        files = files_of(t.SCHEMA, asked.database, asked.drain, run_id, lambda progress: on_progress(stage, progress))
        return {"boligsiden": asked.resource, KEY: files}

    return run_stages(
        [Stage(STAGE, assets.properties, assets.MUNICIPALITIES, keys, config)],
        t.SCHEMA,
        asked.database,
        resources,
        before=Effort(),
        started=started,
        tables=t.TABLES,
        restricted=asked.is_restricted,
    )


def suggested_workers(cores: int, requests_per_second: float) -> int:
    """How many requests at the same time make sense on a machine.

    An answer takes 0.5 to 1 s, so as many requests are under way as are sent in a second: more workers than that wait for their
    turn. A core reads some 150 pages a second, far more than politeness allows, so cores hardly ever decide.
    """
    return max(1, min(round(requests_per_second * 1.2), 150 * cores))


def told_workers(workers: int, requests_per_second: float) -> str:
    """A line on how many workers there are and how many are suggested."""
    cores = os.cpu_count() or 1
    suggested = suggested_workers(cores, requests_per_second)
    return (
        f"{workers} workers; {suggested} are suggested for {cores} cores at {requests_per_second:g} requests a second "
        "and answers that take up to 1.2 s"
    )
