"""One filtered list, page by page: which pages to ask for next, and whether all of it came.

Pure bookkeeping, without requests: `Paging` is told what arrived and answers what is still wanted. Page numbers shift
when rows come and go while one pages, and a server may answer with fewer records a page than asked, so nothing is
taken for complete because its pages were all answered: the distinct ids must be as many as the server counts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bdc_pipeline.sources.sonar.entities import Search

ATTEMPTS = 3
"""How often a list is fetched anew when its count does not fit."""

SMALLEST_PAGE = 10
"""Records a page below which a page that times out is not halved again."""


FEW, SHRUNK = 5, 0.8
"""A list that has less than this share of what was counted before, and a few, is not believed."""


class IdSet:
    """A set of ids, at about a bit each where they are dense."""

    _WIDTH = 1024

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def add(self, number: int) -> bool:
        """Adds an id and tells whether it was new."""
        word, bit = number // self._WIDTH, 1 << (number % self._WIDTH)
        held = self._words.get(word, 0)
        self._words[word] = held | bit
        return not held & bit

    def __contains__(self, number: int) -> bool:
        return bool(self._words.get(number // self._WIDTH, 0) & 1 << (number % self._WIDTH))

    def __len__(self) -> int:
        return sum(word.bit_count() for word in self._words.values())

    def __iter__(self) -> Iterator[int]:
        for word in sorted(self._words):
            rest = self._words[word]
            while rest:
                lowest = rest & -rest
                yield word * self._WIDTH + lowest.bit_length() - 1
                rest ^= lowest

    def without(self, other: "IdSet") -> list[int]:
        """The ids that the other set lacks, in order."""
        return [number for number in self if number not in other]


@dataclass(frozen=True, slots=True)
class Listing:
    """A list to fetch: an entity under a filter.

    Args:
        root: the entity's root field.
        blocks: the partitions that it covers; () for an entity without partitions.
        full: it brings every row of these partitions (else the changed ones).
        search: the filter.
        expected: how many records the server counted beforehand; None where it was not asked.
        between: ids outside of which rows are not wanted, both ends included; None for all.
        cut: the blocks that an option cuts short.
        whole: the server does not filter by id, so that rows are sorted into blocks here.
        comparable: after it, its blocks can be counted and compared with what is stored.
    """

    root: str
    blocks: tuple[str, ...]
    full: bool
    search: Search
    expected: int | None = None
    between: tuple[int, int] | None = None
    cut: tuple[str, ...] = ()
    whole: bool = False
    comparable: bool = False

    @property
    def is_void(self) -> bool:
        """Whether its range of ids is empty."""
        return self.between is not None and self.between[0] > self.between[1]

    @property
    def name(self) -> str:
        """How it is called in messages."""
        if not self.blocks:
            return self.root
        where = self.blocks[0] if len(self.blocks) == 1 else f"{len(self.blocks)} blocks"
        return f"{self.root} {where if self.full else f'changed in {where}'}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A page to ask for: its number, counted from 1, and its size in records."""

    page: int
    size: int

    def halves(self) -> tuple["Ask", "Ask"] | None:
        """The two pages of half the size that hold the same records; None where it is small or odd."""
        if self.size % 2 or self.size // 2 < SMALLEST_PAGE:
            return None
        half = self.size // 2
        return Ask(2 * self.page - 1, half), Ask(2 * self.page, half)


def pages(total: int, size: int) -> int:
    """How many pages a list of so many records takes; one for an empty list."""
    return max(1, -(-total // size))


@dataclass
class Paging:
    """How far a listing has come.

    Args:
        listing: what is fetched.
        size: records a page to ask for.
        ahead: pages to ask for at once where the server does not count.
    """

    listing: Listing
    size: int
    ahead: int = 10

    attempt: int = 0
    delivered: IdSet = field(default_factory=IdSet)
    failures: dict[Ask, Exception] = field(default_factory=dict)
    outstanding: set[Ask] = field(default_factory=set)

    _ids: IdSet = field(default_factory=IdSet)
    _unread: int = 0
    _totals: set[int] = field(default_factory=set)
    _has_shrunk: bool = False
    _answered: int | None = None
    _reached: int = 0
    _uncounted: bool = False
    _filled: int = 0
    _empty: dict[int, int] = field(default_factory=dict)
    _repeated: set[int] = field(default_factory=set)
    _largest: int = 0
    _smaller: int | None = None
    _queue: list[Ask] = field(default_factory=list)

    def begin(self) -> list[Ask]:
        """The pages to ask for first: all of them where the count is known."""
        expected = self.listing.expected
        if expected == 0:
            return []
        self._reached = pages(expected, self.size) if expected is not None else 1
        return self._asked([Ask(number, self.size) for number in range(1, self._reached + 1)])

    def _asked(self, asks: Iterable[Ask]) -> list[Ask]:
        listed = list(asks)
        self.outstanding |= set(listed)
        return listed

    def arrived(self, ask: Ask, ids: Iterable[int], unread: int, total: int | None, answered: int | None) -> list[int]:
        """Notes a page's ids and returns those that have not been delivered before.

        Args:
            ask: the page that was asked for.
            ids: of all its records, in their order.
            unread: how many of its records have no readable id.
            total: the server's count under the filter; None where it gives none.
            answered: the page size that the server answered with; None where it gives none.
        """
        self.outstanding.discard(ask)
        came = list(ids)
        new = [self._ids.add(number) for number in came]
        self._unread += unread
        if total is None:
            self._note_uncounted(ask.page, records=bool(came) or unread > 0, news=any(new) or unread > 0)
        else:
            self._has_shrunk = self._has_shrunk or total < max(self._totals, default=0)
            self._totals.add(total)
            self._largest = max(self._largest, total)
        if ask.size == self.size and answered and answered != self.size:
            # the server's own page size decides where pages begin; what came is page `ask.page` of that size
            self._answered = min(answered, self._answered or answered)
        return [number for number in came if self.delivered.add(number)]

    def _note_uncounted(self, page: int, *, records: bool, news: bool) -> None:
        self._uncounted = True
        if news:
            self._filled = max(self._filled, page)
        if records:
            self._empty.pop(page, None)
            if not news:
                self._repeated.add(page)
        else:
            self._empty[page] = self._empty.get(page, 0) + 1

    def failed(self, ask: Ask, error: Exception, *, timed_out: bool) -> None:
        """Notes that a page did not come. One that timed out is asked for again in two halves.

        Without a count, all pages are asked for again in half the size: under a cap that the server does not tell,
        the halves of a page are other records than the page, and there is no count to tell the difference.
        """
        self.outstanding.discard(ask)
        halves = ask.halves() if timed_out else None
        if halves is None:
            self.failures[ask] = error
        elif self._totals:
            self._queue += halves
        else:
            self._smaller = min(halves[0].size, self._smaller or halves[0].size)

    def next(self) -> list[Ask]:
        """What to ask for now that nothing is outstanding; nothing where the listing has ended, well or not."""
        if self.outstanding:
            return []
        queued, self._queue = self._queue, []
        if queued:
            return self._asked(queued)
        if self._answered is not None and self._answered != self.size:
            self.size, self._answered = self._answered, None
        if self.failures or self.begun_empty:
            return []
        if self._smaller is not None:
            return self._shrink(self._smaller)
        return self._next_uncounted() if self._uncounted else self._next_counted()

    def _next_uncounted(self) -> list[Ask]:
        """Further pages until one behind the last record is empty, twice: an empty answer may be a server in trouble.

        A short page ends nothing, since the server may cap its pages. It may also repeat its last page for ever.
        """
        gaps = {page: times for page, times in self._empty.items() if page < self._filled}
        for page, times in gaps.items():
            if times >= ATTEMPTS:
                self.failures[Ask(page, self.size)] = ValueError(
                    "it came back empty, though pages behind it hold records"
                )
        if self.failures:
            return []
        behind = self._filled + 1
        again = [*gaps] + [behind] * (self._empty.get(behind) == 1)
        if again:
            return self._asked(Ask(page, self.size) for page in again)
        ended = self._empty.get(behind, 0) > 1 or behind in self._repeated
        return [] if ended else self._further(max(self._reached, self._filled) + self.ahead)

    def _next_counted(self) -> list[Ask]:
        wanted = pages(max(self._totals, default=0), self.size)
        if wanted > self._reached:
            return self._further(wanted)
        if not self._largest and self.listing.expected is None and not self.attempt:
            return self._anew(1)  # an empty list is asked for once more before it is believed
        return [] if self._fits() or self.attempt + 1 >= ATTEMPTS else self._anew(wanted)

    @property
    def begun_empty(self) -> bool:
        """Whether the server counted none beforehand, so that no page was asked for."""
        return self.listing.expected == 0 and not self._totals

    def _further(self, wanted: int) -> list[Ask]:
        first, self._reached = self._reached + 1, wanted
        return self._asked(Ask(number, self.size) for number in range(first, wanted + 1))

    def _shrink(self, size: int) -> list[Ask]:
        """The list from its beginning, in smaller pages."""
        self.size, self._smaller, self._answered = size, None, None
        self._forget(0)
        self._filled, self._empty, self._repeated = 0, {}, set()
        return self._further(pages(self.listing.expected or 1, size))

    def _anew(self, wanted: int) -> list[Ask]:
        self.attempt += 1
        self._forget(wanted)
        return self._asked(Ask(number, self.size) for number in range(1, wanted + 1))

    def _forget(self, reached: int) -> None:
        self._ids, self._unread, self._totals, self._has_shrunk, self._reached = IdSet(), 0, set(), False, reached

    def _fits(self) -> bool:
        held = len(self._ids) + self._unread
        largest = max(self._largest, self.listing.expected or 0)
        if (largest and not held) or held + FEW < SHRUNK * largest:
            return False  # far fewer than were counted before: what a server in trouble answers
        # a row deleted while paging lowers the count, and may have pulled a neighbour over a page's border; another one that was made
        # meanwhile brings the count back
        return held == max(self._totals, default=0) and not self._has_shrunk

    # -- the end -----------------------------------------------------------------------------------------------

    @property
    def total(self) -> int | None:
        """The server's count; None where it gives none."""
        if self._totals:
            return max(self._totals)
        return 0 if self.begun_empty else None

    @property
    def gone(self) -> list[int]:
        """Ids that were delivered and, when the list was fetched anew, were not there any more."""
        return self.delivered.without(self._ids) if self.attempt else []

    @property
    def shortfall(self) -> str:
        """Why the listing is not complete though its pages came; empty where it is."""
        if self.begun_empty or self._uncounted or self._fits():
            return ""
        held = len(self._ids) + self._unread
        total = max(self.total or 0, self.listing.expected or 0)
        if held == total:
            return f"records were deleted while the list was read, in each of {self.attempt + 1} attempts"
        return f"the server counts {total} records, {held} different ones came in {self.attempt + 1} attempts"
