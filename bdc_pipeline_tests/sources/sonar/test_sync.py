"""Syncs against a sandbox: what the file holds afterwards, what a further sync costs, and what it finds changed."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from bdc_pipeline.definitions import build_defs
from bdc_pipeline.sources.sonar import assets
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.warehouse.drain import DrainOptions
from bdc_pipeline.warehouse.io_manager import KEY, SQLiteIOManager
from bdc_pipeline_tests.sandbox.asking import ALL, BY_ID, listed
from bdc_pipeline_tests.sources.sonar.syncing import TOKEN, Copy, copying, stored

TABLES = [table.name for table in t.SCHEMA.tables]


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """400 customers, which is enough for every irregularity of the data, synced once. No test changes it."""
    with copying(tmp_path_factory.mktemp("synced"), customers=400) as copy:
        copy.report = copy.sync()
        copy.stats = copy.sandbox.stats()
        yield copy


# -- a first sync ----------------------------------------------------------------------------------------------


def test_every_row_and_column_is_what_the_server_has(synced: Copy) -> None:
    assert synced.report.complete
    assert synced.report.failures == []
    synced.assert_true()


def test_the_report_accounts_for_every_record(synced: Copy) -> None:
    assert list(synced.report.tables) == [table.name for table in (*t.LOOKUPS, *t.OF_CUSTOMERS, *t.OF_INVENTORY)]
    held = stored(synced.path)
    for table in t.SCHEMA.tables:
        counts = synced.report.tables[table.name]
        assert counts.expected == counts.fetched == counts.inserted == len(held[table.stored]), table.name
        assert (counts.updated, counts.unchanged, counts.vanished, counts.rejected) == (0, 0, 0, 0)
    assert synced.report.requests == synced.stats["total"]
    assert synced.report.retries == 0


def test_archived_accounts_are_kept_and_said_to_be_archived(synced: Copy) -> None:
    found = dict(synced.query("SELECT id, archived_at FROM customers WHERE archived_at IS NOT NULL"))
    expected = synced.sandbox.rows("Account", ["id", "archived_at"])
    assert set(found) == {int(number) for number, archived in expected if archived}
    assert found


def test_an_account_in_forty_groups_has_all_forty(synced: Copy) -> None:
    [number] = [account for account, count in _groups(synced).items() if count == 40]
    assert synced.one("SELECT count(*) FROM customer_groups WHERE customer_id = ?", number) == 40


def _groups(copy: Copy) -> dict[int, int]:
    found = listed(
        copy.sandbox, "accounts", f"include_archived: true, {ALL}", "id account_groups { page_info { total_count } }"
    )
    return {int(row["id"]): row["account_groups"]["page_info"]["total_count"] for row in found}


def test_no_secret_column_is_ever_asked_for(synced: Copy) -> None:
    selected = set(synced.stats["selected"])
    names = {column.rpartition(".")[2] for column in selected}
    assert len(selected) > 80
    assert not names & {
        "password", "username", "token", "email_address", "phone_number", "metadata", "price_override", "amount",
        "purchase_price", "next_bill_date", "geopoint", "is_delinquent",
    }  # fmt: skip
    entities = {column.partition(".")[0] for column in selected}
    assert not entities & {"Contact", "RadiusAccount", "CustomFieldData", "IpAssignment", "UninventoriedMacAddress"}


def test_secret_values_are_in_no_byte_of_the_data_directory(synced: Copy) -> None:
    secrets = [value for (value,) in synced.sandbox.rows("InventoryModelFieldData", ["value"]) if "SIM-KEY" in value]
    assert len(secrets) > 10
    for path in synced.path.parent.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for marker in (b"SYNTHETIC-SIM-KEY", b"SYNTHETIC-SECRET", b"synthetic-secret", TOKEN.encode()):
                assert marker not in content, (path, marker)


# -- the views -------------------------------------------------------------------------------------------------

ATTESTED = {
    "customers": "id name status account_type_id account_type address street2 city state zip plus4 country latitude "
    "longitude fips census_year source updated_at last_updated",
    "inventory_items": "id inventory_model_id model_name manufacturer_id manufacturer_name mac_or_imsi status "
    "owner_type owner_id account_service_id updated_at last_updated",
    "customer_inventory": "customer_id inventory_item_id",
    "groups": "id name",
    "customer_groups": "customer_id group_id",
    "services": "id customer_id service_id name type data_service download_in_kilobits upload_in_kilobits "
    "technology_code quantity active updated_at",
    "metadata": "key value updated_at",
}


@pytest.mark.parametrize("table", ATTESTED)
def test_the_tables_that_older_tools_read_have_their_columns(synced: Copy, table: str) -> None:
    wanted = ATTESTED[table].split()
    found = [str(row[1]) for row in synced.query(f"PRAGMA table_info({table})")]
    assert found[: len(wanted)] == wanted


def test_customers_show_status_type_and_address_as_the_server_has_them(synced: Copy) -> None:
    accounts = listed(
        synced.sandbox,
        "accounts",
        f"include_archived: true, {ALL}",
        """id name parent_account_id account_status { name activates_account } account_type { name type }
        addresses(paginator: {page: 1, records_per_page: 50}) { entities { id type serviceable line1 city zip } }""",
    )
    found = {
        row[0]: row[1:]
        for row in synced.query(
            "SELECT id, name, status, activates_account, account_type, account_kind, address_id, address, city, "
            "coalesce(zip || coalesce('-' || plus4, ''), '') FROM customers"
        )
    }
    assert len(found) == len(accounts) == 400
    shown = {row["id"]: _shown_address(row["addresses"]["entities"]) for row in accounts}
    without = 0
    for row in accounts:
        address = shown[row["id"]] or shown.get(row["parent_account_id"])
        without += shown[row["id"]] is None
        status, kind = row["account_status"], row["account_type"]
        expected = (row["name"], status["name"], int(status["activates_account"]), kind["name"], kind["type"])
        assert found[int(row["id"])][:5] == expected
        assert found[int(row["id"])][5:] == (int(address["id"]), address["line1"], address["city"], address["zip"])
    assert without, "some accounts live at their parent's"


def _shown_address(addresses: list[dict]) -> dict | None:
    order = sorted(addresses, key=lambda a: (a["type"] != "PHYSICAL", not a["serviceable"], int(a["id"])))
    return order[0] if order else None


def test_services_show_name_speeds_and_the_technology_that_the_fcc_counts(synced: Copy) -> None:
    expected = {}
    codes = {"FIBER": 50, "CABLEMODEM": 40, "ASYMMETRICXDSL": 10, "SYMMETRICXDSL": 10, "COPPERWIRELINE": 10}
    codes |= {"SATELLITE": 60, "NONGEOSTATIONARYSATELLITE": 61, "OTHER": 0, "ELECTRICPOWERLINE": 0}
    codes |= {"UNLICENSEDTERRESTRIALFIXEDWIRELESS": 70, "LICENSEDTERRESTRIALFIXEDWIRELESS": 71}
    codes |= {"LICENSEDBYRULETERRESTRIALFIXEDWIRELESS": 72}
    for row in listed(
        synced.sandbox,
        "account_services",
        ALL,
        """id account_id quantity name_override service { name type data_service_detail {
        download_speed_kilobits_per_second upload_speed_kilobits_per_second technology_code } }""",
    ):
        detail = row["service"]["data_service_detail"] or {}
        expected[int(row["id"])] = (
            int(row["account_id"]),
            row["name_override"] or row["service"]["name"],
            row["service"]["type"],
            int(bool(detail)),
            detail.get("download_speed_kilobits_per_second"),
            detail.get("upload_speed_kilobits_per_second"),
            codes.get(detail.get("technology_code", "")),
            row["quantity"],
        )
    found = synced.query(
        "SELECT id, customer_id, name, type, data_service, download_in_kilobits, upload_in_kilobits, technology_code, "
        "quantity FROM services"
    )
    assert {row[0]: row[1:] for row in found} == expected
    ambiguous = (
        "SELECT count(*) FROM services WHERE technology = 'TERRESTRIALFIXEDWIRELESS' AND technology_code IS NULL"
    )
    assert synced.one(ambiguous) > 0


def test_inventory_shows_model_manufacturer_and_mac_or_imsi(synced: Copy) -> None:
    expected = {}
    for row in listed(
        synced.sandbox,
        "inventory_items",
        f"{ALL}, {BY_ID}",
        """id inventory_model { name manufacturer { name } } inventory_model_field_data { entities { id value
        inventory_model_field { type primary } } }""",
    ):
        fields = row["inventory_model_field_data"]["entities"]
        codes = [f["value"] for f in fields if f["inventory_model_field"]["type"] in {"MAC_ADDRESS", "IMSI"}]
        code = codes[0].replace(":", "").replace("-", "") if codes else None
        expected[int(row["id"])] = (
            row["inventory_model"]["name"],
            row["inventory_model"]["manufacturer"]["name"],
            code,
        )
    found = synced.query(
        "SELECT id, model_name, manufacturer_name, replace(mac_or_imsi, ':', '') FROM inventory_items WHERE id <= ?",
        max(expected),
    )
    assert {row[0]: row[1:] for row in found} == expected
    assert {code is None for _, _, code in expected.values()} == {True, False}


def test_equipment_belongs_to_the_customer_of_its_address_and_a_disagreement_shows(synced: Copy) -> None:
    rows = synced.sandbox.rows
    owner_of = {
        number: owner
        for number, kind, owner in rows("Address", ["id", "addressable_type", "addressable_id"])
        if kind == "Account"
    }
    customer_of = dict(rows("AccountService", ["id", "account_id"]))
    expected = {}
    columns = ["id", "inventoryitemable_type", "inventoryitemable_id", "account_service_id"]
    for number, kind, place, service in rows("InventoryItem", columns):
        by_address = owner_of.get(place) if kind == "Address" else None
        by_service = customer_of.get(service)
        if by_address or by_service:
            expected[int(number)] = (
                int(by_address or by_service),
                "address" if by_address else "service",
                int(bool(by_address and by_service and by_address != by_service)),
            )
    found = synced.query("SELECT inventory_item_id, customer_id, via, disagrees FROM customer_inventory")
    assert {row[0]: row[1:] for row in found} == expected
    assert len(found) == len(expected)
    assert any(disagrees for _, _, disagrees in expected.values())


def test_metadata_says_when_what_was_synced(synced: Copy) -> None:
    facts = dict(synced.query("SELECT key, value FROM metadata"))
    assert facts["customers_count"] == "400"
    assert facts["last_sync"] <= facts["last_complete_sync"]


# -- a second sync ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several_blocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """2,300 customers in four blocks of ids, synced once; what tests change here, they change for themselves alone."""
    with copying(tmp_path_factory.mktemp("several"), customers=2300) as copy:
        copy.report = copy.sync()
        assert copy.report.complete
        yield copy


def _files(copy: Copy) -> list[tuple]:
    return [
        tuple(copy.query(f'SELECT id, last_updated, vanished_at FROM "{table.stored}" ORDER BY id'))
        for table in t.SCHEMA.tables
        if table.key == ("id",)
    ]


def test_a_second_sync_writes_nothing_and_asks_little(several_blocks: Copy) -> None:
    before = _files(several_blocks)
    second = several_blocks.sync()
    assert second.complete
    assert _files(several_blocks) == before
    for table, counts in second.tables.items():
        assert (counts.inserted, counts.updated, counts.vanished) == (0, 0, 0), table
    assert second.requests <= 0.1 * several_blocks.report.requests


@pytest.mark.slow
def test_a_sync_after_a_change_of_one_in_a_hundred_updates_just_those_rows(tmp_path: Path) -> None:
    with copying(tmp_path, customers=2300) as copy:
        first = copy.sync()
        changed = copy.sandbox.change(0.01)
        second = copy.sync()
        assert second.complete
        copy.assert_true()
        assert {
            name: second.tables[table].updated
            for name, table in {
                "Account": "customers",
                "Address": "addresses",
                "AccountService": "services",
                "InventoryItem": "inventory_items",
            }.items()
        } == {
            "Account": changed["Account"],
            "Address": pytest.approx(changed["Address"], abs=3),  # a few belong to others than accounts
            "AccountService": changed["AccountService"],
            "InventoryItem": changed["InventoryItem"],
        }
        assert all(counts.inserted == counts.vanished == 0 for counts in second.tables.values())
        assert second.requests <= 0.12 * first.requests


# -- what changes between two syncs ------------------------------------------------------------------------------


def test_new_customers_come_with_all_that_belongs_to_them(copy: Copy) -> None:
    copy.sync()
    made = copy.sandbox.insert(3, name="Example Newcomer")
    report = copy.sync()
    assert report.complete
    copy.assert_true()
    assert copy.one("SELECT count(*) FROM customers WHERE name = 'Example Newcomer' AND status IS NOT NULL") == 3
    names = {"Account": "customers", "Address": "addresses", "AccountService": "services"}
    names |= {"InventoryItem": "inventory_items", "InventoryModelFieldData": "inventory_fields"}
    assert {names[n]: len(ids) for n, ids in made.items() if n in names} == {
        table: report.tables[table].inserted for table in names.values()
    }


def test_new_customers_in_a_new_block_are_found(tmp_path: Path) -> None:
    with copying(tmp_path, customers=960) as copy:
        copy.sync()
        before = set(copy.query("SELECT partition FROM _partitions WHERE table_name = 'customers'"))
        copy.sandbox.insert(60)
        assert copy.sync().complete
        copy.assert_true()
        after = set(copy.query("SELECT partition FROM _partitions WHERE table_name = 'customers'"))
        assert after - before == {("2000-2999",)}


def test_what_is_deleted_vanishes_with_its_time_and_stays_readable(copy: Copy) -> None:
    copy.sync()
    gone = copy.sandbox.delete("InventoryItem", share=0.05)
    report = copy.sync()
    assert report.complete
    assert report.tables["inventory_items"].vanished == len(gone) == 18
    copy.assert_true()
    marked = copy.query("SELECT id FROM inventory_items WHERE vanished_at IS NOT NULL ORDER BY id")
    assert marked == [(number,) for number in gone]
    assert copy.one("SELECT count(*) FROM live_inventory_items") == 360 - 18


def test_a_row_that_comes_back_is_no_longer_vanished(copy: Copy) -> None:
    copy.sync()
    numbers = [number for (number,) in copy.query("SELECT id FROM customers ORDER BY id LIMIT 3")]
    # as a sync leaves it after they were deleted
    copy.execute("UPDATE _partitions SET stored = stored - 3 WHERE table_name = 'customers'")
    copy.execute("UPDATE accounts SET vanished_at = '2026-01-01T00:00:00.000Z' WHERE id <= ?", numbers[-1])
    report = copy.sync()
    assert report.complete
    assert report.tables["customers"].updated == 3
    copy.assert_true()


def test_an_archived_account_stays_and_says_so(copy: Copy) -> None:
    copy.sync()
    [number] = copy.sandbox.archive([1005])
    report = copy.sync()
    assert report.complete
    assert report.tables["customers"].updated == 1
    assert report.tables["customers"].vanished == 0
    assert copy.one("SELECT archived_at IS NOT NULL FROM customers WHERE id = ?", number) == 1
    assert {
        active for (active,) in copy.query("SELECT customer_active FROM services WHERE customer_id = ?", number)
    } <= {0}
    copy.assert_true()


def test_a_change_to_a_service_behind_an_unchanged_account_is_seen(copy: Copy) -> None:
    copy.sync()
    number, account = copy.query("SELECT id, customer_id FROM services LIMIT 1")[0]
    copy.sandbox.update("AccountService", number, quantity=7)
    report = copy.sync()
    assert report.complete
    assert (report.tables["customers"].updated, report.tables["services"].updated) == (0, 1)
    assert copy.one("SELECT quantity FROM services WHERE id = ? AND customer_id = ?", number, account) == 7


def test_a_new_speed_of_a_product_shows_in_every_subscription(copy: Copy) -> None:
    copy.sync()
    product = copy.one("SELECT service_id FROM services WHERE data_service GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    detail = dict(copy.sandbox.rows("DataServiceDetail", ["service_id", "id"]))[str(product)]
    copy.sandbox.update("DataServiceDetail", int(detail), download_speed_kilobits_per_second=123_456)
    report = copy.sync()
    assert report.complete
    assert report.tables["services"].updated == 0
    found = copy.query("SELECT DISTINCT download_in_kilobits FROM services WHERE service_id = ?", product)
    assert found == [(123_456,)]


def test_groups_are_read_again_with_their_account(copy: Copy) -> None:
    copy.sync()
    copy.sandbox.update("Account", 1004, account_groups=[3, 7, 9])
    first = copy.sync()
    copy.sandbox.update("Account", 1004, account_groups=[7])
    second = copy.sync()
    assert first.complete
    assert second.complete
    assert second.tables["customer_groups"].vanished == 2
    copy.assert_true()
    assert copy.query("SELECT group_id FROM live_customer_groups WHERE customer_id = 1004") == [(7,)]


def test_an_item_that_moves_to_another_customer_moves(copy: Copy) -> None:
    copy.sync()
    item, before = copy.query("SELECT inventory_item_id, customer_id FROM customer_inventory WHERE via = 'address'")[0]
    address, after = copy.query("SELECT id, customer_id FROM addresses WHERE customer_id <> ? AND serviceable", before)[
        0
    ]
    copy.sandbox.update("InventoryItem", item, inventoryitemable_type="Address", inventoryitemable_id=str(address))
    assert copy.sync().complete
    assert copy.one("SELECT customer_id FROM customer_inventory WHERE inventory_item_id = ?", item) == after


# -- verification ----------------------------------------------------------------------------------------------


def _silent_change(copy: Copy) -> int:
    """A change that only a full listing finds: it is dated before the last sync."""
    number = int(copy.one("SELECT id FROM customers ORDER BY id LIMIT 1"))
    copy.sandbox.update("Account", number, name="Example Silent", at="2025-01-01T00:00:00+00:00")
    return number


def test_a_block_is_listed_in_full_again_after_days(copy: Copy) -> None:
    copy.sync()
    number = _silent_change(copy)
    assert copy.sync(days=7).tables["customers"].updated == 0
    copy.execute("UPDATE _partitions SET verified_at = '2026-01-01T00:00:00.000Z' WHERE table_name = 'customers'")
    report = copy.sync(days=7)
    assert report.complete
    assert (report.tables["customers"].fetched, report.tables["customers"].updated) == (120, 1)
    assert report.tables["services"].fetched == 0, "only what is due is listed in full"
    assert copy.one("SELECT name FROM customers WHERE id = ?", number) == "Example Silent"
    assert copy.sync(days=7).tables["customers"].fetched == 0


def test_force_lists_everything_in_full(copy: Copy) -> None:
    copy.sync()
    _silent_change(copy)
    report = copy.sync(force=True)
    assert report.complete
    assert report.tables["customers"].updated == 1
    assert {table: counts.fetched for table, counts in report.tables.items()} == {
        table: counts.expected for table, counts in report.tables.items()
    }
    copy.assert_true()


# -- a part of it ----------------------------------------------------------------------------------------------


def test_customers_alone(copy: Copy) -> None:
    report = copy.sync(inventory=False)
    assert report.complete
    assert set(report.tables) == {table.name for table in (*t.LOOKUPS, *t.OF_CUSTOMERS)}
    copy.assert_true("items", "inventory_fields")


def test_inventory_alone(copy: Copy) -> None:
    report = copy.sync(customers=False)
    assert report.complete
    assert set(report.tables) == {table.name for table in (*t.LOOKUPS, *t.OF_INVENTORY)}
    copy.assert_true("accounts", "addresses", "account_services", "customer_groups")


def test_a_limit_fetches_so_many_and_leaves_the_blocks_incomplete(copy: Copy) -> None:
    report = copy.sync(limit=10)
    customers = [number for (number,) in copy.query("SELECT id FROM customers ORDER BY id")]
    assert customers == [row[0] for row in copy.truth()["accounts"][:10]]
    assert report.tables["inventory_items"].fetched == 10
    of = {owner for (owner,) in copy.query("SELECT customer_id FROM addresses UNION SELECT customer_id FROM services")}
    assert of <= set(customers)
    assert copy.query("SELECT DISTINCT complete FROM _partitions WHERE partition <> ''") == [(0,)]
    assert copy.sync().complete
    copy.assert_true()


def test_a_limit_on_a_whole_copy_takes_nothing_away(copy: Copy) -> None:
    copy.sync()
    copy.sync(limit=10, force=True)
    copy.assert_true()


def test_one_partition_alone(tmp_path: Path) -> None:
    with copying(tmp_path, customers=1200) as copy:
        report = copy.sync(partitions=("2000-2999",), inventory=False)
        assert report.complete
        truth = copy.truth()
        held = stored(copy.path)
        assert held["accounts"] == [row for row in truth["accounts"] if 2000 <= row[0] <= 2999]
        assert held["addresses"] == [row for row in truth["addresses"] if 2000 <= row[1] <= 2999]
        assert held["accounts"]


def test_a_partition_that_is_no_block_is_refused_with_the_way_to_name_one(copy: Copy) -> None:
    with pytest.raises(ValueError, match=r"'2000-2998' is no block of 1000 ids.*such as '0-999'"):
        copy.sync(partitions=("2000-2998",))


def test_sparse_ids_cost_no_empty_blocks(tmp_path: Path) -> None:
    with copying(tmp_path, customers=300, ids="sparse") as copy:
        report = copy.sync()
        assert report.complete
        copy.assert_true()
        blocks = {number // 1000 for (number,) in copy.query("SELECT id FROM customers")}
        known = copy.query("SELECT partition FROM _partitions WHERE table_name = 'customers'")
        assert len(known) == len(blocks) > 2
        assert max(blocks) > 1000
        assert report.requests < 150


# -- in Dagster ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_in_dagster_materializes_the_same_and_keeps_the_token_out_of_its_history(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        report = copy.sync()
        assert report.complete
        definitions = build_defs()
        assert TOKEN not in repr(definitions.resources)
        with dg.DagsterInstance.get() as instance:
            runs = instance.get_runs()
            assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
            for table in TABLES:
                assert instance.get_latest_materialization_event(dg.AssetKey(["sonar", table])) is not None, table
            found = set(instance.get_materialized_partitions(dg.AssetKey(["sonar", "customers"])))
            assert found == {"1000-1999"}
    finally:
        root.removeHandler(handler)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in told.getvalue()


def test_the_token_is_in_no_repr_and_in_no_configuration(copy: Copy) -> None:
    resource = assets.SonarResource()
    client = resource.client(assets.Stop())
    with client.session as session:
        for shown in (repr(resource), repr(client), repr(session), str(resource.model_dump()), repr(session.pacer)):
            assert TOKEN not in shown


def test_the_definitions_materialize_against_a_named_file(copy: Copy) -> None:
    definitions = build_defs(
        resources={KEY: SQLiteIOManager((t.SCHEMA,), DrainOptions(), databases={"sonar": str(copy.path)})}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [assets.sonar_lookups], instance=instance, resources=definitions.resources, raise_on_error=False
        )
        assert result.success
    copy.assert_true("accounts", "addresses", "account_services", "customer_groups", "items", "inventory_fields")
