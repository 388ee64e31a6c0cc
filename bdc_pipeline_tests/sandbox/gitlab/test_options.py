import re
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sandbox import SandboxOptions
from bdc_pipeline.sandbox.command import parse_arguments
from bdc_pipeline_tests.sandbox.gitlab.asking import gitlab_sandbox


@given(
    st.builds(
        SandboxOptions,
        projects=st.none() | st.integers(1, 10**6),
        pipelines_per_project=st.none() | st.integers(1, 10**6),
        jobs_per_pipeline=st.none() | st.integers(1, 10**6),
        regular=st.booleans(),
        api_limit=st.none() | st.integers(1, 10**6),
        limit_seconds=st.floats(0.001, 1e6),
        hidden_limits=st.frozensets(st.sampled_from(["trace=1", "jobs=600", "projects=0"])),
        count_limit=st.integers(0, 10**6),
        offset_limit=st.integers(1, 10**6),
        complexity_limit=st.integers(1, 10**6),
        artifact_redirect=st.booleans(),
        ranges=st.booleans(),
        denied=st.frozensets(st.sampled_from(["101", "group/project=404"])),
    )
)
def test_options_survive_the_command_line(options: SandboxOptions) -> None:
    assert parse_arguments(options.to_args()) == options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"projects": 0}, "The sandbox's projects is 1 or more, not 0."),
        ({"jobs_per_pipeline": 0}, "The sandbox's jobs_per_pipeline is 1 or more, not 0."),
        ({"api_limit": 0}, "The sandbox's api_limit is 1 or more, not 0."),
        ({"limit_seconds": 0}, "limit_seconds is above 0"),
        ({"hidden_limits": ["trace"]}, "TOPIC=COUNT, such as trace=100, not 'trace'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SandboxOptions().changed(**options)


def test_arguments_that_do_not_fit_are_wrong_usage() -> None:
    with pytest.raises(click.UsageError):
        parse_arguments(["--hidden-limit", "trace"])


@pytest.mark.parametrize(
    ("scale", "size"), [("small", (6, 12, 10)), ("medium", (50, 45, 20)), ("large", (200, 200, 30))]
)
def test_the_scale_has_sizes(scale: Any, size: tuple[int, int, int]) -> None:
    assert SandboxOptions(scale=scale).ci_size == size


def test_what_makes_the_data_is_fixed() -> None:
    with gitlab_sandbox(projects=1) as sandbox, pytest.raises(ValueError, match="projects cannot change"):
        sandbox.configure(projects=2)
