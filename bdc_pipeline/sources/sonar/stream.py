"""The fetch: a plan's listings, page by page on many threads, as a stream of events for the warehouse.

Listings that end well are yielded as `Checked`, the others as `Missing` with what failed. Pages are asked for in
rounds: the first holds every page that the plan's counts promise, later ones what was found missing on the way, and
the blocks whose counts do not fit what is stored once their changes have come.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec

from bdc_pipeline.fetching.answers import FetchError, Refused, TimedOut, Unauthorized
from bdc_pipeline.fetching.pool import Done, Failed, NotTried, Outcome, Pool, Spawn, Stop, Stopped, Task
from bdc_pipeline.fetching.reaching import ERROR_BUDGET, FATAL, Reach
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import Page, SonarClient
from bdc_pipeline.sources.sonar.entities import ACCOUNTS, ENTITIES, Entity, Search
from bdc_pipeline.sources.sonar.listing import Ask, IdSet, Listing, Paging
from bdc_pipeline.sources.sonar.plan import Plan, count_all
from bdc_pipeline.warehouse.drain import Drained
from bdc_pipeline.warehouse.partitioning import IdBlocks
from bdc_pipeline.warehouse.stream import Checked, Compare, Effort, Erase, Event, Missing, Reject, Rows
from bdc_pipeline.warehouse.table import Table


class FilterIgnored(enum.Enum):
    """In place of a page: it held ids outside its block, so the server does not filter by id."""

    FOUND = enum.auto()


Fetched = Page | Refused | FilterIgnored
"""What a task brings. A refusal is a value and not an error, since it concerns its own list alone: it must not spend
the error budget of the others."""


@dataclass(slots=True)
class _Progress:
    """A listing under way.

    `came` are the ids of its records that belong to it, `pairs` how many groups Sonar says each of its accounts is in,
    `groupless` the number of accounts that came without their groups.
    """

    entity: Entity
    paging: Paging
    dropped: int = 0
    came: IdSet = field(default_factory=IdSet)
    pairs: dict[int, int] = field(default_factory=dict)
    pairs_expected: int = 0
    pairs_came: int = 0
    groupless: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def listing(self) -> Listing:
        return self.paging.listing


class SonarStream:
    """Fetches what a plan lists.

    Args:
        client: where to ask; closed at the end of the iteration.
        plan: what to fetch.
        tables: those that the plan's entities fill.
        page_size: records a page.
        workers: requests at the same time.
        stop: ends it early.
    """

    schema = t.SCHEMA

    def __init__(
        self,
        client: SonarClient,
        plan: Plan,
        tables: Sequence[Table],
        *,
        page_size: int,
        workers: int,
        stop: Stop,
    ) -> None:
        self.tables = tuple(tables)
        self.drained: Drained | None = None
        self.plan = plan
        self._client, self._page_size, self._workers, self._stop = client, page_size, workers, stop
        self._refused: dict[str, Refused] = {}
        self._ignored: set[str] = set()
        self._reach = Reach()
        self._under_way: list[_Progress] = [self._started(listing) for listing in plan.listings]

    @property
    def expected(self) -> int | None:
        """Records that the server counts in all listings so far; None while it has not counted them all."""
        totals = [p.listing.expected if p.paging.total is None else p.paging.total for p in self._under_way]
        known = [total for total in totals if total is not None]
        pairs = sum(progress.pairs_expected for progress in self._under_way)
        return sum(known) + pairs if len(known) == len(totals) else None

    def stop(self, reason: str) -> None:
        """Asks for no more pages; those under way have seconds to arrive."""
        self._stop.set(reason)

    def effort(self) -> Effort:
        """What has been sent and received, for the plan too."""
        return self.plan.effort + self._client.effort()

    def _started(self, listing: Listing) -> _Progress:
        return _Progress(ENTITIES[listing.root], Paging(listing, self._page_size, ahead=self._workers))

    # -- rounds ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        if self.plan.kinds.secret and t.INVENTORY_FIELDS in self.tables:
            # values that were kept while their field did not count as secret
            yield Erase(t.INVENTORY_FIELDS, "inventory_model_field_id", self.plan.kinds.secret)
        further: list[_PageTask] = []
        asked = [progress for progress in self._under_way if progress.listing.expected != 0]
        for progress in self._under_way:
            if progress.listing.expected == 0:  # nothing to ask for
                yield from self._go_on(progress, further)
        yield from self._round(self._begin(asked), further)
        yield from self._finish(further)
        further = []
        yield from self._compare(further)
        yield from self._finish(further)
        for progress in self._under_way:
            if not progress.ended:
                progress.problems.setdefault("the rest", self._stop.reason or "its pages were not asked for")
                yield from self._end(progress)

    def _finish(self, tasks: list[_PageTask]) -> Iterator[Event]:
        """Rounds until nothing more is to be asked."""
        while tasks and not self._stop.is_set():
            further: list[_PageTask] = []
            yield from self._round(tasks, further)
            tasks = further

    def _compare(self, further: list[_PageTask]) -> Iterator[Event]:
        """After the changes: blocks that still hold other numbers of rows than Sonar counts are listed in full.

        That finds what no listing of changes shows: rows that were deleted, and rows that were lost.
        """
        compared = [p for p in self._under_way if p.listing.comparable and p.ended and not p.problems]
        asked = [(progress, block) for progress in compared for block in progress.listing.blocks]
        if not asked:
            return
        try:
            searches = [(progress.entity, self._search_of(progress.entity, block)) for progress, block in asked]
            counts = count_all(self._client, searches, self._workers, self._stop, twice=True)
        except (FetchError, Stopped) as error:
            for progress in compared:
                unit = f"{progress.listing.root} counts of {len(progress.listing.blocks)} blocks"
                yield Missing(progress.entity.table, progress.listing.blocks, unit, str(error), 0, full=False)
            return
        found = {(progress.listing.root, block): count for (progress, block), count in zip(asked, counts, strict=True)}
        for progress in compared:
            root = progress.listing.root
            compare = Compare(progress.entity.table, {block: found[root, block] for block in progress.listing.blocks})
            yield compare
            for block in compare.differing:
                search = self._search_of(progress.entity, block)
                again = self._started(
                    Listing(
                        root, (block,), full=True, search=search, expected=found[root, block], between=_bounds(block)
                    )
                )
                self._under_way.append(again)
                further += [_PageTask.of(self, again, ask) for ask in again.paging.begin()]
                yield from self._go_on(again, further)

    def _search_of(self, entity: Entity, block: str) -> Search:
        return entity.search(between=_bounds(block), secret=self.plan.left_out)

    def _begin(self, under_way: Sequence[_Progress]) -> Iterator[_PageTask]:
        """The first pages of all listings, made as threads come to ask for them: a large source has a great many."""
        for progress in under_way:
            for ask in progress.paging.begin():
                yield _PageTask.of(self, progress, ask)

    def _round(self, tasks: Iterable[_PageTask], further: list[_PageTask]) -> Iterator[Event]:
        pool = Pool(self._workers, stop=self._stop, error_budget=ERROR_BUDGET, fatal=FATAL, name="sonar")
        for outcome in pool.run(tasks):
            task = cast("_PageTask", outcome.task)
            yield from self._take(outcome, task.progress, task.ask)
            yield from self._go_on(task.progress, further)

    def _go_on(self, progress: _Progress, further: list[_PageTask]) -> Iterator[Event]:
        """Once nothing of a listing is outstanding: asks for more, or ends it."""
        if progress.ended or progress.paging.outstanding:
            return
        if progress.listing.root in self._ignored and not progress.listing.whole:
            self._turn_to_whole(progress, further)
            return
        asks = progress.paging.next()
        further += [_PageTask.of(self, progress, ask) for ask in asks]
        if not asks:
            yield from self._end(progress)

    def _turn_to_whole(self, progress: _Progress, further: list[_PageTask]) -> None:
        """The server turned out not to filter by id: in place of its blocks, the entity's whole list is fetched."""
        root = progress.listing.root
        progress.ended = True
        progress.problems["filter"] = "the server does not filter by id"
        same = [other for other in self._under_way if other.listing.root == root and other.listing.full]
        if any(other.listing.whole for other in same):
            return
        blocks = tuple(dict.fromkeys(block for other in same for block in other.listing.blocks))
        cut = tuple(block for other in same for block in other.listing.cut)
        between = (0, max(other.listing.between[1] for other in same if other.listing.between)) if cut else None
        search = progress.entity.search(secret=self.plan.left_out)
        whole = self._started(Listing(root, blocks, full=True, search=search, between=between, cut=cut, whole=True))
        self._under_way.append(whole)
        further += [_PageTask.of(self, whole, ask) for ask in whole.paging.begin()]

    # -- one page ----------------------------------------------------------------------------------------------

    def fetch(self, progress: _Progress, ask: Ask) -> Fetched:
        """Fetches a page; called by the pool's threads.

        Raises:
            FetchError: it did not come.
        """
        listing, entity = progress.listing, progress.entity
        if refused := self._refused.get(entity.root):
            return refused
        if entity.root in self._ignored and listing.full and not listing.whole:
            return FilterIgnored.FOUND
        try:
            page = self._reach.ask(
                lambda: self._client.page(entity, listing.search, ask.page, ask.size, self.plan.kinds)
            )
        except Unauthorized:
            raise
        except Refused as refused:
            self._refused[entity.root] = refused
            return refused
        if listing.full and not listing.whole and not self._within(page, listing):
            self._ignored.add(entity.root)
            return FilterIgnored.FOUND
        return page

    def _within(self, page: Page, listing: Listing) -> bool:
        if listing.between is None:
            return True
        low, high = listing.between
        column = _partition_column(ENTITIES[listing.root].table)
        return all(low <= getattr(row, column) <= high for row in page.rows)

    def _take(self, outcome: Outcome[Fetched], progress: _Progress, ask: Ask) -> Iterator[Event]:
        match outcome:
            case Done(value=Page() as page):
                yield from self._deliver(page, progress, ask)
            case Done(value=Refused() as refused):
                progress.paging.failed(ask, refused, timed_out=False)
            case Done():
                progress.paging.outstanding.discard(ask)
            case Failed():
                progress.paging.failed(ask, outcome.error, timed_out=isinstance(outcome.error, TimedOut))
            case NotTried():
                progress.paging.failed(ask, Stopped(outcome.reason), timed_out=False)

    def _deliver(self, page: Page, progress: _Progress, ask: Ask) -> Iterator[Event]:
        """The rows of a page that have not come before and belong to what was asked for."""
        info = page.info
        fresh = set(
            progress.paging.arrived(
                ask, page.ids, page.unread, info.total_count if info else None, info.records_per_page if info else None
            )
        )
        wanted = self._wanted(progress.listing, progress.entity.table)
        rows = [row for row in page.rows if row.id in fresh and wanted(row)]  # type: ignore[attr-defined]
        rejects = [r for r in page.rejects if not r.key or (r.key[0] in fresh and wanted_key(r, progress.listing))]
        known = [row.id for row in rows] + [int(r.key[0]) for r in rejects if r.key]  # type: ignore[attr-defined]
        for number in known:
            progress.came.add(number)
        progress.dropped += len(fresh) - len(known)
        if rows:
            yield Rows(progress.entity.table, rows)
        yield from rejects
        if progress.entity is ACCOUNTS:
            accounts = {row.id for row in rows}  # type: ignore[attr-defined]
            # an account that cannot be read keeps its groups where those can
            accounts |= {reject.key[0] for reject in rejects if reject.key and reject.key[0] in page.group_totals}
            progress.groupless += len(accounts.intersection(page.groupless))
            yield from self._deliver_groups(page, progress, accounts.difference(page.groupless))

    def _deliver_groups(self, page: Page, progress: _Progress, accounts: set[int]) -> Iterator[Event]:
        pairs = [pair for pair in page.groups if pair.customer_id in accounts]
        told = {account: total for account, total in page.group_totals.items() if account in accounts}
        progress.pairs |= told
        progress.pairs_expected += sum(told.values())
        progress.pairs_came += len(pairs)
        if pairs or accounts:
            yield Rows(t.CUSTOMER_GROUPS, pairs, () if progress.listing.full else sorted(accounts))

    def _wanted(self, listing: Listing, table: Table) -> Callable[[msgspec.Struct], bool]:
        """Whether a row belongs to what a listing covers."""
        if table.partitioning is None or not listing.blocks:
            return lambda _: True
        blocks, column, partitioning = set(listing.blocks), table.partitioning.column, table.partitioning
        low, high = listing.between or (0, sys.maxsize)

        def wanted(row: msgspec.Struct) -> bool:
            value = getattr(row, column)
            return low <= value <= high and partitioning.key_of(value) in blocks

        return wanted

    # -- the end of a listing ----------------------------------------------------------------------------------

    def _end(self, progress: _Progress) -> Iterator[Event]:
        progress.ended = True
        listing, paging, table = progress.listing, progress.paging, progress.entity.table
        if refused := self._refused.get(listing.root):
            progress.problems["as a whole"] = str(refused)
        else:
            progress.problems |= _by_error(paging.failures)
        if not progress.problems and paging.shortfall:
            progress.problems["count"] = paging.shortfall
        partitions: tuple[str | None, ...] = listing.blocks or (None,)
        total = None if paging.total is None else paging.total - progress.dropped
        if progress.problems:
            yield from self._missing(progress, table, partitions, total)
        else:
            yield from self._checked(progress, table, partitions, total)
        if progress.entity is ACCOUNTS:
            yield from self._end_groups(progress, partitions)

    def _end_groups(self, progress: _Progress, partitions: tuple[str | None, ...]) -> Iterator[Event]:
        """The memberships that came with a listing of accounts."""
        expected, error = progress.pairs_expected, ""
        if progress.problems:
            error = "some customers did not come, and their groups with them"
        elif progress.groupless:
            error = (
                f"{progress.groupless} customers came with null in place of their groups: the token's user may lack the "
                "permission to read account groups"
            )
        elif progress.pairs_came < expected:
            error = f"Sonar counts {expected} memberships, {progress.pairs_came} came"
        if error:
            unit = f"{progress.listing.name}, groups"
            yield Missing(t.CUSTOMER_GROUPS, partitions, unit, error, expected, full=progress.listing.full)
        else:
            yield from self._checked(progress, t.CUSTOMER_GROUPS, partitions, expected)
        progress.pairs = {}  # of no more use; a large source has many

    def _missing(
        self, progress: _Progress, table: Table, partitions: tuple[str | None, ...], expected: int | None
    ) -> Iterator[Event]:
        listing = progress.listing
        for place, (what, error) in enumerate(progress.problems.items()):
            told = expected if place == 0 else 0
            yield Missing(table, partitions, f"{listing.name} {what}", error, told, full=listing.full)

    def _checked(
        self, progress: _Progress, table: Table, partitions: tuple[str | None, ...], expected: int | None
    ) -> Iterator[Event]:
        listing = progress.listing
        again = self._again(progress, groups=table is t.CUSTOMER_GROUPS)
        gone = tuple(progress.paging.gone) if table is progress.entity.table else ()
        whole_blocks = tuple(partition for partition in partitions if partition not in listing.cut)
        if listing.cut:
            yield Checked(table, listing.cut, expected, listing.full, limited=True, again=again)
            expected, again = (0 if len(partitions) == len(listing.cut) else None), 0
        if whole_blocks:
            yield Checked(
                table,
                whole_blocks,
                expected,
                listing.full,
                watermark=self.plan.watermark,
                gone=gone,
                again=again,
            )

    def _again(self, progress: _Progress, *, groups: bool) -> int:
        """How many of a listing's records, or of their groups, an earlier listing of this run brought and counted."""
        earlier = [
            other
            for other in self._under_way
            if other is not progress
            and other.listing.root == progress.listing.root
            and other.ended
            and not other.problems
            and (progress.listing.whole or not other.listing.full)
        ]
        known = IdSet()
        for other in earlier:
            for number in other.came:
                known.add(number)
        both = [number for number in progress.came if number in known] if earlier else []
        return sum(progress.pairs.get(number, 0) for number in both) if groups else len(both)


@dataclass(frozen=True, slots=True)
class _PageTask(Task[Fetched]):
    """A page to fetch, and the listing that it belongs to."""

    progress: _Progress
    ask: Ask

    @classmethod
    def of(cls, stream: SonarStream, progress: _Progress, ask: Ask) -> _PageTask:
        def run(_: Spawn[Fetched]) -> Fetched:
            return stream.fetch(progress, ask)

        return cls(f"{progress.listing.name} page {ask.page}", run, progress, ask)


def _by_error(failures: Mapping[Ask, Exception]) -> dict[str, str]:
    """Pages that failed, those with the same error together: `page 3`, `pages 1-4, 9`."""
    pages: dict[tuple[str, int], list[int]] = {}
    largest = max((ask.size for ask in failures), default=0)
    for ask, error in failures.items():
        pages.setdefault((str(error), ask.size), []).append(ask.page)
    found: dict[str, str] = {}
    for (text, size), numbers in pages.items():
        of = "" if size == largest else f" of {size} records"
        found[f"page{'s' if len(numbers) > 1 else ''} {_ranges(sorted(numbers))}{of}"] = text
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as `1-4, 9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _bounds(block: str) -> tuple[int, int]:
    return IdBlocks("id", t.BLOCK).bounds(block)


def _partition_column(table: Table) -> str:
    return table.partitioning.column if table.partitioning else "id"


def wanted_key(reject: Reject, listing: Listing) -> bool:
    """Whether a rejected record belongs to what a listing covers, as far as can be told."""
    return reject.partition is None or not listing.blocks or reject.partition in listing.blocks
