"""One step of a source at a time, whatever started it; and slots that come back when a process is killed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import dagster as dg
import psutil
import pytest

from bdc_pipeline.operations.slots import PROCESS, free_slots_of_the_dead, held_by_others, is_gone, process_tag
from bdc_pipeline_tests.processes import line_of
from bdc_pipeline_tests.waiting import until

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

HOLDER = f"""
import sys, dagster as dg
from bdc_pipeline.operations.slots import process_tag

@dg.op(pool="shop")
def fetch():
    print("holding", flush=True)
    sys.stdin.read()

@dg.graph_asset
def things():
    return fetch()

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    result = dg.materialize([things], instance=instance, tags=process_tag(), run_config={QUIET!r})
    print("done" if result.success else "failed", flush=True)
"""
"""A run whose step is in the shop's pool and ends when standard input does."""


class Holder:
    """That run, in a process of its own."""

    def __init__(self, home: Path) -> None:
        arguments = [sys.executable, "-c", HOLDER, str(home)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def says(self) -> str:
        """The next word."""
        return line_of(self.process, self.process.stdout).strip()

    def release(self) -> None:
        """Lets its step end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        """Ends it without a word."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on disk with the configuration that the project ships."""
    (tmp_path / "dagster.yaml").write_text((files("bdc_pipeline") / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def things(name: str, work: Callable[[], None]) -> dg.AssetsDefinition:
    """An asset whose fetch is in the shop's pool."""

    @dg.op(name=f"fetch_{name}", pool="shop")
    def fetch() -> None:
        work()

    @dg.graph_asset(name=name)
    def asset() -> None:
        return fetch()  # type: ignore[no-any-return]

    return asset


def waiting(instance: dg.DagsterInstance) -> int:
    """How many steps wait for the shop's pool."""
    if "shop" not in instance.event_log_storage.get_concurrency_keys():
        return 0
    return instance.event_log_storage.get_concurrency_info("shop").pending_step_count


@pytest.mark.slow
def test_runs_of_one_source_take_turns_and_a_killed_one_gives_its_turn_back(
    home: dg.DagsterInstance, tmp_path: Path
) -> None:
    first, second = Holder(tmp_path), None
    try:
        assert first.says() == "holding"
        [holder] = held_by_others(home, {"shop"})
        second = Holder(tmp_path)
        until(lambda: waiting(home))
        # the first is alive, so nothing is taken from it
        assert free_slots_of_the_dead(home) == []
        assert held_by_others(home, {"shop"}) == [holder]
        assert held_by_others(home, {"other"}) == []
        first.kill()
        [told] = free_slots_of_the_dead(home)
        assert holder[:8] in told
        run = home.get_run_by_id(holder)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
        assert second.says() == "holding"
        second.release()
        assert second.says() == "done"
        assert held_by_others(home, {"shop"}) == []
    finally:
        for one in filter(None, (first, second)):
            one.kill()


def test_a_slot_of_a_run_that_has_ended_is_freed(home: dg.DagsterInstance) -> None:
    result = dg.materialize([things("one", lambda: None)], instance=home, run_config=QUIET)
    home.event_log_storage.claim_concurrency_slot("shop", result.run_id, "fetch_one")
    assert held_by_others(home, {"shop"}) == [result.run_id]
    assert free_slots_of_the_dead(home) == []
    assert held_by_others(home, {"shop"}) == []


def test_an_instance_in_memory_has_no_slots(instance: dg.DagsterInstance) -> None:
    assert free_slots_of_the_dead(instance) == []
    assert held_by_others(instance, {"shop"}) == []


def test_a_process_is_told_by_host_number_and_beginning() -> None:
    mine = process_tag()[PROCESS]
    assert not is_gone(mine)
    host, pid, began = mine.split()
    assert is_gone(f"{host} {pid} {float(began) - 100:.2f}")  # the number was another process's
    free = next(number for number in range(2**22 - 1, 0, -1) if not psutil.pid_exists(number))
    assert is_gone(f"{host} {free} {began}")
    assert not is_gone(f"elsewhere {free} {began}")
    assert not is_gone("something else")
