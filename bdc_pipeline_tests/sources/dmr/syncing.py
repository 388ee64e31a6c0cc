"""A sandbox of the registries, the downloads and the file that are kept of it, and what the tables are to hold.

What a table is to hold is worked out here once more, from the records as they are served, with none of the code under
test.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import html.parser
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline import settings
from bdc_pipeline.fetching.stopping import Stop
from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread
from bdc_pipeline.sandbox.dmr import Registries
from bdc_pipeline.sources.dmr import assets, command
from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.cache import Cache, Record
from bdc_pipeline.sources.dmr.loading import LoadPlan, RegistryStream
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES, Feed, feeds_of
from bdc_pipeline.sources.dmr.warm import Warmed, Warmer, WarmOptions
from bdc_pipeline.warehouse.documents import Kind, Mode, drain_options_for, hash_of
from bdc_pipeline.warehouse.drain import Drained, DrainOptions, drain
from bdc_pipeline.warehouse.ledger import SyncReport

MODES: tuple[Kind, ...] = ("parallel", "sequential", "streaming")

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)

Row = tuple[Any, ...]


def served(sources: Iterable[str] = REGISTRIES, **options: Any) -> SandboxOptions:
    return SandboxOptions(**{"sources": frozenset(sources), "devices": 400, **options})


def variables(url: str, directory: Path) -> dict[str, str]:
    """The variables that name a sandbox and a directory of one's own."""
    urls = {f"{name.upper()}_URL": f"{url}/{name}" for name in REGISTRIES}
    return {**urls, "BDC_DATA_DIR": str(directory)}


def feed_of(name: str) -> Feed:
    return next(feed for feed in FEEDS if feed.name == name)


class Shelf:
    """Downloads and the file that is loaded from them, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "dmr.db"
        self.cache = Cache(directory / "cache" / "dmr")
        self.runs = 0

    # -- downloads

    def put(self, name: str, document: Any) -> Path:
        """Puts a document into the cache, as a download of it would; bytes go in as they are."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        feed = feed_of(name)
        self.cache.make()
        self.cache.path(feed).write_bytes(data)
        record = Record(
            url=f"https://example.com/{feed.path}",
            fetched_at="2026-03-01T11:00:00Z",
            checked_at="2026-03-01T11:00:00Z",
            bytes=len(data),
            records=0,
            hash=hash_of(self.cache.path(feed)),
            sha256="0" * 64,
        )
        self.cache.note(feed, record)
        return self.cache.path(feed)

    def put_all(self, data: Registries) -> None:
        for feed in FEEDS:
            self.put(feed.name, getattr(data, feed.name))

    def document(self, name: str) -> Any:
        return json.loads(self.cache.path(feed_of(name)).read_bytes())

    def bytes_of(self, name: str) -> tuple[bytes, bytes]:
        """The raw file and its record, byte for byte."""
        feed = feed_of(name)
        return self.cache.path(feed).read_bytes(), self.cache.record_path(feed).read_bytes()

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.cache.directory.iterdir() if path.name.startswith("."))

    # -- loading

    def load(
        self,
        kind: Kind = "parallel",
        chunk: int = 500,
        *,
        registries: tuple[str, ...] = REGISTRIES,
        drain_options: DrainOptions | None = None,
        **plan: Any,
    ) -> Drained:
        self.runs += 1
        mode = Mode(kind, chunk)
        stream = RegistryStream(self.cache, LoadPlan(registries, mode, **plan))
        options = drain_options_for(mode, drain_options or DrainOptions())
        return drain(stream, self.path, f"run {self.runs}", options, partitions=registries)

    # -- what is stored

    def query(self, sql: str, *values: Any) -> list[Row]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        [(value,)] = self.query(sql, *values)
        return value

    def tables(self) -> dict[str, list[Row]]:
        """All rows of all tables, without bookkeeping."""
        found = {}
        for table in t.TABLES:
            columns = ", ".join(f'"{name}"' for name in table.row.__struct_fields__)
            found[table.name] = sorted(
                self.query(f"SELECT {columns}, vanished_at IS NULL FROM {table.name}"), key=lambda row: str(row[:2])
            )
        return found

    def rowids(self) -> dict[str, list[Row]]:
        """Every row with its rowid and when it was written."""
        return {
            table.name: self.query(f"SELECT rowid, * FROM {table.name} ORDER BY rowid")
            for table in (t.REPEATERS, t.TALKGROUPS, t.LOCATIONS)
        }

    def check_integrity(self) -> None:
        assert self.query("PRAGMA integrity_check") == [("ok",)]

    def rejects(self) -> list[tuple[str, str, str]]:
        sql = "SELECT table_name, record_key, reason FROM _rejects WHERE resolved_at IS NULL ORDER BY 1, 2"
        return self.query(sql)  # type: ignore[return-value]

    def live(self, table: str) -> int:
        return int(self.one(f"SELECT count(*) FROM {table} WHERE vanished_at IS NULL"))


class Copy(Shelf):
    """A sandbox, the downloads and the file that are kept of it."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        super().__init__(directory)
        self.sandbox = sandbox
        self.now = NOON

    def later(self, **duration: float) -> None:
        """Moves the clock on."""
        self.now += dt.timedelta(**duration)

    def warmer(self, url: str | None = None, *, read_timeout: float = 30.0, **options: Any) -> Warmer:
        base = url or self.sandbox.url
        return Warmer(
            self.cache,
            {name: f"{base}/{name}" for name in REGISTRIES},
            WarmOptions(**options),
            Stop(),
            clock=lambda: self.now,
            read_timeout=read_timeout,
            attempts=2,
            backoff=0.01,
        )

    def warm(self, *registries: str, url: str | None = None, **options: Any) -> dict[str, Warmed]:
        """One warming, with this clock."""
        with self.warmer(url, **options) as warmer:
            return {one.feed.name: one for one in warmer.warm(feeds_of(registries or REGISTRIES))}

    def sync(self, **options: Any) -> SyncReport:
        """One sync, as the command line does it."""
        asked = command.DmrSync(
            database=self.path,
            resource=assets.DmrResource(attempts=1),
            warm=options.pop("warm", WarmOptions()),
            drain=options.pop("drain", DrainOptions()),
            **options,
        )
        return command.sync(asked, lambda *_: None, time.monotonic())

    def asked(self) -> int:
        return int(self.sandbox.stats()["total"])


def actions(warmed: Mapping[str, Warmed]) -> set[str]:
    return {one.action for one in warmed.values()}


@contextlib.contextmanager
def copying(directory: Path, **options: Any) -> Iterator[Copy]:
    """A sandbox in this process with its variables set, and what will be kept of it."""
    with pytest.MonkeyPatch.context() as patch, running_in_thread(served(**options)) as sandbox:
        for setting in settings.SETTINGS:
            patch.delenv(setting.name, raising=False)
        for name in ("http_proxy", "HTTP_PROXY"):
            patch.delenv(name, raising=False)
        for name, value in variables(sandbox.url, directory).items():
            patch.setenv(name, value)
        yield Copy(sandbox, directory)


# -- what is to be stored --------------------------------------------------------------------------------------

TRUE_COLUMNS = (
    "source external_id kind callsign_raw output_hz input_hz offset_hz mode_raw color_code lat lon city_raw operational "
    "status last_seen hardware firmware link_name master_id power_watts height_m group_name internet_node restriction "
    "title description"
)


def true_repeaters(devices: Iterable[dict[str, Any]], repeaters: Iterable[dict[str, Any]]) -> list[Row]:
    """The columns above, of BrandMeister's devices and hearham's repeaters."""
    return sorted(
        [_device(record) for record in devices] + [_repeater(record) for record in repeaters],
        key=lambda row: row[:2],
    )


def stored_repeaters(shelf: Shelf) -> list[Row]:
    columns = ", ".join(TRUE_COLUMNS.split())
    return sorted(
        shelf.query(f"SELECT {columns} FROM repeaters WHERE vanished_at IS NULL"),
        key=lambda row: row[:2],
    )


def _text(value: str | None) -> str | None:
    return (value or "").strip() or None


def _place(lat: float | None, lon: float | None) -> tuple[float | None, float | None]:
    is_there = lat is not None and lon is not None and (lat, lon) != (0, 0) and abs(lat) <= 90 and abs(lon) <= 180
    return (lat, lon) if is_there else (None, None)


def _device(record: dict[str, Any]) -> Row:
    tx, rx = (int(Decimal(record[side]) * 10**6) for side in ("tx", "rx"))
    kind = "repeater" if len(str(record["id"])) <= 6 else "hotspot"
    values = [kind, record["callsign"], tx, rx, rx - tx, None, record["colorcode"]]
    values += [*_place(record["lat"], record["lng"]), _text(record["city"]), None, record["status"]]
    values += [record["last_seen"].replace(" ", "T") + "Z"]
    values += [_text(record.get(name)) for name in ("hardware", "firmware", "linkname")]
    values += [record["lastKnownMaster"], record["pep"], record["agl"], None, None, None]
    values += [_text(record.get("priorityDescription")), _text(record.get("description"))]
    return ("brandmeister", str(record["id"]), *values)


def _repeater(record: dict[str, Any]) -> Row:
    output, offset = record["frequency"], record["offset"]
    is_code = record["encode"].startswith("CC")
    watts = {"50 W": 50.0, "100 W": 100.0, "25W": 25.0, "10 watts": 10.0, "100": 100.0}.get(record["power"])
    values = ["repeater", record["callsign"], output, output + offset, offset, record["mode"]]
    values += [int(record["encode"][2:]) if is_code else None]
    values += [*_place(record["latitude"], record["longitude"]), _text(record["city"]), record["operational"]]
    values += [None] * 6
    values += [watts, None]
    values += [_text(record[name]) for name in ("group", "internet_node", "restriction")]
    return ("hearham", str(record["id"]), *values, None, _text(record["description"]))


class _Words(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.text += " "

    def handle_endtag(self, tag: str) -> None:
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


def words(markup: str) -> list[str]:
    """The words of HTML, by the standard library's parser."""
    parser = _Words()
    parser.feed(markup)
    parser.close()
    return parser.text.split()


def decoded(description: str) -> str | None:
    """What TGIF says of a talkgroup, as markup; None for nothing, or for what is not base64."""
    try:
        return base64.b64decode(description, validate=True).decode(errors="replace") or None
    except ValueError:
        return None
