"""The provider that the tests of generated data look at."""

from bdc_pipeline.sandbox.sonar.generate import build
from bdc_pipeline.sandbox.sonar.tables import World

WORLD = build(customers=2_000)


def column(name: str, *columns: str, world: World = WORLD) -> list[tuple[object, ...]]:
    """What some columns of a table say, row by row."""
    table = world.tables[name]
    return list(zip(*(table.values(c, range(len(table))) for c in columns), strict=True))
