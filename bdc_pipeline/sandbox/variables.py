"""The environment variables that lead a sync to a sandbox in place of the real services."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from bdc_pipeline import settings
from bdc_pipeline.sandbox.gitlab.generate import DAYS
from bdc_pipeline.sandbox.gitlab.records import NOW

UNHURRIED = "1000"
"""Requests a second to the sandbox, where a public service would be asked more slowly."""

DIRECTORY = "data/sandbox"
"""Where generated data are kept apart from real ones."""

_OF = {
    "sonar": (settings.SONAR_URL, settings.SONAR_TOKEN),
    "gitlab": (settings.GITLAB_URL, settings.GITLAB_TOKEN),
    "boligsiden": (settings.BOLIGSIDEN_URL, settings.BOLIGSIDEN_REQUESTS_PER_SECOND),
    "brandmeister": (settings.BRANDMEISTER_URL, None),
    "tgif": (settings.TGIF_URL, None),
    "hearham": (settings.HEARHAM_URL, None),
}
"""By the name under which an API is served: where its address goes, and what else it needs."""


def variables(url: str, sources: Collection[str], token: str) -> dict[str, str]:
    """What to set so that the sources are asked for at a sandbox's address."""
    found = {}
    for name, (address, other) in _OF.items():
        if name in sources:
            found[address.name] = f"{url}/{name}"
            if other is not None:
                found[other.name] = UNHURRIED if other is settings.BOLIGSIDEN_REQUESTS_PER_SECOND else token
    return found


def gitlab_days() -> tuple[dt.date, dt.date]:
    """The first and the last day of GitLab's generated pipelines (UTC)."""
    end = dt.datetime.fromtimestamp(NOW / 1000, dt.UTC)
    return (end - dt.timedelta(days=DAYS)).date(), (end - dt.timedelta(milliseconds=1)).date()


def told(url: str, sources: Collection[str], token: str) -> str:
    """Lines for a shell that syncs from a sandbox, with comments on what is not plain from them."""
    lines = [f"export {settings.BDC_DATA_DIR.name}={DIRECTORY}"]
    lines += [f"export {name}={value}" for name, value in variables(url, sources, token).items()]
    if "gitlab" in sources:
        first, last = gitlab_days()
        lines += [
            f"# GitLab's pipelines are those of {first} to {last}; without a range a first sync goes back 30 days from today",
            f"bdc-pipeline sync gitlab --from {first} --to {last}",
        ]
    return "\n".join(lines)
