"""Whether a request goes wrong, and how.

Decisions only, and the same ones in each run: which requests a share hits follows from the seed, the fault, the request's label
and how often that label was seen, not from the order in which threads happen to come. A repeated request is a new draw, so
retries can succeed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from bdc_pipeline.sandbox.options import Fault


class FaultPlan:
    """The faults of a sandbox, with the memory of what was seen and served."""

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self.seed = seed
        self._faults = [(fault, re.compile(fault.match) if fault.match is not None else None) for fault in faults]
        self._matched = [0] * len(self._faults)
        self._served = [0] * len(self._faults)
        self._seen: Counter[str] = Counter()

    def draw(self, label: str) -> Fault | None:
        """The fault that this request gets; the first one that applies."""
        if not self._faults:
            return None
        self._seen[label] += 1
        for i, (fault, pattern) in enumerate(self._faults):
            if pattern is not None and pattern.search(label) is None:
                continue
            self._matched[i] += 1
            if self._matched[i] <= fault.after or (fault.times is not None and self._served[i] >= fault.times):
                continue
            if fault.share < 1 and chance(self.seed, fault.kind, label, self._seen[label]) >= fault.share:
                continue
            self._served[i] += 1
            return fault
        return None


def chance(*parts: object) -> float:
    """A number from 0 to below 1 that follows from the parts alone, in every process alike."""
    digest = blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
