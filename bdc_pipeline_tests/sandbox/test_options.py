import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sandbox import Fault, PagingChange, SandboxOptions
from bdc_pipeline.sandbox.command import parse_arguments

KINDS = [
    "503",
    "429",
    "html",
    "empty",
    "cut",
    "stall",
    "reset",
    "shrunken",
    "partial",
    "throttle",
    "timeout",
    "redirect",
]

faults = st.builds(
    Fault,
    kind=st.sampled_from(KINDS),
    share=st.floats(0, 1),
    times=st.none() | st.integers(0, 99),
    match=st.none() | st.sampled_from(["accounts page=3", r"\[id>5@~:,=\]", "a\nb", ""]),
    after=st.integers(0, 99),
    seconds=st.none() | st.sampled_from([0.5, 20, 120.25]),
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("503", Fault(kind="503")),
        ("503:0.05", Fault(kind="503", share=0.05)),
        ("html@accounts page=3", Fault(kind="html", match="accounts page=3")),
        ("stall:0.01~seconds=20", Fault(kind="stall", share=0.01, seconds=20)),
        ("cut~times=1,after=4@items .*[@~:]", Fault(kind="cut", times=1, after=4, match="items .*[@~:]")),
    ],
)
def test_a_fault_is_read_from_the_command_line(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("oops", "There is no fault 'oops'"),
        ("200", "There is no fault '200'"),
        ("", "is not understood"),
        ("503:lots", "needs a number as its share, not 'lots'"),
        ("503:1.5", "between 0 and 1, not 1.5"),
        ("503~times=x", "needs a whole number as its times, not 'x'"),
        ("503~size=3", "has no setting 'size'"),
        ("503~times=-1", "cannot be negative"),
        ("503@(", "must be a regular expression"),
    ],
)
def test_a_fault_that_cannot_be_read_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Fault.parse(text)


@given(faults)
def test_a_fault_reads_back_what_it_writes(fault: Fault) -> None:
    assert Fault.parse(str(fault)) == fault


@given(
    st.builds(
        SandboxOptions,
        port=st.integers(0, 65535),
        latency_ms=st.floats(0, 1e6),
        scale=st.sampled_from(["small", "medium", "large"]),
        customers=st.none() | st.integers(20, 10**6),
        seed=st.integers(-5, 5),
        ids=st.sampled_from(["dense", "sparse"]),
        faults=st.lists(faults, max_size=3).map(tuple),
        page_cap=st.integers(1, 10**6),
        rate_limit=st.none() | st.floats(0.001, 1e6),
        rate_limit_status=st.sampled_from([200, 429]),
        id_filter=st.sampled_from(["honoured", "ignored", "refused"]),
        token=st.none() | st.just("SYNTHETIC-TOKEN"),
        denied=st.frozensets(st.sampled_from(["services", "Address"])),
        no_page_info=st.frozensets(st.sampled_from(["accounts", "Manufacturer"])),
        devices=st.none() | st.integers(20, 10**6),
        device_query=st.sampled_from(["honoured", "refused"]),
        validators=st.sampled_from(["both", "etag", "last-modified", "none"]),
        gzip=st.booleans(),
        paging_changes=st.lists(
            st.builds(PagingChange, entity=st.just("Account"), action=st.just("delete"), every=st.integers(1, 9)),
            max_size=2,
        ).map(tuple),
    )
)
def test_options_survive_the_command_line(options: SandboxOptions) -> None:
    assert parse_arguments(options.to_args()) == options


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fault", "oops"],
        ["--page-cap", "0"],
        ["--customers", "3"],
        ["--devices", "3"],
        ["--rate-limit", "0"],
        ["--paging-change", "{}"],
    ],
)
def test_arguments_that_do_not_fit_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse_arguments(arguments)


def test_unknown_options_are_named() -> None:
    with pytest.raises(ValueError, match="no option latency"):
        SandboxOptions().changed(latency=3)


def test_an_unknown_api_is_refused_in_one_sentence() -> None:
    with pytest.raises(click.UsageError) as caught:
        parse_arguments(["--source", "nonsense"])
    assert re.search(r"The sandbox serves no nonsense\. It serves: boligsiden, .*, tgif\.$", caught.value.message)
