"""Writes the data sets: the three DMR registries, and a million rows of twelve mixed columns.

The same arguments give the same bytes. The wide set is written row by row, so that its size does not matter.
"""

from __future__ import annotations

import datetime as dt
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import msgspec

from bdc_pipeline.sandbox.dmr.generate import registries
from benchmarks.loading.data_set import Column, DataSet, Kind, Part
from benchmarks.loading.rows import TYPES, Reading

SAMPLE = 10
"""Records that every contestant loads into another file before it is measured."""

CHANGED, UNCHANGED = 37, 38
"""Of a hundred records in a row, the one that changes, and one that is looked at as it stays."""

_KINDS: dict[type, Kind] = {int: "int", float: "float", str: "str"}
_WORDS = (
    "steady",
    "rising",
    "falling",
    "øst",
    "vest",
    "nord",
    "syd",
    "calibrated",
    "drifting",
    "out of range",
    "på plads",
)
_STATES = ("ok", "ok", "ok", "late", "missing", None)
_FIRST_DAY = dt.date(2020, 1, 1)


def write_registries(directory: Path) -> DataSet:
    """The 52,938 records of BrandMeister, TGIF and hearham, as served."""
    found = registries()
    documents = {
        "devices": found.brandmeister_devices,
        "talkgroups": found.tgif_talkgroups,
        "repeaters": found.hearham_repeaters,
    }
    # as raw bytes: what does not change must not change in spelling either
    parsed = {name: msgspec.json.decode(data, type=list[msgspec.Raw]) for name, data in documents.items()}
    made = DataSet("registries", directory, tuple(_part(name, len(records)) for name, records in parsed.items()))
    for part in made.parts:
        pairs = ((bytes(record), bytes(record)) for record in parsed[part.name])
        _write(
            made, part, ((raw, _changed_record(raw) if n % 100 == CHANGED else raw) for n, (raw, _) in enumerate(pairs))
        )
    made.save()
    return made


def write_wide(directory: Path, rows: int) -> DataSet:
    """Rows of twelve mixed columns: integers, floats, short and long texts, dates as text, and nulls among all of them."""
    made = DataSet("wide", directory, (_part("readings", rows),))
    _write(made, made.parts[0], _readings(rows))
    made.save()
    return made


def _part(name: str, records: int) -> Part:
    row = TYPES[name]
    hints = typing.get_type_hints(row)
    columns = (Column(f.encode_name, f.name, _kind(hints[f.name])) for f in msgspec.structs.fields(row))
    return Part(name, tuple(columns), records)


def _kind(hint: Any) -> Kind:
    arms = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next(_KINDS[arm] for arm in arms if arm is not type(None))


def _write(made: DataSet, part: Part, pairs: Iterator[tuple[bytes, bytes]]) -> None:
    """Writes a part's documents of pairs: each record as it is at first, and as it is in the end."""
    row = msgspec.json.Decoder(TYPES[part.name])
    # so many rows are compared at the end, whatever the set's size
    every = 100 * max(1, part.records // 100_000)
    versions = made.files("first")[part.name], made.files("changed")[part.name], made.files("sample")[part.name]
    with versions[0].open("wb") as first, versions[1].open("wb") as last, versions[2].open("wb") as sample:
        with made.expected(part).open("wb") as expected:
            for number, (before, after) in enumerate(pairs):
                _append(first, before, number)
                _append(last, after, number)
                if number < SAMPLE:
                    _append(sample, before, number)
                if number % every in (CHANGED, UNCHANGED):
                    expected.write(msgspec.json.encode(msgspec.structs.astuple(row.decode(after))) + b"\n")
        for file in (first, last, sample):
            file.write(b"]")


def _append(file: BinaryIO, record: bytes, number: int) -> None:
    file.write(b",\n" if number else b"[")
    file.write(record)


def _changed_record(raw: bytes) -> bytes:
    record = msgspec.json.decode(raw)
    text = "name" if "name" in record else "city"
    return msgspec.json.encode({**record, text: f"{record.get(text) or ''} (moved)"})


def _readings(rows: int) -> Iterator[tuple[bytes, bytes]]:
    random, encode = Random(0), msgspec.json.Encoder().encode
    for number in range(rows):
        reading = _reading(random, number)
        before = after = encode(reading)
        if number % 100 == CHANGED:
            reading.level += 1.5
            reading.count = None if reading.count else 7
            reading.text += " Corrected."
            after = encode(reading)
        yield before, after


def _reading(random: Random, number: int) -> Reading:
    draw = random.random
    day = _FIRST_DAY + dt.timedelta(days=int(draw() * 2000))
    words = [_WORDS[int(draw() * len(_WORDS))] for _ in range(4)]
    return Reading(
        id=number * 3 + 1,
        station=f"S{int(draw() * 5000):04d}",
        serial=int(draw() * 2**53),
        kind=words[0],
        level=draw() * 1000 - 500,
        drift=round(draw(), 4) if draw() < 0.8 else None,
        count=int(draw() * 100) if draw() < 0.9 else None,
        day=day.isoformat(),
        taken_at=f"{day.isoformat()}T{int(draw() * 24):02d}:{int(draw() * 60):02d}:00Z",
        state=_STATES[int(draw() * len(_STATES))],
        remark=f"{words[1]} & {words[2]}" if draw() < 0.3 else None,
        text=f"Reading {number} was {' then '.join(words)}." * (1 + int(draw() * 3)),
    )
