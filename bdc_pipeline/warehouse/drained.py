"""What a drain did: what its caller gets back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.stream import Effort, Reject


@dataclass(slots=True)
class Drained:
    """What a drain did, as committed.

    `complete`, `limited` and `incomplete` hold, by table name, the partitions (None for a table without) and, for the
    incomplete ones, why. Limited ones were cut short by an option: nothing is missing of what was asked for, but they
    are not complete.
    """

    run_id: str
    counts: dict[str, TableCounts]
    complete: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    incomplete: dict[str, dict[str | None, str]] = field(default_factory=lambda: defaultdict(dict))
    limited: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    partition_counts: dict[str, dict[str | None, int]] = field(default_factory=lambda: defaultdict(dict))
    rejects: list[Reject] = field(default_factory=list)
    effort: Effort = field(default_factory=Effort)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing of what was asked for."""
        return not any(self.incomplete.values())
