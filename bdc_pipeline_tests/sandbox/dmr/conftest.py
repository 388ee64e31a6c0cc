from collections.abc import Iterator

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.dmr.getting import registries_sandbox


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """A sandbox whose data no test changes; who configures it, configures all that matters to it."""
    with registries_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox for one test to change."""
    with registries_sandbox() as sandbox:
        yield sandbox
