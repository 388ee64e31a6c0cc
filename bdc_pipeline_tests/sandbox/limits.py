"""A limit that surely bites: how many requests a second come to a sandbox depends on the machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.waiting import until


@contextmanager
def limited(sandbox: Sandbox, *, at_first: dict[str, Any], then: dict[str, Any]) -> Iterator[None]:
    """A limit that refuses whatever comes until it has refused something, and then is another."""
    sandbox.configure(**at_first)

    def loosen() -> None:
        until(lambda: sandbox.stats()["rate_limited"] > 0, "no request was refused")
        sandbox.configure(**then)

    loosening = threading.Thread(target=loosen)
    loosening.start()
    try:
        yield
    finally:
        loosening.join()
