"""How near a GitLab sync comes to the physical limit: `python -m benchmarks.gitlab` (about a minute).

A sandbox in a process of its own answers each request after a fixed latency. The ideal time of a stage is its requests in whole
rounds: ceil(requests / workers) x latency; listing pipelines and asking for each count as two. The crawler with nested semaphores, as
the tool in use today has them (5 projects, 10 pipelines of each, batches of 20 jobs, 20 calls in all), makes the same calls with the
same session, in the same run. Of the short sync, which is over in 1.5 s, five are made, each into a new file, and the median is told.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running
from bdc_pipeline.sources.gitlab import command, plan_units
from bdc_pipeline.sources.gitlab import plan as planning
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.archives import ArchivesStream
from bdc_pipeline.sources.gitlab.assets import GitLabSyncConfig
from bdc_pipeline.sources.gitlab.client import GitLabClient
from bdc_pipeline.sources.gitlab.jobs import JobsStream
from bdc_pipeline.sources.gitlab.logs import LogsStream
from bdc_pipeline.sources.gitlab.pipelines import PipelinesStream
from bdc_pipeline.sources.gitlab.projects import ProjectsPlan, ProjectsStream
from bdc_pipeline.sources.gitlab.reports import TestsStream
from bdc_pipeline.sources.gitlab.resource import MB, GitLabResource
from bdc_pipeline.sources.gitlab.windows import Asked, text_of
from bdc_pipeline.warehouse.drain import DrainOptions, drain
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stored_rows import StoredRows

FIRST, LAST = dt.date(2026, 4, 15), dt.date(2026, 6, 2)

StreamOf = Callable[[GitLabClient, Any, int, Stop], Any]


def days_between(first: dt.date, last: dt.date) -> list[str]:
    return [str(first + dt.timedelta(days=n)) for n in range((last - first).days + 1)]


def stages(sandbox: Sandbox, database: Path, days: list[str], workers: int) -> Iterator[dict[str, Any]]:
    """Plans and fetches each stage, and tells what it cost; without Dagster, whose events are not what is measured."""
    sandbox.reset_stats()
    resource, stop = GitLabResource(workers=workers), Stop()
    at, stored = dt.datetime.now(dt.UTC), StoredRows(database)
    now = text_of(at)
    made: list[tuple[str, Callable[[Any], Any], StreamOf]] = [
        (
            "projects",
            lambda _: ProjectsPlan(),
            lambda client, plan, n, s: ProjectsStream(client, plan, workers=n, stop=s),
        ),
        (
            "pipelines",
            lambda c: planning.plan_pipelines(c, [], Asked(days, dt.datetime.now(dt.UTC)), force=False, limit=None),
            lambda client, plan, n, s: PipelinesStream(client, plan, stored=stored, workers=n, stop=s),
        ),
        (
            "jobs",
            lambda c: plan_units.plan_jobs(c, days, force=False, workers=workers, now=at),
            lambda client, plan, n, s: JobsStream(client, plan, stored=stored, workers=n, stop=s),
        ),
        (
            "tests",
            lambda c: plan_units.plan_tests(c, days, force=False, now=now),
            lambda client, plan, n, s: TestsStream(client, plan, stored=stored, now=now, workers=n, stop=s),
        ),
        (
            "logs",
            lambda c: plan_units.plan_logs(c, days, force=False, now=at),
            lambda client, plan, n, s: LogsStream(
                client, plan, stored=stored, most_bytes=100 * MB, now=now, workers=n, stop=s
            ),
        ),
        (
            "archives",
            lambda c: plan_units.plan_archives(c, days, force=False),
            lambda client, plan, n, s: ArchivesStream(
                client, plan, stored=stored, most_bytes=100 * MB, directory=None, now=now, workers=n, stop=s
            ),
        ),
    ]
    opened = time.perf_counter()
    holder = Store(database, t.SCHEMA)  # held open until the end, as the command line does
    for name, plan_of, stream_of in made:
        began, cpu = opened if name == "projects" else time.perf_counter(), time.process_time()
        with Store(database, t.SCHEMA) as store:
            plan = plan_of(store.connection)
        planned = time.perf_counter()
        with closing(resource.client(stop)) as client:
            drained = drain(stream_of(client, plan, workers, stop), database, f"{name} {began}")
            yield {
                "stage": name,
                "plan": planned - began,
                "fetch": time.perf_counter() - planned,
                "cpu": time.process_time() - cpu,
                "requests": client.effort().requests,
                # listing pipelines and asking for each are two steps, of which the second waits for the first
                "lists": sandbox.stats()["topics"].get("pipelines", 0) if name == "pipelines" else 0,
                "rows": sum(counts.fetched for counts in drained.counts.values()),
                "complete": drained.is_complete,
            }
    began, cpu = time.perf_counter(), time.process_time()
    holder.close()
    took = time.perf_counter() - began
    nothing = dict.fromkeys(("plan", "requests", "lists", "rows"), 0)
    yield {"stage": "closing", **nothing, "fetch": took, "cpu": time.process_time() - cpu, "complete": True}


def report(title: str, found: list[dict[str, Any]], latency: float, workers: int) -> tuple[float, float]:
    """Prints the stages of a run; its seconds and the ideal ones."""
    heads = ("requests", "rows", "plan s", "fetch s", "ideal s", "of ideal", "CPU ms each")
    print(f"\n{title}\n{'':<12}" + "".join(f"{head:>12}" for head in heads))
    seconds = ideal = 0.0
    for stage in found:
        steps = (stage["lists"], stage["requests"] - stage["lists"])
        best = sum(math.ceil(calls / workers) for calls in steps) * latency
        seconds, ideal = seconds + stage["plan"] + stage["fetch"], ideal + best
        print(
            f"{stage['stage']:<12}{stage['requests']:>12,}{stage['rows']:>12,}{stage['plan']:>12.2f}{stage['fetch']:>12.2f}"
            f"{best:>12.2f}{share(best, stage['fetch']):>12}{stage['cpu'] * 1000 / max(1, stage['requests']):>12.1f}"
            f"{'' if stage['complete'] else '   INCOMPLETE'}"
        )
    requests = sum(stage["requests"] for stage in found)
    print(f"{'all':<12}{requests:>12,}{'':>24}{seconds:>12.2f}{ideal:>12.2f}{share(ideal, seconds):>12}")
    return seconds, ideal


def share(best: float, took: float) -> str:
    return f"{best / took:.0%}" if best and took else "-"


def nested(
    workers: int, projects: list[int], pipelines: dict[int, list[int]], jobs: dict[int, list[int]]
) -> tuple[int, float]:
    """The same calls by nested loops, each with its own limit; how many, and how long it took.

    `jobs` holds the jobs of each pipeline, those without an archive negative. What comes is neither read nor stored.
    """
    began = time.perf_counter()
    calls = threading.Semaphore(workers)
    with closing(GitLabResource(workers=workers).client(Stop())) as client:

        def call(path: str) -> None:
            with calls:
                client.session.fetch("GET", f"/api/v4/{path}", parse=lambda answer: answer.content)

        def of_job(project: int, job: int) -> None:
            call(f"projects/{project}/jobs/{abs(job)}/trace")
            if job > 0:
                call(f"projects/{project}/jobs/{job}/artifacts")

        def of_pipeline(project: int, pipeline: int) -> None:
            base = f"projects/{project}/pipelines/{pipeline}"
            for path in (base, f"{base}/bridges", f"{base}/jobs?per_page=100", f"{base}/test_report"):
                call(path)
            found = jobs[pipeline]
            for at in range(0, len(found), 20):
                with ThreadPoolExecutor(20) as pool:
                    list(pool.map(lambda job: of_job(project, job), found[at : at + 20]))

        def of_project(project: int) -> None:
            call(f"projects/{project}/pipelines?per_page=100")
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(lambda pipeline: of_pipeline(project, pipeline), pipelines[project]))

        with ThreadPoolExecutor(5) as pool:
            list(pool.map(of_project, projects))
        return client.effort().requests, time.perf_counter() - began


def using(sandbox: Sandbox) -> None:
    os.environ |= {"GITLAB_URL": sandbox.source("gitlab").url, "GITLAB_TOKEN": sandbox.token}
    os.environ.pop("GITLAB_PROJECTS", None)


def first_sync(sandbox: Sandbox, directory: Path, workers: int, times: int) -> list[dict[str, Any]]:
    """The stages of the median of some first syncs."""
    days = days_between(FIRST, LAST)
    found = [list(stages(sandbox, directory / f"{number}.db", days, workers)) for number in range(times)]
    return sorted(found, key=lambda of: sum(stage["plan"] + stage["fetch"] for stage in of))[times // 2]


def against_nested(sandbox: Sandbox, directory: Path, latency: float, workers: int, times: int) -> None:
    """A first sync, and the same calls nested."""
    using(sandbox)
    source = sandbox.source("gitlab")
    title = f"first sync, the median of {times}" if times > 1 else "first sync"
    seconds, _ = report(title, first_sync(sandbox, directory, workers, times), latency, workers)
    pipelines: dict[int, list[int]] = {}
    for number, project in source.rows("Pipeline", ["id", "project_id"]):
        pipelines.setdefault(project, []).append(number)
    jobs: dict[int, list[int]] = {number: [] for of in pipelines.values() for number in of}
    for number, pipeline, archive in source.rows("Job", ["id", "pipeline_id", "artifacts_file"]):
        jobs[pipeline].append(number if archive is not None else -number)
    requests, took = nested(workers, sorted(pipelines), pipelines, jobs)
    ideal = math.ceil(requests / workers) * latency
    print(
        f"nested limits: {requests:,} requests in {took:.2f} s, {share(ideal, took)} of ideal, nothing read or stored; "
        f"stages in {seconds:.2f} s"
    )


def through_dagster(sandbox: Sandbox, directory: Path, workers: int) -> None:
    """A first sync and one that finds nothing new, as the command line makes them, without DAGSTER_HOME and with it."""
    using(sandbox)
    for title, home in (("nothing recorded", None), ("with DAGSTER_HOME", directory / "home")):
        os.environ.pop("DAGSTER_HOME", None)
        if home is not None:
            os.environ["DAGSTER_HOME"] = str(home)
        took = []
        for _ in range(2):
            asked = command.GitLabSync(
                database=directory / f"{title}.db",
                resource=GitLabResource(workers=workers),
                config=GitLabSyncConfig(days=36_500),
                drain=DrainOptions(),
                first=FIRST,
                last=LAST,
            )
            began = time.perf_counter()
            report = command.sync(asked, lambda *_: None, time.monotonic())
            took.append(f"{time.perf_counter() - began:.1f} s{'' if report.complete else ' INCOMPLETE'}")
        print(f"{title:<20} first sync {took[0]}, nothing new {took[1]}")


def main() -> None:
    """Prints the figures as tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dagster", action="store_true", help="only what Dagster adds: 49 days of 100 jobs, no latency (half a minute)"
    )
    parser.add_argument("--latency-ms", type=float, default=100)
    parser.add_argument("--workers", type=int, default=20)
    given = parser.parse_args()
    latency, workers = given.latency_ms / 1000, given.workers

    def options(projects: int, pipelines: int, jobs: int, milliseconds: float) -> SandboxOptions:
        return SandboxOptions(
            sources=frozenset({"gitlab"}),
            projects=projects,
            pipelines_per_project=pipelines,
            jobs_per_pipeline=jobs,
            regular=True,
            latency_ms=milliseconds,
        )

    if given.dagster:
        with tempfile.TemporaryDirectory() as directory, running(options(1, 5, 20, 0)) as sandbox:
            through_dagster(sandbox, Path(directory), workers)
        return
    with tempfile.TemporaryDirectory() as directory:
        for projects, pipelines, jobs in ((1, 5, 20), (1, 45, 20), (45, 2, 10)):
            each = projects * pipelines
            print(
                f"\n== {each * jobs} jobs of {each} pipelines of {projects} projects, {given.latency_ms:g} ms, {workers} slots"
            )
            own = Path(directory) / f"{projects} {pipelines}"
            with running(options(projects, pipelines, jobs, given.latency_ms)) as sandbox:
                against_nested(sandbox, own, latency, workers, times=5 if each * jobs <= 100 else 1)
        print(f"\n== 50 projects of 4 pipelines, 20 ms, {workers} slots")
        with running(options(50, 4, 3, 20)) as sandbox:
            using(sandbox)
            database, today = Path(directory) / "fifty.db", dt.datetime.now(dt.UTC).date()
            report("first sync", list(stages(sandbox, database, days_between(FIRST, LAST), workers)), 0.02, workers)
            list(stages(sandbox, database, [str(today)], workers))
            report("unchanged resync", list(stages(sandbox, database, [str(today)], workers)), 0.02, workers)


if __name__ == "__main__":
    main()
