"""A sandbox and the file that is kept of it: syncing, and comparing the one with the other.

What a table is to hold is worked out here once more, from what the sandbox says that it serves, with none of the
code under test.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread
from bdc_pipeline.sources.sonar import assets, command
from bdc_pipeline.warehouse.columns import BOOKKEEPING
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.ledger import SyncReport
from bdc_pipeline_tests.sandbox.asking import BY_ID, listed

#: Distinctive, so that it can be searched for
TOKEN = "SYNTHETIC-TOKEN-7f3a9c51"

#: The fields whose values are a SIM's secret keys
SECRET_TYPES = {"LTEAUTHKEY", "OPOPC"}

Row = tuple[Any, ...]
Truth = dict[str, list[Row]]


class Copy:
    """A sandbox and the file that is kept of it."""

    def __init__(self, sandbox: Sandbox, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.path = path
        self.progress: list[tuple[str, Progress]] = []
        self._patch = patch

    def environment(self) -> None:
        """Sets the variables that name this sandbox."""
        self._patch.setenv("SONAR_URL", self.sandbox.sonar_url)
        self._patch.setenv("SONAR_TOKEN", TOKEN)

    def sync(
        self,
        *,
        workers: int = 4,
        page_size: int = 100,
        attempts: int = 4,
        read_timeout: float = 60.0,
        partitions: tuple[str, ...] = (),
        customers: bool = True,
        inventory: bool = True,
        drain: DrainOptions | None = None,
        **config: Any,
    ) -> SyncReport:
        """One sync, as the command line does it."""
        self.environment()
        resource = assets.SonarResource(
            workers=workers, page_size=page_size, attempts=attempts, read_timeout=read_timeout
        )
        asked = command.SonarSync(
            database=self.path,
            resource=resource,
            config=assets.SonarSyncConfig(**config),
            drain=drain or DrainOptions(),
            partitions=partitions,
            customers=customers,
            inventory=inventory,
        )
        return command.sync(asked, lambda stage, progress: self.progress.append((stage, progress)), time.monotonic())

    def query(self, sql: str, *values: Any) -> list[Row]:
        """Rows of the file."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        """The one value of the one row."""
        [(value,)] = self.query(sql, *values)
        return value

    def execute(self, sql: str, *values: Any) -> None:
        """Changes the file, as time would."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql, values)

    def truth(self) -> Truth:
        """What the tables are to hold."""
        return truth(self.sandbox)

    def assert_true(self, *but: str) -> None:
        """All tables hold what the sandbox serves, column by column."""
        assert_same(stored(self.path), self.truth(), *but)


def assert_same(found: Truth, expected: Truth, *but: str) -> None:
    """Both hold the same rows in all tables but some."""
    assert {table: len(rows) for table, rows in found.items() if table not in but} == {
        table: len(rows) for table, rows in expected.items() if table not in but
    }
    for table, rows in expected.items():
        if table not in but:
            assert found[table] == rows, table


@contextlib.contextmanager
def copying(directory: Path, **options: Any) -> Iterator[Copy]:
    """A sandbox in this process, by default with 120 customers, and the file that will be kept of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "SONAR_WORKERS", "SONAR_REQUESTS_PER_SECOND", "http_proxy", "HTTP_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("BDC_DATA_DIR", str(directory))
        with running_in_thread(SandboxOptions(**{"customers": 120, **options})) as sandbox:
            copy = Copy(sandbox, directory / "bdc_cache.db", patch)
            copy.environment()
            yield copy


# -- what is to be stored --------------------------------------------------------------------------------------

COLUMNS: dict[str, tuple[str, str]] = {
    "accounts": (
        "Account",
        "id name account_status_id account_type_id company_id parent_account_id activation_date archived_at",
    ),
    "addresses": (
        "Address",
        (
            "id addressable_type addressable_id type serviceable line1 line2 city subdivision county zip country latitude "
            "longitude fips census_year fips_source attainable_download_speed attainable_upload_speed address_status_id "
            "is_anchor anchor_address_id"
        ),
    ),
    "account_services": ("AccountService", "id account_id service_id quantity package_id name_override"),
    "items": (
        "InventoryItem",
        (
            "id inventory_model_id status inventoryitemable_type inventoryitemable_id account_service_id "
            "deployment_type_id parent_inventory_item_id"
        ),
    ),
    "inventory_fields": ("InventoryModelFieldData", "id inventory_item_id inventory_model_field_id value"),
    "products": ("Service", "id name type application enabled company_id"),
    "groups": ("AccountGroup", "id name"),
    "statuses": ("AccountStatus", "id name activates_account"),
    "types": ("AccountType", "id name type"),
    "models": (
        "InventoryModel",
        "id name model_name manufacturer_id inventory_model_category_id device_type enabled lte_sim_type",
    ),
    "model_fields": ("InventoryModelField", "id inventory_model_id name type primary"),
    "manufacturers": ("Manufacturer", "id name"),
}


def truth(sandbox: Sandbox) -> Truth:
    """What the tables are to hold of what a sandbox serves."""
    found: Truth = {}
    kinds = {int(number): kind for number, kind in sandbox.rows("InventoryModelField", ["id", "type"])}
    speeds = {
        service: rest
        for service, *rest in sandbox.rows(
            "DataServiceDetail",
            [
                "service_id",
                "download_speed_kilobits_per_second",
                "upload_speed_kilobits_per_second",
                "technology_code",
            ],
        )
    }
    for table, (entity, names) in COLUMNS.items():
        columns = [*names.split(), "_version", "created_at", "updated_at"]
        rows = []
        for values in sandbox.rows(entity, columns):
            record = dict(zip(columns, values, strict=True))
            if table == "addresses":
                if record.pop("addressable_type") != "Account":
                    continue
                record = _address(record)
            if table == "products":
                record = _product(record, speeds)
            if table == "inventory_fields":
                kind = kinds[int(record["inventory_model_field_id"])]
                if kind in SECRET_TYPES:
                    continue
                record = _spliced(record, "value", normalized=_plain_code(kind, record["value"]))
            rows.append(tuple(_value(name, value) for name, value in record.items()))
        found[table] = sorted(rows)
    found["customer_groups"] = _memberships(sandbox)
    return found


def stored(path: Path) -> Truth:
    """What the tables hold, but for the times of the copy and what has vanished."""
    found: Truth = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in (*COLUMNS, "customer_groups"):
            rows = connection.execute(f'SELECT * FROM "{table}" WHERE vanished_at IS NULL').fetchall()
            found[table] = sorted(row[: -len(BOOKKEEPING)] for row in rows)
    return found


def _memberships(sandbox: Sandbox) -> list[Row]:
    pairs, page = [], 1
    while True:
        found = listed(
            sandbox,
            "accounts",
            f"include_archived: true, paginator: {{page: {page}, records_per_page: 1000}}, {BY_ID}",
            "id account_groups(paginator: {page: 1, records_per_page: 1000}) { entities { id } }",
        )
        if not found:
            return sorted(pairs)
        pairs += [(int(row["id"]), int(group["id"])) for row in found for group in row["account_groups"]["entities"]]
        page += 1


def _spliced(record: dict[str, Any], after: str, **more: Any) -> dict[str, Any]:
    """The record with further columns behind one of its own."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found[name] = value
        if name == after:
            found |= more
    return found


def _address(record: dict[str, Any]) -> dict[str, Any]:
    code, _, plus4 = (record["zip"] or "").partition("-")
    record = _spliced({**record, "zip": code or None}, "zip", plus4=plus4 or None)
    pair = (record["latitude"], record["longitude"])
    here = None not in pair and not all(float(value) == 0 for value in pair)
    record["latitude"], record["longitude"] = (float(value) if here else None for value in pair)
    record["subdivision"] = record["subdivision"].replace("US_", "")
    record["county"] = record["county"].replace("COUNTY_", "")
    return record


def _product(record: dict[str, Any], speeds: dict[str, Any]) -> dict[str, Any]:
    down, up, technology = speeds.get(record["id"], (None, None, None))
    return _spliced(record, "company_id", data=int(down is not None), down=down, up=up, technology=technology)


def _plain_code(kind: str, value: str) -> str | None:
    if kind == "IMSI":
        return value if value.isdecimal() and len(value) == 15 else None
    if kind != "MAC_ADDRESS":
        return None
    digits = value.replace(":", "").replace("-", "").upper()
    return ":".join(a + b for a, b in zip(digits[::2], digits[1::2], strict=True))


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "id" or name.endswith("_id"):
        return int(value)
    if name.endswith("_at"):
        return dt.datetime.fromisoformat(value).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return int(value) if isinstance(value, bool) else value
