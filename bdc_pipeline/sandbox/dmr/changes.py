"""Changes of a registry's records: what happens between two downloads, and what should not but does.

Everything follows from arguments, never from the clock. A record that was changed becomes a mapping, which may hold any keys and
values; those that were generated are never altered, since they are shared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from bdc_pipeline.sandbox.acting import act
from bdc_pipeline.sandbox.dmr import words
from bdc_pipeline.sandbox.dmr.generate import (
    FIRST_NEW_ID,
    base64,
    make_device,
    make_repeater,
    make_talkgroup,
    make_tgif,
    megahertz,
    moment,
)
from bdc_pipeline.sandbox.dmr.records import Record, identifier, keys_of

_Edit = Callable[[Random], Any]

#: The callsigns of records that are added begin here; generated ones do not reach it.
_NEW_CALLSIGNS = 1_000_000


@dataclass(frozen=True)
class Kind:
    """What there is to know about the records of a table."""

    #: how `rows` calls them
    entity: str
    make: Callable[[Random, int], Record]
    #: new values by key, for `change`
    edits: Mapping[str, _Edit]
    #: which keys `change` alters unless told
    usual: Sequence[str]


DEVICE = Kind(
    "device",
    lambda random, n: make_device(random, n, words.callsign(_NEW_CALLSIGNS + n % _NEW_CALLSIGNS)),
    {
        "tx": lambda random: megahertz(random.randrange(34_400, 35_200) * 12_500),
        "colorcode": lambda random: random.randrange(16),
        "status": lambda random: random.randrange(5),
        "city": lambda random: f"Changed {random.randrange(10**6)}",
        # All that happens to most devices in a day
        "last_seen": lambda random: moment(random, 8),
    },
    ("tx", "colorcode", "city"),
)
TALKGROUP = Kind("talkgroup", make_talkgroup, {"name": lambda random: f"Renamed {random.randrange(10**6)}"}, ("name",))
TGIF_TALKGROUP = Kind(
    "talkgroup",
    make_tgif,
    {
        "name": lambda random: f"Renamed {random.randrange(10**6)}",
        "description": lambda random: base64(f"<p>Changed {random.randrange(10**6)}</p>"),
        "website": lambda random: f"https://example.com/{random.randrange(10**6)}",
    },
    ("name", "description"),
)
REPEATER = Kind(
    "repeater",
    lambda random, n: make_repeater(random, n, words.callsign(_NEW_CALLSIGNS + n % _NEW_CALLSIGNS)),
    {
        "frequency": lambda random: 440_000_000 + 12_500 * random.randrange(800),
        "encode": lambda random: f"CC{random.randrange(16)}",
        "description": lambda random: f"SYNTHETIC: changed {random.randrange(10**6)}",
        "operational": lambda random: random.randrange(2),
    },
    ("frequency", "description"),
)


class Table:
    """The records of one registry. Each change raises ValueError with a sentence if it cannot be made."""

    def __init__(self, kind: Kind, records: Iterable[Record], seed: int) -> None:
        self.kind = kind
        self.records: list[Record] = list(records)
        self._seed = seed

    def apply(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """Do what the control endpoint asks for."""
        actions: dict[str, Callable[..., Any]] = {
            "change": self.change,
            "insert": self.insert,
            "delete": self.delete,
            "update": self.update,
            "duplicate": self.duplicate,
        }
        return act(actions, action, arguments, further=("body", "restore"))

    def change(self, *, share: float = 0.01, seed: int = 0, columns: Sequence[str] | None = None) -> list[Any]:
        """Give a share of the records other values, in the usual columns or these; their ids."""
        names = self.kind.usual if columns is None else columns
        if unknown := sorted(set(names) - set(self.kind.edits)):
            raise ValueError(
                f"A change of a {self.kind.entity} alters {', '.join(self.kind.edits)}, not {', '.join(unknown)}."
            )
        random = self._random("change", seed)
        rows = self._sample(random, share)
        for row in rows:
            keys = keys_of(self.records[row])
            for name in names:
                keys[name] = _other(self.kind.edits[name], random, keys.get(name))
            self.records[row] = keys
        return [identifier(self.records[row]) for row in rows]

    def insert(self, *, count: int = 1, columns: Mapping[str, Any] | None = None) -> list[Any]:
        """Add records at the end, with these columns if any are given; their ids."""
        made = []
        for number in self._free_ids(count):
            record = self.kind.make(self._random("insert", number), number)
            made.append({**keys_of(record), **columns} if columns else record)
        self.records += made
        return [identifier(record) for record in made]

    def delete(self, *, ids: Sequence[Any] | None = None, share: float | None = None, seed: int = 0) -> list[Any]:
        """Remove records by id, with all that share the id, or a share of them; the ids."""
        if (ids is None) == (share is None):
            raise ValueError("Say which records by their ids or by a share, one of the two.")
        rows = set(self._sample(self._random("delete", seed), share or 0.0)) if ids is None else self._rows_of(ids)
        gone = [identifier(self.records[row]) for row in sorted(rows)]
        self.records = [record for row, record in enumerate(self.records) if row not in rows]
        return gone

    def update(self, *, identifier: Any, columns: Mapping[str, Any] | None = None, remove: Sequence[str] = ()) -> None:
        """Set keys of one record to any JSON values, and take others away; the first record, where several have the id."""
        row = self._row(identifier)
        keys = {**keys_of(self.records[row]), **(columns or {})}
        self.records[row] = {name: value for name, value in keys.items() if name not in remove}

    def duplicate(self, *, identifier: Any, columns: Mapping[str, Any] | None = None) -> None:
        """Add a second record with the same id at the end, which differs in these columns if any are given."""
        self.records.append({**keys_of(self.records[self._row(identifier)]), **(columns or {})})

    def rows(self, columns: Sequence[str]) -> list[list[Any]]:
        """All records in the order of the document; null where a key is absent."""
        return [[keys.get(column) for column in columns] for keys in map(keys_of, self.records)]

    def find(self, wanted: Any) -> Record | None:
        """The first record with this id, as a number or as text."""
        text = str(wanted)
        return next((record for record in self.records if str(identifier(record)) == text), None)

    def _row(self, wanted: Any) -> int:
        return min(self._rows_of([wanted]))

    def _rows_of(self, ids: Sequence[Any]) -> set[int]:
        texts = {str(wanted) for wanted in ids}
        rows = {row for row, record in enumerate(self.records) if str(identifier(record)) in texts}
        if missing := sorted(texts - {str(identifier(self.records[row])) for row in rows}):
            raise ValueError(f"There is no {self.kind.entity} with the id {', '.join(missing)}.")
        return rows

    def _sample(self, random: Random, share: float) -> list[int]:
        if not 0 <= share <= 1:
            raise ValueError(f"A share of records is between 0 and 1, not {share}.")
        return sorted(random.sample(range(len(self.records)), round(len(self.records) * share)))

    def _free_ids(self, wanted: int) -> list[int]:
        taken = {str(identifier(record)) for record in self.records}
        free = (number for number in itertools.count(FIRST_NEW_ID) if str(number) not in taken)
        return [next(free) for _ in range(wanted)]

    def _random(self, *parts: object) -> Random:
        return Random("/".join(map(str, (self._seed, self.kind.entity, *parts))))  # noqa: S311  # data, not secrets


def _other(edit: _Edit, random: Random, before: Any) -> Any:
    """A value that is not the one before."""
    value = edit(random)
    while value == before:
        value = edit(random)
    return value
