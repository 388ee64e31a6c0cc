"""Lists of homes: what a request's parameters ask for, which homes that is, in which order, and which of them a page shows.

As the API does it: a parameter that it does not know is ignored without a word, `isOnMarket` and a singular `zipCode` among
them. A municipality is one exact name; anything else, a comma list too, finds nothing. An unknown address type is refused.

Decided here, where nothing is known of the API: areas are compared with livingArea, prices with casePrice or else with
latestValuation, both ends included, and homes without the value fall out. A text that is no number in a range is ignored.
A sortBy other than `address` is as none.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bdc_pipeline.sandbox.boligsiden.generate import ASKABLE, TYPES, World
from bdc_pipeline.sandbox.boligsiden.places import Municipality, municipalities
from bdc_pipeline.sandbox.boligsiden.record import Records
from bdc_pipeline.sandbox.faults import chance

#: Results that are kept; a walk of a municipality by zip codes and types is some fifty.
_KEPT = 64
#: How far a page may slide when the order is not stable.
_SLIDE = 10


class RefusedError(ValueError):
    """A search that the API answers with status 400."""

    def __init__(self, message: str, valid: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.valid = valid


class Range(NamedTuple):
    """A least and a greatest value; None is no bound."""

    least: int | None
    greatest: int | None

    def holds(self, value: int) -> bool:
        """Whether a value, 0 being none, is in it."""
        return (
            value > 0
            and (self.least is None or value >= self.least)
            and (self.greatest is None or value <= self.greatest)
        )

    def __bool__(self) -> bool:
        return self != (None, None)

    def __str__(self) -> str:
        return f"{'' if self.least is None else self.least}..{'' if self.greatest is None else self.greatest}"


@dataclass(frozen=True)
class Filters:
    """Which homes are asked for, and in which order; what one result is kept under."""

    municipality: str | None
    kind: str | None
    zips: tuple[str, ...]
    area: Range
    price: Range
    by_address: bool
    ascending: bool
    for_sale: bool


@dataclass(frozen=True)
class Query:
    """A request for one page."""

    filters: Filters
    page: int
    size: int
    label: str


def understand(given: Mapping[str, str], *, topic: str, largest: int, pages: int) -> Query:
    """What a request's parameters ask for. Raises RefusedError for what the API answers with status 400.

    `largest` is the greatest page size: more is taken for that. `pages` is the last page that can be asked for.
    """
    kind = given.get("addressTypes") or None
    if kind is not None and kind not in ASKABLE:
        raise RefusedError(f"Invalid addressTypes: {kind}. Valid values: {', '.join(ASKABLE)}.", ASKABLE)
    page, size = _positive(given, "page", 1), min(_positive(given, "per_page", 20), largest)
    if page > pages:
        raise RefusedError(f"page must be {pages} or less, not {page}.")
    filters = Filters(
        municipality=given.get("municipalities") or None,
        kind=kind,
        zips=tuple(filter(None, given.get("zipCodes", "").split(","))),
        area=Range(_number(given, "areaMin"), _number(given, "areaMax")),
        price=Range(_number(given, "priceMin"), _number(given, "priceMax")),
        by_address=given.get("sortBy") == "address",
        ascending=given.get("sortAscending", "true").lower() != "false",
        for_sale=topic == "cases",
    )
    return Query(filters, page, size, _label(topic, filters, page, size))


def _label(topic: str, filters: Filters, page: int, size: int) -> str:
    parts = {
        "municipality": filters.municipality,
        "type": filters.kind,
        "page": page,
        "zip": ",".join(filters.zips),
        "area": str(filters.area) if filters.area else None,
        "price": str(filters.price) if filters.price else None,
        "sort": ("address" if filters.ascending else "-address") if filters.by_address else None,
        "records": None if size == 50 else size,
    }
    return " ".join([topic, *(f"{name}={value}" for name, value in parts.items() if value)])


class Search:
    """Finds homes of a world."""

    def __init__(self, world: World, records: Records) -> None:
        self.world, self.records = world, records
        self._by_name = {place.name: place for place in municipalities()}
        #: all rows of a municipality, of all of them under None, in address order; deleted ones stay in
        self._sorted: dict[int | None, list[int]] = {}
        self._kept: OrderedDict[Filters, Sequence[int]] = OrderedDict()
        self._clock = world.clock
        #: how often a page was asked for, for orders that change
        self._asked: Counter[str] = Counter()

    def municipality(self, name: str) -> Municipality:
        """The one with this name. Raises ValueError with a sentence."""
        if name not in self._by_name:
            raise ValueError(f"There is no municipality {name!r}. There are: {', '.join(self._by_name)}.")
        return self._by_name[name]

    def rows(self, filters: Filters) -> Sequence[int]:
        """All that is asked for, in order."""
        if self._clock != self.world.clock:
            self._kept.clear()
            self._clock = self.world.clock
        if filters in self._kept:
            self._kept.move_to_end(filters)
            return self._kept[filters]
        found = self._find(filters)
        self._kept[filters] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def page(self, query: Query, *, repeats: bool) -> Sequence[int]:
        """What the page shows. With `repeats`, a page without sortBy slides by a few homes, each time by others."""
        rows, start = self.rows(query.filters), (query.page - 1) * query.size
        if not repeats or query.filters.by_address or start >= len(rows):
            return rows[start : start + query.size]
        self._asked[query.label] += 1
        start += int(chance(self.world.seed, query.label, self._asked[query.label]) * _SLIDE)
        wanted = range(start, start + min(query.size, len(rows) - (query.page - 1) * query.size))
        return [rows[i % len(rows)] for i in wanted]

    def added(self, n: int) -> None:
        """Take in a new home where its address belongs."""
        for place in (None, self.world.municipality[n]):
            if place in self._sorted:
                insort(self._sorted[place], n, key=self.records.sort_key)

    def _find(self, filters: Filters) -> Sequence[int]:
        world = self.world
        rows: list[int]
        if filters.municipality is None:
            rows = self._in_order(None)
        elif filters.municipality in self._by_name:
            rows = self._in_order(self._by_name[filters.municipality].index)
        else:
            return []
        rows = [n for n in rows if world.alive[n]]
        if filters.for_sale:
            rows = [n for n in rows if n in world.listings]
        if filters.kind is not None:
            kind = TYPES.index(filters.kind)
            rows = [n for n in rows if world.kind[n] == kind]
        if filters.zips:
            zips = {int(zip_code) for zip_code in filters.zips if zip_code.isdecimal()} - {0}
            rows = [n for n in rows if world.zip[n] in zips]
        if filters.area:
            rows = [n for n in rows if filters.area.holds(world.area[n])]
        if filters.price:
            rows = [n for n in rows if filters.price.holds(_price(world, n))]
        if not filters.by_address:
            # An order that means nothing
            rows.sort(key=lambda n: n * 2_654_435_761 % 2**32)
        elif not filters.ascending:
            rows.reverse()
        return rows

    def _in_order(self, place: int | None) -> list[int]:
        if place not in self._sorted:
            world = self.world
            rows = [n for n in range(len(world)) if place is None or world.municipality[n] == place]
            self._sorted[place] = sorted(rows, key=self.records.sort_key)
        return self._sorted[place]


def _price(world: World, n: int) -> int:
    return world.listings[n].price if n in world.listings else world.valuation[n]


def _positive(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise RefusedError(f"{name} must be a number above 0, not {text}.")
    return int(text)


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    return int(text) if text.isdecimal() else None
