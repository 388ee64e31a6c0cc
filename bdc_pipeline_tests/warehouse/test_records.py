"""Finding the records of a document: whatever is in them, wherever a block ends, and wherever the document breaks off."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.warehouse import records as records_module
from bdc_pipeline.warehouse.records import BLOCK, BrokenDocument, Record, read_records, records_of

BLOCKS = st.integers(1, 40) | st.sampled_from([64, 300, BLOCK])

tricky = st.text(alphabet=st.sampled_from('{}[],:"\\ \n\t\u00e9\U0001f6f0ab\u2028\x00'), max_size=12) | st.text(
    max_size=6
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | tricky,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(tricky, values, max_size=5)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", " : "), (",\r\n\t", ":")])
blanks = st.text(alphabet=" \t\r\n", max_size=3)


def flat(blocks: Iterable[list[Record]]) -> list[bytes]:
    return [bytes(record) for block in blocks for record in block]


def read(data: bytes, block: int = BLOCK) -> list[bytes]:
    return flat(read_records(io.BytesIO(data), block))


def until_broken(blocks: Iterator[list[Record]]) -> tuple[list[bytes], str]:
    """The records before the break, and what it says; empty where there is none."""
    found: list[bytes] = []
    try:
        for block in blocks:
            found += map(bytes, block)
    except BrokenDocument as broken:
        return found, str(broken)
    return found, ""


def both(data: bytes, block: int = BLOCK) -> tuple[list[bytes], str]:
    """What the two ways agree on."""
    (found, problem), blockwise = until_broken(records_of(data)), until_broken(read_records(io.BytesIO(data), block))
    # of what is there instead, no more is shown than was read
    shown = blockwise[1].removesuffix("'").removesuffix("...")
    assert (found, problem[: len(shown)]) == (blockwise[0], shown)
    return found, problem


def encoded(value: Any, layout: tuple[str, str], *, ascii_only: bool) -> bytes:
    return json.dumps(value, separators=layout, ensure_ascii=ascii_only).encode(errors="surrogatepass")


# -- what is well-formed -------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(objects | values, max_size=12), BLOCKS, layouts, st.booleans(), blanks, blanks, st.booleans())
def test_the_records_are_found_whatever_is_in_them_and_wherever_a_block_ends(
    data: list[Any], block: int, layout: tuple[str, str], ascii_only: bool, before: str, after: str, mark: bool
) -> None:
    texts = [encoded(record, layout, ascii_only=ascii_only) for record in data]
    inner = layout[0].encode().join(texts)
    document = (b"\xef\xbb\xbf" if mark else b"") + f"{before}[{after}".encode() + inner + f"{before}]{after}".encode()
    assert both(document, block) == (texts, "")
    assert [json.loads(record) for record in read(document, block)] == data


@settings(max_examples=60)
@given(st.lists(st.tuples(tricky, values), max_size=8), BLOCKS, layouts)
def test_the_members_of_an_object_come_as_objects_of_one_member_even_where_a_name_is_repeated(
    members: list[tuple[str, Any]], block: int, layout: tuple[str, str]
) -> None:
    texts = [encoded({name: value}, layout, ascii_only=False)[1:-1] for name, value in members]
    document = b"{" + layout[0].encode().join(texts) + b"}"
    found, problem = both(document, block)
    assert [json.loads(record) for record in found] == [{name: value} for name, value in members]
    assert problem == ""


@pytest.mark.parametrize("document", [b"[]", b" [ ] ", b"{}", b"\xef\xbb\xbf[\n]\n", b"\n\n{\t}"])
@pytest.mark.parametrize("block", [1, 2, BLOCK])
def test_an_empty_list_has_no_records_and_is_no_break(document: bytes, block: int) -> None:
    assert both(document, block) == ([], "")


@pytest.mark.parametrize("block", [1, 7, 1000, BLOCK])
def test_a_record_longer_than_a_block_comes_whole(block: int) -> None:
    texts = [b'{"id":1}', b'{"text":"' + b"}," * 5000 + b'"}', b'{"list":[' + b'{"a":1},' * 3000 + b"2]}", b'{"id":2}']
    assert both(b"[" + b",".join(texts) + b"]", block) == (texts, "")


@pytest.mark.parametrize("block", [5, BLOCK])
def test_a_record_that_is_nested_too_deep_to_decode_costs_no_other(block: int) -> None:
    deep = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    texts = [b'{"id":1}', deep, b'{"id":2}']
    assert both(b"[" + b",".join(texts) + b"]", block) == (texts, "")


def test_records_come_before_the_file_is_read_to_its_end() -> None:
    file = io.BytesIO(b"[" + b",".join([b'{"id":1}'] * 1000) + b"]")
    assert next(read_records(file, 100))
    assert file.tell() < 1000


# -- what is malformed within a record -----------------------------------------------------------------------------

MALFORMED = [
    b'{"price": NaN}', b'{"price": -Infinity}', b'{"price": 1e999999}', b'{"price": 01}', b'{"text": "a\\x"}',
    b'{"text": "\\u12"}', b'{"text": "\\"}, {\\""; }', b'{"text": "\xff\xfe"}', b'{"text": "\xc3"}', b'{"text": "a\nb\x00"}',
    b"{'id': 1}", b"{id: 1}", b'{"id" 1}', b'{"id": 1 "name": 2}', b'{"id": , }', b"NaN", b"undefined", b'"a" "b"',
    b"{} {}", b'{"a": [}]', b"[1 2]", b'{"a": tru}', b"\\",
]  # fmt: skip


@settings(max_examples=60)
@given(st.lists(objects, max_size=8), st.sampled_from(MALFORMED), st.data(), BLOCKS, layouts)
def test_a_malformed_record_comes_as_it_is_and_costs_no_other(
    data: list[Any], malformed: bytes, draw: st.DataObject, block: int, layout: tuple[str, str]
) -> None:
    texts = [encoded(record, layout, ascii_only=False) for record in data]
    texts.insert(draw.draw(st.integers(0, len(texts))), malformed)
    assert both(b"[ " + b" , ".join(texts) + b" ]", block) == (texts, "")


@pytest.mark.parametrize("block", [1, 3, BLOCK])
def test_nothing_between_two_commas_is_a_record_that_is_none(block: int) -> None:
    assert both(b"[,]", block) == ([b""], "")
    assert both(b'[{"a":1},,{"b":2}]', block) == ([b'{"a":1}', b"", b'{"b":2}'], "")
    assert both(b'[, {"a":1}]', block) == ([b"", b'{"a":1}'], "")
    assert both(b'{"a":1,,"b":2}', block) == ([b'{"a":1}', b"{}", b'{"b":2}'], "")


@pytest.mark.parametrize("block", [1, 3, BLOCK])
def test_a_comma_behind_the_last_record_is_no_record(block: int) -> None:
    assert both(b'[{"a":1}, {"b":2}, ]', block) == ([b'{"a":1}', b'{"b":2}'], "")


# -- where a document breaks off -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(objects, max_size=8), BLOCKS, layouts, st.booleans(), st.data())
def test_a_document_that_is_cut_anywhere_gives_the_records_before_the_cut_and_says_so(
    data: list[Any], block: int, layout: tuple[str, str], of_object: bool, draw: st.DataObject
) -> None:
    texts = [encoded(record, layout, ascii_only=False) for record in data]
    open_, close = (b"{", b"}") if of_object else (b"[", b"]")
    members = [b'"%d":%b' % (place, text) for place, text in enumerate(texts)] if of_object else texts
    document = open_ + b",".join(members) + close
    cut = draw.draw(st.integers(0, len(document) - 1))
    # a record is whole once the comma behind it has come
    ends = [len(open_) + sum(len(member) + 1 for member in members[: n + 1]) for n in range(len(members) - 1)]
    whole = sum(end <= cut for end in ends)
    found, problem = both(document[:cut], block)
    assert found == [open_ + member + close if of_object else member for member in members[:whole]]
    assert problem.startswith("it is cut short: it ends at byte" if cut else "it is empty")


@pytest.mark.parametrize(
    ("document", "count", "problem"),
    [
        (b"", 0, "it is empty"),
        (b" \r\n ", 0, "it is empty"),
        (b"\xef\xbb\xbf", 0, "it is empty"),
        (b"\xef\xbb", 0, "it is no JSON array or object: it begins with '\ufffd'"),
        (b"<html><body>502 Bad Gateway</body></html> and so on", 0,
         "it is no JSON array or object: it begins with '<html><body>502 Bad Gateway</body></html...'"),
        (b"null", 0, "it is no JSON array or object: it begins with 'null'"),
        (b" 12", 0, "it is no JSON array or object: it begins with '12'"),
        (b'"text"', 0, "it is no JSON array or object: it begins with '\"text\"'"),
        (b"]", 0, "it is no JSON array or object: it begins with ']'"),
        (b"[]x", 0, "after its end, at byte 2, follows 'x'"),
        (b"[{}]  \n[{}]", 1, "after its end, at byte 7, follows '[{}]'"),
        (b"[{},{}}", 2, "at byte 6 comes '}' instead of ']'"),
        (b"[1}, 2]", 1, "at byte 2 comes '}' instead of ']'"),
        (b'{"a":1]', 1, "at byte 6 comes ']' instead of '}'"),
        (b"[1, 2", 1, "it is cut short: it ends at byte 5, within a record that begins at byte 4"),
        (b'[{"a":1},', 1, "it is cut short: it ends at byte 9, before the end of its list"),
        (b'[{"a":1}, ', 1, "it is cut short: it ends at byte 10, before the end of its list"),
        (b'[{"a":"}', 0, "it is cut short: it ends at byte 8, within a record that begins at byte 1"),
        (b"[", 0, "it is cut short: it ends at byte 1, before the end of its list"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 3, BLOCK])
def test_what_is_no_whole_document_is_told_with_the_place(
    document: bytes, count: int, problem: str, block: int
) -> None:
    found, told = both(document, block)
    assert (len(found), told) == (count, problem)


def test_what_follows_the_end_is_found_however_many_blanks_precede_it() -> None:
    assert both(b"[1]" + b" " * 5000 + b"x", 16) == ([b"1"], "after its end, at byte 5003, follows 'x'")
    assert both(b"[1]" + b" " * 5000, 16) == ([b"1"], "")


@pytest.mark.parametrize("block", [1, 16, 64])
def test_what_has_no_end_for_too_long_is_no_record(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(records_module, "LONGEST", 1000)
    endless = b'[{"a":1},{"b":2},"' + b"x" * 50_000
    found, problem = until_broken(read_records(io.BytesIO(endless), block))
    assert found == [b'{"a":1}', b'{"b":2}']
    assert problem.startswith("the record at byte 17 is longer than")


def test_a_record_just_within_the_longest_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "LONGEST", 1000)
    texts = [b'"' + b"x" * 990 + b'"', b'{"a":1}']
    assert read(b"[" + b",".join(texts) + b"]", 16) == texts


# -- files of any size ---------------------------------------------------------------------------------------------


class Generated(io.RawIOBase):
    """A document of many records that is nowhere as a whole."""

    def __init__(self, record: bytes, count: int) -> None:
        self.piece, self.left = record + b",", count
        self.rest = b"["
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        while len(self.rest) < size and self.left:
            number = min(self.left, size // len(self.piece) + 1)
            self.left -= number
            self.rest += self.piece * number
            if not self.left:
                self.rest = self.rest[:-1] + b"]"
        data, self.rest = self.rest[:size], self.rest[size:]
        self.size += len(data)
        return data


@pytest.mark.parametrize(
    "ending", [b'"}', b'", "list": [{"a":1},{"a":1},{"a":1},{"a":1},{"a":1},{"a":1}]}'], ids=["flat", "nested"]
)
def test_memory_does_not_grow_with_the_file(ending: bytes) -> None:
    record = b'{"id": 12345, "text": "' + b"x" * 4000 + ending
    file = Generated(record, 50_000_000 // len(record))
    count = 0
    tracemalloc.start()
    try:
        for block in read_records(file):  # type: ignore[arg-type]
            count += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 50_000_000 // len(record)
    assert file.size > 49_000_000
    assert peak < 3_000_000
