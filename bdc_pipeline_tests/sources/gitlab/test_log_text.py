"""What a log says: text, sections, errors."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.gitlab import log_text

SECTION = b"section_start:1700000000:get_sources[collapsed=true]\r\x1b[0KFetching\nsection_end:1700000007:get_sources\r\x1b[0K\n"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[32;1mgreen\x1b[0;m\n", "green\n"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x07\n", "link\n"),
        (b"10%\r50%\r100%\n", "100%\n"),
        (b"longer line\rshort\n", "shortr line\n"),
        (b"Downloading 100 percent\r\x1b[KDone\n", "Done\n"),
        (b"Downloading 100 percent\rDone\x1b[0K\x1b[1m!\x1b[0m\n", "Done!\n"),
        (b"a spinner\x1b[2K\rok\n\x1b[0Kplain\n", "ok\nplain\n"),
        (b"\x1b(B\x1b[mhello\x1b7\x1b8\x1bM\n", "hello\n"),
        (b"\x1b]0;title never closed\nline 2\nline 3\x07rest\n", "]0;title never closed\nline 2\nline 3rest\n"),
        (b"line\r\nnext\r\n", "line\nnext\n"),
        (SECTION, "Fetching\n\n"),
        (b"2026-01-21T09:47:05.094219Z 00O one\n2026-01-21T09:47:05.094219Z 00O+ and more\n", "one and more\n"),
        (b"2026-01-21T09:47:05.094219Z 01E \x1b[31mtwo\x1b[0m\n", "two\n"),
        (b"2026-01-21T09:47:05.094219Z 01E one\n\x00two\n", "one\ntwo\n"),
        (b"a preamble " * 20 + b"\n2026-01-21T09:47:05.094219Z 00O hi\n", "a preamble " * 20 + "\nhi\n"),
        (b"a\x00b\tc\n", "ab\tc\n"),
        (b"caf\xe9\n", "caf\ufffd\n"),
        (b"", ""),
    ],
)
def test_the_text_is_what_a_person_reads(raw: bytes, text: str) -> None:
    assert log_text.parsed(raw).text == text


def test_no_line_of_a_log_that_is_kept_in_part_bears_the_runners_time() -> None:
    line = b"2026-01-21T09:47:05.094219Z 00O " + b"x" * 1000 + b"\n"
    found = log_text.parsed(line * 5000)
    assert found.text_cut
    assert "2026-01-21T" not in found.text


def test_sections_are_timed_and_one_that_stays_open_has_no_end() -> None:
    raw = SECTION + b"section_start:1700000010:step_script\r\x1b[0K" + b"section_end:5:never_begun\r\x1b[0K"
    found = [(section.name, section.start, section.seconds) for section in log_text.parsed(raw).sections]
    assert found == [("get_sources", 1_700_000_000, 7), ("step_script", 1_700_000_010, None)]


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: Job failed: exit code 1",
        "Error: Cannot find module './invoice'",
        "fatal: unable to access",
        "FAILED tests/test_a.py::test_b - AssertionError",
        "make: *** [Makefile:12: check] Error 2",
        "E   ConnectionRefusedError: [Errno 111]",
        "Traceback (most recent call last):",
        "bash: foo: command not found",
        "ERROR: 3 failed, 0 errors",
    ],
)
def test_lines_that_look_like_errors(line: str) -> None:
    assert log_text.is_error(line)


@pytest.mark.parametrize(
    "line", ["0 errors, 0 warnings", "all tests passed", "no errors found", "terrors", "Compiling error.ts"]
)
def test_lines_that_do_not(line: str) -> None:
    assert not log_text.is_error(line)


def test_invalid_bytes_are_counted_and_a_real_replacement_character_is_none() -> None:
    assert log_text.parsed("x \ufffd".encode() + b"\xff\xfe").invalid_bytes == 2


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    raw = b"begin\n" + b"x" * 5_000_000 + b"\nERROR: at the end\n"
    found = log_text.parsed(raw)
    assert found.text_cut
    assert found.text.startswith("begin\n")
    assert found.text.endswith("ERROR: at the end\n")
    assert "the middle is left out" in found.text
    assert (found.size, found.lines, found.error_lines) == (len(raw), 3, ["ERROR: at the end"])


@given(st.binary(max_size=400))
def test_any_bytes_can_be_taken_apart_and_come_back(raw: bytes) -> None:
    found = log_text.parsed(raw)
    assert "\x1b[" not in found.text or b"\x1b\x1b" in raw or "\x1b" not in found.text
    assert zlib.decompress(log_text.compressed(raw)) == raw
    assert found.size == len(raw)


def test_a_large_log_is_never_a_text_as_a_whole() -> None:
    # a character of four bytes makes Python's text four times as large as ASCII's
    raw = b"begin\n" + ("build \U0001f680 done\n" * 1_500_000).encode() + b"caf\xe9\nERROR: at the end\n"
    tracemalloc.start()
    found = log_text.parsed(raw)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(raw) > 20_000_000
    assert most < 25_000_000
    assert (found.invalid_bytes, found.lines, found.error_lines) == (1, 1_500_003, ["ERROR: at the end"])


@given(st.lists(st.sampled_from([b"\xf0\x9f\x9a\x80", b"\xff", b"a", b"\xe9", b"\xef\xbf\xbd", b"\n"]), max_size=60))
def test_invalid_bytes_are_counted_the_same_in_pieces(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_text, "_PIECE", 3)
        assert log_text.parsed(raw).invalid_bytes == raw.decode("utf-8", "replace").count("\ufffd") - raw.count(
            b"\xef\xbf\xbd"
        )


@given(st.text(alphabet="eEfFaAilLrRoO: \n\u0130", max_size=80))
def test_lines_with_errors_are_found_however_they_are_looked_for(text: str) -> None:
    assert [line for line in log_text._suspects(text) if log_text.is_error(line)] == [
        line for line in text.split("\n") if log_text.is_error(line)
    ]
