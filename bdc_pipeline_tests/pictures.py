"""Takes the pictures of the README and of `docs/`: `make pictures`, with a browser on this machine.

A UI over generated data is started, walked through as `e2e/test_browser.py` does, and ended.
"""

import tempfile
from pathlib import Path

import click

from bdc_pipeline_tests.docs import ROOT
from bdc_pipeline_tests.e2e import tour
from bdc_pipeline_tests.e2e.browser import opened
from bdc_pipeline_tests.e2e.tour import Tour, walk
from bdc_pipeline_tests.e2e.ui import UP_SECONDS, start
from bdc_pipeline_tests.waiting import until

PICTURES = ROOT / "docs" / "ui"


def take(pictures: Path = PICTURES) -> None:
    """Writes them."""
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        ui = start(Path(root), **tour.VARIABLES)
        try:
            until(ui.is_loaded, ui.said, seconds=UP_SECONDS, pause=0.2)
            with opened() as page:
                walk(Tour(ui, page, pictures))
        finally:
            ui.close()
    for path in sorted(pictures.glob("*.png")):
        click.echo(path.relative_to(ROOT))


if __name__ == "__main__":
    take()
