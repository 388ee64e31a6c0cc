"""How fresh the copy of Sonar is to be, and what its rows are to be like.

Numbers are those of the filing that is made from it: coordinates are degrees, speeds kbit/s, FIPS codes digits.
"""

from __future__ import annotations

import datetime as dt

from bdc_pipeline.operations.facts import Reference, Rule, Watched, Window, between, one_of
from bdc_pipeline.sources.sonar.tables import SCHEMA

WINDOW = Window(dt.timedelta(days=7), dt.timedelta(days=6))

FASTEST_KBITS = 400_000_000
"""kbit/s; a hundred times what is sold today, so that bits for kilobits are found and no product ever is."""

# A user who may not see an account sees some of its records: a few may point to what was not shown.
_FEW = 0.01

REFERENCES = (
    Reference("customers", "account_status_id", "statuses", share=_FEW),
    Reference("customers", "account_type_id", "types", share=_FEW),
    Reference("addresses", "customer_id", "customers", share=_FEW),
    Reference("services", "customer_id", "customers", share=_FEW),
    Reference("services", "service_id", "products", share=_FEW),
    Reference("customer_groups", "customer_id", "customers"),
    Reference("customer_groups", "group_id", "groups", share=_FEW),
    Reference("inventory_items", "inventory_model_id", "models", share=_FEW),
    Reference("inventory_fields", "inventory_item_id", "inventory_items", share=_FEW),
    Reference("inventory_fields", "inventory_model_field_id", "model_fields", share=_FEW),
    Reference("model_fields", "inventory_model_id", "models", share=_FEW),
    Reference("models", "manufacturer_id", "manufacturers", share=_FEW),
)


def _digits(column: str, *lengths: int) -> Rule:
    told = " or ".join(map(str, lengths))
    allowed = ", ".join(map(str, lengths))
    return Rule(
        "addresses",
        f"{column} of {told} digits",
        f"{column} NOT GLOB '*[^0-9]*' AND length({column}) IN ({allowed})",
    )


RULES = (
    between("addresses", "latitude", -90, 90, "degrees"),
    between("addresses", "longitude", -180, 180, "degrees"),
    Rule("addresses", "latitude and longitude together", "(latitude IS NULL) = (longitude IS NULL)"),
    _digits("county_fips", 5),
    _digits("fips", 11, 15),
    Rule("addresses", "state of two letters", "state GLOB '[A-Z][A-Z]'"),
    one_of("addresses", "type", "PHYSICAL", "MAILING"),
    between("addresses", "attainable_download_speed", 0, FASTEST_KBITS, "kbit/s"),
    between("addresses", "attainable_upload_speed", 0, FASTEST_KBITS, "kbit/s"),
    between("products", "download_in_kilobits", 0, FASTEST_KBITS, "kbit/s"),
    between("products", "upload_in_kilobits", 0, FASTEST_KBITS, "kbit/s"),
    between("services", "quantity", 0, 100_000),
    Rule("customers", "activation_date from 1900 to 2100", "activation_date BETWEEN '1900-01-01' AND '2100-12-31'"),
    one_of("inventory_items", "status", "FUNCTIONAL", "FAILED", "LOST"),
    Rule("inventory_fields", "normalized is a MAC address or an IMSI", "length(normalized) BETWEEN 12 AND 17"),
)

WATCHED = Watched(schema=SCHEMA, window=lambda: WINDOW, owner="team:network", references=REFERENCES, rules=RULES)
