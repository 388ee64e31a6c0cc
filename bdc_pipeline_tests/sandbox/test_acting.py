"""Changes that are asked for by name."""

from typing import Any

import pytest

from bdc_pipeline.sandbox.acting import act


def paint(*, identifier: int, color: str = "red", at: int = 0) -> tuple[int, str, int]:
    return identifier, color, at


@pytest.mark.parametrize(
    ("arguments", "done"),
    [
        ({"id": 1}, (1, "red", 0)),
        ({"identifier": 1, "color": "blue"}, (1, "blue", 0)),
        ({"id": 1, "at": "7"}, (1, "red", 7)),
    ],
)
def test_an_action_gets_its_arguments_under_their_names(arguments: dict[str, Any], done: tuple[object, ...]) -> None:
    before = dict(arguments)
    assert act({"paint": paint}, "paint", arguments, moment=int) == done
    assert arguments == before


def test_a_moment_is_left_as_it_is_where_nothing_reads_it() -> None:
    assert act({"paint": paint}, "paint", {"id": 1, "at": "7"}) == (1, "red", "7")


def test_an_action_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^There is no change 'burn'\. There are: paint, restore\.$"):
        act({"paint": paint}, "burn", {}, further=["restore"])


@pytest.mark.parametrize("arguments", [{}, {"id": 1, "size": 2}])
def test_arguments_that_an_action_does_not_take_are_told(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^The change 'paint' does not take these arguments: "):
        act({"paint": paint}, "paint", arguments)


def test_what_is_wrong_with_a_moment_is_told_by_what_reads_it() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        act({"paint": paint}, "paint", {"id": 1, "at": "noon"}, moment=int)
