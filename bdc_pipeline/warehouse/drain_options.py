"""How a stream is drained: the options, and what holds where none is given."""

from __future__ import annotations

from dataclasses import dataclass

ROWS = 1000
"""Rows in a transaction, where neither the stream nor anybody else says otherwise."""


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """How a stream is drained.

    Args:
        commit_interval: rows a transaction; None for what suits the stream, else `ROWS`.
        commit_bytes: a transaction also ends with so many bytes of raw records, where rows tell theirs; None for any number.
        commit_seconds: and after so long.
        max_rejects: with more rejected records than this, the partitions that hold them are incomplete.
        max_vanish_share: the share of a partition's rows that may vanish in one go, from 0 to 1.
        allow_vanish: the explicit yes to any share.
        cache_kib: how much of the file SQLite keeps in memory; 16,000 makes bulk loads a fifth faster.
        index_late: tables that are empty get their indexes when all rows are there, which takes half the time.
    """

    commit_interval: int | None = None
    commit_bytes: int | None = None
    commit_seconds: float = 1.0
    max_rejects: int = 0
    max_vanish_share: float = 0.2
    allow_vanish: bool = False
    cache_kib: int = 2000
    index_late: bool = False
