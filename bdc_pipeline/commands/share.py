"""`bdc-pipeline share ...`: a SQLite database on a file share, with a local cache.

Exit status: 0 done and in step; 1 not in step, or something failed or has to be decided; 2 wrong usage or settings.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP, Number
from bdc_pipeline.commands.outcome import COMPLETE, MISSING, WRONG, stop_on_signals

if TYPE_CHECKING:
    from bdc_pipeline.share.config import Config
    from bdc_pipeline.share.service import Service
    from bdc_pipeline.share.status import Status, Sync

F = TypeVar("F", bound=Callable[..., Any])

WATCH_SECONDS = 0.2
"""How often `watch` looks for something new to tell."""

LAST_SECONDS = 5.0
"""How long `watch` tries to send what waits when it ends; a share that hangs ends it as well, by its deadlines."""


@click.group("share")
def share() -> None:
    """SQLite databases on a file share, at local speed."""


def _options(command: F) -> F:
    """What every command here has: which database, and where its configuration and cache are."""
    for option in (
        click.option(
            "--cache-dir",
            "cache_directory",
            help="Directory of the caches; by default BDC_SHARE_CACHE_DIR or ~/.bdc_cache.",
        ),
        click.option(
            "--config",
            "file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Configuration file; by default BDC_SHARE_CONFIG or config.yaml.",
        ),
        click.argument("database", required=False),
    ):
        command = option(command)
    return command


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


class _told:  # noqa: N801  (a context manager)
    """Ends the command with a sentence: status 2 for settings, 1 for what the share, the cache or the disk says."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        from bdc_pipeline.share.errors import ShareError  # noqa: PLC0415

        if isinstance(error, (settings.SettingsError, ShareError)):
            click.echo(f"Error: {error}", err=True)
            sys.exit(WRONG if isinstance(error, settings.SettingsError) else MISSING)
        if isinstance(error, sqlite3.OperationalError):
            click.echo(
                f"Error: the cache, or a copy of it, could not be read or written: {error}. Look whether the disk is full, and who "
                "may write there.",
                err=True,
            )
            sys.exit(MISSING)


def _config(options: dict[str, Any], **more: Any) -> Config:
    """The configuration that the options name; a database of this project may be named by its source."""
    from bdc_pipeline.share.config import load  # noqa: PLC0415

    named = options["database"]
    directory = settings.share_dir()
    if named in settings.DATABASE_FILES and directory is not None:
        named = str(directory / settings.DATABASE_FILES[named])
    elif named in settings.DATABASE_FILES and not Path(named).exists():
        raise settings.SettingsError(
            f"BDC_SHARE is not set, so that nobody knows where {named}'s database is shared. Set it to the "
            "directory on the share, or give the path of a database."
        )
    found = load(named, file=options["file"], cache_directory=options["cache_directory"], **more)
    if found.enable_cache is False:
        raise settings.SettingsError(
            "The cache is switched off by enable_cache, so there is nothing to sync. Set it to true, or leave it out."
        )
    return found


def _service(options: dict[str, Any], *, make: bool = False, **more: Any) -> Service:
    """The cache that the options name.

    Raises:
        ShareError: there is none and none is to be made.
    """
    from bdc_pipeline.share.errors import CacheError  # noqa: PLC0415
    from bdc_pipeline.share.service import Service  # noqa: PLC0415

    config = _config(options, **more)
    if not make and not config.cache.exists():
        raise CacheError(
            f"There is no cache of {config.path} here yet. Run 'bdc-pipeline share sync {config.path}' first."
        )
    return Service(config)


def _json(value: Any) -> None:
    import msgspec  # noqa: PLC0415

    click.echo(msgspec.json.encode(value).decode())


def _in_step(light: str) -> int:
    return COMPLETE if light == "success" else MISSING


@share.command("sync", context_settings=HELP)
@_options
@_as_json
def sync(**options: Any) -> None:
    """Syncs a database once: takes what others have written, sends what was written here, brings the plain file up to date.

    DATABASE is its path on the share (//server/team/app.db, or below a mount), or the name of a source where BDC_SHARE is set;
    by default that of config.yaml. The first sync makes the cache.
    """
    with _told(), _service(options, make=True) as service:
        done = service.sync()
        if options["as_json"]:
            _json(done)
        else:
            click.echo(f"{done.light}: {_line(done)}")
            click.echo(f"cache     {service.path}")
    sys.exit(_in_step(done.light))


def _line(done: Sync) -> str:
    """A sync in a line."""
    from bdc_pipeline.share.status import count, size  # noqa: PLC0415

    moved = f"{count(done.rows_out, 'row')} sent, {count(done.rows_in, 'row')} taken"
    conflicts = f", {count(done.conflicts, 'conflict')}" if done.conflicts else ""
    told = f" {done.sentence}" if done.sentence else ""
    return f"{moved}{conflicts}, {size(done.bytes_out + done.bytes_in)} in {done.milliseconds / 1000:.2f} s.{told}"


@share.command("status", context_settings=HELP)
@_options
@_as_json
def status(**options: Any) -> None:
    """Shows how a database stands. The share is not asked: what the last sync saw is shown."""
    with _told(), _service(options) as service:
        found = service.status()
    if options["as_json"]:
        _json(found)
    else:
        _show(found)
    sys.exit(MISSING if found.light in {"failed", "offline"} or found.conflicts else COMPLETE)


def _show(found: Status) -> None:
    from bdc_pipeline.share.status import ago, count, size  # noqa: PLC0415

    view = "not looked at yet" if found.view_lag is None else f"{count(found.view_lag, 'segment')} behind the log"
    oldest = f", the oldest {ago(found.pending_seconds)}" if found.pending_seconds is not None else ""
    lines = {
        "status": f"{found.light}. {found.sentence}",
        "pending": f"{count(found.pending, 'write')}{oldest}",
        "conflicts": f"{found.conflicts:,} open",
        "last sync": f"{ago(found.lag_seconds)}, every {found.interval:g} s in the background",
        "position": f"segment {found.position:,} of {found.head:,}",
        "cache": f"{found.cache}, {size(found.cache_bytes)}",
        "share": f"{found.share}, {size(found.share_bytes)}, {view}",
        "schema": found.schema,
    }
    for name, text in lines.items():
        click.echo(f"{name:<10}{text}")


@share.command("watch", context_settings=HELP)
@_options
@click.option("-i", "--interval", type=Number(0.1, 86_400), help="Seconds between two syncs; kept for this cache.")
def watch(**options: Any) -> None:
    """Syncs a database at its interval until Ctrl-C, with a line for each sync that moves something.

    What was written just before the end is sent as well, if the share answers; what still waits is told, with status 1.
    """
    stop_on_signals()
    with _told(), _service(options, make=True) as service:
        if options["interval"] is not None:
            service.set_interval(options["interval"])
        click.echo(f"Syncing {service.config.share} every {service.interval:g} s; Ctrl-C ends it.", err=True)
        _watch(service)
        waiting = _sent_last(service)
    sys.exit(MISSING if waiting else COMPLETE)


def _watch(service: Service) -> None:
    from bdc_pipeline.share.background import Background  # noqa: PLC0415

    background = Background(service)
    last, told = int(time.time() * 1000) - 1, ""  # whole milliseconds, as the history has them

    def tell() -> None:
        nonlocal last
        for done in reversed([one for one in service.history(20) if one.at > last]):
            click.echo(f"{time.strftime('%H:%M:%S', time.localtime(done.at / 1000))} {done.light}: {_line(done)}")
            last = done.at

    background.start()
    try:
        while background.is_running:
            tell()
            light = str(service.status().light)
            if light != told:
                click.echo(f"{time.strftime('%H:%M:%S')} {light}")
                told = light
            background.wait(WATCH_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        background.stop()
    tell()  # what the sync that was under way at the end has moved


def _sent_last(service: Service) -> int:
    """Sends what was written after the last sync, and tells what still waits; returns how many writes that are.

    A share that was away just now is not asked again, and a second Ctrl-C leaves the rest to the next sync.
    """
    from bdc_pipeline.share.errors import ShareError  # noqa: PLC0415
    from bdc_pipeline.share.status import Light, writes_not_sent  # noqa: PLC0415

    if service.pending and service.status().light is not Light.OFFLINE:
        with contextlib.suppress(ShareError, KeyboardInterrupt):
            click.echo(f"{time.strftime('%H:%M:%S')} {_line(service.flush(LAST_SECONDS))}")
    if waiting := service.pending:
        click.echo(f"{writes_not_sent(waiting, service.path)} The next sync sends what waits.", err=True)
    return waiting


@share.command("conflicts", context_settings=HELP)
@_options
@_as_json
def conflicts(**options: Any) -> None:
    """Lists edits that met edits of others and that somebody has to decide: the row before, mine, theirs."""
    with _told(), _service(options) as service:
        found = service.conflicts()
    if options["as_json"]:
        _json({"conflicts": found})
        return
    from bdc_pipeline.share.page.facts import fields, text_of  # noqa: PLC0415

    for one in found:
        click.echo(f"{one.id}  {one.table} {', '.join(text_of(part) for part in one.key)}: {one.reason}")
        for row in fields(one.base, one.mine, one.theirs):
            mark = "*" if row["differs"] else " "
            click.echo(f"  {mark} {row['column']:<20} before {row['base']}  mine {row['mine']}  theirs {row['theirs']}")
    click.echo(
        f"{len(found):,} open. Decide one with 'bdc-pipeline share resolve ID mine' or 'theirs'."
        if found
        else "There is nothing to decide."
    )


@share.command("resolve", context_settings=HELP)
@click.argument("number", type=click.IntRange(1), metavar="ID")
@click.argument("take", type=click.Choice(["mine", "theirs", "row", "delete"]))
@_options
@click.option("--row", help="With `row`: the row to keep, as a JSON object.")
def resolve(number: int, take: str, **options: Any) -> None:
    """Decides a conflict by its number: keep mine, keep theirs, keep a row that --row gives, or delete the row.

    The decision is a write like any other: it reaches the others with the next sync.
    """
    chosen: Any = None if take == "delete" else take
    if (take == "row") != (options["row"] is not None):
        raise click.UsageError('\'row\' and --row go together: --row \'{"id": 1, "name": "..."}\'.')
    if options["row"] is not None:
        chosen = _row(options["row"])
    with _told(), _service(options) as service:
        service.resolve(number, chosen)
    click.echo(f"Conflict {number} is decided. The next sync tells the others.")


def _row(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"it is no JSON: {error}.", param_hint="--row") from None
    if not isinstance(row, dict):
        raise click.BadParameter("it is no JSON object.", param_hint="--row")
    return row


@share.command("clear", context_settings=HELP)
@_options
@click.option("-f", "--force", is_flag=True, help="Throw away what has not reached the share.")
def clear(**options: Any) -> None:
    """Removes a database's cache and fills it again from the share; refused while writes are pending."""
    from bdc_pipeline.share.caches import put_damaged_aside  # noqa: PLC0415

    with _told():
        cache, aside = _config(options).cache, None
        if options["force"] and cache.exists() and (aside := put_damaged_aside(cache)):
            click.echo(f"The cache was damaged; it is kept as {aside}.")
        with _service(options, make=aside is not None) as service:
            if aside is None:
                service.clear(force=options["force"])
    click.echo(f"The cache is filled anew: {service.path}")


@share.command("rebuild", context_settings=HELP)
@_options
@click.option("--view", is_flag=True, help="Write the plain database on the share anew instead, and swap it in.")
def rebuild(**options: Any) -> None:
    """Loads a cache's content anew from the share's newest snapshot and log, under the programs that have it open.

    What is pending stays pending.
    """
    with _told(), _service(options, make=True) as service:
        click.echo(service.rebuild_view() if options["view"] else service.rebuild().sentence)


@share.command("verify", context_settings=HELP)
@_options
@_as_json
def verify(**options: Any) -> None:
    """Checks a database from end to end: the log's chain and hashes, the snapshot, the cache, and that cache and log agree."""
    from bdc_pipeline.share.verify import verify as checked  # noqa: PLC0415

    with _told(), _service(options) as service:
        checks = checked(service)
    if options["as_json"]:
        _json({"good": all(check.good for check in checks), "checks": checks})
    else:
        for check in checks:
            click.echo(f"{'ok ' if check.good else 'BAD'} {check.name}: {check.sentence}")
    sys.exit(COMPLETE if all(check.good for check in checks) else MISSING)


@share.command("page", context_settings=HELP)
@_options
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="Port of the page.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the page has no login.")
def page(**options: Any) -> None:
    """Serves the cache page: how a database stands, its conflicts and syncs, and buttons for what one can do about it."""
    with _told():
        config = _config(options)
        from bdc_pipeline.share.database import SharedDatabase  # noqa: PLC0415
        from bdc_pipeline.share.page.server import serve  # noqa: PLC0415

        given = {"enable_cache": True, "cache_directory": options["cache_directory"]}
        with SharedDatabase(config.path, file=options["file"], **given) as database:
            click.echo(f"The cache page is on http://{options['host']}:{options['port']}; Ctrl-C ends it.", err=True)
            serve(database, host=options["host"], port=options["port"])
