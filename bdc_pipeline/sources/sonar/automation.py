"""What keeps Sonar's copy current by itself. Off until switched on, since it asks a real service.

| when | what |
|---|---|
| every hour | blocks of ids that are new; then what has changed in customers and inventory |
| every night | customers and inventory listed in full: what changed without a new date of change; the small lists |
"""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.operations.backfill import Group
from bdc_pipeline.operations.refreshing import Launch, Refresh, Turn, schedule, sensor_status, whole_range
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar.assets import (
    CUSTOMER_BLOCKS,
    INVENTORY_BLOCKS,
    SonarResource,
    find_blocks,
    sonar_customers,
    sonar_inventory,
    sonar_lookups,
)

VERIFIED_WITHIN = 0.5
"""Days: the night's run lists in full what has not been since noon, so that one that is run again goes on where it failed."""

LOOKUPS = Refresh("refresh_sonar_lookups", [sonar_lookups], "The small lists, whole.")
CUSTOMERS = Refresh(
    "refresh_sonar_customers", [sonar_customers], "All blocks of customers: what has changed, and what is due in full."
)
INVENTORY = Refresh(
    "refresh_sonar_inventory", [sonar_inventory], "All blocks of inventory: what has changed, and what is due in full."
)


def _over(
    blocks: dg.DynamicPartitionsDefinition, asset: str, plan: str, days: float | None = None
) -> Callable[[Turn], Sequence[Launch] | str]:
    """One run over all registered blocks; with `days`, what was listed in full longer ago is again."""
    config: dict[str, Any] = {} if days is None else {"ops": {asset: {"ops": {plan: {"config": {"days": days}}}}}}

    def launches(turn: Turn) -> Sequence[Launch] | str:
        found = whole_range(blocks, turn.instance)
        if found is None:
            return "No block of ids is registered. Switch the sensor 'sonar_new_blocks' on, or run 'bdc-pipeline sync sonar'."
        return [Launch(found, config)]

    return launches


def new_keys(found: list[str], registered: set[str]) -> list[str]:
    """The blocks that are not registered yet, in their order."""
    return [key for key in found if key not in registered]


@dg.sensor(
    name="sonar_new_blocks",
    minimum_interval_seconds=3600,
    default_status=sensor_status(),
    description="Registers the id blocks that new customers and new inventory items have opened.",
)
def sonar_new_blocks(context: dg.SensorEvaluationContext, sonar: SonarResource) -> dg.SensorResult | dg.SkipReason:
    """Asks Sonar for the highest ids. A failed read raises and registers nothing: it is no empty answer."""
    stop = Stop()
    requests = []
    for definition, entities in ((CUSTOMER_BLOCKS, e.OF_CUSTOMERS), (INVENTORY_BLOCKS, e.OF_INVENTORY)):
        registered = set(definition.get_partition_keys(dynamic_partitions_store=context.instance))
        if fresh := new_keys(find_blocks(sonar, stop, entities)[0], registered):
            requests.append(definition.build_add_request(fresh))
    if not requests:
        return dg.SkipReason("No new blocks of ids.")
    return dg.SensorResult(dynamic_partitions_requests=requests)


JOBS = [refresh.as_job() for refresh in (LOOKUPS, CUSTOMERS, INVENTORY)]

SCHEDULES = [
    schedule(
        "sonar_customers_hourly",
        CUSTOMERS,
        # not on the hour, when everybody's schedules begin
        "7 * * * *",
        _over(CUSTOMER_BLOCKS, "sonar_customers", "plan_customers"),
        description="Every hour: customers, addresses and services that have changed, all blocks in one run.",
    ),
    schedule(
        "sonar_inventory_hourly",
        INVENTORY,
        "22 * * * *",
        _over(INVENTORY_BLOCKS, "sonar_inventory", "plan_inventory"),
        description="Every hour: inventory items and fields that have changed, all blocks in one run.",
    ),
    schedule(
        "sonar_lookups_nightly",
        LOOKUPS,
        "40 1 * * *",
        lambda _: [Launch()],
        description="Every night: the small lists, whole.",
    ),
    schedule(
        "sonar_customers_nightly",
        CUSTOMERS,
        # thrice, since an hourly run may be under way, or a block fail; what is verified is not again
        "45 1-3 * * *",
        _over(CUSTOMER_BLOCKS, "sonar_customers", "plan_customers", VERIFIED_WITHIN),
        description="Every night: all blocks of customers are listed in full and compared with what is stored.",
    ),
    schedule(
        "sonar_inventory_nightly",
        INVENTORY,
        "55 1-3 * * *",
        _over(INVENTORY_BLOCKS, "sonar_inventory", "plan_inventory", VERIFIED_WITHIN),
        description="Every night: all blocks of inventory are listed in full and compared with what is stored.",
    ),
]

SENSORS = [sonar_new_blocks]

GROUPS = [
    Group("customers", [sonar_customers], CUSTOMER_BLOCKS),
    Group("inventory", [sonar_inventory], INVENTORY_BLOCKS),
]
