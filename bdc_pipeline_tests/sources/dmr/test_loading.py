"""From downloads to tables: all modes alike, nothing lost, nothing written that has not changed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sandbox.dmr import registries
from bdc_pipeline.sandbox.dmr.records import keys_of
from bdc_pipeline.sources.dmr.loading import LoadPlan, RegistryStream, too_old
from bdc_pipeline.sources.dmr.registries import FEEDS, REGISTRIES
from bdc_pipeline.sources.dmr.tables import SCHEMA
from bdc_pipeline.warehouse.documents import Kind, Mode
from bdc_pipeline.warehouse.drain import DrainOptions, drain
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Event, Rows
from bdc_pipeline_tests.sources.dmr.syncing import (
    MODES,
    NOON,
    Copy,
    Shelf,
    decoded,
    feed_of,
    stored_repeaters,
    true_repeaters,
    words,
)

DATA = registries(400)
"""As the sandbox serves it."""


@pytest.fixture
def full(shelf: Shelf) -> Shelf:
    shelf.put_all(DATA)
    return shelf


def counts(shelf: Shelf, table: str) -> tuple[int, ...]:
    """Of the last run: expected, fetched, inserted, updated, unchanged, vanished, rejected."""
    [found] = shelf.query(
        "SELECT expected, fetched, inserted, updated, unchanged, vanished, rejected FROM _run_tables "
        "WHERE table_name = ? AND run_id = ?",
        table,
        f"run {shelf.runs}",
    )
    return found


# -- all modes alike -------------------------------------------------------------------------------------------


def assert_true(shelf: Shelf) -> None:
    """The tables hold what the documents say, worked out anew."""
    devices, repeaters = shelf.document("brandmeister_devices"), shelf.document("hearham_repeaters")
    assert stored_repeaters(shelf) == true_repeaters(devices, repeaters)
    names = shelf.query("SELECT network, talkgroup_id, name FROM talkgroups WHERE vanished_at IS NULL ORDER BY 1, 2")
    given = [("brandmeister", int(n), name) for n, name in shelf.document("brandmeister_talkgroups").items()]
    tgif = {int(one["id"]): one for one in shelf.document("tgif_talkgroups")}
    given += [("tgif", number, one["name"].strip() or None) for number, one in tgif.items()]
    assert names == sorted(given)
    told = shelf.query("SELECT talkgroup_id, description, description_html FROM talkgroups WHERE network = 'tgif'")
    for number, plain, markup in told:
        expected = decoded(tgif[number]["description"])
        assert (markup or plain) == expected
        assert (plain or "").split() == words(expected or "")


@pytest.mark.parametrize("kind", MODES)
def test_every_record_of_the_sandbox_becomes_its_row(copy: Copy, kind: Kind) -> None:
    copy.warm()
    done = copy.load(kind)
    assert done.is_complete
    assert not done.rejects
    assert_true(copy)
    for source, entity, table in (
        ("brandmeister", "device", "repeaters WHERE source = 'brandmeister'"),
        ("hearham", "repeater", "repeaters WHERE source = 'hearham'"),
        ("brandmeister", "talkgroup", "talkgroups WHERE network = 'brandmeister'"),
        ("tgif", "talkgroup", "talkgroups WHERE network = 'tgif'"),
    ):
        assert copy.one(f"SELECT count(*) FROM {table}") == len(copy.sandbox.source(source).rows(entity, ["id"]))
    sources = copy.query("SELECT document, records, url, credit FROM sources ORDER BY rowid")
    assert [row[0] for row in sources] == [feed.name for feed in FEEDS]
    assert all(records and url.startswith(copy.sandbox.url) and credit for _, records, url, credit in sources)


def test_all_modes_and_chunks_give_the_same_tables_also_after_changes(tmp_path: Path) -> None:
    data = registries(3420)
    changed = [keys_of(record) for record in data.devices]
    for number in range(0, len(changed), 100):
        changed[number]["city"] = f"moved {number}"
    changed = changed[50:]
    found = []
    for number, (kind, chunk) in enumerate(
        (("parallel", 2000), ("sequential", 777), ("streaming", 500), ("streaming", 5000))
    ):
        shelf = Shelf(tmp_path / str(number))
        shelf.put_all(data)
        assert shelf.load(kind, chunk).is_complete
        first = shelf.tables()
        shelf.put("brandmeister_devices", changed)
        assert shelf.load(kind, chunk).is_complete
        found.append((first, shelf.tables()))
    assert found[0][0] != found[0][1]
    assert all(other == found[0] for other in found[1:])
    assert len(found[0][0]["repeaters"]) == 3420 + len(data.hearham)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODES)
def test_at_full_size_no_row_is_lost_and_a_second_run_changes_none(shelf: Shelf, kind: Kind) -> None:
    data = registries()
    shelf.put_all(data)
    assert shelf.load(kind, 2000).is_complete
    by_source = dict(shelf.query("SELECT source, count(*) FROM live_repeaters GROUP BY 1"))
    by_network = dict(shelf.query("SELECT network, count(*) FROM live_talkgroups GROUP BY 1"))
    assert by_source == {"brandmeister": 34_200, "hearham": 16_189}
    assert by_network == {"brandmeister": 1_844, "tgif": 2_549}
    assert stored_repeaters(shelf) == true_repeaters(map(keys_of, data.devices), map(keys_of, data.hearham))
    before = shelf.rowids()
    assert shelf.load(kind, 2000).is_complete
    assert shelf.rowids() == before
    assert counts(shelf, "repeaters") == (50_389, 50_389, 0, 0, 50_389, 0, 0)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("force", [False, True])
def test_a_second_run_changes_no_row_and_no_rowid(full: Shelf, kind: Kind, force: bool) -> None:
    full.load(kind)
    before = full.rowids()
    done = full.load(kind, force=force)
    assert done.is_complete
    assert full.rowids() == before
    assert counts(full, "repeaters")[2:4] == (0, 0)
    assert counts(full, "talkgroups")[2:4] == (0, 0)


# -- changes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODES)
def test_changed_inserted_and_deleted_records_are_that_and_no_other_row_moves(copy: Copy, kind: Kind) -> None:
    copy.warm()
    copy.load(kind)
    before = {row[1:3]: row for row in copy.rowids()["repeaters"]}
    bm, hearham = copy.sandbox.source("brandmeister"), copy.sandbox.source("hearham")
    changed = {("brandmeister", str(n)) for n in bm.change("change", share=0.02)}
    new = {("hearham", str(n)) for n in hearham.change("insert", count=3)}
    gone = {("hearham", str(n)) for n in hearham.change("delete", share=0.02)} - new
    copy.later(days=2)
    copy.warm()
    assert copy.load(kind).is_complete
    assert_true(copy)
    after = {row[1:3]: row for row in copy.rowids()["repeaters"]}
    assert after.keys() - before.keys() == new
    assert before.keys() <= after.keys(), "a row that has vanished stays, marked"
    assert {key for key in before if after[key] != before[key]} == changed | gone
    assert {key for key in before if after[key][0] != before[key][0]} == set()
    vanished = copy.query("SELECT source, external_id FROM repeaters WHERE vanished_at IS NOT NULL")
    assert set(vanished) == gone


def test_what_vanished_and_comes_back_is_the_same_row(full: Shelf) -> None:
    full.load()
    document = full.document("hearham_repeaters")
    [before] = full.query("SELECT rowid, first_seen FROM repeaters WHERE external_id = ?", str(document[0]["id"]))
    full.put("hearham_repeaters", document[1:])
    assert full.load().is_complete
    sql = "SELECT rowid, first_seen, vanished_at IS NULL FROM repeaters WHERE external_id = ?"
    assert full.query(sql, str(document[0]["id"])) == [(*before, 0)]
    full.put("hearham_repeaters", document)
    assert full.load().is_complete
    assert full.query(sql, str(document[0]["id"])) == [(*before, 1)]


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("left", [0, 10])
def test_a_document_that_has_lost_most_of_its_records_vanishes_nothing(full: Shelf, kind: Kind, left: int) -> None:
    full.load(kind)
    before = full.tables()["repeaters"]
    full.put("brandmeister_devices", full.document("brandmeister_devices")[:left])
    done = full.load(kind)
    assert not done.is_complete
    assert "nothing was marked as vanished" in done.incomplete["repeaters"]["brandmeister"]
    assert full.tables()["repeaters"] == before
    assert set(done.complete["repeaters"]) == {"hearham", "tgif"}
    done = full.load(kind, drain_options=DrainOptions(allow_vanish=True))
    assert done.is_complete
    assert full.one("SELECT count(*) FROM live_repeaters WHERE source = 'brandmeister'") == left


# -- damage ----------------------------------------------------------------------------------------------------


def edited(change: Callable[[list[dict[str, Any]]], Any], name: str = "brandmeister_devices") -> bytes:
    document = json.loads(getattr(DATA, name))
    change(document)
    return json.dumps(document).encode()


def with_record(record: bytes) -> bytes:
    """A document with one record more, in its middle."""
    document = json.loads(DATA.brandmeister_devices)
    texts = [json.dumps(one).encode() for one in document]
    return b"[" + b",".join([*texts[:200], record, *texts[200:]]) + b"]"


MALFORMED = {
    "latitude as text": b'{"id": 555555, "callsign": "K0ABC", "lat": "51.5"}',
    "id as text": b'{"id": "555555"}',
    "no id": b'{"callsign": "K0ABC"}',
    "NaN": b'{"id": 555555, "lat": NaN}',
    "Infinity": b'{"id": 555555, "lat": -Infinity}',
    "a float over the limit": b'{"id": 555555, "lat": 1e999}',
    "an integer over 64 bits": b'{"id": 555555, "status": 99999999999999999999}',
    "an id of 5000 digits": b'{"id": ' + b"9" * 5000 + b"}",
    "invalid UTF-8": b'{"id": 555555, "callsign": "\xff\xfe"}',
    "half a surrogate": b'{"id": 555555, "callsign": "\\ud800"}',
    "a wrong escape": b'{"id": 555555, "callsign": "\\x"}',
    "a number": b"5",
    "null": b"null",
    "a list": b"[1, 2, [3]]",
    "nothing": b"",
    "deep": b'{"id": 555555, "callsign": ' + b"[" * 3000 + b"]" * 3000 + b"}",
}


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("record", MALFORMED.values(), ids=list(MALFORMED))
def test_one_malformed_record_is_one_reject(full: Shelf, kind: Kind, record: bytes) -> None:
    full.put("brandmeister_devices", with_record(record))
    done = full.load(kind)
    [reject] = done.rejects
    assert reject.table.name == "repeaters"
    assert reject.reason
    assert not done.is_complete
    assert "1 rejected (1 in all, 0 allowed by --max-rejects)" in done.incomplete["repeaters"]["brandmeister"]
    assert counts(full, "repeaters") == (
        401 + len(DATA.hearham),
        400 + len(DATA.hearham),
        400 + len(DATA.hearham),
        0,
        0,
        0,
        1,
    )
    assert stored_repeaters(full) == true_repeaters(map(keys_of, DATA.devices), map(keys_of, DATA.hearham))
    # within the limit it is complete, and mended it is gone
    assert full.load(kind, drain_options=DrainOptions(max_rejects=1)).is_complete
    full.put("brandmeister_devices", DATA.brandmeister_devices)
    assert full.load(kind).is_complete
    assert full.rejects() == []


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("tx", ["1e999999", "1e900000", "9" * 400])
def test_a_frequency_that_is_none_costs_the_field_alone(full: Shelf, kind: Kind, tx: str) -> None:
    full.put("brandmeister_devices", edited(lambda document: document[5].update(tx=tx)))
    assert full.load(kind).is_complete
    assert full.query("SELECT output_hz, output_raw FROM repeaters WHERE problem IS NOT NULL") == [(None, tx)]


@pytest.mark.parametrize("kind", MODES)
def test_a_record_that_becomes_malformed_keeps_its_row(full: Shelf, kind: Kind) -> None:
    full.load(kind)
    before = full.tables()["repeaters"]
    full.put("brandmeister_devices", edited(lambda document: document[7].update(lat="51.5")))
    done = full.load(kind)
    assert len(done.rejects) == 1
    assert full.tables()["repeaters"] == before


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_second_record_with_an_id_is_rejected_and_the_first_stands(full: Shelf, kind: Kind, is_first: bool) -> None:
    if not is_first:
        full.load(kind)
    full.put(
        "brandmeister_devices",
        edited(lambda document: document.append({**document[3], "callsign": "K9DUP", "city": "X"})),
    )
    done = full.load(kind)
    [reject] = done.rejects
    assert "same key" in reject.reason
    assert full.one("SELECT count(*) FROM repeaters WHERE callsign = 'K9DUP'") == 0
    assert stored_repeaters(full) == true_repeaters(map(keys_of, DATA.devices), map(keys_of, DATA.hearham))


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("share", [0.0001, 0.3, 0.9999])
def test_a_cut_file_ends_with_an_error_and_loses_nothing(full: Shelf, kind: Kind, share: float) -> None:
    full.load(kind)
    before = full.tables()["repeaters"]
    whole = DATA.brandmeister_devices
    full.put("brandmeister_devices", whole[: max(1, int(len(whole) * share))])
    done = full.load(kind)
    assert not done.is_complete
    assert "cut short" in done.incomplete["repeaters"]["brandmeister"]
    assert "records could be read" in done.incomplete["repeaters"]["brandmeister"]
    assert full.tables()["repeaters"] == before
    full.put("brandmeister_devices", whole)
    assert full.load(kind).is_complete
    assert full.tables()["repeaters"] == before


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("body", [b"", b" \n", b"<!DOCTYPE html><p>Hello", b'"text"', b"5", b"\x00" * 5000, b"[}"])
def test_a_file_that_is_no_document_loses_nothing(full: Shelf, kind: Kind, body: bytes) -> None:
    full.load(kind)
    before = full.tables()
    full.put("hearham_repeaters", body)
    done = full.load(kind)
    assert set(done.incomplete["repeaters"]) == {"hearham"}
    after = full.tables()
    assert {name: after[name] for name in ("repeaters", "talkgroups", "locations")} == {
        name: before[name] for name in ("repeaters", "talkgroups", "locations")
    }
    assert full.one("SELECT complete FROM _partitions WHERE table_name = 'repeaters' AND partition = 'hearham'") == 0


@pytest.mark.parametrize("kind", MODES)
def test_a_missing_download_is_told_and_costs_no_other(full: Shelf, kind: Kind) -> None:
    full.load(kind)
    before = full.tables()["talkgroups"]
    full.cache.path(next(feed for feed in FEEDS if feed.name == "tgif_talkgroups")).unlink()
    done = full.load(kind)
    assert done.incomplete["talkgroups"] == {
        "tgif": "tgif_talkgroups: there is no download of it. Run 'bdc-pipeline warm dmr'"
    }
    assert set(done.complete["talkgroups"]) == {"brandmeister", "hearham"}
    assert full.tables()["talkgroups"] == before


# -- how -------------------------------------------------------------------------------------------------------


def test_registries_that_were_not_asked_for_are_left_alone(full: Shelf) -> None:
    full.load()
    full.put("hearham_repeaters", full.document("hearham_repeaters")[:-1])
    full.put("tgif_talkgroups", full.document("tgif_talkgroups")[:-1])
    done = full.load(registries=("tgif",))
    assert done.is_complete
    assert full.live("repeaters") == 400 + len(DATA.hearham)
    assert full.one("SELECT count(*) FROM live_talkgroups WHERE network = 'tgif'") == len(DATA.tgif) - 1


def test_a_limit_takes_so_many_records_of_each_document_and_vanishes_nothing(full: Shelf) -> None:
    full.load()
    done = full.load(limit=7)
    assert set(done.limited["repeaters"]) >= {"brandmeister", "hearham"}
    assert full.live("repeaters") == 400 + len(DATA.hearham)
    assert counts(full, "repeaters")[1] == 14


def test_a_first_try_with_a_limit_is_not_complete(full: Shelf) -> None:
    done = full.load(limit=7)
    assert full.live("repeaters") == 14
    assert "brandmeister" not in done.complete["repeaters"]
    assert full.load().is_complete
    assert full.live("repeaters") == 400 + len(DATA.hearham)


def test_a_document_that_was_read_too_long_ago_is_read_again(full: Shelf) -> None:
    full.load()
    assert full.load(old=frozenset({("repeaters", "hearham")})).is_complete
    assert (
        full.one(
            "SELECT count(DISTINCT verified_at) FROM _partitions WHERE table_name = 'repeaters' AND partition != 'tgif'"
        )
        == 2
    )


def test_too_old_is_what_was_verified_before(full: Shelf) -> None:
    def state(verified: str | None) -> PartitionState:
        [found] = [PartitionState(**{**dict.fromkeys(PartitionState.__struct_fields__), "verified_at": verified})]
        return found

    states = {
        "repeaters": {
            "a": state("2026-02-22T11:59:59.999Z"),
            "b": state("2026-02-22T12:00:00.001Z"),
            "c": state(None),
            "d": state("2026-03-01T11:00:00.000Z"),
        }
    }
    assert too_old(states, 7.0, NOON) == {("repeaters", "a"), ("repeaters", "c")}
    assert too_old(states, 0.0, NOON) == {("repeaters", key) for key in "abcd"}
    assert too_old(states, 36_500, NOON) == {("repeaters", "c")}


# -- downloads that come while documents are read ------------------------------------------------------------------


def said(shelf: Shelf) -> dict[str, tuple[Any, ...]]:
    return {name: rest for name, *rest in shelf.query("SELECT document, bytes, fetched_at FROM sources")}


@pytest.mark.parametrize("moment", ["before it is opened", "between file and record", "while it is read"])
def test_sources_tell_of_the_bytes_that_were_read(full: Shelf, moment: str) -> None:
    name = "hearham_repeaters"
    feed = feed_of(name)
    older, older_record = full.bytes_of(name)
    full.put(name, edited(lambda document: document.pop(), name))
    newer, newer_record = full.bytes_of(name)
    stamped = newer_record.replace(b"2026-03-01T11:00:00Z", b"2026-03-01T11:45:00Z")

    def replaced(path: Path, data: bytes) -> None:
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").replace(path)

    full.cache.path(feed).write_bytes(older)
    full.cache.record_path(feed).write_bytes(older_record)
    if moment == "between file and record":
        replaced(full.cache.path(feed), newer)
    stream = RegistryStream(full.cache, LoadPlan(REGISTRIES, Mode("sequential", 500)))
    if moment == "before it is opened":
        replaced(full.cache.path(feed), newer)
    events = iter(stream)

    class Replacing(RegistryStream):
        def __iter__(self) -> Iterator[Event]:
            for event in events:
                if isinstance(event, Rows):
                    replaced(full.cache.path(feed), newer)
                    replaced(full.cache.record_path(feed), stamped)
                yield event

    stream.__class__ = Replacing
    done = drain(stream, full.path, "run", DrainOptions(), partitions=REGISTRIES)
    assert done.is_complete
    read_newer = moment != "while it is read"
    assert (
        said(full)[name] == [len(newer), "2026-03-01T11:45:00Z"] if read_newer else [len(older), "2026-03-01T11:00:00Z"]
    )
    wanted = len(json.loads(newer if read_newer else older))
    assert full.one("SELECT count(*) FROM repeaters WHERE source = 'hearham'") == wanted


def test_a_download_without_a_record_is_read_all_the_same(full: Shelf) -> None:
    full.cache.record_path(feed_of("hearham_repeaters")).unlink()
    assert full.load().is_complete
    assert said(full)["hearham_repeaters"] == [None, None]


# -- indexes -------------------------------------------------------------------------------------------------------

INDEXES = "SELECT name FROM sqlite_master WHERE type IN ('index', 'trigger') OR name LIKE '%rtree%' ORDER BY name"
PLACES = "SELECT count(*) FROM locations WHERE lat IS NOT NULL"
IN_TREE = (
    "SELECT count(*) FROM locations l JOIN locations_rtree r USING (id) WHERE l.lat BETWEEN r.min_lat AND r.max_lat"
)


@pytest.mark.parametrize("kind", MODES)
def test_indexes_that_are_made_at_the_end_are_those_that_a_file_has_from_the_beginning(full: Shelf, kind: Kind) -> None:
    with Store(full.path, SCHEMA):
        declared = full.query(INDEXES)
    full.load(kind)
    assert full.query(INDEXES) == declared
    assert full.one(PLACES) == full.one(IN_TREE) > 100
    full.put("hearham_repeaters", edited(lambda document: document[5].update(latitude=55.5), "hearham_repeaters"))
    full.load(kind)
    assert full.one(PLACES) == full.one(IN_TREE)
    full.check_integrity()


def test_indexes_are_made_also_after_a_load_that_fails(full: Shelf) -> None:
    class BrokenError(Exception):
        pass

    stream = RegistryStream(full.cache, LoadPlan(REGISTRIES, Mode("sequential", 500)))
    events = iter(stream)

    class Failing(RegistryStream):
        def __iter__(self) -> Iterator[Event]:
            for event in events:
                yield event
                if isinstance(event, Rows):
                    raise BrokenError

    stream.__class__ = Failing
    with pytest.raises(BrokenError):
        drain(stream, full.path, "run", DrainOptions())
    assert full.one(PLACES) == full.one(IN_TREE) > 100
    with_all = full.query(INDEXES)
    with Store(full.path, SCHEMA):
        assert full.query(INDEXES) == with_all


# -- memory ----------------------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
from bdc_pipeline.sources.dmr.cache import Cache
from bdc_pipeline.sources.dmr.loading import LoadPlan, RegistryStream
from bdc_pipeline.sources.dmr.registries import REGISTRIES
from bdc_pipeline.warehouse.documents import Mode, drain_options_for
from bdc_pipeline.warehouse.drain import DrainOptions, drain
mode = Mode("streaming", int(sys.argv[2]))
directory = Path(sys.argv[1])
def peak():
    # not getrusage: what it tells begins with the peak of the process that started this one
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])
base = peak()
for run in range(int(sys.argv[3])):
    stream = RegistryStream(Cache(directory / "cache" / "dmr"), LoadPlan(REGISTRIES, mode, force=True))
    done = drain(stream, directory / "dmr.db", f"run {run}", drain_options_for(mode, DrainOptions()), partitions=REGISTRIES)
    assert done.is_complete, done.incomplete
    print((peak() - base) / 1024)
"""


def wide(number: int) -> str:
    return base64.b64encode(f"<p>{number} {'x' * 15_000}</p>".encode()).decode()


@pytest.mark.slow
@pytest.mark.parametrize(("times", "chunk", "runs"), [(1, 5000, 2), (4, 5000, 1)])
def test_streaming_takes_20_mb_at_most_however_large_the_documents_are(
    shelf: Shelf, times: int, chunk: int, runs: int
) -> None:
    data = registries()
    shelf.put_all(data)
    for name in ("brandmeister_devices", "hearham_repeaters") if times > 1 else ():
        # the same records under other ids: 400,000 and more
        records = getattr(data, name)[1:-1]
        copies = [records.replace(b'"id":', b'"id":%d' % number) for number in range(1, times + 1)]
        shelf.put(name, b"[" + b",".join(copies) + b"]")
    if times == 1:
        # and rows of 20 KB each
        shelf.put("tgif_talkgroups", [{"id": str(n), "description": wide(n)} for n in range(1, 2000)])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(shelf.directory), str(chunk), str(runs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shelf.live("repeaters") == 50_389 * times
    assert 0 < max(map(float, done.stdout.split())) <= 20, done.stdout
