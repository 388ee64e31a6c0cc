"""How the fetch of one municipality stands: its walks, what its lists have left out, and what all that makes of its partition."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from bdc_pipeline.fetching.answers import Refused
from bdc_pipeline.sources.properties.plan import Visit
from bdc_pipeline.sources.properties.record import Homes
from bdc_pipeline.sources.properties.split import Limits, Part
from bdc_pipeline.sources.properties.walk import Ask, Walk
from bdc_pipeline.warehouse.fingerprints import Fingerprints
from bdc_pipeline.warehouse.stream import Reject

LOG = logging.getLogger("bdc_pipeline")

MENDED_SHARE = 0.01
MENDED_AT_LEAST = 10
"""So many homes may be asked for one by one, where a list has left something out: the larger of the two."""


class Visiting:
    """A municipality being fetched.

    Args:
        place: its place among those of the run.
        visit: what is to be fetched of it.
        limits: what one list of the API shows.

    Attributes:
        walks: one for each type of homes, or one for all.
        fingerprints: of the records that are stored; None where all are to be read.
        under_way: requests that have not come back.
        rejects: records that could not be read, by id, as long as nothing better came.
        problems: what is missing, by where; `listing_problems` what is missing of listings alone.
    """

    def __init__(self, place: int, visit: Visit, limits: Limits) -> None:
        self.place, self.visit = place, visit
        self.label = f"{visit.code} {visit.name}"
        self.walks = [Walk(Part(visit.name, kind), limits, visit.zips) for kind in visit.types_asked]
        self.fingerprints: Fingerprints | None = None
        self.under_way = 0
        self.ended = False
        self.walking = visit.due
        self.rejects: dict[str, Reject] = {}
        self.listing_problems: dict[str, str] = {}
        self._own_problems: dict[str, str] = {}
        self._counts: list[int] = []
        self._unlisted: dict[str, tuple[msgspec.Struct, int]] = {}
        self._begun = 0
        self._skipped = self._mended = self._doubted = False

    # -- how it stands -----------------------------------------------------------------------------------------

    @property
    def still_fits(self) -> bool:
        """Whether nothing but its number of homes was asked for."""
        return not self.walking

    @property
    def total(self) -> int | None:
        """How many homes there are; None while they are not counted."""
        if not self.walking:
            return sum(self._counts) if len(self._counts) == len(self.walks) else None
        totals = [walk.total for walk in self.walks]
        return None if None in totals else sum(total or 0 for total in totals)

    @property
    def expected(self) -> int | None:
        """How many homes are to be fetched, by this run's count or else the last one's."""
        if not self.walking:
            return 0
        return self.visit.expected if self.total is None else self.total

    @property
    def came(self) -> int:
        """How many homes have come."""
        return sum(len(walk.homes) for walk in self.walks)

    @property
    def cut(self) -> bool:
        """Whether a limit has kept it from being whole."""
        return self._skipped or any(walk.cut for walk in self.walks)

    @property
    def gone(self) -> set[str]:
        """Ids that came and were gone before the end."""
        return {identifier for walk in self.walks for identifier in walk.gone}

    @property
    def problems(self) -> dict[str, str]:
        """What is missing, by where; parts that failed for one reason together."""
        together: dict[str, list[str]] = {}
        for what, why in self._own_problems.items():
            together.setdefault(why, []).append(f"{self.visit.name} {what}")
        for walk in self.walks:
            for what, why in walk.problems.items():
                # the name of a part begins with the municipality's
                named = what if what.startswith(self.visit.name) else f"{walk.root} {what}"
                together.setdefault(why, []).append(named)
        return {
            units[0] if len(units) == 1 else f"{units[0]} and {len(units) - 1} more": why
            for why, units in together.items()
        }

    # -- beginning ---------------------------------------------------------------------------------------------

    def begin(self, limit: int | None) -> list[tuple[Walk, list[Ask]]]:
        """The walks to begin: all of them, or under a limit of homes the next one."""
        self.walking = True
        if limit is None:
            waiting, self._begun = self.walks[self._begun :], len(self.walks)
            return [(walk, walk.begin()) for walk in waiting]
        left = limit - self.came
        if self._begun == len(self.walks):
            return []
        if left <= 0:
            self._skipped, self._begun = True, len(self.walks)
            return []
        walk = self.walks[self._begun]
        self._begun += 1
        walk.at_most = left
        return [(walk, walk.begin())]

    def take_count(self, found: int | Exception) -> None:
        """Takes the number of homes that a list has; nothing but that was asked."""
        if isinstance(found, Exception):
            self._own_problems.setdefault("count", str(found))
        elif self._doubted:
            if not found:
                self._own_problems["count"] = f"Boligsiden knows no homes of a municipality '{self.visit.name}'"
        else:
            self._counts.append(found)

    @property
    def has_changed(self) -> bool:
        """Whether it has another number of homes than at the last walk."""
        return not self.walking and not self._own_problems and self.total != self.visit.expected

    # -- what the lists have left out --------------------------------------------------------------------------

    def note(self, homes: Homes, hashes: Sequence[int]) -> None:
        """Remembers what of a page cannot be kept as it is; `hashes` are its records' fingerprints."""
        self.rejects |= {str(reject.key[0]): reject for reject in homes.rejects if reject.key}
        if homes.unlisted:
            read = {row.address_id: (row, value) for row, value in zip(homes.properties, hashes, strict=True)}
            self._unlisted |= {identifier: read[identifier] for identifier in homes.unlisted}

    def unlisted(self, address_id: str) -> tuple[msgspec.Struct, int]:
        """The row of a home that came without its listing, and its record's fingerprint."""
        return self._unlisted[address_id]

    def to_mend(self) -> list[str]:
        """Homes to ask for one by one: records that could not be read, listed homes that came without their listing."""
        if self._mended or self.problems:
            return []
        self._mended = True
        most = max(MENDED_AT_LEAST, round(self.came * MENDED_SHARE))
        wanted = [*self.rejects, *sorted(self._unlisted.keys() - self.rejects.keys())]
        if rest := [identifier for identifier in wanted[most:] if identifier in self._unlisted]:
            self.listing_problems["listings"] = (
                f"{len(self._unlisted)} homes on the market came without their listing, and {len(rest)} of them were not "
                f"asked for one by one: that is done for {most} homes at most"
            )
        if len(wanted) > most:
            LOG.warning("%s: of %s homes to be asked for one by one %s are", self.label, len(wanted), most)
        return wanted[:most]

    def mend(self, address_id: str, found: Homes | Exception) -> None:
        """Takes a home that was asked for by itself."""
        if isinstance(found, Exception):
            # a home that is gone by now has no listing either
            if address_id in self._unlisted and not isinstance(found, Refused):
                self.listing_problems[f"home {address_id}"] = str(found)
        elif found.properties:
            self.rejects.pop(address_id, None)

    def to_doubt(self) -> list[Part]:
        """What to ask for before it is believed that there are no homes; [] where nothing is in doubt."""
        if self._doubted or self.problems or self.cut or self.total != 0:
            return []
        self._doubted = True
        if self.visit.stored:
            self._own_problems["count"] = (
                f"Boligsiden answers with no homes, where {self.visit.stored} are stored; nothing was marked as vanished"
            )
        elif None in self.visit.types_asked:
            self.take_count(0)
        else:
            return [Part(self.visit.name)]
        return []

    # -- the end -----------------------------------------------------------------------------------------------

    def give_up(self, reason: str) -> None:
        """Ends it, incomplete."""
        self._own_problems.setdefault("the rest", reason)

    def tell(self) -> None:
        """Logs what its parts add up to, and what was noticed."""
        for walk in self.walks:
            for note in walk.notes:
                LOG.warning("%s: %s", self.label, note)
            if walk.zip_parts:
                LOG.info("%s: %s", self.label, sum_of_parts(walk))

    def forget(self) -> None:
        """Lets go of the homes that have come, which a large municipality has many of."""
        for walk in self.walks:
            walk.forget()


def sum_of_parts(walk: Walk) -> str:
    """What a divided list adds up to: `14,368 villa = 14,361 by 14 zip codes + 7 found otherwise`."""
    counts = [part.total for part in walk.zip_parts if part.total]
    otherwise = (walk.total or 0) - sum(counts)
    more = f" {'+' if otherwise >= 0 else '-'} {abs(otherwise):,} found otherwise" if otherwise else ""
    kind = walk.root.address_type or "homes"
    return f"{walk.total:,} {kind} = {sum(counts):,} in {len(counts)} parts by zip code{more}"


def parts_of(walks: Sequence[Walk]) -> dict[str, int]:
    """The parts of divided lists with their totals, by name."""
    return {str(part.part): part.total for walk in walks for part in walk.zip_parts if part.total}
