"""Fixtures of the tests of the DMR source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline_tests.sources.dmr.syncing import Copy, Shelf, copying


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A sandbox with 400 devices for one test to change, and what will be kept of it."""
    with copying(tmp_path) as made:
        yield made


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty cache and no file, without a server."""
    return Shelf(tmp_path)
