"""`warm dmr`, `sync dmr`, `dmr near`: options, exit status, what is said and what is printed for programs."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bdc_pipeline.cli import main
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES
from bdc_pipeline.warehouse import documents
from bdc_pipeline.warehouse.drain_options import DrainOptions
from bdc_pipeline_tests.ports import nobody
from bdc_pipeline_tests.sources.dmr.syncing import Copy

Call = Callable[..., Result]


@pytest.fixture
def call(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """The command in this process; its log and its signal handlers end with the test."""
    log = logging.getLogger("bdc_pipeline")
    handlers, level, propagate = log.handlers, log.level, log.propagate
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str, **variables: str) -> Result:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        try:
            result = CliRunner().invoke(main, arguments)
        finally:
            for handler in log.handlers if log.handlers is not handlers else ():
                handler.close()
            log.handlers, log.level, log.propagate = handlers, level, propagate
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    yield run
    for number, handler in signals.items():
        signal.signal(number, handler)


@pytest.fixture
def nowhere() -> Iterator[dict[str, str]]:
    """Addresses at which nobody answers."""
    with nobody() as address:
        yield {f"{name.upper()}_URL": address for name in REGISTRIES}


def flat(result: Result) -> str:
    return " ".join(result.output.split())


def old(copy: Copy, hours: int = 48) -> None:
    """Makes all downloads older than they are."""
    for feed in FEEDS:
        path = copy.cache.record_path(feed)
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps(record | {"checked_at": "2025-01-01T00:00:00Z"}))


# -- rows in a transaction -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [([], 20_000), (["--mode", "streaming"], 3_000), (["-c", "1000"], 1000), (["--commit-interval", "7"], 7)],
)
def test_what_is_said_of_transactions_counts_also_where_it_is_the_usual_number(
    copy: Copy, call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], rows: int
) -> None:
    copy.warm()
    seen: list[DrainOptions] = []
    suited = documents.drain_options_for

    def note(mode: documents.Mode, options: DrainOptions | None = None) -> DrainOptions:
        seen.append(suited(mode, options))
        return seen[-1]

    monkeypatch.setattr(documents, "drain_options_for", note)
    assert call("sync", "dmr", "--no-download", "--mode", "sequential", *arguments).exit_code == 0
    assert {options.commit_interval for options in seen} == {rows}


# -- warm ------------------------------------------------------------------------------------------------------


def test_warm_says_what_became_of_each_document(copy: Copy, call: Call) -> None:
    result = call("warm", "dmr", "--max-age", "1h")
    assert result.exit_code == 0
    assert f"4 of 4 documents are as asked for, in {copy.cache.directory}." in result.output
    assert "brandmeister_devices: downloaded: 400 records, now" in result.output
    again = call("warm", "dmr", "--max-age", "1h")
    assert again.exit_code == 0
    assert "brandmeister_devices: fresh: 400 records, " in again.output
    forced = call("warm", "dmr", "--force")
    assert forced.exit_code == 0
    assert "brandmeister is asked every 15 min at most" in forced.output
    assert copy.asked() == 4


def test_warm_for_programs(copy: Copy, call: Call) -> None:
    result = call("warm", "dmr", "--json", "--partition", "tgif")
    told = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, told["source"], told["complete"]) == (0, "dmr", True)
    [(name, document)] = told["documents"].items()
    path = copy.cache.path(next(feed for feed in FEEDS if feed.name == name))
    assert name == "tgif_talkgroups"
    assert 0 <= document.pop("age_seconds") < 60
    assert len(document.pop("sha256")) == 64
    assert document == {
        "action": "downloaded",
        "problem": None,
        "path": str(path),
        "bytes": path.stat().st_size,
        "records": len(copy.document(name)),
    }


def test_a_dead_server_without_a_copy_is_no_success(copy: Copy, call: Call, nowhere: dict[str, str]) -> None:
    result = call("warm", "dmr", "--json", **nowhere)
    told = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, told["complete"]) == (1, False)
    assert {one["action"] for one in told["documents"].values()} == {"failed"}
    assert {one["path"] for one in told["documents"].values()} == {None}
    assert all("127.0.0.1" in one["problem"] for one in told["documents"].values())


def test_a_dead_server_with_an_older_copy_leaves_it_and_says_how_old_it_is(
    copy: Copy, call: Call, nowhere: dict[str, str]
) -> None:
    call("warm", "dmr")
    old(copy)
    before = [copy.bytes_of(feed.name) for feed in FEEDS]
    result = call("warm", "dmr", **nowhere)
    assert result.exit_code == 1
    assert "0 of 4 documents are as asked for" in result.output
    assert "the copy of before stands, 400 records, " in result.output
    assert [copy.bytes_of(feed.name) for feed in FEEDS] == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-age", "soon"], "'soon' is no age. Write a number and s, m, h or d: 30m, 1h, 2d."),
        (["--max-age", "30"], "'30' is no age"),
        (["--max-age", "-1h"], "'-1h' is no age"),
        (["--partition", "radioid"], "'radioid' is not one of"),
        (["--nonsense"], "No such option"),
        (["surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_of_warm(copy: Copy, call: Call, arguments: list[str], sentence: str) -> None:
    result = call("warm", "dmr", *arguments)
    assert result.exit_code == 2
    assert sentence in flat(result)
    assert copy.asked() == 0


@pytest.mark.parametrize("command", [("warm", "dmr"), ("sync", "dmr")])
def test_a_cache_directory_that_is_a_file_is_told_with_status_2(
    copy: Copy, call: Call, command: tuple[str, ...]
) -> None:
    (copy.directory / "file").write_text("not a directory")
    result = call(*command, BDC_CACHE_DIR=str(copy.directory / "file"))
    assert result.exit_code == 2
    assert "Error: " in result.output
    assert "cannot be written" in result.output
    assert "BDC_CACHE_DIR" in result.output
    assert copy.asked() == 0


@pytest.mark.parametrize("command", [("warm", "dmr"), ("sync", "dmr")])
def test_an_address_that_is_none_is_told_with_status_2(copy: Copy, call: Call, command: tuple[str, ...]) -> None:
    result = call(*command, HEARHAM_URL="hearham")
    assert result.exit_code == 2
    assert "Error: HEARHAM_URL is 'hearham', which is no web address" in result.output


# -- sync ------------------------------------------------------------------------------------------------------


def test_sync_downloads_loads_and_reports(copy: Copy, call: Call) -> None:
    result = call("sync", "dmr", "--json", "--mode", "streaming", "--chunk", "500")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert (report["source"], report["complete"], report["requests"]) == ("dmr", True, 4)
    repeaters = report["tables"]["repeaters"]
    served = 400 + len(copy.sandbox.source("hearham").rows("repeater", ["id"]))
    assert repeaters["expected"] == repeaters["fetched"] == repeaters["inserted"] == served
    again = json.loads(call("sync", "dmr", "--json").stdout.splitlines()[-1])
    assert (again["complete"], again["requests"]) == (True, 0)
    assert again["tables"]["repeaters"]["unchanged"] == served


def test_sync_with_a_dead_server_keeps_the_last_good_data_and_is_no_success(
    copy: Copy, call: Call, nowhere: dict[str, str]
) -> None:
    assert call("sync", "dmr").exit_code == 0
    before = copy.rowids()
    old(copy)
    result = call("sync", "dmr", "--json", **nowhere)
    report = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, report["complete"]) == (1, False)
    assert {failure["unit"] for failure in report["failures"]} == {feed.name for feed in FEEDS}
    assert all("the copy of before stands" in failure["error"] for failure in report["failures"])
    assert copy.rowids() == before


def test_sync_with_a_dead_server_and_nothing_before_says_that_nothing_came(
    copy: Copy, call: Call, nowhere: dict[str, str]
) -> None:
    result = call("sync", "dmr", **nowhere)
    assert result.exit_code == 1
    assert "there is no copy of before" in flat(result)
    assert copy.live("repeaters") == 0


def test_sync_without_downloads_asks_nobody(copy: Copy, call: Call) -> None:
    result = call("sync", "dmr", "--no-download")
    assert result.exit_code == 1
    assert "there is no download of it. Run 'bdc-pipeline warm dmr'" in flat(result)
    assert copy.asked() == 0
    call("warm", "dmr")
    copy.sandbox.reset_stats()
    assert call("sync", "dmr", "--no-download").exit_code == 0
    assert copy.asked() == 0


def test_sync_of_one_registry_leaves_the_others_unasked(copy: Copy, call: Call) -> None:
    assert call("sync", "dmr", "--partition", "tgif").exit_code == 0
    assert copy.live("repeaters") == 0
    assert copy.live("talkgroups") == len(copy.document("tgif_talkgroups"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--partition", "radioid"], "'radioid' is no registry. There are brandmeister, tgif, hearham."),
        (["--no-download", "--max-age", "1h"], "--no-download asks no registry"),
        (["--mode", "turbo"], "'turbo' is not one of"),
        (["--chunk", "499"], "is not in the range 500<=x<=5000"),
        (["--chunk", "5001"], "is not in the range 500<=x<=5000"),
        (["--batch-size", "1"], "it is the same as --chunk: 500 to 5000."),
    ],
)
def test_wrong_usage_of_sync(copy: Copy, call: Call, arguments: list[str], sentence: str) -> None:
    result = call("sync", "dmr", *arguments)
    assert result.exit_code == 2
    assert sentence in flat(result)
    assert copy.asked() == 0


# -- near ------------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(copy: Copy) -> Copy:
    copy.put(
        "brandmeister_devices",
        [
            {
                "id": 100001,
                "callsign": "k0abc x",
                "tx": "439.0",
                "rx": "430.0",
                "colorcode": 3,
                "lat": 50.0,
                "lng": 10.0,
            },
            {"id": 100002, "callsign": "?", "lat": 50.1, "lng": 10.0, "city": "Springfield"},
        ],
    )
    copy.put("brandmeister_talkgroups", {"91": "World-wide"})
    copy.put("tgif_talkgroups", [{"id": "1"}])
    copy.put(
        "hearham_repeaters",
        [{"id": 5, "callsign": "W9TST", "latitude": 50.2, "longitude": 10.0, "mode": "FM", "operational": 0}],
    )
    assert copy.load().is_complete
    return copy


def test_near_shows_the_nearest_first(loaded: Copy, call: Call) -> None:
    result = call("dmr", "near", "--lat", "50", "--lon", "10")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0.0", "11.1", "22.2"]
    assert "K0ABC" in lines[0]
    assert "439.0000 MHz" in lines[0]
    assert "DMR CC3" in lines[0]
    assert "no frequency" in lines[1]
    assert "Springfield" in lines[1]
    assert "(not operational)" in lines[2]


def test_near_for_programs(loaded: Copy, call: Call) -> None:
    found = json.loads(call("dmr", "near", "--lat", "50", "--lon", "10", "--json", "--limit", "1").stdout)
    assert found == [
        {
            "km": 0.0, "source": "brandmeister", "external_id": "100001", "kind": "repeater", "callsign": "K0ABC",
            "output_hz": 439_000_000, "input_hz": 430_000_000, "band": "70cm", "mode": "DMR", "color_code": 3,
            "city": None, "lat": 50.0, "lon": 10.0, "operational": None,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--limit", "1"], "2 more within 50 km; see them with --limit."),
        (["--mode", "nfm"], "W9TST"),
        (["--band", "70CM"], "K0ABC"),
        (["--band", "23cm"], "No repeater within 50 km is known."),
        (["--km", "0.5", "--mode", "FM"], "No repeater within 0.5 km is known."),
    ],
)
def test_near_is_filtered(loaded: Copy, call: Call, arguments: list[str], sentence: str) -> None:
    result = call("dmr", "near", "--lat", "50", "--lon", "10", *arguments)
    assert result.exit_code == 0
    assert sentence in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--lat", "95", "--lon", "0"], "(95, 0) is no place on Earth: latitude -90 to 90, longitude -180 to 180."),
        (["--lat", "nan", "--lon", "0"], "is no place on Earth"),
        (["--lat", "5", "--lon", "0", "--km", "0"], "give one above 0"),
        (["--lat", "5"], "Missing option '--lon'"),
        (["--lat", "north", "--lon", "0"], "is not a valid float"),
        (["--lat", "5", "--lon", "0", "--band", "11m"], "'11m' is not one of"),
        (["--lat", "5", "--lon", "0", "--limit", "0"], "is not in the range"),
    ],
)
def test_wrong_usage_of_near(loaded: Copy, call: Call, arguments: list[str], sentence: str) -> None:
    result = call("dmr", "near", *arguments)
    assert result.exit_code == 2
    assert sentence in flat(result)


def test_near_without_a_file_says_how_to_make_it(copy: Copy, call: Call) -> None:
    result = call("dmr", "near", "--lat", "50", "--lon", "10")
    assert result.exit_code == 2
    assert f"{copy.path} does not exist. Run 'bdc-pipeline sync dmr' to make it." in flat(result)
    assert not copy.path.exists()


@pytest.mark.parametrize("kind", ["another database", "no database"])
def test_near_in_a_file_of_something_else_is_told_in_a_sentence(copy: Copy, call: Call, kind: str) -> None:
    path = copy.directory / "other.db"
    if kind == "no database":
        path.write_text("a letter to my aunt\n" * 100)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE songs (name)")
        connection.close()
    result = call("dmr", "near", "--lat", "50", "--lon", "10", "-db", str(path))
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: {path} ")


def test_near_in_a_file_whose_pages_are_damaged_does_not_say_that_there_are_no_repeaters(
    loaded: Copy, call: Call
) -> None:
    with contextlib.closing(sqlite3.connect(loaded.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        [root] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'repeaters'").fetchone()
    with loaded.path.open("r+b") as file:
        file.seek(size * (root - 1))
        file.write(b"\xff" * size)
    result = call("dmr", "near", "--lat", "50", "--lon", "10")
    assert result.exit_code == 2
    assert "malformed" in flat(result)
    assert "no repeaters" not in flat(result)


@pytest.mark.parametrize("group", ["warm", "dmr"])
def test_groups_show_what_they_have(call: Call, group: str) -> None:
    result = call(group, "--help")
    assert result.exit_code == 0
    assert {"warm": "dmr", "dmr": "near"}[group] in result.output


def ages() -> list[tuple[str, Any]]:
    return [("30m", 1800), ("1h", 3600), ("1.5h", 5400), ("2d", 172_800), ("90s", 90), ("0s", 0)]


@pytest.mark.parametrize(("text", "seconds"), ages())
def test_ages_are_read(text: str, seconds: int) -> None:
    from bdc_pipeline.commands.dmr import Age  # noqa: PLC0415

    assert Age().convert(text, None, None).total_seconds() == seconds
