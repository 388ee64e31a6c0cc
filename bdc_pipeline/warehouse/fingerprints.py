"""Which records are stored just as the source sends them: a hash of each record's bytes, compared before it is parsed.

What a record becomes depends on the code too, so the hash covers what the schema declares: after a new version every
record is parsed and compared anew. Nothing here opens a file.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from xxhash import xxh3_64_intdigest


def fingerprints_of(records: Iterable[bytes | msgspec.Raw], seed: int) -> list[int]:
    """A 63-bit hash of each record; `seed` tells versions of the schema apart.

    XXH3 takes 0.1 us a record of 300 bytes, BLAKE2 0.8. Two of a million different records share a hash with a
    probability of 5e-8. What would be lost then is one change of one record, until it changes again.
    """
    # SQLite's integers are signed
    return [xxh3_64_intdigest(record, seed) & 0x7FFF_FFFF_FFFF_FFFF for record in records]


_MATCHED, _TAKEN_BACK = 1, 2


class Fingerprints:
    """The fingerprints of a partition's rows, eight bytes each, and which of them a run has come across.

    Args:
        stored: in ascending order.
    """

    def __init__(self, stored: Iterable[int] = ()) -> None:
        self._stored = array("q", stored)
        self._matched = bytearray(len(self._stored))
        self._lock = threading.Lock()
        self.matched = 0

    def __len__(self) -> int:
        return len(self._stored)

    def sift(self, hashes: Sequence[int]) -> tuple[list[int], int]:
        """Divides records by whether they are stored as they are; for any thread.

        Returns:
            The places of those that are not, and how many were matched. A record that comes a second time is among those
            that are not: it is to be read, so that it can be told which.
        """
        stored, matched, size = self._stored, self._matched, len(self._stored)
        if not size:
            return list(range(len(hashes))), 0
        fresh, first = [], 0
        with self._lock:
            for place, value in enumerate(hashes):
                at = bisect_left(stored, value)
                if at == size or stored[at] != value or matched[at]:
                    fresh.append(place)
                else:
                    matched[at] = _MATCHED
                    first += 1
            self.matched += first
        return fresh, first

    def was_matched(self, fingerprint: int) -> bool:
        """Whether a record with this fingerprint has come."""
        at = bisect_left(self._stored, fingerprint)
        return at < len(self._stored) and self._stored[at] == fingerprint and bool(self._matched[at])

    def take_back(self, fingerprint: int) -> None:
        """Counts a match no more, since another record with its key came after it; that it came is still known."""
        at = bisect_left(self._stored, fingerprint)
        with self._lock:
            if at < len(self._stored) and self._stored[at] == fingerprint and self._matched[at] == _MATCHED:
                self._matched[at] = _TAKEN_BACK
                self.matched -= 1

    def unmatched(self) -> Iterator[int]:
        """The fingerprints that no record had: rows that have changed or are gone."""
        matched = self._matched
        at = matched.find(0)
        while at >= 0:
            yield self._stored[at]
            at = matched.find(0, at + 1)
