"""What happens to homes between two walks, and during one.

`change` alters figures, `insert` and `delete` add and remove homes, `list` and `sell` put them on and off the market, `price`
changes what is asked for one, and `update` makes any key of a record any JSON value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from bdc_pipeline.sandbox.acting import act
from bdc_pipeline.sandbox.boligsiden.generate import TYPELESS, TYPES, Listing, Sale, World, numbered
from bdc_pipeline.sandbox.boligsiden.search import Filters, Search
from bdc_pipeline.sandbox.options import PagingChange

#: Roads from here on are for homes that were added.
_NEW_ROADS = 3_000
#: The day of sales and listings that are made while the sandbox runs, so that no clock decides what the data is
_TODAY = "2026-01-15"


class Changes:
    """What can be done to a world. Each method raises ValueError with a sentence if it cannot be."""

    def __init__(self, world: World, search: Search) -> None:
        self.world, self.search = world, search
        self._paged: dict[PagingChange, int] = {}

    def apply(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """Do what the control endpoint asks for."""
        actions: dict[str, Callable[..., Any]] = {
            "change": self.change,
            "insert": self.insert,
            "delete": self.delete,
            "list": self.put_up,
            "sell": self.sell,
            "price": self.price,
            "update": self.update,
        }
        return act(actions, action, arguments)

    def change(
        self,
        *,
        share: float | None = None,
        ids: Sequence[str] | None = None,
        seed: int = 0,
        municipality: str | None = None,
    ) -> list[str]:
        """Alter the valuation of homes, the area of every third and the price of those for sale; their ids.

        Without ids or a share it is one home in a hundred.
        """
        rows = self._chosen(ids, 0.01 if ids is None and share is None else share, seed, municipality)
        random = Random(f"{seed}/figures")  # noqa: S311  # data, not secrets
        world = self.world
        for i, n in enumerate(rows):
            self._own(n, "latestValuation", "livingArea", "casePrice", "cases")
            world.valuation[n] = (world.valuation[n] or 1_500_000) + 1_000 * random.randint(1, 300)
            if i % 3 == 0:
                world.area[n] += random.randint(1, 40)
            if n in world.listings:
                self._ask_for(n, max(5_000, world.listings[n].price - 5_000 * random.randint(1, 20)))
        return self._done(rows)

    def insert(
        self,
        *,
        count: int = 1,
        municipality: str = "København",
        addressType: str = "villa",  # noqa: N803  # as the API calls it
        zipCode: int | None = None,  # noqa: N803
    ) -> list[str]:
        """Add homes on roads of their own; their ids. A type of "" is none, and so is a zip code of 0."""
        place = self.search.municipality(municipality)
        kind = TYPELESS if not addressType else _kind(addressType)
        zip_code = place.zips[0] if zipCode is None else zipCode
        rows = [self._add(place.index, kind, zip_code) for _ in range(count)]
        return self._done(rows)

    def delete(
        self,
        *,
        ids: Sequence[str] | None = None,
        share: float | None = None,
        seed: int = 0,
        municipality: str | None = None,
    ) -> list[str]:
        """Remove homes, by id or a share of all or of a municipality's; their ids."""
        rows = self._chosen(ids, share, seed, municipality)
        for n in rows:
            self._delete(n)
        return self._done(rows)

    def put_up(
        self,
        *,
        ids: Sequence[str] | None = None,
        share: float | None = None,
        seed: int = 0,
        municipality: str | None = None,
        price: int | None = None,
    ) -> list[str]:
        """Put homes on the market, those that are on it under a new listing; their ids."""
        rows = self._chosen(ids, share, seed, municipality)
        _check(price)
        for n in rows:
            self._own(n, "cases", "casePrice", "isOnMarket")
            self.world.put_up_for_sale(n, price)
        return self._done(rows)

    def sell(
        self,
        *,
        ids: Sequence[str] | None = None,
        share: float | None = None,
        seed: int = 0,
        municipality: str | None = None,
        registered: bool = True,
        date: str = _TODAY,
    ) -> list[str]:
        """Take homes off the market; a share is one of those that are on it. Their ids.

        Unless not `registered`, as when a home is withdrawn, each has a new registration of that date for what was asked.
        """
        rows = self._chosen(ids, share, seed, municipality, among=self.world.listings)
        for n in rows:
            if n not in self.world.listings:
                raise ValueError(f"The home {self.world.address_id(n)} is not on the market.")
        for n in rows:
            self._own(n, "cases", "casePrice", "isOnMarket", "registrations")
            listing = self.world.listings.pop(n)
            if registered:
                self.world.sales.setdefault(n, []).append(Sale(date, listing.price))
        return self._done(rows)

    def price(self, *, identifier: str, price: int) -> None:
        """Change what is asked for a home that is on the market."""
        n = self._row(identifier)
        if n not in self.world.listings:
            raise ValueError(f"The home {identifier} is not on the market.")
        _check(price)
        self._own(n, "cases", "casePrice")
        self._ask_for(n, price)
        self._done([n])

    def update(self, *, identifier: str, columns: Mapping[str, Any], nulls: Sequence[str] = ()) -> None:
        """Make keys of a home's record any JSON value, whether or not it fits; null takes the key away.

        `nulls` are keys that are then sent as null. Searching follows addressType, zipCode, livingArea and latestValuation,
        and takes a value that does not fit for none. The home is found under its id whatever its addressID says.
        """
        n, world = self._row(identifier), self.world
        for key, value in {**columns, **dict.fromkeys(nulls)}.items():
            self._own(n, key)
            if value is None and key not in nulls:
                world.removed.setdefault(n, set()).add(key)
            else:
                world.overrides.setdefault(n, {})[key] = value
            self._follow(n, key, value)
        self._done([n])

    def while_paging(self, change: PagingChange, reads: int, filters: Filters) -> None:
        """Called when a page of homes was read, for the `reads`-th time.

        The list that was read changes: delete removes its first home in address order, touch alters that one's valuation,
        insert adds a home that the list has.
        """
        if reads % change.every or self._paged.get(change, 0) == change.times:
            return
        rows = self.search.rows(replace(filters, by_address=True, ascending=True))
        if not rows:
            return
        self._paged[change] = self._paged.get(change, 0) + 1
        first = rows[0]
        if change.action == "delete":
            self._delete(first)
        elif change.action == "insert":
            world = self.world
            self._add(world.municipality[first], world.kind[first], world.zip[first], like=first)
        else:
            self._own(first, "latestValuation")
            self.world.valuation[first] += 1_000
        self._done([])

    # ---

    def _done(self, rows: Sequence[int]) -> list[str]:
        self.world.clock += 1
        return sorted(self.world.address_id(n) for n in rows)

    def _row(self, identifier: str) -> int:
        n = self.world.row(identifier)
        if n is None:
            raise ValueError(f"There is no home with the id {identifier}.")
        return n

    def _chosen(
        self,
        ids: Sequence[str] | None,
        share: float | None,
        seed: int,
        municipality: str | None,
        *,
        among: Mapping[int, Listing] | None = None,
    ) -> Sequence[int]:
        if (ids is None) == (share is None):
            raise ValueError("Say which homes by their ids or by a share, one of the two.")
        if ids is not None:
            return [self._row(identifier) for identifier in ids]
        if share is None or not 0 <= share <= 1:
            raise ValueError(f"A share of homes is between 0 and 1, not {share}.")
        rows = self.world.living() if among is None else sorted(among)
        if municipality is not None:
            index = self.search.municipality(municipality).index
            rows = [n for n in rows if self.world.municipality[n] == index]
        random = Random(f"{seed}/homes")  # noqa: S311  # which homes, not secrets
        return sorted(random.sample(rows, round(len(rows) * share)))

    def _add(self, municipality: int, kind: int, zip_code: int, *, like: int | None = None) -> int:
        world = self.world
        n = len(world)
        noise = int.from_bytes(world.digest("added", n)[:8], "big")
        spot = numbered(municipality, zip_code, _NEW_ROADS + n // 40 % 6_000, 1 + n % 40)
        world.add(spot, kind, noise)
        if like is not None:
            # So that it is in the same list, whatever that asks for
            world.area[n], world.valuation[n] = world.area[like], world.valuation[like]
            if like in world.listings:
                world.put_up_for_sale(n, world.listings[like].price)
        self.search.added(n)
        return n

    def _delete(self, n: int) -> None:
        self.world.alive[n] = 0
        self.world.listings.pop(n, None)

    def _ask_for(self, n: int, price: int) -> None:
        listing = self.world.listings[n]
        listing.change_percentage = round((price - listing.price) / listing.price * 100, 1)
        listing.price = price

    def _own(self, n: int, *keys: str) -> None:
        """Let a record say again what the home is, where an update made it say something else."""
        for key in keys:
            self.world.overrides.get(n, {}).pop(key, None)
            self.world.removed.get(n, set()).discard(key)

    def _follow(self, n: int, key: str, value: Any) -> None:
        world = self.world
        if key == "addressType":
            world.kind[n] = TYPES.index(value) if value in TYPES else TYPELESS
        numbers = {"zipCode": world.zip, "livingArea": world.area, "latestValuation": world.valuation}
        if key in numbers:
            fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
            numbers[key][n] = value if fits else 0


def _check(price: int | None) -> None:
    if price is not None and price < 1:
        raise ValueError(f"A price is 1 DKK or more, not {price}.")


def _kind(name: str) -> int:
    if name not in TYPES:
        raise ValueError(f"There is no addressType {name!r}. There are: {', '.join(filter(None, TYPES))}.")
    return TYPES.index(name)
