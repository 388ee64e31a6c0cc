"""`bdc-pipeline share ...`: what each command does, its exit status, and sentences in place of tracebacks."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bdc_pipeline import cli, settings
from bdc_pipeline_tests.processes import finished, killed_at_last, line_of
from bdc_pipeline_tests.share.users import Team
from bdc_pipeline_tests.waiting import SECONDS, until

Run = Callable[..., Result]


@pytest.fixture
def team(tmp_path: Path) -> Team:
    team = Team(tmp_path)
    team.plain("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, quantity INTEGER)")
    team.plain("INSERT INTO stock VALUES (1, 'bolts', 10), (2, 'nuts', 20)")
    return team


@pytest.fixture
def run(team: Team, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls a command as a user whose config.yaml names the database."""
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(team.folder)
    (team.folder / "config.yaml").write_text(f"database: {{path: {team.share}, rules: {{default: manual}}}}")

    def call(*arguments: str, user: str = "ann") -> Result:
        monkeypatch.setenv("BDC_SHARE_CACHE_DIR", str(team.folder / user))
        result = CliRunner().invoke(cli.main, ["share", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


def cache_of(team: Team, user: str = "ann") -> Path:
    [path] = (team.folder / user).glob("*/app.db")
    return path


def write(team: Team, sql: str, user: str = "ann") -> None:
    """What any program does that opens the cache."""
    with contextlib.closing(sqlite3.connect(cache_of(team, user))) as connection, connection:
        connection.execute(sql)


def conflict(team: Team, run: Run) -> None:
    """Two users change one row; the second has a conflict to decide."""
    for user in ("bob", "ann"):
        run("sync", user=user)
    write(team, "UPDATE stock SET quantity = 1 WHERE id = 1", "bob")
    write(team, "UPDATE stock SET quantity = 2 WHERE id = 1")
    for user in ("bob", "ann"):
        assert run("sync", user=user).exit_code == 0


# -- sync and status -------------------------------------------------------------------------------------------


def test_the_first_sync_makes_the_cache_and_later_ones_send_what_was_written(team: Team, run: Run) -> None:
    first = run("sync")
    assert (first.exit_code, str(cache_of(team)) in first.output) == (0, True)
    write(team, "UPDATE stock SET quantity = 9 WHERE id = 1")
    assert "success: 1 row sent, 0 rows taken" in run("sync").output
    assert team.plain("SELECT quantity FROM stock WHERE id = 1") == [(9,)]
    told = json.loads(run("sync", "--json").stdout)
    assert (told["light"], told["rows_out"]) == ("success", 0)


def test_a_share_that_is_away_ends_a_sync_with_status_1_and_the_writes_wait(team: Team, run: Run) -> None:
    run("sync")
    write(team, "DELETE FROM stock")
    team.go_away()
    result = run("sync")
    assert result.exit_code == 1
    assert "offline: 0 rows sent" in result.output
    status = run("status")
    assert status.exit_code == 1
    assert "2 writes wait for the next sync" in status.output
    team.come_back()
    assert run("sync").exit_code == 0
    assert team.plain("SELECT * FROM stock") == []


def test_the_status_tells_how_the_database_stands(team: Team, run: Run) -> None:
    run("sync")
    result = run("status")
    assert result.exit_code == 0
    for text in (
        "success. Everything written here is on the share.",
        str(cache_of(team)),
        str(team.share),
        "segment 0 of 0",
    ):
        assert text in result.output
    write(team, "DELETE FROM stock WHERE id = 1")
    told = json.loads(run("status", "--json").stdout)
    assert (told["light"], told["pending"], told["mode"]) == ("pending", 1, "cache")
    assert told["pending_seconds"] >= 0


def test_before_the_first_sync_there_is_nothing_to_look_at(run: Run) -> None:
    for command in ("status", "conflicts", "clear", "verify"):
        result = run(command)
        assert result.exit_code == 1
        assert "There is no cache of" in result.output
        assert "Run 'bdc-pipeline share sync" in result.output


def test_a_source_names_its_database_on_the_share(team: Team, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDC_SHARE", str(team.place))
    assert run("sync", "gitlab").exit_code == 0
    assert list((team.folder / "ann").glob("gitlab-*/gitlab.db"))


def test_a_source_whose_share_is_not_set_is_told_with_status_2(run: Run) -> None:
    for command in ("status", "sync", "verify"):
        result = run(command, "gitlab")
        assert result.exit_code == 2
        assert "BDC_SHARE is not set, so that nobody knows where gitlab's database is shared." in result.output


# -- conflicts -------------------------------------------------------------------------------------------------


def test_conflicts_are_listed_side_by_side_and_resolved_by_their_number(team: Team, run: Run) -> None:
    conflict(team, run)
    listed = run("conflicts")
    assert listed.exit_code == 0
    assert "* quantity" in listed.output
    assert "before 10  mine 2  theirs 1" in listed.output
    [open_one] = json.loads(run("conflicts", "--json").stdout)["conflicts"]
    assert (open_one["mine"]["quantity"], open_one["theirs"]["quantity"]) == (2, 1)
    assert run("status").exit_code == 1
    number = str(open_one["id"])
    assert run("resolve", number, "mine").exit_code == 0
    assert "There is nothing to decide." in run("conflicts").output
    run("sync")
    assert team.plain("SELECT quantity FROM stock WHERE id = 1") == [(2,)]


def test_a_conflict_is_resolved_by_a_row_of_ones_own(team: Team, run: Run) -> None:
    conflict(team, run)
    [open_one] = json.loads(run("conflicts", "--json").stdout)["conflicts"]
    row = {"id": 1, "name": "bolts", "quantity": 3}
    assert run("resolve", str(open_one["id"]), "row", "--row", json.dumps(row)).exit_code == 0
    run("sync")
    assert team.plain("SELECT quantity FROM stock WHERE id = 1") == [(3,)]


# -- mending ---------------------------------------------------------------------------------------------------


def test_clear_is_refused_while_writes_are_pending_unless_forced(team: Team, run: Run) -> None:
    run("sync")
    write(team, "DELETE FROM stock WHERE id = 1")
    refused = run("clear")
    assert refused.exit_code == 1
    assert "1 write in" in refused.output
    assert "Sync first, or force it to throw them away." in refused.output
    assert run("clear", "--force").exit_code == 0
    with contextlib.closing(sqlite3.connect(cache_of(team))) as connection:
        assert connection.execute("SELECT count(*) FROM stock").fetchone() == (2,)


def test_rebuild_loads_the_content_anew_and_keeps_what_is_pending(team: Team, run: Run) -> None:
    run("sync")
    run("sync", user="bob")
    write(team, "UPDATE stock SET quantity = 1 WHERE id = 1", "bob")
    run("sync", user="bob")
    write(team, "UPDATE stock SET quantity = 2 WHERE id = 2")
    assert run("rebuild").exit_code == 0
    assert json.loads(run("status", "--json").stdout)["pending"] == 1
    run("sync")
    assert team.plain("SELECT quantity FROM stock ORDER BY id") == [(1,), (2,)]


def test_the_plain_database_can_be_written_anew(team: Team, run: Run) -> None:
    run("sync")
    write(team, "UPDATE stock SET quantity = 3 WHERE id = 2")
    team.share.write_bytes(b"not a database any more" * 100)
    result = run("rebuild", "--view")
    assert result.exit_code == 0, result.output
    assert "was written anew, as it is at segment 1" in result.output
    assert team.plain("SELECT quantity FROM stock ORDER BY id") == [(10,), (3,)]


def test_verify_finds_everything_in_order_and_tells_a_cache_that_is_not_what_the_log_says(team: Team, run: Run) -> None:
    run("sync")
    for number in range(3):
        write(team, f"UPDATE stock SET quantity = {number} WHERE id = 2")
        run("sync")
    good = run("verify")
    assert good.exit_code == 0, good.output
    assert "ok  log: Snapshot 0 and 3 segments after it are whole" in good.output
    with contextlib.closing(sqlite3.connect(cache_of(team))) as connection, connection:
        # past the triggers, which are back before anybody looks
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for trigger, _ in triggers:
            connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute("UPDATE stock SET name = 'rust' WHERE id = 1")
        for _, sql in triggers:
            connection.execute(sql)
    bad = run("verify", "--json")
    assert bad.exit_code == 1
    checks = {check["name"]: check for check in json.loads(bad.stdout)["checks"]}
    assert "1 row of stock" in checks["content"]["sentence"] or "2 rows of stock" in checks["content"]["sentence"]


@pytest.mark.parametrize("size", [512, 4096, 8192, 65536])
def test_a_database_of_any_page_size_is_verified_and_rebuilt(size: int, team: Team, run: Run) -> None:
    team.share.unlink()
    with contextlib.closing(sqlite3.connect(team.share, isolation_level=None)) as made:
        made.execute(f"PRAGMA page_size = {size}")
        made.execute("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT)")
        made.execute("INSERT INTO stock VALUES (1, 'bolts')")
    assert run("sync").exit_code == 0
    write(team, "INSERT INTO stock VALUES (2, 'nuts')")
    for command in (("verify",), ("rebuild",), ("rebuild", "--view"), ("sync",), ("verify",)):
        result = run(*command)
        assert result.exit_code == 0, result.output
    assert team.plain("PRAGMA page_size") == [(size,)]
    assert team.plain("SELECT * FROM stock") == [(1, "bolts"), (2, "nuts")]


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (2_000, "cannot be read or written (disk I/O error): the disk is full, over its quota, or failing."),
        # enough for a sync of nothing, and not for a copy of the cache
        (300_000, "Error: the cache, or a copy of it, could not be read or written: "),
    ],
)
def test_verify_on_a_full_disk_ends_with_status_1_and_a_sentence(
    team: Team, run: Run, limit: int, sentence: str
) -> None:
    team.plain("INSERT INTO stock SELECT value, hex(zeroblob(1000)), 1 FROM json_each(?)", json.dumps([*range(3, 503)]))
    run("sync")
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); from bdc_pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "share", "verify", str(team.share)],
        cwd=team.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr
    assert run("verify").exit_code == 0


def test_verify_tells_a_damaged_log(team: Team, run: Run) -> None:
    run("sync")
    for number in range(2):
        write(team, f"UPDATE stock SET quantity = {number} WHERE id = 2")
        run("sync")
    segment = min((team.place / "app.db.sync" / "log").iterdir())
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(bytes(data))
    result = run("verify")
    assert result.exit_code == 1
    assert "BAD log: " in result.output


# -- wrong usage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sync", "--nonsense"], "No such option '--nonsense'"),
        (["sync", "a.db", "b.db"], "unexpected extra argument"),
        (["sync", "--config", "none.yaml"], "none.yaml is not there"),
        (["watch", "--interval", "0"], "0 is not in the range"),
        (["resolve", "x", "mine"], "'x' is not a valid integer"),
        (["resolve", "1", "his"], "'his' is not one of 'mine', 'theirs'"),
        (["resolve", "1", "row"], "'row' and --row go together"),
        (["resolve", "1", "row", "--row", "{"], "it is no JSON"),
        (["resolve", "1", "row", "--row", "[]"], "it is no JSON object"),
        (["page", "--port", "0"], "0 is not in the range"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_usage_is_told_with_status_2(run: Run, arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())


def test_wrong_settings_are_told_with_status_2(team: Team, run: Run) -> None:
    (team.folder / "config.yaml").write_text("database: {sync_interval: often}")
    result = run("sync")
    assert result.exit_code == 2
    assert "Error: " in result.output
    assert "database.sync_interval is 'often'" in result.output
    (team.folder / "config.yaml").write_text("{}")
    assert "No shared database is named" in run("status").output
    (team.folder / "config.yaml").write_text(f"database: {{path: {team.share}, enable_cache: false}}")
    assert "The cache is switched off by enable_cache" in run("sync").output


def test_help_imports_neither_dagster_nor_the_page_nor_the_share(tmp_path: Path) -> None:
    code = (
        "import sys; from bdc_pipeline.cli import main\n"
        "for arguments in (['--help'], ['share', 'page', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "print(sorted({'dagster', 'nicegui', 'fastapi', 'yaml', 'cryptography', 'bdc_pipeline.share.local'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


# -- watching --------------------------------------------------------------------------------------------------


def test_watch_syncs_until_ctrl_c_and_tells_what_moves(team: Team, run: Run) -> None:
    run("sync")
    arguments = [sys.executable, "-m", "bdc_pipeline", "share", "watch", "--interval", "0.1", str(team.share)]
    arguments += ["--cache-dir", str(team.folder / "ann")]
    started = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with killed_at_last(started) as process:
        assert "every 0.1 s; Ctrl-C ends it" in line_of(process, process.stderr)
        write(team, "UPDATE stock SET quantity = 5 WHERE id = 1")
        while "1 row sent" not in (line := line_of(process, process.stdout)):
            assert line
        until(lambda: team.plain("SELECT quantity FROM stock WHERE id = 1") in ([(5,)], [(10,)]), "the share is broken")
        process.send_signal(signal.SIGINT)
        done = finished(process)
    assert (done.returncode, done.stderr) == (0, "")


def standing(run: Run) -> Any:
    return json.loads(run("status", "--json").stdout)


@contextlib.contextmanager
def watching(team: Team) -> Iterator[subprocess.Popen[str]]:
    """A `share watch` of a long interval: it syncs once when it starts."""
    arguments = [sys.executable, "-m", "bdc_pipeline", "share", "watch", "--interval", "3600", str(team.share)]
    arguments += ["--cache-dir", str(team.folder / "ann")]
    started = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with killed_at_last(started) as process:
        assert "every 3600 s" in line_of(process, process.stderr)
        yield process


def test_watch_tells_of_the_sync_that_ctrl_c_comes_right_after(team: Team, run: Run) -> None:
    run("sync")
    write(team, "UPDATE stock SET quantity = 5 WHERE id = 1")
    with watching(team) as process:
        until(lambda: not standing(run)["pending"], "the first sync does not send what waits")
        process.send_signal(signal.SIGINT)
        sent, told = process.communicate(timeout=SECONDS)
    assert (process.returncode, told) == (0, "")
    assert "1 row sent" in sent


@pytest.mark.parametrize("away", [False, True])
def test_watch_sends_what_was_written_just_before_ctrl_c_or_tells_that_it_waits(
    team: Team, run: Run, away: bool
) -> None:
    run("sync")
    before = standing(run)["attempted"]
    with watching(team) as process:
        until(lambda: standing(run)["attempted"] > before, "the first sync does not end")
        write(team, "UPDATE stock SET quantity = 5 WHERE id = 1")
        if away:
            team.go_away()
        process.send_signal(signal.SIGINT)
        sent, told = process.communicate(timeout=SECONDS)
    assert process.returncode == int(away)
    assert ("1 write in" in told, "1 row sent" in sent) == (away, not away)
