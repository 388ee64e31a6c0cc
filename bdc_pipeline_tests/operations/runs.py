"""Records of runs in an instance, in any status."""

from collections.abc import Collection

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test


def a_run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    job: str = "work",
    assets: Collection[dg.AssetKey] = (),
) -> dg.DagsterRun:
    """A run of a job, or over assets, as the daemon would have made it."""
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("bdc_pipeline"), "__repository__")
    return create_run_for_test(
        instance,
        job_name=job,
        status=status,
        asset_selection=frozenset(assets) or None,
        remote_job_origin=RemoteJobOrigin(origin, job),
    )
