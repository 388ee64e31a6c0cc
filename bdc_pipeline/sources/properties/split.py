"""How a list that is longer than the API shows is divided into parts that it does show, and what a division has missed is found.

A list ends after 200 pages, which are 10,000 homes. A longer one is divided by zip code, and what the zip codes do not account for
(homes without one, or with one that nobody knew) is looked for by ranges of living area, then by ranges of price, then by type,
and at last by reading the list from both of its ends. Whether a part is whole is never taken from how it was divided, but from its
own count: as many distinct homes must have come of it as it has.

Homes may lack any of these values (half of one page had no type), so no division is believed to be one. Types come late for that
reason: where they leave half of a list over, dividing by them would read it twice.

Everything here is a function of counts and of the homes that have come. Nothing is asked.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from bdc_pipeline.sources.properties.places import ADDRESS_TYPES

WORTH_DIVIDING = 6
"""A part is divided on in search of what is missing, rather than read, while it has more pages than so many for each missing home.
Halving costs one request a level and home, reading one a page."""

ZIPS_A_REQUEST = 250
"""Zip codes in one request: 3.5 KB of address, where servers take 8 KB and some proxies 4."""

ROOM = 0.7
"""Parts are cut so as to be this full: counts by the homes known so far are estimates."""


class Home(Protocol):
    """What a part goes by."""

    @property
    def address_type(self) -> str | None: ...  # noqa: D102
    @property
    def zip_code(self) -> int | None: ...  # noqa: D102
    @property
    def living_area(self) -> int | None: ...  # noqa: D102
    @property
    def price(self) -> int | None: ...  # noqa: D102


class Range(NamedTuple):
    """Whole numbers from `low` to `high`, both included; None is no bound. Without any bound it is no condition."""

    low: int | None = None
    high: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether it is a condition."""
        return self != (None, None)

    def holds(self, value: int | None) -> bool:
        """Whether it holds a value; a condition holds no home that lacks it."""
        if not self.is_set:
            return True
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        return f"{'' if self.low is None else self.low}-{'' if self.high is None else self.high}"


ANY = Range()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a municipality's homes, as the API is asked for it.

    `zips` () and `address_type` None are no conditions.
    """

    municipality: str
    address_type: str | None = None
    zips: tuple[int, ...] = ()
    area: Range = ANY
    price: Range = ANY
    ascending: bool = True

    def params(self) -> dict[str, Any]:
        """The parameters of a request. Several zip codes are the same parameter several times."""
        found: dict[str, Any] = {"municipalities": self.municipality}
        if self.address_type is not None:
            found["addressTypes"] = self.address_type
        if self.zips:
            found["zipCodes"] = list(self.zips)
        for name, value in (("area", self.area), ("price", self.price)):
            found |= {f"{name}Min": value.low} if value.low is not None else {}
            found |= {f"{name}Max": value.high} if value.high is not None else {}
        return found

    def holds(self, home: Home) -> bool:
        """Whether a home belongs to it, as far as its record tells."""
        return (
            (self.address_type is None or home.address_type == self.address_type)
            and (not self.zips or home.zip_code in self.zips)
            and self.area.holds(home.living_area)
            and self.price.holds(home.price)
        )

    def __str__(self) -> str:
        words = [self.municipality, self.address_type or "all types"]
        if self.zips:
            words.append(f"zip {self.zips[0]}" if len(self.zips) == 1 else f"{len(self.zips)} zips from {self.zips[0]}")
        words += [f"{name} {value}" for name, value in (("area", self.area), ("price", self.price)) if value.is_set]
        return " ".join(words)


class By(enum.Enum):
    """What a part is divided by, in the order in which that is tried."""

    ZIP = "zip code"
    AREA = "living area"
    PRICE = "price"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one list shows: so many homes in all, so many a page."""

    hits: int = 10_000
    page: int = 50

    def pages(self, homes: int) -> int:
        """On how many pages so many homes are."""
        return -(-homes // self.page)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a part stands.

    Args:
        part: which.
        total: how many homes it has.
        homes: those that have come and belong to it.
        zips: codes that it may be divided by: known from elsewhere, and not tried yet; in groups that are asked together.
        tried: what it was divided by before, or cannot be.
        hidden: how many homes are missing in parts of it that were read to their ends: no other division brings those.
    """

    part: Part
    total: int
    homes: Sequence[Home]
    zips: Sequence[tuple[int, ...]] = ()
    tried: Collection[By] = ()
    hidden: int = 0

    @property
    def missing(self) -> int:
        """How many homes have not come."""
        return self.total - len(self.homes)


@dataclass(frozen=True, slots=True)
class Done:
    """All of the part has come."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read all pages of the part."""


@dataclass(frozen=True, slots=True)
class ReadBothWays:
    """Read the part from its beginning as far as it is shown, and the rest from its end."""


@dataclass(frozen=True, slots=True)
class Divide:
    """Ask how many homes these parts have. `inferred`: the last one's number is what the others leave of the whole."""

    by: By
    parts: tuple[Part, ...]
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There is nothing left to try for what is missing."""


Step = Done | Read | ReadBothWays | Divide | GiveUp


def next_step(standing: Standing, limits: Limits) -> Step:
    """What to do about a part, of which `total` is known and which has not been read."""
    missing = standing.missing
    if missing <= 0:
        return Done()
    fits = standing.total <= limits.hits
    if fits and limits.pages(standing.total) <= WORTH_DIVIDING * missing:
        return Read()
    if missing <= standing.hidden:
        return GiveUp()
    if divided := _division(standing, limits, fits=fits):
        return divided
    if fits:
        return Read()
    return ReadBothWays() if standing.total <= 2 * limits.hits else GiveUp()


def _division(standing: Standing, limits: Limits, *, fits: bool) -> Divide | None:
    part, tried = standing.part, standing.tried
    if standing.zips and not part.zips and not fits and By.ZIP not in tried:
        return Divide(By.ZIP, tuple(replace(part, zips=group) for group in standing.zips))
    if By.AREA not in tried and (
        ranges := _ranges(part.area, [home.living_area for home in standing.homes], _pieces(standing, limits), 20, 400)
    ):
        return Divide(By.AREA, tuple(replace(part, area=area) for area in ranges), inferred=part.area.is_set)
    if By.PRICE not in tried and (
        ranges := _ranges(
            part.price, [home.price for home in standing.homes], _pieces(standing, limits), 100_000, 20_000_000
        )
    ):
        return Divide(By.PRICE, tuple(replace(part, price=price) for price in ranges), inferred=part.price.is_set)
    if By.TYPE not in tried and part.address_type is None:
        return Divide(By.TYPE, tuple(replace(part, address_type=kind) for kind in ADDRESS_TYPES))
    return None


def _pieces(standing: Standing, limits: Limits) -> int:
    """Into how many ranges: two in search of a few homes, as many as it takes where nearly all are still to come."""
    if limits.pages(standing.total) > WORTH_DIVIDING * standing.missing:
        return 2
    return max(2, -(-standing.total // int(limits.hits * ROOM)))


def _ranges(whole: Range, values: Iterable[int | None], pieces: int, lowest: int, highest: int) -> list[Range]:
    """A range as neighbouring ones of about as many homes each, by the values known so far; [] where it cannot be divided.

    Where no value is known, `lowest` to `highest` stands for what values there are.
    """
    low, high = whole
    if (low is not None and (low == high or low > 10 * highest)) or (high is not None and high <= 0):
        return []
    known = sorted(value for value in values if value is not None and whole.holds(value))
    last = _last_values(known, low, pieces) if known else [_middle(whole, lowest, highest)]
    bounds = [low, *(value + 1 for value in last)]
    return [Range(*both) for both in zip(bounds, [*last, high], strict=True)]


def _last_values(known: Sequence[int], low: int | None, pieces: int) -> list[int]:
    """The last value of each of at most so many ranges but the last one, which is to hold the highest known value."""
    distinct = sorted(set(known))
    if len(distinct) == 1:
        return [distinct[0] if distinct[0] == low else distinct[0] - 1]
    cuts = {known[max(0, len(known) * place // pieces - 1)] for place in range(1, pieces)}
    return sorted(value for value in cuts if value < distinct[-1]) or [distinct[-2]]


def _middle(whole: Range, lowest: int, highest: int) -> int:
    """A value that divides a range of which no home is known."""
    high = whole.high if whole.high is not None else max(highest, 2 * (whole.low or 0) + 1)
    low = whole.low if whole.low is not None else min(lowest, high - 1)
    return min((low + high) // 2, high - 1)


def is_ignored(total: int, part_total: int, part: Part, homes: Iterable[Home]) -> bool:
    """Whether a part's condition was passed over in silence: the part has as many homes as the whole, though homes of the whole
    are known that do not belong to it."""
    return total > 0 and part_total >= total and any(not part.holds(home) for home in homes)


def zip_groups(own: Iterable[int], streets: Sequence[int], others: Iterable[int]) -> list[tuple[int, ...]]:
    """Zip codes as they are asked for: a municipality's own one by one, those of inner Copenhagen and of others in groups."""
    single = tuple(dict.fromkeys(own))
    rest = [number for number in dict.fromkeys((*streets, *others)) if number not in set(single)]
    groups = [tuple(rest[first : first + ZIPS_A_REQUEST]) for first in range(0, len(rest), ZIPS_A_REQUEST)]
    return [*((number,) for number in single), *groups]
