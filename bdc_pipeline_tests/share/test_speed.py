"""A shared database on a share with 20 ms an operation: local speed whatever the share does, and what a sync asks of it."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bdc_pipeline import settings
from bdc_pipeline.share.database import DirectAccess, SharedDatabase
from bdc_pipeline.share.log import CHECK_SECONDS, FRESH_SECONDS, SLOW_SECONDS, since_boot
from bdc_pipeline.share.status import Light
from bdc_pipeline_tests.share.fuse import FuseShare, why_not
from bdc_pipeline_tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

DELAY = 0.020
ROWS = 5000


@pytest.fixture
def mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[tuple[FuseShare, FuseShare]]:
    """One server and two machines that have mounted it; a database of older programs is on it.

    The parameter: for how many seconds the mounts know names and attributes.
    """
    known = {"cache_seconds": request.param} if hasattr(request, "param") else {}
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "server" / "app.db")) as connection, connection:
        connection.execute("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, quantity INTEGER)")
        connection.executemany(
            "INSERT INTO stock VALUES (?, ?, 0)", [(number, f"thing {number}") for number in range(ROWS)]
        )
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            try:
                made.append(stack.enter_context(FuseShare(tmp_path / "server", tmp_path / name, **known)))
            except RuntimeError as error:
                pytest.skip(str(error))
        yield made[0], made[1]


def user(mount: FuseShare, tmp_path: Path, **given: object) -> SharedDatabase:
    """A user on a machine; that the path is on a network share is seen from the mount table."""
    options = {"cache_directory": tmp_path / f"cache-{mount.point.name}", "user": mount.point.name, "background": False}
    return SharedDatabase(mount.point / "app.db", **{**options, **given})  # type: ignore[arg-type]


def medians_ms(*actions: Callable[[int], object], times: int = 60) -> list[float]:
    """How long each of some things takes, in the middle of many times; by turns, so that a machine that is slow for a while is
    slow for all of them."""
    taken: list[list[float]] = [[] for _ in actions]
    for number in range(times):
        for of_action, action in zip(taken, actions, strict=True):
            began = time.perf_counter()
            action(number)
            of_action.append((time.perf_counter() - began) * 1000)
    return [statistics.median(of_action) for of_action in taken]


@contextlib.contextmanager
def plain_commits(folder: Path) -> Iterator[Callable[[int], object]]:
    """A durable commit on this disk, without any of ours."""
    with contextlib.closing(sqlite3.connect(folder / "plain.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY)")
        yield lambda number: connection.execute("INSERT INTO numbers VALUES (?)", (number,))


@pytest.mark.parametrize("fault", [None, "gone", "hang"])
def test_reads_and_writes_are_local_while_the_share_is_slow_gone_or_hung(
    mounts: tuple[FuseShare, FuseShare], tmp_path: Path, fault: str | None
) -> None:
    share = mounts[0]
    with user(share, tmp_path, background=True, sync_interval=0.2) as database:
        until(lambda: database.status().light is Light.SUCCESS, "the first sync did not end")
        share.set(delay=DELAY)
        with share.failing(fault) if fault else contextlib.nullcontext(), plain_commits(tmp_path) as commit:
            read, write, disk = medians_ms(
                lambda number: database.execute("SELECT * FROM stock WHERE id = ?", (number,)).fetchone(),
                lambda number: database.execute("UPDATE stock SET quantity = quantity + 1 WHERE id = ?", (number,)),
                commit,
            )
            [look] = medians_ms(lambda _: database.status(), times=20)
        # less than one operation of the share: none was waited for. How fast it is, the benchmark tells.
        operation = DELAY * 1000
        assert read < operation, f"a read took {read:.2f} ms"
        # a disk that is busy with other things makes every commit slow, not ours alone
        assert write < max(operation, 3 * disk), f"a write took {write:.2f} ms, where any commit takes {disk:.2f} ms"
        assert look < 10 * operation, f"a look at the status took {look:.1f} ms"
        share.set(delay=0)
        database.flush()
        assert database.status().pending == 0


def test_an_idle_sync_asks_the_share_once_and_500_rows_are_sent_in_few_operations(
    mounts: tuple[FuseShare, FuseShare], tmp_path: Path
) -> None:
    one, two = mounts
    with user(one, tmp_path) as ann, user(two, tmp_path) as bob:
        assert ann._service is not None
        assert bob._service is not None
        ann.execute("UPDATE stock SET quantity = 1 WHERE id = 1")
        for database in (ann, bob):
            database.sync()
        for share in mounts:
            share.set(delay=DELAY)
            share.operations()
        assert ann._service.sync(forced=False, view=False).light is Light.SUCCESS
        assert sum(one.operations().values()) == 1
        for turn in range(3):  # as a program does it
            with ann.transaction():
                ann.executemany(
                    "UPDATE stock SET quantity = ? WHERE id = ?", [(turn, number * 9) for number in range(500)]
                )
            ann.flush()
            assert sum(one.operations().values()) <= 12
        bob.sync()
        two.operations()
        with ann.transaction():
            ann.executemany("UPDATE stock SET quantity = 7 WHERE id = ?", [(number * 9,) for number in range(500)])
        sent = ann._service.sync(forced=False, view=False)
        assert (sent.light, sent.rows_out) == (Light.SUCCESS, 500)
        assert sum(one.operations().values()) <= 12
        assert sent.bytes_out < 20_000
        taken = bob._service.sync(forced=False, view=False)
        assert taken.rows_in == 500
        assert sum(two.operations().values()) <= 12  # most of them side by side
        assert bob.execute("SELECT count(*) FROM stock WHERE quantity = 7").fetchone() == (500,)


@pytest.mark.parametrize("mounts", [0.0, 1.0], indirect=True, ids=["nothing known", "known for a second"])
def test_500_rows_after_any_pause_are_sent_in_few_operations_whatever_the_mount_knows(
    mounts: tuple[FuseShare, FuseShare], tmp_path: Path
) -> None:
    share, now = mounts[0], [since_boot()]
    with user(share, tmp_path) as ann:
        assert ann._service is not None
        ann.execute("UPDATE stock SET quantity = 1 WHERE id = 1")
        ann.sync()
        ann._service._reach.open().log._clock = lambda: now[0]
        share.set(delay=DELAY)
        pauses = (0.0, FRESH_SECONDS + 1, 300.0, SLOW_SECONDS + 1, CHECK_SECONDS + 1)
        for turn, (pause, polls) in enumerate(itertools.product(pauses, (0, 2))):
            for _ in range(polls):
                now[0] += pause / 3
                assert ann._service.sync(forced=False, view=False).light is Light.SUCCESS
            now[0] += pause / (1 + polls)
            with ann.transaction():
                ann.executemany(
                    "UPDATE stock SET quantity = ? WHERE id = ?", [(turn + 2, number * 9) for number in range(500)]
                )
            share.operations()
            ann.flush()
            asked = share.operations()
            assert sum(asked.values()) <= 12, (pause, polls, asked)
            assert "read" not in asked, "the segment before was looked at, not read"
        assert last_number(tmp_path) == ann.status().position == 1 + 2 * len(pauses)


def last_number(tmp_path: Path) -> int:
    """The number of the last segment on the server."""
    return max(int(path.stem) for path in (tmp_path / "server" / "app.db.sync" / "log").iterdir())


@pytest.mark.parametrize("fault", ["gone", "link lost", "full"])
def test_a_sync_that_fails_at_any_operation_sends_everything_once_with_the_next(
    mounts: tuple[FuseShare, FuseShare], tmp_path: Path, fault: str
) -> None:
    one, two = mounts
    with user(one, tmp_path) as ann, user(two, tmp_path) as bob:
        lights = set()
        for number in range(24):
            ann.execute("UPDATE stock SET quantity = quantity + 1 WHERE id = 1")
            ann.execute("INSERT INTO stock VALUES (?, 'new', 0)", (ROWS + number,))
            one.set(fault=fault, after=number)
            done = ann.sync()
            assert done is not None
            lights.add(done.light)
            one.set(fault=None)
            ann.flush()
            bob.sync()
            assert bob.execute("SELECT quantity FROM stock WHERE id = 1").fetchone() == (number + 1,)
            assert bob.execute("SELECT count(*) FROM stock WHERE name = 'new'").fetchone() == (number + 1,)
        assert Light.SUCCESS in lights
        assert lights & {Light.OFFLINE, Light.FAILED} or fault == "link lost"
        assert ann.history(1)[0].sentence == ""


def test_where_locks_do_not_hold_the_plain_database_is_left_alone_until_it_is_written_anew(
    mounts: tuple[FuseShare, FuseShare], tmp_path: Path
) -> None:
    with user(mounts[0], tmp_path) as ann:
        assert ann._service is not None
        ann.execute("UPDATE stock SET quantity = 5 WHERE id = 1")
        ann.sync()
        sql = "SELECT quantity FROM stock WHERE id = 1"
        plain = tmp_path / "server" / "app.db"
        with contextlib.closing(sqlite3.connect(plain)) as connection:
            assert connection.execute(sql).fetchone() == (0,)
        assert "locks do not reach other machines" in ann.status().probe
        assert "was written anew" in ann._service.rebuild_view()
        with contextlib.closing(sqlite3.connect(plain)) as connection:
            assert connection.execute(sql).fetchone() == (5,)
        assert ann.status().view_lag == 0
        ann.execute("UPDATE stock SET quantity = 6 WHERE id = 1")
        ann.flush()
        assert ann.status().view_lag == 1


def test_a_share_without_atomic_publish_is_used_directly(mounts: tuple[FuseShare, FuseShare], tmp_path: Path) -> None:
    share = mounts[0]
    with share.failing("link refused"), pytest.warns(DirectAccess, match="cannot be shared: it has no hard links"):
        database = user(share, tmp_path)
    with database:
        assert database.execute("SELECT count(*) FROM stock").fetchone() == (ROWS,)
        assert database.path == share.point / "app.db"
