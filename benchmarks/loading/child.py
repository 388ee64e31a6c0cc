"""One load by one contestant, in a process of its own so that its memory is its own.

Run as `python -m benchmarks.loading.child CONTESTANT SET-DIRECTORY VERSION DATABASE`; prints what it cost as JSON.

Before the clock starts the contestant loads ten records into another file, which brings in what it imports late. Memory is told
above what the imports take, before that.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import re
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.loading.data_set import DataSet, Load

MB = 1024 * 1024


def measure(load: Load, database: Path, files: Mapping[str, Path], base: int) -> dict[str, float]:
    """Runs a load; memory is above `base`."""
    gc.collect()
    forget_peak()
    cpu, began = cpu_seconds(), time.perf_counter()
    load(database, files)
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    return {"wall": wall, "cpu": cpu, "memory_mb": (peak() - base) / MB}


def cpu_seconds() -> float:
    """What this process has used with all its threads, and its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak() -> int:
    """The most memory that this process has held, in bytes, since `forget_peak` where that is possible."""
    with contextlib.suppress(OSError):
        # not ru_maxrss, which begins with what the parent held when it forked
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def held() -> int:
    """The memory that this process holds, in bytes; where that is not told, the most that it has held."""
    with contextlib.suppress(OSError):
        return _status("VmRSS")
    return peak()


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def forget_peak() -> None:
    """Lets the peak begin anew, on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Measures the contestant that the command line names, as MODULE or MODULE:ARGUMENT."""
    name, _, argument = sys.argv[1].partition(":")
    data, version, database = DataSet.read(Path(sys.argv[2])), sys.argv[3], Path(sys.argv[4])
    module = importlib.import_module(f"benchmarks.loading.{name}")
    gc.collect()
    base = held()
    load: Load = module.loader(data, argument)
    with tempfile.TemporaryDirectory(dir=database.parent) as elsewhere:
        load(Path(elsewhere) / "sample.db", data.files("sample"))
    print(json.dumps(measure(load, database, data.files(version), base)))


if __name__ == "__main__":
    main()
