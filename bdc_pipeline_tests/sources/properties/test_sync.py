"""Syncs against a sandbox: what the file holds afterwards, what a further sync costs, what it finds changed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline_tests.processes import dying, run
from bdc_pipeline_tests.sources.properties.syncing import Copy, copying, errors_of

ALL_KINDS = (
    "villa", "condo", "terraced house", "holiday house", "cooperative", "farm", "hobby farm", "full year plot",
    "villa apartment", "holiday plot", "houseboat", "special", None,
)  # fmt: skip
CITY = ("0101",)
#: Neighbours in the order of codes, which one run does
SOME = ("0147", "0151", "0153", "0155")
CODES = tuple(map(int, SOME))


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """2,000 villas, København's list and others too long to be shown whole, synced once. No test changes it."""
    with copying(tmp_path_factory.mktemp("synced"), homes=2000, hit_cap=100, zipless_share=0.02) as copy:
        copy.report = copy.sync()
        copy.stats = copy.sandbox.stats()
        yield copy


# -- a first sync ----------------------------------------------------------------------------------------------


def test_every_row_and_column_is_what_the_server_has(synced: Copy) -> None:
    assert synced.report.complete, errors_of(synced.report)
    synced.assert_true()


def test_the_report_accounts_for_every_home(synced: Copy) -> None:
    assert list(synced.report.tables) == [table.name for table in t.TABLES]
    homes = synced.report.tables["properties"]
    assert (homes.expected, homes.fetched, homes.inserted, homes.rejected) == (2000, 2000, 2000, 0)
    assert synced.report.requests == synced.stats["total"]
    for table in t.CHILDREN:
        counts = synced.report.tables[table.name]
        assert counts.fetched == counts.inserted == synced.one(f"SELECT count(*) FROM {table.name}")


def test_no_home_is_asked_for_by_itself_and_no_list_beyond_what_it_shows(synced: Copy) -> None:
    assert set(synced.stats["topics"]) == {"addresses"}
    pages = [int(label.partition(" page=")[2].partition(" ")[0]) for label in synced.stats["labels"]]
    assert max(pages) == 2


def test_what_homes_share_is_stored_once(synced: Copy) -> None:
    assert synced.one("SELECT count(*) FROM municipalities") == 36
    assert synced.one("SELECT count(*) FROM provinces") == 5
    joined = (
        "SELECT count(*) FROM properties p JOIN municipalities USING (municipality_code) JOIN provinces USING (province_code) "
        "JOIN roads USING (road_id)"
    )
    assert synced.one(joined) == 2000
    assert (
        synced.one(
            "SELECT count(*) FROM properties p LEFT JOIN zips z USING (zip_code) WHERE z.name IS NOT p.city_name"
        )
        == 0
    )
    assert synced.one("SELECT count(*) FROM properties WHERE place_id IS NOT NULL AND place_id NOT IN (SELECT place_id FROM places)") == 0  # fmt: skip


def test_homes_that_share_a_deed_each_have_its_sales(synced: Copy) -> None:
    shared = synced.query("SELECT registration_id, count(*) FROM registrations GROUP BY 1 HAVING count(*) > 1")
    assert shared
    [(most,)] = synced.query("SELECT count(*) FROM registrations")
    assert most == len(synced.query("SELECT DISTINCT address_id, registration_id FROM registrations"))


def test_buildings_with_the_same_number_are_both_kept(synced: Copy) -> None:
    assert synced.one("SELECT count(*) FROM buildings WHERE occurrence = 2") > 0


def test_nothing_personal_is_in_any_byte_of_the_data_directory(synced: Copy) -> None:
    for path in synced.path.parent.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for marker in (b"SYNTHETIC", b"synthetic", b"Testm", b"example.com", b"+45 00"):
                assert marker not in content, (path, marker)


# -- the views -------------------------------------------------------------------------------------------------


def test_prices_are_medians_of_normal_sales_of_one_home_each(synced: Copy) -> None:
    deeds: dict[str, set[str]] = {}
    sales = synced.query("SELECT address_id, registration_id, substr(date, 1, 4), amount, living_area, type, municipality_code FROM registrations")  # fmt: skip
    for home, deed, *_ in sales:
        deeds.setdefault(deed, set()).add(home)
    prices: dict[tuple[int, int], list[float]] = {}
    for _, deed, year, amount, area, kind, code in sales:
        if kind == "normal" and area and len(deeds[deed]) == 1:
            prices.setdefault((code, int(year)), []).append(amount / area)
    expected = {}
    for key, values in prices.items():
        values.sort()
        middle = values[(len(values) - 1) // 2], values[len(values) // 2]
        expected[key] = (len(values), round(sum(middle) / 2), round(sum(values) / len(values)))
    found = {
        (code, year): (count, round(median), round(mean))
        for code, name, year, count, median, mean in synced.query("SELECT * FROM price_per_m2")
        if name
    }
    assert found.keys() == expected.keys()
    for key, (count, median, mean) in expected.items():
        assert found[key][0] == count
        assert found[key][1] == pytest.approx(median, abs=1)
        assert found[key][2] == pytest.approx(mean, abs=1)


def test_homes_for_sale_are_those_with_a_listing(synced: Copy) -> None:
    cases = {row[0]: tuple(row[1:]) for row in synced.api.rows("Case", ["addressID", "priceCash", "daysOnMarket"])}
    villas = synced.homes()
    found = {
        row[0]: row[1:] for row in synced.query("SELECT address_id, price_cash, days_on_market FROM homes_for_sale")
    }
    assert found == {home: case for home, case in cases.items() if home in villas}
    assert found


def test_sales_by_zip_add_up_to_those_by_municipality_but_for_homes_without_one(synced: Copy) -> None:
    by_zip, by_place = (
        synced.one("SELECT sum(sales) FROM sales_by_zip"),
        synced.one("SELECT sum(sales) FROM price_per_m2"),
    )
    assert 0.9 * by_place < by_zip <= by_place


# -- further syncs ---------------------------------------------------------------------------------------------


def test_a_second_sync_costs_a_request_for_each_municipality(copy: Copy) -> None:
    first = copy.sync()
    second = copy.sync()
    assert second.complete, errors_of(second)
    assert (first.requests, second.requests) == (36 + _further_pages(copy), 36)
    assert sum(counts.fetched for counts in second.tables.values()) == 0
    copy.assert_true()


def _further_pages(copy: Copy) -> int:
    codes = [row[0] for row in copy.query("SELECT municipality_code FROM properties")]
    return sum(-(-codes.count(code) // 50) - 1 for code in set(codes))


def test_with_force_the_same_pages_come_and_no_row_is_written(copy: Copy) -> None:
    first = copy.sync(partitions=SOME)
    before = copy.query("SELECT * FROM properties ORDER BY 1")
    second = copy.sync(partitions=SOME, force=True)
    assert second.complete, errors_of(second)
    assert second.requests == first.requests
    for name, counts in second.tables.items():
        assert (counts.inserted, counts.updated, counts.vanished) == (0, 0, 0), name
    for table in (t.PROPERTIES, *t.CHILDREN):
        assert second.tables[table.name].unchanged == first.tables[table.name].inserted, table.name
    assert copy.query("SELECT * FROM properties ORDER BY 1") == before


def test_what_changed_is_updated_and_nothing_else(copy: Copy) -> None:
    copy.sync(partitions=SOME)
    changed = set(copy.api.change("change", share=0.2)) & copy.homes(codes=CODES)
    report = copy.sync(partitions=SOME, force=True)
    assert report.complete, errors_of(report)
    updated = {row[0] for row in copy.query("SELECT address_id FROM properties WHERE last_updated > first_seen")}
    assert updated == changed
    assert report.tables["properties"].updated == len(changed)
    copy.assert_true(codes=CODES)


def test_another_number_of_homes_is_noticed_without_force(copy: Copy) -> None:
    copy.sync(partitions=SOME)
    copy.api.change("insert", count=2, municipality="Dragør")
    [gone, *_] = copy.homes(codes=(153,))
    copy.api.change("delete", ids=[gone])
    report = copy.sync(partitions=SOME)
    assert report.complete, errors_of(report)
    homes = report.tables["properties"]
    assert (homes.inserted, homes.vanished) == (2, 1)
    assert report.requests < 4 + 6
    copy.assert_true(codes=CODES)
    assert copy.one("SELECT count(*) FROM live_buildings WHERE address_id = ?", gone) == 0


def test_an_old_walk_is_made_again(copy: Copy) -> None:
    copy.sync(partitions=SOME)
    copy.execute("UPDATE _partitions SET verified_at = '2020-01-01T00:00:00.000Z' WHERE partition = '0155'")
    assert copy.sync(partitions=SOME).tables["properties"].fetched == len(copy.homes(codes=(155,)))


def test_histories_are_kept_of_prices_valuations_and_the_market(copy: Copy) -> None:
    [listed, sold] = sorted(copy.homes(codes=(101,)))[:2]
    copy.api.change("list", ids=[listed, sold], price=3_000_000)
    copy.sync(partitions=CITY)
    copy.api.change("price", id=listed, price=2_800_000)
    copy.api.change("sell", ids=[sold])
    copy.api.change("change", ids=[listed])
    copy.sync(partitions=CITY, force=True)
    price = copy.one("SELECT price_cash FROM cases WHERE address_id = ? AND vanished_at IS NULL", listed)
    assert copy.query("SELECT old_price, new_price, observed FROM price_changes") == [(3_000_000, price, 1)]
    [cut] = copy.query("SELECT first_price, price_cuts, price_change FROM homes_for_sale WHERE address_id = ?", listed)
    assert cut == (3_000_000, 1, price - 3_000_000)
    [(home, old, new)] = copy.query("SELECT address_id, old_valuation, new_valuation FROM valuations")
    assert home == listed
    assert new == copy.one("SELECT latest_valuation FROM properties WHERE address_id = ?", listed) != old
    assert copy.query("SELECT address_id, is_on_market, price FROM market_changes") == [(sold, 0, 3_000_000)]
    [(ended,)] = copy.query("SELECT ended_at FROM listings WHERE address_id = ?", sold)
    assert ended
    assert copy.one("SELECT count(*) FROM live_registrations WHERE address_id = ? AND date = '2026-01-15'", sold) == 1
    assert copy.one("SELECT count(*) FROM valuation_history WHERE change = new_valuation - old_valuation") == 1
    copy.assert_true(codes=(101,))


# -- types of homes --------------------------------------------------------------------------------------------


def test_all_types_come_with_those_that_have_none(tmp_path: Path) -> None:
    with copying(tmp_path, homes=4000, hit_cap=100, zipless_share=0.02) as copy:
        report = copy.sync(address_types=["all"], partitions=CITY)
        assert report.complete, errors_of(report)
        copy.assert_true(*ALL_KINDS, codes=(101,))
        assert copy.one("SELECT count(*) FROM live_properties WHERE address_type IS NULL") > 0
        assert copy.one("SELECT count(*) FROM live_properties WHERE address_type = 'special'") > 0


def test_a_sync_for_villas_lets_no_flat_vanish_that_an_earlier_one_brought(copy: Copy) -> None:
    copy.sync(partitions=CITY, address_types=["condo", "villa"])
    held = copy.one("SELECT count(*) FROM live_properties")
    assert held == len(copy.homes("condo", "villa", codes=(101,)))
    for asked in (["villa"], []):
        report = copy.sync(partitions=CITY, address_types=asked, force=True)
        assert report.complete, errors_of(report)
        assert report.tables["properties"].vanished == 0
        assert report.tables["properties"].fetched == held
    copy.assert_true("condo", "villa", codes=(101,))


def test_a_further_type_is_fetched_although_the_last_walk_is_young(copy: Copy) -> None:
    copy.sync(partitions=CITY)
    report = copy.sync(partitions=CITY, address_types=["farm"])
    assert report.complete, errors_of(report)
    copy.assert_true("villa", "farm", codes=(101,))
    assert copy.sync(partitions=CITY).requests == 2


def test_a_type_of_which_there_are_none_is_complete_and_a_municipality_without_homes_is_not(copy: Copy) -> None:
    copy.api.change("delete", ids=sorted(copy.homes("houseboat")))
    report = copy.sync(partitions=("0155",), address_types=["houseboat"])
    assert report.complete, errors_of(report)
    everything = copy.homes(*ALL_KINDS, codes=(153,))
    copy.api.change("delete", ids=sorted(everything))
    report = copy.sync(partitions=("0153",))
    assert not report.complete
    assert "0153 Brøndby count: Boligsiden knows no homes of a municipality 'Brøndby'" in errors_of(report)


def test_no_homes_where_some_are_stored_are_not_believed(copy: Copy) -> None:
    copy.sync(partitions=CITY)
    stored = copy.one("SELECT count(*) FROM live_properties")
    copy.api.change("delete", ids=sorted(copy.homes(*ALL_KINDS, codes=(101,))))
    for options in ({}, {"force": True}):
        report = copy.sync(partitions=CITY, **options)
        assert not report.complete
        assert f"answers with no homes, where {stored} are stored" in errors_of(report)
    assert copy.one("SELECT count(*) FROM live_properties") == stored


# -- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 5, 20])
def test_a_limit_is_kept_to_and_said(copy: Copy, limit: int) -> None:
    homes = copy.homes(codes=CODES)
    assert len(homes) > 20
    report = copy.sync(limit=limit, partitions=SOME)
    assert report.failures == []
    assert report.complete
    assert copy.one("SELECT count(*) FROM properties") == limit
    assert report.tables["properties"].fetched == limit
    cut = copy.query("SELECT partition FROM _partitions WHERE table_name = 'properties' AND complete = 0")
    assert cut
    # what was cut is fetched when no limit is set
    assert copy.sync(partitions=SOME).complete
    copy.assert_true(codes=CODES)


def test_a_limit_takes_nothing_from_what_is_complete(copy: Copy) -> None:
    copy.sync(partitions=SOME)
    copy.sync(partitions=SOME, limit=10, force=True)
    assert copy.one("SELECT count(*) FROM _partitions WHERE table_name = 'properties' AND complete = 0") == 0
    copy.assert_true(codes=CODES)


# -- what lists leave out --------------------------------------------------------------------------------------


def test_a_listed_home_whose_record_lacks_the_listing_is_asked_for_by_itself(copy: Copy) -> None:
    homes = sorted(copy.homes(codes=(101,)))[:3]
    for home in homes[:2]:
        copy.api.change("update", id=home, columns={"isOnMarket": True, "casePrice": 2_000_000})
    report = copy.sync(partitions=CITY)
    assert report.complete, errors_of(report)
    asked = [label for label in copy.sandbox.stats()["labels"] if label.startswith("address ")]
    assert sorted(asked) == [f"address {home}" for home in homes[:2]]
    copy.sandbox.reset_stats()
    assert copy.sync(partitions=CITY, force=True).complete
    assert "address" not in copy.sandbox.stats()["topics"]  # unchanged records are not read again


@pytest.mark.slow
@pytest.mark.parametrize("on_market", [False, True], ids=["homes", "homes that lack their listings"])
def test_a_process_killed_behind_any_transaction_leaves_no_home_that_the_next_sync_takes_for_read(
    copy: Copy, tmp_path: Path, *, on_market: bool
) -> None:
    listed = sorted(copy.homes(codes=(101,)))[:2] if on_market else []
    for home in listed:
        copy.api.change("update", id=home, columns={"isOnMarket": True, "casePrice": 2_000_000})
    names = ("BOLIGSIDEN_URL", "BDC_DATA_DIR", "BOLIGSIDEN_REQUESTS_PER_SECOND")
    killed = run(
        *("sync", "properties", "--partition", "0101", "-c", "1"),
        directory=tmp_path,
        variables={name: os.environ[name] for name in names},
        before=dying(copy.path, "SELECT count(*) FROM properties", 1),
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    copy.sandbox.reset_stats()
    report = copy.sync(partitions=CITY)
    assert report.complete, errors_of(report)
    copy.assert_true(codes=(101,), but=("cases",) if on_market else ())
    asked = [label for label in copy.sandbox.stats()["labels"] if label.startswith("address ")]
    assert sorted(asked) == [f"address {home}" for home in listed]


def test_detail_calls_are_few_and_what_is_left_is_told(tmp_path: Path) -> None:
    with copying(tmp_path, homes=360) as copy:
        homes = sorted(copy.homes(codes=(265,)))[:15]
        for home in homes:
            copy.api.change("update", id=home, columns={"isOnMarket": True})
        report = copy.sync(partitions=("0265",))
        assert copy.sandbox.stats()["topics"]["address"] == 10
        assert not report.complete
        assert "15 homes on the market came without their listing, and 5 of them were not" in errors_of(report)
        assert report.tables["properties"].fetched == len(copy.homes(codes=(265,)))
        # the homes are complete, their listings are not: the next sync looks again
        assert not copy.sync(partitions=("0265",)).complete
