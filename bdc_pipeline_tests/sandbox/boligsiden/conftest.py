from collections.abc import Iterator

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.boligsiden.homes import homes


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """A sandbox that no test changes; 100 hits of a search are two pages."""
    with homes(hit_cap=100, zipless_share=0.02) as sandbox:
        yield sandbox


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox for one test to change."""
    with homes() as sandbox:
        yield sandbox
