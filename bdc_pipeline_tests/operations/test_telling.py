"""The sensors that send alerts, with real instances, files and receivers."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from bdc_pipeline.definitions import WATCHED
from bdc_pipeline.operations.alerts import Problem
from bdc_pipeline.operations.telling import alert_on_copies, alert_on_failed_runs, name_of, sensor_status, still_failing
from bdc_pipeline.sources.properties.tables import PROPERTIES, SCHEMA
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline_tests.fetching.loopback import Server
from bdc_pipeline_tests.operations.runs import a_run

NOW = dt.datetime.now(dt.UTC)

SENSOR = alert_on_copies(WATCHED, {"properties": ["refresh_properties"]}, {"properties": [dg.AssetKey("homes")]})


@pytest.fixture
def posted(data: Path, unset: pytest.MonkeyPatch, receiver: Callable[..., Server]) -> Callable[[], list[str]]:
    """What has been posted since it was last asked."""
    server = receiver()
    unset.setenv("BDC_ALERT_WEBHOOK", f"{server.url}/services/hush")

    def since() -> list[str]:
        found = [json.loads(request.body)["text"] for request in server.requests]
        server.requests.clear()
        return found

    return since


class Turns:
    """A sensor's turns, with the cursor from one to the next."""

    def __init__(self, sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
        self.sensor, self.instance = sensor, instance
        self.cursor: str | None = None

    def __call__(self) -> str:
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            found = self.sensor(context)
            self.cursor = context.cursor
        assert isinstance(found, dg.SkipReason)
        return found.skip_message or ""


# -- runs ------------------------------------------------------------------------------------------------------


def run_job(instance: dg.DagsterInstance, problem: str = "", name: str = "refresh_sonar_customers") -> str:
    """A real run that fails with a sentence, or succeeds; its id."""

    @dg.op
    def fetch() -> None:
        if problem == "bug":
            raise ZeroDivisionError("nobody foresaw it")
        if problem:
            raise dg.Failure(problem, allow_retries=False)

    @dg.job(name=name)
    def work() -> None:
        fetch()

    return str(work.execute_in_process(instance=instance, raise_on_error=False).run_id)


def test_a_run_that_fails_is_told_once_and_again_when_it_succeeds(
    instance: dg.DagsterInstance, posted: Callable[[], list[str]]
) -> None:
    turn = Turns(alert_on_failed_runs, instance)
    assert turn() == "Nothing new."
    run_id = run_job(instance, "2 of 36 partitions not complete")
    assert turn() == "webhook: 1 told, 0 well again"
    assert posted() == [
        f"bdc_pipeline: a run has failed\n- refresh_sonar_customers: 2 of 36 partitions not complete (run {run_id[:8]})"
    ]
    run_job(instance, "2 of 36 partitions not complete")
    assert turn() == "Nothing new."
    run_job(instance)
    turn()
    assert posted() == ["bdc_pipeline: a run has failed\n- well again: refresh_sonar_customers"]
    assert turn() == "Nothing new."


def test_a_run_that_fails_otherwise_is_told_again_and_another_job_by_itself(
    instance: dg.DagsterInstance, posted: Callable[[], list[str]]
) -> None:
    turn = Turns(alert_on_failed_runs, instance)
    turn()
    run_job(instance, "SONAR_TOKEN is not set")
    run_job(instance, "no answer", name="refresh_gitlab")
    turn()
    [text] = posted()
    assert "refresh_sonar_customers: SONAR_TOKEN is not set" in text
    assert "refresh_gitlab: no answer" in text
    run_job(instance, "bug")
    turn()
    [text] = posted()
    assert "refresh_sonar_customers: ZeroDivisionError: nobody foresaw it" in text
    assert "refresh_gitlab" not in text


def test_what_failed_before_the_first_turn_is_history(
    instance: dg.DagsterInstance, posted: Callable[[], list[str]]
) -> None:
    a_run(instance, dg.DagsterRunStatus.FAILURE)
    turn = Turns(alert_on_failed_runs, instance)
    turn.cursor = json.dumps({"after": (NOW + dt.timedelta(hours=1)).isoformat()})
    assert turn() == "Nothing new."
    assert posted() == []


def test_an_alert_that_could_not_be_sent_is_sent_at_the_next_turn(
    instance: dg.DagsterInstance, data: Path, unset: pytest.MonkeyPatch, receiver: Callable[..., Server]
) -> None:
    server = receiver(503, 200)
    unset.setenv("BDC_ALERT_WEBHOOK", f"{server.url}/services/hush")
    turn = Turns(alert_on_failed_runs, instance)
    turn()
    run_job(instance, "broken")
    assert turn() == (
        "webhook: the webhook at 127.0.0.1 answered 503; check BDC_ALERT_WEBHOOK; tried again at the next turn"
    )
    assert turn() == "webhook: 1 told, 0 well again"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("failing", "ended", "found"),
    [
        ([], [], []),
        ([], [("a", "x")], ["a"]),
        ([], [("a", "x"), ("a", None)], []),
        ([], [("a", None), ("a", "x")], ["a"]),
        (["a"], [("b", "x")], ["a", "b"]),
        (["a"], [("a", None), ("b", None)], []),
    ],
)
def test_what_fails_is_what_the_last_run_of_each_name_says(
    failing: list[str], ended: list[tuple[str, str | None]], found: list[str]
) -> None:
    before = {name: Problem("x", "x") for name in failing}
    after = still_failing(before, [(name, Problem(text, text) if text else None) for name, text in ended])
    assert sorted(after) == found


@pytest.mark.parametrize(
    ("job", "assets", "name"),
    [
        ("refresh_dmr", [], "refresh_dmr"),
        ("__ASSET_JOB", [["dmr", "b"], ["dmr", "a"]], "dmr/a, dmr/b"),
        ("__ASSET_JOB", [["dmr", str(n)] for n in range(5)], "dmr/0, dmr/1, dmr/2 and 2 more"),
    ],
)
def test_a_run_is_called_by_its_job_or_its_assets(
    instance: dg.DagsterInstance, job: str, assets: list[list[str]], name: str
) -> None:
    run = a_run(instance, dg.DagsterRunStatus.FAILURE, job, [dg.AssetKey(path) for path in assets])
    assert name_of(run) == name


# -- copies ----------------------------------------------------------------------------------------------------


def note(path: Path, code: str, *, complete: bool = True, problem: str | None = None, days: float = 0.0) -> None:
    """What a sync would have noted of a municipality's homes, some days ago."""
    then = (NOW - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    values = {"complete": int(complete), "problem": problem, "verified_at": then}
    with Store(path / "properties.db", SCHEMA) as store, store.transaction():
        ledger.record_partition(store, PROPERTIES, code, "run", then, values)


def test_a_copy_that_is_incomplete_is_told_once_until_others_are_and_once_when_it_is_whole(
    instance: dg.DagsterInstance, data: Path, posted: Callable[[], list[str]]
) -> None:
    turn = Turns(SENSOR, instance)
    note(data, "0101")
    assert turn() == "Nothing new."
    note(data, "0147", complete=False, problem="page 3 did not come")
    assert turn() == "webhook: 1 told, 0 well again"
    [text] = posted()
    assert text.startswith("bdc_pipeline: a copy needs a look\n- properties/properties: incomplete: 1 of 36: 0147")
    assert "page 3 did not come" in text
    assert turn() == "Nothing new."
    note(data, "0151", complete=False, problem="page 7 did not come")
    turn()
    assert len(posted()) == 1
    note(data, "0147")
    note(data, "0151")
    turn()
    assert posted() == ["bdc_pipeline: a copy needs a look\n- well again: properties/properties"]


def test_a_copy_that_is_stale_is_told_again_only_when_twice_as_many_are(
    instance: dg.DagsterInstance, data: Path, posted: Callable[[], list[str]]
) -> None:
    turn = Turns(SENSOR, instance)
    told = []
    for code in ("0101", "0147", "0151", "0153", "0155"):
        note(data, code, days=9)
        turn()
        told += [text.partition("stale: ")[2].partition(" of")[0] for text in posted()]
    assert told == ["1", "2", "4"]


def test_a_shorter_window_makes_a_copy_stale(
    instance: dg.DagsterInstance, data: Path, posted: Callable[[], list[str]], unset: pytest.MonkeyPatch
) -> None:
    turn = Turns(SENSOR, instance)
    note(data, "0101", days=1)
    assert turn() == "Nothing new."
    unset.setenv("BDC_FRESHNESS", "properties=1h")
    assert turn() == "webhook: 1 told, 0 well again"


def test_a_copy_that_is_being_written_is_judged_when_that_is_over(
    instance: dg.DagsterInstance, data: Path, posted: Callable[[], list[str]]
) -> None:
    turn = Turns(SENSOR, instance)
    note(data, "0101", complete=False, problem="under way")
    run = a_run(instance, dg.DagsterRunStatus.STARTED, "refresh_properties")
    assert turn() == "Nothing new."
    instance.report_run_canceled(run)
    assert turn() == "webhook: 1 told, 0 well again"


def test_a_file_that_cannot_be_read_is_a_problem_and_no_good_news_of_its_tables(
    instance: dg.DagsterInstance, data: Path, posted: Callable[[], list[str]]
) -> None:
    turn = Turns(SENSOR, instance)
    note(data, "0101", complete=False, problem="page 3 did not come")
    turn()
    posted()
    good = (data / "properties.db").read_bytes()
    for suffix in ("-wal", "-shm"):
        Path(f"{data}/properties.db{suffix}").unlink(missing_ok=True)
    (data / "properties.db").write_bytes(b"no database " * 100)
    turn()
    [text] = posted()
    assert "- properties: " in text
    assert "is no SQLite database" in text
    assert "well again" not in text
    (data / "properties.db").write_bytes(good)
    turn()
    assert posted() == ["bdc_pipeline: a copy needs a look\n- well again: properties"]


def test_copies_that_were_never_made_are_nobodys_problem(
    instance: dg.DagsterInstance, posted: Callable[[], list[str]]
) -> None:
    assert Turns(SENSOR, instance)() == "Nothing new."


# -- being off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensor", [alert_on_failed_runs, SENSOR], ids=lambda sensor: sensor.name)
def test_without_a_channel_a_sensor_says_how_to_configure_one(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, data: Path
) -> None:
    assert Turns(sensor, instance)().startswith("No channel is configured: set BDC_ALERT_WEBHOOK")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("", dg.DefaultSensorStatus.STOPPED),
        ("BDC_ALERT_WEBHOOK", dg.DefaultSensorStatus.RUNNING),
        ("BDC_ALERT_MAIL_TO", dg.DefaultSensorStatus.RUNNING),
    ],
)
def test_alerts_are_on_from_the_start_where_they_go_anywhere(
    name: str, status: dg.DefaultSensorStatus, unset: pytest.MonkeyPatch
) -> None:
    if name:
        unset.setenv(name, "something")
    assert sensor_status() is status
