"""How few requests a copy of Danish homes takes, and how near it comes to the physical limit: `python -m benchmarks.properties`
(about four minutes).

A sandbox in a process of its own answers each request after a fixed latency, without a rate limit. Each sync is a process of its own
too, runs the same Dagster assets as the command line, and is compared home by home with what the sandbox holds.

The ideal: requests depend on each other (a list is counted before it is divided, divided before its parts are read), so their time
is more than ceil(requests / workers) x latency. It is what a clock says that sends each request of the sync as soon as the answer
which led to it is there and a worker is free, and answers it after the latency, with no time spent on anything else. What is
measured against it is the time from the first request sent to the last answer read. Numbers asked for on their own (`again
without`) have no such chain and no ideal.

The original makes one request a home: 14,368 for København's villas. CPU is a whole sync's, Dagster's start and the file included.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running
from bdc_pipeline.sources.properties import asking, assets, command
from bdc_pipeline.sources.properties.picture import price_picture, prices_of
from bdc_pipeline.sources.properties.places import places
from bdc_pipeline.sources.properties.walk import Ask, Walk
from bdc_pipeline.warehouse.drain import DrainOptions

ORIGINAL_REQUESTS = 14_368
"""What the original importer sends for København's villas: one request a home."""

ORIGINAL_RATE = 10.0
"""Homes a second that its documents tell, with 12 workers."""

PICTURED = ("Gentofte", "København", "Roskilde", "Holbæk")


# -- one sync, in a process of its own -------------------------------------------------------------------------


class Timed:
    """Notes when each request was sent and answered, and which answer led to it."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        self.causes: dict[int, int | None] = {}
        self._cause_of: dict[int, int] = {}
        self._kept: list[Ask] = []

    def install(self) -> None:
        """Wraps what asks for pages and what decides on further ones."""
        page, arrived, begin = asking.Asking.page, Walk.arrived, Walk.begin

        def timed_page(this: asking.Asking, visiting: Any, ask: Ask) -> asking.Fetched:
            began = time.perf_counter()
            try:
                return page(this, visiting, ask)
            finally:
                self.spans.append((began, time.perf_counter()))

        def noted_begin(this: Walk) -> list[Ask]:
            return self._note(begin(this), None)

        def noted_arrived(this: Walk, ask: Ask, *arguments: Any) -> tuple[set[str], list[Ask]]:
            fresh, asks = arrived(this, ask, *arguments)
            return fresh, self._note(asks, self._cause_of.get(id(ask)))

        asking.Asking.page = timed_page  # type: ignore[method-assign, assignment]
        Walk.begin = noted_begin  # type: ignore[method-assign, assignment]
        Walk.arrived = noted_arrived  # type: ignore[method-assign, assignment]

    def _note(self, asks: list[Ask], cause: int | None) -> list[Ask]:
        for ask in asks:
            if id(ask) in self._cause_of:
                continue
            number = len(self.causes)
            self.causes[number] = cause
            self._cause_of[id(ask)] = number
            self._kept.append(ask)  # an id is unique only as long as its object lives
        return asks

    def seconds(self) -> float:
        """From the first request to the last answer."""
        return max(end for _, end in self.spans) - min(began for began, _ in self.spans)


def ideal_seconds(causes: dict[int, int | None], workers: int, latency: float) -> float:
    """How long the requests take when each is sent as soon as the answer that leads to it is there and a worker is free.

    Args:
        causes: by request, the one whose answer led to it; in the order in which they became known.
        workers: requests at the same time.
        latency: seconds from a request to its answer.
    """
    followers: dict[int | None, list[int]] = {}
    for request, cause in causes.items():
        followers.setdefault(cause, []).append(request)
    waiting = list(followers.get(None, ()))
    under_way: list[tuple[float, int]] = []
    now = 0.0
    while waiting or under_way:
        while waiting and len(under_way) < workers:
            heapq.heappush(under_way, (now + latency, waiting.pop(0)))
        now, ended = heapq.heappop(under_way)
        waiting += followers.get(ended, ())
        waiting.sort()
    return now


def child(database: Path, arguments: argparse.Namespace) -> None:
    """Runs one sync and prints what it cost as JSON."""
    timed = Timed()
    timed.install()
    asked = command.PropertiesSync(
        database=database,
        resource=assets.BoligsidenResource(workers=arguments.workers),
        config=assets.PropertiesSyncConfig(force=arguments.force, address_types=arguments.types or []),
        drain=DrainOptions(),
        partitions=tuple(arguments.partitions or ()),
    )
    cpu, began = time.process_time(), time.monotonic()
    report = command.sync(asked, lambda _stage, _progress: None, began)
    seconds = timed.seconds() if timed.spans else 0.0
    print(
        json.dumps(
            {
                "complete": report.complete,
                "failures": [f"{failure.unit}: {failure.error}" for failure in report.failures],
                "requests": report.requests,
                "seconds": report.seconds,
                "fetch_seconds": seconds,
                "ideal_seconds": ideal_seconds(timed.causes, arguments.workers, arguments.latency_ms / 1000),
                "cpu_seconds": time.process_time() - cpu,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "homes": report.tables["properties"].fetched,
                "inserted": sum(counts.inserted for counts in report.tables.values()),
                "updated": {name: counts.updated for name, counts in report.tables.items() if counts.updated},
                "vanished": sum(counts.vanished for counts in report.tables.values()),
            }
        )
    )


def measure(sandbox: Sandbox, database: Path, *arguments: str) -> dict[str, Any]:
    """One sync in a process of its own, without a rate limit."""
    environment = {
        **os.environ,
        "BOLIGSIDEN_URL": sandbox.source("boligsiden").url,
        "BOLIGSIDEN_REQUESTS_PER_SECOND": "99999",
    }
    environment.pop("DAGSTER_HOME", None)
    latency = str(sandbox.options.latency_ms)
    command_line = [sys.executable, "-m", "benchmarks.properties", "--child", str(database), "--latency-ms", latency]
    output = subprocess.run([*command_line, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return found


# -- what came of it -------------------------------------------------------------------------------------------


def wrong_rows(sandbox: Sandbox, database: Path, kinds: Iterable[str | None], codes: Iterable[int]) -> int:
    """How many homes are missing, too many or other than the sandbox has them, as far as the figures that change are concerned."""
    wanted_kinds, wanted_codes = set(kinds), set(codes)
    columns = ["addressID", "addressType", "municipalityCode", "zipCode", "livingArea", "latestValuation", "casePrice"]
    truth = {
        tuple(row)
        for row in sandbox.source("boligsiden").rows("Address", columns)
        if row[1] in wanted_kinds and row[2] in wanted_codes
    }
    with closing(sqlite3.connect(database)) as connection:
        found = set(
            connection.execute(
                "SELECT address_id, address_type, municipality_code, zip_code, living_area, latest_valuation, case_price "
                "FROM live_properties"
            )
        )
    return len(truth ^ found)


def parts_of(database: Path) -> list[tuple[int | None, int]]:
    """København's villas by zip code, as they are stored."""
    with closing(sqlite3.connect(database)) as connection:
        sql = "SELECT zip_code, count(*) FROM live_properties WHERE municipality_code = 101 GROUP BY 1 ORDER BY 2 DESC"
        return connection.execute(sql).fetchall()


def row(title: str, run: dict[str, Any], wrong: int | None) -> dict[str, Any]:
    """Prints a run as a row and returns it with its name."""
    ideal, fetch = run["ideal_seconds"], run["fetch_seconds"]
    share = f"{ideal / fetch:.0%}" if fetch and ideal else "-"
    rate = run["homes"] / fetch if fetch else 0.0
    written = run["inserted"] + sum(run["updated"].values()) + run["vanished"]
    print(
        f"{title:<34}{run['requests']:>9,}{run['homes']:>9,}{written:>9,}{'-' if wrong is None else wrong:>7}{fetch:>9.1f}"
        f"{ideal:>9.1f}{share:>7}{rate:>9,.0f}{run['cpu_seconds']:>8.1f}{run['memory_mb']:>7.0f}"
        f"{'' if run['complete'] else '   INCOMPLETE: ' + '; '.join(run['failures'][:3])}",
        flush=True,
    )
    return {"run": title, **run, "wrong_rows": wrong}


def main() -> None:
    """Prints the figures as a table, and with --json as JSON behind it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--latency-ms", type=float, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="write the picture of prices as SVG to this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--types", action="append", help=argparse.SUPPRESS)
    parser.add_argument("--partitions", action="append", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given)
        return
    if given.picture:
        picture(given.picture)
        return
    runs = benchmark(given.workers, given.latency_ms)
    if given.json:
        print(json.dumps(runs))


def picture(path: Path) -> None:
    """The picture of prices, from generated data."""
    with tempfile.TemporaryDirectory() as directory, running(_options("small", 0, 20_000)) as sandbox:
        database = Path(directory) / "properties.db"
        measure(sandbox, database)
        with closing(sqlite3.connect(database)) as connection:
            prices = prices_of(connection)
    shown = {name: prices[name] for name in PICTURED if name in prices}
    path.write_text(price_picture(shown, "Median price per m² in normal sales (generated data)") + "\n")


def _options(scale: Any, latency_ms: float, homes: int | None = None) -> SandboxOptions:
    return SandboxOptions(sources=frozenset({"boligsiden"}), scale=scale, latency_ms=latency_ms, homes=homes)


def benchmark(workers: int, latency_ms: float) -> list[dict[str, Any]]:
    """All runs, each printed as it ends."""
    titles = ("requests", "homes", "written", "wrong", "fetch s", "ideal s", "ideal", "homes/s", "CPU s", "MB")
    widths = (9, 9, 9, 7, 9, 9, 7, 9, 8, 7)
    print(f"{'':<34}" + "".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True)), flush=True)
    runs = []
    everywhere = [place.number for place in places().values()]
    with tempfile.TemporaryDirectory() as directory, running(_options("medium", latency_ms)) as sandbox:
        alone, whole = Path(directory) / "alone.db", Path(directory) / "whole.db"
        ask = ("--workers", str(workers))
        run = measure(sandbox, alone, *ask, "--partitions", "0101")
        runs.append(row("København's villas", run, wrong_rows(sandbox, alone, ["villa"], [101])))
        parts = parts_of(alone)
        first = measure(sandbox, whole, *ask)
        runs.append(row("36 municipalities, first sync", first, wrong_rows(sandbox, whole, ["villa"], everywhere)))
        forced = measure(sandbox, whole, *ask, "--force")
        runs.append(row("again with --force", forced, wrong_rows(sandbox, whole, ["villa"], everywhere)))
        runs.append(row("again without", measure(sandbox, whole, *ask), None))
        changed = len(sandbox.source("boligsiden").change("change", share=0.01))
        third = measure(sandbox, whole, *ask, "--force")
        runs.append(row("1 % changed, --force", third, wrong_rows(sandbox, whole, ["villa"], everywhere)))
        everything = measure(sandbox, Path(directory) / "all.db", *ask, "--types", "all", "--partitions", "0101")
        runs.append(row("København, all types", everything, None))
    alone_requests = runs[0]["requests"]
    print(
        f"\nKøbenhavn's villas by zip code: {' + '.join(f'{count:,}' for _, count in parts)} = {sum(c for _, c in parts):,}"
    )
    print(
        f"requests for København's villas: {alone_requests:,}, 1/{ORIGINAL_REQUESTS / alone_requests:.1f} of the original's "
        f"{ORIGINAL_REQUESTS:,}"
    )
    print(f"CPU of the second run with --force: {forced['cpu_seconds'] / first['cpu_seconds']:.0%} of the first's")
    print(f"homes changed: {changed} of all types; rows updated: {third['updated']}")
    print(f"the original's rate: {ORIGINAL_RATE:g} homes a second")
    return runs


if __name__ == "__main__":
    main()
