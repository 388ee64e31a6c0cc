"""Ctrl-C, pressed at the right moment."""

import signal
import threading


def interrupt_when(event: threading.Event) -> threading.Thread:
    """Sends this process's main thread what Ctrl-C does, once something has come about."""

    def wait() -> None:
        assert event.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
