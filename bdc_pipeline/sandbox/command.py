"""The sandbox on the command line: `python -m bdc_pipeline.sandbox`, and the command that others can mount.

Each option of SandboxOptions is one here, so that options can be handed to a subprocess.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from bdc_pipeline.commands.options import Number
from bdc_pipeline.sandbox.handle import ANY_TOKEN
from bdc_pipeline.sandbox.options import SOURCES, Fault, PagingChange, SandboxOptions
from bdc_pipeline.sandbox.server import serve, serve_as_child
from bdc_pipeline.sandbox.variables import told


class _FaultType(click.ParamType[Fault]):
    name = "KIND[:SHARE][~NAME=VALUE,...][@REGEX]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fault:
        if isinstance(value, Fault):
            return value
        try:
            return Fault.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _PagingChangeType(click.ParamType[PagingChange]):
    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PagingChange:
        if isinstance(value, PagingChange):
            return value
        try:
            return msgspec.json.decode(value, type=PagingChange)
        except msgspec.DecodeError as error:
            self.fail(f"A change while paging is JSON with entity, action, every and times: {error}.", param, ctx)


@click.command("sandbox")
@click.option("--port", default=0, show_default="a free one", help="Port on 127.0.0.1.")
@click.option("--source", "sources", multiple=True, help="An API to serve; repeatable.  [default: all]")
@click.option(
    "--latency-ms", type=Number(0), default=0.0, show_default=True, help="Milliseconds added to each request."
)
@click.option(
    "--scale",
    type=click.Choice(["small", "medium", "large"]),
    default="small",
    show_default=True,
    help="2,000, 20,000 or 200,000 customers, with three times as many items; 2,000, 50,000 or 230,000 villas; 3,420, 34,200 or 684,000 devices; 6, 50 or 200 projects with 12, 45 or 200 pipelines of 10, 20 or 30 jobs.",
)
@click.option("--customers", type=int, help="How many customers, instead of the scale's.")
@click.option("--seed", default=0, show_default=True, help="Which data, and which requests faults hit.")
@click.option(
    "--ids", type=click.Choice(["dense", "sparse"]), default="dense", show_default=True, help="How far ids lie apart."
)
@click.option(
    "--fault",
    "faults",
    type=_FaultType(),
    multiple=True,
    help=(
        "Something that goes wrong; repeatable. KIND is an HTTP status (503) or html, empty, cut, stall, reset, shrunken, partial, "
        "throttle, timeout, redirect. 503:0.05 hits 5 % of requests, 'html~times=1@accounts page=3' that page once, "
        "stall:0.01~seconds=20 holds 1 % for 20 seconds."
    ),
)
@click.option("--page-cap", default=1000, show_default=True, help="Rows on a page at most.")
@click.option("--rate-limit", type=Number(0), help="Requests per second.")
@click.option(
    "--rate-limit-status",
    type=click.Choice(["200", "429"]),
    default="200",
    show_default=True,
    help="What a request over the limit gets: 200 with a message, or a real 429.",
)
@click.option(
    "--id-filter",
    type=click.Choice(["honoured", "ignored", "refused"]),
    default="honoured",
    show_default=True,
    help="What searching by id does.",
)
@click.option("--token", help="The only bearer token to accept.  [default: any]")
@click.option(
    "--denied",
    multiple=True,
    help="A list or entity that the token may not see, or a GitLab project, with =404 to hide it; repeatable.",
)
@click.option("--no-page-info", multiple=True, help="A list that fails when page_info is selected; repeatable.")
@click.option(
    "--paging-change",
    "paging_changes",
    type=_PagingChangeType(),
    multiple=True,
    help='A change while pages are read, such as {"entity": "Account", "action": "delete", "every": 3}; repeatable.',
)
@click.option("--homes", type=int, help="How many villas Boligsiden has, instead of the scale's.")
@click.option(
    "--zipless-share",
    type=Number(0),
    default=0.0005,
    show_default=True,
    help="How many of Boligsiden's homes have no zip code.",
)
@click.option(
    "--biggest-zip-share",
    type=Number(0),
    help="How many of a municipality's homes have its largest zip code, such as 0.8.",
)
@click.option(
    "--hit-cap", default=10_000, show_default=True, help="How many hits of a Boligsiden search can be paged through."
)
@click.option(
    "--repeats",
    type=bool,
    default=False,
    show_default=True,
    help="Whether Boligsiden's pages repeat and skip homes when they are not sorted by address.",
)
@click.option("--devices", type=int, help="How many devices BrandMeister has, instead of the scale's.")
@click.option(
    "--device-query",
    type=click.Choice(["honoured", "refused"]),
    default="honoured",
    show_default=True,
    help="What BrandMeister does with ?repeater=true.",
)
@click.option(
    "--validators",
    type=click.Choice(["both", "etag", "last-modified", "none"]),
    default="both",
    show_default=True,
    help="What BrandMeister, TGIF and hearham send to ask again with: ETag, Last-Modified, both or none.",
)
@click.option(
    "--gzip", type=bool, default=True, show_default=True, help="Whether BrandMeister, TGIF and hearham compress."
)
@click.option("--projects", type=int, help="How many projects GitLab has, instead of the scale's.")
@click.option(
    "--pipelines-per-project", type=int, help="How many pipelines a GitLab project has, instead of the scale's."
)
@click.option("--jobs-per-pipeline", type=int, help="How many jobs a GitLab pipeline has, instead of the scale's.")
@click.option(
    "--regular",
    type=bool,
    default=False,
    show_default=True,
    help="Whether all of GitLab's pipelines are plain successes, without retries, children, bridges and expiry.",
)
@click.option("--api-limit", type=int, help="Requests that GitLab takes in a window, as its headers announce.")
@click.option(
    "--limit-seconds", type=Number(0), default=60.0, show_default=True, help="How long a window of GitLab's limits is."
)
@click.option(
    "--hidden-limit",
    "hidden_limits",
    multiple=True,
    help="A limit that GitLab's headers do not announce, TOPIC=COUNT in a window, such as trace=100; repeatable.",
)
@click.option(
    "--count-limit", default=10_000, show_default=True, help="Rows above which GitLab's pages have no totals."
)
@click.option(
    "--offset-limit", default=50_000, show_default=True, help="Rows of GitLab's projects to be paged through by offset."
)
@click.option("--complexity-limit", default=250, show_default=True, help="What a GraphQL query may cost on GitLab.")
@click.option(
    "--artifact-redirect",
    type=bool,
    default=False,
    show_default=True,
    help="Whether GitLab redirects to another host for archives.",
)
@click.option(
    "--ranges", type=bool, default=True, show_default=True, help="Whether GitLab's archives are served in ranges."
)
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
def command(*, until_stdin_ends: bool, **given: Any) -> None:
    """Serve the APIs on loopback from generated data."""
    options = _options(given)
    try:
        if until_stdin_ends:
            serve_as_child(options, on_ready=announce)
        else:
            serve(options, on_ready=lambda url: announce(url, options))
    except OSError as error:
        raise click.UsageError(f"Port {options.port} cannot be used: {error.strerror}.") from None


def parse_arguments(arguments: Sequence[str]) -> SandboxOptions:
    """The options that command-line arguments stand for. Raises click.UsageError with a sentence."""
    with command.make_context("sandbox", list(arguments)) as context:
        return _options({name: value for name, value in context.params.items() if name != "until_stdin_ends"})


def _options(given: dict[str, Any]) -> SandboxOptions:
    # none named is all
    sources = {"sources": given["sources"] or SOURCES}
    try:
        return SandboxOptions().changed(**{**given, **sources, "rate_limit_status": int(given["rate_limit_status"])})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def announce(url: str, options: SandboxOptions | None = None) -> None:
    """Say on standard output that requests are answered now; with the options, how to sync from here, for a person."""
    click.echo(f"sandbox ready at {url}")
    if options is not None:
        click.echo("\nIn another shell:\n")
        click.echo(told(url, options.sources, options.token or ANY_TOKEN))
    sys.stdout.flush()
