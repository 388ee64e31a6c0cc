"""`kill -9` of clients at any moment, 200 times: every file is whole, all agree, and nothing acknowledged is lost or there twice."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bdc_pipeline import settings
from bdc_pipeline.share.segment import decode
from bdc_pipeline.share.status import Light
from bdc_pipeline_tests.share.killed import FOUGHT
from bdc_pipeline_tests.share.users import Team, rows

NAMES = ("ann", "bob", "eve")
KILLS = 67


def is_whole(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return found == "ok"


LOST = (
    "SELECT json_extract(mine, '$.last') FROM _sync_audit UNION SELECT json_extract(theirs, '$.last') FROM _sync_audit"
)


def in_the_log(team: Team) -> set[str]:
    """Every value of the rows that all write to, in whatever segment."""
    log = sorted((team.place / "app.db.sync" / "log").glob("*.seg"))
    segments = [decode(file.read_bytes(), None) for file in log]
    batches = [segment.batch for segment in segments]
    assert len(batches) == len(set(batches))
    changes = [change for segment in segments for change in segment.changes if change.table == "fought"]
    return {str(change.row[1]) for change in changes if change.row}


@pytest.mark.slow
def test_clients_that_are_killed_at_any_moment_lose_nothing_and_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(tmp_path)
    team = Team(tmp_path)
    team.plain("CREATE TABLE notes (id TEXT PRIMARY KEY, author TEXT)")
    team.plain("CREATE TABLE counters (name TEXT PRIMARY KEY, number INTEGER)")
    for name in NAMES:
        team.plain("INSERT INTO counters VALUES (?, 0)", name)
    team.plain("CREATE TABLE fought (id INTEGER PRIMARY KEY, last TEXT)")
    for number in range(FOUGHT):
        team.plain("INSERT INTO fought VALUES (?, NULL)", number)
    module = "bdc_pipeline_tests.share.killed"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, team.share, tmp_path / name, name, str(KILLS), tmp_path / f"{name}.txt"],
            cwd=Path(__file__).parents[2],
        )
        for name in NAMES
    ]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    acknowledged = {key for name in NAMES for key in (tmp_path / f"{name}.txt").read_text().split()}
    assert len(acknowledged) > KILLS

    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(team.user(name)) for name in NAMES]
        for user in [*users, *users]:
            done = user.sync()
            assert done is not None
            assert done.light is Light.SUCCESS, done.sentence
        contents = [rows(user, "SELECT * FROM notes ORDER BY id") for user in users]
        counters = [rows(user, "SELECT * FROM counters ORDER BY name") for user in users]
        assert contents[0] == contents[1] == contents[2] == team.plain("SELECT * FROM notes ORDER BY id")
        assert counters[0] == counters[1] == counters[2] == team.plain("SELECT * FROM counters ORDER BY name")
        there = [str(key) for key, _ in contents[0]]
        assert acknowledged <= set(there)
        # a write that was committed and killed before it was noted is there as well, once
        numbers = dict(counters[0])
        assert numbers == {name: sum(key.startswith(f"{name}-") for key in there) for name in NAMES}
        assert all(is_whole(user.path) for user in users)
        fights = [rows(user, "SELECT * FROM fought ORDER BY id") for user in users]
        assert fights[0] == fights[1] == fights[2] == team.plain("SELECT * FROM fought ORDER BY id")
        # what a client wrote last to a row reached the log, or lost to another, which the audit tells
        told = in_the_log(team) | {str(row[0]) for user in users for row in rows(user, LOST)}
        last = {(key.split("-")[0], int(key.split("-")[1]) % FOUGHT): key for key in there}
        assert set(last.values()) <= told
    assert is_whole(team.share)
