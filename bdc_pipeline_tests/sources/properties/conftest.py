"""Fixtures of the tests of the source of Danish homes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline_tests.sources.properties.syncing import Copy, copying


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A sandbox with 360 villas and as many others as come with them, for one test to change."""
    with copying(tmp_path) as made:
        yield made
