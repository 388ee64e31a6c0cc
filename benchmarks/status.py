"""How long `bdc-pipeline status` takes: `python -m benchmarks.status` (about ten seconds).

A file of Danish homes whose ledger holds 500 partitions of each of its five partitioned tables, a thousand runs and
100,000 rows. Measured are the command as a person runs it, with Python's start, and the reading of the file alone; the best of
several, since machines are noisy.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bdc_pipeline.operations.standing import read_standings
from bdc_pipeline.operations.windows import current
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.sources.properties.checks import WATCHED
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.ledger import TableCounts
from bdc_pipeline.warehouse.store import Store, now_text
from bdc_pipeline.warehouse.stream import Effort

PARTITIONED = (t.PROPERTIES, *t.CHILDREN)


def fill(path: Path, partitions: int, runs: int, rows: int) -> None:
    """Makes the file."""
    now = now_text()
    with Store(path, t.SCHEMA) as store, store.transaction():
        for number in range(runs):
            ledger.begin_run(store, f"run {number}", "properties", now)
            for table in t.TABLES:
                ledger.add_counts(store, f"run {number}", table, TableCounts(fetched=1))
            ledger.end_run(store, f"run {number}", Effort(), 1.0, now)
        for table in PARTITIONED:
            for number in range(partitions):
                values = {"complete": 1, "stored": rows // partitions, "expected": rows // partitions}
                ledger.record_partition(store, table, f"{number:04d}", f"run {runs - 1}", now, values)
        store.connection.executemany(
            "INSERT INTO properties (address_id, municipality_code, last_updated) VALUES (?, ?, ?)",
            ((str(number), number % partitions, now) for number in range(rows)),
        )


def best(work: Callable[[], object], times: int) -> float:
    """The shortest of several, in seconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "properties.db"
        fill(path, given.partitions, given.runs, given.rows)
        environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
        command = [str(Path(sys.executable).parent / "bdc-pipeline"), "status", "properties", "--json"]

        def as_a_person() -> None:
            environment["BDC_DATA_DIR"] = directory
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

        windows = current([WATCHED])
        figures = {
            "partitions": given.partitions * len(PARTITIONED),
            "rows": given.rows,
            "command_seconds": round(best(as_a_person, given.times), 3),
            "reading_seconds": round(
                best(lambda: read_standings(path, WATCHED, windows, dt.datetime.now(dt.UTC)), given.times), 4
            ),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
