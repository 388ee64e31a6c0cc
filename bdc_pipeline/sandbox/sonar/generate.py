"""Sonar's generated data: an invented internet provider with the irregularities of real ones.

What belongs here is what rows exist, with which ids, and what they point to. What their columns say belongs to `columns.py`,
what they are drawn from to `catalogue.py`. All of it follows from the seed: no wall clock, no dictionary order, no system
randomness.

Irregular on purpose: ids with gaps; accounts with a parent and no address; two serviceable addresses; items owned by trucks,
towers and stock rooms; items whose account service belongs to another account than their address; assignment histories that
disagree with the address; items with no field data.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Literal

from bdc_pipeline.sandbox.sonar.catalogue import (
    CATEGORIES,
    COMMON_GROUPS,
    COMPANIES,
    DATA_OF,
    DATA_SERVICES,
    FOREIGN,
    GROUPS,
    HOME,
    ITEMS_AT,
    MAILING,
    MANUFACTURERS,
    MODELS,
    OTHER_SERVICES,
    SECOND,
    STATUS_OF,
    STATUSES,
    TYPE_OF,
    TYPES,
)
from bdc_pipeline.sandbox.sonar.columns import COLUMNS, COMMON, foreign_key
from bdc_pipeline.sandbox.sonar.schema import REVERSE, load
from bdc_pipeline.sandbox.sonar.tables import NEVER, Table, World

Ids = Literal["dense", "sparse"]

#: The account that has more groups than a nested list shows unasked, by row.
BIG_ACCOUNT = 2
#: Items that are made for each customer.
ITEMS_PER_CUSTOMER = 3


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
            table.columns = {**COMMON, **COLUMNS.get(name, {})}
            for column, (link, target) in _link_columns(name).items():
                table.targets[link] = tables[target]
                table.columns.setdefault(column, foreign_key(link))
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
        services = len(DATA_SERVICES) + len(OTHER_SERVICES)
        for name, rows in {
            "AccountStatus": len(STATUSES),
            "AccountType": len(TYPES),
            "AccountGroup": GROUPS,
            "Company": len(COMPANIES),
            "Manufacturer": len(MANUFACTURERS),
            "InventoryModelCategory": len(CATEGORIES),
            "InventoryModel": len(MODELS),
            "InventoryModelField": sum(len(model[4]) for model in MODELS),
            "Service": services,
            "DataServiceDetail": len(DATA_SERVICES),
            "Package": 5,
            "FccForm477Report": 3,
            "NetworkSite": max(3, self.customers // 200),
        }.items():
            self._table(name, rows)
        tables = self.tables
        self._link(tables["Service"], "company", [NEVER if n % 3 else n % 2 for n in range(services)])
        self._link(tables["Service"], "group", [n if n < 6 else NEVER for n in range(services)])
        self._link(tables["DataServiceDetail"], "service", range(len(DATA_SERVICES)))
        self._link(tables["InventoryModel"], "manufacturer", [model[1] for model in MODELS])
        self._link(tables["InventoryModel"], "inventory_model_category", [model[2] for model in MODELS])
        fields = [n for n, model in enumerate(MODELS) for _ in model[4]]
        self._link(tables["InventoryModelField"], "inventory_model", fields)

    def _accounts(self) -> None:
        table = self._table("Account", self.customers, first=1001, gaps=True)
        noise = table.noise
        # Archived accounts are disconnected ones, mostly
        table.hidden = {n for n, x in enumerate(noise) if (x >> 8) % 100 < 3 and n != BIG_ACCOUNT}
        self._link(
            table, "account_status", [3 if n in table.hidden else STATUS_OF[x % 100] for n, x in enumerate(noise)]
        )
        self._link(table, "account_type", [TYPE_OF[(x >> 7) % 100] for x in noise])
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
            add(n, HOME)
            if (x >> 24) % 100 < 17:
                add(n, MAILING)
            if (x >> 31) % 100 < 8:
                add(n, SECOND, homes[n] if x & 1 else NEVER)
            if (x >> 17) % 100 == 0:
                add(NEVER, FOREIGN)
        table = self._table("Address", len(owners), first=5001, gaps=True)
        self.kinds = kinds
        self._link(table, "account", owners)
        self._link(table, "anchor_address", anchors)
        self._link(table, "kind", kinds.tolist())

    def _account_services(self) -> None:
        accounts = self.tables["Account"]
        routers = len(DATA_SERVICES)
        owners, products = array("q"), array("q")
        #: account -> its data service
        self.subscriptions = subscriptions = array("q", [NEVER]) * self.customers
        for n, x in enumerate(accounts.noise):
            if (x >> 11) % 100 < 4:
                continue
            subscriptions[n] = len(owners)
            owners.append(n)
            products.append(DATA_OF[(x >> 33) % len(DATA_OF)])
            if (x >> 41) % 100 < 44:
                owners.append(n)
                products.append(routers)
            if (x >> 29) % 100 < 12:
                owners.append(n)
                products.append(routers + 1 + (x >> 45) % (len(OTHER_SERVICES) - 1))
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
                count = ITEMS_AT[(x >> 52) & 7] if n != BIG_ACCOUNT else 20
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
        last = len(MODELS) - 1
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
        starts = list(accumulate((len(model[4]) for model in MODELS), initial=0))
        fields_of = [list(range(start, start + len(model[4]))) for start, model in zip(starts, MODELS, strict=False)]
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
            if kind not in {HOME, SECOND}:
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
    return sorted({(noise >> shift) % COMMON_GROUPS for shift in (3, 19, 36)[:count]})


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
