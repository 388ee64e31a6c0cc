"""A sandbox and the file that is kept of it: syncing, and comparing the one with the other.

What a table is to hold is worked out here from what the sandbox says that it serves, with none of the code under test.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread
from bdc_pipeline.sources.properties import assets, command
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.ledger import SyncReport

Row = tuple[Any, ...]

#: table -> entity of the sandbox, and column by column its key there
ADDRESSES = (
    "address_id:addressID address_type:addressType road_name:roadName house_number:houseNumber floor:floor door:door "
    "zip_code:zipCode city_name:cityName place_name:placeName municipality_code:municipalityCode "
    "entry_address_id:entryAddressID gstkvhx:gstkvhx living_area:livingArea weighted_area:weightedArea "
    "energy_label:energyLabel latest_valuation:latestValuation case_price:casePrice is_on_market:isOnMarket "
    "is_public:isPublic property_number:propertyNumber slug:slug"
)
CHILDREN = {
    "buildings": (
        "Building",
        (
            "address_id:addressID building_number:buildingNumber building_name:buildingName year_built:yearBuilt "
            "year_renovated:yearRenovated total_area:totalArea housing_area:housingArea basement_area:basementArea "
            "number_of_rooms:numberOfRooms number_of_floors:numberOfFloors heating_installation:heatingInstallation "
            "roofing_material:roofingMaterial external_wall_material:externalWallMaterial"
        ),
    ),
    "registrations": (
        "Registration",
        (
            "address_id:addressID registration_id:registrationID date:date amount:amount type:type area:area "
            "living_area:livingArea per_area_price:perAreaPrice property_number:propertyNumber"
        ),
    ),
    "cases": (
        "Case",
        (
            "address_id:addressID case_id:caseID status:status price_cash:priceCash per_area_price:perAreaPrice "
            "monthly_expense:monthlyExpense lot_area:lotArea year_built:yearBuilt has_terrace:hasTerrace "
            "price_change_percentage:priceChangePercentage days_current:daysOnMarket"
        ),
    ),
}


class Copy:
    """A sandbox and the file that is kept of it."""

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self.sandbox, self.path = sandbox, path
        self.api = sandbox.source("boligsiden")
        self.progress: list[Progress] = []

    def sync(
        self,
        *,
        workers: int = 4,
        attempts: int = 4,
        page_size: int = 50,
        read_timeout: float = 10.0,
        partitions: tuple[str, ...] = (),
        drain: DrainOptions | None = None,
        **config: Any,
    ) -> SyncReport:
        """One sync, as the command line does it."""
        resource = assets.BoligsidenResource(
            workers=workers,
            attempts=attempts,
            page_size=page_size,
            read_timeout=read_timeout,
            hit_cap=self.sandbox.options.hit_cap,
        )
        asked = command.PropertiesSync(
            self.path, resource, assets.PropertiesSyncConfig(**config), drain or DrainOptions(), partitions
        )
        return command.sync(asked, lambda _, progress: self.progress.append(progress), time.monotonic())

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

    def homes(self, *kinds: str | None, codes: tuple[int, ...] = ()) -> set[str]:
        """The ids of the sandbox's homes of some types, by default of villas, in some municipalities or all."""
        wanted = kinds or ("villa",)
        found = self.api.rows("Address", ["addressID", "addressType", "municipalityCode"])
        return {row[0] for row in found if row[1] in wanted and (not codes or row[2] in codes)}

    def assert_true(self, *kinds: str | None, codes: tuple[int, ...] = (), but: tuple[str, ...] = ()) -> None:
        """The file holds what the sandbox serves of some types, column by column."""
        homes = self.homes(*kinds, codes=codes)
        assert self._stored("properties", ADDRESSES) == self._served("Address", ADDRESSES, homes)
        for table, (entity, columns) in CHILDREN.items():
            if table not in but:
                assert self._stored(table, columns) == self._served(entity, columns, homes), table

    def _stored(self, table: str, columns: str) -> list[Row]:
        names = ", ".join(text.partition(":")[0] for text in columns.split())
        return sorted(self.query(f"SELECT {names} FROM live_{table}"), key=repr)

    def _served(self, entity: str, columns: str, homes: set[str]) -> list[Row]:
        names = [text.partition(":")[2] for text in columns.split()]
        rows = {
            repr(row): tuple(_plain(value) for value in row) for row in self.api.rows(entity, names) if row[0] in homes
        }
        found = sorted(rows.values(), key=repr)
        return found if entity != "Building" else sorted(self._buildings(names, homes), key=repr)

    def _buildings(self, names: list[str], homes: set[str]) -> list[Row]:
        return [tuple(_plain(value) for value in row) for row in self.api.rows("Building", names) if row[0] in homes]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def errors_of(report: SyncReport) -> str:
    """What failed, line by line."""
    return "\n".join(f"{failure.unit}: {failure.error}" for failure in report.failures)


@contextlib.contextmanager
def copying(directory: Path, **options: Any) -> Iterator[Copy]:
    """A sandbox in this process, by default with 360 villas, and the file that will be kept of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "http_proxy", "HTTP_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("BDC_DATA_DIR", str(directory))
        patch.setenv("BOLIGSIDEN_REQUESTS_PER_SECOND", "5000")
        given = {"homes": 360, **options}
        with running_in_thread(SandboxOptions(sources=frozenset({"boligsiden"}), **given)) as sandbox:
            copy = Copy(sandbox, directory / "properties.db")
            patch.setenv("BOLIGSIDEN_URL", copy.api.url)
            yield copy
