"""The registries' assets as Dagster runs them: partitions, metadata, observations, what a failure leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import build_defs
from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.sources.dmr import assets
from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.assets import DOWNLOADS, DmrLoadConfig, DmrResource, DmrWarmConfig
from bdc_pipeline.sources.dmr.registries import REGISTRIES, TGIF_TALKGROUPS
from bdc_pipeline_tests.sources.dmr.syncing import Copy

ALL = (REGISTRIES[0], REGISTRIES[-1])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialize(
    instance: dg.DagsterInstance, asset: dg.AssetsDefinition, *ends: str, **options: Any
) -> dg.ExecuteInProcessResult:
    """Runs an asset with the project's own resources, over a range of partitions where its ends are given."""
    tags = {RANGE_START: ends[0], RANGE_END: ends[-1]} if ends else {}
    resources = {**(build_defs().resources or {}), "dmr": DmrResource(attempts=1)}
    return dg.materialize([asset], instance=instance, resources=resources, tags=tags, raise_on_error=False, **options)


def partitions(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str]:
    return set(instance.get_materialized_partitions(key))


def table_key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["dmr", name])


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    return str(event.step_failure_data.user_failure_data.description)


def metadata_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, dict[str, Any]]:
    """By partition, the latest."""
    found: dict[str, dict[str, Any]] = {}
    for record in instance.fetch_materializations(key, limit=100).records:
        told = record.asset_materialization
        assert told is not None
        found.setdefault(told.partition or "", {name: value.value for name, value in told.metadata.items()})
    return found


def test_the_definitions_hold_the_registries() -> None:
    keys = build_defs().resolve_all_asset_keys()
    tables = {table_key(table.name) for table in t.TABLES}
    views = {key for view in assets.VIEWS for key in view.keys}
    assert {DOWNLOADS, *tables, *views} <= set(keys)


def test_all_registries_are_downloaded_and_loaded_in_one_run_each(copy: Copy, instance: dg.DagsterInstance) -> None:
    assert materialize(instance, assets.dmr_downloads, *ALL).success
    assert partitions(instance, DOWNLOADS) == set(REGISTRIES)
    told = metadata_of(instance, DOWNLOADS)
    found = copy.cache.look_up(TGIF_TALKGROUPS)
    assert found is not None
    assert found.record is not None
    assert told["tgif"]["tgif_talkgroups_was"] == "downloaded"
    assert told["tgif"]["tgif_talkgroups_bytes"] == found.path.stat().st_size
    assert told["tgif"]["tgif_talkgroups_sha256"] == found.record.sha256
    assert 0 <= told["tgif"]["tgif_talkgroups_age_minutes"] < 5
    assert "hearham_repeaters_bytes" not in told["tgif"]

    assert materialize(instance, assets.dmr_tables, *ALL).success
    rows = {
        key: value["dagster/partition_row_count"]
        for key, value in metadata_of(instance, table_key("repeaters")).items()
    }
    served = len(copy.sandbox.source("hearham").rows("repeater", ["id"]))
    assert rows == {"brandmeister": 400, "tgif": 0, "hearham": served}
    for table in (t.REPEATERS, t.TALKGROUPS, t.SOURCES):
        assert partitions(instance, table_key(table.name)) == set(REGISTRIES)
    [run] = {row[0] for row in copy.query("SELECT run_id FROM _runs")}
    assert instance.get_run_by_id(run) is not None


def test_a_load_observes_the_files_that_it_reads(copy: Copy, instance: dg.DagsterInstance) -> None:
    assert materialize(instance, assets.dmr_downloads, "tgif").success
    materialize(instance, assets.dmr_tables, *ALL)
    seen = {}
    for record in instance.fetch_observations(DOWNLOADS, limit=10).records:
        told = record.asset_observation
        assert told is not None
        seen[told.partition] = {name: value.value for name, value in told.metadata.items()}
    assert set(seen) == set(REGISTRIES)
    assert seen["tgif"]["tgif_talkgroups_records"] == len(copy.document("tgif_talkgroups"))
    assert seen["hearham"] == {}


def test_a_download_that_fails_fails_its_partition_alone(copy: Copy, instance: dg.DagsterInstance) -> None:
    copy.sandbox.configure(faults=["503@hearham"])
    text = failure_of(materialize(instance, assets.dmr_downloads, *ALL))
    assert text.startswith("hearham_repeaters failed: ")
    assert "answered 503" in text
    assert "there is no copy of before" in text
    assert partitions(instance, DOWNLOADS) == {"brandmeister", "tgif"}


def test_a_registry_without_a_download_fails_its_partition_alone(copy: Copy, instance: dg.DagsterInstance) -> None:
    assert materialize(instance, assets.dmr_downloads, "tgif").success
    text = failure_of(materialize(instance, assets.dmr_tables, *ALL))
    assert "there is no download of it. Run 'bdc-pipeline warm dmr'" in text
    assert partitions(instance, table_key("talkgroups")) == {"tgif", "hearham"}
    assert partitions(instance, table_key("repeaters")) == {"tgif"}
    assert copy.live("talkgroups") == len(copy.document("tgif_talkgroups"))


def test_one_registry_can_be_run_alone(copy: Copy, instance: dg.DagsterInstance) -> None:
    assert materialize(instance, assets.dmr_downloads, "tgif").success
    assert set(copy.sandbox.stats()["labels"]) == {"tgif talkgroups"}
    assert materialize(instance, assets.dmr_tables, "tgif").success
    assert partitions(instance, table_key("talkgroups")) == {"tgif"}


def test_the_configuration_of_a_run_counts(copy: Copy, instance: dg.DagsterInstance) -> None:
    assert materialize(instance, assets.dmr_downloads, *ALL).success
    copy.sandbox.reset_stats()
    force = {"ops": {"dmr__downloads": {"config": {"force": True}}}}
    assert materialize(instance, assets.dmr_downloads, *ALL, run_config=force).success
    assert copy.asked() == 0, "polling floors hold"
    assert metadata_of(instance, DOWNLOADS)["tgif"]["tgif_talkgroups_was"] == "too soon"
    load = {"ops": {"dmr_tables": {"ops": {"plan_registries": {"config": {"mode": "streaming", "chunk": 50}}}}}}
    result = materialize(instance, assets.dmr_tables, *ALL, run_config=load)
    assert result.success
    [planned] = [
        event.step_output_data.metadata
        for event in result.filter_events(lambda event: event.is_successful_output)
        if "plan_registries" in str(event.step_key)
    ]
    assert {name: value.value for name, value in planned.items()} == {"mode": "streaming", "chunk": 50}


def test_a_mode_that_there_is_not_fails_with_a_sentence(copy: Copy, instance: dg.DagsterInstance) -> None:
    config = {"ops": {"dmr_tables": {"ops": {"plan_registries": {"config": {"mode": "turbo"}}}}}}
    assert "There is no mode 'turbo'." in failure_of(materialize(instance, assets.dmr_tables, *ALL, run_config=config))


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (DmrWarmConfig, {"max_age_minutes": -1}),
        (DmrWarmConfig, {"max_age_minutes": 1e300}),
        (DmrLoadConfig, {"chunk": 0}),
        (DmrLoadConfig, {"days": -1}),
        (DmrLoadConfig, {"days": 1e300}),
        (DmrLoadConfig, {"limit": 0}),
        (DmrResource, {"workers": 0}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(config: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        config(**values)


def test_views_are_counted_and_shown(copy: Copy, instance: dg.DagsterInstance) -> None:
    [view] = [one for one in assets.VIEWS if one.key == table_key("repeaters_by_band_and_mode")]
    assert "does not exist. Run 'bdc-pipeline sync dmr'" in failure_of(materialize(instance, view))
    materialize(instance, assets.dmr_downloads, *ALL)
    materialize(instance, assets.dmr_tables, *ALL)
    for view in assets.VIEWS:
        assert materialize(instance, view).success
        [told] = metadata_of(instance, view.key).values()
        assert told["dagster/row_count"] == copy.one(f"SELECT count(*) FROM {view.key.path[-1]}")


def test_an_address_that_is_none_fails_with_a_sentence(
    copy: Copy, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TGIF_URL", "tgif")
    assert "TGIF_URL is 'tgif', which is no web address" in failure_of(
        materialize(instance, assets.dmr_downloads, *ALL)
    )


def test_a_cache_that_cannot_be_written_fails_with_a_sentence(copy: Copy, instance: dg.DagsterInstance) -> None:
    copy.cache.directory.parent.write_text("not a directory")
    assert "cannot be written" in failure_of(materialize(instance, assets.dmr_downloads, *ALL))
    assert copy.asked() == 0
