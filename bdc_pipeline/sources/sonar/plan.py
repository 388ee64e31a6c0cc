"""What to fetch: which blocks in full, which by their changes, and how many records to expect.

The decisions are pure functions of the ledger and of what the server counts; `make_plan` asks for the counts.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from bdc_pipeline.fetching.answers import Refused, Unauthorized
from bdc_pipeline.fetching.pool import Done, Failed, Pool, Stop, Stopped, Task
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import COUNTS_A_REQUEST, PageInfoRefused, SonarClient
from bdc_pipeline.sources.sonar.entities import (
    ACCOUNTS,
    ENTITIES,
    FIELD_DATA,
    INVENTORY_ITEMS,
    MODEL_FIELDS,
    Entity,
    FieldKinds,
    Search,
)
from bdc_pipeline.sources.sonar.listing import Listing
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline.warehouse.table import IdBlocks, parse_utc, utc_text

R = TypeVar("R")

NO_IDS = (-1000, -1)
"""A range that holds no record: a server that counts any in it does not filter by id."""

BRANCHES = 50
"""Into how many parts a range of ids is divided, level by level, to find the blocks that hold records."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What a sync is asked to do.

    Args:
        force: fetch every block in full.
        days: a block whose last full listing is older is fetched in full.
        limit: at most so many customers, and so many inventory items; None for all.
        overlap_minutes: how far before the watermark changes are looked for. Covers clocks that differ and
            transactions that were open at the time of the listing before.
    """

    force: bool = False
    days: float = 7.0
    limit: int | None = None
    overlap_minutes: float = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The listings to fetch, the server's clock before the first of them (`utc_text`), and what planning cost."""

    listings: tuple[Listing, ...]
    watermark: str
    kinds: FieldKinds = field(default_factory=FieldKinds)
    effort: Effort = field(default_factory=Effort)

    def describe(self) -> dict[str, int]:
        """Counts for the run's log and the UI."""
        return {
            "listings": len(self.listings),
            "blocks_in_full": sum(len(listing.blocks) for listing in self.listings if listing.full),
            "records_expected": sum(listing.expected or 0 for listing in self.listings),
        }


def gather(calls: Sequence[Callable[[], R]], workers: int, stop: Stop) -> list[R]:
    """Runs calls side by side and returns their results in order.

    Raises:
        Exception: what the first call that failed raised.
        Stopped: the run was stopped before all had run.
    """
    results: dict[str, R] = {}
    tasks = (Task(str(place), lambda _, call=call: call()) for place, call in enumerate(calls))  # type: ignore[misc]
    for outcome in Pool(workers, stop=stop, error_budget=0).run(tasks):
        if isinstance(outcome, Done):
            results[outcome.task.name] = outcome.value
        elif isinstance(outcome, Failed):
            raise outcome.error
    if len(results) < len(calls):
        raise Stopped(stop.reason or "stopped")
    return [results[str(place)] for place in range(len(calls))]


def count_all(client: SonarClient, asked: Sequence[tuple[Entity, Search]], workers: int, stop: Stop) -> list[int]:
    """The totals of many lists, in as few requests as it takes."""
    chunks = [asked[i : i + COUNTS_A_REQUEST] for i in range(0, len(asked), COUNTS_A_REQUEST)]
    return [
        count
        for counts in gather([partial(client.counts, chunk) for chunk in chunks], workers, stop)
        for count in counts
    ]


# -- blocks ----------------------------------------------------------------------------------------------------


def discover_blocks(
    client: SonarClient, entity: Entity, workers: int, stop: Stop, *, limit: int | None = None
) -> list[str]:
    """The blocks that hold records, in order of their ids.

    Args:
        client: where to ask.
        entity: customers or inventory items.
        workers: requests at the same time.
        stop: ends it early.
        limit: only so many records from the lowest id on matter.

    Raises:
        FetchError: the server did not tell.
    """
    highest = client.highest_id(entity)
    if limit is not None and highest >= 0:
        nth = client.nth_id(entity, limit)
        highest = min(highest, nth) if nth is not None else highest
    if highest < 0:
        return []
    count = highest // t.BLOCK + 1
    numbers: Iterable[int] = range(count)
    if count > 1 and filters_by_id(client, (entity,), stop)[entity.root]:
        numbers = _occupied(client, entity, count, workers, stop)
    return [_block(number) for number in numbers]


def _block(number: int) -> str:
    return IdBlocks("id", t.BLOCK).key_of(number * t.BLOCK)


def _occupied(client: SonarClient, entity: Entity, count: int, workers: int, stop: Stop) -> list[int]:
    ranges = [(0, count)]
    while True:
        divided = [part for whole in ranges for part in divide(*whole, BRANCHES)]
        between = [(first * t.BLOCK, last * t.BLOCK - 1) for first, last in divided]
        counts = count_all(client, [(entity, entity.search(between=ids)) for ids in between], workers, stop)
        ranges = [part for part, found in zip(divided, counts, strict=True) if found]
        if all(last - first == 1 for first, last in ranges):
            return [first for first, _ in ranges]


def divide(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """A half-open range of whole numbers as at most so many neighbouring ones of about the same length."""
    step = max(1, -(-(last - first) // parts))
    return [(low, min(low + step, last)) for low in range(first, last, step)]


def filters_by_id(client: SonarClient, entities: Sequence[Entity], stop: Stop) -> dict[str, bool]:
    """Whether the server honours a filter by the attribute that decides each entity's block."""

    def probe(entity: Entity) -> bool:
        try:
            return client.counts([(entity, entity.search(between=NO_IDS))]) == [0]
        except Unauthorized:
            raise
        except Refused:
            return False

    # each by itself: one that is refused must not be taken for the refusal of all
    answers = gather([partial(probe, entity) for entity in entities], len(entities), stop)
    return {entity.root: honoured for entity, honoured in zip(entities, answers, strict=True)}


# -- the plan --------------------------------------------------------------------------------------------------


def is_due(state: PartitionState | None, now: dt.datetime, options: SyncOptions, counted: int | None = None) -> bool:
    """Whether a block is to be fetched in full: never verified, verified too long ago, forced, or its count differs.

    A count that differs from what is stored tells of rows deleted upstream, which no listing of changes shows.
    """
    if options.force or state is None or state.verified_at is None or state.watermark is None:
        return True
    verified = dt.datetime.fromisoformat(state.verified_at)
    if now - verified > dt.timedelta(days=options.days):
        return True
    return counted is not None and counted != (state.stored or 0) + state.rejected


def since(states: Iterable[PartitionState], options: SyncOptions) -> str:
    """From when on to look for changes: the oldest watermark less the overlap, as Sonar reads it."""
    oldest = min(state.watermark or "" for state in states)
    return (parse_utc(oldest) - dt.timedelta(minutes=options.overlap_minutes)).isoformat()


def make_plan(
    client: SonarClient,
    entities: Sequence[Entity],
    blocks: Sequence[str],
    states: Mapping[str, Mapping[str, PartitionState]],
    options: SyncOptions,
    *,
    workers: int,
    stop: Stop,
    now: dt.datetime,
) -> Plan:
    """Decides what to fetch for some blocks.

    Args:
        client: where to ask for counts.
        entities: those that share the blocks; the first is the one whose ids they are.
        blocks: partition keys.
        states: what the ledger knows: by table name, by block.
        options: what was asked for.
        workers: requests at the same time.
        stop: ends it early.
        now: this machine's clock (UTC), by which `verified_at` was written.

    Raises:
        FetchError: the server did not tell what is needed.
        Stopped: the run was stopped.
    """
    honoured = filters_by_id(client, entities, stop)
    watermark = utc_text(client.now())
    kinds = read_field_kinds(client) if INVENTORY_ITEMS in entities else FieldKinds()
    left_out = kinds.secret if honoured.get(FIELD_DATA.root, True) or _leaves_out(client, kinds.secret) else ()
    ranges = {block: IdBlocks("id", t.BLOCK).bounds(block) for block in blocks}
    cut: set[str] = set()
    if options.limit is not None and (last := client.nth_id(entities[0], options.limit)) is not None:
        cut = {block for block, (_, high) in ranges.items() if high > last}
        ranges = {block: (low, min(high, last)) for block, (low, high) in ranges.items()}
    asked = [
        (entity, block)
        for entity in entities
        if honoured[entity.root]
        for block, (low, high) in ranges.items()
        if low <= high
    ]
    searches = [(entity, entity.search(between=ranges[block], secret=left_out)) for entity, block in asked]
    counts = count_all(client, searches, workers, stop)
    counted = {(entity.root, block): count for (entity, block), count in zip(asked, counts, strict=True)}
    full: list[Listing] = []
    changes: list[Listing] = []
    for entity in entities:
        totals = {block: counted[entity.root, block] for block in blocks if (entity.root, block) in counted}
        known = _states_of(entity, states)
        due = [block for block in blocks if block in cut or _is_due(known, block, now, options, totals.get(block))]
        if due and not honoured[entity.root]:
            full.append(_whole(entity, ranges, tuple(sorted(cut)), left_out))
            continue
        for block in due:
            search = entity.search(between=ranges[block], secret=left_out)
            expected = totals.get(block, 0)
            shortened = (block,) if block in cut else ()
            full.append(
                Listing(
                    entity.root,
                    (block,),
                    full=True,
                    search=search,
                    expected=expected,
                    between=ranges[block],
                    cut=shortened,
                    totals={block: expected},
                )
            )
        if rest := tuple(block for block in blocks if block not in due):
            start = since((of[block] for of in known for block in rest), options)
            search = entity.search(since=start, secret=left_out)
            told = {block: totals[block] for block in rest if block in totals}
            changes.append(Listing(entity.root, rest, full=False, search=search, totals=told))
    listings = (*_with_counts(client, changes, workers, stop), *full)
    return Plan(listings, watermark, kinds, client.effort())


def _is_due(
    known: Sequence[Mapping[str, PartitionState]],
    block: str,
    now: dt.datetime,
    options: SyncOptions,
    counted: int | None,
) -> bool:
    """`is_due` for all tables that an entity fills; the count is that of the first."""
    first, *others = known
    return is_due(first.get(block), now, options, counted) or any(is_due(of.get(block), now, options) for of in others)


def _leaves_out(client: SonarClient, secret: Sequence[int]) -> bool:
    """Whether the server can be asked to leave secret fields out. Where it refuses, they are dropped as they arrive."""
    try:
        client.counts([(FIELD_DATA, FIELD_DATA.search(secret=secret))])
    except Unauthorized:
        raise
    except PageInfoRefused:
        return True  # it cannot be counted, which says nothing of the filter
    except Refused:
        return False
    return True


def _whole(
    entity: Entity, ranges: Mapping[str, tuple[int, int]], cut: tuple[str, ...], left_out: Sequence[int]
) -> Listing:
    """An entity's whole list, for a server that does not filter by id."""
    between = (0, max(high for _, high in ranges.values())) if cut else None
    search = entity.search(secret=left_out)
    return Listing(entity.root, tuple(ranges), full=True, search=search, between=between, cut=cut, whole=True)


def _with_counts(client: SonarClient, changes: Sequence[Listing], workers: int, stop: Stop) -> list[Listing]:
    """Listings of changes with their counts, so that all their pages can be asked for at once, or none."""
    if not changes:
        return []
    try:
        counts: Sequence[int | None] = count_all(client, [(ENTITIES[c.root], c.search) for c in changes], workers, stop)
    except Unauthorized:
        raise
    except Refused:
        counts = [None] * len(changes)
    return [replace(listing, expected=count) for listing, count in zip(changes, counts, strict=True)]


def _states_of(
    entity: Entity, states: Mapping[str, Mapping[str, PartitionState]]
) -> list[Mapping[str, PartitionState]]:
    """The states of the tables that an entity fills, its own first."""
    tables = [entity.table] if entity is not ACCOUNTS else [t.CUSTOMERS, t.CUSTOMER_GROUPS]
    return [states.get(table.name, {}) for table in tables]


def plan_lookups(client: SonarClient, entities: Sequence[Entity]) -> Plan:
    """Small lists without partitions: all of them, whole, every time."""
    return Plan(
        tuple(Listing(entity.root, (), full=True, search=entity.search()) for entity in entities),
        utc_text(client.now()),
    )


def read_field_kinds(client: SonarClient) -> FieldKinds:
    """Which item fields may be fetched.

    Raises:
        FetchError: the models' fields could not be read in full, so that secret ones cannot be told from others.
    """
    number, fields = 1, []
    while True:
        page = client.page(MODEL_FIELDS, MODEL_FIELDS.search(), number, 200)
        fields += [row for row in page.rows if isinstance(row, t.ModelField)]
        if not page.ids or (page.info and number >= page.info.total_pages):
            return FieldKinds.of(fields)
        number += 1
