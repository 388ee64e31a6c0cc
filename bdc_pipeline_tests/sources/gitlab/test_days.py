"""Which days a sync without a range has: whatever was interrupted, refused, left out or came later opens a day again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.days import Covered, first_open
from bdc_pipeline.sources.gitlab.plan import days_reached
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying_few_days, errors_of

TODAY = dt.date(2026, 6, 1)


def state(*, complete: bool = True) -> PartitionState:
    return PartitionState(complete, None, None, None, None, None, 0, None)


BOTH = {"2026-05-30": state(), "2026-05-31": state()}


@pytest.mark.parametrize(
    ("file", "first"),
    [
        (Covered(), "2026-05-03"),
        (Covered({"2026-05-31": state()}), "2026-05-31"),
        (Covered(BOTH), "2026-05-31"),
        (Covered({**BOTH, "2026-05-29": state(complete=False)}), "2026-05-29"),
        # another table's stage was killed, or has failed, or was left out
        (Covered(BOTH, [BOTH, {"2026-05-31": state()}]), "2026-05-30"),
        (Covered(BOTH, [{**BOTH, "2026-05-30": state(complete=False)}]), "2026-05-30"),
        (Covered(BOTH, [BOTH, BOTH]), "2026-05-31"),
        # a project was listed before the day was over, or never
        (Covered(BOTH, (), frozenset({"2026-05-30"})), "2026-05-30"),
        # a day between others was never asked for
        (Covered({"2026-05-28": state(), **BOTH}), "2026-05-29"),
        # by a clock that is ahead
        (Covered({"2026-06-03": state()}), "2026-06-01"),
    ],
)
def test_a_sync_without_a_range_goes_on_from_the_first_day_that_is_open(file: Covered, first: str) -> None:
    assert first_open(file, TODAY) == dt.date.fromisoformat(first)


@pytest.mark.parametrize(
    ("listed_at", "reached"),
    [
        ("2026-05-31T00:00:00.000Z", 0),  # of a project that failed
        ("2026-05-31T23:59:59.999Z", 0),
        ("2026-06-01T00:09:59.999Z", 0),  # before the logs of the last jobs were in the archive
        ("2026-06-01T00:10:00.000Z", 1),
        ("2026-07-01T00:00:00.000Z", 1),
    ],
)
def test_a_day_is_reached_by_a_listing_well_after_its_end(tmp_path: Path, listed_at: str, reached: int) -> None:
    with Store(tmp_path / "gitlab.db", t.SCHEMA) as store:
        sql = "INSERT INTO project_days (project_id, day, listed_at, last_updated) VALUES (?, '2026-05-31', ?, '')"
        store.connection.execute(sql, (1, listed_at))
        store.connection.execute(sql, (2, "2026-07-01T00:00:00.000Z"))
        assert days_reached(store.connection, [1]).get("2026-05-31", 0) == reached


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


def test_a_day_that_one_project_was_listed_on_before_its_end_is_open_though_another_reached_it(tmp_path: Path) -> None:
    day = "2026-06-01"
    with copying_few_days(tmp_path) as copy:
        assert copy.sync_all().complete
        assert copy.sync(partitions=NEXT_DAY).complete
        # all were listed in the morning, then one of them after the end
        copy.execute("UPDATE project_days SET listed_at = '2026-06-01T08:00:00.000Z' WHERE day = ?", day)
        made = copy.api.change("run", project=104, at="2026-06-01T20:00:00Z")["pipelines"]
        assert copy.sync(partitions=(day,), projects=["101"]).complete
        resync(copy)
        assert copy.query("SELECT id FROM pipelines WHERE id = ?", *made) == [(made[0],)]


def test_a_project_that_was_refused_and_is_taken_up_again_comes_with_its_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying_few_days(tmp_path) as copy:
        copy.sandbox.configure(denied=["107=403"])
        monkeypatch.setenv("GITLAB_PROJECTS", "101,107")
        assert not copy.sync_all().complete
        monkeypatch.setenv("GITLAB_PROJECTS", "101")
        copy.sandbox.configure(denied=[])
        resync(copy)
        monkeypatch.setenv("GITLAB_PROJECTS", "101,107")
        resync(copy)
        assert copy.one("SELECT count(*) FROM pipelines WHERE project_id = 107") == 3


def test_a_named_project_whose_ci_is_switched_off_and_on_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying_few_days(tmp_path) as copy:
        monkeypatch.setenv("GITLAB_PROJECTS", "platform/api,107")
        assert copy.sync_all(logs=False, tests=False, artifacts=False, days=7).complete
        # as GitLab has it: everything is refused, and the project says why
        copy.sandbox.configure(denied=["107=403"])
        copy.api.change("update", entity="Project", id=107, columns={"builds_access_level": "disabled"})
        assert (
            not copy.sync_all(force=True, days=7).complete
            or copy.one("SELECT has_ci FROM projects WHERE id = 107") == 0
        )
        report = copy.sync_all(days=7)
        assert report.complete, errors_of(report)  # what is stored of it is not asked for either
        copy.sandbox.configure(denied=[])
        copy.api.change("update", entity="Project", id=107, columns={"builds_access_level": "enabled"})
        report = copy.sync_all(days=7)
        assert report.complete, errors_of(report)
        assert copy.one("SELECT count(*) FROM job_logs WHERE project_id = 107") > 0
