"""A database on a slow share, directly and with a cache: `python -m benchmarks.share` (half a minute; needs FUSE).

A FUSE mount stands for the share: each operation takes 20 ms, as on a network with that round trip. The same statements run on
the file on the mount, as programs do without a cache, and on the cache. Then: what a sync costs, how many bytes a change
takes beside a copy of the whole file, and how fast the cache is while the share is slow, hung and gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bdc_pipeline.share.database import SharedDatabase
from bdc_pipeline.share.service import Service
from bdc_pipeline.share.status import size
from bdc_pipeline_tests.share.fuse import FuseShare, why_not

READ = "SELECT * FROM stock WHERE id = ?"
WRITE = "UPDATE stock SET quantity = quantity + 1 WHERE id = ?"
SCATTERED = 500


def make(path: Path, rows: int) -> None:
    """The database as an older program has made it."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, place TEXT, quantity INTEGER)")
        values = ((number, f"thing number {number}", f"shelf {number % 97}", number) for number in range(rows))
        connection.executemany("INSERT INTO stock VALUES (?, ?, ?, ?)", values)


def median_ms(action: Callable[[int], object], times: int) -> float:
    """How long something takes in the middle of many times, in milliseconds."""
    taken = []
    for number in range(times):
        began = time.perf_counter()
        action(number * 37)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def directly(path: Path, times: int) -> dict[str, float]:
    """Reads and writes of programs that open the file on the share, each with a connection of its own, as they come and go."""

    def execute(sql: str, parameters: tuple[int, ...]) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            connection.execute(sql, parameters).fetchall()

    def scatter(first: int) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            connection.executemany(WRITE, [(first + number * 39,) for number in range(SCATTERED)])

    return {
        "read": median_ms(lambda number: execute(READ, (number,)), times),
        "write": median_ms(lambda number: execute(WRITE, (number,)), times),
        "500 rows": median_ms(scatter, 1),
    }


def cached(path: Path, times: int) -> dict[str, float]:
    """The same on the cache, by programs that know nothing of it."""
    return directly(path, times)


def syncs(ann: Service, bob: Service, share: FuseShare) -> dict[str, dict[str, float]]:
    """What an idle sync, a push of 500 scattered rows and their pull cost."""
    share.operations()
    found: dict[str, dict[str, float]] = {}
    for name, service in (("idle", ann), ("push", ann), ("pull", bob)):
        if name == "push":
            with contextlib.closing(sqlite3.connect(ann.path)) as connection, connection:
                connection.executemany(WRITE, [(number * 39,) for number in range(SCATTERED)])
        done = service.sync(forced=False, view=False)
        found[name] = {
            "ms": done.milliseconds,
            "operations": sum(share.operations().values()),
            "bytes": done.bytes_in if name == "pull" else done.bytes_out,
            "rows": done.rows_out + done.rows_in,
        }
    return found


@contextlib.contextmanager
def user(app_db: Path, folder: Path, name: str, **given: Any) -> Iterator[SharedDatabase]:
    """A user with a cache of their own."""
    with SharedDatabase(app_db, enable_cache=True, cache_directory=folder / name, user=name, **given) as database:
        yield database


def measure(rows: int, delay: float, times: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="bdc-bench-share-") as named:
        folder = Path(named)
        server, point = folder / "server", folder / "mount"
        for directory in (server, point):
            directory.mkdir()
        make(server / "app.db", rows)
        with FuseShare(server, point) as share:
            return {"rows": rows, "delay_ms": delay * 1000, **_measured(folder, share, delay, times)}


def _measured(folder: Path, share: FuseShare, delay: float, times: int) -> dict[str, Any]:
    app_db = share.point / "app.db"
    found: dict[str, Any] = {"file_bytes": (share.folder / "app.db").stat().st_size}
    with user(app_db, folder, "ann", background=False) as ann, user(app_db, folder, "bob", background=False) as bob:
        ann.execute(WRITE, (1,))
        ann.flush()
        bob.sync()
        share.set(delay=delay)
        found["direct"] = directly(app_db, times)
        found["cached"] = cached(ann.path, times * 20)
        ann.flush()
        bob.flush()
    share.set(delay=0)
    with Service(ann.config) as one, Service(bob.config) as two:
        one.sync(view=False)
        two.sync(view=False)
        share.set(delay=delay)
        found["syncs"] = syncs(one, two, share)
    with user(app_db, folder, "ann", background=True, sync_interval=0.2) as ann:
        for weather in ("gone", "hang"):
            with share.failing(weather):
                found[f"cached while {weather}"] = cached(ann.path, times * 20)
        share.set(delay=0)
    return found


def told(found: dict[str, Any]) -> str:
    """The figures for a person."""
    direct, cache = found["direct"], found["cached"]
    lines = [f"{found['rows']:,} rows, {size(found['file_bytes'])}; {found['delay_ms']:.0f} ms an operation", ""]
    lines.append(f"{'':<22}{'direct':>12}{'cache':>12}{'faster':>10}{'share gone':>12}{'share hung':>12}")
    for name in direct:
        away = [found[f"cached while {weather}"][name] for weather in ("gone", "hang")]
        lines.append(
            f"{name + ', ms':<22}{direct[name]:>12,.1f}{cache[name]:>12.2f}{direct[name] / cache[name]:>9,.0f}x"
            f"{away[0]:>12.2f}{away[1]:>12.2f}"
        )
    lines += ["", f"{'sync':<22}{'ms':>12}{'operations':>12}{'rows':>10}{'bytes':>12}"]
    for name, one in found["syncs"].items():
        lines.append(f"{name:<22}{one['ms']:>12,.0f}{one['operations']:>12}{one['rows']:>10}{one['bytes']:>12,}")
    pushed = found["syncs"]["push"]["bytes"]
    lines.append(f"a copy of the whole file is {found['file_bytes'] / max(1, pushed):,.0f} times the segment")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the database")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="what an operation on the share takes")
    parser.add_argument(
        "--times", type=int, default=10, help="how often each statement runs directly; 20 times that cached"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(f"FUSE is needed: {reason}.")
    found = measure(options.rows, options.delay_ms / 1000, options.times)
    print(told(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
