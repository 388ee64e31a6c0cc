"""Danish homes in Dagster: partitions, the plan and fetch ops, the assets.

One fetch fills all tables: a page of homes holds their buildings, sales and listings. Partitions are municipalities; a run over many
of them is one run.
"""

import datetime as dt
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import dagster as dg
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.assembly import asset_outs, failing_clearly, named, outputs, outs, shared_pacer
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.client import LARGEST_PAGE, BoligsidenClient
from bdc_pipeline.sources.properties.picture import Point, as_markdown, price_picture, prices_of
from bdc_pipeline.sources.properties.places import ADDRESS_TYPES, ALL, places
from bdc_pipeline.sources.properties.plan import Held, Plan, SyncOptions, make_plan
from bdc_pipeline.sources.properties.split import Limits
from bdc_pipeline.sources.properties.stream import PropertiesStream
from bdc_pipeline.sources.properties.visiting import parts_of
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager, asset_key
from bdc_pipeline.warehouse.store import Store

WORKERS = 12

MUNICIPALITIES = dg.StaticPartitionsDefinition(list(places()))
"""The 36 municipalities by their codes: 0101 is København."""

POOL = "properties"
"""One step at a time, of whatever run: they share the API's limit and the file, and what one plans the other has not begun."""


class BoligsidenResource(dg.ConfigurableResource[Any]):
    """How Boligsiden is asked. The address and the rate come from BOLIGSIDEN_URL and BOLIGSIDEN_REQUESTS_PER_SECOND when a run
    needs them."""

    workers: int = Field(default=WORKERS, ge=1, le=200, description="Requests at the same time")
    page_size: int = Field(default=LARGEST_PAGE, ge=1, le=LARGEST_PAGE, description="Homes a page")
    hit_cap: int = Field(default=10_000, ge=1, description="Homes that one list shows; a longer one is divided")
    requests_per_second: float | None = Field(
        default=None, gt=0, description="Upper limit; BOLIGSIDEN_REQUESTS_PER_SECOND where not set"
    )
    read_timeout: float = Field(
        default=10.0, gt=0, description="Seconds without a byte after which a request is given up"
    )
    attempts: int = Field(default=5, ge=1, description="Times a request is sent before it counts as failed")

    @property
    def limits(self) -> Limits:
        """What one list shows."""
        return Limits(self.hit_cap, self.page_size)

    def client(self, stop: Stop) -> BoligsidenClient:
        """A client of the API that the environment names; the caller closes its session.

        Raises:
            SettingsError: a variable cannot be used.
        """
        found = settings.properties()
        rate = self.requests_per_second or found.requests_per_second
        return BoligsidenClient(
            ApiSession(
                found.url,
                headers={"Accept": "application/json"},
                workers=self.workers,
                pacer=shared_pacer(found.url, self.workers, rate),
                connect_timeout=self.read_timeout,
                read_timeout=self.read_timeout,
                total_timeout=6 * self.read_timeout,
                attempts=self.attempts,
                stop=stop,
            )
        )


class PropertiesSyncConfig(dg.Config):
    """What a sync is asked to do."""

    force: bool = Field(default=False, description="Walk through every municipality, however young its last walk is")
    days: float = Field(default=7.0, ge=0, description="A municipality whose last walk is older is walked through")
    limit: int | None = Field(default=None, ge=1, description="At most so many homes, municipality by municipality")
    address_types: list[str] = Field(
        default=[],
        description=f"Types of homes: {', '.join(ADDRESS_TYPES)}, or {ALL}. Those that a copy holds are listed too; villa "
        "where it holds none and none is given",
    )
    in_turn: list[str] = Field(
        default=[], description="Codes of municipalities to walk through unless that was done in the last half day"
    )

    def options(self) -> SyncOptions:
        """As the plan takes it.

        Raises:
            SettingsError: there is no such type.
        """
        if unknown := [kind for kind in self.address_types if kind not in {*ADDRESS_TYPES, ALL}]:
            raise settings.SettingsError(
                f"'{unknown[0]}' is no type of homes. There are: {', '.join((*ADDRESS_TYPES, ALL))}."
            )
        return SyncOptions(self.force, self.days, self.limit, tuple(self.address_types), tuple(self.in_turn))


def held_of(connection: sqlite3.Connection) -> dict[str, Held]:
    """What a file holds of each municipality, by partition."""
    homes: dict[int, int] = {}
    types: dict[int, set[str | None]] = {}
    zips: dict[int, list[int]] = {}
    by_type = "SELECT municipality_code, address_type, count(*) FROM properties WHERE vanished_at IS NULL GROUP BY 1, 2 ORDER BY 1"
    for code, kind, count in connection.execute(by_type):
        homes[code] = homes.get(code, 0) + count
        types.setdefault(code, set()).add(kind)
    by_zip = "SELECT municipality_code, zip_code FROM properties WHERE zip_code IS NOT NULL GROUP BY 1, 2 ORDER BY 1, count(*) DESC"
    for code, zip_code in connection.execute(by_zip):
        zips.setdefault(code, []).append(zip_code)
    return {
        f"{c:04d}": Held(homes.get(c, 0), frozenset(types.get(c, ())), tuple(zips.get(c, ()))) for c in {*homes, *zips}
    }


@dg.op(
    pool=POOL,
    description="Decides which municipalities are walked through and which asked for their number of homes alone",
)
def plan_properties(
    context: dg.OpExecutionContext,
    boligsiden: BoligsidenResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: PropertiesSyncConfig,
) -> Plan:
    """Asks the ledger. Boligsiden is asked for numbers where they are needed, by the fetch."""
    with failing_clearly():
        options = config.options()
        boligsiden.client(Stop()).session.close()  # a variable that cannot be used is told before anything else
        with Store(sqlite_io_manager.path("properties"), t.SCHEMA) as store:
            kept = (t.PROPERTIES, *t.CHILDREN)
            states = {table.name: ledger.partition_states(store.connection, table) for table in kept}
            held = held_of(store.connection)
    plan = make_plan(context.partition_keys, states, held, options, dt.datetime.now(dt.UTC))
    told = plan.describe()
    context.add_output_metadata(dict(told))
    context.log.info(
        f"{told['municipalities']} municipalities: {told['walked_through']} are walked through, "  # noqa: G004
        f"{told['asked_for_their_number']} asked for their number of homes"
    )
    return plan


@dg.op(
    out=outs(t.TABLES), pool=POOL, description="Fetches homes with buildings, sales and listings, many pages at a time"
)
def fetch_properties(
    context: dg.AssetExecutionContext,
    boligsiden: BoligsidenResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    plan: Plan,
) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    stop = Stop()
    with failing_clearly():
        client = boligsiden.client(stop)
    with closing(client.session):
        stream = PropertiesStream(client, plan, limits=boligsiden.limits, workers=boligsiden.workers, stop=stop)
        found = outputs(stream, t.TABLES)
        yield next(found)
        _describe(context, stream, sqlite_io_manager)
        yield from found


def _describe(context: dg.AssetExecutionContext, stream: PropertiesStream, files: SQLiteIOManager) -> None:
    """Adds what only this source knows to the municipalities' materializations: its name, what its parts add up to, and a
    picture of what a square metre has cost there."""
    with Store(files.path("properties"), t.SCHEMA, read_only=True) as store:
        prices = prices_of(store.connection)
    for visiting in stream.visits:
        visit = visiting.visit
        told: dict[str, Any] = {"municipality": visit.name, "address_types": ", ".join(visit.types)}
        if parts := parts_of(visiting.walks):
            told["parts"] = dg.MetadataValue.json(parts)
        if points := prices.get(visit.name):
            told["price_per_m2"] = dg.MetadataValue.md(_picture(visit.name, points))
        key = asset_key(t.REGISTRATIONS, t.SCHEMA)
        context.add_asset_metadata(told, asset_key=key, partition_key=visit.code)


def _picture(name: str, points: list[Point]) -> str:
    title = f"Price per m2 in {name}, normal sales"
    return as_markdown(price_picture({name: points}, title), title)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.TABLES, "http"),
    group_name="properties_homes",
    name="properties",
    partitions_def=MUNICIPALITIES,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def properties() -> Mapping[str, Any]:
    """Homes and what belongs to them, by municipality."""
    return named(fetch_properties(plan_properties()), t.TABLES)


ASSETS = [properties]
