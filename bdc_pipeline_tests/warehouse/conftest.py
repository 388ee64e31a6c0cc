"""Fixtures of the warehouse's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bdc_pipeline_tests.warehouse.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A file that is not there yet."""
    return Shop(tmp_path / "shop.db")
