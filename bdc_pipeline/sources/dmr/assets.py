"""The DMR registries in Dagster: the raw downloads, the tables that are loaded from them, the views upon those.

Partitions are the registries. Downloads are an asset of their own, so that asking a registry and reading what it sent can
be run, seen and repeated apart; the load observes the files that it reads.
"""

import datetime as dt
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.assembly import (
    asset_outs,
    failing_clearly,
    named,
    outputs,
    outs,
    read_states,
    shared_pacer,
    view_asset,
)
from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.cache import Cache, Cached
from bdc_pipeline.sources.dmr.loading import LoadPlan, RegistryStream, too_old
from bdc_pipeline.sources.dmr.modes import chosen
from bdc_pipeline.sources.dmr.registries import REGISTRIES, feeds_of
from bdc_pipeline.sources.dmr.warm import Warmed, Warmer, WarmOptions
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager

PARTITIONS = dg.StaticPartitionsDefinition(list(REGISTRIES))

DOWNLOADS = dg.AssetKey(["dmr", "downloads"])

POOL = "dmr"
"""One load at a time, of whatever run: they share the file. Downloads have a pool of their own."""


class DmrResource(dg.ConfigurableResource[Any]):
    """How the registries are asked; their addresses and the cache's directory come from the environment."""

    workers: int = Field(default=4, ge=1, le=16, description="Requests at the same time")
    read_timeout: float = Field(
        default=60.0, gt=0, description="Seconds without a byte after which a request is given up"
    )
    attempts: int = Field(default=3, ge=1, description="Times a request is sent before it counts as failed")

    def cache(self) -> Cache:
        """The raw downloads."""
        return Cache(settings.cache_dir() / "dmr")

    def warmer(self, options: WarmOptions, stop: Stop) -> Warmer:
        """What asks the registries; the caller closes it.

        Raises:
            SettingsError: an address cannot be used.
        """
        urls = settings.dmr_urls()
        pacers = {name: shared_pacer(url, 2, None) for name, url in urls.items()}
        return Warmer(
            self.cache(), urls, options, stop, pacers=pacers, read_timeout=self.read_timeout, attempts=self.attempts
        )


class DmrWarmConfig(dg.Config):
    """Which downloads are asked for anew."""

    max_age_minutes: float | None = Field(
        default=None,
        ge=0,
        le=52_560_000,
        description="What is older is asked for; each document's own age where not set",
    )
    force: bool = Field(default=False, description="Ask for all, whatever their age; polling floors hold")
    allow_smaller: bool = Field(default=False, description="Accept documents that have suddenly become small")

    def options(self, workers: int) -> WarmOptions:
        """As the warmer takes it."""
        minutes = self.max_age_minutes
        age = None if minutes is None else dt.timedelta(minutes=minutes)
        return WarmOptions(age, self.force, self.allow_smaller, workers)


class DmrLoadConfig(dg.Config):
    """How downloads are loaded."""

    mode: str = Field(default="auto", description="auto, parallel, sequential or streaming")
    chunk: int | None = Field(default=None, ge=1, description="Records that are handed on at a time")
    force: bool = Field(default=False, description="Read documents that have not changed, too")
    days: float = Field(
        default=7.0, ge=0, le=36_500, description="Read again what was last read longer ago, though unchanged"
    )
    limit: int | None = Field(default=None, ge=1, description="At most so many records of each document, for a try")


with warnings.catch_warnings():
    # backfill policies are called beta by this decorator alone
    warnings.simplefilter("ignore", dg.BetaWarning)

    @dg.asset(
        key=DOWNLOADS,
        pool="dmr_downloads",
        partitions_def=PARTITIONS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="dmr_downloads",
        kinds={"json", "http"},
        tags={"source": "dmr"},
        description="The registries' documents as they were served, with where they came from and how old they are.",
    )
    def dmr_downloads(context: dg.AssetExecutionContext, dmr: DmrResource, config: DmrWarmConfig) -> None:
        """Asks for what is too old. A download that fails leaves the last good one, and fails its partition alone."""
        registries = list(context.partition_keys)
        with failing_clearly(), dmr.warmer(config.options(dmr.workers), Stop()) as warmer:
            warmed = list(warmer.warm(feeds_of(registries)))
        now = dt.datetime.now(dt.UTC)
        for one in warmed:
            context.log.info(f"{one.feed.name}: {one.sentence(now)}")  # noqa: G004
        failed = {one.feed.registry for one in warmed if one.action == "failed"}
        metadata = {registry: _of_warmed(warmed, registry, now) for registry in registries}
        if not failed:
            for registry in registries:
                context.add_asset_metadata(metadata[registry], partition_key=registry)
            return
        for registry in registries:
            if registry not in failed:
                context.log_event(dg.AssetMaterialization(DOWNLOADS, partition=registry, metadata=metadata[registry]))
        problems = "; ".join(f"{one.feed.name} {one.sentence(now)}" for one in warmed if one.action == "failed")
        raise dg.Failure(problems, allow_retries=False)


def _of_warmed(warmed: list[Warmed], registry: str, now: dt.datetime) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in warmed:
        if one.feed.registry == registry:
            found[f"{one.feed.name}_was"] = one.action
            found |= _of_file(one.feed.name, one.cached, now)
    return found


def _of_file(name: str, cached: Cached | None, now: dt.datetime) -> dict[str, Any]:
    """Size, hash and age of a raw file."""
    if cached is None or cached.record is None:
        return {}
    age = cached.age(now)
    return {
        f"{name}_bytes": cached.record.bytes,
        f"{name}_records": cached.record.records,
        f"{name}_sha256": cached.record.sha256,
        f"{name}_age_minutes": round(age.total_seconds() / 60, 1) if age is not None else "unknown",
        f"{name}_file": dg.MetadataValue.path(cached.path),
    }


@dg.op(
    ins={"downloads": dg.In(dg.Nothing)},
    description="Looks at the downloads and chooses how to load them",
)
def plan_registries(
    context: dg.OpExecutionContext,
    dmr: DmrResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: DmrLoadConfig,
) -> LoadPlan:
    """Observes the files and asks the ledger."""
    registries = sorted(context.partition_keys, key=REGISTRIES.index)
    with failing_clearly():
        states = read_states(sqlite_io_manager.path("dmr"), t.SCHEMA, (t.REPEATERS, t.TALKGROUPS))
    try:
        mode = chosen(config.mode, config.chunk)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    now, cache = dt.datetime.now(dt.UTC), dmr.cache()
    for registry in registries:
        observed: dict[str, Any] = {}
        for feed in feeds_of([registry]):
            observed |= _of_file(feed.name, cache.look_up(feed), now)
        context.log_event(dg.AssetObservation(DOWNLOADS, partition=registry, metadata=observed))
    context.add_output_metadata({"mode": mode.kind, "chunk": mode.chunk})
    return LoadPlan(
        tuple(registries),
        mode,
        force=config.force,
        old=too_old(states, config.days, now),
        limit=config.limit,
    )


@dg.op(out=outs(t.TABLES), pool=POOL, description="Reads the downloads, record by record")
def fetch_registries(dmr: DmrResource, plan: LoadPlan) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    yield from outputs(RegistryStream(dmr.cache(), plan), t.TABLES)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.TABLES, "json"),
    ins={"downloads": dg.AssetIn(key=DOWNLOADS, dagster_type=dg.Nothing)},
    name="dmr_tables",
    group_name="dmr_registries",
    partitions_def=PARTITIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def dmr_tables(downloads: Any) -> Mapping[str, Any]:
    """Repeaters, talkgroups, places and sources, by registry."""
    return named(fetch_registries(plan_registries(downloads)), t.TABLES)


VIEWS = [
    view_asset(t.SCHEMA, "repeaters_by_place_and_band", (t.REPEATERS, t.LOCATIONS), "dmr_views"),
    view_asset(t.SCHEMA, "repeaters_by_band_and_mode", (t.REPEATERS,), "dmr_views"),
    view_asset(t.SCHEMA, "same_sites", (t.REPEATERS,), "dmr_views"),
]

ASSETS = [dmr_downloads, dmr_tables, *VIEWS]
