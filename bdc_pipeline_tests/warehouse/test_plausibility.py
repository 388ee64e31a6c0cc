"""What counts mean: how many rows may vanish, and which counts leave a partition in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from bdc_pipeline.warehouse.drain_options import DrainOptions
from bdc_pipeline.warehouse.plausibility import FEW_ROWS, doubt, plus, vanish_allowed


@pytest.mark.parametrize(
    ("candidates", "live", "options", "allowed"),
    [
        (0, 0, {}, True),
        (0, 100, {}, True),
        (1, 1, {}, False),
        (FEW_ROWS, FEW_ROWS, {}, False),
        (FEW_ROWS, FEW_ROWS + 1, {}, True),
        (FEW_ROWS + 1, FEW_ROWS + 2, {}, False),
        (20, 100, {}, True),
        (21, 100, {}, False),
        (100, 100, {}, False),
        (100, 100, {"max_vanish_share": 1.0}, False),
        (99, 100, {"max_vanish_share": 1.0}, True),
        (5, 100, {"max_vanish_share": 0.0}, True),
        (6, 100, {"max_vanish_share": 0.0}, False),
        (1, 1, {"allow_vanish": True}, True),
        (100, 100, {"allow_vanish": True}, True),
    ],
)
def test_few_rows_may_vanish_but_never_all_without_an_explicit_yes(
    candidates: int, live: int, options: dict[str, Any], allowed: bool
) -> None:
    assert vanish_allowed(candidates, live, DrainOptions(**options)) is allowed


@pytest.mark.parametrize(
    ("total", "stored", "rejected", "verified", "sentence"),
    [
        (10, 10, 0, True, ""),
        (10, 8, 2, True, ""),
        (10, 12, 0, True, ""),
        (None, 10, 0, True, ""),
        (10, 10, 0, False, "only its changes were fetched, and it was never listed in full"),
        (None, 10, 0, False, "only its changes were fetched, and it was never listed in full"),
        (10, 7, 1, True, "the source counts 10 records, 7 are stored and 1 rejected: +2 is not accounted for"),
        (10, 7, 1, False, "the source counts 10 records, 7 are stored and 1 rejected: +2 is not accounted for"),
    ],
)
def test_changes_leave_a_partition_in_doubt_that_holds_too_few_or_was_never_listed(
    total: int | None, stored: int, rejected: int, verified: bool, sentence: str
) -> None:
    assert doubt(total, stored, rejected, verified=verified) == sentence


def test_a_sum_is_unknown_where_one_of_its_parts_is() -> None:
    assert [plus(2, 3), plus(None, 3), plus(2, None), plus(None, None)] == [5, None, None, None]
