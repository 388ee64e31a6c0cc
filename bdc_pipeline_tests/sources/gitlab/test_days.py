"""Which days a sync without a range has: whatever was interrupted, refused, left out or came later opens a day again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from bdc_pipeline.sources.gitlab.days import Covered, first_open
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying_few_days, errors_of

TODAY = dt.date(2026, 6, 1)
NOW = "2026-06-01T10:00:00.000Z"


def state(verified_at: str | None = NOW, *, complete: bool = True) -> PartitionState:
    return PartitionState(complete, None, verified_at, None, None, None, 0, None)


BOTH = {"2026-05-30": state(), "2026-05-31": state()}


@pytest.mark.parametrize(
    ("file", "first"),
    [
        (Covered(), "2026-05-03"),
        (Covered({"2026-05-31": state("2026-05-31T10:00:00.000Z")}), "2026-05-31"),
        (Covered(BOTH), "2026-05-31"),
        (Covered({"2026-05-20": state(None, complete=False), "2026-05-31": state()}), "2026-05-20"),
        # listed after its end, but sooner than the last logs were whole
        (Covered({"2026-05-30": state("2026-05-31T00:09:59.000Z"), **BOTH} | {"2026-05-29": state()}), "2026-05-31"),
        (Covered({"2026-05-30": state("2026-05-31T00:09:59.000Z"), "2026-05-31": state()}), "2026-05-30"),
        (Covered({"2026-05-30": state("2026-05-31T00:10:00.000Z"), "2026-05-31": state()}), "2026-05-31"),
        # a later stage was killed, or has failed, or was left out
        (Covered(BOTH, [BOTH, {"2026-05-31": state()}]), "2026-05-30"),
        (Covered(BOTH, [{**BOTH, "2026-05-30": state(complete=False)}]), "2026-05-30"),
        (Covered(BOTH, [BOTH, BOTH]), "2026-05-31"),
        # a project has joined
        (Covered(BOTH, (), "2026-05-30"), "2026-05-30"),
        # by a clock that is ahead
        (Covered({"2026-06-03": state()}), "2026-06-01"),
    ],
)
def test_a_sync_without_a_range_goes_on_from_the_first_day_that_is_open(file: Covered, first: str) -> None:
    assert first_open(file, TODAY) == dt.date.fromisoformat(first)


# -- by syncs --------------------------------------------------------------------------------------------------


NEXT_DAY = ("2026-06-02",)
"""Synced besides, so that the day with the pipelines is not the last one, which is always looked at again."""


def resync(copy: Copy, **options: object) -> None:
    """What a person does next: a sync without a range."""
    report = copy.sync(**{"first": None, **options})  # type: ignore[arg-type]
    assert report.complete, errors_of(report)


def test_what_a_later_stage_has_missed_comes_with_a_sync_without_a_range(tmp_path: Path) -> None:
    with copying_few_days(tmp_path) as copy:
        [broken] = copy.api.rows("Job", ["id"])[-1]
        copy.sandbox.configure(faults=[f"500@job {broken} trace"])
        assert not copy.sync_all(limits={"attempts": 1}).complete
        copy.sandbox.configure(faults=[])
        assert copy.sync(partitions=NEXT_DAY).complete
        resync(copy)
        assert copy.one("SELECT count(*) FROM job_logs WHERE id = ?", broken) == 1
        assert (
            copy.query("SELECT 1 FROM jobs WHERE started_at IS NOT NULL AND id NOT IN (SELECT id FROM job_logs)") == []
        )


def test_stages_that_were_left_out_come_with_a_sync_that_does_not_leave_them_out(tmp_path: Path) -> None:
    with copying_few_days(tmp_path) as copy:
        assert copy.sync_all(logs=False, tests=False, artifacts=False).complete
        assert copy.sync(partitions=NEXT_DAY).complete
        resync(copy, logs=False)
        assert copy.query("SELECT 1 FROM job_logs") == []
        resync(copy)
        assert copy.one("SELECT count(*) FROM job_logs") > 0
        copy.sandbox.reset_stats()
        resync(copy)
        assert not {"trace", "jobs", "artifacts"} & set(copy.topics())


def test_a_project_that_joins_later_comes_with_its_history(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, denied=["104=404"]) as copy:
        assert copy.sync_all().complete
        assert copy.sync(partitions=NEXT_DAY).complete
        copy.sandbox.configure(denied=[])
        resync(copy)
        assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")
        assert copy.one("SELECT count(*) FROM pipelines WHERE project_id = 104") == 3
        copy.sandbox.reset_stats()
        resync(copy)
        assert "pipeline" not in copy.topics()


def test_projects_that_were_not_named_come_with_a_sync_of_all(tmp_path: Path) -> None:
    with copying_few_days(tmp_path) as copy:
        assert copy.sync_all(projects=["101"]).complete
        assert copy.query("SELECT DISTINCT project_id FROM jobs") == [(101,)]
        assert copy.sync(partitions=NEXT_DAY).complete
        resync(copy)
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")
        # part of it once more: nothing of the others, and no day is any worse for it
        day = "2026-06-01"
        copy.api.change("run", project=101, at=f"{day}T11:00:00Z")
        copy.api.change("run", project=104, at=f"{day}T11:00:00Z")
        report = copy.sync(partitions=(day,), projects=["101"], days=0)
        assert report.complete, errors_of(report)
        assert copy.one("SELECT count(*) FROM pipelines WHERE project_id = 104") == 3


def test_a_day_of_which_only_some_projects_were_asked_for_is_not_complete(tmp_path: Path) -> None:
    with copying_few_days(tmp_path) as copy:
        assert copy.sync(partitions=("2026-05-31",)).complete
        report = copy.sync_all(projects=["101"])
        assert report.complete, errors_of(report)
        states = dict(copy.query("SELECT table_name, complete FROM _partitions WHERE partition = '2026-06-01'"))
        assert not any(states.values()), states
        resync(copy)
        states = dict(copy.query("SELECT table_name, complete FROM _partitions WHERE partition = '2026-06-01'"))
        assert all(states.values()), states


def test_a_project_whose_ci_is_switched_off_is_not_asked_for(tmp_path: Path) -> None:
    with copying_few_days(tmp_path) as copy:
        copy.api.change("update", entity="Project", id=104, columns={"builds_access_level": "disabled"})
        copy.api.change("update", entity="Project", id=107, columns={"repository_access_level": "disabled"})
        report = copy.sync_all()
        assert report.complete, errors_of(report)
        assert dict(copy.query("SELECT id, has_ci FROM projects")) == {101: 1, 104: 0, 107: 0}
        assert copy.query("SELECT DISTINCT project_id FROM pipelines") == [(101,)]
        # switched on again, it is like one that has joined
        assert copy.sync(partitions=NEXT_DAY).complete
        copy.api.change("update", entity="Project", id=104, columns={"builds_access_level": "enabled"})
        copy.api.change("update", entity="Project", id=107, columns={"repository_access_level": "private"})
        resync(copy)
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")
