"""How a table's rows divide into partitions: blocks of ids, or one for each value of a column.

A table that is not divided has one partition, None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bdc_pipeline.warehouse.sql import Where, quoted


class Partitioning(Protocol):
    """How a table's rows divide into partitions."""

    @property
    def column(self) -> str:
        """The column that decides."""
        ...

    def where(self, key: str) -> Where:
        """The SQL condition, with its values, that a partition's rows fulfil."""
        ...

    def key_of(self, value: Any) -> str:
        """The partition of a row whose `column` holds `value`."""
        ...


@dataclass(frozen=True, slots=True)
class IdBlocks:
    """Blocks of consecutive ids: `0-999`, `1000-1999`, ..."""

    column: str
    width: int = 1000

    def where(self, key: str) -> Where:
        """The ids of a block, both ends included."""
        low, high = self.bounds(key)
        return f"{quoted(self.column)} BETWEEN ? AND ?", (low, high)

    def key_of(self, value: Any) -> str:
        """The block that holds an id."""
        low = int(value) // self.width * self.width
        return f"{low}-{low + self.width - 1}"

    def bounds(self, key: str) -> tuple[int, int]:
        """The first and the last id of a block.

        Raises:
            ValueError: the key names no block of this width.
        """
        first, _, last = key.partition("-")
        if first.isdecimal() and last.isdecimal():
            low, high = int(first), int(last)
            # one spelling only: the ledger would take '00-9' for another partition than '0-9'
            if self.key_of(low) == key:
                return low, high
        raise ValueError(
            f"'{key}' is no block of {self.width} ids. Blocks are named by their first and last id, "
            f"such as '0-{self.width - 1}' or '{self.width}-{2 * self.width - 1}'."
        )


@dataclass(frozen=True, slots=True)
class ByValue:
    """One partition for each value of a column.

    `digits` goes with a column of integers: keys are padded to so many digits, such as `0101` for 101.
    """

    column: str
    digits: int = 0

    def where(self, key: str) -> Where:
        """Rows whose column holds the key.

        Raises:
            ValueError: the key is no number of so many digits.
        """
        if not self.digits:
            return f"{quoted(self.column)} = ?", (key,)
        if not key.isdecimal() or self.key_of(int(key)) != key:
            raise ValueError(f"'{key}' is no number of {self.digits} digits.")
        return f"{quoted(self.column)} = ?", (int(key),)

    def key_of(self, value: Any) -> str:
        """The value itself, as text."""
        return f"{value:0{self.digits}d}" if self.digits else str(value)


def keys_of(partitions: Sequence[str | None]) -> list[str] | None:
    """The keys of partitions, as `Table.where` takes them: None for a table that is not divided."""
    keys = [partition for partition in partitions if partition is not None]
    return keys or None


def named(partitions: Sequence[str | None]) -> str:
    """Partitions, as a sentence names them."""
    keys = [partition for partition in partitions if partition is not None]
    if not keys:
        return "(all)"
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
