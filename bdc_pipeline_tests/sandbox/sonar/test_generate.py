"""What the generated provider looks like."""

import time
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.sandbox.sonar.generate import build
from bdc_pipeline.sandbox.sonar.tables import World
from bdc_pipeline_tests.sandbox.sonar.provider import WORLD, column


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from(["dense", "sparse"]))
def test_the_seed_decides_everything(seed: int, ids: str) -> None:
    one, two = (build(customers=40, seed=seed, ids=ids) for _ in range(2))  # type: ignore[arg-type]
    for name, table in one.tables.items():
        columns = list(table.entity.columns)
        assert column(name, *columns, world=one) == column(name, *columns, world=two)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(20, 80))
def test_every_link_leads_to_a_row_and_every_id_is_unique(seed: int, customers: int) -> None:
    world = build(customers=customers, seed=seed)
    for table in world.tables.values():
        assert all(a < b for a, b in pairwise(table.ids))
        for link, target in table.targets.items():
            assert all(-1 <= t < len(target) for t in table.links[link])
        for name in table.entity.required:
            assert None not in table.values(name, range(len(table))), (table.name, name)


def test_sizes_are_as_promised() -> None:
    tables = WORLD.tables
    assert len(tables["Account"]) == 2_000
    assert len(tables["InventoryItem"]) == 6_000
    assert 1.2 < len(tables["Address"]) / 2_000 < 1.3
    assert 1.4 < len(tables["AccountService"]) / 2_000 < 1.6
    assert 1.8 < len(tables["InventoryModelFieldData"]) / 6_000 < 2.2
    owners = Counter(column("InventoryItem", "inventoryitemable_type"))
    assert 0.8 < owners[("Address",)] / 6_000 < 0.88
    assert len(owners) >= 5


def test_dense_ids_have_few_gaps_and_sparse_ones_many() -> None:
    def span(world: World) -> float:
        ids = world.tables["Account"].ids
        return (ids[-1] - ids[0]) / len(ids)

    assert 1.0 < span(WORLD) < 1.05
    assert span(build(customers=2_000, ids="sparse")) > 500


def test_the_irregularities_of_real_providers_occur() -> None:
    accounts = WORLD.tables["Account"]
    with_address = set(WORLD.tables["Address"].links["account"])
    parents = accounts.links["parent_account"]
    assert any(parents[n] >= 0 and n not in with_address for n in range(len(accounts)))
    homes = Counter(
        owner
        for owner, (kind, _) in zip(
            WORLD.tables["Address"].links["account"], column("Address", "type", "id"), strict=True
        )
        if kind == "PHYSICAL" and owner >= 0
    )
    assert max(homes.values()) == 2
    items, services = WORLD.tables["InventoryItem"], WORLD.tables["AccountService"]
    disagreeing = [
        n
        for n in range(len(items))
        if (service := items.links["account_service"][n]) >= 0
        and services.links["account"][service] != WORLD.tables["Address"].links["account"][items.links["address"][n]]
        and parents[services.links["account"][service]] < 0
    ]
    assert disagreeing


def test_twenty_thousand_customers_are_made_in_no_time() -> None:
    begun = time.process_time()
    build(customers=20_000)
    assert time.process_time() - begun < 2
