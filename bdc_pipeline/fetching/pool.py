"""How many at once: a bounded pool of threads that runs tasks, delivers what they bring as it comes, and stops when asked.

What belongs here: starting, counting, giving up. What a task does (a page, a file, a log) and how fast it may go do not.

The threads are daemons of our own rather than `ThreadPoolExecutor`'s, because the interpreter waits for the latter at
exit: one thread in a read that never returns would turn Ctrl-C into a hang.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from bdc_pipeline.fetching.stopping import Stop, Stopped

__all__ = ["Done", "Failed", "Idle", "NotTried", "Outcome", "Pool", "Spawn", "Stop", "Stopped", "Task"]

T = TypeVar("T")

# How often a waiting consumer looks whether the run was asked to stop, in seconds.
_LOOK_UP_EVERY = 0.1
# When a consumer that was busy learns of a stop late, what is left to report gets so long all the same, in seconds.
_TIME_TO_REPORT = 0.5
# Outcomes of tasks that were not tried carry no payload, so more of them may wait than of those that do.
_NOT_TRIED_AHEAD = 1024
# Answers to requests that were sent together come within some milliseconds of each other, in seconds.
IDLE_AFTER = 0.01

Spawn: TypeAlias = "Callable[[Task[T]], None]"


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """One piece of work. `name` appears in failures, as in "accounts 1000-1999 page 3"."""

    name: str
    run: Callable[[Spawn[T]], T]
    """Does the work and returns what it brought; may add follow-up tasks by calling what it is given, while it runs."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A task that returned, what it returned, and how long it ran."""

    task: Task[T]
    value: T
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    """A task that raised."""

    task: Task[T]
    error: Exception


@dataclass(frozen=True, slots=True)
class NotTried(Generic[T]):
    """A task that was not started, or not awaited to its end; `reason` is a sentence."""

    task: Task[T]
    reason: str


@dataclass(frozen=True, slots=True)
class Idle:
    """No outcome of a task: none has arrived for a while, so that whoever takes them may do something else."""


Outcome: TypeAlias = Done[T] | Failed[T] | NotTried[T]


class Pool:
    """Runs tasks in a bounded number of threads and yields exactly one outcome for each, in the order of completion.

    workers: how many threads.
    ahead: no task starts while so many outcomes wait to be taken (default: twice the workers), so at most
        `ahead + workers` payloads are in memory when the consumer is slow.
    error_budget: how many tasks may fail before no further one is started; None for any number.
    fatal: an error of one of these types stops the rest at once (a refused token would fail every other task too).
    implied: an error of one of these types spends nothing of the budget: it follows from one that was counted already.
    stop: when set, no task starts any more; those in flight have `grace` seconds to arrive.
    """

    def __init__(
        self,
        workers: int,
        *,
        ahead: int | None = None,
        error_budget: int | None = None,
        fatal: tuple[type[Exception], ...] = (),
        implied: tuple[type[Exception], ...] = (),
        stop: Stop | None = None,
        grace: float = 3.0,
        name: str = "fetch",
    ) -> None:
        if workers < 1:
            raise ValueError(f"A pool needs at least one worker, not {workers}.")
        if ahead is not None and ahead < 1:
            raise ValueError(f"A pool must be allowed to be at least one outcome ahead, not {ahead}.")
        self.workers = workers
        self.ahead = ahead if ahead is not None else 2 * workers
        self.error_budget = error_budget
        self.fatal = fatal
        self.implied = implied
        self.stop = stop if stop is not None else Stop()
        self.grace = grace
        self.name = name

    def run(self, tasks: Iterable[Task[T]]) -> Iterator[Outcome[T]]:
        """Run the tasks and yield their outcomes as they come. Tasks are pulled from the iterable by idle threads.

        Follow-up tasks run before the next one is pulled. A failure stops nothing but itself until the error budget is
        spent or it is fatal; then everything left, the rest of the iterable included, comes out as `NotTried`.
        After a stop the iterator ends within `grace` and a bit: what is in flight then is `NotTried` ("Abandoned ..."),
        its threads are left to end by themselves, and what was not yet pulled from the iterable by then stays there.
        Giving up the iterator (closing it, or an exception around it) stops the threads.

        Raises whatever the iterable raises, after what was in flight has been yielded.
        """
        return cast("Iterator[Outcome[T]]", self._outcomes(tasks, idle_after=None))

    def run_telling_idle(self, tasks: Iterable[Task[T]], idle_after: float = IDLE_AFTER) -> Iterator[Outcome[T] | Idle]:
        """Run the tasks as `run` does, and yield `Idle` each time that for `idle_after` seconds no further outcome has arrived."""
        return self._outcomes(tasks, idle_after)

    def _outcomes(self, tasks: Iterable[Task[T]], idle_after: float | None) -> Iterator[Outcome[T] | Idle]:
        run = _Run(self, tasks, idle_after)
        run.start()
        try:
            yield from run.outcomes()
        finally:
            run.close()
        run.raise_if_broken()


class _Run(Generic[T]):
    """One run of a pool: the state that its threads share, all of it guarded by one lock."""

    def __init__(self, pool: Pool, tasks: Iterable[Task[T]], idle_after: float | None) -> None:
        self.pool = pool
        self.idle_after = idle_after
        self.tasks = iter(tasks)
        self.lock = threading.Lock()
        self.work = threading.Condition(self.lock)  # workers wait here: for a task, or for room
        self.arrived = threading.Condition(self.lock)  # the consumer waits here
        # Last in, first out: depth first finishes what was begun, and the number of follow-ups that wait stays at
        # depth x breadth where first in, first out would hold the whole breadth of the deepest level.
        self.follow_ups: list[Task[T]] = []
        self.results: deque[Outcome[T]] = deque()
        self.untold = False  # an outcome has been taken since `Idle` was told
        self.running: dict[int, Task[T]] = {}
        self.idle = 0  # threads that wait for a task or for room
        self.pulling = False  # a generator cannot be asked by two threads at once
        self.exhausted = False
        self.failures = 0
        self.halted: str | None = None  # why no further task starts, as a sentence
        self.closed = False  # nobody takes outcomes any more
        self.broken: BaseException | None = None  # what the iterable raised
        self.deadline = math.inf  # when those in flight are given up, once the run was stopped
        self.threads: list[threading.Thread] = []

    # The consumer's side

    def start(self) -> None:
        """Start the first thread. Each that finds a task starts the next, so that a few tasks cost a few threads."""
        with self.lock:
            self._start_thread()

    def _start_thread(self) -> None:
        number = len(self.threads)
        name = f"{self.pool.name}-{number}"
        thread = threading.Thread(target=self._work, args=(number,), name=name, daemon=True)
        # with the lock held, so that whoever sees it in the list may join it
        self.threads.append(thread)
        thread.start()

    def _start_further(self) -> None:
        """Start one more thread where there may be more to do than those that are idle can."""
        may_be_more = bool(self.follow_ups) or not (self.exhausted or self.broken is not None)
        if may_be_more and not self.idle and not self.closed and len(self.threads) < self.pool.workers:
            self._start_thread()

    def outcomes(self) -> Iterator[Outcome[T] | Idle]:
        while (batch := self._take()) is not None:
            yield from batch

    def _take(self) -> Sequence[Outcome[T] | Idle] | None:
        """Wait for the next outcome; several at once only when they are the last. None when there are no more."""
        with self.lock:
            while True:
                if self._is_over():
                    return None
                if self.pool.stop.is_set():
                    self._notice_stop()
                    if time.monotonic() >= self.deadline:
                        return self._abandon()
                if self.results:
                    self.work.notify()
                    self.untold = True
                    return [self.results.popleft()]
                idle_after = self.idle_after if self.untold else None
                arrived = self.arrived.wait(_LOOK_UP_EVERY if idle_after is None else idle_after)
                if idle_after is not None and not arrived:
                    self.untold = False
                    return [Idle()]

    def _is_over(self) -> bool:
        no_more = (self.exhausted or self.broken is not None) and not self.pulling
        return self.closed or (no_more and not self.follow_ups and not self.running and not self.results)

    def _notice_stop(self) -> None:
        if self.deadline < math.inf:
            return
        now = time.monotonic()
        since = self.pool.stop.since
        self.deadline = max((now if since is None else since) + self.pool.grace, now + _TIME_TO_REPORT)
        self._halt(self._stopped_sentence())
        # All others may hang in their tasks; this one reports what is left, since no task starts any more
        self._start_thread()

    def _abandon(self) -> list[Outcome[T]]:
        sentence = self._stopped_sentence()
        abandoned = f"Abandoned: it had not arrived {self.pool.grace:g} s after the run was stopped. {sentence}"
        left: list[Outcome[T]] = list(self.results)
        left += [NotTried(task, abandoned) for task in self.running.values()]
        left += [NotTried(task, sentence) for task in self.follow_ups]
        self.results.clear()
        self.running.clear()
        self.follow_ups.clear()
        self.closed = True
        self.work.notify_all()
        return left

    def close(self) -> None:
        """End the threads: those that are idle at once, those in a task with it, and those that hang not at all."""
        with self.lock:
            already_abandoned = self.closed
            self.closed = True
            self.work.notify_all()
            threads = list(self.threads)
        until = time.monotonic() + (0.2 if already_abandoned else self.pool.grace)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self.lock:
            close_tasks: Any = None if self.pulling else getattr(self.tasks, "close", None)
        if close_tasks is not None:
            close_tasks()

    def raise_if_broken(self) -> None:
        if self.broken is not None:
            raise self.broken

    # The workers' side

    def _work(self, number: int) -> None:
        while (task := self._next_task(number)) is not None:
            began = time.perf_counter()
            outcome: Outcome[T]
            spawn = _Spawner(self, number, task)
            try:
                value = task.run(spawn)
            except Stopped as stopped:
                outcome = NotTried(task, f"Stopped before it was complete: {stopped}.")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this task's outcome
                outcome = Failed(task, error)
            except BaseException as error:  # noqa: BLE001 - an exit asked for in a thread would otherwise be lost
                self._break(number, error)
                continue
            else:
                outcome = Done(task, value, time.perf_counter() - began)
                # A thread keeps its last variables while it waits: a page's rows would stay in memory as long.
                del value
            self._deliver(number, task, outcome)
            del task, outcome, spawn

    def _next_task(self, number: int) -> Task[T] | None:
        """Wait for a task that may start, and count it as running. None when there will be none."""
        with self.lock:
            while not (self.closed or self._is_over()):
                if self.halted is None and self.pool.stop.is_set():
                    self._halt(self._stopped_sentence())
                room = self.pool.ahead if self.halted is None else max(self.pool.ahead, _NOT_TRIED_AHEAD)
                if len(self.results) >= room:
                    self._wait()
                    continue
                task = self._pick()
                if task is None:
                    if not self._is_over():
                        self._wait_for_work()
                elif self.halted is not None:
                    self._put(NotTried(task, self.halted))
                elif not self.closed:
                    self.running[number] = task
                    self._start_further()
                    return task
            self.work.notify_all()
            self.arrived.notify()
            return None

    def _wait_for_work(self) -> None:
        if not self.follow_ups and (self.pulling or self.exhausted or self.broken is not None):
            self._wait()

    def _wait(self) -> None:
        self.idle += 1
        self.work.wait()
        self.idle -= 1

    def _pick(self) -> Task[T] | None:
        """Take a follow-up or else pull from the iterable, letting go of the lock meanwhile."""
        if self.follow_ups:
            return self.follow_ups.pop()
        if self.pulling or self.exhausted or self.broken is not None:
            return None
        self.pulling = True
        self.lock.release()
        task: Task[T] | None = None
        error: BaseException | None = None
        try:
            task = next(self.tasks, None)
        except BaseException as raised:  # noqa: BLE001 - raised again where the outcomes are taken
            error = raised
        finally:
            self.lock.acquire()
            self.pulling = False
        if error is not None:
            self._break_off(error)
        elif task is None:
            self.exhausted = True
        self.work.notify()
        return task

    def _break_off(self, error: BaseException) -> None:
        # An iterable that lists over the network stops like everything else; that is the end of it, not a fault.
        if isinstance(error, Stopped) and self.pool.stop.is_set():
            self.exhausted = True
            return
        self.broken = error
        self._halt(f"Not tried: the list of what to do broke off ({type(error).__name__}).")

    def _break(self, number: int, error: BaseException) -> None:
        with self.lock:
            self.running.pop(number, None)
            self._break_off(error)
            self.arrived.notify()

    def _deliver(self, number: int, task: Task[T], outcome: Outcome[T]) -> None:
        with self.lock:
            if self.running.pop(number, None) is None:
                return  # abandoned, and reported as such
            if isinstance(outcome, Failed):
                self._count_failure(task, outcome.error)
            self._put(outcome)

    def _count_failure(self, task: Task[T], error: Exception) -> None:
        if isinstance(error, self.pool.implied):
            return
        self.failures += 1
        budget = self.pool.error_budget
        if isinstance(error, self.pool.fatal):
            self._halt(f"Not tried, because {task.name} failed in a way that the rest would too: {error}")
        elif budget is not None and self.failures > budget:
            self._halt(f"Not tried, because {self.failures} tasks had failed, which is more than the {budget} allowed.")

    def _put(self, outcome: Outcome[T]) -> None:
        self.results.append(outcome)
        self.arrived.notify()

    def _halt(self, sentence: str) -> None:
        if self.halted is None:
            self.halted = sentence
            self.work.notify_all()

    def _stopped_sentence(self) -> str:
        return f"Not tried, because the run was stopped: {self.pool.stop.reason}."

    def spawn(self, number: int, parent: Task[T], task: Task[T]) -> None:
        with self.lock:
            if self.running.get(number) is not parent:
                if self.pool.stop.is_set():
                    raise Stopped(f"{parent.name} was abandoned, so it cannot add {task.name}")
                raise RuntimeError(f"{parent.name} has ended, so it cannot add {task.name} any more.")
            self.follow_ups.append(task)
            self.work.notify()
            self._start_further()


class _Spawner(Generic[T]):
    """What a task is given to add follow-ups with, valid as long as the task runs."""

    __slots__ = ("number", "parent", "run")

    def __init__(self, run: _Run[T], number: int, parent: Task[T]) -> None:
        self.run = run
        self.number = number
        self.parent = parent

    def __call__(self, task: Task[T]) -> None:
        self.run.spawn(self.number, self.parent, task)
