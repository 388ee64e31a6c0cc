from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from bdc_pipeline.fetching import pacing
from bdc_pipeline.fetching.pacing import (
    CONGESTED,
    LONGEST_UNTOLD,
    MAX_PAUSE,
    UNTOLD_PAUSE,
    Pace,
    Pacer,
    congested,
    next_turn,
    pause_asked_for,
    paused,
    recovered,
    retry_after_asked_for,
)
from bdc_pipeline.fetching.stopping import Stop, Stopped
from bdc_pipeline_tests.waiting import SECONDS, until

NOON = datetime(2025, 7, 1, 12, 0, 0, tzinfo=UTC)
HERE = datetime(2025, 7, 1, 12, 0, 7, tzinfo=UTC)  # this machine's clock, seven seconds fast
EPOCH = int(NOON.timestamp())


def date(seconds_after_noon: float) -> str:
    return format_datetime(datetime.fromtimestamp(EPOCH + seconds_after_noon, UTC), usegmt=True)


# What an answer's headers ask for


@pytest.mark.parametrize(
    ("status", "headers", "in_flight", "seconds"),
    [
        # Retry-After: seconds, or a date that is compared with the server's own
        (429, {"Retry-After": "3"}, 1, 3),
        (429, {"Retry-After": " 0 "}, 1, 0),
        (503, {"Retry-After": "0.5"}, 1, 0.5),
        (503, {"Retry-After": "-5"}, 1, 0),
        (429, {"Retry-After": date(30), "Date": date(0)}, 1, 30),
        (429, {"Retry-After": date(30)}, 1, 23),
        (429, {"Retry-After": date(-30), "Date": date(0)}, 1, 0),
        (429, {"Retry-After": date(30), "Date": "yesterday"}, 1, 23),
        (429, {"retry-after": "3"}, 1, 3),
        (403, {"Retry-After": "60"}, 1, 60),
        # on a good answer it says nothing about the next request
        (200, {"Retry-After": "3"}, 1, None),
        (301, {"Retry-After": "3"}, 1, None),
        (429, {}, 1, None),
        (429, {"Retry-After": "soon"}, 1, None),
        (429, {"Retry-After": "inf"}, 1, None),
        (429, {"Retry-After": "nan"}, 1, None),
        (429, {"Retry-After": ""}, 1, None),
        # RateLimit-*: seconds to go, or a Unix time
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "20"}, 1, 20),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "20"}, 1, 20),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": str(EPOCH + 20), "Date": date(0)}, 1, 20),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": str(EPOCH + 20)}, 1, 13),
        (200, {"RateLimit-Remaining": "-1", "RateLimit-Reset": "20"}, 1, 20),
        (200, {"RateLimit-Remaining": "1", "RateLimit-Reset": "20"}, 1, None),
        (200, {"RateLimit-Remaining": "9", "RateLimit-Reset": "20"}, 10, 20),
        (200, {"RateLimit-Remaining": "10", "RateLimit-Reset": "20"}, 10, None),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "20"}, 0, 20),
        (200, {"RateLimit-Remaining": "0"}, 1, None),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "0"}, 1, None),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": str(EPOCH - 20), "Date": date(0)}, 1, None),
        (200, {"RateLimit-Remaining": "few", "RateLimit-Reset": "20"}, 1, None),
        (200, {"RateLimit-Reset": "20"}, 1, None),
        # Both: the longer one
        (429, {"Retry-After": "3", "RateLimit-Remaining": "0", "RateLimit-Reset": "20"}, 1, 20),
        (429, {"Retry-After": "30", "RateLimit-Remaining": "0", "RateLimit-Reset": "20"}, 1, 30),
        (200, {}, 50, None),
    ],
)
def test_the_pause_that_headers_ask_for(status, headers, in_flight, seconds):
    assert pause_asked_for(status, headers, in_flight=in_flight, now=HERE) == seconds


@given(st.text(), st.text(), st.text(), st.text(), st.integers(0, 100))
def test_no_header_however_wrong_breaks_anything(retry_after, remaining, reset, server_date, in_flight):
    headers = {
        "Retry-After": retry_after,
        "RateLimit-Remaining": remaining,
        "RateLimit-Reset": reset,
        "Date": server_date,
    }
    seconds = pause_asked_for(429, headers, in_flight=in_flight, now=HERE)
    assert seconds is None or seconds >= 0


def test_header_names_are_found_in_any_spelling():
    assert retry_after_asked_for(CaseInsensitiveDict({"RETRY-AFTER": "4"}), now=HERE) == 4


# From one pace to the next


@pytest.mark.parametrize(
    ("limit", "cut_at", "sent_at", "expected"),
    [
        (10.0, 0.0, 5.0, 5.0),
        (5.0, 0.0, 5.0, 2.5),
        (1.5, 0.0, 5.0, 1.0),
        (1.0, 0.0, 5.0, 1.0),
        (10.0, 5.0, 5.0, 10.0),  # sent before the last cut, or with it
        (10.0, 6.0, 5.0, 10.0),
    ],
)
def test_congestion_halves_the_limit_once_an_event(limit, cut_at, sent_at, expected):
    pace = Pace(ceiling=10, limit=limit, cut_at=cut_at)
    after = congested(pace, sent_at=sent_at, now=9.0)
    assert after.limit == expected
    assert after.cut_at == (9.0 if sent_at > cut_at else cut_at)


@pytest.mark.parametrize(
    ("limit", "cut_at", "resume_at", "sent_at", "expected"),
    [
        (4.0, 0.0, 0.0, 5.0, 4.25),
        (1.0, 0.0, 0.0, 5.0, 2.0),
        (9.99, 0.0, 0.0, 5.0, 10.0),
        (10.0, 0.0, 0.0, 5.0, 10.0),
        (4.0, 5.0, 0.0, 5.0, 4.0),  # sent before the cut
        (4.0, 0.0, 6.0, 5.0, 4.0),  # sent during the pause
    ],
)
def test_good_answers_raise_the_limit_by_one_for_as_many_as_it_is(limit, cut_at, resume_at, sent_at, expected):
    pace = Pace(ceiling=10, limit=limit, cut_at=cut_at, resume_at=resume_at)
    assert recovered(pace, sent_at=sent_at).limit == pytest.approx(expected)


@pytest.mark.parametrize(
    ("resume_at", "seconds", "expected"),
    [
        (0.0, 20.0, 120.0),
        (110.0, 20.0, 120.0),
        (130.0, 20.0, 130.0),  # a longer pause is under way
        (0.0, 0.0, 0.0),
        (0.0, -5.0, 0.0),
        (0.0, 1e12, 100.0 + MAX_PAUSE),
    ],
)
def test_a_pause_is_as_long_as_asked_up_to_the_maximum(resume_at, seconds, expected):
    assert paused(Pace(ceiling=1, limit=1.0, resume_at=resume_at), seconds=seconds, now=100.0).resume_at == expected


events = st.lists(st.tuples(st.sampled_from(["good", "bad", "pause"]), st.floats(0, 5), st.floats(0, 100)), max_size=60)


@given(ceiling=st.integers(1, 50), events=events)
def test_the_limit_stays_between_one_and_the_ceiling_and_cuts_are_an_event_apart(ceiling, events):
    pace, now = Pace(ceiling=ceiling, limit=float(ceiling)), 0.0
    for kind, step, ago in events:
        now += step
        before = pace
        if kind == "good":
            pace = recovered(pace, sent_at=now - ago)
            assert before.limit <= pace.limit <= before.limit + 1
        elif kind == "bad":
            pace = congested(pace, sent_at=now - ago, now=now)
            assert pace.limit == before.limit or now - ago > before.cut_at
        else:
            pace = paused(pace, seconds=ago, now=now)
            assert pace.resume_at >= before.resume_at
        assert 1 <= pace.limit <= ceiling


@given(steps=st.lists(st.floats(0, 3), min_size=1, max_size=50), interval=st.floats(0.01, 2))
def test_turns_are_an_interval_apart_whenever_they_are_asked_for(steps, interval):
    pace, now, turns = Pace(ceiling=1, limit=1.0, interval=interval), 0.0, []
    for step in steps:
        now += step
        pace, turn = next_turn(pace, now=now)
        assert turn >= now
        turns.append(turn)
    assert all(later - earlier >= interval * 0.999 for earlier, later in itertools.pairwise(turns))


def test_turns_wait_for_the_end_of_a_pause():
    pace = Pace(ceiling=1, limit=1.0, interval=2.0, resume_at=30.0)
    pace, first = next_turn(pace, now=10.0)
    assert (first, next_turn(pace, now=10.0)[1]) == (30.0, 32.0)


# Shared among threads


@pytest.fixture(scope="module", autouse=True)
def real_pauses() -> Iterator[None]:
    """As they are, by clocks that nobody waits for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "UNTOLD_PAUSE", UNTOLD_PAUSE)
        patch.setattr(pacing, "LONGEST_UNTOLD", LONGEST_UNTOLD)
        yield


class Clock:
    """A clock that goes on when somebody waits, and a flag that makes waiting do that."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def stop(self) -> Stop:
        clock = self

        class TimelessStop(Stop):
            def wait(self, seconds: float) -> bool:
                clock.waits.append(seconds)
                clock.now += seconds
                return self.is_set()

        return TimelessStop()


def pass_once(pacer: Pacer, stop: Stop) -> None:
    with pacer.slot(stop):
        pass


def test_a_slot_is_free_at_once_when_nothing_is_amiss():
    clock = Clock()
    pacer = Pacer(concurrency=2, clock=clock)
    pass_once(pacer, clock.stop())
    assert (clock.waits, pacer.waited, pacer.pauses, pacer.limit) == ([], 0, 0, 2)


def test_retry_after_pauses_whoever_comes_next():
    clock = Clock()
    pacer, stop = Pacer(concurrency=4, clock=clock), clock.stop()
    pacer.observe(status=429, headers={"Retry-After": "7"}, sent_at=clock.now)
    pass_once(pacer, stop)
    assert clock.waits == [pytest.approx(7)]
    pass_once(pacer, stop)
    assert len(clock.waits) == 1
    assert (pacer.limit, pacer.pauses) == (2, 1)
    assert pacer.waited == pytest.approx(7)


def test_a_used_up_allowance_pauses_without_halving():
    clock = Clock()
    pacer = Pacer(concurrency=4, clock=clock)
    pacer.observe(status=200, headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, sent_at=clock.now)
    pass_once(pacer, clock.stop())
    assert clock.waits == [pytest.approx(9)]
    assert pacer.limit == 4


def test_one_pause_that_ten_answers_speak_of_is_one_pause():
    clock = Clock()
    pacer = Pacer(concurrency=10, clock=clock)
    for _ in range(10):
        pacer.observe(status=429, headers={"Retry-After": "7"}, sent_at=clock.now - 1)
        clock.now += 0.1
    assert (pacer.pauses, pacer.limit) == (1, 5)


@pytest.mark.parametrize("status", [*sorted(CONGESTED), None])
def test_trouble_halves_the_limit_and_good_answers_bring_it_back(status):
    clock = Clock()
    pacer = Pacer(concurrency=4, clock=clock)
    for _ in range(4):  # all in flight together
        pacer.observe(status=status, headers={}, sent_at=clock.now - 1)
    assert pacer.limit == 2
    clock.now += UNTOLD_PAUSE
    for _ in range(5):
        pacer.observe(status=200, headers={}, sent_at=clock.now)
    assert pacer.limit == 3
    for _ in range(10):
        pacer.observe(status=200, headers={}, sent_at=clock.now)
    assert pacer.limit == 4


@pytest.mark.parametrize("status", [500, 502])
def test_a_broken_server_is_not_a_busy_one(status):
    pacer = Pacer(concurrency=4)
    pacer.observe(status=status, headers={}, sent_at=time.monotonic())
    assert pacer.limit == 4


def test_a_body_that_says_too_many_requests_halves_and_pauses():
    clock = Clock()
    pacer = Pacer(concurrency=4, clock=clock)
    pacer.throttled(retry_after=5, sent_at=clock.now - 1)
    pacer.throttled(retry_after=5, sent_at=clock.now - 1)
    assert (pacer.limit, pacer.pauses) == (2, 1)
    clock.now += 10
    pacer.throttled()
    assert (pacer.limit, pacer.pauses, pacer.pause_left) == (1, 2, UNTOLD_PAUSE)


@pytest.mark.parametrize("told", ["status", "body"])
def test_pauses_that_no_header_asks_for_outlast_a_limit_by_the_minute(told: str) -> None:
    clock = Clock()
    pacer = Pacer(concurrency=20, clock=clock)

    def refused(sent_at: float) -> float:
        if told == "status":
            pacer.observe(status=429, headers={}, sent_at=sent_at)
        else:
            pacer.throttled(sent_at=sent_at)
        return pacer.pause_left

    waited = []
    for _ in range(7):
        sent_at = clock.now
        clock.now += 0.1
        waited.append(refused(sent_at))
        assert refused(sent_at) == waited[-1], "another of those in flight says nothing new"
        clock.now += waited[-1]
        # a good answer to something else, of which there is another limit or none
        pacer.observe(status=200, headers={}, sent_at=clock.now)
    assert waited == [2, 4, 8, 16, 32, 60, 60]
    assert sum(waited[:5]) > 60, "what has six attempts comes to its end"
    clock.now += LONGEST_UNTOLD + 1
    assert refused(clock.now) == UNTOLD_PAUSE, "long after it, another one begins anew"


def test_a_pause_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bdc_pipeline")
    clock = Clock()
    pacer = Pacer(concurrency=4, clock=clock)
    for _ in range(3):
        pacer.observe(status=200, headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "37"}, sent_at=clock.now)
    assert [record.getMessage() for record in caplog.records] == [
        "The server has to be left alone for 37 s: its limit is used up."
    ]
    clock.now += 38
    pacer.observe(status=429, headers={"Retry-After": "0.2"}, sent_at=clock.now)
    assert len(caplog.records) == 1, "a moment is not worth a line"


def test_requests_per_second_are_spread_evenly():
    clock = Clock()
    pacer, stop = Pacer(concurrency=4, requests_per_second=4, clock=clock), clock.stop()
    sent = []
    for _ in range(9):
        with pacer.slot(stop):
            sent.append(clock.now)
    assert sent == pytest.approx([1000 + number * 0.25 for number in range(9)])
    clock.now += 60  # a lull gives no right to a burst
    with pacer.slot(stop), pacer.slot(stop):
        assert clock.waits[-1] == pytest.approx(0.25)


def test_a_pause_that_is_asked_for_while_a_turn_is_awaited_calls_the_turn_off():
    clock = Clock()
    pacer = Pacer(concurrency=4, requests_per_second=1, clock=clock)

    class PausedMeanwhile(Stop):
        def wait(self, seconds: float) -> bool:
            if not clock.waits:
                pacer.throttled(retry_after=50, sent_at=clock.now)
            clock.waits.append(seconds)
            clock.now += seconds
            return False

    stop = PausedMeanwhile()
    pass_once(pacer, stop)
    pass_once(pacer, stop)
    assert clock.now == pytest.approx(1050)


def test_no_more_are_in_flight_than_the_limit_says():
    pacer, stop = Pacer(concurrency=3), Stop()
    inside, most, lock = 0, 0, threading.Lock()

    def pass_often() -> None:
        nonlocal inside, most
        for _ in range(50):
            with pacer.slot(stop):
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=pass_often) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert 1 <= most <= 3
    assert "in_flight=0" in repr(pacer)


class Watched(Stop):
    """Counts how often it is looked at. Who waits looks again and again; who comes to wait has looked twice at most."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def is_set(self) -> bool:
        self.looks += 1
        return super().is_set()


def stopped_while_waiting(pacer: Pacer) -> float:
    """Let a thread wait for a slot, stop it, and return the seconds that it took to end."""
    stop, ended = Watched(), []

    def wait() -> None:
        with pytest.raises(Stopped, match="Ctrl-C"):
            pass_once(pacer, stop)
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: stop.looks > 2)
    assert ended == []
    began = time.monotonic()
    stop.set("Ctrl-C")
    thread.join(SECONDS)
    assert ended == [True]
    return time.monotonic() - began


def test_a_stop_ends_waiting_for_a_pause():
    pacer = Pacer(concurrency=2)
    pacer.throttled(retry_after=600)
    assert stopped_while_waiting(pacer) < 30
    until(lambda: "in_flight=0" in repr(pacer))


def test_a_stop_ends_waiting_for_room():
    pacer = Pacer(concurrency=1)
    with pacer.slot(Stop()):
        assert stopped_while_waiting(pacer) < 30


def test_a_stop_ends_waiting_for_a_turn():
    pacer = Pacer(concurrency=2, requests_per_second=0.001)
    pass_once(pacer, Stop())
    assert stopped_while_waiting(pacer) < 30


def test_room_is_given_back_when_what_was_sent_fails():
    pacer, stop = Pacer(concurrency=1), Stop()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), pacer.slot(stop):
            raise ZeroDivisionError
    pass_once(pacer, stop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "At least one request"),
        ({"concurrency": 1, "requests_per_second": 0}, "more than 0, not 0"),
    ],
)
def test_a_pacer_that_would_let_nothing_through_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Pacer(**options)
