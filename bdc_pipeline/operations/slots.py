"""Slots of pools that nobody will give back: a step holds its pool's slot until it ends, and one that was killed never does.

The daemon sees to the runs that it has launched (`run_monitoring` in dagster.yaml). Those of the command line run in its own
process, of which the daemon knows nothing; they carry a tag that tells the process, so that the next one can see that it is
gone.
"""

import socket

import dagster as dg
import psutil

PROCESS = "bdc_pipeline/process"
"""The tag of a run in a process of its own: host, process id, and when that process began."""


def process_tag() -> dict[str, str]:
    """The tag of runs in this process."""
    return {PROCESS: _named(psutil.Process())}


def _named(process: psutil.Process) -> str:
    return f"{socket.gethostname()} {process.pid} {process.create_time():.2f}"


def is_gone(tag: str) -> bool:
    """Whether the process that a tag tells has ended. One on another machine cannot be seen, and counts as there."""
    host, _, rest = tag.partition(" ")
    pid = rest.partition(" ")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        return _named(psutil.Process(int(pid))) != tag  # the number may be another process's by now
    except psutil.NoSuchProcess:
        return True


def free_slots_of_the_dead(instance: dg.DagsterInstance) -> list[str]:
    """Ends the runs of processes that are gone, frees what they and finished runs hold, and says so."""
    told = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        if (tag := run.tags.get(PROCESS)) and is_gone(tag):
            instance.report_run_failed(
                run, "The process of this run ended without a word; what it had committed is stored."
            )
            told.append(f"Run {run.run_id[:8]} was under way in a process that is gone; it is marked as failed.")
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        for run_id in storage.get_concurrency_run_ids():
            holder = instance.get_run_by_id(run_id)
            if holder is None or holder.is_finished:
                storage.free_concurrency_slots_for_run(run_id)
    return told


def held_by_others(instance: dg.DagsterInstance, pools: set[str]) -> list[str]:
    """The runs that hold slots of these pools now: a step that needs one waits for them."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return []
    known = pools & set(storage.get_concurrency_keys())
    return sorted({slot.run_id for pool in known for slot in storage.get_concurrency_info(pool).claimed_slots})
