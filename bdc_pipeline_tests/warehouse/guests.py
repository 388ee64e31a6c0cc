"""A guest book whose rows come from DataFrames, as the warehouse's tests write them."""

import datetime as dt

import msgspec

from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table


class Visit(msgspec.Struct, frozen=True):
    """Somebody came."""

    id: int
    town: str
    at: dt.datetime | None = None
    paid: bool | None = None
    score: float | None = None
    guests: int | None = None


VISITS = Table(Visit, "visits")
BY_TOWN = Table(Visit, "by_town", partitioning=ByValue("town"))
GUESTS = Schema("guests", (VISITS, BY_TOWN))
