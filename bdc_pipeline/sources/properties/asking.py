"""Asking for a page or a home, by any thread: what is sent, and what is read of the answer before it is handed on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from bdc_pipeline.fetching.pool import Spawn, Task
from bdc_pipeline.fetching.reaching import Reach
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.client import BoligsidenClient
from bdc_pipeline.sources.properties.payload import Sketch
from bdc_pipeline.sources.properties.record import Homes, Reader, sketch
from bdc_pipeline.sources.properties.split import Part
from bdc_pipeline.sources.properties.visiting import Visiting
from bdc_pipeline.sources.properties.walk import Ask, For, Walk


@dataclass(slots=True)
class Fetched:
    """What a request brought.

    Args:
        total: how many homes the list has.
        identified: the id of each record on the page, and what it is told by. One that cannot be read has a made-up id.
        homes: the rows of those that are not stored just as they came.
        hashes: the fingerprints of the records of `homes.properties`.
        same: how many are stored just as they came.
    """

    total: int = 0
    identified: list[tuple[str, Sketch | None]] = field(default_factory=list)
    homes: Homes = field(default_factory=Homes)
    hashes: list[int] = field(default_factory=list)
    same: int = 0

    def keep(self, wanted: set[str]) -> None:
        """Leaves the rows of homes out that are not wanted: they came before on another page."""
        homes = self.homes
        homes.rejects = [reject for reject in homes.rejects if not reject.key or reject.key[0] in wanted]
        if all(row.address_id in wanted for row in homes.properties):
            return
        kept = [place for place, row in enumerate(homes.properties) if row.address_id in wanted]
        homes.properties = [homes.properties[place] for place in kept]
        self.hashes = [self.hashes[place] for place in kept]
        homes.buildings = [row for row in homes.buildings if row.address_id in wanted]
        homes.registrations = [row for row in homes.registrations if row.address_id in wanted]
        homes.bfe_numbers = [row for row in homes.bfe_numbers if row.address_id in wanted]
        homes.cases = [row for row in homes.cases if row.address_id in wanted]
        homes.unlisted = [identifier for identifier in homes.unlisted if identifier in wanted]


class Asking:
    """Asks, and reads what comes.

    Args:
        client: where to ask.
        page_size: homes a page.
    """

    def __init__(self, client: BoligsidenClient, page_size: int) -> None:
        self._client, self._page_size = client, page_size
        self._reader = Reader()
        self._reach = Reach()

    def page(self, visiting: Visiting, ask: Ask) -> Fetched:
        """A page; of records that are stored just as they came no more than their ids is read.

        Raises:
            FetchError: it did not come.
        """
        size = 1 if ask.purpose is For.COUNT else self._page_size
        page = self._reach.ask(lambda: self._client.page(ask.part, ask.number, size, total=ask.told))
        if ask.purpose is For.COUNT:
            return Fetched(page.total)
        raws = page.records
        hashes = t.SCHEMA.fingerprints(raws)
        places: Iterable[int] = range(len(raws))
        same = 0
        if visiting.fingerprints is not None:
            places, same = visiting.fingerprints.sift(hashes)
        homes = self._reader.read(raws, places, int(visiting.visit.code))
        identified = [_identified(raw, value) for raw, value in zip(raws, hashes, strict=True)]
        return Fetched(page.total, identified, homes, [hashes[place] for place in homes.raws], same)

    def home(self, visiting: Visiting, address_id: str) -> Fetched:
        """A home by itself.

        Raises:
            FetchError: it did not come.
        """
        raws = [self._reach.ask(lambda: self._client.home(address_id))]
        homes = self._reader.read(raws, (0,), int(visiting.visit.code))
        hashes = t.SCHEMA.fingerprints(raws)
        return Fetched(1, [], homes, [hashes[place] for place in homes.raws])


def _identified(raw: msgspec.Raw, fingerprint: int) -> tuple[str, Sketch | None]:
    found = sketch(raw)
    return (found.address_id, found) if found is not None else (f"? {fingerprint}", None)


@dataclass(frozen=True, slots=True)
class PageTask(Task[Fetched]):
    """A page to fetch, the walk that it belongs to (None where a municipality is doubted), and its municipality."""

    visiting: Visiting
    walk: Walk
    ask: Ask
    is_count: bool = False

    @classmethod
    def of(cls, asking: Asking, visiting: Visiting, walk: Walk, ask: Ask, *, is_count: bool = False) -> PageTask:
        """The next page of a walk."""

        def run(_: Spawn[Fetched]) -> Fetched:
            return asking.page(visiting, ask)

        return cls(str(ask), run, visiting, walk, ask, is_count)

    @classmethod
    def counting(cls, asking: Asking, visiting: Visiting, walk: Walk) -> PageTask:
        """How many homes a walk would come across."""
        return cls.of(asking, visiting, walk, Ask(walk.top, For.COUNT, walk.root), is_count=True)

    @classmethod
    def doubting(cls, asking: Asking, visiting: Visiting, part: Part) -> PageTask:
        """How many homes of any type there are, where there are none of those asked for."""
        walk = visiting.walks[0]
        return cls.of(asking, visiting, walk, Ask(walk.top, For.COUNT, part), is_count=True)


@dataclass(frozen=True, slots=True)
class HomeTask(Task[Fetched]):
    """A home to fetch by itself."""

    visiting: Visiting
    address_id: str

    @classmethod
    def of(cls, asking: Asking, visiting: Visiting, address_id: str) -> HomeTask:
        """A home that its list has left something out of."""

        def run(_: Spawn[Fetched]) -> Fetched:
            return asking.home(visiting, address_id)

        return cls(f"{visiting.label} home {address_id}", run, visiting, address_id)
