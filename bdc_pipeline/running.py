"""Running a source's assets from the command line: the same assets, ops and I/O manager that the UI runs.

A sync is a few Dagster runs in this process, one after the other, since assets of different partitions cannot share
one. They have one entry in the ledger, from which the report is made. With DAGSTER_HOME set they are recorded there.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import logging
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError  # has no public name
from dagster_shared.error import SerializableErrorInfo

from bdc_pipeline import settings
from bdc_pipeline.operations.slots import free_slots_of_the_dead, held_by_others, process_tag
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.ledger import Failure, SyncReport, TableCounts
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store, StoreError, now_text
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline.warehouse.table import Table

LOG = logging.getLogger("bdc_pipeline")

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

SLOT_SECONDS = 0.5
"""How often a sync that waits for another run looks whether it has ended."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Assets that are materialized in one go.

    Args:
        name: how it is called in messages and on the progress display.
        assets: their definition.
        partitions_def: their partitions; None for assets without.
        keys: the partitions to materialize, or what tells them once the stages before are done; dynamic ones are registered where
            they are new.
        config: the configuration of their ops.
    """

    name: str
    assets: dg.AssetsDefinition
    partitions_def: dg.PartitionsDefinition[str] | None = None
    keys: Sequence[str] | Callable[[], Sequence[str]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


class Interrupted(Exception):  # noqa: N818  (the user's wish, not an error)
    """The user stopped the sync; what had arrived is stored. Carries the report of what was done."""

    def __init__(self, report: SyncReport) -> None:
        super().__init__("interrupted")
        self.report = report


def contiguous(order: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """The wanted partitions as ranges of neighbours, first and last of each: one run can do one range."""
    chosen, ranges = set(wanted), list[tuple[str, str]]()
    previous_chosen = False
    for key in order:
        if key in chosen:
            ranges = [*ranges[:-1], (ranges[-1][0], key)] if previous_chosen else [*ranges, (key, key)]
        previous_chosen = key in chosen
    return ranges


def prepare_home(path: Path) -> None:
    """Makes a directory for Dagster's instance, with the project's dagster.yaml where it has none.

    Raises:
        SettingsError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "dagster.yaml").exists():
            source = importlib.resources.files("bdc_pipeline") / "dagster.yaml"
            with importlib.resources.as_file(source) as shipped:
                shutil.copyfile(shipped, path / "dagster.yaml")
    except OSError as error:
        raise settings.SettingsError(f"DAGSTER_HOME '{path}' cannot be used ({error.strerror or error}).") from None


@contextlib.contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    """Holds a lock on the directory, which goes with the process however that ends.

    Several processes that open an empty instance at once corrupt it for good: each creates Dagster's tables.
    """
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(home / ".opening", timeout=60, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


@contextlib.contextmanager
def dagster_instance(home: Path | None = None) -> Iterator[dg.DagsterInstance]:
    """The instance of a directory, or of DAGSTER_HOME where none is given, or one in memory that is gone afterwards.

    Raises:
        SettingsError: the directory cannot be used.
    """
    home = home or settings.dagster_home()
    if home is None:
        with dg.DagsterInstance.ephemeral() as instance:
            _keep_no_events_of_partitions(instance)
            yield instance
        return
    try:
        with _alone_in(home):
            prepare_home(home)
            instance = dg.DagsterInstance.from_config(str(home))
    except settings.SettingsError:
        raise
    except Exception as error:  # noqa: BLE001  (YAML's, SQLAlchemy's, Alembic's: whatever Dagster's storage raises)
        raise settings.SettingsError(f"DAGSTER_HOME '{home}' cannot be used: {error}") from None
    with instance:
        yield instance


def _keep_no_events_of_partitions(instance: dg.DagsterInstance) -> None:
    """Lets an instance in memory forget that partitions are to be, and are, materialized.

    Nobody can ask it: it is gone after the sync, of which the ledger tells. To store the two events of each partition of each table took
    3 to 4 ms, which was 1.8 of 2.3 s of a sync of 49 days that found nothing new.
    """
    storage = instance.event_log_storage
    store_event = storage.store_event

    def store(event: dg.EventLogEntry) -> None:
        if event.dagster_event_type not in _OF_PARTITIONS:
            store_event(event)

    setattr(storage, "store_event", store)  # noqa: B010  (a class of its own needs six modules of Dagster's that are private)


_OF_PARTITIONS = frozenset(
    {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
)


def run_stages(
    stages: Sequence[Stage],
    schema: Schema,
    path: Path,
    resources: Callable[[str, str], Mapping[str, Any]],
    *,
    before: Effort,
    started: float,
    problems: Sequence[Failure] = (),
    tables: Sequence[Table] = (),
    restricted: bool = False,
) -> SyncReport:
    """Materializes stages one after the other and reports what came of it.

    Args:
        stages: what to materialize; one that fails does not stop those after it.
        schema: of the source.
        path: its database file.
        resources: makes the resources for a run of the ledger and a stage's name.
        before: requests made before, to find out what there is.
        started: `time.monotonic()` when the sync began.
        problems: what has failed before.
        tables: those that the report speaks of, whether a stage came to them or not.
        restricted: less than everything was asked for, so that this is no sync of the whole.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
        SettingsError, StoreError: Dagster's directory or the file cannot be used.
    """
    run_id = str(uuid.uuid4())
    failures = list(problems)
    if not stages and not failures:
        failures.append(Failure("sync", "nothing was asked for"))
    conclude = partial(_report, schema, path, run_id, failures, before, started, tables, restricted=restricted)
    try:
        # the file is held open: when the last connection closes, SQLite moves all of its log into it, and each stage would wait
        with dagster_instance() as instance, Store(path, schema) as store:
            _announce(store, run_id, schema, tables)
            for stage in stages:
                failures += _run_stage(stage, instance, resources(run_id, stage.name))
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        failures.insert(
            0, Failure("sync", "interrupted: what had arrived is stored, the rest comes with the next sync")
        )
        raise Interrupted(conclude()) from None
    return conclude()


def _announce(store: Store, run_id: str, schema: Schema, tables: Sequence[Table]) -> None:
    """Notes what a sync is to come to: one that is killed between two stages would leave no trace of those it did not reach."""
    with store.transaction():
        ledger.begin_run(store, run_id, schema.source, now_text())
        for table in tables:
            ledger.add_counts(store, run_id, table, TableCounts())


def _run_stage(stage: Stage, instance: dg.DagsterInstance, resources: Mapping[str, Any]) -> list[Failure]:
    if stage.partitions_def is None:
        return _materialize(stage, instance, resources, {})
    keys = stage.keys() if callable(stage.keys) else stage.keys
    ranges = contiguous(_registered(stage.partitions_def, keys, instance), keys)
    return [
        failure
        for first, last in ranges
        for failure in _materialize(stage, instance, resources, {RANGE_START: first, RANGE_END: last})
    ]


def _registered(
    definition: dg.PartitionsDefinition[str], keys: Sequence[str], instance: dg.DagsterInstance
) -> Sequence[str]:
    """All partitions in their order, with those of a sync among them."""
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        name = str(definition.name)
        known = set(instance.get_dynamic_partitions(name))
        instance.add_dynamic_partitions(name, [key for key in keys if key not in known])
    if isinstance(definition, dg.TimeWindowPartitionsDefinition) and keys:
        # of thousands of days, those of the sync: naming all of them took 40 ms a stage
        return definition.get_partition_keys_in_range(dg.PartitionKeyRange(min(keys), max(keys)))
    return definition.get_partition_keys(dynamic_partitions_store=instance)


def _materialize(
    stage: Stage, instance: dg.DagsterInstance, resources: Mapping[str, Any], tags: Mapping[str, str]
) -> list[Failure]:
    """Runs a stage; returns what failed in a step before or after its drain, which the ledger does not know."""
    _wait_for_slots(stage, instance)
    result = dg.materialize(
        [stage.assets],
        instance=instance,
        resources=resources,
        tags={**tags, **process_tag()},
        run_config={
            "ops": {stage.assets.node_def.name: {"ops": dict(stage.config)}} if stage.config else {},
            # the command line has a log of its own
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )
    found = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        failure = event.step_failure_data
        if failure.error_source.name == "INTERRUPT":
            raise KeyboardInterrupt  # Dagster took it for this run's alone; it was meant for the whole sync
        told = failure.user_failure_data
        if told is not None and "told_in_ledger" in (told.metadata or {}):
            continue
        found.append(Failure(stage.name, str(told.description).strip() if told else cause_of(failure.error)))
    if not result.success and not any(event.is_step_failure for event in result.all_events):
        # before its steps or between them: a resource, or Dagster's own storage
        failures = [event.job_failure_data for event in result.all_events if event.is_run_failure]
        found.append(Failure(stage.name, cause_of(failures[0].error if failures else None)))
    return found


def _wait_for_slots(stage: Stage, instance: dg.DagsterInstance) -> None:
    """Waits until no other run holds what the stage's steps need. In a run Dagster waits too, but then Ctrl-C is not heard."""
    pools = {definition.pool for definition in stage.assets.node_def.iterate_op_defs() if definition.pool}
    told: list[str] = []
    while True:
        for text in free_slots_of_the_dead(instance):
            LOG.warning("%s", text)
        others = held_by_others(instance, pools)
        if not others:
            return
        if others != told:
            LOG.info("%s: waits for run %s, which is at the same source", stage.name, ", ".join(o[:8] for o in others))
            told = others
        time.sleep(SLOT_SECONDS)


def cause_of(error: SerializableErrorInfo | None) -> str:
    """What is behind an error that nobody foresaw: Dagster wraps it. Its traceback goes to the log."""
    if error is None:
        return "failed"
    LOG.debug("%s", error.to_string())
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


def _not_reached(store: Store, run_id: str, tables: Sequence[Table]) -> list[Table]:
    """The tables whose fetch did not come to its end in a run."""
    (began,) = store.connection.execute("SELECT started_at FROM _runs WHERE run_id = ?", (run_id,)).fetchone()
    ends = dict(store.connection.execute("SELECT key, value FROM metadata WHERE key GLOB '*_last_sync'"))
    return [table for table in tables if ends.get(f"{table.name}_last_sync", "") < began]


def _report(
    schema: Schema,
    path: Path,
    run_id: str,
    failures: Sequence[Failure],
    before: Effort,
    started: float,
    tables: Sequence[Table],
    *,
    restricted: bool,
) -> SyncReport:
    """Concludes the run in the ledger and reads its report there, so that the two say the same."""
    now = now_text()
    with Store(path, schema) as store:
        known = ledger.failures_of(store.connection, run_id)
        with store.transaction():
            ledger.conclude_run(store, run_id, schema.source, failures, before, now)
            for table in tables:
                ledger.add_counts(store, run_id, table, TableCounts())
            ledger.forget_expected(store, run_id, _not_reached(store, run_id, tables))
        report = ledger.report_of(store.connection, run_id)
        if report is None:
            raise StoreError(f"{path} holds no entry of this run; was it replaced meanwhile?")
        if report.complete and not restricted:
            with store.transaction():
                ledger.set_metadata(store, {"last_complete_sync": now}, now)
    report.seconds = round(time.monotonic() - started, 3)
    report.failures = [*failures, *known]
    return report
