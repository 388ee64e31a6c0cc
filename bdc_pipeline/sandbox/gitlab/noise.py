"""Randomness that follows from numbers alone: cheap enough to make any job again whenever it is asked for.

`random.Random` takes twenty times as long to be seeded as a job takes to be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")
_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


class Noise:
    """A stream of numbers that is the same for the same parts (splitmix64)."""

    __slots__ = ("_state",)

    def __init__(self, *parts: int) -> None:
        self._state = 0
        for part in parts:
            self._state = (self.next() ^ part) & _MASK

    def next(self) -> int:
        """A number of 64 bits."""
        self._state = state = (self._state + _STEP) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, bound: int) -> int:
        """From 0 to below a bound."""
        return self.next() % bound

    def unit(self) -> float:
        """From 0 to below 1."""
        return (self.next() >> 11) / (1 << 53)

    def chance(self, share: float) -> bool:
        """Whether something that happens so often happens now."""
        return self.unit() < share

    def pick(self, values: Sequence[_T]) -> _T:
        """One of these."""
        return values[self.next() % len(values)]

    def hexadecimal(self, digits: int) -> str:
        """So many digits, as in a commit's id."""
        text = ""
        while len(text) < digits:
            text += f"{self.next():016x}"
        return text[:digits]
