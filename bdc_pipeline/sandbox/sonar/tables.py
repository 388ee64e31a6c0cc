"""How the sandbox holds rows: arrays and pure functions instead of objects, so that 600,000 items fit and start at once.

A row is a number `n`, counted from 0 in the order of its id. What is random about it is 64 bits of noise drawn from the
seed; a column is a function from rows to what goes over the wire, computed when asked for. Links between rows are arrays of
such numbers. A change is kept beside all that: in `overrides`, `dead`, `bumps`, and in the arrays themselves.

Which rows there are belongs to `generate.py`, what the columns say to `columns.py`, what changes them to `changes.py`, who
asks for them to `select.py` and `execute.py`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from bdc_pipeline.sandbox.sonar.schema import Entity

#: The newest moment in generated data, 2026-01-01T00:00:00Z; no wall clock takes part in generating.
BASE = 1_767_225_600
NEVER = -1
#: Some rows come in another offset, so that text comparison of times goes wrong.
_OFFSETS = {3: timezone(timedelta(hours=4)), 7: timezone(timedelta(hours=-6))}

Column = Callable[["Table", Sequence[int]], list[Any]]


class Table:
    """All rows of one entity."""

    def __init__(self, entity: Entity, ids: array[int], noise: array[int]) -> None:
        self.entity = entity
        self.name = entity.name
        #: row -> id, rising
        self.ids = ids
        self.noise = noise
        #: row -> updated_at, in seconds since 1970, UTC; spread over the two years before BASE
        self.stamps = array("q", [BASE - 1 - (x >> 38) % 63_000_000 for x in noise])
        #: link -> row -> row of the target table, or NEVER
        self.links: dict[str, array[int]] = {}
        self.targets: dict[str, Table] = {}
        self.columns: dict[str, Column] = {}
        self.dead: set[int] = set()
        #: rows that a list leaves out unless told otherwise (archived accounts)
        self.hidden: set[int] = set()
        #: column -> row -> what goes over the wire instead, right or wrong
        self.overrides: dict[str, dict[int, Any]] = {}
        #: row -> how many times changed
        self.bumps: dict[int, int] = {}
        self._reverse: dict[str, _Reverse] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def values(self, column: str, rows: Sequence[int]) -> list[Any]:
        """What goes over the wire for a column, one value for each row."""
        found = self.columns[column](self, rows)
        changed = self.overrides.get(column)
        if changed:
            return [changed.get(n, value) for n, value in zip(rows, found, strict=True)]
        return found

    def follow(self, link: str, rows: Sequence[int]) -> list[int]:
        """The rows that a link leads to; NEVER where there is none or it is deleted."""
        targets = self.links[link]
        dead = self.targets[link].dead
        if dead:
            return [NEVER if (t := targets[n]) in dead else t for n in rows]
        return [targets[n] for n in rows]

    def pointing(self, link: str, rows: Sequence[int]) -> list[Sequence[int]]:
        """For each row of the target table, the living rows here that point to it, by id."""
        return self._reversed(link).of(rows)

    def row(self, identifier: int) -> int | None:
        """The row that has this id, if it lives."""
        n = bisect_left(self.ids, identifier)
        if n < len(self.ids) and self.ids[n] == identifier and n not in self.dead:
            return n
        return None

    def add(self, noise: int, stamp: int, links: dict[str, int]) -> int:
        """A new row, with the next id; links not named lead nowhere."""
        n = len(self.ids)
        self.ids.append(self.ids[-1] + 1 if n else 1)
        self.noise.append(noise)
        self.stamps.append(stamp)
        for name, targets in self.links.items():
            target = links.get(name, NEVER)
            targets.append(target)
            self._reversed(name).add(target, n)
        return n

    def relink(self, n: int, link: str, target: int) -> None:
        """Let a row point elsewhere."""
        reverse = self._reversed(link)
        self.links[link][n] = target
        reverse.add(target, n)

    def delete(self, n: int) -> None:
        """Remove a row; what points to it still says so, as in a database without cascades."""
        self.dead.add(n)

    def touch(self, n: int, stamp: int) -> None:
        """Mark a row as changed at a moment."""
        self.stamps[n] = stamp
        self.bumps[n] = self.bumps.get(n, 0) + 1
        self.overrides.get("updated_at", {}).pop(n, None)

    def _reversed(self, link: str) -> _Reverse:
        found = self._reverse.get(link)
        if found is None:
            found = self._reverse[link] = _Reverse(self, link)
        return found


class _Reverse:
    """A link read backwards: sorted once, with later additions kept aside."""

    def __init__(self, table: Table, link: str) -> None:
        self.dead = table.dead
        self.targets = table.links[link]
        # Rows are made in the order of their parents, so this sort mostly finds its work done
        self.order: Sequence[int] = sorted(range(len(self.targets)), key=self.targets.__getitem__)
        self.keys = array("q", [self.targets[n] for n in self.order])
        self.order = array("q", self.order)
        self.added: dict[int, list[int]] = {}
        self.changed = False

    def add(self, target: int, n: int) -> None:
        """Note a link made after the sort."""
        self.changed = True
        if target != NEVER:
            self.added.setdefault(target, []).append(n)

    def of(self, rows: Sequence[int]) -> list[Sequence[int]]:
        """See Table.pointing."""
        keys, order = self.keys, self.order
        found: list[Sequence[int]] = []
        for n in rows:
            low = bisect_left(keys, n)
            found.append(order[low : bisect_right(keys, n, low)])
        if self.changed or self.dead:
            return [self._living(n, some) for n, some in zip(rows, found, strict=True)]
        return found

    def _living(self, target: int, found: Sequence[int]) -> Sequence[int]:
        both = {*found, *self.added.get(target, ())}
        return sorted(n for n in both if self.targets[n] == target and n not in self.dead)


@dataclass
class World:
    """All tables, and the memory of answers that holds until something changes."""

    tables: dict[str, Table]
    #: account row -> group rows
    groups: Callable[[int], list[int]]
    #: counts changes; whatever was computed under another count is out of date
    clock: int = 0
    #: account row -> group rows, where changed
    regrouped: dict[int, list[int]] = field(default_factory=dict)
    _memory: OrderedDict[object, tuple[int, Any]] = field(default_factory=OrderedDict)

    def remember(self, key: object, make: Callable[[], Any]) -> Any:
        """The result of `make`, computed once for a key until the next change; the 64 keys used last are kept."""
        known = self._memory.get(key)
        if known is not None and known[0] == self.clock:
            self._memory.move_to_end(key)
            return known[1]
        made = make()
        self._memory[key] = (self.clock, made)
        self._memory.move_to_end(key)
        while len(self._memory) > 64:
            self._memory.popitem(last=False)
        return made

    def living(self, table: Table, *, hidden: bool) -> Sequence[int]:
        """All rows of a table in the order of their ids."""
        gone = table.dead if hidden else table.dead | table.hidden
        if not gone:
            return range(len(table))
        key = ("living", table.name, hidden)
        found: Sequence[int] = self.remember(key, lambda: array("q", [n for n in range(len(table)) if n not in gone]))
        return found

    def groups_of(self, accounts: Iterable[int]) -> list[Sequence[int]]:
        """For each account its groups, by id."""
        dead = self.tables["AccountGroup"].dead
        return [
            [g for g in (self.regrouped[n] if n in self.regrouped else self.groups(n)) if g not in dead]
            for n in accounts
        ]

    def members_of(self, groups: Iterable[int]) -> list[Sequence[int]]:
        """For each group its accounts, by id; archived ones too."""

        def gather() -> dict[int, list[int]]:
            members: dict[int, list[int]] = {}
            accounts = self.living(self.tables["Account"], hidden=True)
            for account, found in zip(accounts, self.groups_of(accounts), strict=True):
                for group in found:
                    members.setdefault(group, []).append(account)
            return members

        members = self.remember("members", gather)
        return [members.get(group, ()) for group in groups]


def iso(stamp: int, noise: int) -> str:
    """A moment as Sonar writes it: ISO 8601, mostly in UTC, for some rows in another offset."""
    return datetime.fromtimestamp(stamp, _OFFSETS.get(noise & 15, UTC)).isoformat()
