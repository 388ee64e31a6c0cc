"""What the columns of Sonar's generated rows say: functions from rows to what goes over the wire.

What belongs here is how a value follows from a row's number, id, noise and links. Which rows there are and what they point to
belongs to `generate.py`, lists that are drawn from to `catalogue.py`. Names, places, numbers and "secrets" are invented:
telephone numbers 555-01xx, example.com, a county that does not exist, MAC addresses from the documentation range and then from
the locally administered one, SIMs of the test network 001-01.

Irregular on purpose: addresses without coordinates, with "0", with a 2010 tract; MAC addresses in three spellings.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from bdc_pipeline.sandbox.sonar.catalogue import (
    ADDRESS_OWNERS,
    CATEGORIES,
    CITIES,
    COMPANIES,
    DATA_SERVICES,
    HOME,
    ITEM_OWNERS,
    MAILING,
    MANUFACTURERS,
    MODEL_FIELDS,
    MODELS,
    SECOND,
    SERVICES,
    STATUSES,
    STREETS,
    TYPES,
)
from bdc_pipeline.sandbox.sonar.tables import BASE, NEVER, Column, Table, iso

Rows = Sequence[int]


def _day(days: int) -> str:
    return (date(2016, 1, 1) + timedelta(days=days)).isoformat()


def _always(value: Any) -> Column:
    return lambda _table, rows: [value] * len(rows)


def _of_noise(make: Any) -> Column:
    def column(table: Table, rows: Rows) -> list[Any]:
        noise = table.noise
        return [make(noise[n]) for n in rows]

    return column


def _of_row(make: Any) -> Column:
    return lambda _table, rows: [make(n) for n in rows]


def _of_id(make: Any) -> Column:
    def column(table: Table, rows: Rows) -> list[Any]:
        ids, noise = table.ids, table.noise
        return [make(ids[n], noise[n]) for n in rows]

    return column


def foreign_key(link: str) -> Column:
    """A column that holds the ids of the rows which a link leads to."""

    def column(table: Table, rows: Rows) -> list[Any]:
        ids = table.targets[link].ids
        targets = table.links[link]
        return [None if (t := targets[n]) == NEVER else str(ids[t]) for n in rows]

    return column


def _ids(table: Table, rows: Rows) -> list[Any]:
    ids = table.ids
    return [str(ids[n]) for n in rows]


def _unique_ids(table: Table, rows: Rows) -> list[Any]:
    name = table.name.lower()
    return [f"{name}-{table.ids[n]}" for n in rows]


def _updated(table: Table, rows: Rows) -> list[Any]:
    stamps, noise = table.stamps, table.noise
    return [iso(stamps[n], noise[n]) for n in rows]


def _created(table: Table, rows: Rows) -> list[Any]:
    noise = table.noise
    return [iso(BASE - 63_100_000 - (noise[n] >> 30) % 90_000_000, noise[n] >> 4) for n in rows]


def _version(table: Table, rows: Rows) -> list[Any]:
    noise, bumps = table.noise, table.bumps
    return [str(1 + (noise[n] >> 5) % 9 + bumps.get(n, 0)) for n in rows]


def _account_name(identifier: int, noise: int) -> str:
    kind = (noise >> 46) % 100
    if kind < 88:
        return f"Example Customer {identifier}"
    if kind < 98:
        return f"Example Business {identifier} & Sons"
    # Quotes, accents and a line break occur in names that people type in
    return f'O\'Example "Café Ñandú" {identifier}' if kind == 98 else f"Example\tTwo\nLines {identifier} "


def _archived_at(table: Table, rows: Rows) -> list[Any]:
    hidden = table.hidden
    return [iso(table.stamps[n], table.noise[n]) if n in hidden else None for n in rows]


def _named(names: Sequence[str]) -> Column:
    """Names of a small table; rows added later get a number."""
    return _of_row(lambda n: names[n] if n < len(names) else f"Example {n + 1}")


def _listed(entries: Sequence[Any], part: int) -> Column:
    return _of_row(lambda n: entries[n % len(entries)][part])


def _addressable_type(table: Table, rows: Rows) -> list[Any]:
    owners, noise = table.links["account"], table.noise
    return [ADDRESS_OWNERS[noise[n] % 4] if owners[n] == NEVER else "Account" for n in rows]


def _addressable_id(table: Table, rows: Rows) -> list[Any]:
    owners, noise, ids = table.links["account"], table.noise, table.targets["account"].ids
    return [str(1 + (noise[n] >> 2) % 40 if (t := owners[n]) == NEVER else ids[t]) for n in rows]


def _inventoryitemable_type(table: Table, rows: Rows) -> list[Any]:
    places, noise = table.links["address"], table.noise
    return [ITEM_OWNERS[(noise[n] >> 30) % 6] if places[n] == NEVER else "Address" for n in rows]


def _inventoryitemable_id(table: Table, rows: Rows) -> list[Any]:
    places, noise, ids = table.links["address"], table.noise, table.targets["address"].ids
    return [str(1 + (noise[n] >> 35) % 60 if (t := places[n]) == NEVER else ids[t]) for n in rows]


def _of_address(make: Any) -> Column:
    """A column that depends on the kind of address: `make(kind, noise)`."""

    def column(table: Table, rows: Rows) -> list[Any]:
        kinds, noise = table.links["kind"], table.noise
        return [make(kinds[n], noise[n]) for n in rows]

    return column


def _degrees(whole: int, shift: int) -> Any:
    """A coordinate: mostly text of seven decimals; for a few "0", null or a bare number."""

    def make(kind: int, noise: int) -> Any:
        fate = (noise >> 36) % 100
        if kind == MAILING or fate >= 98:
            return None
        if fate >= 95:
            return "0"
        decimals = (noise >> shift) % 10_000_000
        sign = "-" if whole < 0 else ""
        text = f"{sign}{abs(whole)}.{decimals:07d}"
        return float(text) if fate == 50 else text

    return make


def _has_tract(kind: int, noise: int) -> bool:
    return kind != MAILING and (noise >> 13) % 100 < 97


def _is_old(noise: int) -> bool:
    return (noise >> 49) % 100 < 12


def _fips(kind: int, noise: int) -> str | None:
    if not _has_tract(kind, noise):
        return None
    tract = f"48999{100 + (noise >> 22) % 800:06d}"
    return tract if _is_old(noise) else f"{tract}{1000 + (noise >> 33) % 900}"


def _census_year(kind: int, noise: int) -> int | None:
    return (2010 if _is_old(noise) else 2020) if _has_tract(kind, noise) else None


def _fips_source(kind: int, noise: int) -> str | None:
    return ("MIGRATION" if _is_old(noise) else "FCC") if _has_tract(kind, noise) else None


def _line1(kind: int, noise: int) -> str:
    number = 1 + (noise >> 11) % 9800
    return f"PO Box {number}" if kind == MAILING else f"{number} {STREETS[(noise >> 25) & 3]}"


def _zip(_kind: int, noise: int) -> str:
    code = f"{75000 + (noise >> 28) % 60}"
    return f"{code}-{(noise >> 40) % 10_000:04d}" if noise % 11 == 0 else code


def _value(table: Table, rows: Rows) -> list[Any]:
    fields, owners = table.links["inventory_model_field"], table.links["inventory_item"]
    numbers, noise = table.targets["inventory_item"].ids, table.noise
    return [
        _field_value(
            MODEL_FIELDS[fields[n]][1] if fields[n] < len(MODEL_FIELDS) else "TEXT",
            owners[n],
            numbers[owners[n]],
            noise[n],
        )
        for n in rows
    ]


def _field_value(kind: str, n: int, number: int, noise: int) -> str:
    if kind == "MAC_ADDRESS":
        # The documentation range has room for 256; the rest are locally administered, which no maker was given
        digits = f"00005E0053{n:02X}" if n < 256 else f"02005E{n:06X}"
        spelling = noise % 10
        if spelling < 6:
            return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
        return digits if spelling < 8 else "-".join(digits[i : i + 2] for i in range(0, 12, 2))
    if kind == "IMSI":
        return f"00101{n:010d}"
    if kind in {"LTEAUTHKEY", "OPOPC"}:
        return f"SYNTHETIC-SIM-KEY-{kind}-{number}"
    return f"SYNTHETIC-SERIAL-{number}"


def _history_account(table: Table, rows: Rows) -> list[Any]:
    ids, owners = table.targets["account"].ids, table.links["account"]
    return [str(ids[owners[n]]) for n in rows]


def _start_date(table: Table, rows: Rows) -> list[Any]:
    closed, noise = table.links["closed"], table.noise
    return [_day((0 if closed[n] == 0 else 1900) + (noise[n] >> 6) % 1700) for n in rows]


def _end_date(table: Table, rows: Rows) -> list[Any]:
    closed, noise = table.links["closed"], table.noise
    return [_day(1850 + (noise[n] >> 6) % 40) if closed[n] == 0 else None for n in rows]


def _ip_owner(table: Table, rows: Rows) -> list[Any]:
    owners = table.links["account"]
    return ["InventoryItem" if owners[n] == NEVER else "Account" for n in rows]


def _ip_owner_id(table: Table, rows: Rows) -> list[Any]:
    accounts, items = table.links["account"], table.links["inventory_item"]
    ids, numbers = table.targets["account"].ids, table.targets["inventory_item"].ids
    return [str(numbers[items[n]] if accounts[n] == NEVER else ids[accounts[n]]) for n in rows]


#: What every table has.
COMMON: dict[str, Column] = {
    "id": _ids,
    "sonar_unique_id": _unique_ids,
    "created_at": _created,
    "updated_at": _updated,
    "_version": _version,
}
_COLOR = {"color": _always("#2E7D32"), "icon": _always("user")}
#: Entity -> column, for those that are no mere link.
COLUMNS: dict[str, dict[str, Column]] = {
    "Account": {
        "name": _of_id(_account_name),
        "activation_date": _of_noise(lambda x: None if x % 25 == 0 else _day((x >> 9) % 3600)),
        "archived_at": _archived_at,
        "geopoint": _of_noise(lambda x: None if x & 1 else f"32.{x % 10_000_000:07d},-96.{(x >> 24) % 10_000_000:07d}"),
        "is_delinquent": _of_noise(lambda x: (x >> 34) % 20 == 0),
        "next_bill_date": _of_noise(lambda x: f"2026-01-{1 + (x >> 12) % 28:02d}"),
        "data_usage_percentage": _of_noise(lambda x: None if x & 2 else (x >> 18) % 101),
    },
    "AccountStatus": {"name": _named([s[0] for s in STATUSES]), "activates_account": _listed(STATUSES, 1), **_COLOR},
    "AccountType": {"name": _named([t[0] for t in TYPES]), "type": _listed(TYPES, 1), **_COLOR},
    "AccountGroup": {"name": _of_row(lambda n: f"Example Group {n + 1}")},
    "AccountService": {
        "quantity": _of_noise(lambda x: 1 if (x >> 15) % 25 else 2 + (x >> 22) % 3),
        "name_override": _of_noise(lambda x: None if (x >> 16) % 50 else "Example special offer"),
        "price_override": _of_noise(lambda x: None if (x >> 17) % 20 else 1000 + (x >> 24) % 9000),
        "next_bill_date": _of_noise(lambda x: f"2026-01-{1 + (x >> 12) % 28:02d}"),
    },
    "Service": {
        "name": _named([s[0] for s in SERVICES]),
        "type": _listed(SERVICES, 1),
        "application": _listed(SERVICES, 2),
        "amount": _listed(SERVICES, 3),
        "enabled": _of_row(lambda n: n % 13 != 12),
    },
    "DataServiceDetail": {
        "download_speed_kilobits_per_second": _listed(DATA_SERVICES, 1),
        "upload_speed_kilobits_per_second": _listed(DATA_SERVICES, 2),
        "technology_code": _listed(DATA_SERVICES, 3),
        "billing_frequency": _always(1),
    },
    "Address": {
        "addressable_type": _addressable_type,
        "addressable_id": _addressable_id,
        "type": _of_address(lambda kind, _: "MAILING" if kind == MAILING else "PHYSICAL"),
        "serviceable": _of_address(lambda kind, _: kind in {HOME, SECOND}),
        "is_anchor": _of_address(lambda kind, x: kind == HOME and x % 40 == 0),
        "line1": _of_address(_line1),
        "line2": _of_address(lambda _, x: f"Suite {(x >> 42) % 90 + 1}" if x % 9 == 0 else None),
        "city": _of_noise(lambda x: CITIES[(x >> 28) % 5]),
        "subdivision": _always("US_TX"),
        "county": _always("COUNTY_48999"),
        "zip": _of_address(_zip),
        "country": _always("US"),
        "latitude": _of_address(_degrees(32, 6)),
        "longitude": _of_address(_degrees(-96, 27)),
        "timezone": _always("US_CENTRAL"),
        "fips": _of_address(_fips),
        "census_year": _of_address(_census_year),
        "fips_source": _of_address(_fips_source),
        "attainable_download_speed": _of_noise(lambda x: None if x & 3 else 100_000),
        "attainable_upload_speed": _of_noise(lambda x: None if x & 3 else 20_000),
        "address_status_id": _of_noise(lambda x: None if x & 1 else "1"),
    },
    "ServiceableAddressAccountAssignmentHistory": {
        "account_id": _history_account,
        "start_date": _start_date,
        "end_date": _end_date,
    },
    "ServiceableAddressAccountAssignmentFuture": {"start_date": _always("2026-02-01")},
    "InventoryItem": {
        "inventoryitemable_type": _inventoryitemable_type,
        "inventoryitemable_id": _inventoryitemable_id,
        "status": _of_noise(lambda x: "FUNCTIONAL" if (x >> 25) % 30 else ("FAILED" if x & 1 else "LOST")),
        "deployment_type_id": _of_noise(lambda x: None if x & 1 else str(1 + (x >> 33) % 4)),
        "segment_parent_id": _always(None),
        "quantity": _of_noise(lambda x: None if x % 50 else 1),
        "purchase_price": _of_noise(lambda x: None if x & 8 else (x >> 31) % 30_000),
        "um_price": _always(None),
        "latitude": _always(None),
        "longitude": _always(None),
        "metadata": _of_noise(lambda x: None if x % 60 else "SYNTHETIC-SECRET-NOTE typed in by staff"),
        "flapping": _of_noise(lambda x: (x >> 19) % 90 == 0),
        "overall_status": _of_noise(lambda x: "GOOD" if x % 12 else "BAD"),
        "icmp_status": _of_noise(lambda x: "GOOD" if x % 12 else "BAD"),
        "snmp_status": _of_noise(lambda x: "WARNING" if x % 17 == 0 else None),
        "override_status": _always(None),
        "preseem_status": _always(None),
    },
    "InventoryModel": {
        "name": _named([model[0] for model in MODELS]),
        "model_name": _of_row(lambda n: None if n % 4 == 0 else f"MODEL-{n + 1}"),
        "device_type": _listed(MODELS, 3),
        "enabled": _always(value=True),
        "generic": _of_row(lambda n: n < len(MODELS) and not MODELS[n][4]),
        "is_segmentable": _always(value=False),
        "lte_sim_type": _of_row(lambda n: "USIM" if n < len(MODELS) and MODELS[n][2] == 3 else None),
    },
    "InventoryModelField": {
        "name": _listed(MODEL_FIELDS, 0),
        "primary": _listed(MODEL_FIELDS, 2),
        "required": _listed(MODEL_FIELDS, 2),
        "unique": _listed(MODEL_FIELDS, 2),
        "regexp": _always(None),
        "type": _listed(MODEL_FIELDS, 1),
    },
    "InventoryModelFieldData": {"value": _value},
    "InventoryModelCategory": {"name": _named(CATEGORIES)},
    "Manufacturer": {"name": _named(MANUFACTURERS)},
    "Company": {"name": _named(COMPANIES)},
    "Package": {"name": _of_row(lambda n: f"Example Package {n + 1}")},
    "NetworkSite": {"name": _of_row(lambda n: f"Example Tower {n + 1}")},
    "FccForm477Report": {"name": _of_row(lambda n: f"Example Form 477 {2018 + n}")},
    "IpAssignment": {
        "ipassignmentable_type": _ip_owner,
        "ipassignmentable_id": _ip_owner_id,
        "subnet": _of_noise(lambda x: f"192.0.2.{x % 256}/32"),
    },
    "UninventoriedMacAddress": {"mac_address": _of_noise(lambda x: f"00:00:5E:00:53:{x & 255:02X}")},
    "RadiusAccount": {
        "username": _of_id(lambda i, _: f"SYNTHETIC-SECRET-RADIUS-USER-{i}"),
        "password": _of_id(lambda i, _: f"SYNTHETIC-SECRET-RADIUS-PASSWORD-{i}"),
    },
    "Contact": {
        "contactable_type": _always("Account"),
        "name": _of_id(lambda i, _: f"SYNTHETIC-SECRET-CONTACT-{i}"),
        "email_address": _of_id(lambda i, _: f"synthetic-secret-{i}@example.com"),
        "username": _of_id(lambda i, _: f"SYNTHETIC-SECRET-USER-{i}"),
        "password": _of_id(lambda i, _: f"SYNTHETIC-SECRET-PASSWORD-{i}"),
        "phone_number": _of_noise(lambda x: f"55501{x % 100:02d}"),
        "primary": _always(value=True),
    },
    "CustomFieldData": {
        "customfielddataable_type": _always("Account"),
        "value": _of_id(lambda i, _: f"SYNTHETIC-SECRET-FREE-TEXT-{i}"),
    },
}
