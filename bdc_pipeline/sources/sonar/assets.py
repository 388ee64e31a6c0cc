"""Sonar in Dagster: partitions, the plan and fetch ops, the assets.

Three groups of tables share a fetch each: the small lists (whole, every time), the customers with what belongs to
them, and the inventory. The latter two are partitioned by blocks of a thousand ids; a run over many blocks is one run.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import dagster as dg
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.assembly import asset_outs, failing_clearly, named, outputs, outs, read_states, shared_pacer
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import SonarClient
from bdc_pipeline.sources.sonar.entities import Entity
from bdc_pipeline.sources.sonar.plan import Plan, SyncOptions, discover_blocks, make_plan, plan_lookups
from bdc_pipeline.sources.sonar.stream import SonarStream
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline.warehouse.table import Table

CUSTOMER_BLOCKS = dg.DynamicPartitionsDefinition(name="sonar_customer_blocks")
INVENTORY_BLOCKS = dg.DynamicPartitionsDefinition(name="sonar_inventory_blocks")

POOL = "sonar"
"""One step at a time, of whatever run: they share the API's limit and the file, and what one plans the other has not begun."""


class SonarResource(dg.ConfigurableResource[Any]):
    """How Sonar is asked. Address and token come from SONAR_URL and SONAR_TOKEN when a run needs them: a resource's
    configuration is stored with each run, so the token is no part of it."""

    workers: int | None = Field(default=None, description="Requests at the same time; SONAR_WORKERS where not set")
    page_size: int = Field(default=100, ge=1, le=10_000, description="Records a page to ask for")
    requests_per_second: float | None = Field(default=None, gt=0, description="Upper limit; SONAR_REQUESTS_PER_SECOND")
    read_timeout: float = Field(
        default=60.0, gt=0, description="Seconds without a byte after which a request is given up"
    )
    attempts: int = Field(default=4, ge=1, description="Times a request is sent before it counts as failed")

    @property
    def threads(self) -> int:
        """Requests at the same time.

        Raises:
            SettingsError: a variable cannot be used.
        """
        return self.workers or settings.sonar().workers

    def client(self, stop: Stop) -> SonarClient:
        """A client of the instance that the environment names; the caller closes its session.

        Raises:
            SettingsError: a variable is missing or cannot be used.
        """
        found = settings.sonar()
        rate = self.requests_per_second or found.requests_per_second
        return SonarClient(
            ApiSession(
                found.url,
                secret_headers={"Authorization": f"Bearer {found.token}"},
                workers=self.threads,
                pacer=shared_pacer(found.url, self.threads, rate),
                read_timeout=self.read_timeout,
                attempts=self.attempts,
                stop=stop,
            )
        )


class SonarSyncConfig(dg.Config):
    """What a sync is asked to do."""

    force: bool = Field(default=False, description="Fetch every block in full")
    days: float = Field(default=7.0, ge=0, description="A block whose last full listing is older is fetched in full")
    limit: int | None = Field(
        default=None, ge=1, description="At most so many customers or items, from the lowest id on"
    )
    overlap_minutes: float = Field(default=5.0, ge=0, description="How far before the last sync changes are looked for")

    def options(self) -> SyncOptions:
        """As the plan takes it."""
        return SyncOptions(self.force, self.days, self.limit, self.overlap_minutes)


def _plan(
    context: dg.OpExecutionContext,
    sonar: SonarResource,
    files: SQLiteIOManager,
    config: SonarSyncConfig,
    entities: Sequence[Entity],
    tables: Sequence[Table],
) -> Plan:
    stop = Stop()
    with failing_clearly():
        states = read_states(files.path("sonar"), t.SCHEMA, tables)
        client = sonar.client(stop)
        with closing(client.session):
            plan = make_plan(
                client,
                entities,
                sorted(context.partition_keys, key=lambda key: int(key.partition("-")[0])),
                states,
                config.options(),
                workers=sonar.threads,
                stop=stop,
                now=dt.datetime.now(dt.UTC),
            )
    _tell(context, plan)
    return plan


def _tell(context: dg.OpExecutionContext, plan: Plan) -> None:
    told = plan.describe()
    context.add_output_metadata(dict(told))
    context.log.info(
        f"{told['listings']} listings, {told['blocks_in_full']} blocks in full, {told['records_expected']} records expected"  # noqa: G004
    )


def _fetch(sonar: SonarResource, plan: Plan, tables: Sequence[Table]) -> Iterator[dg.Output[Any]]:
    """Fetches what was planned, into these tables."""
    stop = Stop()
    with failing_clearly():
        client = sonar.client(stop)
    with closing(client.session):
        stream = SonarStream(client, plan, tables, page_size=sonar.page_size, workers=sonar.threads, stop=stop)
        yield from outputs(stream, tables)


@dg.op(pool=POOL, description="Asks Sonar for its small lists")
def plan_lookups_op(
    context: dg.OpExecutionContext, sonar: SonarResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager]
) -> Plan:
    """Small lists have no plan to speak of; the file is checked before anything is fetched."""
    with failing_clearly():
        read_states(sqlite_io_manager.path("sonar"), t.SCHEMA, ())
        client = sonar.client(Stop())
        with closing(client.session):
            plan = plan_lookups(client, e.LOOKUPS)
    _tell(context, plan)
    return plan


@dg.op(
    pool=POOL,
    description="Decides which blocks of customers to fetch in full and which by their changes",
)
def plan_customers(
    context: dg.OpExecutionContext,
    sonar: SonarResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: SonarSyncConfig,
) -> Plan:
    """Asks the ledger and Sonar's counts."""
    return _plan(context, sonar, sqlite_io_manager, config, e.OF_CUSTOMERS, t.OF_CUSTOMERS)


@dg.op(
    pool=POOL,
    description="Decides which blocks of inventory to fetch in full and which by their changes",
)
def plan_inventory(
    context: dg.OpExecutionContext,
    sonar: SonarResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: SonarSyncConfig,
) -> Plan:
    """Asks the ledger and Sonar's counts."""
    return _plan(context, sonar, sqlite_io_manager, config, e.OF_INVENTORY, t.OF_INVENTORY)


@dg.op(out=outs(t.LOOKUPS), pool=POOL, description="Fetches the small lists")
def fetch_lookups(sonar: SonarResource, plan: Plan) -> Iterator[dg.Output[Any]]:
    """One stream fills all their tables."""
    yield from _fetch(sonar, plan, t.LOOKUPS)


@dg.op(
    out=outs(t.OF_CUSTOMERS),
    pool=POOL,
    description="Fetches customers, addresses, services and memberships, many pages at a time",
)
def fetch_customers(sonar: SonarResource, plan: Plan) -> Iterator[dg.Output[Any]]:
    """One stream fills all their tables."""
    yield from _fetch(sonar, plan, t.OF_CUSTOMERS)


@dg.op(
    out=outs(t.OF_INVENTORY), pool=POOL, description="Fetches inventory items and their fields, many pages at a time"
)
def fetch_inventory(sonar: SonarResource, plan: Plan) -> Iterator[dg.Output[Any]]:
    """One stream fills all their tables."""
    yield from _fetch(sonar, plan, t.OF_INVENTORY)


@dg.graph_multi_asset(outs=asset_outs(t.SCHEMA, t.LOOKUPS, "graphql"), group_name="sonar_lookups", name="sonar_lookups")
def sonar_lookups() -> Mapping[str, Any]:
    """Small lists: fetched whole, every time."""
    return named(fetch_lookups(plan_lookups_op()), t.LOOKUPS)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_CUSTOMERS, "graphql"),
    group_name="sonar_customers",
    name="sonar_customers",
    partitions_def=CUSTOMER_BLOCKS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def sonar_customers() -> Mapping[str, Any]:
    """Customers and what belongs to them, by blocks of a thousand customer ids."""
    return named(fetch_customers(plan_customers()), t.OF_CUSTOMERS)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_INVENTORY, "graphql"),
    group_name="sonar_inventory",
    name="sonar_inventory",
    partitions_def=INVENTORY_BLOCKS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def sonar_inventory() -> Mapping[str, Any]:
    """Equipment and its fields, by blocks of a thousand item ids."""
    return named(fetch_inventory(plan_inventory()), t.OF_INVENTORY)


def find_blocks(sonar: SonarResource, stop: Stop, entities: Sequence[Entity]) -> tuple[list[str], Effort]:
    """The blocks that Sonar has records for, and what asking cost.

    Raises:
        FetchError: Sonar did not tell.
        SettingsError: a variable is missing.
    """
    client = sonar.client(stop)
    with closing(client.session):
        blocks = discover_blocks(client, entities, sonar.threads, stop)
        return blocks, client.effort()


ASSETS = [sonar_lookups, sonar_customers, sonar_inventory]
