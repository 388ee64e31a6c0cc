"""What is required of the load path, and whether it was met. All ratios are of CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.loading.contest import DLT, FLOOR, MANAGER, PANDAS, SQLITE_UTILS, STEPS, Outcome

DEFAULT = MANAGER["parallel"]
STREAMING = MANAGER["streaming"]

PEERS = (
    (SQLITE_UTILS, 6.0),
    (f"{SQLITE_UTILS}, not in WAL mode", 6.0),
    (PANDAS, 4.0),
    (f"{PANDAS}, through SQLAlchemy", 4.0),
)
"""Each with faster settings, and as its documentation has it; and how many times faster than that ours is to be."""

MOST_MB = 20.0
"""What streaming may take above the imports, whatever the number of records."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One requirement; `figure` is None where it was not measured."""

    text: str
    figure: float | None
    limit: float
    at_most: bool
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether it was; None where it was not measured."""
        if self.figure is None:
            return None
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit


def judge(outcomes: Mapping[str, Outcome]) -> list[Verdict]:
    """All requirements, for each data set that was loaded."""
    return [verdict for outcome in outcomes.values() for verdict in _of(outcome)]


def _of(outcome: Outcome) -> Iterator[Verdict]:
    where = f"{outcome.data.name}: "
    for kind, name in MANAGER.items():
        if kind != "streaming":
            yield Verdict(
                f"{where}first load over the floor, {kind}",
                _ratio(outcome, (name, "first"), (FLOOR, "first")),
                1.3,
                at_most=True,
            )
    own = (DEFAULT, "first")
    yield Verdict(
        f"{where}unchanged, faster than the first", _ratio(outcome, own, (DEFAULT, "unchanged")), 6, at_most=False
    )
    yield Verdict(
        f"{where}1 % changed, faster than the first", _ratio(outcome, own, (DEFAULT, "changed")), 2, at_most=False
    )
    for peer, limit in (*PEERS, (DLT, 12.0)):
        yield Verdict(
            f"{where}first load, faster than {peer}", _ratio(outcome, (peer, "first"), own), limit, at_most=False
        )
    dlt = _ratio(outcome, (DLT, "unchanged"), (DEFAULT, "unchanged"))
    yield Verdict(f"{where}unchanged, faster than dlt", dlt, 50, at_most=False)
    yield Verdict(f"{where}streaming, peak memory", _peak(outcome), MOST_MB, at_most=True, unit=" MB")
    rate = _ratio(outcome, own, (STREAMING, "first"))
    yield Verdict(f"{where}streaming, rate over parallel's", rate, 0.75, at_most=False)


def _ratio(outcome: Outcome, over: tuple[str, str], under: tuple[str, str]) -> float | None:
    above, below = outcome.cost(*over), outcome.cost(*under)
    if above is None or below is None:
        return None
    # what is too short to be told from an empty materialization counts as a millisecond
    return above.cpu / max(below.cpu, 0.001)


def _peak(outcome: Outcome) -> float | None:
    costs = [cost for step in STEPS if (cost := outcome.cost(STREAMING, step))]
    return max((cost.memory_mb for cost in costs), default=None)
