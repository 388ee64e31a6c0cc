"""Work that no signal may cut in two.

What belongs here is how a drain is kept from Ctrl-C and from the end of a run, and how long it may take to end by itself. What
it has to commit is the drain's matter: see `drain.py`.
"""

import threading
from collections.abc import Callable

from bdc_pipeline.warehouse.drained import Drained

STOP_SECONDS = 4.5
"""How long a stop waits for what has arrived to be committed."""


def interruptibly(work: Callable[[], Drained], stop: Callable[[str], None]) -> Drained:
    """Runs a drain in a thread of its own, so that Ctrl-C or a terminated run cannot hit a transaction.

    Python delivers signals to the main thread between any two of its instructions. There they find a wait; the drain
    is asked to stop and has seconds to commit what arrived.
    """
    done = threading.Event()
    result: list[Drained] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again by the caller's thread)
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="drain", daemon=True)
    try:
        thread.start()
        while not done.wait(0.5):
            pass
    except BaseException:
        stop("interrupted")
        done.wait(STOP_SECONDS)
        raise
    thread.join()
    if errors:
        raise errors[0]
    return result[0]
