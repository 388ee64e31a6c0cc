"""A SQLite database on a file share, used by several people at local speed.

Read it in this order: `model.py` (what travels), `capture.py` (what has changed here), `segment.py` and `log.py` (how it
reaches the others), `rules.py` and `apply.py` (how two edits of one row meet), `view.py` and `growth.py` (what keeps the
share readable and small), `cycle.py` (one sync), `database.py` (what programs use).

Nothing here imports Dagster but `assets.py`, and importing the package imports nothing: the process that talks to the
share starts in a fraction of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdc_pipeline.share.database import SharedDatabase

__all__ = ["SharedDatabase"]


def __getattr__(name: str) -> Any:
    if name == "SharedDatabase":
        from bdc_pipeline.share.database import SharedDatabase  # noqa: PLC0415

        return SharedDatabase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
