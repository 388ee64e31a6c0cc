from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.fetching import pool
from bdc_pipeline.fetching.pool import Done, Failed, Idle, NotTried, Outcome, Pool, Stop, Stopped, Task
from bdc_pipeline_tests.waiting import SECONDS, until


def names(outcomes: list[Outcome]) -> list[str]:
    return sorted(outcome.task.name for outcome in outcomes)


def returning(name: str, value: object = None) -> Task:
    return Task(name, lambda spawn: value)


def failing(name: str, error: Exception) -> Task:
    def run(spawn):
        raise error

    return Task(name, run)


class Gate:
    """A task body that tells when it has begun and goes on when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, spawn) -> str:
        self.begun.release()
        assert self.open.wait(SECONDS)
        return "through"

    def await_begun(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.begun.acquire(timeout=SECONDS)


# Every task in, one outcome out


@st.composite
def trees(draw) -> list:
    """Tasks that return or fail, with follow-ups that do so too: (does it fail, its follow-ups)."""
    tree = st.recursive(
        st.tuples(st.booleans(), st.just(())),
        lambda children: st.tuples(st.booleans(), st.lists(children, max_size=4).map(tuple)),
        max_leaves=12,
    )
    return draw(st.lists(tree, max_size=12))


def planted(tree: tuple, name: str, started: list[str]) -> Task:
    fails, children = tree

    def run(spawn):
        started.append(name)
        for number, child in enumerate(children):
            spawn(planted(child, f"{name}.{number}", started))
        if fails:
            raise ValueError(name)
        return name

    return Task(name, run)


def names_in(tree: tuple, name: str) -> Iterator[str]:
    yield name
    for number, child in enumerate(tree[1]):
        yield from names_in(child, f"{name}.{number}")


@settings(max_examples=60)
@given(forest=trees(), workers=st.integers(1, 6), ahead=st.integers(1, 4))
def test_every_task_and_follow_up_gives_exactly_one_outcome(forest, workers, ahead):
    expected = sorted(name for number, tree in enumerate(forest) for name in names_in(tree, str(number)))
    tasks = (planted(tree, str(number), []) for number, tree in enumerate(forest))
    outcomes = list(Pool(workers, ahead=ahead).run(tasks))
    assert names(outcomes) == expected
    assert not any(isinstance(outcome, NotTried) for outcome in outcomes)
    assert all(outcome.value == outcome.task.name for outcome in outcomes if isinstance(outcome, Done))
    assert all(str(outcome.error) == outcome.task.name for outcome in outcomes if isinstance(outcome, Failed))


@settings(max_examples=60)
@given(forest=trees(), workers=st.integers(1, 6), budget=st.integers(0, 5), stop_after=st.none() | st.integers(0, 10))
def test_whatever_cuts_a_run_short_each_task_that_came_up_gives_exactly_one_outcome(
    forest, workers, budget, stop_after
):
    started: list[str] = []
    stop = Stop()
    pool = Pool(workers, error_budget=budget, stop=stop)
    outcomes = []
    for outcome in pool.run(planted(tree, str(number), started) for number, tree in enumerate(forest)):
        outcomes.append(outcome)
        if len(outcomes) == stop_after:
            stop.set("enough")
    counts = Counter(outcome.task.name for outcome in outcomes)
    assert set(counts.values()) <= {1}
    assert {str(number) for number in range(len(forest))} <= set(counts)
    tried = {outcome.task.name for outcome in outcomes if not isinstance(outcome, NotTried)}
    assert tried == set(started)
    # A task that ran has announced its follow-ups, so they are among the outcomes too
    everything = {name for number, tree in enumerate(forest) for name in names_in(tree, str(number))}
    assert {name for name in everything if name.rpartition(".")[0] in tried} <= set(counts)


def test_done_tells_the_value_and_how_long_it_took():
    [outcome] = Pool(1).run([returning("a", 7)])
    assert isinstance(outcome, Done)
    assert outcome.value == 7
    assert 0 <= outcome.seconds < 5


def test_no_tasks_give_no_outcomes():
    assert list(Pool(3).run([])) == []


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "ahead": 0}])
def test_a_pool_without_workers_or_room_is_refused(options):
    with pytest.raises(ValueError, match="at least one"):
        Pool(**options)


# How many at once


def test_as_many_tasks_run_at_once_as_there_are_workers():
    together = threading.Barrier(8)
    outcomes = list(Pool(8).run(Task(str(n), lambda spawn: together.wait(SECONDS)) for n in range(16)))
    assert all(isinstance(outcome, Done) for outcome in outcomes)


def test_tasks_are_pulled_one_by_one_as_threads_become_idle():
    pulled: list[int] = []

    def endless() -> Iterator[Task]:
        for number in itertools.count():
            pulled.append(number)
            yield returning(str(number), number)

    run = Pool(4, ahead=8).run(endless())
    for _ in range(20):
        next(run)
    run.close()
    assert len(pulled) <= 20 + 8 + 4


def test_a_slow_consumer_holds_the_workers_back():
    started: list[int] = []

    def run_of(number: int) -> Task:
        return Task(str(number), lambda spawn: started.append(number))

    run = Pool(3, ahead=5).run(run_of(number) for number in range(1000))
    next(run)
    until(lambda: len(started) >= 6)
    idle = threading.Event()
    assert not idle.wait(0.05)  # were they not held back, thousands would fit into this
    assert len(started) <= 1 + 5 + 3
    assert len(list(run)) == 999


def test_results_come_as_they_complete_not_in_the_order_of_the_tasks():
    gate = Gate()
    run = Pool(2).run([Task("slow", gate), returning("quick")])
    assert next(run).task.name == "quick"
    gate.open.set()
    assert next(run).task.name == "slow"


def test_follow_ups_go_before_the_next_task():
    order: list[str] = []

    def task(name: str, *follow_ups: Task) -> Task:
        def run(spawn):
            order.append(name)
            for follow_up in follow_ups:
                spawn(follow_up)

        return Task(name, run)

    list(Pool(1).run([task("1", task("1.1", task("1.1.1")), task("1.2")), task("2")]))
    assert order == ["1", "1.2", "1.1", "1.1.1", "2"]


def test_follow_ups_reach_idle_threads_while_the_iterable_is_slow():
    pulling, go_on = threading.Event(), threading.Event()

    def parent(spawn):
        assert pulling.wait(SECONDS)
        spawn(returning("child"))

    def tasks() -> Iterator[Task]:
        yield Task("parent", parent)
        pulling.set()
        assert go_on.wait(SECONDS)

    run = Pool(2).run(tasks())
    assert {next(run).task.name, next(run).task.name} == {"parent", "child"}
    go_on.set()
    assert list(run) == []


def test_a_chain_of_a_thousand_follow_ups_ends():
    def page(number: int) -> Task:
        def run(spawn):
            if number < 1000:
                spawn(page(number + 1))

        return Task(str(number), run)

    assert len(list(Pool(4, ahead=1).run([page(1)]))) == 1000


def test_a_task_that_has_ended_cannot_add_follow_ups():
    kept = []
    list(Pool(1).run([Task("a", kept.append)]))
    with pytest.raises(RuntimeError, match="a has ended, so it cannot add b"):
        kept[0](returning("b"))


# Failures


def test_one_failure_stops_nothing_else():
    outcomes = list(Pool(2).run([failing("bad", ValueError("no")), *(returning(str(n)) for n in range(20))]))
    assert [outcome.task.name for outcome in outcomes if isinstance(outcome, Failed)] == ["bad"]
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == 20


def test_more_failures_than_the_budget_stop_the_rest():
    outcomes = list(Pool(1, error_budget=2).run(failing(str(n), ValueError("no")) for n in range(10)))
    assert sum(isinstance(outcome, Failed) for outcome in outcomes) == 3
    left = [outcome for outcome in outcomes if isinstance(outcome, NotTried)]
    assert len(left) == 7
    assert left[0].reason == "Not tried, because 3 tasks had failed, which is more than the 2 allowed."


def test_failures_that_follow_from_another_spend_nothing_of_the_budget():
    tasks = [failing("first", ValueError("refused")), *(failing(str(n), LookupError("as the first")) for n in range(9))]
    outcomes = list(Pool(1, error_budget=1, implied=(LookupError,)).run(tasks))
    assert [type(outcome) for outcome in outcomes] == [Failed] * 10


def test_a_budget_of_failures_may_be_used_up_to_the_last():
    tasks = [*(failing(str(n), ValueError("no")) for n in range(2)), returning("last")]
    assert not any(isinstance(outcome, NotTried) for outcome in Pool(1, error_budget=2).run(tasks))


def test_the_rest_of_a_long_iterable_is_reported_when_the_budget_is_spent():
    outcomes = Pool(4, error_budget=0).run(failing(str(n), ValueError("no")) for n in range(20_000))
    kinds = Counter(type(outcome).__name__ for outcome in outcomes)
    assert sum(kinds.values()) == 20_000
    assert kinds["Failed"] <= 4


def test_a_fatal_failure_stops_the_rest_at_once_follow_ups_too():
    def run(spawn):
        spawn(returning("child"))
        raise PermissionError("The token is not valid.")

    tasks = [Task("first", run), returning("second"), returning("third")]
    outcomes = list(Pool(1, fatal=(PermissionError,)).run(tasks))
    assert {outcome.task.name: type(outcome) for outcome in outcomes} == {
        "first": Failed,
        "child": NotTried,
        "second": NotTried,
        "third": NotTried,
    }
    assert isinstance(outcomes[-1], NotTried)
    assert outcomes[-1].reason == (
        "Not tried, because first failed in a way that the rest would too: The token is not valid."
    )


def test_an_error_of_the_iterable_is_raised_after_what_was_in_flight():
    gate = Gate()

    def tasks() -> Iterator[Task]:
        yield Task("in flight", gate)
        gate.await_begun()
        gate.open.set()
        raise LookupError("no more pages")

    seen = []
    with pytest.raises(LookupError, match="no more pages"):
        seen.extend(outcome.task.name for outcome in Pool(2).run(tasks()))
    before = set(threading.enumerate())
    run = Pool(2).run(iter_then_raise())
    with pytest.raises(LookupError):
        list(run)
    assert set(threading.enumerate()) <= before


def iter_then_raise() -> Iterator[Task]:
    yield returning("one")
    raise LookupError("no more pages")


def test_what_came_before_an_error_of_the_iterable_is_delivered():
    run = Pool(1).run(iter_then_raise())
    assert next(run).task.name == "one"
    with pytest.raises(LookupError):
        next(run)


def test_an_exit_asked_for_in_a_task_reaches_the_consumer():
    def leave(spawn):
        spawn(returning("child"))
        raise SystemExit(3)

    seen = []
    with pytest.raises(SystemExit):
        seen.extend(outcome.task.name for outcome in Pool(1).run([Task("leave", leave), returning("next")]))


# Stopping


def test_after_a_stop_what_is_in_flight_arrives_and_the_rest_is_not_tried():
    gate, stop = Gate(), Stop()
    run = Pool(2, stop=stop).run(Task(str(number), gate) for number in range(10))
    outcomes: list[Outcome] = []
    consumer = threading.Thread(target=lambda: outcomes.extend(run))
    consumer.start()
    gate.await_begun(2)
    stop.set("Ctrl-C")
    gate.open.set()
    consumer.join(SECONDS)
    assert names(outcomes) == sorted(str(number) for number in range(10))
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == 2
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, NotTried)}
    assert reasons == {"Not tried, because the run was stopped: Ctrl-C."}


def test_a_thread_that_hangs_is_abandoned_soon_after_a_stop(monkeypatch: pytest.MonkeyPatch):
    # in which a thread that does not hang reports what is left, also where it does not get to it at once
    monkeypatch.setattr(pool, "_TIME_TO_REPORT", 3.0)
    gate, stop = Gate(), Stop()
    run = Pool(2, stop=stop, grace=0.2).run(Task(str(number), gate) for number in range(4))
    outcomes: list[Outcome] = []
    consumer = threading.Thread(target=lambda: outcomes.extend(run))
    consumer.start()
    gate.await_begun(2)
    began = time.monotonic()
    stop.set("Ctrl-C")
    consumer.join(SECONDS)
    # those that hang would go on for a minute
    assert time.monotonic() - began < 30
    assert names(outcomes) == ["0", "1", "2", "3"]
    abandoned = [o for o in outcomes if isinstance(o, NotTried) and o.reason.startswith("Abandoned")]
    assert names(abandoned) == ["0", "1"]
    assert abandoned[0].reason == (
        "Abandoned: it had not arrived 0.2 s after the run was stopped. Not tried, because the run was stopped: Ctrl-C."
    )
    gate.open.set()
    until(lambda: not any(thread.name.startswith("fetch-") for thread in threading.enumerate()))


def test_an_abandoned_task_cannot_add_follow_ups():
    begun, go_on, raised = threading.Event(), threading.Event(), threading.Event()

    def run(spawn):
        begun.set()
        assert go_on.wait(SECONDS)
        with pytest.raises(Stopped):
            spawn(returning("late"))
        raised.set()

    stop = Stop()
    outcomes = Pool(1, stop=stop, grace=0.05).run([Task("hangs", run)])
    threading.Thread(target=lambda: (begun.wait(SECONDS), stop.set())).start()
    assert names(list(outcomes)) == ["hangs"]
    go_on.set()
    assert raised.wait(SECONDS)


def test_a_stop_ends_a_run_over_an_endless_iterable():
    stop = Stop()
    run = Pool(2, stop=stop, grace=0.1).run(returning(str(number)) for number in itertools.count())
    next(run)
    began = time.monotonic()
    stop.set()
    assert all(isinstance(outcome, NotTried) for outcome in list(run)[-1:])
    assert time.monotonic() - began < 30


def test_what_has_arrived_is_delivered_to_a_consumer_that_learns_of_the_stop_late(monkeypatch: pytest.MonkeyPatch):
    # nothing hangs, so that it is over long before
    monkeypatch.setattr(pool, "_TIME_TO_REPORT", SECONDS)
    stop = Stop()
    run = Pool(2, stop=stop, grace=0.0).run(returning(str(number)) for number in range(100))
    outcomes = [next(run)]
    stop.set()
    outcomes += run
    assert names(outcomes) == sorted(str(number) for number in range(100))


def test_an_iterable_that_hangs_does_not_hold_up_a_stop():
    pulling, go_on, stop = threading.Event(), threading.Event(), Stop()

    def tasks() -> Iterator[Task]:
        yield returning("one")
        pulling.set()
        go_on.wait(SECONDS)

    run = Pool(2, stop=stop, grace=0.1).run(tasks())
    assert next(run).task.name == "one"
    assert pulling.wait(SECONDS)
    stop.set()
    assert list(run) == []
    go_on.set()


def test_an_iterable_that_is_stopped_itself_just_ends():
    stop = Stop()

    def tasks() -> Iterator[Task]:
        yield returning("one")
        stop.set("enough")
        stop.raise_if_set()

    assert names(list(Pool(1, stop=stop).run(tasks()))) == ["one"]


def test_a_task_that_was_stopped_counts_as_not_tried():
    def run(spawn):
        raise Stopped("Ctrl-C")

    [outcome] = Pool(1).run([Task("a", run)])
    assert outcome == NotTried(outcome.task, "Stopped before it was complete: Ctrl-C.")


def test_nothing_starts_when_the_run_was_stopped_before():
    stop = Stop()
    stop.set("too late")
    outcomes = list(Pool(3, stop=stop).run(returning(str(n)) for n in range(5000)))
    assert len(outcomes) == 5000
    assert all(isinstance(outcome, NotTried) for outcome in outcomes)


def test_a_task_that_hangs_does_not_hold_up_the_exit_of_the_interpreter():
    program = """
import threading
from bdc_pipeline.fetching.pool import Pool, Stop, Task
stop, begun = Stop(), threading.Event()
def hang(spawn):
    begun.set()
    threading.Event().wait()
threading.Thread(target=lambda: (begun.wait(), stop.set("over"))).start()
print([outcome.reason for outcome in Pool(1, stop=stop, grace=0.1).run([Task("a", hang)])])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "Abandoned" in ended.stdout


# Giving up the iterator


def test_closing_the_iterator_ends_the_threads_and_the_iterable():
    before = set(threading.enumerate())
    closed = threading.Event()

    def tasks() -> Iterator[Task]:
        try:
            for number in itertools.count():
                yield returning(str(number))
        finally:
            closed.set()

    run = Pool(8).run(tasks())
    next(run)
    run.close()
    assert set(threading.enumerate()) <= before
    assert closed.is_set()


def test_an_error_in_the_consumer_ends_the_threads():
    before = set(threading.enumerate())

    def take_one() -> None:
        for _ in Pool(8).run(returning(str(number)) for number in itertools.count()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take_one()
    until(lambda: set(threading.enumerate()) <= before)


def test_a_run_that_is_never_taken_from_starts_no_thread():
    before = set(threading.enumerate())
    run = Pool(8).run([returning("a")])
    assert set(threading.enumerate()) <= before
    run.close()


def test_all_threads_have_ended_when_the_last_outcome_is_taken():
    before = set(threading.enumerate())
    list(Pool(8).run(returning(str(number)) for number in range(100)))
    # one that another test has left may end meanwhile
    assert set(threading.enumerate()) <= before


def test_few_tasks_start_few_threads():
    threads = set[str]()

    def run(spawn) -> None:
        threads.update(thread.name for thread in threading.enumerate() if thread.name.startswith("few-"))

    list(Pool(50, name="few").run(Task(str(number), run) for number in range(3)))
    # one that finds a task starts the next, which then finds none
    assert threads <= {f"few-{number}" for number in range(4)}


def test_follow_ups_start_the_threads_that_they_need():
    together = threading.Barrier(8)

    def run(spawn) -> None:
        together.wait(SECONDS)

    def fan_out(spawn) -> None:
        for number in range(7):
            spawn(Task(str(number), run))
        together.wait(SECONDS)

    outcomes = list(Pool(8).run([Task("first", fan_out)]))
    assert [type(outcome) for outcome in outcomes] == [Done] * 8


# Idle


def test_idle_is_told_once_whenever_nothing_arrives():
    first, second = Gate(), Gate()
    first.open.set()
    seen: list[str] = []
    for outcome in Pool(2).run_telling_idle([Task("first", first), Task("second", second)], idle_after=0.001):
        if not isinstance(outcome, Idle):
            seen.append(outcome.task.name)
            continue
        seen.append("idle")
        second.open.set()
    assert seen[:3] == ["first", "idle", "second"]
    # behind the last one it may be told once more, if the threads take longer to notice that it was the last
    assert seen[3:] in ([], ["idle"])


def test_idle_is_not_told_before_anything_has_arrived():
    gate = Gate()
    opening = threading.Timer(0.05, gate.open.set)
    opening.start()
    outcomes = list(Pool(2).run_telling_idle([Task("only", gate)], idle_after=0.001))
    opening.join()
    first, *more = [type(outcome) for outcome in outcomes]
    assert first is Done
    assert more in ([], [Idle])


def test_a_pool_runs_as_often_as_it_is_asked_and_each_run_has_its_own_budget():
    pool = Pool(2, error_budget=0)
    for _ in range(3):
        [outcome] = pool.run([failing("a", ValueError("no"))])
        assert isinstance(outcome, Failed)


# The flag


def test_waiting_ends_as_soon_as_the_flag_is_set():
    stop, waiting = Stop(), threading.Event()
    told: list[bool] = []

    def wait():
        waiting.set()
        told.append(stop.wait(60))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(SECONDS)
    stop.set("now")
    thread.join(SECONDS)
    assert told == [True]


def test_the_first_reason_stays():
    stop = Stop()
    assert (stop.is_set(), stop.reason, stop.wait(0)) == (False, None, False)
    stop.raise_if_set()
    stop.set("Ctrl-C")
    stop.set("something else")
    assert (stop.is_set(), stop.reason, stop.wait(60)) == (True, "Ctrl-C", True)
    with pytest.raises(Stopped, match=r"^Ctrl-C$"):
        stop.raise_if_set()


def test_the_flag_can_be_set_by_a_signal_handler_in_the_midst_of_a_wait():
    program = """
import signal, threading
from bdc_pipeline.fetching.pool import Stop
stop = Stop()
signal.signal(signal.SIGALRM, lambda *_: stop.set("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.05)
print(stop.wait(60), stop.reason)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert ended.stdout.split() == ["True", "alarm"]
