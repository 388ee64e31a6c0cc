"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Ctrl-C interrupts, also where the tests were started in the background of a shell, whose children ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
