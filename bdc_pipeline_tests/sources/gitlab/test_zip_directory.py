"""The directory of an archive: as zipfile sees it, or a sentence that says what is wrong."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sandbox.gitlab.archives import hostile
from bdc_pipeline.sources.gitlab.zip_directory import Damaged, Entry, find_directory, read_entries


def entries(content: bytes) -> list[Entry]:
    found = find_directory(content, len(content))
    assert not isinstance(found, int)
    return read_entries(content[found.offset : found.offset + found.size], found)


def zipped(files: dict[str, bytes], comment: bytes = b"") -> bytes:
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as written:
        for path, content in files.items():
            written.writestr(path, content)
        written.comment = comment
    return opened.getvalue()


@given(
    st.dictionaries(st.text(min_size=1, max_size=20, alphabet="abcäß/._-"), st.binary(max_size=300), max_size=8),
    st.binary(max_size=50),
)
def test_what_zipfile_writes_is_read_alike(files: dict[str, bytes], comment: bytes) -> None:
    content = zipped(files, comment.replace(b"PK", b""))
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        told = [(info.filename, info.file_size, info.compress_size, info.CRC) for info in opened.infolist()]
    assert [(entry.path, entry.size, entry.compressed_size, entry.crc32) for entry in entries(content)] == told


def test_the_64_bit_form_of_100_000_files() -> None:
    found = entries(hostile("many"))
    assert len(found) == 100_000
    assert found[-1].path == "files/099999.txt"


def test_the_end_is_enough_and_says_where_the_rest_begins() -> None:
    content = zipped({f"file-{n}": b"x" * n for n in range(200)})
    place = find_directory(content[-100:], len(content))
    assert not isinstance(place, int)
    assert len(read_entries(content[place.offset : place.offset + place.size], place)) == 200


def test_names_and_links_are_told_as_they_are() -> None:
    found = {entry.path: entry for entry in entries(hostile("traversal"))}
    assert "../../../../tmp/escaped.txt" in found
    assert (found["link"].mode or 0) >> 12 == 0o12


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no directory at its end"),
        (b"<html>not a zip</html>", "no directory at its end"),
        (hostile("truncated"), "no directory at its end"),
        (hostile("lying"), "its directory says that"),
        (
            zipped({"a": b"a"})[:-22] + b"PK\x05\x06" + b"\0" * 4 + b"\x01\0\x01\0" + b"\xff\xff\0\0" + b"\0" * 6,
            "behind its own end record",
        ),
    ],
)
def test_what_cannot_be_true_is_said(content: bytes, said: str) -> None:
    with pytest.raises(Damaged) as damage:
        entries(content)
    assert said in str(damage.value)


def test_an_archive_that_promises_fewer_entries_than_it_holds_is_damaged() -> None:
    content = bytearray(zipped({f"{number}.txt": b"a" for number in range(100)}))
    struct.pack_into("<HH", content, content.rfind(b"PK\x05\x06") + 8, 10, 10)
    with pytest.raises(Damaged, match="holds 100 entries and promises 10"):
        entries(bytes(content))


def test_more_entries_than_the_count_can_tell_are_read_all_the_same() -> None:
    content = bytearray(zipped({f"{number}": b"" for number in range(65_540)}))
    # a writer that does not know the 64-bit form
    end = content.rfind(b"PK\x05\x06")
    struct.pack_into("<HH", content, end + 8, 4, 4)
    assert len(entries(bytes(content))) == 65_540


def test_an_end_record_in_a_comment_is_none() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", b"a")
        archive.comment = b"note " + b"PK\x05\x06" + bytes(40)
    # what is put behind an archive makes no comment fit
    for content in (buffer.getvalue(), zipped({"a.txt": b"a"}) + bytes(30)):
        assert [entry.path for entry in entries(content)] == ["a.txt"]


@given(st.binary(max_size=200), st.integers(0, 150))
def test_no_bytes_break_it(noise: bytes, at: int) -> None:
    content = bytearray(zipped({"a.txt": b"abc", "b/": b""}))
    content[at : at + len(noise)] = noise
    with contextlib.suppress(Damaged):
        assert len(entries(bytes(content))) <= 2
