"""Values, selections and filters: what is asked of Sonar, and what its values become."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from graphql import FieldNode, parse, validate, visit
from graphql.language import Visitor

from bdc_pipeline.sandbox.sonar.schema import load
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.client import page_query
from bdc_pipeline.sources.sonar.entities import Entity, FieldKinds, coordinates, normalized, state, zip_parts

ENTITIES = list(e.ENTITIES.values())

# -- values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        ("32.5000000", "-96.5000000", (32.5, -96.5)),
        (32.5, -96.5, (32.5, -96.5)),
        ("32.5", -96.5, (32.5, -96.5)),
        (" 32.5 ", "-96.5", (32.5, -96.5)),
        ("0", "0", (None, None)),
        ("0.0000000", 0, (None, None)),
        (0, 0, (None, None)),
        (None, None, (None, None)),
        ("", "", (None, None)),
        ("32.5", None, (None, None)),
        (None, "-96.5", (None, None)),
        ("0", "-96.5", (0.0, -96.5)),
        ("51.5", "0", (51.5, 0.0)),
        (90, 180, (90.0, 180.0)),
        (-90, -180, (-90.0, -180.0)),
    ],
)
def test_coordinates(latitude: object, longitude: object, expected: object) -> None:
    assert coordinates(latitude, longitude) == expected


@pytest.mark.parametrize(
    ("latitude", "longitude"), [("90.1", "0.1"), (1, 180.5), ("far", "1"), ("nan", "1"), ("1", "inf"), ("1,5", "2")]
)
def test_coordinates_that_are_no_place_are_refused(latitude: object, longitude: object) -> None:
    with pytest.raises(ValueError, match=r"no place on Earth|could not convert"):
        coordinates(latitude, longitude)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("75000", ("75000", None)),
        ("75000-1234", ("75000", "1234")),
        ("750001234", ("75000", "1234")),
        (" 02134 ", ("02134", None)),
        ("00501-0001", ("00501", "0001")),
        ("K1A 0B1", ("K1A 0B1", None)),
        ("7500", ("7500", None)),
        ("75000-12", ("75000-12", None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_zip_codes_keep_their_zeros_and_come_apart(text: str | None, expected: object) -> None:
    assert zip_parts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("US_TX", "TX"), ("US_PR", "PR"), ("CA_ON", "CA_ON"), ("TX", "TX"), ("", None), (None, None)]
)
def test_a_subdivision_of_the_united_states_is_two_letters(text: str | None, expected: str | None) -> None:
    assert state(text) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("MAC_ADDRESS", "00:00:5E:00:53:01", "00:00:5E:00:53:01"),
        ("MAC_ADDRESS", "00005e005302", "00:00:5E:00:53:02"),
        ("MAC_ADDRESS", "00-00-5E-00-53-04", "00:00:5E:00:53:04"),
        ("MAC_ADDRESS", "0000.5e00.53ff", "00:00:5E:00:53:FF"),
        ("MAC_ADDRESS", " 00 00 5E 00 53 01 ", "00:00:5E:00:53:01"),
        ("MAC_ADDRESS", "00:00:5E:00:53", None),
        ("MAC_ADDRESS", "00:00:5E:00:53:01:02", None),
        ("MAC_ADDRESS", "unknown", None),
        ("MAC_ADDRESS", "", None),
        ("IMSI", "001010000000001", "001010000000001"),
        ("IMSI", "001-01 0000000001", "001010000000001"),
        ("IMSI", "00101000000001", "00101000000001"),
        ("IMSI", "123", None),
        ("IMSI", "0010100000000012", None),
        ("TEXT", "00005E005302", None),
        ("NUMBER", "001010000000001", None),
        ("LTEAUTHKEY", "00005E005302", None),
    ],
)
def test_codes_are_spelled_one_way(kind: str, value: str, expected: str | None) -> None:
    assert normalized(kind, value) == expected


# -- secret fields ---------------------------------------------------------------------------------------------


def _field(number: int, name: str, kind: str) -> t.ModelField:
    return t.ModelField(number, 1, name, kind, False, None, None, dt.datetime(2025, 1, 1, tzinfo=dt.UTC))


@pytest.mark.parametrize(
    ("name", "kind", "readable"),
    [
        ("MAC Address", "MAC_ADDRESS", True),
        ("Serial", "TEXT", True),
        ("IMSI", "IMSI", True),
        ("Ports", "NUMBER", True),
        ("Height", "DECIMAL", True),
        ("Asset tag", "REGULAR_EXPRESSION", True),
        ("Keyboard layout", "TEXT", False),  # rather one field too few than a key too many
        ("Ki", "LTEAUTHKEY", False),
        ("OPc", "OPOPC", False),
        ("Something new", "CERTIFICATE", False),
        ("Admin Password", "TEXT", False),
        ("passwd", "TEXT", False),
        ("Wi-Fi passphrase", "TEXT", False),
        ("Passcode", "NUMBER", False),
        ("Pass", "TEXT", False),
        ("WPA2 Key", "TEXT", False),
        ("PSK", "TEXT", False),
        ("API token", "TEXT", False),
        ("Shared secret", "TEXT", False),
        ("PIN", "NUMBER", False),
        ("Login", "TEXT", False),
        ("User name", "TEXT", False),
        ("username", "TEXT", False),
        ("Credentials", "TEXT", False),
        ("admin_password", "TEXT", False),
        ("wifi_key", "TEXT", False),
        ("EncryptionKey", "TEXT", False),
        ("SIM_PIN", "NUMBER", False),
        ("ssh_login", "TEXT", False),
        ("user_name", "TEXT", False),
        ("wifi_psk", "TEXT", False),
        ("Compass heading", "DECIMAL", True),
        ("Pinout", "TEXT", True),
        ("Ki", "TEXT", False),
        ("apikey", "TEXT", False),
        ("SIMPin", "TEXT", False),
        ("adminpass", "TEXT", False),
        ("Option", "TEXT", True),
        ("Bypass", "TEXT", True),
        ("Kind", "TEXT", True),
    ],
)
def test_a_field_that_may_hold_a_secret_is_not_read_whatever_its_type(name: str, kind: str, readable: bool) -> None:
    kinds = FieldKinds.of([_field(7, name, kind)])
    assert (dict(kinds.readable), kinds.secret) == (({7: kind}, ()) if readable else ({}, (7,)))


# -- selections ------------------------------------------------------------------------------------------------

COMMON = "id _version created_at updated_at"

#: The columns of each entity that a filing needs, as Sonar's schema names them
ALLOWED = {
    "accounts": "name account_status_id account_type_id company_id parent_account_id activation_date archived_at "
    "account_groups page_info total_count entities",
    "addresses": "addressable_type addressable_id type serviceable is_anchor anchor_address_id line1 line2 city "
    "subdivision county zip country latitude longitude fips census_year fips_source attainable_download_speed "
    "attainable_upload_speed address_status_id",
    "account_services": "account_id service_id quantity package_id name_override",
    "services": "name type application enabled company_id data_service_detail download_speed_kilobits_per_second "
    "upload_speed_kilobits_per_second technology_code",
    "inventory_items": "inventoryitemable_type inventoryitemable_id inventory_model_id account_service_id status "
    "deployment_type_id parent_inventory_item_id",
    "inventory_model_field_data": "inventory_item_id inventory_model_field_id value",
    "inventory_models": "name model_name manufacturer_id inventory_model_category_id device_type enabled lte_sim_type",
    "inventory_model_fields": "inventory_model_id name type primary",
    "account_groups": "name",
    "account_statuses": "name activates_account",
    "account_types": "name type",
    "manufacturers": "name",
}
FORBIDDEN = re.compile(
    r"password|username|user_name|token|email|e_mail|phone|contact|credit|bank|metadata|note|secret|card|custom_field|"
    r"radius|price|amount|invoice|file|geopoint|general_search",
    re.IGNORECASE,
)


def _fields(query: str) -> list[str]:
    names: list[str] = []

    class Names(Visitor):
        def enter_field(self, node: FieldNode, *_: object) -> None:
            names.append(node.name.value)

    visit(parse(query), Names())
    return names


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.root)
def test_each_query_asks_for_attested_columns_alone(entity: Entity) -> None:
    root, *rest = _fields(page_query(entity))
    assert root == entity.root
    paging = "page_info page total_pages total_count records_per_page entities"
    assert set(rest) <= set(f"{paging} {COMMON} {ALLOWED[root]}".split())
    assert not [name for name in rest if FORBIDDEN.search(name)]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.root)
def test_each_query_is_valid_under_sonars_schema(entity: Entity, counted: bool) -> None:
    query = page_query(entity, counted=counted)
    assert validate(load().graphql, parse(query)) == []
    assert ("total_pages" in query) is counted


def test_the_lists_are_all_that_a_filing_needs() -> None:
    assert set(e.ENTITIES) == set(ALLOWED)
    assert {entity.table for entity in ENTITIES} | {t.CUSTOMER_GROUPS} == set(t.SCHEMA.tables)


def test_archived_accounts_are_asked_for() -> None:
    assert "include_archived: true" in page_query(e.ACCOUNTS)


# -- filters ---------------------------------------------------------------------------------------------------


def test_a_list_without_conditions_has_an_empty_search() -> None:
    assert e.ACCOUNTS.search() == {}
    assert e.SERVICES.search(between=(0, 999)) == {}, "a list without blocks has no range"


@pytest.mark.parametrize(
    ("entity", "attribute"),
    [
        (e.ACCOUNTS, "id"),
        (e.ADDRESSES, "addressable_id"),
        (e.ACCOUNT_SERVICES, "account_id"),
        (e.INVENTORY_ITEMS, "id"),
        (e.FIELD_DATA, "inventory_item_id"),
    ],
)
def test_a_block_is_a_range_of_the_owners_id_with_both_ends(entity: Entity, attribute: str) -> None:
    assert entity.search(between=(1000, 1999))["integer_fields"] == [
        {"attribute": attribute, "operator": "GTE", "search_value": "1000"},
        {"attribute": attribute, "operator": "LTE", "search_value": "1999"},
    ]


def test_addresses_of_accounts_alone_are_asked_for_by_equality() -> None:
    [condition] = e.ADDRESSES.search()["string_fields"]
    assert condition == {
        "attribute": "addressable_type",
        "search_value": "Account",
        "match": True,
        "partial_matching": False,
    }


def test_secret_fields_are_left_out_by_the_server() -> None:
    assert e.FIELD_DATA.search(secret=(23, 24))["integer_fields"] == [
        {"attribute": "inventory_model_field_id", "operator": "NEQ", "search_value": "23"},
        {"attribute": "inventory_model_field_id", "operator": "NEQ", "search_value": "24"},
    ]
    assert e.INVENTORY_ITEMS.search(secret=(23,)) == {}


def test_changes_are_searched_from_a_moment_on() -> None:
    assert e.SERVICES.search(since="2025-06-01T00:00:00+00:00") == {
        "datetime_fields": [{"attribute": "updated_at", "operator": "GTE", "search_value": "2025-06-01T00:00:00+00:00"}]
    }


def test_a_search_leaves_the_entitys_own_conditions_as_they_are() -> None:
    e.ADDRESSES.search(between=(0, 1), since="2025-06-01T00:00:00+00:00")["string_fields"].clear()
    assert len(e.ADDRESSES.search()["string_fields"]) == 1
    assert "integer_fields" not in e.ADDRESSES.search()
