"""Requests to Boligsiden: what is sent, and which answers are not believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from bdc_pipeline.fetching.answers import BadAnswer, Refused, Throttled
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.properties.client import BoligsidenClient
from bdc_pipeline.sources.properties.split import Part, Range
from bdc_pipeline_tests.fetching.loopback import Reply, Server, one_after_another, reply

PART = Part("Høje-Taastrup", "terraced house", (2630, 2640), Range(50, 99))


@pytest.fixture
def asked() -> Iterator[Callable[..., tuple[BoligsidenClient, Server]]]:
    """A client of a server that gives these replies one after another."""
    made: list[tuple[ApiSession, Server]] = []

    def start(*replies: Reply, attempts: int = 1) -> tuple[BoligsidenClient, Server]:
        server = Server(one_after_another(*replies))
        session = ApiSession(server.url, attempts=attempts, backoff=0.01)
        made.append((session, server))
        return BoligsidenClient(session), server

    yield start
    for session, server in made:
        session.close()
        server.close()


def page(total: object, *records: object) -> Reply:
    return reply(msgspec.json.encode({"totalHits": total, "addresses": list(records), "more": 1}))


def test_a_page_is_asked_for_by_utf_8_parameters_sorted_by_address(
    asked: Callable[..., tuple[BoligsidenClient, Server]],
) -> None:
    client, server = asked(page(7, {"addressID": "a"}, "no record"))
    found = client.page(PART, 2)
    assert found.total == 7
    assert [bytes(record) for record in found.records] == [b'{"addressID":"a"}', b'"no record"']
    [request] = server.requests
    url = urlsplit(request.target)
    assert url.path == "/search/addresses"
    assert parse_qs(url.query) == {
        "municipalities": ["Høje-Taastrup"], "addressTypes": ["terraced house"], "zipCodes": ["2630", "2640"],
        "areaMin": ["50"], "areaMax": ["99"], "per_page": ["50"], "page": ["2"], "sortBy": ["address"],
        "sortAscending": ["true"],
    }  # fmt: skip
    assert "H%C3%B8je-Taastrup" in url.query


@pytest.mark.parametrize(
    ("answer", "told", "sentence"),
    [
        (reply(b""), None, "answered with nothing"),
        (reply(b"<html>hello"), None, "no list of homes"),
        (reply(b'{"totalHits": "many", "addresses": []}'), None, "no list of homes"),
        (reply(b'{"addresses": []}'), None, "no list of homes"),
        (page(0), 300, "no homes at all, where 300 were told before"),
        (page(300), None, "The page was empty, where 250 homes were still to come"),
    ],
)
def test_an_answer_that_is_no_list_is_tried_again(
    asked: Callable[..., tuple[BoligsidenClient, Server]], answer: Reply, told: int | None, sentence: str
) -> None:
    client, _ = asked(answer)
    with pytest.raises(BadAnswer, match=sentence):
        client.page(PART, 2, total=told)
    client, server = asked(answer, page(51, {}), attempts=2)
    assert client.page(PART, 2, total=told).total == 51
    assert len(server.requests) == 2


def test_a_page_behind_the_last_home_may_be_empty(asked: Callable[..., tuple[BoligsidenClient, Server]]) -> None:
    client, _ = asked(page(50))
    assert client.page(PART, 2).records == []


def test_a_wish_to_slow_down_in_words_is_obeyed(asked: Callable[..., tuple[BoligsidenClient, Server]]) -> None:
    client, _ = asked(reply(b'{"message": "Too many requests, slow down."}'))
    with pytest.raises(Throttled, match="asks to slow down"):
        client.page(PART, 1)


def test_a_home_by_itself(asked: Callable[..., tuple[BoligsidenClient, Server]]) -> None:
    client, server = asked(reply(b'{"addressID": "a", "x": 1}'), reply(b"[]"), reply(b"{}"), reply(status=404))
    assert bytes(client.home("a")) == b'{"addressID": "a", "x": 1}'
    assert server.requests[0].target == "/addresses/a"
    for _ in range(2):
        with pytest.raises(BadAnswer):
            client.home("a")
    with pytest.raises(Refused):
        client.home("a")
    assert client.effort().requests == 4
