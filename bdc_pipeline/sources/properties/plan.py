"""What to fetch: which municipalities are walked through, which are asked for their number of homes alone, and for which types.

A municipality's copy is one of certain types of homes. A sync lists the types that it is asked for and those that the copy holds
already: a list of villas alone would let every flat of the copy pass for vanished.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bdc_pipeline.sources.properties.places import ADDRESS_TYPES, ALL, all_zips, chosen_types, places
from bdc_pipeline.sources.properties.split import zip_groups
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.stream import Effort

DEFAULT_TYPES = ("villa",)

TURN_DAYS = 0.5
"""A run that is tried again the same night goes on where it failed."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What a sync is asked to do.

    Args:
        force: walk through every municipality.
        days: one whose last walk is older is walked through again.
        limit: at most so many homes; None for all.
        address_types: types of homes; () for those that the copy holds, villas where it holds none.
        in_turn: municipalities that are walked through unless that was done in the last half day.
    """

    force: bool = False
    days: float = 7.0
    limit: int | None = None
    address_types: tuple[str, ...] = ()
    in_turn: tuple[str, ...] = ()

    def of(self, code: str) -> "SyncOptions":
        """Those of one municipality."""
        return replace(self, days=min(self.days, TURN_DAYS)) if code in self.in_turn else self


@dataclass(frozen=True, slots=True)
class Held:
    """What the file holds of a municipality: how many homes, their types, their zip codes."""

    homes: int = 0
    types: frozenset[str | None] = frozenset()
    zips: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """A municipality to ask for.

    Args:
        code: its partition.
        types: of homes.
        due: it is walked through; otherwise that is done only if it has another number of homes than `expected`.
        expected: how many homes the last walk counted; None where there was none.
        stored: how many the file holds.
        zips: what it may be divided by, in groups that are asked together.
        afresh: every record is read, though it may be stored just as it comes: what belongs to the homes was incomplete.
    """

    code: str
    types: tuple[str, ...]
    due: bool
    expected: int | None = None
    stored: int = 0
    zips: tuple[tuple[int, ...], ...] = ()
    afresh: bool = False

    @property
    def name(self) -> str:
        """Its name, as the API knows it."""
        return places()[self.code].name

    @property
    def types_asked(self) -> list[str | None]:
        """The filter of each list: a type, or none for all types."""
        return [None if kind == ALL else kind for kind in self.types]

    @property
    def token(self) -> str:
        """What the ledger remembers of the types."""
        return ",".join(kind.replace(" ", "_") for kind in self.types)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch, and what planning cost: nothing, since the ledger knows."""

    visits: tuple[Visit, ...]
    limit: int | None = None
    effort: Effort = field(default_factory=Effort)

    def describe(self) -> dict[str, int]:
        """Counts for the run's log and the UI."""
        due = [visit for visit in self.visits if visit.due]
        return {
            "municipalities": len(self.visits),
            "walked_through": len(due),
            "asked_for_their_number": len(self.visits) - len(due),
            "homes_at_the_last_walk": sum(visit.expected or 0 for visit in self.visits),
        }


def make_plan(
    codes: Iterable[str],
    states: Mapping[str, Mapping[str, PartitionState]],
    held: Mapping[str, Held],
    options: SyncOptions,
    now: dt.datetime,
) -> Plan:
    """Decides what to fetch.

    Args:
        codes: partitions.
        states: what the ledger knows of them: by table name, by partition.
        held: what the file holds of them.
        options: what was asked for.
        now: this machine's clock (UTC), by which `verified_at` was written.
    """
    visits = [
        _visit(code, [of.get(code) for of in states.values()], held.get(code, Held()), options, now)
        for code in sorted(codes)
    ]
    return Plan(tuple(visits), options.limit)


def _visit(
    code: str, states: Sequence[PartitionState | None], held: Held, options: SyncOptions, now: dt.datetime
) -> Visit:
    """`states` are those of the homes and of what belongs to them, in this order."""
    state = states[0]
    kept = kept_types(state, held.types)
    types = wanted_types(options.address_types, kept)
    afresh = state is not None and not all(of is not None and of.complete and of.verified_at for of in states[1:])
    due = afresh or is_due(state, now, options.of(code)) or types != kept
    place = places()[code]
    # of a code that earlier runs came across, nobody knows whether it still is this municipality's own
    groups = zip_groups(
        (*place.zips, *(number for number in held.zips if number not in place.streets)), place.streets, all_zips()
    )
    return Visit(code, types, due, state.expected if state else None, held.homes, tuple(groups), afresh)


def kept_types(state: PartitionState | None, stored: Collection[str | None]) -> tuple[str, ...]:
    """The types that a municipality's copy is of.

    The ledger remembers those of the last complete walk; after an incomplete one they follow from the homes that are stored. A home
    without a type, or of one that cannot be asked for, came with all types.
    """
    # before the types stands what version of the tables wrote them
    told = state.token.rpartition(" ")[2] if state and state.token else ""
    if told:
        return chosen_types(kind.replace("_", " ") for kind in told.split(","))
    if any(kind not in ADDRESS_TYPES for kind in stored):
        return (ALL,)
    return chosen_types(kind for kind in stored if kind is not None)


def wanted_types(asked: Sequence[str], kept: Sequence[str]) -> tuple[str, ...]:
    """The types to list: those asked for and those that the copy holds; villas where neither says anything."""
    return chosen_types((*asked, *kept)) or DEFAULT_TYPES


def is_due(state: PartitionState | None, now: dt.datetime, options: SyncOptions) -> bool:
    """Whether a municipality is to be walked through: never walked through, incomplete, too long ago, or forced."""
    if options.force or state is None or not state.complete or state.verified_at is None or state.expected is None:
        return True
    if (state.stored or 0) + state.rejected != state.expected:
        return True
    return state.is_due(now, options.days)
