"""Paging, against lists that shift while they are read: what is asked for, and that nothing passes for complete that is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.sonar.listing import ATTEMPTS, Ask, IdSet, Listing, Paging, pages


def listing(expected: int | None = None, **more: Any) -> Listing:
    return Listing("accounts", ("0-999",), full=True, search={}, expected=expected, **more)


# -- ids -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**12)), st.lists(st.integers(0, 10**12)))
def test_a_set_of_ids_is_a_set_in_order(some: list[int], others: list[int]) -> None:
    held, other = IdSet(), IdSet()
    new = [held.add(number) for number in some]
    for number in others:
        other.add(number)
    assert list(held) == sorted(set(some))
    assert len(held) == len(set(some)) == sum(new)
    assert held.without(other) == sorted(set(some) - set(others))
    assert all(number in held for number in some)
    assert all((number in held) == (number in some) for number in others)


# -- what is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "size", "expected"), [(0, 100, 1), (1, 100, 1), (100, 100, 1), (101, 100, 2), (612, 200, 4), (5, 1, 5)]
)
def test_how_many_pages_a_list_takes(total: int, size: int, expected: int) -> None:
    assert pages(total, size) == expected


@pytest.mark.parametrize(
    ("ask", "halves"),
    [
        (Ask(1, 100), (Ask(1, 50), Ask(2, 50))),
        (Ask(3, 100), (Ask(5, 50), Ask(6, 50))),
        (Ask(7, 20), (Ask(13, 10), Ask(14, 10))),
        (Ask(1, 25), None),
        (Ask(1, 18), None),
    ],
)
def test_a_page_divides_into_two_of_the_same_records(ask: Ask, halves: tuple[Ask, Ask] | None) -> None:
    assert ask.halves() == halves


@pytest.mark.parametrize(
    ("expected", "asks"),
    [(None, [1]), (0, []), (1, [1]), (100, [1]), (101, [1, 2]), (350, [1, 2, 3, 4])],
)
def test_all_pages_of_a_counted_list_are_asked_for_at_once(expected: int | None, asks: list[int]) -> None:
    paging = Paging(listing(expected), 100)
    assert paging.begin() == [Ask(number, 100) for number in asks]
    assert paging.outstanding == {Ask(number, 100) for number in asks}


def test_a_list_that_the_server_counted_as_empty_is_complete_without_a_request() -> None:
    paging = Paging(listing(0), 100)
    assert paging.begin() == []
    assert paging.next() == []
    assert (paging.total, paging.shortfall) == (0, "")


def test_pages_come_in_any_order_and_repeated_records_count_once() -> None:
    paging = Paging(listing(250), 100)
    paging.begin()
    assert paging.arrived(Ask(3, 100), range(200, 250), 0, 250, 100) == list(range(200, 250))
    assert paging.arrived(Ask(1, 100), range(100), 0, 250, 100) == list(range(100))
    assert paging.next() == [], "a page is still outstanding"
    assert paging.arrived(Ask(2, 100), range(99, 200), 0, 250, 100) == list(range(100, 200))
    assert paging.next() == []
    assert (paging.total, paging.shortfall, paging.gone) == (250, "", [])


def test_a_smaller_page_of_the_servers_own_is_taken_over() -> None:
    paging = Paging(listing(100), 100)
    paging.begin()
    paging.arrived(Ask(1, 100), range(40), 0, 100, 40)
    assert paging.next() == [Ask(2, 40), Ask(3, 40)]
    assert paging.size == 40


def test_a_list_that_has_grown_is_read_to_its_new_end() -> None:
    paging = Paging(listing(100), 100)
    paging.begin()
    paging.arrived(Ask(1, 100), range(100), 0, 130, 100)
    assert paging.next() == [Ask(2, 100)]


def test_a_count_that_does_not_fit_is_fetched_anew_and_then_told() -> None:
    paging = Paging(listing(10), 10)
    assert paging.begin() == [Ask(1, 10)]
    for _ in range(ATTEMPTS - 1):
        paging.arrived(Ask(1, 10), range(9), 0, 10, 10)
        assert paging.next() == [Ask(1, 10)]
    paging.arrived(Ask(1, 10), range(9), 0, 10, 10)
    assert paging.next() == []
    assert paging.shortfall == "the server counts 10 records, 9 different ones came in 3 attempts"


def test_one_deleted_and_one_made_while_pages_are_read_hide_no_record() -> None:
    # 6 is deleted behind page 1, so that 11 moves to it; 31 is made before page 3 is read: 30 were counted and 30 came
    paging = Paging(listing(30), 10)
    paging.begin()
    for attempt in range(ATTEMPTS):
        last = attempt == ATTEMPTS - 1
        paging.arrived(Ask(1, 10), range(1, 11), 0, 30, 10)
        paging.arrived(Ask(2, 10), range(12, 22), 0, 30 if last else 29, 10)
        paging.arrived(Ask(3, 10), range(22, 32), 0, 30, 10)
        assert len(paging.next()) == (0 if last else 3)
    assert paging.shortfall == ""
    paging = Paging(listing(20), 10)
    paging.begin()
    for _ in range(ATTEMPTS):
        paging.arrived(Ask(1, 10), range(1, 11), 0, 20, 10)
        paging.arrived(Ask(2, 10), range(12, 22), 0, 19, 10)
        asked = paging.next()
    assert asked == []
    assert paging.shortfall == "records were deleted while the list was read, in each of 3 attempts"


def test_a_record_that_was_gone_when_the_list_was_fetched_anew_is_told() -> None:
    paging = Paging(listing(3), 10)
    paging.begin()
    paging.arrived(Ask(1, 10), [1, 2], 0, 3, 10)
    paging.next()
    assert paging.arrived(Ask(1, 10), [2, 3], 0, 2, 10) == [3]
    assert paging.next() == []
    assert paging.gone == [1]
    assert paging.shortfall == ""


def test_a_record_without_a_readable_id_fills_its_place() -> None:
    paging = Paging(listing(3), 10)
    paging.begin()
    paging.arrived(Ask(1, 10), [1, 2], 1, 3, 10)
    assert paging.next() == []
    assert paging.shortfall == ""


def test_an_empty_answer_where_records_were_counted_is_not_taken_for_their_end() -> None:
    paging = Paging(listing(60), 100)
    paging.begin()
    for _ in range(ATTEMPTS):
        paging.arrived(Ask(1, 100), [], 0, 0, 100)
        paging.next()
    assert paging.outstanding == set()
    assert paging.shortfall == "the server counts 60 records, 0 different ones came in 3 attempts"


def test_a_page_that_times_out_is_asked_for_in_halves_until_they_are_small() -> None:
    paging = Paging(listing(80), 40)
    paging.begin()
    paging.arrived(Ask(1, 40), range(40), 0, 80, 40)
    paging.failed(Ask(2, 40), TimeoutError("slow"), timed_out=True)
    assert paging.next() == [Ask(3, 20), Ask(4, 20)]
    paging.arrived(Ask(3, 20), range(40, 60), 0, 80, 20)
    paging.failed(Ask(4, 20), TimeoutError("slow"), timed_out=True)
    assert paging.next() == [Ask(7, 10), Ask(8, 10)]
    paging.arrived(Ask(7, 10), range(60, 70), 0, 80, 10)
    paging.failed(Ask(8, 10), TimeoutError("slow"), timed_out=True)
    assert paging.next() == []
    assert list(paging.failures) == [Ask(8, 10)]


def test_without_a_count_a_time_out_makes_all_pages_smaller() -> None:
    # a server that caps its pages at 20 without saying so: the halves of its page 2 are other records
    paging = Paging(listing(None), 40, ahead=2)
    assert paging.begin() == [Ask(1, 40)]
    paging.arrived(Ask(1, 40), range(20), 0, None, None)
    assert paging.next() == [Ask(2, 40), Ask(3, 40)]
    paging.failed(Ask(2, 40), TimeoutError("slow"), timed_out=True)
    paging.arrived(Ask(3, 40), range(40, 60), 0, None, None)
    assert paging.next() == [Ask(1, 20)]
    assert paging.arrived(Ask(1, 20), range(20), 0, None, None) == []
    assert paging.next() == [Ask(2, 20), Ask(3, 20)]
    assert paging.arrived(Ask(2, 20), range(20, 40), 0, None, None) == list(range(20, 40))


def uncounted(filled: int, *, ahead: int = 3) -> tuple[Paging, list[Ask]]:
    """A list without counts of which so many pages of ten have come, and what it asks for next."""
    paging = Paging(listing(None), 10, ahead=ahead)
    [first] = paging.begin()
    paging.arrived(first, range(10), 0, None, None)
    asks = paging.next()
    for ask in [ask for ask in asks if ask.page <= filled]:
        paging.arrived(ask, range(ask.page * 10 - 10, ask.page * 10), 0, None, None)
    return paging, [ask for ask in asks if ask.page > filled]


def empty(paging: Paging, asks: list[Ask]) -> list[Ask]:
    """What is asked for next when these pages come back empty."""
    for ask in asks:
        paging.arrived(ask, [], 0, None, None)
    return paging.next()


def test_a_list_without_a_count_ends_when_the_page_behind_its_last_was_empty_twice() -> None:
    paging, asks = uncounted(2)
    assert asks == [Ask(3, 10), Ask(4, 10)]
    assert empty(paging, asks) == [Ask(3, 10)]
    assert empty(paging, [Ask(3, 10)]) == []
    assert (paging.total, paging.shortfall, paging.failures) == (None, "", {})


def test_an_empty_list_without_a_count_is_asked_for_twice() -> None:
    paging = Paging(listing(None), 10, ahead=3)
    assert empty(paging, paging.begin()) == [Ask(1, 10)]
    assert empty(paging, [Ask(1, 10)]) == []
    assert is_complete(paging)


def test_a_first_page_that_was_empty_by_mistake_comes_the_second_time() -> None:
    paging = Paging(listing(None), 10, ahead=2)
    assert empty(paging, paging.begin()) == [Ask(1, 10)]
    assert paging.arrived(Ask(1, 10), range(10), 0, None, None) == list(range(10))
    assert paging.next() == [Ask(2, 10), Ask(3, 10)]


def test_a_page_at_the_end_that_was_empty_by_mistake_comes_the_second_time() -> None:
    paging, asks = uncounted(2)
    assert empty(paging, asks) == [Ask(3, 10)]
    assert paging.arrived(Ask(3, 10), range(20, 30), 0, None, None) == list(range(20, 30))
    # what is behind it has been empty once
    assert paging.next() == [Ask(4, 10)]
    assert empty(paging, [Ask(4, 10)]) == []
    assert is_complete(paging)


def test_an_empty_page_before_others_is_asked_for_again() -> None:
    paging, [second, third, fourth] = uncounted(1)
    paging.arrived(second, [], 0, None, None)
    paging.arrived(third, range(20, 30), 0, None, None)
    paging.arrived(fourth, range(30, 33), 0, None, None)
    assert paging.next() == [second]
    assert paging.arrived(second, range(10, 20), 0, None, None) == list(range(10, 20))
    assert paging.next() == [Ask(5, 10), Ask(6, 10), Ask(7, 10)]
    assert not paging.failures


def test_a_page_that_stays_empty_before_others_is_a_failure() -> None:
    paging, [second, third, fourth] = uncounted(1)
    paging.arrived(second, [], 0, None, None)
    paging.arrived(third, range(20, 30), 0, None, None)
    paging.arrived(fourth, range(30, 33), 0, None, None)
    assert paging.next() == [second]
    assert empty(paging, [second]) == [second]
    assert empty(paging, [second]) == []
    assert list(paging.failures) == [second]
    assert str(paging.failures[second]) == "it came back empty, though pages behind it hold records"


def test_a_list_without_a_count_ends_where_the_server_repeats_its_last_page() -> None:
    paging = Paging(listing(None), 10, ahead=2)
    paging.begin()
    paging.arrived(Ask(1, 10), range(8), 0, None, None)
    for ask in paging.next():
        paging.arrived(ask, range(8), 0, None, None)
    assert paging.next() == []


@pytest.mark.parametrize(("again", "told"), [(0, []), (25, list(range(25)))])
def test_a_list_that_was_not_counted_and_is_empty_is_asked_for_twice(again: int, told: list[int]) -> None:
    paging = Paging(listing(None), 100)
    paging.begin()
    paging.arrived(Ask(1, 100), [], 0, 0, 100)
    assert paging.next() == [Ask(1, 100)]
    assert paging.arrived(Ask(1, 100), range(again), 0, again, 100) == told
    assert paging.next() == []
    assert (paging.total, paging.shortfall, paging.gone) == (again, "", [])


@pytest.mark.parametrize(
    ("counted", "comes", "believed"),
    [
        (100, 100, True),
        (100, 75, True),  # 80 % less 5
        (100, 74, False),
        (6, 1, True),  # a few may go
        (7, 0, False),
        (1, 0, False),
    ],
)
def test_a_list_that_has_shrunk_by_far_is_not_believed(counted: int, comes: int, believed: bool) -> None:
    paging = Paging(listing(counted), 200)
    asks = paging.begin()
    requests = 0
    while asks:
        requests += 1
        paging.arrived(asks[0], range(comes), 0, comes, 200)
        asks = paging.next()
    assert requests == (1 if believed else ATTEMPTS)
    assert is_complete(paging) is believed
    if not believed:
        told = f"the server counts {counted} records, {comes} different ones came in 3 attempts"
        assert paging.shortfall == told


def test_a_list_that_shrinks_while_it_is_fetched_anew_is_compared_with_the_largest_count() -> None:
    paging = Paging(listing(None), 100)
    paging.begin()
    paging.arrived(Ask(1, 100), range(90), 0, 100, 100)
    assert paging.next() == [Ask(1, 100)]
    paging.arrived(Ask(1, 100), range(20), 0, 20, 100)
    assert paging.next() == [Ask(1, 100)]
    paging.arrived(Ask(1, 100), range(20), 0, 20, 100)
    assert paging.next() == []
    assert paging.shortfall


def test_a_listing_names_itself_for_messages() -> None:
    assert Listing("services", (), full=True, search={}).name == "services"
    assert Listing("accounts", ("0-999",), full=True, search={}).name == "accounts 0-999"
    assert Listing("accounts", ("0-999", "1000-1999"), full=False, search={}).name == "accounts changed in 2 blocks"


# -- lists that shift ------------------------------------------------------------------------------------------


@dataclass
class ShiftingServer:
    """A list by id that changes between any two requests, as a server sees it."""

    ids: list[int]
    cap: int
    counts: bool
    changes: str  # what may happen between two requests: i for an insert at the end, d for a delete
    random: Random
    times_out: float = 0.0
    fails: float = 0.0
    always: set[int] = field(default_factory=set)
    deleted: int = 0
    inserted: int = 0

    def __post_init__(self) -> None:
        self.always = set(self.ids)
        self.next_id = max(self.ids, default=0) + 1

    def answer(self, ask: Ask) -> tuple[list[int], int | None, int | None] | Exception:
        self.change()
        if self.random.random() < self.times_out:
            return TimeoutError("slow")
        if self.random.random() < self.fails:
            return OSError("broken")
        size = min(ask.size, self.cap)
        found = self.ids[(ask.page - 1) * size : ask.page * size]
        return found, (len(self.ids) if self.counts else None), (size if self.counts else None)

    def change(self) -> None:
        happens = self.random.choice(self.changes)
        if happens == "i":
            self.ids.append(self.next_id)
            self.next_id += self.random.randint(1, 3)
            self.inserted += 1
        elif happens == "d" and self.ids:
            gone = self.ids.pop(self.random.randrange(len(self.ids)))
            self.always.discard(gone)
            self.deleted += 1


def read(server: ShiftingServer, size: int, expected: int | None, random: Random) -> Paging:
    """Reads the list as the stream does, its pages answered in any order."""
    paging = Paging(listing(expected), size, ahead=3)
    asks = paging.begin() or paging.next()
    requests = 0
    while asks:
        random.shuffle(asks)
        further = []
        for ask in asks:
            requests += 1
            assert requests < 20_000, "it does not end"
            answer = server.answer(ask)
            if isinstance(answer, Exception):
                paging.failed(ask, answer, timed_out=isinstance(answer, TimeoutError))
            else:
                ids, total, answered = answer
                assert set(paging.arrived(ask, ids, 0, total, answered)) <= set(ids)
            if not paging.outstanding:
                further += paging.next()
        asks = further
    return paging


worlds = st.fixed_dictionaries(
    {
        "rows": st.integers(0, 120),
        "size": st.sampled_from([10, 16, 20, 40]),
        "cap": st.sampled_from([5, 7, 10, 33, 1000]),
        "times_out": st.sampled_from([0.0, 0.0, 0.1, 0.4]),
        "fails": st.sampled_from([0.0, 0.0, 0.05]),
        "seed": st.integers(0, 10**6),
    }
)


def shifting(world: dict[str, Any], *, counts: bool, changes: str) -> tuple[ShiftingServer, Random]:
    random = Random(world["seed"])
    ids = sorted(random.sample(range(10**6), world["rows"]))
    server = ShiftingServer(
        ids, world["cap"], counts, changes, random, times_out=world["times_out"], fails=world["fails"]
    )
    return server, random


def is_complete(paging: Paging) -> bool:
    return not paging.failures and not paging.shortfall


@given(worlds, st.booleans(), st.sampled_from(["-", "--i", "--d", "-----d"]))
def test_a_counted_list_is_never_complete_while_a_record_is_missing(
    world: dict[str, Any], told: bool, changes: str
) -> None:
    server, random = shifting(world, counts=True, changes=changes)
    expected = len(server.ids) if told else None
    paging = read(server, world["size"], expected, random)
    if is_complete(paging):
        assert server.always <= set(paging.delivered)
    if changes == "-" and not paging.failures:
        assert is_complete(paging)
    if paging.attempt and is_complete(paging):
        assert not set(paging.gone) & server.always


@given(worlds, st.sampled_from(["-", "--i", "i"]))
def test_a_list_without_a_count_is_never_complete_while_a_record_is_missing(
    world: dict[str, Any], changes: str
) -> None:
    # a server that adds faster than it is read would never end; three requests bring more than one row
    server, random = shifting(world, counts=False, changes=changes)
    paging = read(server, world["size"], None, random)
    if is_complete(paging):
        assert server.always <= set(paging.delivered)
    if not world["times_out"] and not world["fails"]:
        assert is_complete(paging)


def test_a_delete_and_an_insert_in_one_listing_can_hide_a_record_from_the_count() -> None:
    # what page numbers and counts cannot tell; the count of the next sync does, or else the next listing in full
    paging = Paging(listing(4), 2)
    paging.begin()
    paging.arrived(Ask(1, 2), [1, 2], 0, 4, 2)
    # 1 is deleted, so that 3 moves to page 1, and 5 is added
    paging.arrived(Ask(2, 2), [4, 5], 0, 4, 2)
    assert paging.next() == []
    assert is_complete(paging)
    assert 3 not in paging.delivered
