"""Backfills by command: which partitions of which assets, and handing them to the daemon of an instance.

A backfill is an entry in the instance that the daemon carries out, one run for each range of neighbouring partitions; the UI
shows it, stops it, and does again what failed.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import (
    AssetGraphSubset,  # none of these has a public name
)
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.utils import make_new_backfill_id

from bdc_pipeline.running import contiguous
from bdc_pipeline.settings import SettingsError

ALIVE = dt.timedelta(minutes=5)
"""A daemon that has not given a sign for so long is not running."""


@dataclass(frozen=True, slots=True)
class Group:
    """Assets of the same partitions that are backfilled together.

    Args:
        name: how a person names it.
        assets: their definitions.
        partitions_def: their partitions.
    """

    name: str
    assets: Sequence[dg.AssetsDefinition]
    partitions_def: dg.PartitionsDefinition[str]

    @property
    def keys(self) -> list[dg.AssetKey]:
        """The assets' keys."""
        return sorted(key for definition in self.assets for key in definition.keys)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which partitions were asked for: those that are named, or those from `first` to `last`; of these, with `missing`, only
    those that failed or were never materialized."""

    partitions: Sequence[str] = ()
    first: str | None = None
    last: str | None = None
    missing: bool = False


def chosen(group: Group, asked: Asked, known: Sequence[str], missing: frozenset[str]) -> list[str]:
    """The partitions of a group that are backfilled, in their order.

    Args:
        group: for messages.
        asked: what was asked for.
        known: all partitions.
        missing: those that failed or were never materialized.

    Raises:
        SettingsError: there is no such partition.
    """
    if not known:
        raise SettingsError(f"{group.name} has no partitions yet. Run 'bdc-pipeline sync', or switch its sensor on.")
    place = {key: number for number, key in enumerate(known)}
    for key in (*asked.partitions, asked.first, asked.last):
        if key is not None and key not in place:
            raise SettingsError(
                f"'{key}' is no partition of {group.name}. There are {len(known)}, {known[0]} to {known[-1]}."
            )
    low, high = (
        place[asked.first] if asked.first is not None else 0,
        place[asked.last] if asked.last is not None else len(known) - 1,
    )
    if low > high:
        raise SettingsError(f"--from {asked.first} lies behind --to {asked.last}; no partition is in between.")
    found = [key for key in known if key in set(asked.partitions)] if asked.partitions else known[low : high + 1]
    return [key for key in found if not asked.missing or key in missing]


def missing_of(group: Group, known: Sequence[str], instance: dg.DagsterInstance) -> frozenset[str]:
    """The partitions that are not materialized in all assets of a group, or whose last run did not get to that."""
    storage = instance.event_log_storage
    found: set[str] = set()
    for asset in group.keys:
        found |= set(known) - set(instance.get_materialized_partitions(asset))
        found |= set(storage.get_latest_asset_partition_materialization_attempts_without_materializations(asset))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill that was handed over: its id, its partitions by group, and as how many runs."""

    backfill_id: str
    partitions: Mapping[str, Sequence[str]]
    runs: int


def hand_over(instance: dg.DagsterInstance, groups: Sequence[Group], asked: Asked) -> Backfill | None:
    """Enters a backfill into an instance; None where there is nothing to do.

    Raises:
        SettingsError: there is no such partition, in none of the groups.
    """
    partitions: dict[str, list[str]] = {}
    problems: list[SettingsError] = []
    runs = 0
    subsets: dict[dg.AssetKey, dg.PartitionsSubset[str]] = {}
    for group in groups:
        known = group.partitions_def.get_partition_keys(dynamic_partitions_store=instance)
        try:
            missing = missing_of(group, known, instance) if asked.missing else frozenset[str]()
            keys = chosen(group, asked, known, missing)
        except SettingsError as error:
            # ids of customers and of inventory are different ones
            problems.append(error)
            continue
        if keys:
            partitions[group.name] = keys
            runs += len(contiguous(known, keys))
            subsets |= dict.fromkeys(group.keys, group.partitions_def.subset_with_partition_keys(keys))
    if len(problems) == len(groups):
        raise problems[0]
    if not partitions:
        return None
    now = dt.datetime.now(dt.UTC)
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=make_new_backfill_id(),
        backfill_timestamp=now.timestamp(),
        tags={"bdc_pipeline/by": "command"},
        dynamic_partitions_store=instance,
        asset_graph_subset=AssetGraphSubset(subsets),  # type: ignore[call-arg]  # its decorator hides its arguments
        title=None,
        description=", ".join(f"{name}: {len(keys)} partitions" for name, keys in partitions.items()),
        run_config=None,
    )
    instance.add_backfill(backfill)
    return Backfill(backfill.backfill_id, partitions, runs)


def is_carried_out(instance: dg.DagsterInstance, now: dt.datetime) -> bool:
    """Whether a daemon that carries out backfills has given a sign lately."""
    beat = instance.get_daemon_heartbeats().get("BACKFILL")
    return beat is not None and now.timestamp() - beat.timestamp < ALIVE.total_seconds()
