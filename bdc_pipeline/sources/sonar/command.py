"""`bdc-pipeline sync sonar`: which stages a sync has, from the options that were given."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdc_pipeline.fetching.answers import Refused
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.running import Stage, run_stages
from bdc_pipeline.sources.sonar import assets
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.plan import discover_blocks
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY, SQLiteIOManager
from bdc_pipeline.warehouse.ledger import Failure, SyncReport
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline.warehouse.table import IdBlocks


@dataclass(frozen=True, slots=True)
class SonarSync:
    """What `sync sonar` was asked to do.

    Raises:
        ValueError: a partition key names no block.
    """

    database: Path
    resource: assets.SonarResource
    config: assets.SonarSyncConfig
    drain: DrainOptions
    partitions: Sequence[str] = ()
    between: tuple[int, int] | None = None
    customers: bool = True
    inventory: bool = True

    def __post_init__(self) -> None:
        for key in self.partitions:
            IdBlocks("id", t.BLOCK).bounds(key)


def sync(asked: SonarSync, on_progress: Callable[[str, Progress], None], started: float) -> SyncReport:
    """Finds the blocks, registers them, materializes the assets, reports.

    Raises:
        FetchError: Sonar did not tell which blocks there are.
        SettingsError, StoreError: a variable or the file cannot be used.
        Interrupted: by Ctrl-C.
    """
    # said before anything is fetched: a file that cannot be used, a variable that is missing
    assets.read_states(asked.database, ())
    stages, before, problems = _stages(asked)

    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        files = SQLiteIOManager(
            (t.SCHEMA,),
            asked.drain,
            databases={t.SCHEMA.source: str(asked.database)},
            run_id=run_id,
            on_progress=lambda progress: on_progress(stage, progress),
        )
        return {"sonar": asked.resource, KEY: files}

    report = run_stages(stages, t.SCHEMA, asked.database, resources, before=before, started=started)
    report.failures = [*problems, *report.failures]
    report.complete = report.complete and not problems
    return report


def _stages(asked: SonarSync) -> tuple[list[Stage], Effort, list[Failure]]:
    """The stages, what finding them cost, and those that cannot be: a list that is refused costs no other."""
    config = {"config": asked.config.model_dump()}
    stages = [Stage("lookups", assets.sonar_lookups)]
    before = Effort()
    blocked = []
    problems = []
    if asked.customers:
        blocked.append(("customers", assets.sonar_customers, assets.CUSTOMER_BLOCKS, e.ACCOUNTS, "plan_customers"))
    if asked.inventory:
        blocked.append(
            ("inventory", assets.sonar_inventory, assets.INVENTORY_BLOCKS, e.INVENTORY_ITEMS, "plan_inventory")
        )
    stop = Stop()
    client = asked.resource.client(stop)
    with closing(client.session):
        for name, definition, partitions, entity, plan in blocked:
            keys = list(dict.fromkeys(asked.partitions))
            if not keys:
                try:
                    keys = discover_blocks(client, entity, asked.resource.threads, stop, limit=asked.config.limit)
                except Refused as refused:
                    # a wrong address or a wrong token concerns all lists, a missing permission this one
                    if refused.status not in {400, 403}:
                        raise
                    problems.append(Failure(name, str(refused)))
                    continue
            # known blocks that the source has emptied are still to be compared with it
            keys = _chosen(asked, _with_known(asked, entity, keys))
            if keys:
                stages.append(Stage(name, definition, partitions, keys, {plan: config}))
        before += client.effort()
    return stages, before, problems


def _with_known(asked: SonarSync, entity: e.Entity, keys: list[str]) -> list[str]:
    if asked.partitions or asked.config.limit is not None:
        return keys
    known = assets.read_states(asked.database, (entity.table,))[entity.table.name]
    return sorted({*keys, *known}, key=lambda key: int(key.partition("-")[0]))


def _chosen(asked: SonarSync, keys: list[str]) -> list[str]:
    """The blocks that hold ids of the range asked for."""
    if asked.between is None:
        return keys
    first, last = asked.between
    bounds = {key: IdBlocks("id", t.BLOCK).bounds(key) for key in keys}
    return [key for key, (low, high) in bounds.items() if low <= last and first <= high]


def drain_options(options: Mapping[str, Any]) -> DrainOptions:
    """The options of the command line that concern the file."""
    names = {field.name for field in dataclasses.fields(DrainOptions)}
    return DrainOptions(**{name: value for name, value in options.items() if name in names and value is not None})
