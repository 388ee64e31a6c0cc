"""What is asked of each of Sonar's entities, and how an answer's records become rows.

The selections name every column that is fetched. A record is decoded leniently at the edge, once: ids arrive as
strings (`Int64Bit`), coordinates as numbers or strings, times in any offset.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.warehouse.table import Table

Search = dict[str, Any]
"""One of Sonar's Search inputs: all its conditions hold together."""

READABLE_FIELD_TYPES = frozenset({"TEXT", "NUMBER", "DECIMAL", "MAC_ADDRESS", "REGULAR_EXPRESSION", "IMSI"})
"""Types of item fields that are fetched. LTEAUTHKEY and OPOPC are a SIM's secret keys."""

SECRET_NAME = re.compile(
    r"pass(word|phrase|wd|code)|(?<!com)(?<!by)pass\b|secret|\bkey|key\b|token|credential|\bpsk\b|\bwpa|\bpin\b|"
    r"\bpuk\d?\b|\blogin\b|user ?name|\bki\b|\bopc?\b",
    re.IGNORECASE,
)
"""Names of item fields that are not fetched whatever their type: operators keep passwords in text fields too."""


class _Info(msgspec.Struct):
    total_count: int


class _Ref(msgspec.Struct):
    id: int


class _Refs(msgspec.Struct):
    entities: list[_Ref]
    page_info: _Info | None = None


class _Record(msgspec.Struct, kw_only=True):
    id: int
    version: str | None = msgspec.field(name="_version", default=None)
    created_at: dt.datetime | None = None
    updated_at: dt.datetime


class _Account(_Record, kw_only=True):
    name: str
    account_status_id: int | None = None
    account_status: _Ref | None = None
    account_type_id: int | None = None
    account_type: _Ref | None = None
    company_id: int | None = None
    parent_account_id: int | None = None
    activation_date: dt.date | None = None
    archived_at: dt.datetime | None = None
    account_groups: _Refs | None = None

    def row(self) -> t.Account:
        return t.Account(
            self.id,
            self.name,
            _either(self.account_status_id, self.account_status, "account_status_id"),
            _either(self.account_type_id, self.account_type, "account_type_id"),
            self.company_id,
            self.parent_account_id,
            self.activation_date,
            self.archived_at,
            self.version,
            self.created_at,
            self.updated_at,
        )


class _Address(_Record, kw_only=True):
    addressable_type: str
    addressable_id: int
    type: str
    serviceable: bool
    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    subdivision: str | None = None
    county: str | None = None
    zip: str | None = None
    country: str | None = None
    latitude: float | str | None = None
    longitude: float | str | None = None
    fips: str | None = None
    census_year: int | None = None
    fips_source: str | None = None
    attainable_download_speed: int | None = None
    attainable_upload_speed: int | None = None
    address_status_id: int | None = None
    is_anchor: bool | None = None
    anchor_address_id: int | None = None

    def row(self) -> t.Address:
        latitude, longitude = coordinates(self.latitude, self.longitude)
        zip5, plus4 = zip_parts(self.zip)
        return t.Address(
            self.id,
            self.addressable_id,
            self.type,
            self.serviceable,
            self.line1,
            self.line2,
            self.city,
            state(self.subdivision),
            self.county.removeprefix("COUNTY_") if self.county else None,
            zip5,
            plus4,
            self.country,
            latitude,
            longitude,
            self.fips,
            self.census_year,
            self.fips_source,
            self.attainable_download_speed,
            self.attainable_upload_speed,
            self.address_status_id,
            self.is_anchor,
            self.anchor_address_id,
            self.version,
            self.created_at,
            self.updated_at,
        )


class _AccountService(_Record, kw_only=True):
    account_id: int
    service_id: int
    quantity: int
    package_id: int | None = None
    name_override: str | None = None

    def row(self) -> t.AccountService:
        return t.AccountService(
            self.id,
            self.account_id,
            self.service_id,
            self.quantity,
            self.package_id,
            self.name_override,
            self.version,
            self.created_at,
            self.updated_at,
        )


class _Detail(msgspec.Struct):
    download_speed_kilobits_per_second: int
    upload_speed_kilobits_per_second: int
    technology_code: str


class _Service(_Record, kw_only=True):
    name: str
    type: str
    application: str | None = None
    enabled: bool
    company_id: int | None = None
    data_service_detail: _Detail | None = None

    def row(self) -> t.Product:
        detail = self.data_service_detail
        return t.Product(
            self.id,
            self.name,
            self.type,
            self.application,
            self.enabled,
            self.company_id,
            detail is not None,
            detail.download_speed_kilobits_per_second if detail else None,
            detail.upload_speed_kilobits_per_second if detail else None,
            detail.technology_code if detail else None,
            self.version,
            self.created_at,
            self.updated_at,
        )


class _Named(_Record, kw_only=True):
    name: str


class _Group(_Named):
    def row(self) -> t.Group:
        return t.Group(self.id, self.name, self.version, self.created_at, self.updated_at)


class _Manufacturer(_Named):
    def row(self) -> t.Manufacturer:
        return t.Manufacturer(self.id, self.name, self.version, self.created_at, self.updated_at)


class _Status(_Named, kw_only=True):
    activates_account: bool

    def row(self) -> t.Status:
        return t.Status(self.id, self.name, self.activates_account, self.version, self.created_at, self.updated_at)


class _Type(_Named, kw_only=True):
    type: str

    def row(self) -> t.Type:
        return t.Type(self.id, self.name, self.type, self.version, self.created_at, self.updated_at)


class _InventoryItem(_Record, kw_only=True):
    inventory_model_id: int
    status: str
    inventoryitemable_type: str
    inventoryitemable_id: int
    account_service_id: int | None = None
    deployment_type_id: int | None = None
    parent_inventory_item_id: int | None = None

    def row(self) -> t.InventoryItem:
        return t.InventoryItem(
            self.id,
            self.inventory_model_id,
            self.status,
            self.inventoryitemable_type,
            self.inventoryitemable_id,
            self.account_service_id,
            self.deployment_type_id,
            self.parent_inventory_item_id,
            self.version,
            self.created_at,
            self.updated_at,
        )


class _FieldData(_Record, kw_only=True):
    inventory_item_id: int
    inventory_model_field_id: int
    value: str

    def row(self, kind: str) -> t.InventoryField:
        return t.InventoryField(
            self.id,
            self.inventory_item_id,
            self.inventory_model_field_id,
            self.value,
            normalized(kind, self.value),
            self.version,
            self.created_at,
            self.updated_at,
        )


class _Model(_Named, kw_only=True):
    model_name: str | None = None
    manufacturer_id: int
    inventory_model_category_id: int | None = None
    device_type: str | None = None
    enabled: bool | None = None
    lte_sim_type: str | None = None

    def row(self) -> t.Model:
        return t.Model(
            self.id,
            self.name,
            self.model_name,
            self.manufacturer_id,
            self.inventory_model_category_id,
            self.device_type,
            self.enabled,
            self.lte_sim_type,
            self.version,
            self.created_at,
            self.updated_at,
        )


class _ModelField(_Named, kw_only=True):
    inventory_model_id: int
    type: str
    primary: bool

    def row(self) -> t.ModelField:
        return t.ModelField(
            self.id,
            self.inventory_model_id,
            self.name,
            self.type,
            self.primary,
            self.version,
            self.created_at,
            self.updated_at,
        )


# -- values ----------------------------------------------------------------------------------------------------


def _either(number: int | None, ref: _Ref | None, name: str) -> int:
    if number is not None:
        return number
    if ref is None:
        raise ValueError(f"{name} is missing")
    return ref.id


def coordinates(latitude: float | str | None, longitude: float | str | None) -> tuple[float | None, float | None]:
    """Degrees from what Sonar sends: numbers or strings, where a pair of zeros means that it did not geocode.

    Raises:
        ValueError: no number, or no place on Earth.
    """
    lat = float(latitude) if latitude not in {None, ""} else None
    lon = float(longitude) if longitude not in {None, ""} else None
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None, None
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError(f"latitude {lat}, longitude {lon} is no place on Earth")
    return lat, lon


def zip_parts(text: str | None) -> tuple[str | None, str | None]:
    """A ZIP code's five digits and the four behind them; another country's code stays whole."""
    if not text:
        return None, None
    match = re.fullmatch(r"(\d{5})(?:-?(\d{4}))?", text.strip())
    return (match[1], match[2]) if match else (text.strip(), None)


def state(subdivision: str | None) -> str | None:
    """Two letters of `US_TX`; other countries' subdivisions stay whole."""
    return subdivision.removeprefix("US_") if subdivision else None


def normalized(kind: str, value: str) -> str | None:
    """A MAC as `00:00:5E:00:53:01`, an IMSI as its digits; None for other types and values that are neither."""
    if kind == "MAC_ADDRESS":
        digits = re.sub(r"[^0-9A-Fa-f]", "", value).upper()
        return ":".join(digits[i : i + 2] for i in range(0, 12, 2)) if len(digits) == 12 else None
    if kind == "IMSI":
        digits = re.sub(r"\D", "", value)
        return digits if 14 <= len(digits) <= 15 else None
    return None


def names_a_secret(name: str) -> bool:
    """Whether a field of this name may hold a secret: `Admin Password`, `wifi_key`, `SIMPin`."""
    words = re.sub(r"[_\W]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return bool(SECRET_NAME.search(words))


# -- entities --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldKinds:
    """Which item fields may be fetched: their types by id, and the ids of those that may not."""

    readable: Mapping[int, str] = field(default_factory=dict)
    secret: tuple[int, ...] = ()

    @staticmethod
    def of(fields: Sequence[t.ModelField]) -> "FieldKinds":
        """Sorts the fields of all models."""
        kinds = {f.id: f.type for f in fields if f.type in READABLE_FIELD_TYPES and not names_a_secret(f.name)}
        return FieldKinds(kinds, tuple(sorted(f.id for f in fields if f.id not in kinds)))


@dataclass(frozen=True)
class Entity:
    """One of Sonar's root lists and what it becomes.

    Args:
        root: the root field of the query.
        table: where its records go.
        selection: what is asked of each record.
        record: the type that a record is decoded to; its `row()` gives the row.
        block: the attribute whose value decides a record's partition; None for lists without partitions.
        arguments: further arguments of the root field.
        conditions: what every Search on it holds.
        hide: keys of a record that are left out of `_rejects`.
    """

    root: str
    table: Table
    selection: str
    record: type[Any]
    block: str | None = None
    arguments: str = ""
    conditions: Search = field(default_factory=dict)
    hide: tuple[str, ...] = ()

    @property
    def fields(self) -> str:
        """The whole selection."""
        return f"id _version created_at updated_at {self.selection}"

    def search(
        self, *, between: tuple[int, int] | None = None, since: str | None = None, secret: Sequence[int] = ()
    ) -> Search:
        """The Search for a range of ids (both ends included), for changes since a UTC text, or for all."""
        found: Search = {name: list(conditions) for name, conditions in self.conditions.items()}
        integers = found.setdefault("integer_fields", [])
        if between and self.block:
            low, high = between
            integers.append({"attribute": self.block, "operator": "GTE", "search_value": str(low)})
            integers.append({"attribute": self.block, "operator": "LTE", "search_value": str(high)})
        if self.table is t.INVENTORY_FIELDS:
            integers += [
                {"attribute": "inventory_model_field_id", "operator": "NEQ", "search_value": str(number)}
                for number in secret
            ]
        if since:
            found["datetime_fields"] = [{"attribute": "updated_at", "operator": "GTE", "search_value": since}]
        return {name: conditions for name, conditions in found.items() if conditions}


ACCOUNTS = Entity(
    "accounts",
    t.CUSTOMERS,
    "name account_status_id account_type_id company_id parent_account_id activation_date archived_at "
    "account_groups(paginator: {page: 1, records_per_page: 50}) { page_info { total_count } entities { id } }",
    _Account,
    block="id",
    arguments="include_archived: true",
)
ADDRESSES = Entity(
    "addresses",
    t.ADDRESSES,
    "addressable_type addressable_id type serviceable line1 line2 city subdivision county zip country latitude longitude "
    "fips census_year fips_source attainable_download_speed attainable_upload_speed address_status_id is_anchor "
    "anchor_address_id",
    _Address,
    block="addressable_id",
    conditions={
        "string_fields": [
            {"attribute": "addressable_type", "search_value": "Account", "match": True, "partial_matching": False}
        ]
    },
)
ACCOUNT_SERVICES = Entity(
    "account_services",
    t.SERVICES,
    "account_id service_id quantity package_id name_override",
    _AccountService,
    block="account_id",
)
INVENTORY_ITEMS = Entity(
    "inventory_items",
    t.INVENTORY_ITEMS,
    "inventory_model_id status inventoryitemable_type inventoryitemable_id account_service_id deployment_type_id "
    "parent_inventory_item_id",
    _InventoryItem,
    block="id",
)
FIELD_DATA = Entity(
    "inventory_model_field_data",
    t.INVENTORY_FIELDS,
    "inventory_item_id inventory_model_field_id value",
    _FieldData,
    block="inventory_item_id",
    hide=("value",),
)
SERVICES = Entity(
    "services",
    t.PRODUCTS,
    "name type application enabled company_id data_service_detail { download_speed_kilobits_per_second "
    "upload_speed_kilobits_per_second technology_code }",
    _Service,
)
ACCOUNT_GROUPS = Entity("account_groups", t.GROUPS, "name", _Group)
ACCOUNT_STATUSES = Entity("account_statuses", t.STATUSES, "name activates_account", _Status)
ACCOUNT_TYPES = Entity("account_types", t.TYPES, "name type", _Type)
MANUFACTURERS = Entity("manufacturers", t.MANUFACTURERS, "name", _Manufacturer)
MODELS = Entity(
    "inventory_models",
    t.MODELS,
    "name model_name manufacturer_id inventory_model_category_id device_type enabled lte_sim_type",
    _Model,
)
MODEL_FIELDS = Entity("inventory_model_fields", t.MODEL_FIELDS, "inventory_model_id name type primary", _ModelField)

OF_CUSTOMERS = (ACCOUNTS, ADDRESSES, ACCOUNT_SERVICES)
OF_INVENTORY = (INVENTORY_ITEMS, FIELD_DATA)
LOOKUPS = (ACCOUNT_GROUPS, ACCOUNT_STATUSES, ACCOUNT_TYPES, SERVICES, MODELS, MODEL_FIELDS, MANUFACTURERS)
ENTITIES: Mapping[str, Entity] = {entity.root: entity for entity in (*OF_CUSTOMERS, *OF_INVENTORY, *LOOKUPS)}
