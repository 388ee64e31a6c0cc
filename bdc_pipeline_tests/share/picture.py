"""Takes the picture of the cache page that stands in docs/share.md: `python -m bdc_pipeline_tests.share.picture`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright import sync_api

from bdc_pipeline_tests.share.test_page import served
from bdc_pipeline_tests.share.users import Team

PICTURE = Path(__file__).parents[2] / "docs" / "share.png"


def prepare(team: Team) -> None:
    """Some syncs with things in them, and two edits of one row."""
    team.plain("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, place TEXT, quantity INTEGER)")
    (team.folder / "config.yaml").write_text(
        f"database: {{path: {team.share}, sync_interval: 30, rules: {{default: manual}}}}"
    )
    with team.user("ann", rules={"default": "manual"}) as ann, team.user("bob") as bob:
        for turn in range(1, 9):
            things = [(turn * 1000 + number, f"thing {number}", "shelf 7", number) for number in range(turn * 40)]
            (ann if turn % 3 else bob).executemany("INSERT INTO stock VALUES (?, ?, ?, ?)", things)
            bob.flush()
            ann.sync()
        bob.sync()
        bob.execute("UPDATE stock SET quantity = 12, place = 'shelf 9' WHERE id = 1007")
        bob.flush()
        ann.execute("UPDATE stock SET quantity = 15 WHERE id = 1007")
        ann.flush()


def main() -> None:
    """Takes it."""
    with tempfile.TemporaryDirectory() as folder:
        team = Team(Path(folder))
        prepare(team)
        with served(team) as port, sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1100, "height": 1180})
            page.goto(f"http://127.0.0.1:{port}/")
            page.locator("[data-conflict]").wait_for()
            page.wait_for_timeout(1500)
            page.screenshot(path=PICTURE)
            browser.close()


if __name__ == "__main__":
    main()
