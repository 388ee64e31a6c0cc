"""What goes wrong between Sonar and the file, each on a real server: what is kept, what is said, and what heals.

Where a fault passes, the file ends up as if there had been none. Where it does not, the sync says so, keeps the rest,
and the next sync fetches what is missing.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.fetching.answers import FetchError, Unauthorized
from bdc_pipeline.sandbox import PagingChange, Sandbox, SandboxOptions, running
from bdc_pipeline.sources.sonar import client
from bdc_pipeline.warehouse.drain import DrainOptions
from bdc_pipeline.warehouse.ledger import SyncReport
from bdc_pipeline_tests.ports import nobody
from bdc_pipeline_tests.processes import finished, meeting, met, run, start
from bdc_pipeline_tests.sandbox.limits import limited
from bdc_pipeline_tests.sources.sonar.syncing import TOKEN, Copy, assert_same, copying, stored, truth
from bdc_pipeline_tests.waiting import until


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    with copying(tmp_path) as made:
        yield made


def errors_of(report: SyncReport) -> str:
    return "\n".join(f"{failure.unit}: {failure.error}" for failure in report.failures)


# -- what passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "429~times=2,seconds=1@^addresses",
        "429~times=1@^accounts",
        "503:0.05",
        "500~times=4@records=25",
        "html~times=4@records=25",
        "empty~times=4@records=25",
        "cut~times=4@records=25",
        "reset~times=4@records=25",
        "partial~times=4@records=25",
        "throttle~times=2@^inventory_items",
        "timeout~times=2,seconds=0.1@records=25",
    ],
)
def test_a_fault_that_passes_leaves_no_trace(tmp_path: Path, fault: str) -> None:
    with copying(tmp_path, customers=60) as copy:
        copy.sandbox.configure(faults=[fault])
        report = copy.sync(page_size=25, workers=8)
        assert report.complete, errors_of(report)
        copy.sandbox.configure(faults=[])
        copy.assert_true()
        kind = fault.partition("~")[0].partition(":")[0]
        assert copy.sandbox.stats()["faults"][kind] == report.retries > 0


def test_a_server_that_stalls_once_is_asked_again(copy: Copy) -> None:
    copy.sandbox.configure(faults=["stall~times=1@^account_services page=2"])
    report = copy.sync(page_size=50, read_timeout=3.0)
    assert report.complete, errors_of(report)
    assert report.retries >= 1
    copy.assert_true()


@pytest.mark.slow
def test_a_page_that_always_times_out_comes_in_halves(copy: Copy) -> None:
    copy.sandbox.configure(faults=["stall@^addresses page=1 records=100 .*addressable_id>=1000"])
    report = copy.sync(read_timeout=3.0)
    assert report.complete, errors_of(report)
    copy.assert_true()
    # of the page that stalls: another one may time out too, where the machine stops for a while
    halves = [
        label
        for label in copy.sandbox.stats()["labels"]
        if re.match(r"addresses page=[12] records=50 .*addressable_id>=1000", label)
    ]
    assert len(halves) == 2


def test_pages_smaller_than_asked_for_are_noticed(tmp_path: Path) -> None:
    with copying(tmp_path, page_cap=17) as copy:
        report = copy.sync()
        assert report.complete, errors_of(report)
        copy.sandbox.configure(page_cap=1000)
        copy.assert_true()


def test_a_rate_limit_of_the_server_slows_down_and_loses_nothing(tmp_path: Path) -> None:
    with copying(tmp_path, customers=60) as copy:
        with limited(copy.sandbox, at_first={"rate_limit": 0.001}, then={"rate_limit": 6.0}):
            report = copy.sync(workers=8, page_size=50, attempts=8)
        assert report.complete, errors_of(report)
        assert copy.sandbox.stats()["rate_limited"] > 0
        copy.sandbox.configure(rate_limit=None)
        copy.assert_true()


@pytest.mark.parametrize("entity", ["Account", "Address", "InventoryItem"])
def test_rows_that_come_or_change_while_paging_cost_none(tmp_path: Path, entity: str) -> None:
    inserts = PagingChange(entity=entity, action="insert", every=3, times=3)
    touches = PagingChange(entity=entity, action="touch", every=2, times=3)
    with copying(tmp_path, paging_changes=(inserts, touches)) as copy:
        copy.sync(page_size=30)
        report = copy.sync(page_size=30)
        assert report.complete, errors_of(report)
        copy.assert_true()


@pytest.mark.parametrize("entity", ["Account", "AccountService", "InventoryItem"])
def test_rows_that_go_while_paging_pull_no_neighbour_along(tmp_path: Path, entity: str) -> None:
    # the pages after a deletion move up by one, so that a row slips over the border of a page that has been read
    change = PagingChange(entity=entity, action="delete", every=4, times=2)
    with copying(tmp_path, paging_changes=(change,)) as copy:
        first = copy.sync(page_size=30)
        complete = first.complete
        second = copy.sync(page_size=30)
        assert second.complete, errors_of(second)
        copy.assert_true()
        if not complete:
            assert "count" in errors_of(first)


@pytest.mark.parametrize("id_filter", ["ignored", "refused"])
def test_a_server_that_does_not_filter_by_id_gives_the_same_rows(tmp_path: Path, id_filter: Any) -> None:
    with copying(tmp_path, id_filter=id_filter, customers=1100) as copy:
        report = copy.sync()
        assert report.complete, errors_of(report)
        copy.assert_true()
        second = copy.sync()
        assert second.complete, errors_of(second)
        assert second.requests < report.requests / 2
        assert sum(counts.updated + counts.inserted + counts.vanished for counts in second.tables.values()) == 0


@pytest.mark.parametrize(
    "root", ["addresses", "accounts", "inventory_model_field_data", "services", "inventory_model_fields"]
)
def test_a_list_that_cannot_be_counted_is_paged_to_its_end(tmp_path: Path, root: str) -> None:
    with copying(tmp_path, no_page_info=frozenset({root})) as copy:
        report = copy.sync(page_size=30)
        assert report.complete, errors_of(report)
        copy.assert_true()
        names = {"addresses": "addresses", "accounts": "customers", "inventory_model_field_data": "inventory_fields"}
        names |= {"services": "products", "inventory_model_fields": "model_fields"}
        assert report.tables[names[root]].expected is None


def test_what_belongs_to_no_account_is_fetched_too(tmp_path: Path) -> None:
    with copying(tmp_path, customers=1100) as copy:
        accounts = [int(number) for (number,) in copy.sandbox.rows("Account", ["id"])]
        copy.sandbox.delete("Account", [number for number in accounts if number >= 2000])
        report = copy.sync(page_size=500)
        assert report.complete, errors_of(report)
        copy.assert_true()
        held = stored(copy.path)
        assert any(row[1] >= 2000 for row in held["addresses"])
        assert any(row[1] >= 2000 for row in held["account_services"])
        assert not any(row[0] >= 2000 for row in held["accounts"])


# among them are those that find the blocks, that plan them, that read the fields' kinds, and pages
@pytest.mark.parametrize("after", [0, 1, 3, 5, 18, 20, 22, 24, 25, 26])
def test_one_empty_answer_to_a_first_sync_makes_no_incomplete_copy_complete(tmp_path: Path, after: int) -> None:
    with copying(tmp_path, customers=20) as copy:
        copy.sandbox.configure(faults=[f"shrunken~times=1,after={after}"])
        report = copy.sync(workers=1)
        assert copy.sandbox.stats()["faults"] == {"shrunken": 1}
        copy.sandbox.configure(faults=[])
        if not report.complete:
            report = copy.sync()
            assert report.complete, errors_of(report)
        copy.assert_true()


@pytest.mark.parametrize("change", ["update", "insert", "delete"])
def test_one_empty_answer_to_the_counts_of_changes_hides_none(copy: Copy, change: str) -> None:
    copy.sync()
    number = copy.truth()["account_services"][3][0]
    if change == "update":
        copy.sandbox.update("AccountService", number, quantity=77)
    elif change == "insert":
        copy.sandbox.insert(1, "AccountService")
    else:
        copy.sandbox.delete("AccountService", [number])
    # the label of counts begins with the first of many lists, each a record long
    copy.sandbox.configure(faults=[r"shrunken~times=1@^accounts page=1 records=1 .*updated_at.*; "])
    report = copy.sync(inventory=False)
    assert copy.sandbox.stats()["faults"] == {"shrunken": 1}
    copy.sandbox.configure(faults=[])
    if not report.complete:
        report = copy.sync()
        assert report.complete, errors_of(report)
    copy.assert_true()


@pytest.mark.parametrize(
    ("entity", "table", "public"),
    [
        ("Account", "accounts", "customers"),
        ("Address", "addresses", "addresses"),
        ("AccountService", "account_services", "services"),
        ("InventoryItem", "items", "inventory_items"),
        ("InventoryModelFieldData", "inventory_fields", "inventory_fields"),
    ],
)
def test_a_row_that_takes_the_place_of_another_is_seen_by_the_next_sync(
    copy: Copy, entity: str, table: str, public: str
) -> None:
    copy.sync()
    before = stored(copy.path)
    owner = str(before["addresses"][0][1])
    columns = {"addressable_type": "Account", "addressable_id": owner} if entity == "Address" else {}
    copy.sandbox.insert(1, entity, **columns)
    copy.sandbox.delete(entity, [before[table][5][0]])
    report = copy.sync()
    assert report.complete, errors_of(report)
    copy.assert_true()
    counts = report.tables[public]
    assert (counts.inserted, counts.vanished) == (1, 1)
    assert counts.expected == counts.fetched


def test_a_few_new_customers_do_not_cost_the_whole_copy(tmp_path: Path) -> None:
    with copying(tmp_path, customers=2300) as copy:
        copy.sync(page_size=500)
        copy.sandbox.insert(3)
        report = copy.sync(page_size=500)
        assert report.complete, errors_of(report)
        copy.assert_true()
        partitioned = ("customers", "addresses", "services", "inventory_items", "inventory_fields", "customer_groups")
        fetched = {name: report.tables[name].fetched for name in partitioned}
        assert fetched["customers"] == 3
        assert sum(fetched.values()) < 0.1 * sum(len(rows) for rows in stored(copy.path).values()), fetched


def test_a_row_that_was_lost_here_is_fetched_again_by_the_next_sync(copy: Copy) -> None:
    copy.sync()
    copy.execute("DELETE FROM addresses WHERE id = (SELECT min(id) FROM addresses)")
    report = copy.sync()
    assert report.complete, errors_of(report)
    assert report.tables["addresses"].inserted == 1
    copy.assert_true()


def test_records_with_empty_texts_in_place_of_numbers_and_dates_are_read(copy: Copy) -> None:
    held = copy.truth()
    account, address = held["accounts"][0][0], held["addresses"][0][0]
    copy.sandbox.update("Account", account, activation_date="")
    copy.sandbox.update("Address", address, census_year="", attainable_download_speed="")
    report = copy.sync()
    assert report.complete, errors_of(report)
    assert sum(counts.rejected for counts in report.tables.values()) == 0
    assert copy.one("SELECT activation_date FROM accounts WHERE id = ?", account) is None
    assert copy.query("SELECT census_year, attainable_download_speed FROM addresses WHERE id = ?", address) == [
        (None, None)
    ]


def test_the_values_of_a_field_that_becomes_secret_are_not_kept(copy: Copy) -> None:
    copy.sync()
    kinds = {int(number): kind for number, kind in copy.sandbox.rows("InventoryModelField", ["id", "type"])}
    fields = {row[2] for row in stored(copy.path)["inventory_fields"]}
    field = min(number for number in fields if kinds[number] == "TEXT")
    values = [
        value for (value,) in copy.query("SELECT value FROM inventory_fields WHERE inventory_model_field_id = ?", field)
    ]
    assert values
    copy.sandbox.update("InventoryModelField", field, name="Admin Password")
    report = copy.sync()
    assert report.complete, errors_of(report)
    left = "SELECT count(*) FROM inventory_fields WHERE inventory_model_field_id = ?"
    assert copy.one(left, field) == 0
    tables = [name for (name,) in copy.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = [repr(row) for table in tables for row in copy.query(f'SELECT * FROM "{table}"')]
    unlike = [value for value in values if len(value) >= 6]
    assert unlike
    assert not [row for row in rows if any(repr(value) in row for value in unlike)]
    assert copy.sync().complete


# -- what stays broken -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_page_that_never_comes_costs_its_block_alone_and_the_next_sync_heals_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying(tmp_path, customers=1500) as copy:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
        copy.sandbox.configure(faults=[r"500@^addresses page=2 .*addressable_id>=1000,"])
        report = copy.sync(attempts=2)
        assert not report.complete
        [failure] = [failure for failure in report.failures if failure.unit.startswith("addresses")]
        assert failure.unit == "addresses 1000-1999 page 2"
        assert "answered 500" in failure.error
        copy.assert_true("addresses")
        assert set(stored(copy.path)["addresses"]) < set(copy.truth()["addresses"])
        later = [row for row in copy.truth()["addresses"] if row[1] >= 2000]
        assert [row for row in stored(copy.path)["addresses"] if row[1] >= 2000] == later
        assert materialized("addresses") == {"2000-2999"}
        assert materialized("customers") == {"1000-1999", "2000-2999"}
        copy.sandbox.configure(faults=[])
        second = copy.sync()
        assert second.complete, errors_of(second)
        assert second.tables["customers"].fetched == 0, "what is complete is not fetched again"
        copy.assert_true()
        assert materialized("addresses") == {"1000-1999", "2000-2999"}


def materialized(table: str) -> set[str]:
    with dg.DagsterInstance.get() as instance:
        return set(instance.get_materialized_partitions(dg.AssetKey(["sonar", table])))


@pytest.mark.parametrize(
    ("root", "tables"),
    [
        ("addresses", ["addresses"]),
        ("inventory_model_field_data", ["inventory_fields"]),
        ("accounts", ["accounts", "addresses", "account_services", "customer_groups"]),
        ("inventory_model_fields", ["model_fields", "items", "inventory_fields"]),
        ("inventory_items", ["items", "inventory_fields"]),
    ],
)
def test_a_list_that_the_user_may_not_see_costs_no_other_and_names_the_permission(
    tmp_path: Path, root: str, tables: list[str]
) -> None:
    with copying(tmp_path, denied=frozenset({root})) as copy:
        report = copy.sync()
        assert not report.complete
        told = errors_of(report)
        assert f"The token's user lacks a permission for '{root}': You do not have permission to view {root}." in told
        assert "Give the user the right to read it" in told
        copy.sandbox.configure(denied=[])
        copy.assert_true(*tables)
        assert copy.sync().complete
        copy.assert_true()


def test_a_token_that_is_refused_ends_it_with_one_sentence_and_no_further_tries(tmp_path: Path) -> None:
    with copying(tmp_path, token="another") as copy:
        with pytest.raises(Unauthorized) as caught:
            copy.sync()
        assert "401" in str(caught.value)
        assert "Check that the token is right and has not expired." in str(caught.value)
        assert TOKEN not in str(caught.value)
        assert copy.sandbox.stats()["total"] == 1


def test_a_token_that_expires_on_the_way_keeps_what_had_come(tmp_path: Path) -> None:
    with copying(tmp_path, customers=600) as copy:
        copy.sandbox.configure(faults=["401~after=2@^addresses page"])
        report = copy.sync(page_size=20, workers=2)
        assert not report.complete
        assert "401" in errors_of(report)
        assert copy.sandbox.stats()["faults"]["401"] <= 10, "no storm of requests with a token that is refused"
        assert stored(copy.path)["accounts"]
        copy.sandbox.configure(faults=[])
        assert copy.sync().complete
        copy.assert_true()


def test_empty_answers_vanish_nothing(copy: Copy) -> None:
    copy.sync()
    before = stored(copy.path)
    copy.sandbox.configure(faults=["shrunken"])
    report = copy.sync()
    assert not report.complete
    assert "nothing was marked as vanished" in errors_of(report)
    assert "--allow-vanish" in errors_of(report)
    assert sum(counts.vanished for counts in report.tables.values()) == 0
    assert_same(stored(copy.path), before)
    copy.sandbox.configure(faults=[])
    healed = copy.sync()
    assert healed.complete, errors_of(healed)
    copy.assert_true()


@pytest.mark.parametrize("again", [False, True])
def test_an_empty_page_is_not_taken_for_an_empty_list(copy: Copy, again: bool) -> None:
    if again:
        copy.sync()
    copy.sandbox.configure(faults=["shrunken@^(accounts|account_services) page=[0-9]+ records=1000 "])
    report = copy.sync(page_size=1000, force=True)
    assert not report.complete
    assert "customers" in errors_of(report) or "accounts" in errors_of(report)
    copy.sandbox.configure(faults=[])
    assert copy.sync().complete
    copy.assert_true()


@pytest.mark.parametrize("force", [False, True])
def test_null_in_place_of_groups_vanishes_no_membership(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    copy.sync()
    before = stored(copy.path)
    account = before["customer_groups"][0][0]
    copy.sandbox.touch("Account", [account])
    with monkeypatch.context() as patch:
        patch.setattr(client, "_keep_groups", lambda *_: None)  # as though every account came with null
        report = copy.sync(force=force)
    assert not report.complete
    assert "came with null in place of their groups" in errors_of(report)
    assert "permission to read account groups" in errors_of(report)
    assert report.tables["customer_groups"].vanished == 0
    assert stored(copy.path)["customer_groups"] == before["customer_groups"]
    copy.assert_true("customer_groups")
    assert copy.sync().complete
    copy.assert_true()


@pytest.mark.parametrize("share", ["shrunken:0.2", "shrunken~times=2@^addresses page"])
def test_an_answer_that_is_empty_now_and_then_is_never_stored_as_complete(copy: Copy, share: str) -> None:
    copy.sync()
    before = stored(copy.path)
    copy.sandbox.configure(faults=[share])
    copy.sync(force=True, page_size=40)
    assert_same(stored(copy.path), before)


@pytest.mark.parametrize(
    ("entity", "table", "public", "columns", "reason"),
    [
        ("Account", "accounts", "customers", {"name": None}, "Expected `str`, got `null` - at `$.name`"),
        ("AccountService", "account_services", "services", {"quantity": "abc"}, "Expected `int`, got `str`"),
        ("Address", "addresses", "addresses", {"latitude": "far"}, "could not convert string to float"),
        ("Address", "addresses", "addresses", {"latitude": "91.5", "longitude": "3"}, "no place on Earth"),
        ("InventoryItem", "items", "inventory_items", {"updated_at": "yesterday"}, "Invalid RFC3339"),
    ],
)
def test_one_malformed_record_costs_one_record(
    copy: Copy, entity: str, table: str, public: str, columns: dict[str, Any], reason: str
) -> None:
    truth_before = copy.truth()
    number = truth_before[table][3][0]
    copy.sandbox.update(entity, number, **columns)
    report = copy.sync()
    assert not report.complete
    assert {name: counts.rejected for name, counts in report.tables.items() if counts.rejected} == {public: 1}
    counts = report.tables[public]
    assert counts.expected == counts.fetched + counts.rejected
    [(name, key, why)] = copy.query("SELECT table_name, record_key, reason FROM _rejects WHERE resolved_at IS NULL")
    assert (name, key) == (public, str(number))
    assert reason in why
    assert "1 rejected" in errors_of(report)
    held = stored(copy.path)
    assert [row[0] for row in held[table]] == [row[0] for row in truth_before[table] if row[0] != number]
    good = {"name": "Example Mended", "quantity": 2, "latitude": "32.5", "longitude": "-96.5"}
    good["updated_at"] = "2026-02-01T00:00:00+00:00"
    copy.sandbox.update(entity, number, **{name: good[name] for name in columns})
    healed = copy.sync()
    assert healed.complete, errors_of(healed)
    assert copy.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0
    copy.assert_true()


def test_a_record_that_becomes_malformed_keeps_its_row_and_what_belongs_to_it(copy: Copy) -> None:
    copy.sync()
    before = stored(copy.path)
    number = next(account for account, _ in before["customer_groups"] if account != 1003)
    copy.sandbox.update("Account", number, name=None)
    report = copy.sync(force=True)
    assert not report.complete
    assert sum(counts.vanished for counts in report.tables.values()) == 0
    assert_same(stored(copy.path), before)


def test_rejected_records_within_the_limit_are_allowed(copy: Copy) -> None:
    copy.sandbox.update("AccountService", copy.truth()["account_services"][0][0], quantity="abc")
    report = copy.sync(drain=DrainOptions(max_rejects=1))
    assert report.complete, errors_of(report)
    assert report.tables["services"].rejected == 1


def test_secrets_of_a_server_that_sends_them_unasked_are_in_no_byte_of_the_data_directory(tmp_path: Path) -> None:
    with copying(tmp_path, id_filter="ignored") as copy:
        keys = [
            number for number, value in copy.sandbox.rows("InventoryModelFieldData", ["id", "value"]) if "KEY" in value
        ]
        copy.sandbox.update("InventoryModelFieldData", int(keys[0]), updated_at="yesterday")
        copy.sandbox.update("InventoryModelFieldData", int(keys[1]), inventory_model_field_id="999999")
        report = copy.sync()
        assert {name: counts.rejected for name, counts in report.tables.items() if counts.rejected} == {
            "inventory_fields": 2
        }
        assert copy.one("SELECT count(*) FROM _rejects") == 2
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert b"SYNTHETIC-SIM-KEY" not in path.read_bytes(), path


def test_a_redirect_to_another_host_is_not_followed(copy: Copy) -> None:
    copy.sandbox.configure(faults=["redirect"])
    with pytest.raises(FetchError, match=r"redirected to http://localhost:\d+/sonar/api/graphql.*set its address to"):
        copy.sync()
    stats = copy.sandbox.stats()
    assert stats["total"] == stats["faults"]["redirect"] == 1


def test_a_server_that_is_down_is_named(copy: Copy) -> None:
    with nobody() as address:
        copy.sandbox.sonar_url = address
        with pytest.raises(FetchError, match=re.escape(address.removeprefix("http://"))):
            copy.sync(attempts=2)


def test_a_server_that_goes_away_is_not_asked_for_every_page(tmp_path: Path) -> None:
    with copying(tmp_path, customers=600) as copy:
        copy.sandbox.configure(faults=["reset~after=30"])
        report = copy.sync(attempts=2, page_size=20, workers=8)
        assert not report.complete
        assert "connection" in errors_of(report)
        assert "failed in a way that the rest would too" in errors_of(report)
        assert copy.sandbox.stats()["faults"]["reset"] < 60
        held = len(stored(copy.path)["accounts"])
        copy.sandbox.configure(faults=[])
        assert copy.sync().complete
        assert held > 0
        copy.assert_true()


# -- processes -------------------------------------------------------------------------------------------------


@pytest.fixture
def apart() -> Iterator[Sandbox]:
    """A sandbox in a process of its own, slow enough to be interrupted."""
    with running(SandboxOptions(customers=600, latency_ms=20)) as sandbox:
        yield sandbox


def options(sandbox: Sandbox, directory: Path) -> dict[str, Any]:
    variables = {"BDC_DATA_DIR": str(directory), "SONAR_URL": sandbox.sonar_url, "SONAR_TOKEN": TOKEN}
    return {"directory": directory, "variables": variables}


def check_integrity(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def rows_in(path: Path) -> int:
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        try:
            return sum(
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("accounts", "addresses", "account_services", "items", "inventory_fields")
            )
        except sqlite3.OperationalError:
            return 0  # not made yet


@pytest.mark.slow
def test_a_process_killed_three_times_loses_nothing(apart: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "bdc_cache.db"
    held = 0
    for moment in (42, 33, 57):
        # all requests from there on are held, so that the process cannot be over when it is killed
        apart.configure(faults=[f"stall~after={moment},seconds=3600"])
        arguments = ["sync", "sonar", "-w", "4", "-b", "20", "-c", "20"]
        with start(*arguments, **options(apart, tmp_path)) as process:
            until(lambda: apart.stats()["faults"].get("stall", 0) > 0 or process.poll() is not None)
            # what is written meanwhile is killed at any moment
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert held <= rows_in(path), "what was committed is kept"
        held = rows_in(path)
        check_integrity(path)
        apart.configure(faults=[])
        apart.reset_stats()
    assert held > 0
    apart.configure(latency_ms=0)
    done = run("sync", "sonar", "--json", **options(apart, tmp_path))
    assert done.returncode == 0, done.stderr
    assert_same(stored(path), truth(apart))
    check_integrity(path)


@pytest.mark.slow
def test_two_syncs_at_once_are_both_complete(apart: Sandbox, tmp_path: Path) -> None:
    arguments = ["sync", "sonar", "--json", "-c", "20"]
    together = {**options(apart, tmp_path), "before": meeting(tmp_path)}
    with start(*arguments, **together) as first, start(*arguments, **together) as second:
        for process in (first, second):
            done = finished(process)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["complete"] is True
            assert "locked" not in done.stderr
    assert met(tmp_path) == 2
    assert_same(stored(tmp_path / "bdc_cache.db"), truth(apart))
    check_integrity(tmp_path / "bdc_cache.db")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_ends_soon_and_keeps_what_had_come(
    apart: Sandbox, tmp_path: Path, stop: signal.Signals
) -> None:
    path = tmp_path / "bdc_cache.db"
    # the requests that are under way when the signal comes would take a minute to time out, and the next ones another
    apart.configure(faults=["stall~after=60,seconds=3600"])
    arguments = ["sync", "sonar", "--json", "-w", "2", "-b", "20", "-c", "20"]
    with start(*arguments, **options(apart, tmp_path)) as process:
        until(lambda: rows_in(path) >= 60 or process.poll() is not None)
        assert process.poll() is None, finished(process)
        asked = time.monotonic()
        process.send_signal(stop)
        done = finished(process)
        took = time.monotonic() - asked
    assert done.returncode == 1, done.stderr
    assert took < 30
    report = json.loads(done.stdout)
    assert report["complete"] is False
    assert "interrupted" in json.dumps(report["failures"])
    assert "Traceback" not in done.stderr
    assert rows_in(path) >= 60
    check_integrity(path)
    if stop == signal.SIGTERM:
        return
    apart.configure(latency_ms=0, faults=[])
    assert run("sync", "sonar", **options(apart, tmp_path)).returncode == 0
    assert_same(stored(path), truth(apart))


@pytest.mark.slow
def test_an_interrupt_before_the_first_answer_ends_soon_too(apart: Sandbox, tmp_path: Path) -> None:
    apart.configure(faults=["stall~seconds=3600"])
    with start("sync", "sonar", **options(apart, tmp_path)) as process:
        until(lambda: apart.stats()["total"] > 0 or process.poll() is not None)
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        done = finished(process)
        took = time.monotonic() - asked
    assert done.returncode == 1, done.stderr
    assert took < 30
    assert "interrupted" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence_and_leaves_a_good_file(apart: Sandbox, tmp_path: Path) -> None:
    apart.configure(latency_ms=0)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))"
    done = run("sync", "sonar", **options(apart, tmp_path), before=limit)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    told = done.stdout + done.stderr
    assert str(tmp_path / "bdc_cache.db") in told
    assert "full" in told
    assert "run again" in told
    check_integrity(tmp_path / "bdc_cache.db")
    again = run("sync", "sonar", **options(apart, tmp_path))
    assert again.returncode == 0, again.stderr
    assert_same(stored(tmp_path / "bdc_cache.db"), truth(apart))
