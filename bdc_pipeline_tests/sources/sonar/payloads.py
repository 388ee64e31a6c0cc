"""Sonar's answers as they go over the wire, all invented: what a test wants to be said, said in Sonar's shapes."""

from __future__ import annotations

import json
from typing import Any

from bdc_pipeline_tests.fetching.loopback import reply

#: What must end up in no table, no reject, no log
SECRET = "SYNTHETIC-SIM-KEY-MUST-NOT-BE-STORED"

_COMMON = {"_version": "3", "created_at": "2020-01-01T12:00:00+04:00", "updated_at": "2025-06-03T08:00:00+00:00"}


def info(total: int, *, page: int = 1, size: int = 200) -> dict[str, int]:
    return {"page": page, "records_per_page": size, "total_pages": max(1, -(-total // size)), "total_count": total}


def connection(entities: list[Any], total: int | None = None, **paging: int) -> dict[str, Any]:
    return {"page_info": info(len(entities) if total is None else total, **paging), "entities": entities}


def account(number: int = 1001, *, groups: list[int] = (), of: int | None = None, **columns: Any) -> dict[str, Any]:
    """An account in some groups; `of` is how many it is in, where the nested list is cut short."""
    nested = {"page_info": {"total_count": len(groups) if of is None else of}}
    return {
        "id": str(number),
        **_COMMON,
        "name": f"Example Customer {number}",
        "account_status_id": "1",
        "account_type_id": "2",
        "company_id": "1",
        "parent_account_id": None,
        "activation_date": "2024-02-29",
        "archived_at": None,
        "account_groups": {**nested, "entities": [{"id": str(group)} for group in groups]},
        **columns,
    }


def address(number: int = 5001, owner: int = 1001, **columns: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        **_COMMON,
        "addressable_type": "Account",
        "addressable_id": str(owner),
        "type": "PHYSICAL",
        "serviceable": True,
        "line1": "1 Sample Street",
        "line2": None,
        "city": "Exampleville",
        "subdivision": "US_TX",
        "county": "COUNTY_48999",
        "zip": "75000-1234",
        "country": "US",
        "latitude": "32.5000000",
        "longitude": "-96.5000000",
        "fips": "489990001001000",
        "census_year": 2020,
        "fips_source": "FCC",
        "attainable_download_speed": None,
        "attainable_upload_speed": None,
        "address_status_id": None,
        "is_anchor": False,
        "anchor_address_id": None,
        **columns,
    }


def field_data(number: int = 20001, field: int = 21, value: Any = "00005E005302", **columns: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        **_COMMON,
        "inventory_item_id": "7001",
        "inventory_model_field_id": str(field),
        "value": value,
        **columns,
    }


def data(**roots: Any) -> bytes:
    return reply(json.dumps({"data": roots}).encode(), Content_Type="application/json")


def errors(*messages: str, **more: Any) -> bytes:
    body = {"errors": [{"message": message, "locations": [{"line": 1, "column": 40}]} for message in messages], **more}
    return reply(json.dumps(body).encode(), Content_Type="application/json")


HTML = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>SYNTHETIC: busy.</body></html>\n"
