"""The cache page in a real browser: the light follows the share, a conflict is resolved with a click, nothing comes from outside."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bdc_pipeline import settings
from bdc_pipeline_tests.ports import reserved_port
from bdc_pipeline_tests.processes import finished, killed_at_last, line_of
from bdc_pipeline_tests.share.users import Team, rows
from bdc_pipeline_tests.waiting import SECONDS, until

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="The page is tested with playwright, a development dependency."
)

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="No Chromium is installed; on Debian: apt install chromium."),
]

RECORDING = """
window.lights = [];
setInterval(() => {
    const light = document.querySelector('[data-part=light]')?.textContent;
    if (light && light !== window.lights.at(-1)) window.lights.push(light);
}, 20);
"""
"""Notes every light that is shown, however short."""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    team = Team(tmp_path)
    team.plain("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, quantity INTEGER)")
    team.plain("INSERT INTO stock VALUES (1, 'bolts', 10), (2, 'nuts', 20)")
    (tmp_path / "config.yaml").write_text(
        f"database: {{path: {team.share}, sync_interval: 3600, rules: {{default: manual}}}}"
    )
    return team


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def served(team: Team) -> Iterator[int]:
    """The page of a user, served by the command: its port."""
    port = reserved_port()
    arguments = [sys.executable, "-m", "bdc_pipeline", "share", "page", "--port", str(port)]
    arguments += ["--cache-dir", str(team.folder / "ann")]
    started = subprocess.Popen(arguments, cwd=team.folder, stderr=subprocess.PIPE, text=True)
    with killed_at_last(started) as process:
        try:
            assert f"http://127.0.0.1:{port}" in line_of(process, process.stderr)
            until(lambda: answers(port), "the page is not served")
            yield port
        finally:
            process.terminate()
            said = finished(process).stderr
    assert "Traceback" not in said, said


@pytest.fixture
def port(team: Team) -> Iterator[int]:
    with served(team) as port:
        yield port


def write(team: Team, sql: str) -> None:
    """What any program of the page's user does."""
    [cache] = (team.folder / "ann").glob("*/app.db")
    with contextlib.closing(sqlite3.connect(cache)) as connection, connection:
        connection.execute(sql)


def status_of(port: int, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers=headers)
        return connection.getresponse().status


def test_the_page_shows_how_the_database_stands_and_lets_one_act(team: Team, port: int) -> None:
    asked: set[str] = set()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.on("request", lambda request: asked.add(request.url))
        page.add_init_script(RECORDING)
        page.goto(f"http://127.0.0.1:{port}/")
        follow_the_share(page, team)
        resolve_a_conflict(page, team)
        mix_two_edits(page, team)
        set_the_interval(page)
        clear_the_cache(page, team)
        browser.close()
    outside = {urlsplit(url).hostname for url in asked if not url.startswith("data:")} - {"127.0.0.1"}
    assert not outside
    # it has no login: pages of other sites are kept out by their name
    assert status_of(port) == 200
    assert status_of(port, Host="rebound.example") == 403
    assert status_of(port, Origin="https://elsewhere.example") == 403


def light(page: sync_api.Page, expected: str) -> None:
    sync_api.expect(page.locator("[data-part=light]")).to_have_text(expected, timeout=SECONDS * 1000)


def part(page: sync_api.Page, name: str, expected: str | re.Pattern[str], seconds: float = SECONDS) -> None:
    sync_api.expect(page.locator(f"[data-part={name}]")).to_have_text(expected, timeout=seconds * 1000)


def follow_the_share(page: sync_api.Page, team: Team) -> None:
    light(page, "success")
    part(page, "pending", "0")
    sync_api.expect(page.locator("canvas")).to_be_visible()
    team.go_away()
    page.click("[data-part=sync]")
    light(page, "offline")
    write(team, "UPDATE stock SET quantity = 9 WHERE id = 1")
    part(page, "pending", "1")
    part(page, "sentence", re.compile("1 write waits for the next sync"))
    team.come_back()
    light(page, "success")
    part(page, "pending", "0")
    # the page may have been open before the first sync had ended
    lights = page.evaluate("window.lights.filter(light => light)")
    assert lights[lights[0] == "pending" :] == ["success", "offline", "pending", "success"]
    assert team.plain("SELECT quantity FROM stock WHERE id = 1") in ([(9,)], [(10,)])


def resolve_a_conflict(page: sync_api.Page, team: Team) -> None:
    with team.user("bob") as bob:
        bob.sync()
        assert rows(bob)[0] == (1, "bolts", 9)
        bob.execute("UPDATE stock SET quantity = 1 WHERE id = 1")
        bob.flush()
        write(team, "UPDATE stock SET quantity = 2 WHERE id = 1")
        page.click("[data-part=sync]")
        part(page, "open", "1")
        card = page.locator("[data-conflict]")
        sides = {
            side: card.locator(f"[data-side={side}]").all_text_contents()
            for side in ("column", "base", "mine", "theirs")
        }
        assert dict(
            zip(sides["column"], zip(sides["base"], sides["mine"], sides["theirs"], strict=True), strict=True)
        ) == {
            "id": ("1", "1", "1"),
            "name": ("bolts", "bolts", "bolts"),
            "quantity": ("9", "2", "1"),
        }
        card.get_by_role("button", name="Keep mine").click()
        sync_api.expect(card).to_have_count(0)
        part(page, "open", "0")
        light(page, "pending")
        page.click("[data-part=sync]")
        light(page, "success")
        bob.sync()
        assert rows(bob)[0] == (1, "bolts", 2)


def mix_two_edits(page: sync_api.Page, team: Team) -> None:
    with team.user("bob") as bob:
        bob.sync()
        bob.execute("UPDATE stock SET name = 'fine nuts', quantity = 21 WHERE id = 2")
        bob.flush()
        write(team, "UPDATE stock SET name = 'wing nuts', quantity = 22 WHERE id = 2")
        page.click("[data-part=sync]")
        card = page.locator("[data-conflict]")
        card.get_by_role("button", name="mine", exact=True).last.click()
        card.get_by_role("button", name="Keep what is chosen above").click()
        sync_api.expect(card).to_have_count(0)
        page.click("[data-part=sync]")
        light(page, "success")
        bob.sync()
        assert rows(bob)[1] == (2, "fine nuts", 22)


def set_the_interval(page: sync_api.Page) -> None:
    page.get_by_label("Sync every ... seconds").fill("1800")
    page.click("[data-part=set]")
    part(page, "interval", "1800 s")


def clear_the_cache(page: sync_api.Page, team: Team) -> None:
    # the sync that came with the new interval may have taken the first of these along
    for _ in range(4):
        write(team, "UPDATE stock SET quantity = quantity + 1")
        with contextlib.suppress(AssertionError):
            part(page, "pending", "2", seconds=6)
            break
    page.click("[data-part=clear]")
    page.click("[data-part=clear-yes]")
    sync_api.expect(page.get_by_text("have not reached the share. Sync first")).to_be_visible()
    part(page, "pending", "2")
    page.click("[data-part=clear]")
    page.locator("[data-part=force]").click()
    page.locator("[data-part=clear-yes]").last.click()
    part(page, "pending", "0")
    part(page, "interval", "1800 s")
