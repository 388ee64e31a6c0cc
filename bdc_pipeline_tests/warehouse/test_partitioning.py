"""Partitions: which rows a key names, and which keys there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.warehouse.partitioning import ByValue, IdBlocks


@given(st.integers(0, 2**62), st.integers(1, 10**6))
def test_a_block_holds_the_id_it_was_named_for(number: int, width: int) -> None:
    blocks = IdBlocks("id", width)
    key = blocks.key_of(number)
    low, high = blocks.bounds(key)
    assert low <= number <= high
    assert high - low + 1 == width
    assert {blocks.key_of(low), blocks.key_of(high)} == {key}
    assert blocks.where(key) == ('"id" BETWEEN ? AND ?', (low, high))


@given(st.text("0123456789-x ", max_size=12) | st.text(max_size=6))
def test_a_key_is_a_block_only_in_the_one_spelling_that_key_of_gives(key: str) -> None:
    blocks = IdBlocks("id", 10)
    low = int(key.partition("-")[0]) if key.partition("-")[0].isdecimal() else 0
    if blocks.key_of(low) == key:
        assert blocks.bounds(key) == (low, low + 9)
    else:
        with pytest.raises(ValueError, match="is no block of 10 ids"):
            blocks.bounds(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "-",
        "0",
        "0-",
        "-9",
        "0-10",
        "1-10",
        "10-9",
        "0-9-9",
        "a-b",
        "00-9",
        "0-09",
        " 0-9",
        "\u0660-\u0669",
        "\u00b2-9",
    ],
)
def test_a_key_that_names_no_block_is_refused_with_examples(key: str) -> None:
    with pytest.raises(ValueError, match="such as '0-9' or '10-19'"):
        IdBlocks("id", 10).bounds(key)


@given(st.integers(0, 10**6))
def test_a_number_of_fixed_digits_is_the_partition_that_holds_it(number: int) -> None:
    towns = ByValue("town", digits=4)
    key = towns.key_of(number)
    assert towns.where(key) == ('"town" = ?', (number,))
    assert len(key) == max(4, len(str(number)))


def test_numbers_of_fixed_digits_are_padded() -> None:
    towns = ByValue("town", digits=4)
    assert [towns.key_of(number) for number in (0, 7, 101, 9999)] == ["0000", "0007", "0101", "9999"]


@pytest.mark.parametrize(
    "key", ["101", "00101", "", "abcd", "01 1", "+101", "-101", "1e10", "0101 ", "\u0660\u0661\u0660\u0661", "\u00b2\u00b2\u00b2\u00b2", "01.0"]
)  # fmt: skip
def test_a_key_that_is_no_number_of_the_digits_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is no number of 4 digits"):
        ByValue("town", digits=4).where(key)


def test_a_value_is_its_own_partition() -> None:
    country = ByValue("country")
    assert country.key_of("DK") == "DK"
    assert country.where("O'Land") == ('"country" = ?', ("O'Land",))
