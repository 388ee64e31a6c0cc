"""`bdc-pipeline sync dmr`: downloads what is too old, then loads what there is.

A download that fails does not stop the load: the last good one stands, and the report says which is missing.
"""

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdc_pipeline.fetching.pool import Stop, Stopped
from bdc_pipeline.running import Stage, run_stages
from bdc_pipeline.sources.assembly import files_of, read_states
from bdc_pipeline.sources.dmr import assets
from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.registries import REGISTRIES, feeds_of
from bdc_pipeline.sources.dmr.warm import Warmed, WarmOptions
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY
from bdc_pipeline.warehouse.ledger import Failure, SyncReport
from bdc_pipeline.warehouse.stream import Effort

LOG = logging.getLogger("bdc_pipeline")


@dataclass(frozen=True, slots=True)
class DmrSync:
    """What `sync dmr` was asked to do; `download` false loads what there is."""

    database: Path
    resource: assets.DmrResource
    warm: WarmOptions
    drain: DrainOptions
    mode: str = "auto"
    chunk: int | None = None
    registries: Sequence[str] = REGISTRIES
    download: bool = True
    force: bool = False
    days: float = 7.0
    limit: int | None = None


def warm(resource: assets.DmrResource, options: WarmOptions, registries: Sequence[str]) -> tuple[list[Warmed], Effort]:
    """Downloads what is too old, and says of each document what became of it.

    Raises:
        SettingsError: an address or the cache cannot be used.
    """
    stop = Stop()
    with resource.warmer(options, stop) as warmer:
        warmed = []
        try:
            for one in warmer.warm(feeds_of(list(registries))):
                LOG.info("%s: %s", one.feed.name, one.sentence(dt.datetime.now(dt.UTC)))
                warmed.append(one)
        except KeyboardInterrupt:
            stop.set("interrupted")
            raise Stopped("interrupted while downloading; what had come whole is kept") from None
        return warmed, warmer.effort()


def sync(asked: DmrSync, on_progress: Callable[[str, Progress], None], started: float) -> SyncReport:
    """Downloads, loads, reports.

    Raises:
        SettingsError, StoreError: a variable, the cache or the file cannot be used.
        Stopped, Interrupted: by Ctrl-C.
    """
    # said before anything is fetched: a file that cannot be used
    read_states(asked.database, t.SCHEMA, ())
    warmed, effort = warm(asked.resource, asked.warm, asked.registries) if asked.download else ([], Effort())
    now = dt.datetime.now(dt.UTC)
    problems = [Failure(one.feed.name, one.sentence(now)) for one in warmed if one.action == "failed"]

    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        files = files_of(t.SCHEMA, asked.database, asked.drain, run_id, lambda progress: on_progress(stage, progress))
        return {"dmr": asked.resource, KEY: files}

    config = assets.DmrLoadConfig(
        mode=asked.mode, chunk=asked.chunk, force=asked.force, days=asked.days, limit=asked.limit
    )
    stage = Stage(
        "registries",
        assets.dmr_tables,
        assets.PARTITIONS,
        list(asked.registries),
        {"plan_registries": {"config": config.model_dump()}},
    )
    return run_stages(
        [stage],
        t.SCHEMA,
        asked.database,
        resources,
        before=effort,
        started=started,
        problems=problems,
        tables=t.TABLES,
        restricted=set(asked.registries) != set(REGISTRIES) or asked.limit is not None,
    )
