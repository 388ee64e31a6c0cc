"""Work in a thread that no signal reaches."""

import threading
import time

import pytest

from bdc_pipeline.warehouse import interruption
from bdc_pipeline.warehouse.drained import Drained
from bdc_pipeline.warehouse.interruption import interruptibly
from bdc_pipeline_tests.warehouse.interrupts import interrupt_when


def test_a_fetch_that_does_not_listen_holds_an_interrupt_up_for_seconds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interruption, "STOP_SECONDS", 0.2)
    begun, let_go, gone = threading.Event(), threading.Event(), threading.Event()

    def work() -> Drained:
        begun.set()
        assert let_go.wait(60)
        gone.set()
        raise RuntimeError("nobody is there to hear this")

    presser = interrupt_when(begun)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interruptibly(work, lambda _: None)
    # it would be a minute if the end of the work were waited for
    assert time.monotonic() - began < 30
    assert not gone.is_set()
    presser.join()
    let_go.set()
    assert gone.wait(60)


def test_what_the_work_returns_or_raises_reaches_the_caller() -> None:
    done = Drained("run", {})
    assert interruptibly(lambda: done, lambda _: None) is done

    def fail() -> Drained:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        interruptibly(fail, lambda _: None)


def test_the_work_is_done_in_a_thread_that_no_signal_reaches() -> None:
    names: list[str] = []

    def work() -> Drained:
        names.append(threading.current_thread().name)
        return Drained("run", {})

    interruptibly(work, lambda _: None)
    assert names == ["drain"]
