"""Fingerprints of records: which are stored as they come, told once each, from any thread."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.warehouse.fingerprints import Fingerprints, fingerprints_of
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns a thousand times as often as they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 1000)
    yield
    sys.setswitchinterval(before)


hashes = st.integers(0, 12) | st.sampled_from([0, 2**62, 2**63 - 1])


@given(st.sets(hashes), st.lists(st.lists(hashes, max_size=10), max_size=6))
def test_each_stored_record_is_matched_once_and_all_others_are_to_be_read(
    stored: set[int], batches: list[list[int]]
) -> None:
    known = Fingerprints(sorted(stored))
    left = set(stored)
    assert len(known) == len(stored)
    for batch in batches:
        fresh = []
        for place, value in enumerate(batch):
            if value in left:
                left.remove(value)
            else:
                fresh.append(place)
        assert known.sift(batch) == (fresh, len(batch) - len(fresh))
        assert known.matched == len(stored) - len(left)
    assert list(known.unmatched()) == sorted(left)
    assert all(known.was_matched(value) == (value in stored - left) for value in [*range(13), 2**62, 2**63 - 1])


def test_a_record_that_comes_twice_in_a_batch_is_matched_once() -> None:
    known = Fingerprints([5, 7])
    assert known.sift([7, 5, 7, 7]) == ([2, 3], 2)
    assert known.sift([5]) == ([0], 0)


def test_threads_that_sift_at_once_match_each_record_once(frequent_switches: None) -> None:
    stored = range(0, 40_000, 2)
    known = Fingerprints(stored)
    batch = 500
    # each batch is sifted by two threads, and no two of a pair by the same
    batches = [range(at, at + batch) for at in range(0, 40_000, batch)] * 2
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(known.sift, batches))
    assert sum(matched for _, matched in found) == known.matched == len(stored)
    assert sum(len(fresh) for fresh, _ in found) == 2 * 40_000 - len(stored)
    assert list(known.unmatched()) == []


def test_nothing_is_known_of_an_empty_partition() -> None:
    known = Fingerprints()
    assert known.sift([1, 2]) == ([0, 1], 0)
    assert (known.matched, list(known.unmatched()), known.was_matched(1)) == (0, [], False)


def test_a_match_that_is_taken_back_counts_no_more_and_is_not_matched_anew() -> None:
    known = Fingerprints([5, 7])
    known.sift([5, 7])
    known.take_back(5)
    known.take_back(5)
    known.take_back(6)
    assert known.matched == 1
    assert known.sift([5, 7]) == ([0, 1], 0)
    assert list(known.unmatched()) == []


@given(st.lists(st.binary(max_size=40)), st.integers(0, 2**64 - 1))
def test_a_fingerprint_is_of_the_bytes_alone_and_fits_sqlites_integers(records: list[bytes], seed: int) -> None:
    found = fingerprints_of(records, seed)
    assert all(0 <= value < 2**63 for value in found)
    assert found == [value for record in records for value in fingerprints_of([record], seed)]
    assert len(set(found)) == len(set(records))


def test_a_raw_record_has_the_fingerprint_of_its_bytes() -> None:
    raws = msgspec.json.decode(b'[{"a":1}, [2]]', type=list[msgspec.Raw])
    assert fingerprints_of(raws, 1) == fingerprints_of([b'{"a":1}', b"[2]"], 1)


def schema(*fields: tuple[Any, ...], name: str = "things", **more: Any) -> Schema:
    row = msgspec.defstruct("Row", [("id", int), *fields], module=__name__)
    return Schema("shop", (Table(row, name),), **more)


@pytest.mark.parametrize(
    "other",
    [
        schema(("name", str | None), revision=2),
        schema(("label", str | None)),
        schema(("name", str)),
        schema(("name", int | None)),
        schema(("name", str | None), ("size", int | None)),
        schema(("name", str | None), name="others"),
        schema(),
    ],
    ids=["revision", "other name", "not null", "type", "added column", "other table", "fewer columns"],
)
def test_another_version_of_the_schema_takes_no_record_for_read(other: Schema) -> None:
    records = [b"{}", b'{"id":1}']
    known = schema(("name", str | None))
    assert known.fingerprints(records) == schema(("name", str | None)).fingerprints(records)
    assert not set(known.fingerprints(records)) & set(other.fingerprints(records))
