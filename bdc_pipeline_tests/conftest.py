"""What holds for all tests."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from bdc_pipeline.fetching import pacing

# How fast the machine is just now says nothing about the code: no example has a deadline, no generation is too slow
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Ctrl-C interrupts, also where the tests were started in the background of a shell, whose children ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def brief_pauses() -> Iterator[None]:
    """What a server does not tell the length of, sandboxes in these tests are over in no time. `test_pacing` has the real pauses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "UNTOLD_PAUSE", 0.01)
        patch.setattr(pacing, "LONGEST_UNTOLD", 0.05)
        yield
