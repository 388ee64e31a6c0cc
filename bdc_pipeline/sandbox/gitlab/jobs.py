"""The jobs of a generated pipeline: their names, outcomes, times and fates."""

from __future__ import annotations

from functools import lru_cache

from bdc_pipeline.sandbox.gitlab import words
from bdc_pipeline.sandbox.gitlab.noise import Noise
from bdc_pipeline.sandbox.gitlab.records import DAY, NOW, SECOND, Job, Pipeline

#: When the jobs of a stage begin and end, as shares of the pipeline's time
_WINDOWS = {"build": (0.0, 0.25), "test": (0.25, 0.75), "package": (0.75, 0.9), "deploy": (0.9, 1.0)}
_ORDER = {stage: place for place, stage in enumerate(words.STAGES)}


@lru_cache(maxsize=64)
def names(count: int) -> list[tuple[str, str, str]]:
    """Name, stage and makings of so many jobs, in the order of their ids: the earliest stage first, as GitLab makes them.

    Beyond a dozen they are parallel parts of the unit tests, named as GitLab names them.
    """
    plain = list(words.JOBS[:count])
    parts = count - len(plain) + 1
    if parts > 1:
        unit = words.JOBS[2]
        plain[2:3] = [(f"{unit[0]} {part + 1}/{parts}", unit[1], unit[2]) for part in range(parts)]
    return sorted(plain, key=lambda job: _ORDER[job[1]])


def jobs_of(pipeline: Pipeline, first: int, seed: int, *, regular: bool) -> list[Job]:
    """All jobs by id: those that the pipeline began with, its bridges, then the retries."""
    found: list[Job] = []
    retries: list[Job] = []
    rows = names(pipeline.builds) if pipeline.builds else []
    culprit = _culprit(pipeline, rows, seed)
    for place, (name, stage, makes) in enumerate(rows):
        noise = Noise(seed, 10, first + place)
        job = Job(first + place, pipeline.id, name, stage, "created", pipeline.created + place, makes=makes)
        job.allow_failure = "o" in makes
        job.status = "success" if regular else _status(pipeline, job, place, culprit, noise)
        _run(job, pipeline, noise)
        found.append(job)
        if not regular:
            if job.is_over and job.started is not None and noise.chance(0.05):
                retries.append(_retry(job, first + pipeline.builds + 2 + len(retries), noise))
            _suffer(job, noise)
    for place, downstream in enumerate(pipeline.downstream):
        found.append(_bridge(pipeline, first + pipeline.builds + place, place, downstream))
    return found + retries


def again(job: Job, identifier: int, created: int) -> Job:
    """The job that comes of a retry, waiting to be run; the old one is marked as retried."""
    job.retried = True
    return Job(
        identifier,
        job.pipeline_id,
        job.name,
        job.stage,
        "pending",
        created,
        makes=job.makes,
        allow_failure=job.allow_failure,
        bridge=job.bridge,
    )


def finish(job: Job, status: str, at: int, *, reason: str | None = None) -> None:
    """Bring a job to an end; one that has not started does so a minute before, unless it never will."""
    noise = Noise(11, job.id)
    if status in {"success", "failed"} and job.started is None:
        job.started, job.queued = at - 60 * SECOND, 1.5
    if job.started is not None and job.runner is None and not job.bridge:
        job.runner = noise.below(len(words.RUNNERS))
    job.status, job.finished = status, at if status != "skipped" else None
    job.failure_reason = (reason or "script_failure") if status == "failed" else None
    if job.started is not None:
        _hand_in(job, noise)


def _culprit(pipeline: Pipeline, rows: list[tuple[str, str, str]], seed: int) -> int:
    """The place of the job that makes the pipeline fail, or where it was cancelled: one that tests, if there is any."""
    testing = [place for place, row in enumerate(rows) if row[1] == "test" and "o" not in row[2]]
    reporting = [place for place in testing if "j" in rows[place][2]]
    return Noise(seed, 12, pipeline.id).pick(reporting or testing or [0])


def _status(pipeline: Pipeline, job: Job, place: int, culprit: int, noise: Noise) -> str:
    stage = _ORDER[job.stage]
    if pipeline.plan in {"success", "failed"} and "o" in job.makes and stage < 2 and noise.chance(0.2):
        return "failed"
    if pipeline.plan == "success" and "m" in job.makes and noise.chance(0.6):
        job.allow_failure = True
        return "manual"
    if pipeline.plan == "manual":
        return "manual" if "m" in job.makes else "success" if stage < 3 else "created"
    if pipeline.plan in {"pending", "created"}:
        return "pending" if pipeline.plan == "pending" and stage == 0 else "created"
    if pipeline.plan in {"success", "skipped"}:
        return pipeline.plan
    return _broken_off(pipeline.plan, stage, place, culprit, noise)


def _broken_off(plan: str, stage: int, place: int, culprit: int, noise: Noise) -> str:
    """The outcome in a pipeline that got as far as its tests."""
    if stage != 1:
        early, late = "success", {"failed": "skipped", "canceled": "canceled", "running": "created"}[plan]
        return early if stage == 0 else late
    if plan == "failed":
        return "failed" if place == culprit or noise.chance(0.04) else "success"
    if plan == "canceled":
        return "canceled" if place >= culprit else "success"
    if place == culprit:
        return "running"
    return noise.pick(("success", "running", "running", noise.pick(words.ALIVE)))


def _run(job: Job, pipeline: Pipeline, noise: Noise) -> None:
    """Give it the times that its status needs, inside its pipeline's, and what it leaves behind."""
    begin = pipeline.started
    if begin is None or job.status in {"skipped", "manual", *words.ALIVE}:
        return
    if job.status == "canceled" and noise.chance(0.5):
        job.finished = pipeline.finished
        return
    whole = (pipeline.duration or 600) * SECOND
    opens, closes = _WINDOWS[job.stage]
    room = int(whole * (closes - opens))
    wait = noise.below(max(1, room // 5))
    job.started = begin + int(whole * opens) + wait
    job.queued = round(wait / SECOND + noise.unit(), 6)
    job.runner = noise.below(len(words.RUNNERS))
    if job.status == "running":
        return
    job.finished = min(job.started + 1 + int((room - wait) * (0.2 + 0.79 * noise.unit())), pipeline.finished or NOW)
    if noise.chance(0.1):
        # Some durations are whole seconds, and JSON then has an integer
        job.finished = job.started + max(1, (job.finished - job.started) // SECOND) * SECOND
    if job.status == "failed":
        job.failure_reason = noise.pick(words.FAILURES)
    _hand_in(job, noise)


def _hand_in(job: Job, noise: Noise) -> None:
    """Coverage and the date at which artifacts expire, 30 or 7 days later or never."""
    if job.status == "success" and "c" in job.makes:
        job.coverage = round(60 + 39 * noise.unit(), 2)
    if job.finished is not None and ("a" in job.makes or "j" in job.makes):
        # As the configuration says, so it is the same for each run of a job
        days = (30, 30, 7, 0)[len(job.name.split()[0]) % (3 if "j" in job.makes else 4)]
        job.expires = job.finished + days * DAY if days else None


def _suffer(job: Job, noise: Noise) -> None:
    """What befalls finished jobs later: erased, expired, the runner deleted, the reason never known."""
    if not job.is_over or job.finished is None:
        return
    if job.expires is not None and job.expires < NOW:
        job.expired = True
        job.swept = job.expires < NOW - DAY
    if noise.chance(0.015) and job.started is not None and job.finished + DAY < NOW:
        job.erased = job.finished + DAY
    if noise.chance(0.03):
        job.runner = None
    if noise.chance(0.05):
        job.removed.add("failure_reason")
    if noise.chance(0.02):
        job.overrides["user"] = None
    if noise.chance(0.005):
        job.overrides["commit"] = None


def _retry(job: Job, identifier: int, noise: Noise) -> Job:
    """The job once more with the outcome that it has; the first attempt becomes a failure."""
    outcome, started, finished = job.status, job.started or job.created, job.finished or job.created
    middle = started + (finished - started) // 2
    second = again(job, identifier, middle + 20)
    second.status, second.failure_reason, second.coverage = outcome, job.failure_reason, job.coverage
    second.started, second.finished, second.queued = middle + 40, finished, 0.02
    second.expires, second.runner = job.expires, job.runner
    _suffer(second, noise)
    job.status, job.finished, job.coverage = "failed", middle, None
    job.failure_reason = noise.pick(("runner_system_failure", "script_failure", "stuck_or_timeout_failure"))
    return second


def _bridge(pipeline: Pipeline, identifier: int, place: int, downstream: int | None) -> Job:
    """A bridge after the tests."""
    bridge = Job(identifier, pipeline.id, f"trigger {place + 1}", "test", "manual", pipeline.created + 50, bridge=True)
    if downstream is not None and pipeline.started is not None:
        bridge.downstream, bridge.status = downstream, "success"
        bridge.started, bridge.queued = pipeline.started + 500, 0.123
        bridge.finished = bridge.started + 1500 if pipeline.finished is not None else None
        if pipeline.plan == "running":
            bridge.status, bridge.finished = "running", None
    return bridge
