"""Which municipalities are walked through, and for which types of homes."""

from __future__ import annotations

import datetime as dt

import pytest

from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.plan import Held, SyncOptions, Visit, kept_types, make_plan
from bdc_pipeline.warehouse.ledger import PartitionState

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)


def state(
    *,
    complete: bool = True,
    days: float | None = 1,
    expected: int | None = 10,
    stored: int = 10,
    token: str | None = "d villa",
) -> PartitionState:
    at = None if days is None else (NOW - dt.timedelta(days=days)).isoformat()
    return PartitionState(complete, None, at, at, expected, stored, 0, None, token)


def visit(found: PartitionState | None, held: Held | None = None, *, child: PartitionState | None = None, **options: object) -> Visit:  # fmt: skip
    states = {t.PROPERTIES.name: {"0101": found} if found else {}}
    states |= {table.name: {"0101": child or found} if found else {} for table in t.CHILDREN}
    plan = make_plan(["0101"], states, {"0101": held} if held else {}, SyncOptions(**options), NOW)  # type: ignore[arg-type]
    [one] = plan.visits
    return one


@pytest.mark.parametrize(
    ("found", "options", "due"),
    [
        (None, {}, True),
        (state(), {}, False),
        (state(), {"force": True}, True),
        (state(days=8), {}, True),
        (state(days=8), {"days": 9}, False),
        (state(), {"days": 0}, True),
        (state(complete=False), {}, True),
        (state(days=None), {}, True),
        # by a clock that was wrong: a year ahead, which would put the next walk off for as long
        (state(days=-365), {}, True),
        (state(expected=None), {}, True),
        (state(stored=9), {}, True),
        (state(), {"address_types": ("villa",)}, False),
        (state(), {"address_types": ("condo",)}, True),
        (state(token="d all"), {"address_types": ("condo",)}, False),
    ],
)
def test_what_is_walked_through(found: PartitionState | None, options: dict[str, object], due: bool) -> None:
    assert visit(found, Held(10, frozenset({"villa"})), **options).due is due


def test_homes_whose_buildings_are_incomplete_are_walked_through() -> None:
    assert visit(state(), child=state(complete=False)).due


@pytest.mark.parametrize(
    ("token", "stored", "asked", "types"),
    [
        (None, (), (), ("villa",)),
        (None, (), ("condo", "farm"), ("condo", "farm")),
        ("d villa", ("villa",), (), ("villa",)),
        # a list of villas alone would let the flats pass for vanished
        ("d villa,condo", ("villa", "condo"), ("villa",), ("villa", "condo")),
        ("d terraced_house", ("terraced house",), ("villa",), ("villa", "terraced house")),
        ("d all", ("villa",), ("villa",), ("all",)),
        ("d villa", ("villa",), ("all",), ("all",)),
        # after an incomplete walk the ledger tells nothing, and what is stored decides
        (None, ("villa", "holiday house"), (), ("villa", "holiday house")),
        (None, ("villa", None), (), ("all",)),
        (None, ("villa", "special"), ("condo",), ("all",)),
    ],
)
def test_the_types_that_are_listed(
    token: str | None, stored: tuple[str | None, ...], asked: tuple[str, ...], types: tuple[str, ...]
) -> None:
    found = state(token=token) if token or stored else None
    assert visit(found, Held(10, frozenset(stored)), address_types=asked).types == types


def test_what_the_ledger_remembers_of_types_is_read_back() -> None:
    for types in (("villa",), ("villa", "full year plot", "houseboat"), ("all",)):
        told = state(token="0123abcd " + Visit("0101", types, due=True).token)
        assert kept_types(told, ()) == types


def test_zip_codes_that_the_file_knows_are_asked_for_by_themselves() -> None:
    groups = visit(None, Held(5, zips=(8000, 1705))).zips
    assert (8000,) in groups
    assert (2300,) in groups
    # inner Copenhagen had a zip code for each street
    assert (1705,) not in groups
    assert any(1705 in group for group in groups)


def test_municipalities_come_in_the_order_of_their_codes() -> None:
    plan = make_plan(["0350", "0101", "0265"], {t.PROPERTIES.name: {}}, {}, SyncOptions(), NOW)
    assert [one.code for one in plan.visits] == ["0101", "0265", "0350"]
    assert plan.describe() == {
        "municipalities": 3, "walked_through": 3, "asked_for_their_number": 0, "homes_at_the_last_walk": 0,
    }  # fmt: skip
