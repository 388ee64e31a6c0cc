"""Fixtures of the tests of the source of GitLab's CI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying, copying_few_days


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A sandbox with every irregularity, synced once; for tests that change neither."""
    with copying(tmp_path_factory.mktemp("shared"), projects=3, pipelines_per_project=20, jobs_per_pipeline=10) as made:
        made.report = made.sync_all()
        yield made


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A small sandbox, for one test to change."""
    with copying_few_days(tmp_path) as made:
        yield made
