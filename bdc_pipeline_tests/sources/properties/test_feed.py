"""Tasks that come up while a pool runs."""

from __future__ import annotations

import threading

from bdc_pipeline.fetching.pool import Done, Pool, Stop, Task
from bdc_pipeline.sources.properties.feed import Feed
from bdc_pipeline_tests.waiting import SECONDS


def task(name: str) -> Task[str]:
    return Task(name, lambda _: name)


def test_the_most_urgent_comes_first_and_equal_ones_in_their_order() -> None:
    feed: Feed[str] = Feed(Stop())
    for name, urgency in (("late", 3), ("first", 1), ("second", 1), ("now", 0)):
        feed.put(task(name), urgency)
    feed.close()
    assert [one.name for one in feed] == ["now", "first", "second", "late"]


def test_a_pool_goes_on_as_long_as_tasks_come_up() -> None:
    feed: Feed[str] = Feed(Stop())
    feed.put(task("0"), 0)
    names = []
    for outcome in Pool(3, stop=Stop()).run(feed):
        assert isinstance(outcome, Done)
        names.append(outcome.value)
        number = len(names)
        if number < 50:
            feed.put(task(str(number)), number)
        else:
            feed.close()
    assert names == [str(number) for number in range(50)]


def test_a_stop_ends_it_with_what_waits_told() -> None:
    stop = Stop()
    feed: Feed[str] = Feed(stop)
    feed.put(task("one"), 0)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(one.name for one in feed))
    reader.start()
    stop.set("enough")
    reader.join(SECONDS)
    assert not reader.is_alive()
    assert found == ["one"]
