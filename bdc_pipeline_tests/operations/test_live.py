"""Backfills and runs as the daemon launches them: in processes of their own, over a code location that is served."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration

from bdc_pipeline.definitions import AUTOMATIONS, defs
from bdc_pipeline.operations.backfill import Asked, hand_over
from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.sources.properties.places import places
from bdc_pipeline_tests.sources.properties.syncing import Copy, copying
from bdc_pipeline_tests.waiting import until

pytestmark = pytest.mark.slow

SECONDS = 120.0

HOMES = dg.AssetKey(["properties", "properties"])

INSTANCE = """
telemetry: {enabled: false}
code_servers: {wait_for_local_processes_on_shutdown: true}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
concurrency: {pools: {default_limit: 1, granularity: op}}
"""


THERE = "SELECT 1 FROM sqlite_master WHERE name = 'properties'"


@dataclass
class Deployment:
    """A copy that is kept by an instance whose runs have processes of their own."""

    copy: Copy
    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def launched(self, first: str, last: str) -> str:
        """A run over municipalities, as a schedule launches it; its id."""
        location = self.workspace.create_request_context().get_code_location("bdc_pipeline")
        repository = location.get_repository("__repository__")
        remote = repository.get_full_job("refresh_properties")
        plan = location.get_execution_plan(remote, {}, None, None, self.instance)
        run = self.instance.create_run(
            job_name="refresh_properties",
            run_id=None,
            run_config={},
            status=dg.DagsterRunStatus.NOT_STARTED,
            tags={RANGE_START: first, RANGE_END: last},
            root_run_id=None,
            parent_run_id=None,
            step_keys_to_execute=None,
            execution_plan_snapshot=plan.execution_plan_snapshot,
            job_snapshot=remote.job_snapshot,
            parent_job_snapshot=remote.parent_job_snapshot,
            asset_selection=None,
            asset_check_selection=None,
            resolved_op_selection=None,
            op_selection=None,
            remote_job_origin=remote.get_remote_origin(),
            job_code_origin=remote.get_python_origin(),
            asset_graph=repository.asset_graph,
        )
        self.instance.launch_run(run.run_id, self.workspace.create_request_context())
        return run.run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def backfilled(self, backfill_id: str) -> PartitionBackfill:
        """The backfill when the daemon has carried it out."""

        def over() -> PartitionBackfill | None:
            for error in execute_backfill_iteration(self.workspace, logging.getLogger("backfill")):
                assert error is None, error
            found = self.instance.get_backfill(backfill_id)
            assert found is not None
            return found if found.status is not BulkActionStatus.REQUESTED else None

        found: PartitionBackfill = until(over, "the backfill is not over", seconds=SECONDS)
        return found

    def runs_of(self, backfill_id: str) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter.for_backfill(backfill_id)))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A sandbox, an instance on the disk and a served code location, for all tests here."""
    root = tmp_path_factory.mktemp("live")
    home: Path = root / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE)
    with ExitStack() as stack:
        copy = stack.enter_context(copying(root, homes=720))
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        target = ModuleTarget(
            "bdc_pipeline.definitions", None, str(Path(__file__).parents[2]), location_name="bdc_pipeline"
        )
        workspace = stack.enter_context(create_test_daemon_workspace_context(target, instance))
        yield Deployment(copy, instance, workspace)


def materialized(live: Deployment) -> set[str]:
    return set(live.instance.get_materialized_partitions(HOMES))


def test_of_a_backfill_in_which_one_fails_exactly_that_one_is_done_again(live: Deployment) -> None:
    groups = AUTOMATIONS["properties"].GROUPS
    codes = ["0101", "0147", "0151", "0153"]
    live.copy.sandbox.configure(faults=["403@municipality=Frederiksberg"])
    first = hand_over(live.instance, groups, Asked(first=codes[0], last=codes[-1]))
    assert first is not None
    failed = live.backfilled(first.backfill_id)
    # neighbours are one run
    assert [run.status for run in live.runs_of(first.backfill_id)] == [dg.DagsterRunStatus.FAILURE]
    assert materialized(live) & set(codes) == {"0101", "0151", "0153"}
    subset = failed.get_asset_backfill_data(defs.resolve_asset_graph()).failed_and_downstream_subset
    [partitions] = {tuple(of.get_partition_keys()) for of in subset.partitions_subsets_by_asset_key.values()}
    assert partitions == ("0147",)

    live.copy.sandbox.configure(faults=[])
    live.copy.sandbox.reset_stats()
    second = hand_over(live.instance, groups, Asked(first=codes[0], last=codes[-1], missing=True))
    assert second is not None
    assert second.partitions == {"homes": ["0147"]}
    assert live.backfilled(second.backfill_id).status is BulkActionStatus.COMPLETED_SUCCESS
    assert materialized(live) >= set(codes)
    assert live.copy.one("SELECT count(*) FROM properties WHERE municipality_code = 147") > 0
    assert hand_over(live.instance, groups, Asked(first=codes[0], last=codes[-1], missing=True)) is None


def test_a_run_that_is_terminated_keeps_what_it_committed_and_the_next_sync_goes_on(live: Deployment) -> None:
    between = [code for code in places() if "0155" <= code <= "0350"]
    # what comes last never comes, so that the run cannot be over when it is terminated
    live.copy.sandbox.configure(faults=[f"stall~seconds=3600@municipality={places()[between[-1]].name}"])
    run_id = live.launched(between[0], between[-1])
    stored = "SELECT count(*) FROM properties WHERE municipality_code BETWEEN 155 AND 350"
    until(
        lambda: live.copy.path.exists() and live.copy.query(THERE) and live.copy.one(stored),
        "nothing was committed",
        seconds=SECONDS,
    )
    assert live.instance.run_launcher.terminate(run_id)
    until(lambda: live.status(run_id) is dg.DagsterRunStatus.CANCELED, "the run did not end", seconds=SECONDS)
    kept = live.copy.one(stored)
    assert kept > 0
    assert live.copy.one("PRAGMA integrity_check") == "ok"
    assert not materialized(live) >= set(between), "it was terminated before its end"
    # no slot of the pool stays taken
    storage = live.instance.event_log_storage
    assert not any(storage.get_concurrency_info(pool).claimed_slots for pool in storage.get_concurrency_keys())

    live.copy.sandbox.configure(faults=[])
    assert live.copy.sync(partitions=tuple(between)).complete
    assert live.copy.one(stored) >= kept
    homes = {row[0] for row in live.copy.query(stored.replace("count(*)", "address_id"))}
    assert homes == live.copy.homes(codes=tuple(map(int, between)))
