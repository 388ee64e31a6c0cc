"""What loading the DMR registries costs in each mode: `python -m benchmarks.dmr` (under a minute).

A sandbox serves the registries in their real sizes, 52,938 records and BrandMeister's talkgroups. Its documents are downloaded
once as they are and once after 1 % of their records has changed; each load is a process of its own: the first, one with
nothing changed, one that reads everything all the same (`--force`), and one of the changed documents. With `--times 10` there
are ten times as many records, for the memory. Memory is the peak above what the imports take.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sandbox import SandboxOptions, running
from bdc_pipeline.sources.dmr.cache import Cache
from bdc_pipeline.sources.dmr.loading import LoadPlan, RegistryStream
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES
from bdc_pipeline.sources.dmr.warm import Warmer, WarmOptions
from bdc_pipeline.warehouse.documents import Kind, Mode, drain_options_for
from bdc_pipeline.warehouse.drain import DrainOptions, drain

MB = 1024 * 1024
DEVICES = 34_200
MODES = (Mode("parallel"), Mode("sequential"), Mode("streaming", 500), Mode("streaming", 2000), Mode("streaming", 5000))
LOADS = ("first", "unchanged", "forced", "changed")


def download(directory: Path, devices: int) -> tuple[Path, Path]:
    """The documents as they are, and with 1 % of their records changed: two caches."""
    before, after = directory / "before", directory / "after"
    options = SandboxOptions(sources=frozenset(REGISTRIES), devices=devices)
    with running(options) as sandbox:
        urls = {name: sandbox.source(name).url for name in REGISTRIES}
        for cache in (before, after):
            with Warmer(Cache(cache), urls, WarmOptions(), Stop()) as warmer:
                failed = [one.problem for one in warmer.warm(FEEDS) if one.action != "downloaded"]
            if failed:
                raise SystemExit(f"The documents could not be downloaded: {failed[0]}")
            for name in REGISTRIES:
                sandbox.source(name).change("change", share=0.01)
    return before, after


def _peak(*, anew: bool = False) -> int:
    """The most memory that this process has held, in bytes; `anew` from now on, where Linux can do that."""
    if anew:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(cache: Path, database: Path, mode: Mode, *, force: bool) -> None:
    """Loads once and prints what it cost as JSON."""
    base, began, cpu = _peak(anew=True), time.perf_counter(), time.process_time()
    stream = RegistryStream(Cache(cache), LoadPlan(REGISTRIES, mode, force=force))
    drained = drain(
        stream, database, str(time.time()), drain_options_for(mode, DrainOptions()), partitions=list(REGISTRIES)
    )
    records = [drained.counts[name] for name in ("repeaters", "talkgroups")]
    told = {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "memory": _peak() - base,
        "records": sum(counts.fetched for counts in records),
        "written": sum(counts.inserted + counts.updated for counts in records),
        "complete": drained.is_complete,
    }
    sys.stdout.write(json.dumps(told))


def load(cache: Path, database: Path, mode: Mode, *, force: bool) -> dict[str, Any]:
    """The same in a process of its own."""
    arguments = ["--child", str(cache), str(database), mode.kind, str(mode.chunk), str(int(force))]
    command = [sys.executable, "-m", "benchmarks.dmr", *arguments]
    return cast("dict[str, Any]", json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def measure(before: Path, after: Path, directory: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Every mode and load, the best of several."""
    for mode in MODES:
        tries: dict[str, list[dict[str, Any]]] = {name: [] for name in LOADS}
        for number in range(repeats):
            database = directory / f"{mode.kind}{mode.chunk}-{number}.db"
            for name, cache, force in (
                ("first", before, False),
                ("unchanged", before, False),
                ("forced", before, True),
                ("changed", after, False),
            ):
                tries[name].append(load(cache, database, mode, force=force))
            database.unlink()
        for name, found in tries.items():
            best = min(found, key=lambda one: one["cpu"])
            chunk = mode.chunk if mode.kind == "streaming" else None
            yield {
                "mode": mode.kind,
                "chunk": chunk,
                "load": name,
                **best,
                "memory": max(one["memory"] for one in found),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="so many times the registries' sizes")
    parser.add_argument("--repeats", type=int, default=3, help="loads of each kind; the best counts")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        cache, database, kind, chunk, force = given.child
        child(Path(cache), Path(database), Mode(cast("Kind", kind), int(chunk)), force=bool(int(force)))
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        before, after = download(directory, DEVICES * given.times)
        print("| mode | load | records | written | wall | CPU | records a second | memory |")
        print("|---|---|---|---|---|---|---|---|")
        found = []
        for one in measure(before, after, directory, given.repeats):
            found.append(one)
            if not one["complete"]:
                raise SystemExit(f"{one['mode']}, {one['load']}: not complete")
            mode = one["mode"] + (f" {one['chunk']:,}" if one["chunk"] else "")
            print(
                f"| {mode} | {one['load']} | {one['records']:,} | {one['written']:,} | {one['wall']:.2f} s | {one['cpu']:.2f} s "
                f"| {one['records'] / one['wall']:,.0f} | {one['memory'] / MB:.0f} MB |",
                flush=True,
            )
    if given.json:
        stamp = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        given.json.write_text(json.dumps({"at": stamp, "times": given.times, "loads": found}, indent=2))


if __name__ == "__main__":
    main()
