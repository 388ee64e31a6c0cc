"""What holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

# How fast the machine is just now says nothing about the code: no example has a deadline, no generation is too slow
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Ctrl-C interrupts, also where the tests were started in the background of a shell, whose children ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
