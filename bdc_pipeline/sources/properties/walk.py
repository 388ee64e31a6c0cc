"""A walk through one municipality's homes of one type: which pages to ask for next, given those that have come.

A walk is made of parts (see `split.py`) in a tree: a part that is too long is divided, its parts are counted, then read or divided
on, and when they are settled it is looked at again. A walk says what to ask for as `Ask`s and is told how each ended; nothing here
asks.

Totals are compared at the beginning and at the end. Where they moved, or where other than so many distinct homes came, the walk is
made once more from the beginning, up to `PASSES` times: homes come and go, and pages shift under whoever reads them.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bdc_pipeline.sources.properties.payload import Sketch
from bdc_pipeline.sources.properties.split import (
    By,
    Divide,
    Done,
    GiveUp,
    Limits,
    Part,
    Read,
    ReadBothWays,
    Standing,
    is_ignored,
    next_step,
)

PASSES = 3


class For(enum.Enum):
    """What a page is asked for."""

    FIRST = enum.auto()
    """How many homes a part has, and its first page."""
    PAGE = enum.auto()
    """A further page."""
    COUNT = enum.auto()
    """How many homes there are at the end."""


@dataclass(slots=True, eq=False)
class Node:
    """A part in the tree.

    `tried` are the divisions made, `asked_zips` the codes among them. `hidden` homes are missing in parts of it that were read to
    their ends. `division` holds the parts under way, of which `uncounted` are not counted and `unsettled` not done with; `unread`
    pages of its own are still to come.
    """

    part: Part
    parent: Node | None = None
    total: int = 0
    inferred: bool = False
    first_came: bool = False
    was_read: bool = False
    hidden: int = 0
    unread: int = 0
    uncounted: int = 0
    unsettled: int = 0
    by: By | None = None
    division: list[Node] = field(default_factory=list)
    tried: set[By] = field(default_factory=set)
    asked_zips: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A page to ask for. `told` is how many homes the part was said to have; None before that."""

    node: Node
    purpose: For
    part: Part
    number: int = 1
    told: int | None = None

    def __str__(self) -> str:
        return f"{self.part} page {self.number}{'' if self.part.ascending else ' from the end'}"


class Walk:
    """All homes of a part, counted.

    Args:
        root: a municipality's homes, of one type or of all.
        limits: what one list shows.
        zips: the codes that the municipality may be divided by, in groups that are asked together.
        at_most: so many homes are enough.

    Attributes:
        homes: those that have come in this pass, by id. A record whose id cannot be read is here under a made-up one, without a
            sketch.
        gone: ids that came in an earlier pass and not in the last one.
        cut: `at_most` has kept it from being whole.
        problems: what went wrong, by where.
        notes: what is to be told although nothing is missing for it.
        zip_parts: the parts by zip code with their totals, where it was divided.
    """

    def __init__(
        self, root: Part, limits: Limits, zips: Sequence[tuple[int, ...]] = (), *, at_most: int | None = None
    ) -> None:
        self.root, self.limits, self.zips, self.at_most = root, limits, zips, at_most
        self.problems: dict[str, str] = {}
        self.notes: list[str] = []
        self.gone: set[str] = set()
        self.total: int | None = None
        self.passes = 0
        self.over = self.cut = False
        self._earlier: set[str] = set()
        self._ignored: set[By] = set()
        self._asked_again = False
        self._begin_pass()

    def _begin_pass(self) -> None:
        self.passes += 1
        # pages shift otherwise when a list is read from its end
        self.top = Node(replace(self.root, ascending=self.passes % 2 == 1))
        self.homes: dict[str, Sketch | None] = {}
        self.zip_parts: list[Node] = []
        self._by_zip: dict[int | None, list[Sketch]] = defaultdict(list)
        self._moved = False

    def begin(self) -> list[Ask]:
        """What to ask for first."""
        return [Ask(self.top, For.FIRST, self.top.part)]

    @property
    def missing(self) -> int:
        """How many homes have not come."""
        return max(0, (self.total or 0) - len(self.homes))

    def forget(self) -> None:
        """Lets go of the homes that have come; the total stays."""
        self.homes = {}
        self._by_zip.clear()
        self._earlier = set()

    # -- what has come -----------------------------------------------------------------------------------------

    def arrived(
        self, ask: Ask, total: int, homes: Iterable[tuple[str, Sketch | None]] = ()
    ) -> tuple[set[str], list[Ask]]:
        """Takes a page.

        Returns:
            The ids that had not come before in this pass, and what to ask for next.
        """
        if self.over:
            return set(), []
        fresh, node = self._keep(homes), ask.node
        if node is self.top and ask.purpose is For.FIRST and self._other_types():
            self.abort(
                "filter", f"the filter by type is ignored: homes of other types than {self.root.address_type} came"
            )
            return set(), []
        if node is self.top:
            self._moved |= ask.purpose is not For.FIRST and total != node.total
            self.total = total
        elif ask.purpose is For.PAGE and not node.inferred:
            self._moved |= total != node.total
        if node is self.top and not total and not self._asked_again:
            # no homes at all is what a server in trouble says
            self._asked_again = True
            return fresh, self.begin()
        if ask.purpose is For.FIRST:
            node.total, node.first_came = total, True
        if self.at_most is not None and len(self.homes) >= self.at_most < (self.total or 0):
            self.over = self.cut = True
        return fresh, self._go_on(ask)

    def failed(self, ask: Ask, error: Exception) -> list[Ask]:
        """Takes note that a page did not come; returns what to ask for next."""
        if self.over:
            return []
        self.problems.setdefault(str(ask), str(error))
        return self._go_on(ask)

    def abort(self, what: str, why: str) -> None:
        """Ends the walk, whatever is still to come."""
        if not self.over:
            self.problems[what] = why
            self.over = True

    def _keep(self, homes: Iterable[tuple[str, Sketch | None]]) -> set[str]:
        fresh = set[str]()
        for identifier, sketch in homes:
            if self.at_most is not None and len(self.homes) >= self.at_most:
                break
            if identifier not in self.homes:
                self.homes[identifier] = sketch
                fresh.add(identifier)
                if sketch is not None:
                    self._by_zip[sketch.zip_code].append(sketch)
        return fresh

    def _other_types(self) -> bool:
        """Whether most homes that have come are of another type than the one asked for."""
        asked = self.root.address_type
        others = [s for s in self.homes.values() if s is not None and s.address_type not in {None, asked}]
        return asked is not None and 2 * len(others) > len(self.homes)

    def _go_on(self, ask: Ask) -> list[Ask]:
        node = ask.node
        if self.over:
            return []
        match ask.purpose:
            case For.COUNT:
                return self._conclude()
            case For.PAGE:
                node.unread -= 1
                return [] if node.unread else self._look_at(node)
            case For.FIRST if node.parent is None:
                return self._look_at(node)
            case For.FIRST:
                node.parent.uncounted -= 1
                return [] if node.parent.uncounted else self._counted(node.parent)

    # -- what to do about it -----------------------------------------------------------------------------------

    def _look_at(self, node: Node) -> list[Ask]:
        # one part that cannot be fetched stops no other, but what is missing for it is not looked for elsewhere
        if self.problems and (node.was_read or node.tried):
            return self._settle(node)
        standing = self._standing(node)
        step = GiveUp() if node.was_read else next_step(standing, self.limits)
        if node is self.top and self._is_cut and not node.was_read:
            step = Read()
        match step:
            case Read() | ReadBothWays():
                return self._read(node)
            case Divide():
                return self._divide(node, step)
            case Done() | GiveUp():
                node.hidden = max(node.hidden, standing.missing)
                return self._settle(node)

    @property
    def _is_cut(self) -> bool:
        return self.at_most is not None and self.at_most < self.top.total

    def _standing(self, node: Node) -> Standing:
        groups: list[tuple[int, ...]] = []
        if not node.part.zips:
            # codes that nobody knew show in the homes that come
            seen: list[tuple[int, ...]] = [
                (code,) for code in self._by_zip if code is not None and code not in node.asked_zips
            ]
            groups = [group for group in self.zips if not node.asked_zips.issuperset(group)] or seen
        tried = (node.tried - {By.ZIP} if groups else node.tried) | self._ignored
        return Standing(node.part, node.total, self._known(node.part), groups, tried, node.hidden)

    def _known(self, part: Part) -> list[Sketch]:
        pools: Iterable[list[Sketch]] = self._by_zip.values()
        if part.zips:
            pools = [self._by_zip[code] for code in part.zips if code in self._by_zip]
        return [sketch for pool in pools for sketch in pool if part.holds(sketch)]

    def _read(self, node: Node) -> list[Ask]:
        """Reads a part's pages as far as they are shown, and what is behind that from the end."""
        node.was_read = True
        homes = min(node.total, self.at_most) if self.at_most is not None else node.total
        shown = min(homes, self.limits.hits)
        pages = [(node.part, number) for number in range(1 + node.first_came, self.limits.pages(shown) + 1)]
        backwards = replace(node.part, ascending=not node.part.ascending)
        rest = min(homes - shown, self.limits.hits)
        pages += [(backwards, number) for number in range(1, self.limits.pages(rest) + 1)]
        node.unread = len(pages)
        if not pages:
            return self._look_at(node)
        return [Ask(node, For.PAGE, part, number, node.total) for part, number in pages]

    def _divide(self, node: Node, division: Divide) -> list[Ask]:
        node.by = division.by
        node.tried.add(division.by)
        node.division = [Node(part, node) for part in division.parts]
        node.division[-1].inferred = division.inferred
        if division.by is By.ZIP:
            node.asked_zips.update(code for part in division.parts for code in part.zips)
        if division.by is By.ZIP and node is self.top:
            self.zip_parts += node.division
        counted = [part for part in node.division if not part.inferred]
        node.uncounted = len(counted)
        return [Ask(part, For.FIRST, part.part) for part in counted]

    def _counted(self, node: Node) -> list[Ask]:
        """All parts of a division are counted, but for one that is what the others leave."""
        known = self._known(node.part)
        if any(is_ignored(node.total, p.total, p.part, known) for p in node.division):
            by = node.by or By.ZIP
            self._ignored.add(by)
            self.zip_parts = [] if by is By.ZIP else self.zip_parts
            self.notes.append(f"{node.part}: the filter by {by.value} is ignored, so that it is not divided by that")
            node.division = []
            return self._look_at(node)
        for part in node.division:
            if part.inferred and not self.problems:
                part.total = max(0, node.total - sum(p.total for p in node.division if p is not part))
        node.unsettled = len(node.division)
        return [ask for part in node.division for ask in self._look_at(part)]

    def _settle(self, node: Node) -> list[Ask]:
        parent = node.parent
        if parent is None:
            return self._end_pass()
        parent.unsettled -= 1
        if parent.unsettled:
            return []
        parent.hidden = max(parent.hidden, sum(part.hidden for part in parent.division))
        parent.division = []
        return self._look_at(parent)

    # -- the end -----------------------------------------------------------------------------------------------

    def _end_pass(self) -> list[Ask]:
        if self.problems or self._is_cut:
            self.over, self.cut = True, not self.problems
            return []
        if self.top.tried:
            # the pages of parts tell nothing of the whole
            return [Ask(self.top, For.COUNT, self.root, told=self.top.total)]
        return self._conclude()

    def _conclude(self) -> list[Ask]:
        came = set(self.homes)
        if not self._moved and len(came) == self.total:
            self.gone, self.over = self._earlier - came, True
            return []
        # the same once more, where nothing moved, will be the same a third time
        stuck = not self._moved and self.passes > 1 and came <= self._earlier
        self._earlier |= came
        if self.passes < PASSES and not stuck:
            self._begin_pass()
            return self.begin()
        self.over = True
        moved = f", and the number changed in each of {self.passes} passes" if self._moved else ""
        self.problems["count"] = f"{self.total} homes are told, {len(came)} came: {self.missing} are missing{moved}"
        return []
