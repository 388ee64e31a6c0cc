"""`bdc-pipeline sync sonar`: which stages a sync has, from the options that were given."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from bdc_pipeline.fetching.answers import FetchError, Refused
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.running import Stage, run_stages
from bdc_pipeline.sources.assembly import files_of, read_states
from bdc_pipeline.sources.sonar import assets
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import SonarClient
from bdc_pipeline.sources.sonar.plan import concerns_all, discover_blocks
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY
from bdc_pipeline.warehouse.ledger import Failure, SyncReport
from bdc_pipeline.warehouse.partitioning import IdBlocks
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline.warehouse.table import Table


class NoBlocks(Exception):  # noqa: N818  (an answer to what was asked)
    """The range of ids that was asked for holds no block: says which there are."""


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

    @property
    def is_restricted(self) -> bool:
        """Whether less than everything was asked for."""
        everything = self.customers and self.inventory and not self.partitions and self.between is None
        return not everything or self.config.limit is not None

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that the report speaks of."""
        return (*t.LOOKUPS, *t.OF_CUSTOMERS * self.customers, *t.OF_INVENTORY * self.inventory)

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
    read_states(asked.database, t.SCHEMA, ())
    stages, before, problems = _stages(asked)

    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        files = files_of(t.SCHEMA, asked.database, asked.drain, run_id, lambda progress: on_progress(stage, progress))
        return {"sonar": asked.resource, KEY: files}

    return run_stages(
        stages,
        t.SCHEMA,
        asked.database,
        resources,
        before=before,
        started=started,
        problems=problems,
        tables=asked.tables,
        restricted=asked.is_restricted,
    )


@dataclass(frozen=True, slots=True)
class _Blocked:
    """A group of tables that is partitioned by blocks of ids."""

    name: str
    assets: dg.AssetsDefinition
    partitions_def: dg.DynamicPartitionsDefinition
    entities: tuple[e.Entity, ...]
    plan: str


_CUSTOMERS = _Blocked("customers", assets.sonar_customers, assets.CUSTOMER_BLOCKS, e.OF_CUSTOMERS, "plan_customers")
_INVENTORY = _Blocked("inventory", assets.sonar_inventory, assets.INVENTORY_BLOCKS, e.OF_INVENTORY, "plan_inventory")


def _stages(asked: SonarSync) -> tuple[list[Stage], Effort, list[Failure]]:
    """The stages, what finding them cost, and those that cannot be: a list that is refused costs no other.

    Raises:
        NoBlocks: the range that was asked for holds none.
    """
    config = {"config": asked.config.model_dump()}
    stages = [Stage("lookups", assets.sonar_lookups)]
    before, problems, stop = Effort(), list[Failure](), Stop()
    client = asked.resource.client(stop)
    found: list[str] = []
    with closing(client.session):
        for group in (*(_CUSTOMERS,) * asked.customers, *(_INVENTORY,) * asked.inventory):
            try:
                blocks = _blocks(asked, client, group, stop, problems)
            except FetchError as error:
                if concerns_all(error):
                    raise
                problems.append(Failure(group.name, str(error)))
                continue
            found += blocks
            if keys := _chosen(asked, blocks):
                stages.append(Stage(group.name, group.assets, group.partitions_def, keys, {group.plan: config}))
        before += client.effort()
    if asked.between is not None and not problems and len(stages) == 1:
        raise NoBlocks(
            f"No block holds such ids. There are {len(found)}, {found[0]} to {found[-1]}."
            if found
            else "Sonar has no records."
        )
    return stages, before, problems


def _blocks(asked: SonarSync, client: SonarClient, group: _Blocked, stop: Stop, problems: list[Failure]) -> list[str]:
    """The blocks of a group: those that were named, or those that Sonar or the file has records for."""
    if asked.partitions:
        return list(dict.fromkeys(asked.partitions))
    limit = asked.config.limit

    def note(entity: e.Entity, error: FetchError) -> None:
        # what is refused is refused again when it is fetched, and told then
        if not isinstance(error, Refused):
            problems.append(Failure(f"{entity.root} blocks", str(error)))

    keys = discover_blocks(client, group.entities, asked.resource.threads, stop, limit=limit, on_failure=note)
    if limit is not None:
        return keys
    # blocks that the source has emptied are still to be compared with it
    known = read_states(asked.database, t.SCHEMA, (entity.table for entity in group.entities))
    return sorted({*keys, *(key for of in known.values() for key in of)}, key=lambda key: int(key.partition("-")[0]))


def _chosen(asked: SonarSync, keys: list[str]) -> list[str]:
    """The blocks that hold ids of the range asked for."""
    if asked.between is None:
        return keys
    first, last = asked.between
    bounds = {key: IdBlocks("id", t.BLOCK).bounds(key) for key in keys}
    return [key for key, (low, high) in bounds.items() if low <= last and first <= high]
