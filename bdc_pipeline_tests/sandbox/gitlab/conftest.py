from collections.abc import Iterator

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import gitlab_sandbox


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """A sandbox whose data no test changes; who configures it, configures all that matters to it."""
    with gitlab_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox for one test to change."""
    with gitlab_sandbox(projects=3, pipelines_per_project=9, jobs_per_pipeline=10) as sandbox:
        yield sandbox
