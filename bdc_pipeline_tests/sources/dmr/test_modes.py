"""Which mode suits how much memory, and how much there is in a container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from bdc_pipeline.sources.dmr import modes
from bdc_pipeline.sources.dmr.modes import MB, available_memory, chosen, suited_to
from bdc_pipeline.warehouse.documents import CHUNK, Mode

GB = 1024 * MB


@pytest.mark.parametrize(
    ("available", "mode"),
    [
        (0, Mode("streaming", 500)),
        (512 * MB - 1, Mode("streaming", 500)),
        (512 * MB, Mode("streaming", 1000)),
        (2 * GB - 1, Mode("streaming", 1000)),
        (2 * GB, Mode("streaming", 2000)),
        (8 * GB - 1, Mode("streaming", 2000)),
        (8 * GB, Mode("parallel")),
        (512 * GB, Mode("parallel")),
    ],
)
def test_less_memory_is_streamed_in_smaller_chunks(available: int, mode: Mode) -> None:
    assert suited_to(available) == mode


@pytest.mark.parametrize(
    ("choice", "chunk", "mode"),
    [
        ("parallel", None, Mode("parallel", CHUNK)),
        ("sequential", None, Mode("sequential", CHUNK)),
        ("streaming", None, Mode("streaming", CHUNK)),
        ("streaming", 700, Mode("streaming", 700)),
        ("auto", None, Mode("streaming", 1000)),
        ("auto", 500, Mode("streaming", 500)),
    ],
)
def test_what_was_asked_for_counts(monkeypatch: pytest.MonkeyPatch, choice: str, chunk: int | None, mode: Mode) -> None:
    monkeypatch.setattr(modes, "available_memory", lambda: 600 * MB)
    assert chosen(choice, chunk) == mode


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ValueError, match=r"no mode 'turbo'\. There are auto, parallel, sequential, streaming"):
        chosen("turbo")


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with 16 GB to spare."""
    found = psutil.virtual_memory()._replace(available=16 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
    return 16 * GB


def container(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)
    return directory


@pytest.mark.usefixtures("plenty")
class TestInAContainer:
    def test_no_more_than_its_limit_leaves(self, tmp_path: Path) -> None:
        here = container(tmp_path, memory_max=f"{256 * MB}\n", memory_current=f"{56 * MB}\n")
        assert available_memory(here) == 200 * MB

    def test_files_that_were_read_are_not_in_the_way(self, tmp_path: Path) -> None:
        stat = f"anon {50 * MB}\nfile {180 * MB}\ninactive_file {150 * MB}\n"
        here = container(tmp_path, memory_max=str(256 * MB), memory_current=str(250 * MB), memory_stat=stat)
        assert available_memory(here) == 156 * MB

    def test_more_used_than_allowed_leaves_nothing(self, tmp_path: Path) -> None:
        here = container(tmp_path, memory_max=str(256 * MB), memory_current=str(300 * MB))
        assert available_memory(here) == 0

    @pytest.mark.parametrize("limit", ["max\n", "", "many", "-1"])
    def test_a_limit_that_is_none_leaves_what_the_machine_has(self, tmp_path: Path, plenty: int, limit: str) -> None:
        assert available_memory(container(tmp_path, memory_max=limit, memory_current="1")) == plenty

    @pytest.mark.parametrize("current", ["", "much"])
    def test_an_unreadable_use_leaves_what_the_machine_has(self, tmp_path: Path, plenty: int, current: str) -> None:
        assert available_memory(container(tmp_path, memory_max="1000", memory_current=current)) == plenty

    def test_no_such_files_leave_what_the_machine_has(self, tmp_path: Path, plenty: int) -> None:
        assert available_memory(tmp_path / "nothing") == plenty

    def test_a_larger_limit_than_the_machine_has_does_not_make_memory(self, tmp_path: Path, plenty: int) -> None:
        assert available_memory(container(tmp_path, memory_max=str(999 * GB), memory_current="1")) == plenty
