"""Which documents there are, and how often they are asked for."""

from __future__ import annotations

import datetime as dt

import pytest

from bdc_pipeline.commands import dmr as commands
from bdc_pipeline.sources.dmr import reading
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES, feeds_of
from bdc_pipeline.sources.dmr.tables import SOURCES


def test_each_document_has_a_name_of_its_own_and_a_reader() -> None:
    names = [feed.name for feed in FEEDS]
    assert len(set(names)) == len(names)
    assert set(reading.READERS) == set(names)


def test_no_document_is_fresh_for_less_than_its_registry_wants_between_requests() -> None:
    assert all(feed.floor <= feed.max_age for feed in FEEDS)


@pytest.mark.parametrize(
    ("registry", "floor", "max_age"),
    [
        ("brandmeister", dt.timedelta(minutes=15), dt.timedelta(hours=24)),
        ("tgif", dt.timedelta(minutes=1), dt.timedelta(hours=2)),
        ("hearham", dt.timedelta(minutes=1), dt.timedelta(hours=6)),
    ],
)
def test_floors_and_ages_are_those_of_the_registries(registry: str, floor: dt.timedelta, max_age: dt.timedelta) -> None:
    assert {(feed.floor, feed.max_age) for feed in feeds_of([registry])} == {(floor, max_age)}


def test_documents_of_some_registries_come_in_their_order() -> None:
    assert [feed.name for feed in feeds_of(["tgif", "brandmeister"])] == [
        "brandmeister_devices",
        "brandmeister_talkgroups",
        "tgif_talkgroups",
    ]
    assert feeds_of(REGISTRIES) == list(FEEDS)


def test_a_registry_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match=r"no registry 'radioid'\. There are brandmeister, tgif, hearham"):
        feeds_of(["tgif", "radioid"])


def test_the_command_line_knows_the_same_registries_and_bands() -> None:
    assert commands.REGISTRIES == REGISTRIES
    assert tuple(name for _, _, name in reading.BANDS) == commands.BANDS


def test_every_document_fills_the_table_of_what_it_holds() -> None:
    assert {feed.holds for feed in FEEDS} == {"repeaters", "talkgroups"}
    assert SOURCES.key == ("document",)
