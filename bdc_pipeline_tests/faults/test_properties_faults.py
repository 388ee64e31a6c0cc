"""What goes wrong between Boligsiden and the file, each on a real server: what is kept, what is said, and what heals.

Where a fault passes, the file ends up as if there had been none. Where it does not, the sync says so with the number that is
missing, keeps the rest, and the next sync fetches what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sandbox import PagingChange
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.assets import BoligsidenResource
from bdc_pipeline.sources.properties.plan import Plan, Visit
from bdc_pipeline.sources.properties.split import Limits
from bdc_pipeline.sources.properties.stream import PropertiesStream
from bdc_pipeline.warehouse.drain import DrainOptions, drain
from bdc_pipeline_tests.ports import nobody
from bdc_pipeline_tests.sources.properties.syncing import Copy, copying, errors_of

CITY = ("0101",)


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    with copying(tmp_path) as made:
        yield made


def with_homes(tmp_path: Path, **options: object):  # type: ignore[no-untyped-def]
    """A sandbox whose København has some 230 villas, more than the 200 that one list shows."""
    return copying(tmp_path, **{"homes": 4000, "hit_cap": 200, "zipless_share": 0.02, **options})


# -- what passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "503:0.05",
        "429~times=3,seconds=1@zip=",
        "429~times=1@page=2",
        "500~times=2",
        "cut~times=1@page=2",
        "cut~times=1@page=1",
        "html~times=1@zip=",
        "empty~times=1",
        "reset~times=1",
        "partial~times=1@page=2",
        "shrunken~times=1@page=2",
        "shrunken~times=1@page=1 sort",
        "throttle~times=1",
        "timeout~times=2,seconds=0.1",
    ],
)
def test_a_fault_that_passes_leaves_no_trace(tmp_path: Path, fault: str) -> None:
    with with_homes(tmp_path) as copy:
        copy.sandbox.configure(faults=[fault])
        report = copy.sync(partitions=CITY, workers=8, attempts=6)
        assert report.complete, errors_of(report)
        kind = fault.partition("~")[0].partition(":")[0]
        assert kind == "503" or copy.sandbox.stats()["faults"].get(kind, 0) > 0
        copy.sandbox.configure(faults=[])
        copy.assert_true(codes=(101,))


def test_zip_codes_that_are_said_to_have_no_homes_cost_requests_and_no_home(tmp_path: Path) -> None:
    with with_homes(tmp_path) as copy:
        copy.sandbox.configure(faults=["shrunken@zip=2300"])
        report = copy.sync(partitions=CITY)
        assert report.complete, errors_of(report)
        copy.assert_true(codes=(101,))


@pytest.mark.parametrize("action", ["insert", "delete", "touch"])
@pytest.mark.parametrize("homes", [2000, 4000])
def test_homes_that_come_go_or_change_while_pages_are_read(tmp_path: Path, action: str, homes: int) -> None:
    change = PagingChange(entity="Address", action=action, every=2, times=2)  # type: ignore[arg-type]
    with with_homes(tmp_path, homes=homes, paging_changes=(change,)) as copy:
        report = copy.sync(partitions=CITY, workers=2)
        assert report.complete, errors_of(report)
        assert {row[0] for row in copy.query("SELECT address_id FROM live_properties")} == copy.homes(codes=(101,))
        # what was changed behind a page that had been read comes with the next walk
        copy.sandbox.configure(paging_changes=[])
        report = copy.sync(partitions=CITY, force=True)
        assert report.complete, errors_of(report)
        copy.assert_true(codes=(101,))


def test_a_number_of_homes_that_never_stands_still_is_told(tmp_path: Path) -> None:
    change = PagingChange(entity="Address", action="insert")
    with with_homes(tmp_path, homes=2000, paging_changes=(change,)) as copy:
        report = copy.sync(partitions=CITY, workers=1)
        assert not report.complete
        assert "are missing, and the number changed in each of 3 passes" in errors_of(report)
        copy.sandbox.configure(paging_changes=[])
        assert copy.sync(partitions=CITY).complete
        copy.assert_true(codes=(101,))


def test_a_home_that_goes_while_a_known_municipality_is_walked_through(tmp_path: Path) -> None:
    with with_homes(tmp_path, homes=1200) as copy:
        copy.sync(partitions=CITY)
        copy.sandbox.configure(paging_changes=[{"entity": "Address", "action": "delete", "every": 2, "times": 1}])
        report = copy.sync(partitions=CITY, force=True, workers=1)
        if not report.complete:
            assert "missing" in errors_of(report) or "not accounted for" in errors_of(report)
        copy.sandbox.configure(paging_changes=[])
        report = copy.sync(partitions=CITY, force=True)
        assert report.complete, errors_of(report)
        copy.assert_true(codes=(101,))


# -- what does not ---------------------------------------------------------------------------------------------


def test_a_page_that_never_comes_is_told_with_how_many_are_missing_and_heals(tmp_path: Path) -> None:
    with with_homes(tmp_path, homes=1200) as copy:
        whole = len(copy.homes(codes=(101,)))
        copy.sandbox.configure(faults=["500@municipality=København .*page=2"])
        report = copy.sync(partitions=("0101", "0147"), attempts=2)
        assert not report.complete
        assert "0101 København villa page 2: GET" in errors_of(report)
        assert copy.query("SELECT partition, complete FROM _partitions WHERE table_name = 'properties' ORDER BY 1") == [
            ("0101", 0),
            ("0147", 1),
        ]
        counts = report.tables["properties"]
        other = len(copy.homes(codes=(147,)))
        assert counts.expected == whole + other
        assert counts.fetched == copy.one("SELECT count(*) FROM properties") == whole + other - min(50, whole - 50)
        copy.sandbox.configure(faults=[])
        assert copy.sync(partitions=("0101", "0147")).complete
        copy.assert_true(codes=(101, 147))


def test_no_error_of_the_network_takes_a_home_off_the_market(tmp_path: Path) -> None:
    with with_homes(tmp_path, homes=1200) as copy:
        copy.api.change("list", share=1.0, municipality="København")
        copy.sync(partitions=CITY)
        before = copy.one("SELECT count(*) FROM homes_for_sale")
        for fault in ("500@page=2", "404@page=2", "reset", "404"):
            copy.sandbox.configure(faults=[fault])
            assert not copy.sync(partitions=CITY, force=True, attempts=1).complete, fault
            assert copy.one("SELECT count(*) FROM homes_for_sale") == before, fault
            assert copy.one("SELECT count(*) FROM properties WHERE vanished_at IS NOT NULL") == 0, fault
        copy.sandbox.configure(faults=[])
        assert copy.sync(partitions=CITY).complete


def test_a_listing_that_a_list_leaves_out_ends_only_once_the_home_by_itself_has_none(tmp_path: Path) -> None:
    with with_homes(tmp_path, homes=1200) as copy:
        [home, *_] = sorted(copy.homes(codes=(101,)))
        copy.api.change("list", ids=[home], price=2_000_000)
        copy.sync(partitions=CITY)
        held = "SELECT count(*) FROM live_cases WHERE address_id = ?"
        assert copy.one(held, home) == 1
        copy.api.change("update", id=home, columns={"cases": None})
        copy.sandbox.configure(faults=["500@^address "])
        report = copy.sync(partitions=CITY, force=True, attempts=1)
        assert not report.complete
        assert f"0101 København home {home}: GET" in errors_of(report)
        assert copy.one(held, home) == 1
        copy.sandbox.configure(faults=[])
        assert copy.sync(partitions=CITY).complete
        assert copy.one(held, home) == 0


def test_listings_that_have_all_ended_end(tmp_path: Path) -> None:
    with with_homes(tmp_path, homes=1200) as copy:
        listed = copy.api.change("list", share=0.5, municipality="København")
        copy.sync(partitions=CITY)
        copy.api.change("sell", ids=[home for home in listed if home in copy.homes()])
        report = copy.sync(partitions=CITY, force=True)
        assert report.complete, errors_of(report)
        copy.assert_true(codes=(101,))


def test_a_malformed_record_is_one_reject_and_heals(copy: Copy) -> None:
    [home, other] = sorted(copy.homes(codes=(101,)))[:2]
    copy.api.change("update", id=home, columns={"livingArea": "SECRET", "realtor": {"name": "SECRET"}})
    report = copy.sync(partitions=CITY)
    assert not report.complete
    assert "1 rejected (1 in all, 0 allowed by --max-rejects)" in errors_of(report)
    counts = report.tables["properties"]
    assert (counts.rejected, counts.fetched) == (1, counts.expected - 1)
    [(key, reason, raw)] = copy.query("SELECT record_key, reason, raw FROM _rejects WHERE resolved_at IS NULL")
    assert key == home
    assert "Expected `int | null`, got `str` - at `$.livingArea`" in reason
    assert home in raw
    assert "realtor" not in raw
    # one more record than is allowed makes it incomplete, so with one allowed it is complete
    report = copy.sync(partitions=CITY, drain=DrainOptions(max_rejects=1))
    assert report.complete, errors_of(report)
    assert f"address {home}" in copy.sandbox.stats()["labels"]  # it was asked for by itself, too
    copy.api.change("update", id=home, columns={"livingArea": 99})
    copy.api.change("update", id=other, columns={"livingArea": 98})
    assert copy.sync(partitions=CITY, force=True).complete
    assert copy.query("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == [(0,)]
    assert copy.one("SELECT living_area FROM properties WHERE address_id = ?", home) == 99


def test_a_stored_home_whose_record_is_malformed_now_keeps_its_rows(copy: Copy) -> None:
    copy.sync(partitions=CITY)
    [home, *_] = sorted(copy.homes(codes=(101,)))
    held = copy.query("SELECT * FROM live_buildings WHERE address_id = ?", home)
    copy.api.change("update", id=home, columns={"zipCode": "?"})
    report = copy.sync(partitions=CITY, force=True)
    assert not report.complete
    assert report.tables["properties"].vanished == 0
    assert copy.query("SELECT * FROM live_buildings WHERE address_id = ?", home) == held
    assert copy.one("SELECT count(*) FROM live_properties WHERE address_id = ?", home) == 1


def test_a_malformed_record_that_is_right_by_itself_is_mended(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    # the sandbox sends the same record both ways, so what the list sends is spoilt here
    from bdc_pipeline.sources.properties.client import BoligsidenClient, ListPage  # noqa: PLC0415

    [home, *_] = sorted(copy.homes(codes=(101,)))
    page = BoligsidenClient.page

    def spoilt(self: BoligsidenClient, *arguments: object, **options: object) -> ListPage:
        found = page(self, *arguments, **options)  # type: ignore[arg-type]
        records = [type(r)(bytes(r).replace(b'"isPublic":', b'"isPublic":1,"x":')) if home.encode() in bytes(r) else r for r in found.records]  # fmt: skip
        return ListPage(found.total, records)

    monkeypatch.setattr(BoligsidenClient, "page", spoilt)
    report = copy.sync(partitions=CITY)
    assert report.complete, errors_of(report)
    assert report.tables["properties"].rejected == 0
    copy.assert_true(codes=(101,))


def test_a_record_that_comes_twice_leaves_one_missing_and_its_number_is_told(copy: Copy) -> None:
    [home, other] = sorted(copy.homes(codes=(101,)))[:2]
    whole = len(copy.homes(codes=(101,)))
    copy.api.change("update", id=other, columns={"addressID": home})
    report = copy.sync(partitions=CITY)
    assert not report.complete
    assert f"{whole} homes are told, {whole - 1} came: 1 are missing" in errors_of(report)
    copy.api.change("update", id=other, columns={"addressID": other})
    assert copy.sync(partitions=CITY).complete
    copy.assert_true(codes=(101,))


def test_a_server_that_is_gone_is_not_asked_for_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with copying(tmp_path) as copy, nobody() as address:
        monkeypatch.setenv("BOLIGSIDEN_URL", address)
        report = copy.sync(attempts=1, workers=4)
        assert not report.complete
        assert report.requests <= 20
        assert report.tables["properties"].fetched == 0
        assert copy.one("SELECT count(*) FROM _partitions WHERE table_name = 'properties' AND complete = 0") == 36


def test_a_stop_keeps_what_arrived_and_the_next_sync_goes_on(tmp_path: Path) -> None:
    with with_homes(tmp_path, latency_ms=20) as copy:
        stop = Stop()
        client = BoligsidenResource(workers=2).client(stop)
        visit = Visit("0101", ("villa",), due=True)
        stream = PropertiesStream(client, Plan((visit,)), limits=Limits(10_000, 20), workers=2, stop=stop)
        drained = drain(
            stream,
            copy.path,
            "first",
            DrainOptions(commit_interval=1),
            partitions=CITY,
            on_progress=lambda progress: stream.stop("enough") if progress.rows > 100 else None,
        )
        client.session.close()
        kept = copy.one("SELECT count(*) FROM properties")
        assert not drained.is_complete
        assert 0 < kept < len(copy.homes(codes=(101,)))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("homes")]
        report = copy.sync(partitions=CITY)
        assert report.complete, errors_of(report)
        assert report.tables["properties"].unchanged == kept
        copy.assert_true(codes=(101,))


def test_what_homes_share_comes_again_after_a_sync_that_was_cut_off(tmp_path: Path) -> None:
    with with_homes(tmp_path, homes=1200) as copy:
        copy.sandbox.configure(faults=["500@page=2"])
        copy.sync(partitions=CITY, attempts=1)
        copy.sandbox.configure(faults=[])
        assert copy.sync(partitions=CITY).complete
        lost = "SELECT count(*) FROM properties WHERE road_id NOT IN (SELECT road_id FROM roads)"
        assert copy.one(lost) == 0


def test_tables_are_all_told_of(copy: Copy) -> None:
    assert set(copy.sync(partitions=CITY).tables) == {table.name for table in t.TABLES}
