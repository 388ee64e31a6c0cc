"""The sensors that send alerts: one for runs that fail, one for copies that are stale or incomplete.

They ask the instance and the files, no service. On from the start where a channel is configured. What was told stands in
their cursors, so an alert that could not be sent is sent at a later turn, and a daemon that was down tells what it missed.
"""

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence

import dagster as dg
import msgspec

from bdc_pipeline import settings
from bdc_pipeline.operations.alerts import Problem, channels, digest_of, tell
from bdc_pipeline.operations.facts import Watched
from bdc_pipeline.operations.inflight import in_flight
from bdc_pipeline.operations.standing import BETWEEN_STAGES, Standing, read_standings
from bdc_pipeline.operations.windows import current
from bdc_pipeline.running import cause_of
from bdc_pipeline.warehouse.store import StoreError

OVERLAP = dt.timedelta(minutes=2)
"""How far back runs are looked at again: one that ended earlier may have been written later. Each name's last run decides, so
that looking twice changes nothing."""

RUNS_A_TURN = 200


class FailedCursor(msgspec.Struct):
    """Up to when runs have been looked at, what fails now, and who was told what."""

    after: str
    failing: dict[str, tuple[str, str]] = {}
    told: dict[str, dict[str, str]] = {}


class StandingCursor(msgspec.Struct):
    """Who was told what."""

    told: dict[str, dict[str, str]] = {}


def sensor_status() -> dg.DefaultSensorStatus:
    """On from the start where alerts go anywhere."""
    is_on = settings.alerts_are_configured()
    return dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED


# -- runs ------------------------------------------------------------------------------------------------------


def name_of(run: dg.DagsterRun) -> str:
    """What a run is called in alerts: its job, or the assets that a person chose, up to three of them."""
    chosen = sorted(key.to_user_string() for key in run.asset_selection or ())
    if not run.job_name.startswith("__") or not chosen:
        return run.job_name
    return ", ".join(chosen[:3]) + (f" and {len(chosen) - 3} more" if len(chosen) > 3 else "")


def still_failing(failing: Mapping[str, Problem], ended: Sequence[tuple[str, Problem | None]]) -> dict[str, Problem]:
    """What fails after some more runs have ended, in their order: by name, with the problem, or None for a success."""
    found = dict(failing)
    for name, problem in ended:
        if problem is None:
            found.pop(name, None)
        else:
            found[name] = problem
    return found


def why_failed(instance: dg.DagsterInstance, run_id: str) -> str:
    """The sentence with which a run has failed."""
    wanted = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=wanted):
        event = entry.dagster_event
        if event is not None and event.is_step_failure:
            failure = event.step_failure_data
            told = failure.user_failure_data
            return str(told.description).strip() if told and told.description else cause_of(failure.error)
        if event is not None and event.message:
            return event.message
    return "failed"


@dg.sensor(
    name="alert_on_failed_runs",
    minimum_interval_seconds=60,
    default_status=sensor_status(),
    description="Tells BDC_ALERT_WEBHOOK and BDC_ALERT_MAIL_TO of runs that fail, once, and when they succeed again.",
)
def alert_on_failed_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """A plain sensor with a cursor: a run status sensor moves on where sending fails, and the alert would be lost."""
    to = channels()
    if not to:
        return _unconfigured()
    now = dt.datetime.now(dt.UTC)
    state = msgspec.json.decode(context.cursor, type=FailedCursor) if context.cursor else FailedCursor(now.isoformat())
    ended = _ended_since(context.instance, state)
    failing = still_failing({name: Problem(*pair) for name, pair in state.failing.items()}, ended)
    state.told, sentences = tell("a run has failed", failing, state.told, to, link=settings.ui_url())
    state.failing = {name: (problem.text, problem.digest) for name, problem in failing.items()}
    context.update_cursor(msgspec.json.encode(state).decode())
    return dg.SkipReason("; ".join(sentences) or "Nothing new.")


def _ended_since(instance: dg.DagsterInstance, state: FailedCursor) -> list[tuple[str, Problem | None]]:
    """The runs that have ended since the last turn, in their order. Moves the cursor on."""
    asked = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        updated_after=dt.datetime.fromisoformat(state.after) - OVERLAP,
    )
    records = instance.get_run_records(asked, limit=RUNS_A_TURN, order_by="update_timestamp", ascending=True)
    found: list[tuple[str, Problem | None]] = []
    for record in records:
        run = record.dagster_run
        at = record.update_timestamp.replace(tzinfo=record.update_timestamp.tzinfo or dt.UTC)
        state.after = max(state.after, at.astimezone(dt.UTC).isoformat())
        problem = None
        if run.status is dg.DagsterRunStatus.FAILURE:
            sentence = why_failed(instance, run.run_id)
            problem = Problem(f"{sentence} (run {run.run_id[:8]})", digest_of(sentence))
        found.append((name_of(run), problem))
    return found


# -- copies ----------------------------------------------------------------------------------------------------


def problem_of(standing: Standing) -> Problem | None:
    """The problem that a table has. It is told again when others are incomplete, or twice as many are stale."""
    match standing.state:
        case "incomplete":
            of = sorted(f"{one.key} {one.problem}" for one in standing.those("incomplete"))
            return Problem(standing.incomplete, digest_of("incomplete", *standing.problems, *of))
        case "stale":
            return Problem(standing.stale, digest_of("stale", len(standing.those("stale")).bit_length()))
        case _:
            return None


def problems_of(
    watched: Sequence[Watched], busy: Callable[[str], bool], now: dt.datetime
) -> tuple[dict[str, Problem], frozenset[str]]:
    """The problems of all copies, by table, and the tables of which nothing can be said now.

    A copy that is being written is judged when that is over; one that has never been made is nobody's problem.
    """
    windows = current(watched)
    found: dict[str, Problem] = {}
    unknown: set[str] = set()
    for one in watched:
        path = settings.database_path(one.source)
        names = [f"{one.source}/{table.name}" for table in one.schema.tables]
        if not path.is_file():
            continue
        if busy(one.source):
            unknown |= {one.source, *names}
            continue
        try:
            standings = read_standings(path, one, windows, now, patience=BETWEEN_STAGES)
        except StoreError as error:
            # a failed read is no good news of the tables
            unknown |= set(names)
            found[one.source] = Problem(str(error), digest_of(error))
            continue
        for standing in standings:
            if problem := problem_of(standing):
                found[f"{one.source}/{standing.table}"] = problem
    return found, frozenset(unknown)


def alert_on_copies(
    watched: Sequence[Watched], jobs: Mapping[str, Collection[str]], assets: Mapping[str, Collection[dg.AssetKey]]
) -> dg.SensorDefinition:
    """The sensor that tells of stale and incomplete copies.

    Args:
        watched: the sources.
        jobs: the names of each source's jobs.
        assets: the keys of each source's assets: while one of them is being written, the copy is not judged.
    """

    @dg.sensor(
        name="alert_on_copies",
        minimum_interval_seconds=120,
        default_status=sensor_status(),
        description="Tells BDC_ALERT_WEBHOOK and BDC_ALERT_MAIL_TO of copies that are stale or incomplete, once, and when they "
        "are well again.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        to = channels()
        if not to:
            return _unconfigured()
        now = dt.datetime.now(dt.UTC)

        def busy(source: str) -> bool:
            return in_flight(context.instance, jobs.get(source, ()), assets.get(source, ()), now) is not None

        found, unknown = problems_of(watched, busy, now)
        state = msgspec.json.decode(context.cursor, type=StandingCursor) if context.cursor else StandingCursor()
        link = settings.ui_url()
        state.told, sentences = tell("a copy needs a look", found, state.told, to, unknown=unknown, link=link)
        context.update_cursor(msgspec.json.encode(state).decode())
        return dg.SkipReason("; ".join(sentences) or "Nothing new.")

    return sensor


def _unconfigured() -> dg.SkipReason:
    return dg.SkipReason("No channel is configured: set BDC_ALERT_WEBHOOK, or BDC_ALERT_MAIL_TO and BDC_SMTP_HOST.")
