"""How near a Sonar sync comes to the physical limit: `python -m benchmarks.sonar` (about three minutes).

A sandbox in a process of its own answers each request after a fixed latency. The ideal time of a stage is the time
that its requests take when all workers are always busy: ceil(requests / workers) x latency. Machines are noisy, so
what counts is the ratio within one run. Memory is the peak above what the imports take.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sandbox import SandboxOptions, running
from bdc_pipeline.sources.assembly import read_states
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.assets import SonarResource
from bdc_pipeline.sources.sonar.plan import Plan, SyncOptions, discover_blocks, make_plan, plan_lookups
from bdc_pipeline.sources.sonar.stream import SonarStream
from bdc_pipeline.warehouse.drain import drain
from bdc_pipeline.warehouse.table import Table

MB = 1024 * 1024


def stages(database: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Plans and fetches the three groups of tables, and tells of each what it cost."""
    sonar, stop = SonarResource(workers=workers), Stop()
    groups: list[tuple[str, tuple[e.Entity, ...], tuple[Table, ...]]] = [
        ("lookups", e.LOOKUPS, t.LOOKUPS),
        ("customers", e.OF_CUSTOMERS, t.OF_CUSTOMERS),
        ("inventory", e.OF_INVENTORY, t.OF_INVENTORY),
    ]
    for name, entities, tables in groups:
        began = time.perf_counter()
        client = sonar.client(stop)
        with closing(client.session):
            blocks: list[str] | None = None
            if name == "lookups":
                plan: Plan = plan_lookups(client, entities)
            else:
                blocks = discover_blocks(client, entities, workers, stop)
                states = read_states(database, t.SCHEMA, tables)
                now = dt.datetime.now(dt.UTC)
                plan = make_plan(client, entities, blocks, states, SyncOptions(), workers=workers, stop=stop, now=now)
            planned, asked = time.perf_counter(), client.effort().requests
            stream = SonarStream(client, plan, tables, page_size=100, workers=workers, stop=stop)
            drained = drain(stream, database, f"{name} {began}", partitions=blocks)
            yield {
                "stage": name,
                "plan_seconds": planned - began,
                "plan_requests": asked,
                "fetch_seconds": time.perf_counter() - planned,
                "fetch_requests": client.effort().requests - asked,
                "rows": sum(counts.fetched for counts in drained.counts.values()),
                "written": sum(c.inserted + c.updated + c.vanished for c in drained.counts.values()),
                "complete": drained.is_complete,
            }


def _peak() -> int:
    """The most memory that this process has held, in bytes; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(database: Path, workers: int) -> None:
    """Runs one sync and prints what it cost as JSON: a process of its own, so that memory is its own."""
    base = _peak()  # so far: the imports
    cpu, began = time.process_time(), time.perf_counter()
    found = list(stages(database, workers))
    peak = _peak()
    print(
        json.dumps(
            {
                "stages": found,
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu,
                "memory_mb": (peak - base) / MB,
            }
        )
    )


def measure(database: Path, url: str, token: str, workers: int) -> dict[str, Any]:
    """One sync in a process of its own."""
    environment = {**os.environ, "SONAR_URL": url, "SONAR_TOKEN": token}
    arguments = [sys.executable, "-m", "benchmarks.sonar", "--child", str(database), "--workers", str(workers)]
    output = subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def totals(run: dict[str, Any], latency: float, workers: int) -> dict[str, float]:
    """Sums over a run's stages, with the ideal time of its fetches."""
    of = run["stages"]
    return {
        "requests": sum(s["fetch_requests"] + s["plan_requests"] for s in of),
        "fetch_requests": sum(s["fetch_requests"] for s in of),
        "fetch": sum(s["fetch_seconds"] for s in of),
        "ideal": sum(math.ceil(s["fetch_requests"] / workers) * latency for s in of),
        "rows": sum(s["rows"] for s in of),
        "written": sum(s["written"] for s in of),
        "complete": all(s["complete"] for s in of),
    }


def report(title: str, run: dict[str, Any], latency: float, workers: int) -> dict[str, float]:
    """Prints a run as a row and returns its sums."""
    s = totals(run, latency, workers)
    share = f"{s['fetch'] / s['ideal']:.2f}" if s["ideal"] else "-"
    print(
        f"{title:<22}{s['requests']:>9,.0f}{s['rows']:>10,.0f}{s['written']:>10,.0f}{run['seconds']:>9.1f}{s['fetch']:>9.1f}"
        f"{s['ideal']:>9.1f}{share:>8}{run['cpu_seconds']:>8.1f}{run['memory_mb']:>8.0f}"
        f"{'' if s['complete'] else '   INCOMPLETE'}"
    )
    return s


def main() -> None:
    """Prints the figures as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=100)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--large", action="store_true", help="also the large scale, at 5 ms (two more minutes)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.workers)
        return
    print(
        f"{'':<22}{'requests':>9}{'records':>10}{'written':>10}{'wall s':>9}{'fetch s':>9}{'ideal s':>9}{'ratio':>8}{'CPU s':>8}"
        f"{'MB':>8}"
    )
    latency, workers = given.latency_ms / 1000, given.workers
    with tempfile.TemporaryDirectory() as directory:
        with running(SandboxOptions(scale="medium", latency_ms=given.latency_ms)) as sandbox:
            path = Path(directory) / "medium.db"
            ask = (path, sandbox.sonar_url, sandbox.token, workers)
            first = report("medium, first sync", measure(*ask), latency, workers)
            second = report("medium, second sync", measure(*ask), latency, workers)
            sandbox.change(share=0.01)
            third = report("medium, 1 % changed", measure(*ask), latency, workers)
        for scale, pause in (("small", 5.0), ("medium", 5.0), *((("large", 5.0),) if given.large else ())):
            with running(SandboxOptions(scale=scale, latency_ms=pause)) as sandbox:
                path = Path(directory) / f"memory-{scale}.db"
                run = measure(path, sandbox.sonar_url, sandbox.token, workers)
                report(f"{scale}, {pause:.0f} ms", run, pause / 1000, workers)
    print(
        f"\nrequests of the first sync: second {second['requests'] / first['requests']:.1%}, "
        f"1 % changed {third['requests'] / first['requests']:.1%}"
    )


if __name__ == "__main__":
    main()
