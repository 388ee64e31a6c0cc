"""What the columns of generated rows say."""

from collections import Counter

from bdc_pipeline_tests.sandbox.sonar.provider import WORLD, column


def test_macs_are_unique_and_spelled_in_three_ways() -> None:
    table = WORLD.tables["InventoryModelFieldData"]
    fields = WORLD.tables["InventoryModelField"]
    kinds = fields.values("type", range(len(fields)))
    macs = [
        value
        for value, field in zip(
            table.values("value", range(len(table))), table.links["inventory_model_field"], strict=True
        )
        if kinds[field] == "MAC_ADDRESS"
    ]
    assert len({mac.replace(":", "").replace("-", "") for mac in macs}) == len(macs)
    assert {":" if ":" in mac else "-" if "-" in mac else "" for mac in macs} == {":", "-", ""}
    assert "00:00:5E:00:53" in "".join(macs)


def test_addresses_are_as_irregular_as_real_ones() -> None:
    kinds = Counter(column("Address", "type", "serviceable"))
    assert kinds[("PHYSICAL", True)] > kinds[("MAILING", False)] > 0
    years = {year for (year,) in column("Address", "census_year")}
    assert years == {2010, 2020, None}


def test_nothing_real_is_in_it() -> None:
    for name, table in WORLD.tables.items():
        text = str([table.values(c, range(min(200, len(table)))) for c in table.entity.columns])
        assert "@" not in text.replace("@example.com", ""), name
    assert {county for (county,) in column("Address", "county")} == {"COUNTY_48999"}
