"""The assets as the UI runs them: partitions, partial success, what a materialization tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import build_defs
from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.sources.properties import assets
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.places import places
from bdc_pipeline.warehouse.io_manager import KEY
from bdc_pipeline_tests.sources.properties.syncing import Copy, copying

HOMES = dg.AssetKey(["properties", "properties"])


def materialized(instance: dg.DagsterInstance, key: dg.AssetKey = HOMES) -> set[str]:
    return set(instance.get_materialized_partitions(key))


def run(instance: dg.DagsterInstance, first: str, last: str, **config: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        assets.ASSETS,
        instance=instance,
        resources={"boligsiden": assets.BoligsidenResource(workers=4), KEY: build_defs().resources[KEY]},
        tags={RANGE_START: first, RANGE_END: last},
        run_config={"ops": {"properties": {"ops": {"plan_properties": {"config": config}}}}},
        raise_on_error=False,
    )


def test_partitions_are_the_36_municipalities_by_code() -> None:
    assert assets.MUNICIPALITIES.get_partition_keys() == list(places())
    assert assets.properties.partitions_def == assets.MUNICIPALITIES
    assert assets.properties.backfill_policy == dg.BackfillPolicy.single_run()


def test_one_run_does_a_range_and_a_failure_marks_the_others_alone(copy: Copy) -> None:
    copy.sandbox.configure(faults=["404@municipality=Ballerup"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance, "0147", "0155")
        assert not result.success
        assert materialized(instance) == {"0147", "0153", "0155"}
        for table in (*t.CHILDREN, *t.LOOKUPS, *t.HISTORIES):
            assert materialized(instance, dg.AssetKey(["properties", table.name])) == {"0147", "0153", "0155"}
        copy.sandbox.configure(faults=[])
        assert run(instance, "0147", "0155").success
        assert materialized(instance) == {"0147", "0151", "0153", "0155"}
    copy.assert_true(codes=(147, 151, 153, 155))


def test_a_materialization_names_its_municipality_and_shows_its_prices(tmp_path: Path) -> None:
    with copying(tmp_path, homes=2000) as copy, dg.DagsterInstance.ephemeral() as instance:
        assert run(instance, "0316", "0316", address_types=["villa"]).success
        [event] = instance.fetch_materializations(dg.AssetKey(["properties", "registrations"]), limit=10).records
        metadata = event.asset_materialization.metadata
        assert metadata["municipality"].value == "Holbæk"
        assert metadata["address_types"].value == "villa"
        assert metadata["dagster/partition_row_count"].value == copy.one("SELECT count(*) FROM registrations")
        assert str(metadata["price_per_m2"].value).startswith(
            "![Price per m2 in Holbæk, normal sales](data:image/svg+xml;base64,"
        )


def test_the_parts_of_a_divided_list_are_told(tmp_path: Path) -> None:
    with copying(tmp_path, homes=4000) as copy, dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets.ASSETS,
            instance=instance,
            resources={
                "boligsiden": assets.BoligsidenResource(workers=4, hit_cap=200),
                KEY: build_defs().resources[KEY],
            },
            partition_key="0101",
        )
        assert result.success
        [event] = instance.fetch_materializations(dg.AssetKey(["properties", "registrations"]), limit=1).records
        parts = event.asset_materialization.metadata["parts"].value
        assert isinstance(parts, dict)
        without = copy.one("SELECT count(*) FROM properties WHERE zip_code IS NULL")
        assert sum(parts.values()) == len(copy.homes(codes=(101,))) - without  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "variable", "sentence"),
    [
        ({"address_types": ["castle"]}, None, "'castle' is no type of homes. There are: villa, condo"),
        ({}, ("BOLIGSIDEN_URL", "ftp://x"), "BOLIGSIDEN_URL is 'ftp://x', which is no web address"),
        ({}, ("BOLIGSIDEN_REQUESTS_PER_SECOND", "fast"), "BOLIGSIDEN_REQUESTS_PER_SECOND is 'fast'"),
    ],
)
def test_what_cannot_be_used_fails_with_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    variable: tuple[str, str] | None,
    sentence: str,
) -> None:
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    if variable:
        monkeypatch.setenv(*variable)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance, "0101", "0101", **config)
        [event] = [
            event
            for event in result.all_events
            if event.is_step_failure and event.step_key and "plan" in event.step_key
        ]
        data = event.step_failure_data.user_failure_data
        assert data is not None
        assert data.description is not None
        assert sentence in data.description
