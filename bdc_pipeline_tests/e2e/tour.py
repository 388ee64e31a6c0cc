"""What a person does in Dagster's pages, click by click, and what they then show.

The tests walk through it and look; the script that takes the pictures walks the same way.
"""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from bdc_pipeline.sources.properties.places import places
from bdc_pipeline_tests.e2e.ui import Ui
from bdc_pipeline_tests.waiting import until

RUN_SECONDS = 180.0
"""A backfill waits up to 30 s for the daemon, then for its run's process."""

RUNS = """{ runsOrError(limit: 50) { ... on Runs { results { runId status tags { key value } } } } }"""

FRESHNESS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    freshnessStatusInfo { freshnessStatus }
} } }"""

TICKS = """query ($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) { ... on Sensor { sensorState {
    ticks(limit: 10) { status runIds skipReason error { message } }
} } } }"""

OVER = {"SUCCESS", "FAILURE", "CANCELED"}

FRESHNESS_SECONDS = 180.0
"""The daemon looks every 30 s; a window is a minute at least."""

STATES = ("Failed", "Materialized", "Materializing", "Missing")


@dataclass
class Tour:
    """A UI, a page of it, and a directory for pictures where these are wanted."""

    ui: Ui
    page: Page
    pictures: Path | None = None

    def go(self, path: str) -> None:
        """Opens a page."""
        self.page.goto(f"{self.ui.url}{path}", wait_until="domcontentloaded")

    def keep(self, name: str) -> None:
        """Takes a picture."""
        if self.pictures is not None:
            self.page.screenshot(path=self.pictures / f"{name}.png")

    # -- the graph -------------------------------------------------------------------------------------------

    def groups(self) -> set[str]:
        """The groups that the asset graph shows, read off its sidebar."""
        self.go("/asset-groups")
        self.page.get_by_text("sonar_lookups").first.wait_for()
        self.keep("graph")
        return set(re.findall(r"^[a-z]+_[a-z_]+$", self.page.locator("body").inner_text(), re.MULTILINE))

    # -- partitions ------------------------------------------------------------------------------------------

    def partitions(self, asset: str) -> dict[str, int]:
        """How many partitions of an asset that is kept by municipality are in which state, as its page says when it has read
        them all and none is under way any more.
        """

        def settled() -> dict[str, int] | None:
            self.go(f"/assets/{asset}?view=partitions")
            self.page.get_by_text(re.compile(r"\d+ Partitions? Selected")).wait_for()
            states = self._states()
            return states if sum(states.values()) == len(places()) and states.get("Materializing") == 0 else None

        found: dict[str, int] | None = until(settled, self.ui.said, seconds=RUN_SECONDS, pause=1.0)
        assert found is not None
        return found

    def _states(self) -> dict[str, int]:
        text = self.page.locator("body").inner_text()
        return {state: int(found[1]) for state in STATES if (found := re.search(rf"\b{state} \((\d+)\)", text))}

    def listed(self, *states: str) -> list[str]:
        """The partitions in these states: what the list shows once the others are unticked."""
        for state in STATES:
            if state not in states:  # all are ticked at first; the boxes themselves are drawn over
                self.page.get_by_text(re.compile(rf"^{state} \(")).click()
        number = sum(self._states()[state] for state in states)
        expect(self.page.get_by_text(re.compile(rf"^{number} Partitions? Selected"))).to_be_visible()
        left = self.page.get_by_placeholder("Filter by name").locator("xpath=ancestor::div[5]").inner_text()
        # each name stands there twice, once to be measured
        return list(dict.fromkeys(re.findall(r"^\d{4}$", left, re.MULTILINE)))

    def backfill(self, asset: str, keys: Sequence[str] = (), *, choice: str = "Custom") -> list[dict[str, Any]]:
        """Materializes partitions of an asset and of those that are filled with it, and waits until its runs have ended.

        Args:
            asset: its key, with slashes.
            keys: the partitions to tick.
            choice: the button of the dialog: Custom, or All, Failed, Missing without keys.
        """
        known = {one["runId"] for one in self.runs()}
        self.page.get_by_role("button", name="Materialize").first.click()
        # the other tables come along
        self.page.get_by_role("button", name="Confirm").click()
        if choice != "Custom":  # which is chosen at first
            self.page.get_by_role("button", name=choice, exact=True).click()
        if keys:
            self.page.get_by_text("Select a partition or create one").click()
            for key in keys:
                self.page.get_by_role("menuitem", name=key).click()
            self.page.keyboard.press("Escape")
            expect(self.page.get_by_text(f"{len(keys)} partitions", exact=True)).to_be_visible()
        self.page.get_by_role("button", name=re.compile("^Launch")).click()

        return self._until_over(known)

    def materialize(self, asset: str) -> list[dict[str, Any]]:
        """Materializes an asset without partitions, and waits until its run has ended."""
        known = {one["runId"] for one in self.runs()}
        self.go(f"/assets/{asset}")
        self.page.get_by_role("button", name="Materialize").first.click()
        return self._until_over(known)

    def _until_over(self, known: Container[str]) -> list[dict[str, Any]]:
        def ended() -> list[dict[str, Any]] | None:
            fresh = [one for one in self.runs() if one["runId"] not in known]
            return fresh if fresh and all(one["status"] in OVER for one in fresh) else None

        found: list[dict[str, Any]] = until(ended, self.ui.said, seconds=RUN_SECONDS, pause=0.2)
        return found

    def runs(self) -> list[dict[str, Any]]:
        """The runs that were asked for, the newest first, their tags as a mapping.

        Those of schedules are left out: the daily backup is on whenever the UI is, and its time may come during a walk.
        """
        found = self.ui.ask(RUNS)["runsOrError"]["results"]
        runs = [{**one, "tags": {tag["key"]: tag["value"] for tag in one["tags"]}} for one in found]
        return [one for one in runs if "dagster/schedule_name" not in one["tags"]]

    # -- freshness -------------------------------------------------------------------------------------------

    def until_freshness_is(self, asset: str, status: str) -> str:
        """Waits until an asset's freshness is HEALTHY, WARNING or DEGRADED, and returns what its page then says."""

        def is_so() -> bool:
            node = self.ui.ask(FRESHNESS, key={"path": asset.split("/")})["assetNodeOrError"]
            return bool((node["freshnessStatusInfo"] or {}).get("freshnessStatus") == status)

        until(is_so, self.ui.said, seconds=FRESHNESS_SECONDS, pause=0.2)
        self.go(f"/assets/{asset}")
        self.page.get_by_text("Fails if more than").first.wait_for()
        return self.page.locator("body").inner_text()

    def check(self, asset: str, name: str, naming: str) -> str:
        """Waits until a check of an asset names something, and returns what its page says."""

        def named() -> str | None:
            self.go(f"/assets/{asset}?view=checks&checkDetail={name}")
            self.page.get_by_text("Evaluation result").first.wait_for()
            text = self.page.locator("body").inner_text()
            return text if naming in text else None

        found: str = until(named, self.ui.said, seconds=FRESHNESS_SECONDS, pause=0.2)
        return found

    # -- sensors ---------------------------------------------------------------------------------------------

    def switch_on(self, sensor: str) -> None:
        """Turns a sensor's switch on its page."""
        self.go(f"/locations/bdc_pipeline/sensors/{sensor}")
        self.page.locator("label:has(input[type=checkbox])").first.click()

    def until_requested(self, sensor: str) -> list[dict[str, Any]]:
        """Waits until a sensor's tick has requested something, and returns all its ticks; its page then shows them."""
        ticks: list[dict[str, Any]] = until(
            lambda: (found := self.ticks(sensor)) and found[0]["runIds"] and found,
            self.ui.said,
            seconds=RUN_SECONDS,
            pause=0.2,
        )
        self.go(f"/locations/bdc_pipeline/sensors/{sensor}")
        self.page.get_by_text("1 run requested").first.wait_for()
        return ticks

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """A sensor's last ticks, the newest first."""
        selector = {
            "repositoryLocationName": "bdc_pipeline",
            "repositoryName": "__repository__",
            "sensorName": sensor,
        }
        found: list[dict[str, Any]] = self.ui.ask(TICKS, sensor=selector)["sensorOrError"]["sensorState"]["ticks"]
        return found


# -- the walk --------------------------------------------------------------------------------------------------

HOMES = "properties/properties"
FRESH = "gitlab/projects"
RANGE = ("0101", "0147", "0151", "0153")
BROKEN, BROKEN_NAME = "0153", "Brøndby"
SENSOR = "gitlab_activity"

VARIABLES = {"BDC_FRESHNESS": "properties=1m", "BDC_AUTOMATION": "off"}
"""The shortest window there is, and nothing that starts by itself while a person clicks."""


@dataclass
class Shown:
    """What the pages showed on the walk."""

    groups: set[str] = field(default_factory=set)
    before: dict[str, int] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    after: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    fresh: str = ""
    stale: str = ""
    checks: str = ""
    ticks: list[dict[str, Any]] = field(default_factory=list)
    sensor: str = ""
    requested: list[dict[str, Any]] = field(default_factory=list)
    again: list[dict[str, Any]] = field(default_factory=list)
    healed: dict[str, int] = field(default_factory=dict)


def walk(tour: Tour) -> Shown:
    """Some municipalities are backfilled, of which one fails; the copy is fresh, then stale; a sensor requests a run of
    another source; the failed one is done again.
    """
    shown = Shown(groups=tour.groups())
    tour.ui.sandbox.configure(faults=[f"500@municipality={BROKEN_NAME}"])
    shown.before = tour.partitions(HOMES)
    shown.runs = tour.backfill(HOMES, RANGE)
    shown.after = tour.partitions(HOMES)
    tour.keep("partitions")
    shown.failed = tour.listed("Failed")
    # not the homes, which are so for a minute, and a machine may stop for that long
    tour.materialize(FRESH)
    shown.fresh = tour.until_freshness_is(FRESH, "HEALTHY")
    known = {one["runId"] for one in tour.runs()}
    tour.switch_on(SENSOR)
    shown.ticks = tour.until_requested(SENSOR)
    shown.sensor = tour.page.locator("body").inner_text()
    tour.keep("sensor")
    shown.requested = [one for one in tour.runs() if one["runId"] not in known]
    shown.stale = tour.until_freshness_is(HOMES, "DEGRADED")
    tour.keep("asset")
    shown.checks = tour.check(HOMES, "complete", naming=BROKEN)
    tour.keep("checks")
    tour.ui.sandbox.configure(faults=[])
    tour.partitions(HOMES)
    shown.again = tour.backfill(HOMES, choice="Failed")
    shown.healed = tour.partitions(HOMES)
    return shown
