"""The fetch: municipalities walked through page by page on many threads, as a stream of events for the warehouse.

A municipality that was walked through completely is yielded as `Checked`, another as `Missing` with what is missing. Which page to
ask for next is decided as pages come (see `walk.py`), so threads wait for nothing but the API; municipalities are finished in their
order, as far as that keeps all threads busy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import cast

import msgspec

from bdc_pipeline.fetching.pool import Done, Failed, NotTried, Outcome, Pool, Stop
from bdc_pipeline.fetching.reaching import ERROR_BUDGET, FATAL
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.asking import Asking, Fetched, HomeTask, PageTask
from bdc_pipeline.sources.properties.client import BoligsidenClient
from bdc_pipeline.sources.properties.feed import Feed
from bdc_pipeline.sources.properties.plan import Plan
from bdc_pipeline.sources.properties.split import Limits
from bdc_pipeline.sources.properties.visiting import Visiting
from bdc_pipeline.sources.properties.walk import Ask, Walk
from bdc_pipeline.warehouse.drain import Drained
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Known, Missing, Plain, Rows, Same, Together
from bdc_pipeline.warehouse.table import Table

LOG = logging.getLogger("bdc_pipeline")

UNREAD = 0
"""In place of a record's fingerprint where the record has to be read again: a fingerprint of 64 bits that no record is likely to have."""


class PropertiesStream:
    """Fetches what a plan says.

    Args:
        client: where to ask.
        plan: which municipalities, and what of them.
        limits: what one list of the API shows.
        workers: requests at the same time.
        stop: ends it early.

    Attributes:
        counted: the tables whose rows `expected` counts.
        renumbered: buildings whose number occurs again in their home.
    """

    schema = t.SCHEMA
    tables: tuple[Table, ...] = t.TABLES
    counted: tuple[Table, ...] = (t.PROPERTIES,)

    def __init__(self, client: BoligsidenClient, plan: Plan, *, limits: Limits, workers: int, stop: Stop) -> None:
        self.drained: Drained | None = None
        self.plan = plan
        self.renumbered = 0
        self._client, self._workers, self._stop = client, workers, stop
        self._visits = [Visiting(place, visit, limits) for place, visit in enumerate(plan.visits)]
        self._asking = Asking(client, limits.page)
        self._feed: Feed[Fetched] = Feed(stop)
        self._under_way = 0
        self._left = plan.limit
        self._given: dict[tuple[str, object], msgspec.Struct] = {}

    @property
    def visits(self) -> Sequence[Visiting]:
        """How each municipality stands."""
        return self._visits

    @property
    def expected(self) -> int | None:
        """Homes that there are in all lists; None while some have not been counted, now or in an earlier run."""
        totals = [visiting.expected for visiting in self._visits]
        known = [total for total in totals if total is not None]
        if len(known) < len(totals):
            return None
        return sum(known) if self.plan.limit is None else min(self.plan.limit, sum(known))

    def stop(self, reason: str) -> None:
        """Asks for no more pages; those under way have seconds to arrive."""
        self._stop.set(reason)

    def effort(self) -> Effort:
        """What has been sent and received."""
        return self.plan.effort + self._client.effort()

    # -- tasks -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        waiting = iter(self._visits)
        if self.plan.limit is None:
            for visiting in waiting:
                yield from self._begin(visiting)
        else:
            yield from self._begin_next(waiting)
        pool = Pool(self._workers, stop=self._stop, error_budget=ERROR_BUDGET, fatal=FATAL, name="homes")
        if not self._under_way:
            self._feed.close()
        with closing(cast("Iterator[Outcome[Fetched]]", pool.run(self._feed))) as outcomes, closing(self._feed):  # type: ignore[type-var]
            for outcome in outcomes:
                self._under_way -= 1
                yield from self._take(outcome)
                if not self._under_way and self.plan.limit is not None:
                    yield from self._begin_next(waiting)
                if not self._under_way:
                    self._feed.close()
        for visiting in self._visits:
            if not visiting.ended:
                visiting.give_up(self._stop.reason or "its pages were not asked for")
                yield from self._end(visiting)
        if self.renumbered:
            LOG.info("%s buildings bear a number that another of their home bears; both are kept", self.renumbered)

    def _begin_next(self, waiting: Iterator[Visiting]) -> Iterator[Event]:
        """Under a limit, one municipality after the other: how many homes are left is known only then."""
        for visiting in waiting:
            yield from self._begin(visiting)
            if self._under_way:
                return

    def _begin(self, visiting: Visiting) -> Iterator[Event]:
        if visiting.visit.due:
            yield from self._begin_walks(visiting)
        else:
            self._put(PageTask.counting(self._asking, visiting, walk) for walk in visiting.walks)

    def _begin_walks(self, visiting: Visiting) -> Iterator[Event]:
        if self._left is None and not visiting.visit.afresh:
            known = Known(t.PROPERTIES, visiting.visit.code)
            yield known
            visiting.fingerprints = known.fingerprints
        self._walk_on(visiting)
        if not visiting.under_way:
            yield from self._end(visiting)

    def _walk_on(self, visiting: Visiting) -> None:
        for walk, asks in visiting.begin(self._left):
            self._put_asks(visiting, walk, asks)

    def _put_asks(self, visiting: Visiting, walk: Walk, asks: Iterable[Ask]) -> None:
        self._put(PageTask.of(self._asking, visiting, walk, ask) for ask in asks)

    def _put(self, tasks: Iterable[PageTask | HomeTask]) -> None:
        for task in tasks:
            self._under_way += 1
            task.visiting.under_way += 1
            self._feed.put(task, task.visiting.place)

    # -- what comes --------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome[Fetched]) -> Iterator[Event]:
        task = cast("PageTask | HomeTask", outcome.task)
        visiting = task.visiting
        visiting.under_way -= 1
        if isinstance(outcome, Done):
            fetched: Fetched | Exception = outcome.value
        elif isinstance(outcome, Failed):
            fetched = outcome.error
        else:
            fetched = _not_tried(outcome)
        if isinstance(task, HomeTask):
            yield from self._mended(task, fetched)
        elif task.is_count:
            visiting.take_count(fetched.total if isinstance(fetched, Fetched) else fetched)
            if not visiting.under_way and visiting.has_changed:
                yield from self._begin_walks(visiting)
        else:
            yield from self._arrived(task, fetched)
        if not visiting.under_way and not visiting.ended:
            yield from self._go_on(visiting)

    def _mended(self, task: HomeTask, fetched: Fetched | Exception) -> Iterator[Event]:
        """A home by itself: all of it where the list's record could not be read, else its listing alone."""
        refused = task.address_id in task.visiting.rejects
        task.visiting.mend(task.address_id, fetched if isinstance(fetched, Exception) else fetched.homes)
        if isinstance(fetched, Fetched) and refused:
            yield from self._rows(fetched)
        elif isinstance(fetched, Fetched):
            row, value = task.visiting.unlisted(task.address_id)
            cases = Rows(t.CASES, fetched.homes.cases, [task.address_id])
            # now all of it is here, and the list's record need not be read again
            yield Together([cases, *_price_changes(fetched), Rows(t.PROPERTIES, [row], hashes=[value])])

    def _arrived(self, task: PageTask, fetched: Fetched | Exception) -> Iterator[Event]:
        visiting, walk, ask = task.visiting, task.walk, task.ask
        if isinstance(fetched, Exception):
            self._put_asks(visiting, walk, walk.failed(ask, fetched))
            return
        fresh, asks = walk.arrived(ask, fetched.total, fetched.identified)
        if fetched.homes.foreign:
            others = len(fetched.homes.foreign)
            walk.abort("filter", f"the filter by municipality is ignored: {others} homes of other municipalities came")
            asks = []
        self._put_asks(visiting, walk, asks)
        if fetched.same:
            yield Same(t.PROPERTIES, fetched.same)
        fetched.keep(fresh)
        visiting.note(fetched.homes, fetched.hashes)
        # those with an id are held back: the home by itself may be read better
        yield from (reject for reject in fetched.homes.rejects if not reject.key)
        yield from self._rows(fetched)

    def _rows(self, fetched: Fetched) -> Iterator[Event]:
        """The rows of a page, stored all at once: a home that is stored is not read again, nor what belongs to it."""
        yield Together(tuple(self._rows_of(fetched)))

    def _rows_of(self, fetched: Fetched) -> Iterator[Plain]:
        homes = fetched.homes
        self.renumbered += homes.renumbered
        for row in homes.shared.values():
            table = t.TABLE_OF[type(row)]
            key = (table.name, table.key_of(row))
            if self._given.get(key) != row:
                self._given[key] = row
                yield Rows(table, [row])
        if not homes.properties:
            return
        parents = [row.address_id for row in homes.properties]
        # a home on the market whose listing did not come is asked for by itself before its listing has ended
        unlisted = set(homes.unlisted)
        # until then its record counts as one that was not read: it may be that nobody comes to ask
        known = zip(parents, fetched.hashes, strict=True)
        hashes = [UNREAD if parent in unlisted else value for parent, value in known] if unlisted else fetched.hashes
        yield Rows(t.PROPERTIES, homes.properties, hashes=hashes)
        yield Rows(t.BUILDINGS, homes.buildings, parents)
        yield Rows(t.REGISTRATIONS, homes.registrations, parents)
        yield Rows(t.PROPERTY_BFE, homes.bfe_numbers, parents)
        yield Rows(t.CASES, homes.cases, [parent for parent in parents if parent not in unlisted])
        yield from _price_changes(fetched)

    # -- the end of a municipality -----------------------------------------------------------------------------

    def _go_on(self, visiting: Visiting) -> Iterator[Event]:
        """Nothing of a municipality is under way: asks for what is still wanted of it, or ends it."""
        if not self._stop.is_set():
            if visiting.walking:
                self._walk_on(visiting)
            if not visiting.under_way:
                mended = visiting.to_mend() if visiting.walking else []
                self._put(HomeTask.of(self._asking, visiting, address_id) for address_id in mended)
            if not visiting.under_way:
                self._put(PageTask.doubting(self._asking, visiting, part) for part in visiting.to_doubt())
        if not visiting.under_way:
            yield from self._end(visiting)

    def _end(self, visiting: Visiting) -> Iterator[Event]:
        visiting.ended = True
        if self._left is not None:
            self._left = max(0, self._left - visiting.came)
        visiting.tell()
        yield from visiting.rejects.values()
        yield from self._verdict(visiting)
        visiting.forget()

    def _verdict(self, visiting: Visiting) -> Iterator[Event]:
        code, total = visiting.visit.code, visiting.total
        if visiting.problems:
            yield from self._missing(visiting)
        elif visiting.still_fits:
            yield Checked(t.PROPERTIES, (code,), 0, full=False, totals={code: total or 0})
        else:
            yield Checked(
                t.PROPERTIES,
                (code,),
                visiting.came if visiting.cut else total,
                full=True,
                limited=visiting.cut,
                gone=tuple(visiting.gone),
                token=visiting.visit.token,
            )
        for unit, error in visiting.listing_problems.items():
            yield Missing(t.CASES, (code,), f"{visiting.label} {unit}", error, 0)
        for table in t.CHILDREN:
            if not visiting.still_fits:
                yield Checked(table, (code,), None, full=True, limited=visiting.cut)
            elif not visiting.problems:
                yield Checked(table, (code,), 0, full=False)

    def _missing(self, visiting: Visiting) -> Iterator[Event]:
        """What is missing. Where the number of homes alone did not come, the copy stands as it was verified before."""
        full, total = not visiting.still_fits, visiting.total
        for place, (unit, error) in enumerate(visiting.problems.items()):
            told = total if place == 0 and full else 0
            name = f"{visiting.visit.code} {unit}"
            yield Missing(t.PROPERTIES, (visiting.visit.code,), name, error, told, full=full)
            if not full:
                for table in t.CHILDREN:
                    yield Missing(table, (visiting.visit.code,), name, error, 0, full=False)


def _price_changes(fetched: Fetched) -> list[Rows]:
    found = fetched.homes.price_changes
    return [Rows(t.PRICE_CHANGES, found)] if found else []


def _not_tried(outcome: NotTried[Fetched]) -> Exception:
    return RuntimeError(outcome.reason)
