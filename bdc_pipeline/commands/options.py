"""The options that every `sync` has."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A number that there is: Python also reads `nan`, which lies outside of no range, and `inf`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no number that can be used.", param, ctx)
        return number


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def sync_options(
    *,
    workers: str = "the source's variable, else 10",
    batch_size: int | None = 100,
    batch_help: str = "Records to ask for in one request.",
    days_help: str = "Fetch in full what was last verified longer ago.",
    limit_help: str = "At most so many records of the main tables, for a try.",
    force_help: str = "Fetch everything, not changes alone.",
    partition_help: str = "Only this partition; repeatable.",
) -> Callable[[F], F]:
    """Decorates a command with them; sources differ in defaults and in what an option means to them."""
    options = [
        click.option(
            "-db",
            "--database",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The database file; by default in BDC_DATA_DIR.",
        ),
        click.option(
            "-w",
            "--workers",
            type=click.IntRange(1, 200),
            show_default=workers,
            help="Requests at the same time.",
        ),
        click.option(
            "-b",
            "--batch-size",
            type=click.IntRange(1, 10_000),
            default=batch_size,
            show_default=True,
            help=batch_help,
        ),
        click.option(
            "-c",
            "--commit-interval",
            type=click.IntRange(1, 1_000_000),
            default=1000,
            show_default=True,
            help="Rows in one transaction.",
        ),
        click.option("-f", "--force", is_flag=True, help=force_help),
        click.option("-d", "--days", type=Number(0, 36_500), default=7, show_default=True, help=days_help),
        click.option("-l", "--limit", type=click.IntRange(1), help=limit_help),
        click.option("--partition", "partitions", multiple=True, metavar="KEY", help=partition_help),
        click.option(
            "--max-rejects",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="More rejected records than this make the sync incomplete.",
        ),
        click.option(
            "--max-vanish-share",
            type=Number(0, 1),
            default=0.2,
            show_default=True,
            help="Share of a partition's rows that may vanish in one go.",
        ),
        click.option("--allow-vanish", is_flag=True, help="Let any share vanish: they are really gone."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object on standard output."),
        click.option("-v", "--verbose", is_flag=True, help="Log more."),
    ]
    return lambda command: functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)
