"""Which homes there are: where they stand, what they are, how large, and which are for sale.

All of it follows from the seed. Of each home a few numbers are held in arrays; what its record says beyond them is made when it is
asked for, in `record.py`. A row is never given to another home, so it stands for a home all through.

Irregular on purpose: homes without a type, a zip code, an area or a valuation; homes with the neighbouring municipality's zip
code; flats that share an entrance, and some of these the deed too, with all its sales.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from bdc_pipeline.sandbox.boligsiden.places import Municipality, municipalities, neighbour, shares

#: The types that a search may ask for, in the order in which a refusal lists them. `special` occurs in data as well.
ASKABLE = (
    "villa",
    "condo",
    "terraced house",
    "holiday house",
    "cooperative",
    "farm",
    "hobby farm",
    "full year plot",
    "villa apartment",
    "holiday plot",
    "houseboat",
)
TYPES = (*ASKABLE, "special", None)
TYPELESS = len(TYPES) - 1
#: At this many homes, København has as many villas as the API said in October 2025, more than one search reaches.
MEDIUM, KOBENHAVN_AT_MEDIUM = 50_000, 14_368
#: Other records than villas, to each villa.
OTHERS = 0.3
#: 3,623 of the 228,594 homes that are known from an export were for sale.
FOR_SALE = 0.016

_CONDO, _TERRACED, _HOLIDAY, _COOPERATIVE = 1, 2, 3, 4
#: The other types as they come one after the other. Flats come as a whole stairwell.
_CYCLE = array("B", [_CONDO, _TERRACED, TYPELESS, _HOLIDAY, 5, _TERRACED, _COOPERATIVE, TYPELESS, 6, _TERRACED, 8, 7])
_CYCLE.extend([_HOLIDAY, 9, _TERRACED, _CONDO, TYPELESS, 10, _TERRACED, _HOLIDAY, 11, TYPELESS, _TERRACED, TYPELESS])
FLATS = frozenset({_CONDO, _COOPERATIVE, 8})
PLOTS = frozenset({7, 9})
#: the smallest area of a type, and what is added three times at most
_AREAS = {_CONDO: (28, 40), _TERRACED: (55, 35), _HOLIDAY: (25, 35), _COOPERATIVE: (30, 35), 10: (30, 30)}
_HOUSES_ON_A_ROAD = 40
#: Numbers from here on are not villas.
_OTHERS_FROM = 101
_TAIL, _TAIL_FACTOR = 1 << 48, 0x5DEECE66D


@dataclass
class Listing:
    """A home's being for sale."""

    #: which of the home's listings it is
    serial: int
    price: int
    days: int
    change_percentage: float = 0.0


@dataclass(frozen=True)
class Sale:
    """A sale that happened while the sandbox ran."""

    date: str
    amount: int


class World:
    """All homes by row, living and deleted."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._key = str(seed).encode()[:64]
        self.alive = bytearray()
        self.municipality, self.kind, self.flat = array("B"), array("B"), array("B")
        #: 0 stands for none in these
        self.zip, self.area, self.valuation, self.letter = array("I"), array("I"), array("I"), array("B")
        self.road, self.number = array("I"), array("I")
        #: the row whose entrance, and the row whose sales a home has: its own or that of its stairwell's first flat
        self.entry, self.deed = array("I"), array("I")
        self.listings: dict[int, Listing] = {}
        #: how often a home has been put up for sale
        self.listed: Counter[int] = Counter()
        self.sales: dict[int, list[Sale]] = {}
        #: values that replace a record's, and keys that it lacks
        self.overrides: dict[int, dict[str, Any]] = {}
        self.removed: dict[int, set[str]] = {}
        #: counts changes, so that what was computed from the data can be forgotten
        self.clock = 0

    def __len__(self) -> int:
        return len(self.alive)

    def living(self) -> list[int]:
        """The rows of all homes that are not deleted."""
        return [n for n, alive in enumerate(self.alive) if alive]

    def digest(self, kind: str, number: int) -> bytes:
        """64 bytes to draw from, the same each time."""
        return blake2b(b"%s/%d" % (kind.encode(), number), key=self._key).digest()

    def uuid(self, kind: str, number: int) -> str:
        """An id that follows from what it is for."""
        text = blake2b(b"%s/%d" % (kind.encode(), number), key=self._key, digest_size=16).hexdigest()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def address_id(self, n: int) -> str:
        """A home's id. Its last part is the row in disguise, so that `row` need not hold all ids."""
        return f"{self.uuid('address', n)[:23]}-{(n * _TAIL_FACTOR + self._tail) % _TAIL:012x}"

    def row(self, identifier: str) -> int | None:
        """The living home with this id."""
        try:
            tail = int(identifier[24:], 16)
        except ValueError:
            return None
        n = (tail - self._tail) * pow(_TAIL_FACTOR, -1, _TAIL) % _TAIL
        return n if n < len(self) and self.alive[n] and self.address_id(n) == identifier else None

    @cached_property
    def _tail(self) -> int:
        return int.from_bytes(self.digest("tail", 0)[:6], "big")

    def add(
        self, spot: Spot, kind: int, noise: int, *, flat: int = 0, entry: int | None = None, deed: int | None = None
    ) -> int:
        """Add a home and return its row. Without an entrance or a deed of another home, it has its own.

        `flat` counts the flats of an entrance from 1; 0 is a house.
        """
        n = len(self.alive)
        self.alive.append(1)
        self.municipality.append(spot.municipality)
        self.kind.append(kind)
        self.flat.append(flat)
        self.zip.append(spot.zip_code)
        self.road.append(spot.road)
        self.number.append(spot.number)
        self.letter.append(spot.letter)
        self.entry.append(n if entry is None else entry)
        self.deed.append(n if deed is None else deed)
        area = _area(kind, noise)
        self.area.append(area)
        self.valuation.append(_valuation(kind, area or 120, spot.municipality, noise >> 16))
        return n

    def put_up_for_sale(self, n: int, price: int | None = None) -> None:
        """Put a home on the market; by default for somewhat more than its valuation."""
        serial = self.listed[n]
        self.listed[n] += 1
        drawn = self.digest("listing", n << 16 | serial)
        asked = max(5_000, (self.valuation[n] or 1_995_000) * (95 + drawn[0] % 40) // 100)
        self.listings[n] = Listing(serial, asked // 5_000 * 5_000 if price is None else price, 1 + drawn[1])


class Spot(NamedTuple):
    """Where a home stands."""

    municipality: int
    #: 0 is none
    zip_code: int
    road: int
    number: int
    #: 0 is none, 1 is A
    letter: int


def build(*, homes: int, seed: int = 0, zipless_share: float = 0.0005, biggest_zip_share: float | None = None) -> World:
    """Make so many villas and what stands between them. The same arguments give the same homes.

    `zipless_share` of all homes have no zip code. `biggest_zip_share` of a municipality's have its largest one, but for the one
    in 32 that has the neighbour's. At `MEDIUM` homes København has more villas than its proportion.
    """
    world = World(seed)
    fixed = {"København": KOBENHAVN_AT_MEDIUM} if homes == MEDIUM else {}
    cycle = 0
    for place, villas in zip(municipalities(), shares(homes, fixed), strict=True):
        builder = _Builder(world, place, villas, zipless_share, biggest_zip_share)
        builder.villas()
        cycle = builder.others(cycle)
    return world


class _Builder:
    """Makes the homes of one municipality."""

    def __init__(
        self, world: World, place: Municipality, villas: int, zipless_share: float, biggest_zip_share: float | None
    ) -> None:
        self.world, self.place, self.count = world, place, villas
        self._bounds = _bounds(len(place.zips), biggest_zip_share)
        self._zipless_share = zipless_share
        self._random = Random(f"{world.seed}/{place.code}")  # noqa: S311  # data, not secrets
        self._neighbouring = neighbour(place.index).zips[0]

    def villas(self) -> None:
        """Villas, road by road."""
        world = self.world
        for i, noise in enumerate(self._noise(self.count)):
            road, place = divmod(i, _HOUSES_ON_A_ROAD)
            spot = self._spot(i / self.count, road, 1 + place, noise)
            # One deed in a hundred is for two houses
            deed = world.deed[-1] if place and noise >> 57 == 0 else None
            self._add(spot, 0, noise, deed=deed)

    def others(self, cycle: int) -> int:
        """Homes of other types, from that point of the cycle of types on; the point where the next municipality goes on."""
        count = max(1, round(self.count * OTHERS))
        noises = self._noise(count)
        done, road, place = 0, -1, 0
        while done < count:
            kind, noise = _CYCLE[cycle % len(_CYCLE)], noises[done]
            cycle += 1
            here = int(done / count * self.count) // _HOUSES_ON_A_ROAD
            place = place + 1 if here == road else _OTHERS_FROM
            road = here
            spot = self._spot(done / count, road, place, noise)
            # Every other record without a type is one of flats
            is_stairwell = kind in FLATS or (kind == TYPELESS and cycle % 2 == 0)
            flats = min(2 + noise % 11, count - done) if is_stairwell else 1
            self._stairwell(spot, kind, noises[done : done + flats], is_stairwell=is_stairwell)
            done += flats
        return cycle

    def _stairwell(self, spot: Spot, kind: int, noises: Sequence[int], *, is_stairwell: bool) -> None:
        first = len(self.world)
        is_one_deed = noises[0] >> 40 & 3 == 0
        for i, noise in enumerate(noises):
            flat, deed = i + 1 if is_stairwell else 0, first if is_one_deed else None
            self._add(spot, kind, noise, flat=flat, entry=first, deed=deed)

    def _spot(self, at: float, road: int, place: int, noise: int) -> Spot:
        own = self.place.zips[bisect_right(self._bounds, at)]
        return numbered(self.place.index, self._neighbouring if noise >> 44 & 31 == 0 else own, road, place)

    def _add(
        self, spot: Spot, kind: int, noise: int, *, flat: int = 0, entry: int | None = None, deed: int | None = None
    ) -> None:
        world, share = self.world, self._zipless_share
        # Counted through all municipalities, lest small ones never have any
        if int((len(world) + 1) * share + 0.5) > int(len(world) * share + 0.5):
            spot = spot._replace(zip_code=0)
        n = world.add(spot, kind, noise, flat=flat, entry=entry, deed=deed)
        if (noise >> 32 & 4095) < FOR_SALE * 4096:
            world.put_up_for_sale(n)

    def _noise(self, count: int) -> array[int]:
        return array("Q", self._random.randbytes(8 * count))


def numbered(municipality: int, zip_code: int, road: int, place: int) -> Spot:
    """The spot at the `place`-th house of a road, from 1: each fifth one is a letter of the one before, as in 3, 4, 4A, 5."""
    return Spot(municipality, zip_code, road, place - place // 5, 1 if place % 5 == 0 else 0)


def _bounds(zips: int, biggest: float | None) -> list[float]:
    """Up to which part of a municipality's homes each zip code goes, but for the last."""
    weights = [1 / (2 + i) for i in range(zips)]
    if biggest is not None and zips > 1:
        others = sum(weights[1:])
        weights = [biggest, *((1 - biggest) * weight / others for weight in weights[1:])]
    total = sum(weights)
    return [bound / total for bound in accumulate(weights[:-1])]


def _area(kind: int, noise: int) -> int:
    if kind in PLOTS or noise % 256 == 1:
        return 0
    least, more = _AREAS.get(kind, (50, 80))
    return least + (noise >> 8) % more + (noise >> 16) % more + (noise >> 24) % more


def _valuation(kind: int, area: int, municipality: int, noise: int) -> int:
    if kind == _COOPERATIVE or noise % 32 == 1:
        return 0
    return area * municipalities()[municipality].level * (70 + noise % 61) // 100 // 1_000 * 1_000
