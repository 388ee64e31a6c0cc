"""A real browser, headless, for what a person sees and clicks: Chromium as the system has it, driven by Playwright."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

WIDTH, HEIGHT = 1500, 950


def installed() -> str:
    """The path of the browser; skips where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(
        f"No browser: none of {', '.join(NAMES)} is on PATH. On Debian and Ubuntu: apt install chromium. "
        "The web UI is then tested by what its server answers alone."
    )


@contextlib.contextmanager
def opened() -> Iterator[Page]:
    """An empty page."""
    # Chromium refuses to put root's pages into its sandbox, and containers have little shared memory
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=flags)
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(60_000)
            yield page
        finally:
            browser.close()
