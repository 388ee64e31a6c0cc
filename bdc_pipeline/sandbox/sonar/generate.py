"""Sonar's generated data: an invented internet provider with the irregularities of real ones.

What belongs here is what rows exist, what they point to and what their columns say. All of it follows from the seed: no wall
clock, no dictionary order, no system randomness. Names, places, numbers and "secrets" are invented: telephone numbers 555-01xx,
example.com, a county that does not exist, MAC addresses from the documentation range and then from the locally administered
one, SIMs of the test network 001-01.

Irregular on purpose: ids with gaps; addresses without coordinates, with "0", with a 2010 tract; accounts with a parent and no
address; two serviceable addresses; items owned by trucks, towers and stock rooms; items whose account service belongs to
another account than their address; assignment histories that disagree with the address; MAC addresses in three spellings;
items with no field data; a technology code that says too little; speeds that are no whole number of Mbps.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import accumulate
from random import Random
from typing import Any, Literal

from bdc_pipeline.sandbox.sonar.schema import REVERSE, load
from bdc_pipeline.sandbox.sonar.tables import BASE, NEVER, Column, Table, World, iso

Ids = Literal["dense", "sparse"]
Rows = Sequence[int]

#: The account that has more groups than a nested list shows unasked, by row.
BIG_ACCOUNT = 2
#: Items that are made for each customer.
ITEMS_PER_CUSTOMER = 3

_STATUSES = [
    ("Active", True),
    ("Suspended", True),
    ("Lead", False),
    ("Disconnected", False),
    ("Pending install", False),
]
_STATUS_OF = [0] * 86 + [1] * 5 + [2] * 3 + [3] * 4 + [4] * 2
_TYPES = [
    ("Residential", "RESIDENTIAL"),
    ("Business", "COMMERCIAL"),
    ("Government", "GOVERNMENT"),
    ("Industrial", "INDUSTRIAL"),
    ("Senior", "SENIOR_CITIZEN"),
]
_TYPE_OF = [0] * 82 + [1] * 11 + [2] * 2 + [3] + [4] * 4
_COMPANIES = ["Example Broadband", "Sample Wireless"]
_MANUFACTURERS = [
    "Example Radio",
    "Sample Networks",
    "Placeholder Systems",
    "Invented Optics",
    "Mock Mobile",
    "Nowhere Devices",
]
_CATEGORIES = ["Radio", "ONT", "Router", "LTE CPE", "Power"]
#: name, download and upload in kilobits per second, technology, cents a month
_DATA_SERVICES = [
    ("Fiber 1000", 1_000_000, 1_000_000, "FIBER", 9900),
    ("Fiber 500", 500_000, 500_000, "FIBER", 7900),
    ("Fiber 100", 100_000, 100_000, "FIBER", 4900),
    ("Wireless 25", 25_600, 3_072, "TERRESTRIALFIXEDWIRELESS", 4500),
    ("Wireless 50", 50_000, 10_000, "TERRESTRIALFIXEDWIRELESS", 5500),
    ("Wireless 100 Unlicensed", 100_000, 20_000, "UNLICENSEDTERRESTRIALFIXEDWIRELESS", 6500),
    ("Wireless 100 CBRS", 100_000, 20_000, "LICENSEDBYRULETERRESTRIALFIXEDWIRELESS", 6900),
    ("Wireless 200 Licensed", 200_000, 50_000, "LICENSEDTERRESTRIALFIXEDWIRELESS", 8900),
    ("DSL 10", 10_000, 1_000, "ASYMMETRICXDSL", 3500),
    ("DSL 25", 25_000, 3_000, "ASYMMETRICXDSL", 4000),
    ("SDSL 2", 2_000, 2_000, "SYMMETRICXDSL", 3900),
    ("T1", 1_544, 1_544, "COPPERWIRELINE", 19900),
    ("Cable 300", 300_000, 20_000, "CABLEMODEM", 5900),
    ("Cable 150", 150_000, 10_000, "CABLEMODEM", 4900),
    ("Satellite 25", 25_000, 3_000, "SATELLITE", 6900),
    ("Low orbit 150", 150_000, 20_000, "NONGEOSTATIONARYSATELLITE", 11000),
    ("Powerline 20", 20_000, 5_000, "ELECTRICPOWERLINE", 3000),
    ("Special circuit", 768, 768, "OTHER", 9900),
    ("Telemetry", 128, 64, "OTHER", 900),
]
#: name, type, application, cents
_OTHER_SERVICES = [
    ("Router rental", "RECURRING", "DEBIT", 500),
    ("Static address", "RECURRING", "DEBIT", 1000),
    ("Voice line", "VOICE", "DEBIT", 2000),
    ("Install", "ONETIME", "DEBIT", 9900),
    ("Overage", "OVERAGE", "DEBIT", 100),
    ("Loyalty credit", "EXPIRING", "CREDIT", 500),
    ("Adjustment", "ADJUSTMENT", "CREDIT", None),
    ("Battery rental", "RECURRING", "DEBIT", 300),
    ("Managed router", "RECURRING", "DEBIT", 800),
    ("Voice line business", "VOICE", "DEBIT", 3500),
    ("Truck roll", "ONETIME", "DEBIT", 7500),
]
_DATA_OF = [0] * 14 + [1] * 12 + [2] * 12 + [3] * 14 + [4] * 12 + [5] * 9 + [6] * 7 + [7] * 4 + [8] * 3 + [9] * 3
_DATA_OF += [10, 11, 12, 12, 13, 14, 15, 16, 17, 18]
_GROUPS = 44
_COMMON_GROUPS = 20
#: name, manufacturer, category, device type, kinds of fields
_MAC, _SERIAL = ("MAC Address", "MAC_ADDRESS", True), ("Serial", "TEXT", False)
_SIM = [("IMSI", "IMSI", True), _SERIAL, ("Ki", "LTEAUTHKEY", False), ("OPc", "OPOPC", False)]
_MODELS = (
    [
        (f"Sample Radio {band}", n % 3, 0, "CPE", [_MAC, _SERIAL])
        for n, band in enumerate(["5 GHz", "3 GHz", "6 GHz", "60 GHz"])
    ]
    + [(f"Sample ONT {n}", 3, 1, "CPE", [_MAC, _SERIAL]) for n in range(1, 6)]
    + [(f"Placeholder Router {n}", 2, 2, "ROUTER", [_MAC, _SERIAL]) for n in range(1, 9)]
    + [(f"Mock LTE {n}", 4, 3, "CPE", _SIM) for n in range(1, 3)]
    + [(f"Example Battery {n}", 5, 4, "OTHER", [_SERIAL]) for n in range(1, 4)]
    + [("Generic cable", 5, 4, "OTHER", [])]
    + [(f"Sample Sector {n}", 0, 0, "ACCESS_POINT", [_MAC]) for n in range(1, 3)]
)
_ITEM_OWNERS = ["InventoryLocation", "InventoryLocation", "NetworkSite", "Vehicle", "User", "GenericInventoryAssignee"]
_ADDRESS_OWNERS = ["NetworkSite", "InventoryLocation", "TowercoverageSubmission", "Vendor"]
_ITEMS_AT = [1, 2, 2, 2, 3, 3, 3, 4]
_CITIES = ["Exampleville", "Sampleton", "Nowhere Springs", "Mockingham", "Placeholder City"]
_STREETS = ["Sample Street", "Example Road", "Placeholder Lane", "Invented Avenue"]
#: kinds of address
_HOME, _MAILING, _SECOND, _FOREIGN = range(4)


def build(*, customers: int, seed: int = 0, ids: Ids = "dense") -> World:
    """Make a provider with this many customers. The same arguments give the same rows, byte for byte.

    With `ids="sparse"`, ids lie several apart and jump by a million in the middle.
    """
    return _Builder(customers, seed, ids).build()


class _Builder:
    def __init__(self, customers: int, seed: int, ids: Ids) -> None:
        self.customers = customers
        self.seed = seed
        self.ids = ids
        self.tables: dict[str, Table] = {}

    def build(self) -> World:
        self._small_tables()
        self._accounts()
        self._addresses()
        self._account_services()
        self._items()
        self._field_data()
        self._histories()
        self._of_accounts()
        tables = self.tables
        accounts = tables["Account"]
        for name, table in tables.items():
            table.columns = {**_COMMON, **_COLUMNS.get(name, {})}
            for column, (link, target) in _link_columns(name).items():
                table.targets[link] = tables[target]
                table.columns.setdefault(column, _foreign_key(link))
            missing = set(table.entity.columns) - set(table.columns)
            if missing:
                raise LookupError(f"{name} has no generator for {', '.join(sorted(missing))}.")
        tables["Service"].targets["group"] = tables["AccountGroup"]
        for target, link in REVERSE.values():
            if link != "groups":
                # Now, lest the first request of each kind be slow
                tables[target].pointing(link, ())
        return World(tables, groups=lambda n: _groups(n, accounts.noise[n]))

    # --- what every table needs

    def _table(self, name: str, rows: int, *, first: int = 1, gaps: bool = False) -> Table:
        noise = array("Q", Random(f"{self.seed}/{name}").randbytes(8 * rows))  # noqa: S311  # data, not secrets
        if gaps and self.ids == "sparse":
            half = rows // 2
            steps = (1 + (x >> 50) % 17 + (1_000_000 if n == half else 0) for n, x in enumerate(noise))
        elif gaps:
            # 2 % of the ids are missing, as after years of deletions
            steps = (1 + (x >> 50) % 50 // 49 for x in noise)
        else:
            steps = (1 for _ in noise)
        numbers = array("q", accumulate(steps, initial=first - 1))[1:]
        table = self.tables[name] = Table(load().entities[name], numbers, noise)
        return table

    def _link(self, table: Table, name: str, targets: Sequence[int] | array[int]) -> None:
        table.links[name] = targets if isinstance(targets, array) else array("q", targets)

    # --- tables

    def _small_tables(self) -> None:
        services = len(_DATA_SERVICES) + len(_OTHER_SERVICES)
        for name, rows in {
            "AccountStatus": len(_STATUSES),
            "AccountType": len(_TYPES),
            "AccountGroup": _GROUPS,
            "Company": len(_COMPANIES),
            "Manufacturer": len(_MANUFACTURERS),
            "InventoryModelCategory": len(_CATEGORIES),
            "InventoryModel": len(_MODELS),
            "InventoryModelField": sum(len(model[4]) for model in _MODELS),
            "Service": services,
            "DataServiceDetail": len(_DATA_SERVICES),
            "Package": 5,
            "FccForm477Report": 3,
            "NetworkSite": max(3, self.customers // 200),
        }.items():
            self._table(name, rows)
        tables = self.tables
        self._link(tables["Service"], "company", [NEVER if n % 3 else n % 2 for n in range(services)])
        self._link(tables["Service"], "group", [n if n < 6 else NEVER for n in range(services)])
        self._link(tables["DataServiceDetail"], "service", range(len(_DATA_SERVICES)))
        self._link(tables["InventoryModel"], "manufacturer", [model[1] for model in _MODELS])
        self._link(tables["InventoryModel"], "inventory_model_category", [model[2] for model in _MODELS])
        fields = [n for n, model in enumerate(_MODELS) for _ in model[4]]
        self._link(tables["InventoryModelField"], "inventory_model", fields)

    def _accounts(self) -> None:
        table = self._table("Account", self.customers, first=1001, gaps=True)
        noise = table.noise
        # Archived accounts are disconnected ones, mostly
        table.hidden = {n for n, x in enumerate(noise) if (x >> 8) % 100 < 3 and n != BIG_ACCOUNT}
        self._link(
            table, "account_status", [3 if n in table.hidden else _STATUS_OF[x % 100] for n, x in enumerate(noise)]
        )
        self._link(table, "account_type", [_TYPE_OF[(x >> 7) % 100] for x in noise])
        self._link(table, "company", [0 if x % 7 else 1 for x in noise])
        parents = array("q", [NEVER]) * self.customers
        for n, x in enumerate(noise):
            if n > 10 and (x >> 14) % 64 == 0:
                parent = n - 1 - (x >> 20) % 9
                if parents[parent] == NEVER:
                    parents[n] = parent
        self._link(table, "parent_account", parents)

    def _addresses(self) -> None:
        accounts = self.tables["Account"]
        parents = accounts.links["parent_account"]
        owners, kinds, anchors = array("q"), array("b"), array("q")

        def add(owner: int, kind: int, anchor: int = NEVER) -> None:
            owners.append(owner)
            kinds.append(kind)
            anchors.append(anchor)

        #: account -> where its equipment stands
        self.homes = homes = array("q", [NEVER]) * self.customers
        for n, x in enumerate(accounts.noise):
            if parents[n] != NEVER and x & 3:
                homes[n] = homes[parents[n]]
                continue
            homes[n] = len(owners)
            add(n, _HOME)
            if (x >> 24) % 100 < 17:
                add(n, _MAILING)
            if (x >> 31) % 100 < 8:
                add(n, _SECOND, homes[n] if x & 1 else NEVER)
            if (x >> 17) % 100 == 0:
                add(NEVER, _FOREIGN)
        table = self._table("Address", len(owners), first=5001, gaps=True)
        self.kinds = kinds
        self._link(table, "account", owners)
        self._link(table, "anchor_address", anchors)
        self._link(table, "kind", kinds.tolist())

    def _account_services(self) -> None:
        accounts = self.tables["Account"]
        routers = len(_DATA_SERVICES)
        owners, products = array("q"), array("q")
        #: account -> its data service
        self.subscriptions = subscriptions = array("q", [NEVER]) * self.customers
        for n, x in enumerate(accounts.noise):
            if (x >> 11) % 100 < 4:
                continue
            subscriptions[n] = len(owners)
            owners.append(n)
            products.append(_DATA_OF[(x >> 33) % len(_DATA_OF)])
            if (x >> 41) % 100 < 44:
                owners.append(n)
                products.append(routers)
            if (x >> 29) % 100 < 12:
                owners.append(n)
                products.append(routers + 1 + (x >> 45) % (len(_OTHER_SERVICES) - 1))
        table = self._table("AccountService", len(owners), first=9001, gaps=True)
        self._link(table, "account", owners)
        self._link(table, "service", products)
        self._link(table, "package", [(x >> 9) % 5 if x % 20 == 0 else NEVER for x in table.noise])

    def _items(self) -> None:
        wanted = ITEMS_PER_CUSTOMER * self.customers
        places = array("q")
        holders = array("q")
        for n, x in enumerate(self.tables["Account"].noise):
            if self.homes[n] != NEVER:
                count = _ITEMS_AT[(x >> 52) & 7] if n != BIG_ACCOUNT else 20
                places.extend([self.homes[n]] * count)
                holders.extend([n] * count)
            # Stock, towers and trucks come in between, as ids are given by date of purchase
            if (x >> 55) % 20 < 9:
                places.append(NEVER)
                holders.append(NEVER)
        missing = max(0, wanted - len(places))
        places = (places + array("q", [NEVER]) * missing)[:wanted]
        holders = (holders + array("q", [NEVER]) * missing)[:wanted]
        table = self._table("InventoryItem", wanted, first=7001, gaps=True)
        self._link(table, "address", places)
        last = len(_MODELS) - 1
        self._link(
            table,
            "inventory_model",
            # Access points stand on towers, everything else may stand anywhere
            [
                (x >> 3) % (last - 1) if place != NEVER else (x >> 3) % (last + 1)
                for x, place in zip(table.noise, places, strict=True)
            ],
        )
        subscriptions = self.subscriptions
        services = array("q", [NEVER]) * wanted
        for n, (x, holder) in enumerate(zip(table.noise, holders, strict=True)):
            if holder != NEVER and x % 5 < 2:
                # One in a hundred says another customer than the address does
                services[n] = subscriptions[holder - 1 if (x >> 12) % 100 == 0 and holder else holder]
        self._link(table, "account_service", services)
        self._link(
            table, "parent_inventory_item", [n - 1 if n and x % 200 == 7 else NEVER for n, x in enumerate(table.noise)]
        )

    def _field_data(self) -> None:
        items = self.tables["InventoryItem"]
        starts = list(accumulate((len(model[4]) for model in _MODELS), initial=0))
        fields_of = [list(range(start, start + len(model[4]))) for start, model in zip(starts, _MODELS, strict=False)]
        owners, fields = array("q"), array("q")
        for n, (x, model) in enumerate(zip(items.noise, items.links["inventory_model"], strict=True)):
            if (x >> 21) % 200 == 0:
                continue
            for field in fields_of[model]:
                owners.append(n)
                fields.append(field)
        table = self._table("InventoryModelFieldData", len(owners), first=20001, gaps=True)
        self._link(table, "inventory_item", owners)
        self._link(table, "inventory_model_field", fields)

    def _histories(self) -> None:
        addresses, accounts = self.tables["Address"], self.tables["Account"]
        owners, places, closed = array("q"), array("q"), array("q")
        for n, (x, kind, owner) in enumerate(zip(addresses.noise, self.kinds, addresses.links["account"], strict=True)):
            if kind not in {_HOME, _SECOND}:
                continue
            if (x >> 9) % 10 == 0:
                owners.append((x >> 16) % len(accounts))
                places.append(n)
                closed.append(0)
            # One in two hundred names another account than the address does
            owners.append(max(0, owner - 1) if (x >> 23) % 200 == 0 else owner)
            places.append(n)
            closed.append(NEVER)
        table = self._table("ServiceableAddressAccountAssignmentHistory", len(owners), gaps=True)
        self._link(table, "account", owners)
        self._link(table, "address", places)
        self._link(table, "closed", closed)
        table = self._table("ServiceableAddressAccountAssignmentFuture", max(1, self.customers // 500))
        self._link(table, "account", [x % len(accounts) for x in table.noise])
        self._link(table, "address", [(x >> 8) % len(addresses) for x in table.noise])

    def _of_accounts(self) -> None:
        """What hangs on accounts and is of no use for a filing, some of it secret."""
        customers = range(self.customers)
        noise = self.tables["Account"].noise
        for name, owners in {
            "Contact": list(customers),
            "RadiusAccount": [n for n in customers if (noise[n] >> 27) % 10 < 4],
            "UninventoriedMacAddress": [n for n in customers if (noise[n] >> 26) % 100 == 0],
            "CustomFieldData": [n for n in customers if (noise[n] >> 28) % 50 == 0],
        }.items():
            self._link(self._table(name, len(owners)), "account", owners)
        table = self._table("IpAssignment", self.customers // 2 or 1)
        items = len(self.tables["InventoryItem"])
        self._link(table, "account", [x % self.customers if x & 1 else NEVER for x in table.noise])
        self._link(table, "inventory_item", [NEVER if x & 1 else x % items for x in table.noise])


def _groups(n: int, noise: int) -> list[int]:
    if n == BIG_ACCOUNT:
        return list(range(40))
    count = (0, 0, 1, 1, 1, 2, 2, 3)[(noise >> 44) & 7]
    return sorted({(noise >> shift) % _COMMON_GROUPS for shift in (3, 19, 36)[:count]})


def _link_columns(name: str) -> dict[str, tuple[str, str]]:
    """Column -> (link, the entity it leads to), for columns that are nothing but a link."""
    entity = load().entities[name]
    found = {f"{relation}_id": (relation, target) for relation, target in entity.one.items()}
    found.update(_BARE_LINKS.get(name, {}))
    return {column: link for column, link in found.items() if column in entity.columns or column.startswith("-")}


#: Links that no relation of the schema is named after; a leading dash means that no column shows them either.
_BARE_LINKS: dict[str, dict[str, tuple[str, str]]] = {
    "Service": {"company_id": ("company", "Company")},
    "Address": {"anchor_address_id": ("anchor_address", "Address"), "-account": ("account", "Account")},
    "InventoryItem": {
        "parent_inventory_item_id": ("parent_inventory_item", "InventoryItem"),
        "-address": ("address", "Address"),
    },
    "InventoryModelField": {"inventory_model_id": ("inventory_model", "InventoryModel")},
    "InventoryModelFieldData": {"inventory_item_id": ("inventory_item", "InventoryItem")},
    "RadiusAccount": {"account_id": ("account", "Account")},
    "UninventoriedMacAddress": {"account_id": ("account", "Account")},
    "Contact": {"contactable_id": ("account", "Account")},
    "CustomFieldData": {"customfielddataable_id": ("account", "Account")},
    "IpAssignment": {"-account": ("account", "Account"), "-item": ("inventory_item", "InventoryItem")},
}


def _foreign_key(link: str) -> Column:
    def column(table: Table, rows: Rows) -> list[Any]:
        ids = table.targets[link].ids
        targets = table.links[link]
        return [None if (t := targets[n]) == NEVER else str(ids[t]) for n in rows]

    return column


# --- columns: from rows to what goes over the wire


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


_SERVICES = [(name, "DATA", "DEBIT", cents) for name, _, _, _, cents in _DATA_SERVICES] + _OTHER_SERVICES
_MODEL_FIELDS = [field for model in _MODELS for field in model[4]]


def _addressable_type(table: Table, rows: Rows) -> list[Any]:
    owners, noise = table.links["account"], table.noise
    return [_ADDRESS_OWNERS[noise[n] % 4] if owners[n] == NEVER else "Account" for n in rows]


def _addressable_id(table: Table, rows: Rows) -> list[Any]:
    owners, noise, ids = table.links["account"], table.noise, table.targets["account"].ids
    return [str(1 + (noise[n] >> 2) % 40 if (t := owners[n]) == NEVER else ids[t]) for n in rows]


def _inventoryitemable_type(table: Table, rows: Rows) -> list[Any]:
    places, noise = table.links["address"], table.noise
    return [_ITEM_OWNERS[(noise[n] >> 30) % 6] if places[n] == NEVER else "Address" for n in rows]


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
        if kind == _MAILING or fate >= 98:
            return None
        if fate >= 95:
            return "0"
        decimals = (noise >> shift) % 10_000_000
        sign = "-" if whole < 0 else ""
        text = f"{sign}{abs(whole)}.{decimals:07d}"
        return float(text) if fate == 50 else text

    return make


def _has_tract(kind: int, noise: int) -> bool:
    return kind != _MAILING and (noise >> 13) % 100 < 97


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
    return f"PO Box {number}" if kind == _MAILING else f"{number} {_STREETS[(noise >> 25) & 3]}"


def _zip(_kind: int, noise: int) -> str:
    code = f"{75000 + (noise >> 28) % 60}"
    return f"{code}-{(noise >> 40) % 10_000:04d}" if noise % 11 == 0 else code


def _value(table: Table, rows: Rows) -> list[Any]:
    fields, owners = table.links["inventory_model_field"], table.links["inventory_item"]
    numbers, noise = table.targets["inventory_item"].ids, table.noise
    return [
        _field_value(
            _MODEL_FIELDS[fields[n]][1] if fields[n] < len(_MODEL_FIELDS) else "TEXT",
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


_COMMON: dict[str, Column] = {
    "id": _ids,
    "sonar_unique_id": _unique_ids,
    "created_at": _created,
    "updated_at": _updated,
    "_version": _version,
}
_COLOR = {"color": _always("#2E7D32"), "icon": _always("user")}
_COLUMNS: dict[str, dict[str, Column]] = {
    "Account": {
        "name": _of_id(_account_name),
        "activation_date": _of_noise(lambda x: None if x % 25 == 0 else _day((x >> 9) % 3600)),
        "archived_at": _archived_at,
        "geopoint": _of_noise(lambda x: None if x & 1 else f"32.{x % 10_000_000:07d},-96.{(x >> 24) % 10_000_000:07d}"),
        "is_delinquent": _of_noise(lambda x: (x >> 34) % 20 == 0),
        "next_bill_date": _of_noise(lambda x: f"2026-01-{1 + (x >> 12) % 28:02d}"),
        "data_usage_percentage": _of_noise(lambda x: None if x & 2 else (x >> 18) % 101),
    },
    "AccountStatus": {"name": _named([s[0] for s in _STATUSES]), "activates_account": _listed(_STATUSES, 1), **_COLOR},
    "AccountType": {"name": _named([t[0] for t in _TYPES]), "type": _listed(_TYPES, 1), **_COLOR},
    "AccountGroup": {"name": _of_row(lambda n: f"Example Group {n + 1}")},
    "AccountService": {
        "quantity": _of_noise(lambda x: 1 if (x >> 15) % 25 else 2 + (x >> 22) % 3),
        "name_override": _of_noise(lambda x: None if (x >> 16) % 50 else "Example special offer"),
        "price_override": _of_noise(lambda x: None if (x >> 17) % 20 else 1000 + (x >> 24) % 9000),
        "next_bill_date": _of_noise(lambda x: f"2026-01-{1 + (x >> 12) % 28:02d}"),
    },
    "Service": {
        "name": _named([s[0] for s in _SERVICES]),
        "type": _listed(_SERVICES, 1),
        "application": _listed(_SERVICES, 2),
        "amount": _listed(_SERVICES, 3),
        "enabled": _of_row(lambda n: n % 13 != 12),
    },
    "DataServiceDetail": {
        "download_speed_kilobits_per_second": _listed(_DATA_SERVICES, 1),
        "upload_speed_kilobits_per_second": _listed(_DATA_SERVICES, 2),
        "technology_code": _listed(_DATA_SERVICES, 3),
        "billing_frequency": _always(1),
    },
    "Address": {
        "addressable_type": _addressable_type,
        "addressable_id": _addressable_id,
        "type": _of_address(lambda kind, _: "MAILING" if kind == _MAILING else "PHYSICAL"),
        "serviceable": _of_address(lambda kind, _: kind in {_HOME, _SECOND}),
        "is_anchor": _of_address(lambda kind, x: kind == _HOME and x % 40 == 0),
        "line1": _of_address(_line1),
        "line2": _of_address(lambda _, x: f"Suite {(x >> 42) % 90 + 1}" if x % 9 == 0 else None),
        "city": _of_noise(lambda x: _CITIES[(x >> 28) % 5]),
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
        "name": _named([model[0] for model in _MODELS]),
        "model_name": _of_row(lambda n: None if n % 4 == 0 else f"MODEL-{n + 1}"),
        "device_type": _listed(_MODELS, 3),
        "enabled": _always(value=True),
        "generic": _of_row(lambda n: n < len(_MODELS) and not _MODELS[n][4]),
        "is_segmentable": _always(value=False),
        "lte_sim_type": _of_row(lambda n: "USIM" if n < len(_MODELS) and _MODELS[n][2] == 3 else None),
    },
    "InventoryModelField": {
        "name": _listed(_MODEL_FIELDS, 0),
        "primary": _listed(_MODEL_FIELDS, 2),
        "required": _listed(_MODEL_FIELDS, 2),
        "unique": _listed(_MODEL_FIELDS, 2),
        "regexp": _always(None),
        "type": _listed(_MODEL_FIELDS, 1),
    },
    "InventoryModelFieldData": {"value": _value},
    "InventoryModelCategory": {"name": _named(_CATEGORIES)},
    "Manufacturer": {"name": _named(_MANUFACTURERS)},
    "Company": {"name": _named(_COMPANIES)},
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
