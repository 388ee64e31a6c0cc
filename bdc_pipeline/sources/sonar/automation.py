"""What keeps Sonar's copy current by itself. Off until switched on, since it asks a real service."""

import dagster as dg

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar.assets import CUSTOMER_BLOCKS, INVENTORY_BLOCKS, SonarResource, find_blocks


def new_keys(found: list[str], registered: set[str]) -> list[str]:
    """The blocks that are not registered yet, in their order."""
    return [key for key in found if key not in registered]


@dg.sensor(
    name="sonar_new_blocks",
    minimum_interval_seconds=3600,
    default_status=dg.DefaultSensorStatus.STOPPED,
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


SENSORS = [sonar_new_blocks]
