"""What counts mean: whether so many rows may vanish, and whether what came explains what the source counts.

Pure decisions, made of numbers alone; a number that is not known is None. What is done about them is in
`completeness.py` and `vanishing.py`.
"""

from __future__ import annotations

from bdc_pipeline.warehouse.drain_options import DrainOptions

FEW_ROWS = 5
"""So many rows of a partition may vanish in one go whatever their share is, as long as others stay."""


def vanish_allowed(candidates: int, live: int, options: DrainOptions) -> bool:
    """Whether so many of a partition's live rows may be marked as vanished without an explicit yes.

    Never all of them: an empty answer is what a source in trouble gives.
    """
    if options.allow_vanish or candidates == 0:
        return True
    return candidates < live and candidates <= max(FEW_ROWS, options.max_vanish_share * live)


def doubt(total: int | None, stored: int, rejected: int, *, verified: bool) -> str:
    """Why a listing of changes leaves a partition incomplete; empty where it does not.

    More rows than the source counts are no doubt: some came after it counted, or were deleted since.
    """
    if total is not None and stored + rejected < total:
        return unaccounted(total, stored, rejected)
    return "" if verified else "only its changes were fetched, and it was never listed in full"


def unaccounted(expected: int, stored: int, rejected: int) -> str:
    """The sentence about a count that does not add up."""
    return (
        f"the source counts {expected} records, {stored} are stored and {rejected} rejected: "
        f"{expected - stored - rejected:+d} is not accounted for"
    )


def plus(total: int | None, more: int | None) -> int | None:
    """A sum, unknown where one of its parts is."""
    return None if total is None or more is None else total + more
