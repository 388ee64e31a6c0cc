"""When a server counts as gone."""

from __future__ import annotations

import pytest

from bdc_pipeline.fetching.answers import BadAnswer, Unreachable
from bdc_pipeline.fetching.reaching import DOWN_AFTER, Reach, ServerDown


def failing(error: Exception):
    def request() -> None:
        raise error

    return request


def test_a_server_that_is_never_found_is_gone():
    reach = Reach()
    for _ in range(DOWN_AFTER - 1):
        with pytest.raises(Unreachable) as raised:
            reach.ask(failing(Unreachable("nobody there")))
        assert type(raised.value) is Unreachable
    with pytest.raises(ServerDown, match="nobody there"):
        reach.ask(failing(Unreachable("nobody there")))


def test_one_answer_in_between_and_the_server_hiccups():
    reach = Reach()
    for number in range(3 * DOWN_AFTER):
        if number % (DOWN_AFTER - 1) == 0:
            assert reach.ask(lambda: "found") == "found"
        with pytest.raises(Unreachable) as raised:
            reach.ask(failing(Unreachable("nobody there")))
        assert type(raised.value) is Unreachable


def test_answers_that_cannot_be_used_are_no_sign_of_a_server_that_is_gone():
    reach = Reach()
    for _ in range(3 * DOWN_AFTER):
        with pytest.raises(BadAnswer):
            reach.ask(failing(BadAnswer("an error page")))
