"""The shop of the warehouse's tests as a source that is watched, in a file filled through the drain."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from bdc_pipeline.operations.checks import Limits, checks_of
from bdc_pipeline.operations.facts import Reference, Rule, Watched, Window, between
from bdc_pipeline.operations.standing import Standing, read_standings
from bdc_pipeline.operations.windows import Windows
from bdc_pipeline.warehouse.io_manager import KEY, Sibling, SQLiteIOManager
from bdc_pipeline.warehouse.stream import Event
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import ITEMS, SHOP, TAGS, Shop, Told

WEEK = dt.timedelta(days=7)

BLOCKS = ("0-9", "10-19", "20-29")


def watched(**given: Any) -> Watched:
    """The shop, with a window of a week, some rules and a name for a shelf."""
    usual: dict[str, Any] = {
        "schema": SHOP,
        "window": lambda: Window(WEEK),
        "owner": "team:shop",
        "named": lambda key: f"{key} Shelf",
        "references": (Reference("tags", "item_id", "items"),),
        "rules": (between("items", "price", 0, 100, "DKK"), Rule("items", "stock not negative", "stock >= 0")),
    }
    return Watched(**(usual | given))


def windows(*, fail: dt.timedelta = WEEK) -> Windows:
    return Windows({"shop": Window(fail)})


def standings(shop: Shop, now: dt.datetime | None = None, **given: Any) -> dict[str, Standing]:
    """How the shop's tables stand, by name."""
    found = read_standings(shop.path, watched(**given), windows(), now or dt.datetime.now(dt.UTC))
    return {standing.table: standing for standing in found}


def age(shop: Shop, days: float, *keys: str, table: str = "items") -> None:
    """Makes partitions (by default all) of a table as old as if time had passed."""
    at = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with shop.connected() as connection:
        for key in keys or [key for (key,) in connection.execute("SELECT partition FROM _partitions")]:
            connection.execute(
                "UPDATE _partitions SET synced_at = ? WHERE table_name = ? AND partition = ?", (at, table, key)
            )


def shelves(
    path: Path,
    events: Sequence[Event],
    *,
    tables: Sequence[Table] = (ITEMS, TAGS),
    with_summary: bool = True,
    limits: Limits | None = None,
    **given: Any,
) -> tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition], Mapping[str, Any]]:
    """Assets that a stream of events fills, one that is made from them, their checks, and the resources."""
    made: list[str] = []

    @dg.op(out={table.name: dg.Out(io_manager_key=KEY) for table in tables})
    def fetch_shelves() -> Iterator[dg.Output[Any]]:
        stream = Told(*events, tables=tuple(tables))
        yield dg.Output(stream, tables[0].name)
        for table in tables[1:]:
            yield dg.Output(Sibling(stream, table), table.name)

    @dg.graph_multi_asset(
        name="shelves",
        outs={table.name: dg.AssetOut(key=["shop", table.name], io_manager_key=KEY) for table in tables},
        partitions_def=dg.StaticPartitionsDefinition(list(BLOCKS)),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def shelves() -> Mapping[str, Any]:
        found = fetch_shelves()
        return (
            {table.name: getattr(found, table.name) for table in tables} if len(tables) > 1 else {tables[0].name: found}
        )

    @dg.asset(key=["shop", "summary"], deps=[["shop", "items"]])
    def summary() -> None:
        made.append("summary")

    definitions: list[dg.AssetsDefinition] = [shelves, *((summary,) * with_summary)]
    checks = checks_of(watched(**given), definitions, limits or Limits(windows(), {}))
    files = SQLiteIOManager((SHOP,), databases={"shop": str(path)})
    return definitions, checks, {KEY: files}


def results(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the checks of a run found: `items complete` -> its evaluation."""
    return {f"{one.asset_key.path[-1]} {one.check_name}": one for one in result.get_asset_check_evaluations()}


def span(first: str, last: str) -> dict[str, str]:
    """The tags of a run over a range of partitions."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def names(found: Iterable[Any]) -> list[str]:
    return [one.key for one in found]
