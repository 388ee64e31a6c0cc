"""`bdc-pipeline sync dmr`, `warm dmr`, `dmr near`."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP, sync_options
from bdc_pipeline.commands.outcome import (
    COMPLETE,
    MISSING,
    database_of,
    run_sync,
    start_logging,
    stop_on_signals,
    told_in_sentences,
)

if TYPE_CHECKING:
    from bdc_pipeline.progress import OnProgress
    from bdc_pipeline.sources.dmr.near import Found
    from bdc_pipeline.sources.dmr.warm import Warmed
    from bdc_pipeline.warehouse.ledger import SyncReport

REGISTRIES = ("brandmeister", "tgif", "hearham")

BANDS = ("10m", "6m", "4m", "2m", "1.25m", "70cm", "33cm", "23cm")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Age(click.ParamType[dt.timedelta]):
    """An age such as 30m, 1h or 2d."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.timedelta:
        """Reads it."""
        if isinstance(value, dt.timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", value.strip())
        if match is None:
            self.fail(f"'{value}' is no age. Write a number and s, m, h or d: 30m, 1h, 2d.", param, ctx)
        return dt.timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


max_age = click.option(
    "--max-age",
    type=Age(),
    show_default="brandmeister 24h, tgif 2h, hearham 6h",
    help="Download what is older than this, or missing: 30m, 1h, 2d.",
)

registry = click.option(
    "--partition",
    "partitions",
    multiple=True,
    type=click.Choice(REGISTRIES),
    help="Only this registry; repeatable.",
)


@click.command("dmr", context_settings=HELP)
@sync_options(
    workers="4",
    batch_size=None,
    batch_help="The same as --chunk.",
    force_help="Download and read everything; the registries' polling floors hold.",
    days_help="Read again what was last read longer ago, though it has not changed.",
    limit_help="At most so many records of each document, for a try.",
    partition_help="Only this registry (brandmeister, tgif, hearham); repeatable.",
)
@max_age
@click.option(
    "--mode",
    type=click.Choice(["auto", "parallel", "sequential", "streaming"]),
    default="auto",
    show_default=True,
    help="How documents are read; auto goes by the memory that is available.",
)
@click.option(
    "--chunk",
    type=click.IntRange(500, 5000),
    show_default="500 to 2000, by memory",
    help="Records that are handed on at a time.",
)
@click.option("--no-download", is_flag=True, help="Ask no registry; read the downloads that there are.")
def sync_dmr(**options: Any) -> NoReturn:
    """Repeaters and talkgroups of BrandMeister, TGIF and hearham, into dmr.db.

    What is too old is downloaded first (see `warm dmr`); a download that fails leaves the last good one in place.
    Partitions are the registries.
    """
    if options["partitions"] and (unknown := [key for key in options["partitions"] if key not in REGISTRIES]):
        raise click.BadParameter(
            f"'{unknown[0]}' is no registry. There are {', '.join(REGISTRIES)}.", param_hint="--partition"
        )
    if options["no_download"] and options["max_age"] is not None:
        raise click.UsageError("--no-download asks no registry, so --max-age says nothing; leave one of them out.")
    if options["batch_size"] is not None and not 500 <= options["batch_size"] <= 5000:
        raise click.BadParameter("it is the same as --chunk: 500 to 5000.", param_hint="--batch-size")
    if not _is_given("commit_interval"):
        # then the mode decides: loads of whole documents commit far more rows at a time
        options["commit_interval"] = None
    database = database_of("dmr", options["database"])
    with told_in_sentences():
        settings.dmr_urls()

    def sync(on_progress: OnProgress, started: float) -> SyncReport:
        return _sync(options, database, on_progress, started)

    run_sync("dmr", sync, database=database, options=options)


def _is_given(name: str) -> bool:
    """Whether an option of the command was set, be it to what is its default anyway."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}


def _sync(options: dict[str, Any], database: Path, on_progress: OnProgress, started: float) -> SyncReport:
    from bdc_pipeline.sources.assembly import drain_options  # noqa: PLC0415
    from bdc_pipeline.sources.dmr import assets, command  # noqa: PLC0415
    from bdc_pipeline.sources.dmr.warm import WarmOptions  # noqa: PLC0415

    workers = min(options["workers"] or 4, 16)
    asked = command.DmrSync(
        database=database,
        resource=assets.DmrResource(workers=workers),
        warm=WarmOptions(options["max_age"], options["force"], options["allow_vanish"], workers),
        drain=drain_options(options),
        mode=options["mode"],
        chunk=options["chunk"] or options["batch_size"],
        registries=tuple(dict.fromkeys(options["partitions"])) or REGISTRIES,
        download=not options["no_download"],
        force=options["force"],
        days=options["days"],
        limit=options["limit"],
    )
    return command.sync(asked, on_progress, started)


@click.group("warm")
def warm() -> None:
    """Keeps raw downloads fresh."""


@warm.command("dmr", context_settings=HELP)
@max_age
@registry
@click.option("-f", "--force", is_flag=True, help="Download everything, whatever its age; polling floors hold.")
@click.option("--allow-vanish", is_flag=True, help="Accept documents that have suddenly become much smaller.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object on standard output.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def warm_dmr(**options: Any) -> NoReturn:
    """Downloads what is older than asked for, or missing, into the cache directory.

    BrandMeister is asked every 15 minutes at most, TGIF and hearham every minute, whatever is asked for and whatever they
    answered. A download that fails, is cut short, empty, no JSON or suddenly much smaller leaves the last good one in place.
    """
    stop_on_signals()
    with told_in_sentences():
        settings.dmr_urls()
        start_logging(settings.data_dir(), verbose=options["verbose"], secrets=[])
    from bdc_pipeline.fetching.stopping import Stopped  # noqa: PLC0415
    from bdc_pipeline.sources.dmr import assets, command  # noqa: PLC0415
    from bdc_pipeline.sources.dmr.warm import WarmOptions  # noqa: PLC0415

    asked = WarmOptions(options["max_age"], options["force"], options["allow_vanish"])
    with told_in_sentences():
        try:
            warmed, _ = command.warm(assets.DmrResource(), asked, options["partitions"] or REGISTRIES)
        except Stopped as stopped:
            click.echo(str(stopped), err=True)
            sys.exit(MISSING)
    failed = [one for one in warmed if one.action == "failed"]
    if options["as_json"]:
        click.echo(json.dumps(_as_json(warmed)))
    else:
        directory = settings.cache_dir() / "dmr"
        documents = "document is" if len(warmed) == 1 else "documents are"
        click.echo(f"{len(warmed) - len(failed)} of {len(warmed)} {documents} as asked for, in {directory}.")
    sys.exit(MISSING if failed else COMPLETE)


def _as_json(warmed: list[Warmed]) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    documents = {}
    for one in warmed:
        age = one.cached.age(now) if one.cached else None
        record = one.cached.record if one.cached else None
        documents[one.feed.name] = {
            "action": one.action,
            "problem": one.problem or None,
            "path": str(one.cached.path) if one.cached else None,
            "age_seconds": round(age.total_seconds()) if age is not None else None,
            "bytes": record.bytes if record else None,
            "records": record.records if record else None,
            "sha256": record.sha256 if record else None,
        }
    return {"source": "dmr", "complete": all(one.action != "failed" for one in warmed), "documents": documents}


@click.group("dmr")
def dmr() -> None:
    """Asks the copy of the DMR registries."""


@dmr.command("near", context_settings=HELP)
@click.option("--lat", type=float, required=True, help="Latitude in degrees, north positive.")
@click.option("--lon", type=float, required=True, help="Longitude in degrees, east positive.")
@click.option("--km", type=float, default=50, show_default=True, help="How far.")
@click.option("--band", type=click.Choice(BANDS, case_sensitive=False), help="Only this band.")
@click.option("--mode", help="Only repeaters with this mode: DMR, FM, ...")
@click.option("--hotspots", is_flag=True, help="Hotspots too.")
@click.option("-l", "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@click.option(
    "-db",
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The database file; by default in BDC_DATA_DIR.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array on standard output.")
def near(**options: Any) -> None:
    """Repeaters around a point, nearest first."""
    from bdc_pipeline.sources.dmr.near import Around  # noqa: PLC0415
    from bdc_pipeline.sources.dmr.near import near as find  # noqa: PLC0415
    from bdc_pipeline.sources.dmr.tables import SCHEMA  # noqa: PLC0415
    from bdc_pipeline.warehouse.store import Store, StoreError, explained  # noqa: PLC0415

    try:
        around = Around(options["lat"], options["lon"], options["km"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    path = database_of("dmr", options["database"])
    with told_in_sentences(), Store(path, SCHEMA, read_only=True) as store:
        try:
            found = find(
                store.connection, around, band=options["band"], mode=options["mode"], hotspots=options["hotspots"]
            )
        except sqlite3.Error as error:
            if "no such" not in str(error):
                raise explained(error, path) from None
            raise StoreError(
                f"{path} holds no repeaters ({error}). Run 'bdc-pipeline sync dmr' to fetch them."
            ) from None
    _show(found, options["limit"], around.km, as_json=options["as_json"])


def _show(found: list[Found], limit: int, km: float, *, as_json: bool) -> None:
    if as_json:
        import msgspec  # noqa: PLC0415

        click.echo(msgspec.json.encode(found[:limit]).decode())
        return
    for one in found[:limit]:
        output = f"{one.output_hz / 1e6:.4f} MHz" if one.output_hz is not None else "no frequency"
        code = f" CC{one.color_code}" if one.color_code is not None else ""
        off = "" if one.operational in (None, True) else "  (not operational)"
        click.echo(
            f"{one.km:7.1f} km  {one.callsign or '?':<9} {output:>15}  {(one.mode or '?') + code:<12} "
            f"{one.city or '':<32} {one.source} {one.external_id}{off}"
        )
    if len(found) > limit:
        click.echo(f"{len(found) - limit:,} more within {km:g} km; see them with --limit.")
    elif not found:
        click.echo(f"No repeater within {km:g} km is known.")
