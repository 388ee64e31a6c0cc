"""How near the load path comes to a bare floor, and how far it is ahead of others: `python -m benchmarks.load` (about ten minutes).

Two data sets, generated: the three DMR registries (52,938 records), and a million rows of twelve mixed columns. Each contestant loads
them three times into the same file, each time in a process of its own: at first, unchanged, and with 1 % of the records changed.

Ours runs as users run it, as Dagster assets through the I/O manager, in each of its modes. What Dagster takes for assets that do
nothing is measured too and subtracted; it is the same whatever is loaded. Machines are noisy, so what counts is the ratio of CPU times
within one run, and of several runs the best. Memory is the peak above what the imports take, the most of all runs.

Each contestant has to come to the same number of rows, with the right values in a sample, or else it has no figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.loading.contest import CONTESTANTS, DLT, EMPTY, FLOOR, STEPS, Contestant, Outcome, run
from benchmarks.loading.data_set import DataSet
from benchmarks.loading.generate import write_registries, write_wide
from benchmarks.loading.plot import drawn
from benchmarks.loading.verdicts import Verdict, judge

SETS = ("registries", "wide")
ROWS, QUICK_ROWS = 1_000_000, 100_000


def contestants_of(name: str, given: argparse.Namespace) -> tuple[list[Contestant], dict[str, str]]:
    """Those that load a data set, and why others do not."""
    wanted = [
        c for c in CONTESTANTS if not given.contestants or c.name in (EMPTY, FLOOR) or _named(c, given.contestants)
    ]
    skip = ""
    if name == "wide" and not given.dlt_wide:
        skip = "its merge takes time in proportion to the square of the rows; --dlt-wide has it run all the same"
    elif given.quick:
        skip = "it takes minutes; left out by --quick"
    if not skip:
        return wanted, {}
    return [c for c in wanted if c.name != DLT], {c.name: skip for c in wanted if c.name == DLT}


def _named(contestant: Contestant, names: Iterable[str]) -> bool:
    return any(contestant.name.lower().startswith(name.lower()) for name in names)


def table_of(outcome: Outcome) -> Table:
    """A data set's figures."""
    data, floor = outcome.data, outcome.cost(FLOOR, "first")
    table = Table(
        title=f"{data.name}: {data.records:,} records; CPU and wall in seconds, memory in MB", title_justify="left"
    )
    table.add_column("")
    for name in ("first CPU", "wall", "unchanged CPU", "wall", "1 % CPU", "wall", "records/s", "of floor"):
        table.add_column(name, justify="right")
    for step in STEPS:
        table.add_column(f"MB {step}" if step == "first" else step, justify="right")
    for name in outcome.costs:
        costs = [cost for step in STEPS if (cost := outcome.cost(name, step))]
        times = [text for cost in costs for text in (f"{cost.cpu:.3f}", f"{cost.wall:.3f}")]
        first = costs[0]
        rate = "" if name == EMPTY else f"{data.records / first.wall:,.0f}"
        ratio = "" if name == EMPTY or floor is None else f"{first.cpu / floor.cpu:.2f}"
        table.add_row(name, *times, rate, ratio, *(f"{cost.memory_mb:.1f}" for cost in costs))
    return table


def show(outcome: Outcome, console: Console) -> None:
    """Prints a data set's figures, and who has none."""
    console.print(table_of(outcome))
    for name, reason in outcome.left_out.items():
        console.print(f"{name}: not measured, {reason}.", style="yellow", highlight=False)
    console.print()


def show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Prints what is required and whether it was met."""
    table = Table(title="Required (ratios of CPU time)", title_justify="left")
    for name, justify in (("", "left"), ("measured", "right"), ("limit", "right"), ("", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for verdict in verdicts:
        figure = "-" if verdict.figure is None else f"{verdict.figure:,.2f}{verdict.unit}"
        limit = f"{'at most' if verdict.at_most else 'at least'} {verdict.limit:g}{verdict.unit}"
        table.add_row(verdict.text, figure, limit, _WORDS[verdict.met])
    console.print(table)


_WORDS = {True: "[green]met[/]", False: "[bold red]NOT MET[/]", None: "not measured"}


def as_json(outcomes: Mapping[str, Outcome], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All figures: the costs as they were measured, and net of Dagster."""
    return {
        "sets": {
            name: {
                "records": outcome.data.records,
                "measured": {
                    who: {step: asdict(cost) for step, cost in costs.items()} for who, costs in outcome.costs.items()
                },
                "net": {
                    who: {step: asdict(cost) for step in STEPS if (cost := outcome.cost(who, step))}
                    for who in outcome.costs
                },
                "left_out": outcome.left_out,
            }
            for name, outcome in outcomes.items()
        },
        "required": [{**asdict(verdict), "met": verdict.met} for verdict in verdicts],
    }


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help=f"of the wide set ({ROWS:,}; {QUICK_ROWS:,} with --quick)")
    parser.add_argument("--only", choices=SETS, help="one data set")
    parser.add_argument(
        "--contestants", nargs="+", help="beginnings of names, such as ours or pandas; the floor always runs"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs; of the wide set, for the floor and ours alone")
    parser.add_argument("--quick", action="store_true", help="one run, fewer rows, without dlt")
    parser.add_argument("--dlt-wide", action="store_true", help="let dlt load the wide set, too")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="write a bar chart to this file, as SVG")
    return parser


def written(name: str, directory: Path, rows: int) -> DataSet:
    """A data set, generated."""
    directory.mkdir()
    return write_registries(directory) if name == "registries" else write_wide(directory, rows)


def main() -> None:
    """Prints the figures, and what is required of them."""
    given = arguments().parse_args()
    console = Console(width=160, soft_wrap=False)
    rows = given.rows or (QUICK_ROWS if given.quick else ROWS)
    outcomes: dict[str, Outcome] = {}
    for name in (given.only,) if given.only else SETS:
        with tempfile.TemporaryDirectory() as directory:
            data = written(name, Path(directory) / name, rows)
            contestants, left_out = contestants_of(name, given)
            repeats = 1 if given.quick else given.repeats
            outcome = run(data, contestants, repeats, peers_once=name == "wide")
        outcome.left_out |= left_out
        outcomes[name] = outcome
        show(outcome, console)
    verdicts = judge(outcomes)
    show_verdicts(verdicts, console)
    if given.json:
        given.json.write_text(json.dumps(as_json(outcomes, verdicts), indent=2) + "\n")
    if given.plot:
        given.plot.write_text(drawn(outcomes))


if __name__ == "__main__":
    main()
