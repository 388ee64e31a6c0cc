"""What to fetch: which blocks in full, which by their changes, and how many records to expect.

The decisions are pure functions of the ledger and of what the server counts; `make_plan` asks for the counts.
"""

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from bdc_pipeline.fetching.answers import BadAnswer, FetchError, Refused, TimedOut, Unauthorized, Unreachable
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
from bdc_pipeline.warehouse.partitioning import IdBlocks
from bdc_pipeline.warehouse.sql import parse_utc, utc_text
from bdc_pipeline.warehouse.stream import Effort

R = TypeVar("R")

MOST_BLOCKS = 2**53 // t.BLOCK
"""Where the search for records ends; ids above are not told apart by every JSON reader."""

NO_IDS = (-1000, -1)
"""A range that holds no record: a server that counts any in it does not filter by id."""

BRANCHES = 100
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
    """What to fetch.

    Args:
        listings: the lists.
        watermark: the server's clock before the first of them (`utc_text`), and not ahead of this machine's.
        kinds: which item fields may be kept.
        left_out: ids of item fields that the server is asked to leave out.
        effort: what planning cost.
    """

    listings: tuple[Listing, ...]
    watermark: str
    kinds: FieldKinds = field(default_factory=FieldKinds)
    left_out: tuple[int, ...] = ()
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


def count_all(
    client: SonarClient, asked: Sequence[tuple[Entity, Search]], workers: int, stop: Stop, *, twice: bool = False
) -> list[int]:
    """The totals of many lists, in as few requests as it takes.

    Args:
        client: where to ask.
        asked: the lists, by entity and filter.
        workers: requests at the same time.
        stop: ends it early.
        twice: an answer without a single record is asked for once more before it is believed.
    """

    def count(chunk: Sequence[tuple[Entity, Search]]) -> list[int]:
        counts = client.counts(chunk)
        return client.counts(chunk) if twice and not any(counts) else counts

    chunks = [asked[i : i + COUNTS_A_REQUEST] for i in range(0, len(asked), COUNTS_A_REQUEST)]
    return [count for counts in gather([partial(count, chunk) for chunk in chunks], workers, stop) for count in counts]


# -- blocks ----------------------------------------------------------------------------------------------------


def discover_blocks(
    client: SonarClient,
    entities: Sequence[Entity],
    workers: int,
    stop: Stop,
    *,
    limit: int | None = None,
    on_failure: Callable[[Entity, FetchError], None] | None = None,
) -> list[str]:
    """The blocks that hold records of any of the entities, in order of their ids.

    What is found is compared with each entity's total: an answer that hides a part would hide it from all that follows.

    Args:
        client: where to ask.
        entities: those that share the blocks; the first is the one whose ids they are.
        workers: requests at the same time.
        stop: ends it early.
        limit: only so many records of the first entity, from the lowest id on, matter.
        on_failure: told of an entity that the server did not tell of, while it did of others; without it that is raised.

    Raises:
        FetchError: the server did not tell, or its counts contradict each other.
    """
    honoured = filters_by_id(client, entities, stop)
    if limit is not None and (last := client.nth_id(entities[0], limit)) is not None:
        first = entities[0]
        count = last // t.BLOCK + 1
        found = _occupied(client, first, count, None, workers, stop) if honoured[first.root] else range(count)
        return [_block(number) for number in found]
    numbers: set[int] = set()
    failures: dict[str, FetchError] = {}
    for entity in entities:
        try:
            numbers |= set(_blocks_of(client, entity, workers, stop, honoured=honoured[entity.root]))
        except FetchError as error:
            if on_failure is None or concerns_all(error):
                raise
            failures[entity.root] = error
    if len(failures) == len(entities):
        raise failures[entities[0].root]
    for entity in entities:
        if on_failure is not None and entity.root in failures:
            on_failure(entity, failures[entity.root])
    return [_block(number) for number in sorted(numbers)]


def concerns_all(error: FetchError) -> bool:
    """Whether no list can be fetched: a wrong address, a wrong token, a server that is down. A missing permission and an
    answer that cannot be used concern one list."""
    if isinstance(error, Refused):
        return error.status not in {400, 403}
    return isinstance(error, Unreachable | TimedOut)


def _block(number: int) -> str:
    return IdBlocks("id", t.BLOCK).key_of(number * t.BLOCK)


def _blocks_of(client: SonarClient, entity: Entity, workers: int, stop: Stop, *, honoured: bool) -> Iterable[int]:
    total, highest = client.extent(entity)
    count = highest // t.BLOCK + 1
    if not total and highest < 0:
        return ()
    return _occupied(client, entity, max(count, 1), total, workers, stop) if honoured else range(count)


def _occupied(
    client: SonarClient, entity: Entity, count: int, total: int | None, workers: int, stop: Stop
) -> Sequence[int]:
    """The numbers of the blocks that hold records, among the first so many; all of them must hold the total."""
    ranges = [(0, count)]
    while True:
        divided = [part for whole in ranges for part in divide(*whole, BRANCHES)]
        between = [(first * t.BLOCK, last * t.BLOCK - 1) for first, last in divided]
        counts = count_all(client, [(entity, entity.search(between=ids)) for ids in between], workers, stop)
        if total is not None and sum(counts) < total:
            # records that went meanwhile, or some behind what the server gave for the highest id
            total, highest = client.extent(entity)
            if sum(counts) < (total or 0):
                count = max(count * 1000, highest // t.BLOCK + 1)
                if count > MOST_BLOCKS:
                    raise BadAnswer(f"'{entity.root}' counts {total} records, but only {sum(counts)} by ranges of ids.")
                ranges = [(0, count)]
                continue
        ranges = [part for part, found in zip(divided, counts, strict=True) if found]
        if all(last - first == 1 for first, last in ranges):
            return [first for first, _ in ranges]


def divide(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """A half-open range of whole numbers as at most so many neighbouring ones of about the same length."""
    step = max(1, -(-(last - first) // parts))
    return [(low, min(low + step, last)) for low in range(first, last, step)]


def filters_by_id(client: SonarClient, entities: Sequence[Entity], stop: Stop) -> dict[str, bool]:
    """Whether the server honours a filter by the attribute that decides each entity's block."""
    searches = [(entity, entity.search(between=NO_IDS)) for entity in entities]
    try:
        return {entity.root: count == 0 for entity, count in zip(entities, client.counts(searches), strict=True)}
    except Refused as refused:
        if concerns_all(refused):
            raise
        # which of them it was, only each by itself can tell

    def probe(entity: Entity) -> bool:
        try:
            return client.counts([(entity, entity.search(between=NO_IDS))]) == [0]
        except Unauthorized:
            raise
        except Refused:
            return False

    answers = gather([partial(probe, entity) for entity in entities], len(entities), stop)
    return {entity.root: honoured for entity, honoured in zip(entities, answers, strict=True)}


# -- the plan --------------------------------------------------------------------------------------------------


def is_due(state: PartitionState | None, now: dt.datetime, options: SyncOptions) -> bool:
    """Whether a block is to be fetched in full: never verified, verified too long ago, or forced."""
    if options.force or state is None or state.verified_at is None or state.watermark is None:
        return True
    return state.is_due(now, options.days)


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
    # a server's clock that is ahead would hide what changes until its time has come
    watermark = utc_text(min(client.now(), now))
    kinds = read_field_kinds(client) if INVENTORY_ITEMS in entities else FieldKinds()
    left_out = kinds.secret if honoured.get(FIELD_DATA.root, True) or _leaves_out(client, kinds.secret) else ()
    ranges = {block: IdBlocks("id", t.BLOCK).bounds(block) for block in blocks}
    last = _last_wanted(client, entities[0], ranges, options, honoured=honoured[entities[0].root])
    cut = {block for block, (_, high) in ranges.items() if high > last}
    ranges = {block: (low, min(high, last)) for block, (low, high) in ranges.items()}
    full: list[Listing] = []
    changes: list[Listing] = []
    for entity in entities:
        known = _states_of(entity, states)
        due = [block for block in blocks if block in cut or any(is_due(of.get(block), now, options) for of in known)]
        if due and not honoured[entity.root]:
            full.append(_whole(entity, ranges, tuple(sorted(cut)), left_out))
            continue
        for block in due:
            search = entity.search(between=ranges[block], secret=left_out)
            shortened = (block,) if block in cut else ()
            full.append(Listing(entity.root, (block,), full=True, search=search, between=ranges[block], cut=shortened))
        if rest := tuple(block for block in blocks if block not in due):
            start = since((of[block] for of in known for block in rest), options)
            search = entity.search(since=start, secret=left_out)
            comparable = honoured[entity.root]
            changes.append(Listing(entity.root, rest, full=False, search=search, comparable=comparable))
    counted = (*_with_counts(client, changes, workers, stop), *_with_counts(client, full, workers, stop))
    return Plan(counted, watermark, kinds, left_out, client.effort().beforehand())


def _last_wanted(
    client: SonarClient,
    entity: Entity,
    ranges: Mapping[str, tuple[int, int]],
    options: SyncOptions,
    *,
    honoured: bool,
) -> int:
    """The id at which a limit cuts the chosen blocks off; beyond all ids without one."""
    if options.limit is None or not ranges:
        return sys.maxsize
    lowest, highest = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
    search = entity.search(between=(lowest, highest)) if honoured else None
    last = client.nth_id(entity, options.limit, search)
    return sys.maxsize if last is None else last


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


def _with_counts(client: SonarClient, listings: Sequence[Listing], workers: int, stop: Stop) -> list[Listing]:
    """Listings with their counts, so that all their pages can be asked for at once, or none.

    One that cannot be counted keeps its unknown number. One that is cut off before its first id holds nothing.
    """
    asked = [place for place, listing in enumerate(listings) if not listing.whole and not listing.is_void]
    try:
        searches = [(ENTITIES[listings[place].root], listings[place].search) for place in asked]
        counts: Sequence[int | None] = count_all(client, searches, workers, stop, twice=True)
    except Unauthorized:
        raise
    except Refused:
        counts = [None] * len(asked)
    found = dict(zip(asked, counts, strict=True))
    return [
        replace(listing, expected=0 if listing.is_void else found.get(place)) for place, listing in enumerate(listings)
    ]


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
    number, fields = 1, dict[int, t.ModelField]()
    while True:
        page = client.page(MODEL_FIELDS, MODEL_FIELDS.search(), number, 200)
        new = {row.id: row for row in page.rows if isinstance(row, t.ModelField) and row.id not in fields}
        fields |= new
        # a server that does not count may repeat its last page for ever
        if not new or (page.info and number >= page.info.total_pages):
            return FieldKinds.of([*fields.values()])
        number += 1
