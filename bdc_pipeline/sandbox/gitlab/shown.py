"""Projects, pipelines, jobs and bridges as the REST API shows them.

Keys, and which of them may be null or missing, follow GitLab's documentation and what was seen in real answers: coverage is text
in pipelines and a number in jobs, `failure_reason` and `artifacts_file` are there or not, a trace's `file_format` may be null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from bdc_pipeline.sandbox.gitlab import words
from bdc_pipeline.sandbox.gitlab.archives import archive_size
from bdc_pipeline.sandbox.gitlab.logs import log_size
from bdc_pipeline.sandbox.gitlab.noise import Noise
from bdc_pipeline.sandbox.gitlab.records import SECOND, Job, Pipeline, Project, Record


def moment(at: int | None) -> str | None:
    """A moment in ISO 8601, with milliseconds and Z."""
    if at is None:
        return None
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{at % SECOND:03d}Z"


def project(record: Project, base: str, *, simple: bool = False) -> dict[str, Any]:
    """A project; `base` is the instance's URL."""
    url = f"{base}/{record.full_path}"
    group = record.namespace
    shown: dict[str, Any] = {
        "id": record.id,
        "description": None,
        "name": record.name,
        "name_with_namespace": f"{group.replace('/', ' / ').title()} / {record.name}",
        "path": record.path,
        "path_with_namespace": record.full_path,
        "created_at": moment(record.created),
        "default_branch": "main",
        "tag_list": record.topics,
        "topics": record.topics,
        "ssh_url_to_repo": f"git@127.0.0.1:{record.full_path}.git",
        "http_url_to_repo": f"{url}.git",
        "web_url": url,
        "readme_url": f"{url}/-/blob/main/README.md",
        "forks_count": 0,
        "avatar_url": None,
        "star_count": record.id % 7,
        "last_activity_at": moment(record.last_activity),
        "visibility": record.visibility,
        "namespace": {
            "id": words.GROUPS.index(group) + 2 if group in words.GROUPS else 99,
            "name": group.rpartition("/")[2].title(),
            "path": group.rpartition("/")[2],
            "kind": "group",
            "full_path": group,
            "parent_id": None,
            "avatar_url": None,
            "web_url": f"{base}/groups/{group}",
        },
    }
    if not simple:
        shown |= {
            "archived": record.archived,
            "updated_at": moment(record.last_activity),
            "jobs_enabled": True,
            "builds_access_level": "enabled",
            "empty_repo": False,
            "creator_id": 1,
            "public_jobs": True,
            "shared_runners_enabled": True,
            "ci_default_git_depth": 20,
            "build_timeout": 3600,
            "keep_latest_artifact": True,
            # As for whoever maintains a project: a secret that no copy may hold
            "runners_token": f"SYNTHETIC-RUNNERS-TOKEN-{record.id}",
            "permissions": {"project_access": {"access_level": 40, "notification_level": 3}, "group_access": None},
        }
    return _changed(shown, record)


def pipeline_row(record: Pipeline, owner: Project, base: str) -> dict[str, Any]:
    """A pipeline as lists show it."""
    return _changed(_pipeline_row(record, owner, base), record)


def _pipeline_row(record: Pipeline, owner: Project, base: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "iid": record.iid,
        "project_id": record.project_id,
        "sha": record.sha,
        "ref": record.ref,
        "status": record.status,
        "source": record.source,
        "created_at": moment(record.created),
        "updated_at": moment(record.updated),
        "web_url": f"{base}/{owner.full_path}/-/pipelines/{record.id}",
        "name": record.name,
    }


def pipeline(record: Pipeline, owner: Project, base: str) -> dict[str, Any]:
    """A pipeline with all that is known of it."""
    text = {"success": "passed", "manual": "blocked"}.get(record.status, record.status)
    shown = {
        **_pipeline_row(record, owner, base),
        "before_sha": record.before_sha,
        "tag": record.tag,
        "yaml_errors": record.yaml_errors,
        "user": _short_user(record.user, base),
        "started_at": moment(record.started),
        "finished_at": moment(record.finished),
        "committed_at": None,
        "duration": record.duration,
        "queued_duration": record.queued,
        "coverage": None if record.coverage is None else f"{record.coverage:.2f}",
        "detailed_status": {
            "icon": f"status_{record.status}",
            "text": text,
            "label": text,
            "group": record.status,
            "tooltip": text,
            "has_details": False,
            "details_path": f"/{owner.full_path}/-/pipelines/{record.id}",
            "illustration": None,
            "favicon": f"/assets/ci_favicons/favicon_status_{record.status}.png",
        },
        "archived": owner.archived,
    }
    return _changed(shown, record)


def job(record: Job, of: Pipeline, owner: Project, base: str) -> dict[str, Any]:
    """A job as lists and its own page show it."""
    shown = _common(record, of, owner, base)
    artifacts = _artifacts(record)
    if artifacts and artifacts[0]["file_type"] == "archive":
        shown["artifacts_file"] = {"filename": artifacts[0]["filename"], "size": artifacts[0]["size"]}
    runner = None if record.runner is None else words.RUNNERS[record.runner]
    shown |= {
        "artifacts": artifacts,
        "artifacts_expire_at": moment(record.expires) if record.erased is None else None,
        "tag_list": list(words.RUNNERS[record.id % 3][2]) if runner is None else list(runner[2]),
        "runner": None if record.runner is None else _runner(record.runner),
        "runner_manager": None if record.runner is None else _manager(record.runner),
    }
    return _changed(shown, record)


def bridge(
    record: Job, of: Pipeline, owner: Project, base: str, downstream: tuple[Pipeline, Project] | None
) -> dict[str, Any]:
    """A trigger job and the pipeline that it started."""
    shown = _common(record, of, owner, base)
    shown["downstream_pipeline"] = None if downstream is None else pipeline_row(*downstream, base)
    return _changed(shown, record)


def user(index: int, base: str) -> dict[str, Any]:
    """A user with what jobs show of them."""
    return _user(index, base)


def _common(record: Job, of: Pipeline, owner: Project, base: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": record.id,
        "status": record.status,
        "stage": record.stage,
        "name": record.name,
        "ref": of.ref,
        "tag": of.tag,
        "coverage": record.coverage,
        "allow_failure": record.allow_failure,
        "created_at": moment(record.created),
        "started_at": moment(record.started),
        "finished_at": moment(record.finished),
        "erased_at": moment(record.erased),
        "duration": _duration(record),
        "queued_duration": record.queued,
        "user": _user(of.user, base),
        "commit": _commit(of.sha, of.created, f"{base}/{owner.full_path}"),
        "pipeline": pipeline_row(of, owner, base),
        "web_url": f"{base}/{owner.full_path}/-/jobs/{record.id}",
        "project": {"ci_job_token_scope_enabled": False},
        "archived": owner.archived,
        "source": of.source,
    }
    if record.failure_reason is not None:
        shown["failure_reason"] = record.failure_reason
    return shown


def _duration(record: Job) -> float | None:
    """Seconds as a float, or an integer where they are whole."""
    if record.started is None or record.finished is None:
        return None
    milliseconds = record.finished - record.started
    return milliseconds // SECOND if milliseconds % SECOND == 0 else milliseconds / SECOND


def _artifacts(record: Job) -> list[dict[str, Any]]:
    """What there is of its artifacts: the archive with its metadata, the log once it is complete, reports."""
    if record.erased is not None:
        return []
    noise = Noise(50, record.id)
    found = []
    if record.lists_archive:
        found += [
            _artifact("archive", archive_size(record), "artifacts.zip", "zip"),
            _artifact("metadata", 150 + noise.below(400), "metadata.gz", "gzip"),
        ]
    if record.has_log and record.is_over:
        found.append(_artifact("trace", log_size(record), "job.log", None if noise.chance(0.7) else "raw"))
    if record.reported and not record.swept:
        found.append(_artifact("junit", 400 + noise.below(3000), "junit.xml.gz", "gzip"))
    return found


def _artifact(kind: str, size: int, filename: str, form: str | None) -> dict[str, Any]:
    return {"file_type": kind, "size": size, "filename": filename, "file_format": form}


def _changed(shown: dict[str, Any], record: Record) -> dict[str, Any]:
    if record.overrides or record.removed:
        shown |= record.overrides
        for key in record.removed:
            shown.pop(key, None)
    return shown


# Users, runners and commits are the same in many rows; to be shown, not to be changed


@lru_cache(maxsize=64)
def _short_user(index: int, base: str) -> dict[str, Any]:
    username, name = words.PEOPLE[index]
    return {
        "id": index + 1,
        "username": username,
        "name": name,
        "state": "active",
        "locked": False,
        "avatar_url": f"{base}/uploads/-/system/user/avatar/{index + 1}/avatar.png",
        "web_url": f"{base}/{username}",
    }


@lru_cache(maxsize=64)
def _user(index: int, base: str) -> dict[str, Any]:
    more = {
        "bio": None,
        "location": None,
        "public_email": "",
        "linkedin": "",
        "twitter": "",
        "website_url": "",
        "organization": "",
    }
    return {**_short_user(index, base), "created_at": "2021-12-21T13:14:24.077Z", **more}


@lru_cache(maxsize=256)
def _commit(sha: str, created: int, project_url: str) -> dict[str, Any]:
    noise = Noise(int(sha[:15], 16))
    message = noise.pick(words.MESSAGES)
    username, name = noise.pick(words.PEOPLE)
    # Commits carry the author's offset, unlike all other times
    at = f"{datetime.fromtimestamp(created // SECOND - 300, UTC):%Y-%m-%dT%H:%M:%S}.000+02:00"
    mail = f"{username}@example.com"
    return {
        "id": sha,
        "short_id": sha[:8],
        "title": message.partition("\n")[0],
        "message": message,
        "created_at": at,
        "parent_ids": [noise.hexadecimal(40)],
        "author_name": name,
        "author_email": mail,
        "authored_date": at,
        "committer_name": name,
        "committer_email": mail,
        "committed_date": at,
        "trailers": {},
        "web_url": f"{project_url}/-/commit/{sha}",
    }


@lru_cache(maxsize=16)
def _runner(index: int) -> dict[str, Any]:
    description, name, _, kind = words.RUNNERS[index]
    return {
        "id": 32 + index,
        "description": description,
        "ip_address": None,
        "active": True,
        "paused": False,
        "is_shared": kind == "instance_type",
        "runner_type": kind,
        "name": name,
        "online": index % 2 == 0,
        "status": "online" if index % 2 == 0 else "offline",
    }


@lru_cache(maxsize=16)
def _manager(index: int) -> dict[str, Any]:
    return {
        "id": 1 + index,
        "system_id": f"s_89e5e99565{index:02d}",
        "version": "16.11.1",
        "revision": "535ced5f",
        "platform": "darwin" if "macos" in words.RUNNERS[index][2][0] else "linux",
        "architecture": "amd64",
        "created_at": "2024-05-01T10:12:02.507Z",
        "contacted_at": "2026-05-31T06:30:09.355Z",
        "ip_address": "127.0.0.1",
        "status": "offline",
    }
