"""From the raw downloads to the tables.

Each document fills one partition of one table. A partition that no document fills, such as TGIF's repeaters, is
complete with no rows: that registry has none. What `sources` tells of a document is of the bytes that were read, also where
a download has taken the place of the file meanwhile: its record is the one that fits their hash.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.cache import Cache, Record
from bdc_pipeline.sources.dmr.reading import READERS, key_of, locations_of
from bdc_pipeline.sources.dmr.registries import FEEDS, Feed
from bdc_pipeline.warehouse.documents import Document, DocumentStream, Mode
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.stream import Checked, Event, Missing, Rows
from bdc_pipeline.warehouse.table import Table


def too_old(
    states: Mapping[str, Mapping[str, PartitionState]], days: float, now: dt.datetime
) -> frozenset[tuple[str, str]]:
    """Tables and partitions whose documents were last read more than so many days ago."""
    return frozenset(
        (name, partition)
        for name, of_table in states.items()
        for partition, state in of_table.items()
        if state.is_due(now, days)
    )


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What is to be loaded, and how.

    Args:
        registries: the partitions.
        mode: how.
        force: read documents that have not changed, too.
        old: tables and partitions that were last read too long ago, so that they are read again though nothing changed.
        limit: at most so many records of each document, for a try.
    """

    registries: tuple[str, ...]
    mode: Mode
    force: bool = False
    old: frozenset[tuple[str, str]] = frozenset()
    limit: int | None = None


class RegistryStream(DocumentStream):
    """Loads what the cache holds of some registries."""

    def __init__(self, cache: Cache, plan: LoadPlan) -> None:
        self._registries = plan.registries
        self._feeds = [feed for feed in FEEDS if feed.registry in plan.registries]
        self._cache = cache
        # as they are before; downloads may take their place at any time
        self._records = {feed.name: cache.record_of(feed) for feed in self._feeds}
        self._there = {feed.name for feed in self._feeds if cache.path(feed).is_file()}
        documents = [_document(feed, cache.path(feed)) for feed in self._feeds if feed.name in self._there]
        super().__init__(
            t.SCHEMA,
            t.TABLES,
            documents,
            plan.mode,
            force=plan.force,
            reread=lambda document: (document.table.name, document.partition) in plan.old,
            limit=plan.limit,
        )

    def __iter__(self) -> Iterator[Event]:
        yield from super().__iter__()
        for feed in self._feeds:
            if feed.name not in self._there:
                error = "there is no download of it. Run 'bdc-pipeline warm dmr'"
                yield Missing(_table(feed), (feed.registry,), feed.name, error)
        yield from self._of_registries_without()
        yield from self._of_sources()

    def _of_registries_without(self) -> Iterator[Event]:
        for table in (t.REPEATERS, t.TALKGROUPS):
            filled = {feed.registry for feed in self._feeds if _table(feed) is table}
            for registry in self._registries:
                if registry not in filled:
                    yield Checked(table, (registry,), 0, full=True)

    def _of_sources(self) -> Iterator[Event]:
        for registry in self._registries:
            feeds = [feed for feed in self._feeds if feed.registry == registry]
            yield Rows(t.SOURCES, [_source(feed, self._record_of_what_was_read(feed)) for feed in feeds])
            yield Checked(t.SOURCES, (registry,), len(feeds), full=True)

    def _record_of_what_was_read(self, feed: Feed) -> Record | None:
        token = self.tokens.get(feed.name)
        for record in (self._records[feed.name], self._cache.record_of(feed)):
            if record is not None and record.hash == token:
                return record
        return None


def _table(feed: Feed) -> Table:
    return t.REPEATERS if feed.holds == "repeaters" else t.TALKGROUPS


def _document(feed: Feed, path: Path) -> Document:
    along = locations_of if feed.holds == "repeaters" else _nothing_of
    return Document(path, _table(feed), feed.registry, READERS[feed.name], partial(key_of, feed), along, feed.name)


def _nothing_of(_: Sequence[msgspec.Struct]) -> Iterable[Rows]:
    return ()


def _source(feed: Feed, record: Record | None) -> t.Source:
    return t.Source(
        document=feed.name,
        registry=feed.registry,
        holds=feed.holds,
        url=record.url if record else None,
        fetched_at=record.fetched_at if record else None,
        bytes=record.bytes if record else None,
        records=record.records if record else None,
        sha256=record.sha256 if record else None,
        etag=record.etag if record else None,
        last_modified=record.last_modified if record else None,
        credit=feed.credit,
    )
