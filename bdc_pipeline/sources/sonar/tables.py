"""The rows of the Sonar cache, the tables that hold them and the views that older tools read.

Each entity of Sonar is mirrored flat in a table of its own. What a table's public name promises beyond that
(`customers` with the status's name and the address, `services` with speeds) is joined in a view, never copied, so
that a change to one entity is seen at once and cannot go stale in another. Columns are chosen one by one; of what
Sonar holds, no contact, no payment method, no password, no free text and no SIM key is asked for.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from bdc_pipeline.warehouse.partitioning import IdBlocks
from bdc_pipeline.warehouse.schema import Schema, View
from bdc_pipeline.warehouse.table import Table

BLOCK = 1000
"""Ids a partition."""

BDC_TECHNOLOGY: Mapping[str, int] = {
    "ASYMMETRICXDSL": 10,
    "SYMMETRICXDSL": 10,
    "COPPERWIRELINE": 10,
    "CABLEMODEM": 40,
    "FIBER": 50,
    "SATELLITE": 60,
    "NONGEOSTATIONARYSATELLITE": 61,
    "UNLICENSEDTERRESTRIALFIXEDWIRELESS": 70,
    "LICENSEDTERRESTRIALFIXEDWIRELESS": 71,
    "LICENSEDBYRULETERRESTRIALFIXEDWIRELESS": 72,
    "OTHER": 0,
    "ELECTRICPOWERLINE": 0,
}
"""The FCC's BDC technology code of each of Sonar's. TERRESTRIALFIXEDWIRELESS is missing on purpose: it may be 70, 71
or 72, which only a rule by service or equipment can tell, so its code stays NULL rather than guessed."""

Id = Annotated[int, Meta(description="Sonar's id")]
Version = Annotated[str | None, Meta(description="Sonar's own counter of changes to the record")]
Created = Annotated[dt.datetime | None, Meta(description="When the record was created in Sonar (UTC)")]
Updated = Annotated[dt.datetime, Meta(description="When the record last changed in Sonar (UTC)")]


class Account(msgspec.Struct, frozen=True):
    """A customer: one account of the provider, archived ones included."""

    id: Id
    name: Annotated[str, Meta(description="The account's name")]
    account_status_id: Annotated[int, Meta(description="`statuses.id`")]
    account_type_id: Annotated[int, Meta(description="`types.id`")]
    company_id: Annotated[int | None, Meta(description="Which of the provider's companies serves it")]
    parent_account_id: Annotated[int | None, Meta(description="The account that this one belongs to")]
    activation_date: Annotated[dt.date | None, Meta(description="When service began")]
    archived_at: Annotated[dt.datetime | None, Meta(description="When the account was archived (UTC)")]
    version: Version
    created_at: Created
    updated_at: Updated


class Address(msgspec.Struct, frozen=True):
    """An address of a customer: the place that is served, or where mail goes."""

    id: Id
    customer_id: Annotated[int, Meta(description="`customers.id`")]
    type: Annotated[str, Meta(description="PHYSICAL or MAILING")]
    serviceable: Annotated[bool, Meta(description="Whether service is delivered here")]
    line1: Annotated[str | None, Meta(description="Street and number")]
    line2: Annotated[str | None, Meta(description="Suite, floor, box")]
    city: Annotated[str | None, Meta(description="City")]
    state: Annotated[str | None, Meta(description="Two letters; Sonar's `US_TX` is `TX`")]
    county_fips: Annotated[str | None, Meta(description="Five digits; Sonar's `COUNTY_48001` is `48001`")]
    zip: Annotated[str | None, Meta(description="Five digits of a United States ZIP code; other codes whole")]
    plus4: Annotated[str | None, Meta(description="The four digits behind a ZIP code")]
    country: Annotated[str | None, Meta(description="Two letters")]
    latitude: Annotated[float | None, Meta(description="Degrees, WGS 84; NULL where Sonar has not geocoded it (0)")]
    longitude: Annotated[float | None, Meta(description="Degrees, WGS 84; NULL where Sonar has not geocoded it (0)")]
    fips: Annotated[str | None, Meta(description="Census block (15 digits) or tract (11) as Sonar has it")]
    census_year: Annotated[int | None, Meta(description="The census that `fips` belongs to; filings need 2020")]
    fips_source: Annotated[str | None, Meta(description="FCC, MIGRATION, OTHER or SONAR")]
    attainable_download_speed: Annotated[int | None, Meta(description="kbit/s")]
    attainable_upload_speed: Annotated[int | None, Meta(description="kbit/s")]
    address_status_id: Annotated[int | None, Meta(description="Sonar's id of the address's status")]
    is_anchor: Annotated[bool | None, Meta(description="Whether other addresses are linked to this one")]
    anchor_address_id: Annotated[int | None, Meta(description="The address that this one is linked to")]
    version: Version
    created_at: Created
    updated_at: Updated


class AccountService(msgspec.Struct, frozen=True):
    """A subscription: one service of one customer. The same service may occur twice."""

    id: Id
    customer_id: Annotated[int, Meta(description="`customers.id`")]
    service_id: Annotated[int, Meta(description="`products.id`")]
    quantity: Annotated[int, Meta(description="How many of it; may exceed 1")]
    package_id: Annotated[int | None, Meta(description="The package that it was sold in")]
    name_override: Annotated[str | None, Meta(description="Its name on this customer's bill, where it differs")]
    version: Version
    created_at: Created
    updated_at: Updated


class Product(msgspec.Struct, frozen=True):
    """A service that the provider sells, with its speeds where it carries data."""

    id: Id
    name: Annotated[str, Meta(description="Its name")]
    type: Annotated[str, Meta(description="DATA, RECURRING, EXPIRING, ONETIME, OVERAGE, ADJUSTMENT or VOICE")]
    application: Annotated[str | None, Meta(description="CREDIT or DEBIT")]
    enabled: Annotated[bool, Meta(description="Whether it can be sold")]
    company_id: Annotated[int | None, Meta(description="Which of the provider's companies sells it")]
    data_service: Annotated[bool, Meta(description="Whether it carries data")]
    download_in_kilobits: Annotated[int | None, Meta(description="kbit/s")]
    upload_in_kilobits: Annotated[int | None, Meta(description="kbit/s")]
    technology: Annotated[str | None, Meta(description="Sonar's name of the technology")]
    version: Version
    created_at: Created
    updated_at: Updated


class Group(msgspec.Struct, frozen=True):
    """A group of customers."""

    id: Id
    name: Annotated[str, Meta(description="Its name")]
    version: Version
    created_at: Created
    updated_at: Updated


class CustomerGroup(msgspec.Struct, frozen=True):
    """That a customer is in a group. Read again whenever the customer is: the pair has no time of its own."""

    customer_id: Annotated[int, Meta(description="`customers.id`")]
    group_id: Annotated[int, Meta(description="`groups.id`")]


class Status(msgspec.Struct, frozen=True):
    """A status that a customer can have."""

    id: Id
    name: Annotated[str, Meta(description="Its name")]
    activates_account: Annotated[bool, Meta(description="Whether customers with it are served")]
    version: Version
    created_at: Created
    updated_at: Updated


class Type(msgspec.Struct, frozen=True):
    """A kind of customer."""

    id: Id
    name: Annotated[str, Meta(description="Its name")]
    type: Annotated[str, Meta(description="COMMERCIAL, RESIDENTIAL, GOVERNMENT, INDUSTRIAL or SENIOR_CITIZEN")]
    version: Version
    created_at: Created
    updated_at: Updated


class InventoryItem(msgspec.Struct, frozen=True):
    """A piece of equipment: at a customer's address, in stock, on a tower, in a truck."""

    id: Id
    inventory_model_id: Annotated[int, Meta(description="`models.id`")]
    status: Annotated[str, Meta(description="FUNCTIONAL, FAILED or LOST")]
    owner_type: Annotated[str, Meta(description="Address, InventoryLocation, NetworkSite, Vehicle, User, ...")]
    owner_id: Annotated[int, Meta(description="The owner's id among its type; `addresses.id` for an Address")]
    account_service_id: Annotated[int | None, Meta(description="`services.id`, set for some items only")]
    deployment_type_id: Annotated[int | None, Meta(description="Sonar's id of how it is deployed")]
    parent_inventory_item_id: Annotated[int | None, Meta(description="The item that it is part of")]
    version: Version
    created_at: Created
    updated_at: Updated


class InventoryField(msgspec.Struct, frozen=True):
    """A value of an item's further fields: MAC, IMSI, serial number. Secret fields are never asked for."""

    id: Id
    inventory_item_id: Annotated[int, Meta(description="`inventory_items.id`")]
    inventory_model_field_id: Annotated[int, Meta(description="`model_fields.id`")]
    value: Annotated[str, Meta(description="As Sonar has it")]
    normalized: Annotated[
        str | None,
        Meta(description="MAC as `00:00:5E:00:53:01`, IMSI as digits; NULL for other types and unreadable values"),
    ]
    version: Version
    created_at: Created
    updated_at: Updated


class Model(msgspec.Struct, frozen=True):
    """A model of equipment."""

    id: Id
    name: Annotated[str, Meta(description="Its name")]
    model_name: Annotated[str | None, Meta(description="The manufacturer's name for it")]
    manufacturer_id: Annotated[int, Meta(description="`manufacturers.id`")]
    inventory_model_category_id: Annotated[int | None, Meta(description="Sonar's id of its category")]
    device_type: Annotated[str | None, Meta(description="Sonar's kind of device")]
    enabled: Annotated[bool | None, Meta(description="Whether it is in use")]
    lte_sim_type: Annotated[str | None, Meta(description="The kind of SIM it holds")]
    version: Version
    created_at: Created
    updated_at: Updated


class ModelField(msgspec.Struct, frozen=True):
    """A field that the items of a model have."""

    id: Id
    inventory_model_id: Annotated[int, Meta(description="`models.id`")]
    name: Annotated[str, Meta(description="Its name")]
    type: Annotated[
        str, Meta(description="TEXT, NUMBER, DECIMAL, MAC_ADDRESS, REGULAR_EXPRESSION, IMSI, LTEAUTHKEY or OPOPC")
    ]
    is_primary: Annotated[bool, Meta(description="Whether it names the item")]
    version: Version
    created_at: Created
    updated_at: Updated


class Manufacturer(msgspec.Struct, frozen=True):
    """A maker of equipment."""

    id: Id
    name: Annotated[str, Meta(description="Its name")]
    version: Version
    created_at: Created
    updated_at: Updated


# The address that `customers` shows: a physical one that is served before others, the oldest of several. A child
# account without an address lives at its parent's.
_ADDRESS_OF = """
    SELECT a.id FROM addresses a WHERE a.customer_id = {owner} AND a.vanished_at IS NULL
    ORDER BY a.type = 'PHYSICAL' DESC, a.serviceable DESC, a.id LIMIT 1
"""

_CUSTOMERS = f"""
    SELECT c.id, c.name, s.name AS status, c.account_type_id, t.name AS account_type,
        a.line1 AS address, a.line2 AS street2, a.city, a.state, a.zip, a.plus4, a.country, a.latitude, a.longitude,
        a.fips, a.census_year, 'sonar' AS source, c.updated_at, c.last_updated,
        c.account_status_id, s.activates_account, t.type AS account_kind, c.company_id, c.parent_account_id,
        c.activation_date, c.archived_at, a.id AS address_id, a.customer_id AS address_customer_id, c.created_at,
        c.vanished_at
    FROM accounts c
    LEFT JOIN statuses s ON s.id = c.account_status_id
    LEFT JOIN types t ON t.id = c.account_type_id
    LEFT JOIN addresses a ON a.id = coalesce(
        ({_ADDRESS_OF.format(owner="c.id")}), ({_ADDRESS_OF.format(owner="c.parent_account_id")})
    )
"""  # noqa: S608  (composed of the constants above)

_CODES = " ".join(f"WHEN '{name}' THEN {code}" for name, code in BDC_TECHNOLOGY.items())

_SERVICES = f"""
    SELECT s.id, s.customer_id, s.service_id, coalesce(s.name_override, p.name) AS name, p.type, p.data_service,
        p.download_in_kilobits, p.upload_in_kilobits, CASE p.technology {_CODES} END AS technology_code, s.quantity,
        p.enabled AS active, s.updated_at, p.technology, p.name AS product_name, s.package_id,
        t.activates_account AND c.archived_at IS NULL AND c.vanished_at IS NULL AS customer_active,
        s.created_at, s.last_updated, s.vanished_at
    FROM account_services s
    LEFT JOIN products p ON p.id = s.service_id
    LEFT JOIN accounts c ON c.id = s.customer_id
    LEFT JOIN statuses t ON t.id = c.account_status_id
"""  # noqa: S608

_INVENTORY_ITEMS = """
    SELECT i.id, i.inventory_model_id, m.name AS model_name, m.manufacturer_id, f.name AS manufacturer_name,
        (
            SELECT coalesce(d.normalized, d.value) FROM inventory_fields d
            JOIN model_fields k ON k.id = d.inventory_model_field_id
            WHERE d.inventory_item_id = i.id AND d.vanished_at IS NULL AND k.type IN ('MAC_ADDRESS', 'IMSI')
            ORDER BY k.is_primary DESC, d.id LIMIT 1
        ) AS mac_or_imsi,
        i.status, i.owner_type, i.owner_id, i.account_service_id, i.updated_at, i.last_updated,
        i.deployment_type_id, i.parent_inventory_item_id, i.created_at, i.vanished_at
    FROM items i
    LEFT JOIN models m ON m.id = i.inventory_model_id
    LEFT JOIN manufacturers f ON f.id = m.manufacturer_id
"""

# Equipment hangs on an address, and for some items on a subscription. Where both lead to a customer and they differ,
# the address counts and `disagrees` is 1.
_CUSTOMER_INVENTORY = """
    SELECT coalesce(a.customer_id, s.customer_id) AS customer_id, i.id AS inventory_item_id,
        CASE WHEN a.customer_id IS NULL THEN 'service' ELSE 'address' END AS via,
        s.customer_id AS service_customer_id,
        coalesce(a.customer_id <> s.customer_id, 0) AS disagrees
    FROM items i
    LEFT JOIN addresses a ON i.owner_type = 'Address' AND a.id = i.owner_id AND a.vanished_at IS NULL
    LEFT JOIN account_services s ON s.id = i.account_service_id AND s.vanished_at IS NULL
    WHERE i.vanished_at IS NULL AND coalesce(a.customer_id, s.customer_id) IS NOT NULL
"""

CUSTOMERS = Table(
    Account,
    "customers",
    partitioning=IdBlocks("id", BLOCK),
    indexes=(("parent_account_id",),),
    stored_as="accounts",
    view=_CUSTOMERS,
)
ADDRESSES = Table(Address, "addresses", partitioning=IdBlocks("customer_id", BLOCK), indexes=(("customer_id",),))
SERVICES = Table(
    AccountService,
    "services",
    partitioning=IdBlocks("customer_id", BLOCK),
    indexes=(("customer_id",), ("service_id",)),
    stored_as="account_services",
    view=_SERVICES,
)
CUSTOMER_GROUPS = Table(
    CustomerGroup,
    "customer_groups",
    key=("customer_id", "group_id"),
    partitioning=IdBlocks("customer_id", BLOCK),
    indexes=(("group_id",),),
    parent="customer_id",
)
INVENTORY_ITEMS = Table(
    InventoryItem,
    "inventory_items",
    partitioning=IdBlocks("id", BLOCK),
    indexes=(("owner_type", "owner_id"), ("account_service_id",)),
    stored_as="items",
    view=_INVENTORY_ITEMS,
)
INVENTORY_FIELDS = Table(
    InventoryField,
    "inventory_fields",
    partitioning=IdBlocks("inventory_item_id", BLOCK),
    indexes=(("inventory_item_id",), ("normalized",)),
)
GROUPS = Table(Group, "groups")
STATUSES = Table(Status, "statuses")
TYPES = Table(Type, "types")
PRODUCTS = Table(Product, "products")
MODELS = Table(Model, "models")
MODEL_FIELDS = Table(ModelField, "model_fields", indexes=(("inventory_model_id",),))
MANUFACTURERS = Table(Manufacturer, "manufacturers")

LOOKUPS = (GROUPS, STATUSES, TYPES, PRODUCTS, MODELS, MODEL_FIELDS, MANUFACTURERS)
OF_CUSTOMERS = (CUSTOMERS, ADDRESSES, SERVICES, CUSTOMER_GROUPS)
OF_INVENTORY = (INVENTORY_ITEMS, INVENTORY_FIELDS)

# What the columns that a view joins or computes mean.
_NOTES: Mapping[str, Mapping[str, str]] = {
    "customers": {
        "status": "The status's name (`statuses.name`)",
        "account_type": "The type's name (`types.name`)",
        "account_kind": "The type's kind (`types.type`): COMMERCIAL, RESIDENTIAL, ...",
        "address": "First line of the address shown: a physical one that is served before others, the oldest of several; "
        "the parent account's where the customer has none",
        "street2": "Second line of it",
        "address_id": "`addresses.id` of the address shown",
        "address_customer_id": "The customer whose address it is: the parent account for a child without one",
        "source": "Where the row comes from: `sonar`",
    },
    "services": {
        "name": "Its name on the customer's bill: `name_override`, else the product's",
        "product_name": "The product's name (`products.name`)",
        "type": "The product's type: DATA, RECURRING, ...",
        "technology_code": "The FCC's BDC code; NULL where Sonar's technology leaves open which, and for other services",
        "active": "Whether the product can be sold (`products.enabled`)",
        "customer_active": "Whether the customer's status is an active one, and the account neither archived nor gone",
    },
    "inventory_items": {
        "model_name": "The model's name (`models.name`)",
        "manufacturer_name": "The manufacturer's name (`manufacturers.name`)",
        "mac_or_imsi": "The item's MAC address or IMSI, normalised where it can be read; its primary field before others",
    },
    "customer_inventory": {
        "customer_id": "`customers.id`",
        "inventory_item_id": "`inventory_items.id`",
        "via": "What leads to the customer: `address` where the item stands at one, else `service`",
        "service_customer_id": "The customer of the subscription that the item belongs to",
        "disagrees": "1 where the address and the subscription lead to different customers; the address counts",
    },
}

SCHEMA = Schema(
    "sonar",
    (*OF_CUSTOMERS, *OF_INVENTORY, *LOOKUPS),
    (
        View(
            "customer_inventory",
            _CUSTOMER_INVENTORY,
            "Which customer has which item, by the address where it stands or the subscription it belongs to; items of "
            "stock, towers and trucks have no customer and are not in it.",
        ),
    ),
    _NOTES,
)
