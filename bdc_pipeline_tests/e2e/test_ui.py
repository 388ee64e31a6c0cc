"""`bdc-pipeline ui`, as a person starts it: the web server, the daemon, a run over a range of partitions, Ctrl-C."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.definitions import SCHEMAS
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.warehouse.describe import public_columns
from bdc_pipeline_tests.e2e.ui import UP_SECONDS, Ui, start
from bdc_pipeline_tests.waiting import until

RUN_SECONDS = 120.0
DOWN_SECONDS = 120.0

pytestmark = pytest.mark.slow

ASSETS = """{ assetNodes {
    assetKey { path } groupName kinds isPartitioned
    partitionKeysByDimension { partitionKeys }
    metadataEntries { label ... on TableSchemaMetadataEntry { schema { columns { name type description } } } }
} }"""

RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run {
    status
    stepStats { stepKey status }
    assetMaterializations {
        assetKey { path } partition
        metadataEntries { label ... on IntMetadataEntry { intValue } ... on PathMetadataEntry { path } }
    }
} } }"""

LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
} }"""

SENSORS = """{ sensorsOrError(repositorySelector: {
    repositoryLocationName: "bdc_pipeline", repositoryName: "__repository__"
}) { ... on Sensors { results { name sensorState { status } } } } }"""


@dataclass
class Seen:
    """What a UI showed, from its start to its end."""

    data: Path
    processes: dict[int, str]
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    sensors: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    status: int | None = None
    seconds: float = 0.0
    left: dict[int, str] = field(default_factory=dict)
    said: str = ""

    def partitions(self, table: str) -> list[str]:
        """The registered partitions of a table's asset."""
        [dimension] = self.assets[f"sonar/{table}"]["partitionKeysByDimension"]
        return list(dimension["partitionKeys"])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One UI for all tests: started, looked at, made to run something, interrupted."""
    ui = start(tmp_path_factory.mktemp("ui"))
    try:
        until(ui.is_loaded, ui.said, seconds=UP_SECONDS, pause=0.2)
        found = Seen(
            ui.data,
            ui.processes(),
            assets={"/".join(node["assetKey"]["path"]): node for node in ui.ask(ASSETS)["assetNodes"]},
            sensors=ui.ask(SENSORS)["sensorsOrError"]["results"],
        )
        blocks = found.partitions("customers")
        found.run = run_over(ui, blocks[0], blocks[-1])
        # a terminal sends Ctrl-C to all processes of the command
        end(ui, found, lambda: os.killpg(ui.process.pid, signal.SIGINT))
    finally:
        ui.close()
    return found


def run_over(ui: Ui, first: str, last: str) -> dict[str, Any]:
    """Runs the customers' assets over a range of partitions, launched as the page's button does."""
    params = {
        "selector": {
            "repositoryLocationName": "bdc_pipeline",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": ["sonar", table.name]} for table in t.OF_CUSTOMERS],
            # the UI's button names all checks of what it materializes
            "assetCheckSelection": [
                {"assetKey": {"path": ["sonar", table.name]}, "name": name}
                for table in t.OF_CUSTOMERS
                for name in ("complete", "current", "sound")
            ],
        },
        "runConfigData": {},
        "mode": "default",
        "executionMetadata": {
            "tags": [
                {"key": "dagster/asset_partition_range_start", "value": first},
                {"key": "dagster/asset_partition_range_end", "value": last},
            ]
        },
    }
    launched = ui.ask(LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = ui.ask(RUN, id=launched["run"]["runId"])["runOrError"]
        return found if found["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

    found: dict[str, Any] = until(ended, ui.said, seconds=RUN_SECONDS, pause=0.2)
    return found


def end(ui: Ui, found: Seen, how: Callable[[], None]) -> None:
    """Ends a UI and sees what becomes of its processes."""
    began = time.monotonic()
    how()
    with contextlib.suppress(subprocess.TimeoutExpired):
        found.status = ui.process.wait(DOWN_SECONDS)
    found.seconds = time.monotonic() - began
    # those that nobody waits for any more need a moment to be gone
    deadline = time.monotonic() + 20
    while (left := ui.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    found.left, found.said = left, ui.said()


def test_all_assets_are_there_in_their_groups(seen: Seen) -> None:
    groups = {
        **dict.fromkeys(t.LOOKUPS, "sonar_lookups"),
        **dict.fromkeys(t.OF_CUSTOMERS, "sonar_customers"),
        **dict.fromkeys(t.OF_INVENTORY, "sonar_inventory"),
    }
    of_sonar = {name: node for name, node in seen.assets.items() if name.startswith("sonar/")}
    assert {name: node["groupName"] for name, node in of_sonar.items()} == {
        f"sonar/{table.name}": group for table, group in groups.items()
    }
    assert all(set(node["kinds"]) == {"sqlite", "graphql"} for node in of_sonar.values())
    assert set(seen.assets) >= {f"{schema.source}/{table.name}" for schema in SCHEMAS for table in schema.tables}


def test_each_asset_shows_the_columns_of_its_table(seen: Seen) -> None:
    columns = public_columns(t.SCHEMA)
    for table in t.SCHEMA.tables:
        entries = {entry["label"]: entry for entry in seen.assets[f"sonar/{table.name}"]["metadataEntries"]}
        shown = entries["dagster/column_schema"]["schema"]["columns"]
        assert [(column["name"], column["type"], column["description"] or "") for column in shown] == [
            (column.name, column.type or "ANY", column.description) for column in columns[table.name]
        ]


def test_the_blocks_of_the_generated_data_are_registered(seen: Seen) -> None:
    for table in t.SCHEMA.tables:
        assert seen.assets[f"sonar/{table.name}"]["isPartitioned"] == (table.partitioning is not None)
    blocks = seen.partitions("customers")
    assert blocks
    assert blocks == [f"{low}-{low + 999}" for low in sorted(int(key.partition("-")[0]) for key in blocks)]
    assert len(seen.partitions("inventory_items")) > len(blocks)


def test_sensors_that_ask_the_sandbox_are_on_and_those_that_send_alerts_are_off(seen: Seen) -> None:
    states = {sensor["name"]: sensor["sensorState"]["status"] for sensor in seen.sensors}
    on = {name for name, state in states.items() if state == "RUNNING"}
    assert on == {"sonar_new_blocks", "gitlab_activity", "gitlab_later_stages", "watch_copies"}
    assert set(states) - on == {"alert_on_failed_runs", "alert_on_copies"}


def test_a_run_over_a_range_plans_and_fetches_and_materializes_every_partition(seen: Seen) -> None:
    assert seen.run["status"] == "SUCCESS", seen.said
    steps = {step["stepKey"]: step["status"] for step in seen.run["stepStats"]}
    assert steps == {
        "sonar_customers.plan_customers": "SUCCESS",
        "sonar_customers.fetch_customers": "SUCCESS",
        "check_sonar_customers": "SUCCESS",
    }
    done = {(event["assetKey"]["path"][-1], event["partition"]) for event in seen.run["assetMaterializations"]}
    assert done == {(table.name, block) for table in t.OF_CUSTOMERS for block in seen.partitions("customers")}


def test_a_run_tells_how_many_rows_it_brought(seen: Seen) -> None:
    rows: dict[str, int] = {}
    for event in seen.run["assetMaterializations"]:
        told = {entry["label"]: entry for entry in event["metadataEntries"]}
        name = event["assetKey"]["path"][-1]
        rows[name] = rows.get(name, 0) + told["dagster/partition_row_count"]["intValue"]
        assert told["database"]["path"] == str(seen.data / "demo" / "bdc_cache.db")
        assert told["run_rejected"]["intValue"] == 0
    assert rows["customers"] == 2000
    with contextlib.closing(sqlite3.connect(seen.data / "demo" / "bdc_cache.db")) as connection:
        for table in t.OF_CUSTOMERS:
            assert connection.execute(f'SELECT count(*) FROM "live_{table.name}"').fetchone() == (rows[table.name],)


def test_generated_data_and_their_runs_are_kept_apart_from_real_ones(seen: Seen) -> None:
    assert [path.name for path in seen.data.iterdir()] == ["demo"]
    assert (seen.data / "demo" / ".dagster" / "dagster.yaml").exists()


def test_ctrl_c_ends_all_processes_within_seconds(seen: Seen) -> None:
    assert len(seen.processes) >= 4, "the command, the sandbox, Dagster's server, daemon and code server"
    assert seen.status == 0, seen.said
    # some three, on an idle machine; two minutes where one of them does not listen
    assert seen.seconds < 60
    assert seen.left == {}
    assert "Traceback" not in seen.said


def test_a_ui_that_is_terminated_takes_its_processes_along(tmp_path: Path) -> None:
    ui = start(tmp_path)
    try:
        until(ui.is_loaded, ui.said, seconds=UP_SECONDS, pause=0.2)
        found = Seen(ui.data, ui.processes())
        end(ui, found, ui.process.terminate)
    finally:
        ui.close()
    assert len(found.processes) >= 4
    assert found.status == 0, found.said
    assert found.left == {}
