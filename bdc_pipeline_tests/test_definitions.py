"""What Dagster loads, and that it loads it everywhere alike."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from bdc_pipeline import settings
from bdc_pipeline.definitions import SCHEMAS, build_defs, defs
from bdc_pipeline.sources.sonar.assets import SonarResource
from bdc_pipeline.warehouse.io_manager import KEY, sqlite_io_manager
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store

ROOT = Path(__file__).resolve().parent.parent

SPECS = {spec.key: spec for spec in defs.resolve_all_asset_specs()}

TABLES = sorted(dg.AssetKey([schema.source, table.name]) for schema in SCHEMAS for table in schema.tables)
VIEWS = sorted({dg.AssetKey([schema.source, view.name]) for schema in SCHEMAS for view in schema.views} & set(SPECS))
FILES = sorted(set(SPECS) - {*TABLES, *VIEWS})

ours = pytest.mark.parametrize("key", TABLES, ids=lambda key: key.to_user_string())


def schema_of(key: dg.AssetKey) -> Schema:
    [found] = [schema for schema in SCHEMAS if schema.source == key.path[0]]
    return found


def definition_of(key: dg.AssetKey) -> dg.AssetsDefinition:
    return defs.resolve_asset_graph().assets_def_for_key(key)


def without_variables() -> dict[str, str]:
    """The environment without any variable of ours."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in {setting.name for setting in settings.SETTINGS} and not name.startswith("DAGSTER")
    }


def test_the_definitions_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)


def test_there_is_an_asset_for_every_table_of_every_source_and_beside_them_raw_files_and_views_alone() -> None:
    assert set(TABLES) <= set(SPECS)
    assert [key.to_user_string() for key in FILES] == ["dmr/downloads"]


@pytest.mark.parametrize("key", sorted(SPECS), ids=lambda key: key.to_user_string())
def test_an_asset_has_a_group_a_description_kinds_and_its_source_as_a_tag(key: dg.AssetKey) -> None:
    spec = SPECS[key]
    assert spec.group_name
    assert spec.group_name.startswith(f"{key.path[0]}_")
    assert spec.description
    assert spec.kinds
    assert spec.tags["source"] == key.path[0]


@ours
def test_the_description_of_an_asset_is_that_of_its_row_type(key: dg.AssetKey) -> None:
    assert SPECS[key].description == schema_of(key).table(key.path[1]).description
    assert SPECS[key].kinds >= {"sqlite"}


@pytest.mark.parametrize("key", VIEWS, ids=lambda key: key.to_user_string())
def test_a_view_is_an_asset_that_follows_the_tables_it_reads(key: dg.AssetKey) -> None:
    spec = SPECS[key]
    assert spec.kinds >= {"sqlite", "view"}
    assert {dep.asset_key for dep in spec.deps} <= set(TABLES)
    assert spec.deps
    assert all(column.description for column in spec.metadata["dagster/column_schema"].columns)


@ours
def test_the_column_schema_of_an_asset_is_that_of_the_public_name_in_the_file(key: dg.AssetKey, tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    Store(path, schema_of(key)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(f'PRAGMA table_info("{key.path[1]}")').fetchall()
    told = SPECS[key].metadata["dagster/column_schema"]
    assert [(column.name, column.type) for column in told.columns] == [(row[1], row[2] or "ANY") for row in found]
    assert all(column.description for column in told.columns)


@ours
def test_an_asset_names_the_table_that_it_is(key: dg.AssetKey) -> None:
    assert SPECS[key].metadata["dagster/table_name"] == f"{settings.DATABASE_FILES[key.path[0]]}.{key.path[1]}"


@ours
def test_an_asset_is_partitioned_just_where_its_table_is(key: dg.AssetKey) -> None:
    schema = schema_of(key)
    table = schema.table(key.path[1])
    while table.gathered_with:  # what comes along with another table's records is fetched with its partitions
        table = schema.table(table.gathered_with)
    assert (SPECS[key].partitions_def is not None) == (table.partitioning is not None)


@ours
def test_an_asset_with_partitions_does_a_whole_range_in_one_run(key: dg.AssetKey) -> None:
    if SPECS[key].partitions_def is not None:
        assert definition_of(key).backfill_policy == dg.BackfillPolicy.single_run()


@ours
def test_an_asset_is_kept_by_our_io_manager_and_made_by_a_plan_and_a_fetch(key: dg.AssetKey) -> None:
    definition = definition_of(key)
    assert definition.get_io_manager_key_for_asset_key(key) == KEY
    assert isinstance(definition.node_def, dg.GraphDefinition)
    plan, fetch = sorted(definition.node_def.node_dict, key=lambda name: name.startswith("fetch_"))
    assert plan.startswith("plan_")
    assert fetch.startswith("fetch_")


def test_ops_run_in_the_process_of_the_run() -> None:
    assert defs.executor is dg.in_process_executor


def test_the_default_io_manager_is_left_to_what_ops_hand_each_other() -> None:
    assert KEY in (defs.resources or {})
    assert "io_manager" not in (defs.resources or {})


def test_resources_can_be_replaced_and_the_others_stay() -> None:
    replaced = build_defs(resources={"sonar": dg.ResourceDefinition.none_resource()})
    dg.Definitions.validate_loadable(replaced)
    assert set(replaced.resources or {}) == set(defs.resources or {})
    assert (replaced.resources or {})["sonar"] is not (defs.resources or {})["sonar"]


LOCAL = {"watch_copies", "back_up_daily", "prune_weekly"}
"""What asks no service, and is on from the start."""


def test_what_asks_a_service_is_off_until_somebody_switches_it_on() -> None:
    on = {sensor.name for sensor in defs.sensors or () if sensor.default_status is dg.DefaultSensorStatus.RUNNING}
    on |= {one.name for one in defs.schedules or () if one.default_status is dg.DefaultScheduleStatus.RUNNING}
    assert on == LOCAL
    assert {"sonar_new_blocks", "gitlab_activity"} <= {sensor.name for sensor in defs.sensors or ()}


def test_no_secret_is_part_of_a_resources_configuration() -> None:
    # it is stored with each run
    names = [*SonarResource.model_fields, *sqlite_io_manager(SCHEMAS).config_schema.config_type.fields]
    assert {"workers", "max_rejects"} <= set(names)
    assert [name for name in names if re.search("token|url|secret|password", name)] == []


# -- loading ---------------------------------------------------------------------------------------------------

LOADING = """
import json, socket, sys

def refuse(*arguments):
    raise AssertionError(f"the network was asked for {arguments}")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
import bdc_pipeline.definitions
print(json.dumps(sorted(sys.modules)))
"""


def loaded(code: str, directory: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=directory,
        env=without_variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_loading_needs_no_network_no_variables_and_no_sandbox_and_leaves_nothing_behind(tmp_path: Path) -> None:
    modules = loaded(LOADING, tmp_path)
    assert "bdc_pipeline.sources.sonar.assets" in modules
    assert [
        name for name in modules if name.startswith(("bdc_pipeline.sandbox", "graphql", "uvicorn", "starlette"))
    ] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module", ["bdc_pipeline.fetching.session", "bdc_pipeline.warehouse.drain", "bdc_pipeline.sources.sonar.client"]
)
def test_what_needs_no_dagster_does_not_import_it(module: str, tmp_path: Path) -> None:
    modules = loaded(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))", tmp_path)
    assert module in modules
    assert not {"dagster", "pandas"} & set(modules)


# -- configuration files ---------------------------------------------------------------------------------------


def configurations() -> dict[str, tuple[str, str]]:
    """Module and code location as each of the three places names them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    [load] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    module = load["python_module"]
    return {
        "workspace.yaml": (module["module_name"], module["location_name"]),
        "tool.dagster": (project["dagster"]["module_name"], project["dagster"]["code_location_name"]),
        "tool.dg.project": (
            project["dg"]["project"]["code_location_target_module"],
            project["dg"]["project"]["code_location_name"],
        ),
    }


def test_all_configuration_files_name_the_same_module_and_code_location() -> None:
    assert set(configurations().values()) == {("bdc_pipeline.definitions", "bdc_pipeline")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert project["root_module"] == "bdc_pipeline"


def run_tool(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of Dagster in the checkout, with an instance of its own."""
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "bdc_pipeline" / "dagster.yaml").read_text())
    environment: dict[str, Any] = without_variables() | {"DAGSTER_HOME": str(home), "DG_CLI_TELEMETRY_ENABLED": "false"}
    return subprocess.run(
        [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.mark.slow
def test_dg_finds_nothing_wrong_with_the_definitions(tmp_path: Path) -> None:
    done = run_tool(tmp_path / "home", "dg", "check", "defs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr


@pytest.mark.slow
def test_dagster_finds_nothing_wrong_with_the_workspace(tmp_path: Path) -> None:
    done = run_tool(tmp_path / "home", "dagster", "definitions", "validate", "-w", "workspace.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location bdc_pipeline" in done.stdout + done.stderr
