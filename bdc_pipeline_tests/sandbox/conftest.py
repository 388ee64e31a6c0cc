from collections.abc import Iterator

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.asking import small_sandbox


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """A sandbox that no test changes."""
    with small_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox for one test to change."""
    with small_sandbox() as sandbox:
        yield sandbox
