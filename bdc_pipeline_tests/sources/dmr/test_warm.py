"""Keeping downloads fresh: what is asked for, what is taken, and what leaves the last good one as it was."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import threading
import tracemalloc
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.fetching.stopping import Stop
from bdc_pipeline.sources.dmr.cache import Cached, CacheError, Record, Refusal
from bdc_pipeline.sources.dmr.registries import BRANDMEISTER_DEVICES, FEEDS, HEARHAM_REPEATERS, TGIF_TALKGROUPS, Feed
from bdc_pipeline.sources.dmr.warm import Warmed, WarmOptions, is_due, pause_after, shown_age
from bdc_pipeline_tests.fetching.loopback import Connection, Reply, Server, one_after_another, reply
from bdc_pipeline_tests.ports import nobody
from bdc_pipeline_tests.sources.dmr.syncing import NOON, Copy, actions, copying
from bdc_pipeline_tests.waiting import SECONDS

TGIF = "tgif_talkgroups"


def cached(age: dt.timedelta, records: int = 100) -> Cached:
    checked = (NOON - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = Record(url="", fetched_at=checked, checked_at=checked, bytes=1, records=records, hash="", sha256="")
    return Cached(Path("file"), record)


def minutes(number: float) -> dt.timedelta:
    return dt.timedelta(minutes=number)


SECOND = dt.timedelta(seconds=1)


# -- when ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feed", "age", "max_age", "force", "expected"),
    [
        # older than this is asked for, as old as this is not
        (HEARHAM_REPEATERS, minutes(60), minutes(60), False, "fresh"),
        (HEARHAM_REPEATERS, minutes(60) + SECOND, minutes(60), False, None),
        (HEARHAM_REPEATERS, minutes(90), minutes(60), False, None),
        (HEARHAM_REPEATERS, minutes(60), minutes(0), False, None),
        # each document's own age where nothing is said
        (TGIF_TALKGROUPS, minutes(120), None, False, "fresh"),
        (TGIF_TALKGROUPS, minutes(120) + SECOND, None, False, None),
        (HEARHAM_REPEATERS, minutes(360), None, False, "fresh"),
        (HEARHAM_REPEATERS, minutes(360) + SECOND, None, False, None),
        (BRANDMEISTER_DEVICES, minutes(24 * 60), None, False, "fresh"),
        (BRANDMEISTER_DEVICES, minutes(24 * 60) + SECOND, None, False, None),
        # floors hold, whatever is asked
        (BRANDMEISTER_DEVICES, minutes(15) - SECOND, minutes(1), False, "too soon"),
        (BRANDMEISTER_DEVICES, minutes(15), minutes(1), False, None),
        (BRANDMEISTER_DEVICES, minutes(15) - SECOND, None, True, "too soon"),
        (BRANDMEISTER_DEVICES, minutes(15), None, True, None),
        (BRANDMEISTER_DEVICES, minutes(0), minutes(0), True, "too soon"),
        (TGIF_TALKGROUPS, SECOND, minutes(0), False, "too soon"),
        (TGIF_TALKGROUPS, minutes(1), minutes(0), True, None),
        # a time that is yet to come is no age
        (BRANDMEISTER_DEVICES, -SECOND, None, False, None),
    ],
)
def test_what_is_due(
    feed: Feed, age: dt.timedelta, max_age: dt.timedelta | None, force: bool, expected: str | None
) -> None:
    assert is_due(feed, cached(age), WarmOptions(max_age, force), NOON) == expected


def test_what_is_missing_or_of_unknown_age_is_due() -> None:
    for there in (None, Cached(Path("file"), None)):
        assert is_due(BRANDMEISTER_DEVICES, there, WarmOptions(), NOON) is None


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (900, "15 min"),
        (5400, "1.5 h"),
        (86_400, "1 days"),
        (259_200, "3 days"),
    ],
)
def test_ages_are_shown_as_people_say_them(age: int, text: str) -> None:
    assert shown_age(dt.timedelta(seconds=age)) == text


@pytest.mark.parametrize(
    ("warmed", "sentence"),
    [
        (Warmed(HEARHAM_REPEATERS, "fresh", cached(minutes(30))), "fresh: 100 records, 30 min old"),
        (
            Warmed(BRANDMEISTER_DEVICES, "too soon", cached(minutes(10))),
            "kept: 100 records, 10 min old; brandmeister is asked every 15 min at most",
        ),
        (Warmed(HEARHAM_REPEATERS, "not modified", cached(minutes(0))), "not modified: 100 records, checked now"),
        (Warmed(HEARHAM_REPEATERS, "downloaded", cached(minutes(0), 12_345)), "downloaded: 12,345 records, now"),
        (Warmed(HEARHAM_REPEATERS, "failed", None, "why"), "failed: why (there is no copy of before)"),
        (
            Warmed(HEARHAM_REPEATERS, "failed", cached(minutes(90)), "why"),
            "failed: why (the copy of before stands, 100 records, 1.5 h old)",
        ),
        (
            Warmed(HEARHAM_REPEATERS, "failed", Cached(Path("file"), None), "why"),
            "failed: why (the copy of before stands, of unknown age)",
        ),
    ],
)
def test_what_became_of_a_document_is_a_sentence(warmed: Warmed, sentence: str) -> None:
    assert warmed.sentence(NOON) == sentence


# -- a registry that works -------------------------------------------------------------------------------------


def test_an_empty_cache_is_filled_with_the_bytes_as_served(copy: Copy) -> None:
    warmed = copy.warm()
    assert actions(warmed) == {"downloaded"}
    assert set(warmed) == {feed.name for feed in FEEDS}
    for entity, source, name in (
        ("device", "brandmeister", "brandmeister_devices"),
        ("talkgroup", "brandmeister", "brandmeister_talkgroups"),
        ("talkgroup", "tgif", TGIF),
        ("repeater", "hearham", "hearham_repeaters"),
    ):
        rows = copy.sandbox.source(source).rows(entity, ["id"])
        document = copy.document(name)
        assert [str(one if isinstance(document, dict) else one["id"]) for one in document] == [str(n) for (n,) in rows]
        found = warmed[name].cached
        assert found is not None
        assert found.record is not None
        assert found.record.records == len(rows)
        assert found.record.url.startswith(copy.sandbox.url)
    assert copy.leftovers() == []


def test_nothing_is_asked_while_all_is_fresh(copy: Copy) -> None:
    copy.warm()
    before, asked = [copy.bytes_of(feed.name) for feed in FEEDS], copy.asked()
    copy.later(hours=2)
    assert actions(copy.warm()) == {"fresh"}
    copy.later(seconds=1)
    assert {name for name, one in copy.warm().items() if one.action != "fresh"} == {TGIF}
    assert copy.asked() == asked + 1
    copy.later(seconds=-1)
    assert [copy.bytes_of(feed.name) for feed in FEEDS if feed.name != TGIF] == before[:2] + before[3:]


@pytest.mark.parametrize("validators", ["both", "etag", "last-modified", "none"])
@pytest.mark.parametrize("gzip", [True, False])
def test_what_has_not_changed_is_vouched_for_and_not_written_anew(tmp_path: Path, validators: str, gzip: bool) -> None:
    with copying(tmp_path, validators=validators, gzip=gzip) as copy:
        copy.warm()
        path = copy.cache.path(TGIF_TALKGROUPS)
        inode, (data, _) = path.stat().st_ino, copy.bytes_of(TGIF)
        copy.later(hours=3)
        sent = copy.sandbox.stats()["bytes_sent"]
        one = copy.warm("tgif")[TGIF]
        assert one.action == "not modified"
        assert (path.stat().st_ino, path.read_bytes()) == (inode, data)
        assert one.cached == copy.cache.look_up(TGIF_TALKGROUPS)
        assert one.cached is not None
        assert one.cached.record is not None
        assert (one.cached.record.fetched_at, one.cached.record.checked_at) == (
            "2026-03-01T12:00:00Z",
            "2026-03-01T15:00:00Z",
        )
        if validators != "none":
            assert copy.sandbox.stats()["bytes_sent"] - sent < 500
        copy.later(hours=2)
        assert copy.warm("tgif")[TGIF].action == "fresh"
        copy.sandbox.source("tgif").change("change", share=0.1)
        copy.later(seconds=1)
        assert copy.warm("tgif")[TGIF].action == "downloaded"
        assert copy.bytes_of(TGIF)[0] != data


def test_only_what_is_asked_for_is_asked(copy: Copy) -> None:
    assert set(copy.warm("hearham")) == {"hearham_repeaters"}
    assert set(copy.sandbox.stats()["labels"]) == {"hearham repeaters"}


def test_a_copy_of_another_server_is_not_fresh_and_not_told_apart_by_its_validators(copy: Copy, tmp_path: Path) -> None:
    copy.warm("tgif")
    with copying(tmp_path / "other", seed=5) as other:
        assert copy.warm("tgif", url=other.sandbox.url)[TGIF].action == "downloaded"
        assert copy.warm("tgif", url=other.sandbox.url)[TGIF].action == "fresh"
    truth = [number for (number,) in copy.sandbox.source("tgif").rows("talkgroup", ["id"])]
    assert [one["id"] for one in copy.document(TGIF)] != truth
    assert copy.warm("tgif")[TGIF].action == "downloaded"
    assert [one["id"] for one in copy.document(TGIF)] == truth


def test_a_clock_that_was_ahead_does_not_keep_a_copy_fresh_for_ever(copy: Copy) -> None:
    copy.later(days=400)
    copy.warm("tgif")
    copy.later(days=-400)
    assert copy.warm("tgif")[TGIF].action == "not modified"
    assert copy.warm("tgif")[TGIF].action == "fresh"


@pytest.mark.parametrize("damage", ["missing", "broken", "of another file"])
def test_a_record_that_is_no_use_makes_the_document_be_asked_for(copy: Copy, damage: str) -> None:
    copy.warm("tgif")
    good = copy.bytes_of(TGIF)
    path = copy.cache.record_path(TGIF_TALKGROUPS)
    if damage == "missing":
        path.unlink()
    elif damage == "broken":
        path.write_bytes(good[1][:40])
    else:
        copy.cache.path(TGIF_TALKGROUPS).write_bytes(good[0] + b"\n")
    assert copy.warm("tgif")[TGIF].action == "downloaded"
    assert copy.bytes_of(TGIF) == good


# -- what goes wrong -------------------------------------------------------------------------------------------

REFUSALS = {f"{feed.name}.refused.json" for feed in FEEDS}


def files(copy: Copy) -> set[str]:
    return {path.name for path in copy.cache.directory.iterdir()}


FAULTS = {
    "html": "no JSON array or object: it begins with '<",
    "empty": "",
    "cut": "",
    "reset": "",
    "stall~seconds=30": "",
    "503": "answered 503",
    "404": "answered 404",
    "throttle": "no list of talkgroups",
    "shrunken": "the registry sent an empty list",
    "partial": "records, where there were",
    "redirect": "",
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.items(), ids=lambda text: text[:8])
def test_what_cannot_be_used_leaves_the_last_good_one_byte_for_byte(copy: Copy, fault: str, said: str) -> None:
    copy.warm()
    before = [copy.bytes_of(feed.name) for feed in FEEDS]
    # another document, so that there is something to send
    for source in ("brandmeister", "tgif", "hearham"):
        copy.sandbox.source(source).change("change", share=0.1)
    copy.sandbox.configure(faults=[f"{fault}@tgif"])
    copy.later(days=2)
    # only what stalls is waited for in vain
    warmed = copy.warm(read_timeout=1.0 if fault.startswith("stall") else 30.0)
    one = warmed.pop(TGIF)
    assert (one.action, actions(warmed)) == ("failed", {"downloaded", "not modified"})
    assert said in one.problem
    assert one.cached is not None
    assert "the copy of before stands, " in one.sentence(copy.now)
    assert "2 days old" in one.sentence(copy.now)
    assert copy.bytes_of(TGIF) == before[2]
    assert copy.leftovers() == []
    copy.sandbox.configure(faults=[])
    copy.later(minutes=1)
    assert copy.warm("tgif")[TGIF].action == "downloaded"
    assert copy.cache.refusal_of(TGIF_TALKGROUPS) is None


@pytest.mark.parametrize("fault", ["html", "empty", "cut", "reset", "503", "404", "shrunken", "throttle", "redirect"])
def test_what_cannot_be_used_does_not_make_a_first_copy(copy: Copy, fault: str) -> None:
    copy.sandbox.configure(faults=[fault])
    warmed = copy.warm()
    assert actions(warmed) == {"failed"}
    assert {one.cached for one in warmed.values()} == {None}
    assert files(copy) <= REFUSALS


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"[", b"{}", b"[]", b"null", b'"text"', b"5", b'[{"id": "1"}', b'[{"id": "1"},', b'[{"id": "1"}] x',
        b'[{"id": "1"}}', b'{"message": "slow down"}', b'{"id": "1"}', b'{"91": "World-wide"}', b'["1", "2"]', b"[null]",
        b'[{"number": 5}]', b"<!DOCTYPE html><p>Hello", b"\xff\xfe[",
    ],
)  # fmt: skip
def test_what_is_no_document_of_this_registry_is_not_kept(copy: Copy, body: bytes) -> None:
    copy.sandbox.source("tgif").change("body", base64=b64encode(body).decode())
    one = copy.warm("tgif")[TGIF]
    assert (one.action, one.cached) == ("failed", None)
    assert one.problem
    assert files(copy) <= REFUSALS


@pytest.mark.parametrize("body", [b'{"error": "no such thing"}', b"[]", b'["91"]', b'[{"91": "World-wide"}]', b"{}"])
def test_what_is_no_object_of_talkgroups_is_not_kept(copy: Copy, body: bytes) -> None:
    change = copy.sandbox.source("brandmeister").change
    change("body", document="talkgroups", base64=b64encode(body).decode())
    one = copy.warm("brandmeister")["brandmeister_talkgroups"]
    assert (one.action, one.cached) == ("failed", None)


def test_a_byte_order_mark_and_one_malformed_record_do_not_matter(copy: Copy) -> None:
    body = b'\xef\xbb\xbf \n[{"id": null}, {"id": "2", "name": NaN}, {"id": "3"}]\n'
    copy.sandbox.source("tgif").change("body", base64=b64encode(body).decode())
    one = copy.warm("tgif")[TGIF]
    assert one.action == "downloaded"
    assert one.cached is not None
    assert one.cached.record is not None
    assert (one.cached.record.records, copy.bytes_of(TGIF)[0]) == (3, body)


def serve_half(copy: Copy, share: float) -> int:
    document = copy.document(TGIF)
    fewer = document[: int(len(document) * share)]
    copy.sandbox.source("tgif").change("body", base64=b64encode(json.dumps(fewer).encode()).decode())
    return len(fewer)


@pytest.mark.parametrize(("share", "action"), [(0.4, "failed"), (0.6, "downloaded")])
@pytest.mark.parametrize("has_record", [True, False])
def test_less_than_half_of_what_there_was_is_taken_for_a_mistake(
    copy: Copy, share: float, action: str, has_record: bool
) -> None:
    copy.warm("tgif")
    count = len(copy.document(TGIF))
    if not has_record:
        copy.cache.record_path(TGIF_TALKGROUPS).unlink()
    before = copy.cache.path(TGIF_TALKGROUPS).read_bytes()
    fewer = serve_half(copy, share)
    copy.later(days=1)
    one = copy.warm("tgif")[TGIF]
    assert one.action == action
    if action == "failed":
        assert f"sent {fewer} records, where there were {count}." in one.problem
        assert "run again with --allow-vanish" in one.problem
        assert copy.cache.path(TGIF_TALKGROUPS).read_bytes() == before
        copy.later(minutes=1)
        assert copy.warm("tgif", allow_smaller=True)[TGIF].action == "downloaded"
    assert len(copy.document(TGIF)) == fewer


def test_a_file_in_place_of_the_directory_is_told_before_anything_is_asked(copy: Copy) -> None:
    copy.cache.directory.parent.write_text("not a directory")
    with pytest.raises(CacheError, match="cannot be written"):
        copy.warm()
    assert copy.asked() == 0


def test_a_file_that_cannot_be_written_costs_no_other(copy: Copy) -> None:
    (copy.cache.path(TGIF_TALKGROUPS) / "held").mkdir(parents=True)
    warmed = copy.warm()
    assert warmed.pop(TGIF).action == "failed"
    assert actions(warmed) == {"downloaded"}


def test_a_server_that_is_down_leaves_all_copies(copy: Copy) -> None:
    copy.warm()
    before = [copy.bytes_of(feed.name) for feed in FEEDS]
    copy.later(days=2)
    with nobody() as address:
        warmed = copy.warm(url=address)
    assert actions(warmed) == {"failed"}
    assert all(address.removeprefix("http://") in one.problem and one.cached is not None for one in warmed.values())
    assert [copy.bytes_of(feed.name) for feed in FEEDS] == before


# -- pauses after an answer that could not be used --------------------------------------------------------------


@pytest.mark.parametrize(
    ("feed", "ago", "retry_after", "left"),
    [
        (BRANDMEISTER_DEVICES, minutes(3), None, "12 min"),
        (BRANDMEISTER_DEVICES, minutes(15) - SECOND, None, "1 s"),
        (BRANDMEISTER_DEVICES, minutes(15), None, ""),
        (BRANDMEISTER_DEVICES, minutes(3), 60.0, "12 min"),
        (BRANDMEISTER_DEVICES, minutes(30), 3600.0, "30 min"),
        (TGIF_TALKGROUPS, minutes(2), None, ""),
        (TGIF_TALKGROUPS, minutes(2), 300.0, "3 min"),
        # a registry may ask for a day at most
        (TGIF_TALKGROUPS, minutes(24 * 60), 1e12, ""),
        # a time that is yet to come is none
        (BRANDMEISTER_DEVICES, -SECOND, None, ""),
    ],
)
def test_a_refusal_counts_for_the_pause_that_the_registry_wants(
    feed: Feed, ago: dt.timedelta, retry_after: float | None, left: str
) -> None:
    at = (NOON - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    refusal = Refusal(url="", answered_at=at, problem="503.", retry_after=retry_after)
    expected = f"asked {shown_age(ago)} ago and refused: 503; asks again after {left}" if left else ""
    assert pause_after(feed, refusal, NOON) == expected


@pytest.mark.parametrize("fault", ["503", "404", "html", "empty", "cut", "shrunken", "partial", "redirect", "throttle"])
@pytest.mark.parametrize("has_copy", [True, False])
def test_brandmeister_is_left_alone_for_15_minutes_after_any_answer(copy: Copy, fault: str, has_copy: bool) -> None:
    if has_copy:
        copy.warm("brandmeister")
        copy.sandbox.source("brandmeister").change("change", share=0.1)
        copy.later(days=2)
    copy.sandbox.configure(faults=[f"{fault}@brandmeister device"])
    first = copy.warm("brandmeister")["brandmeister_devices"]
    if first.action != "failed":
        assert (fault, has_copy) == ("partial", False), "nobody knows that there were more"
        return
    copy.sandbox.configure(faults=[])
    copy.later(minutes=3)
    asked = copy.asked()
    for options in ({}, {"force": True}, {"max_age": minutes(0)}):
        one = copy.warm("brandmeister", **options)["brandmeister_devices"]
        assert (one.action, one.cached is not None) == ("failed", has_copy)
        assert one.problem == f"asked 3 min ago and refused: {first.problem.rstrip('.')}; asks again after 12 min"
    assert copy.asked() == asked
    copy.later(minutes=12)
    assert copy.warm("brandmeister")["brandmeister_devices"].action == "downloaded"
    assert not copy.cache.refusal_path(BRANDMEISTER_DEVICES).exists()


def test_nothing_counts_where_no_answer_came(copy: Copy, serving: Any) -> None:
    with nobody() as address:
        assert actions(copy.warm(url=address)) == {"failed"}
    hangs_up = serving(lambda connection: connection.reset())
    assert actions(copy.warm("tgif", url=hangs_up.url)) == {"failed"}
    silent = serving(lambda connection: connection.stall())
    assert actions(copy.warm("tgif", url=silent.url, read_timeout=1.0)) == {"failed"}
    assert files(copy) == set()
    assert actions(copy.warm()) == {"downloaded"}


def test_a_body_that_stops_coming_counts(copy: Copy, serving: Any) -> None:
    def begin(connection: Connection) -> None:
        connection.send(reply(b'[{"id": "1"}]').replace(b"Length: 13", b"Length: 99"))
        connection.stall()

    server = serving(begin)
    assert "stopped coming" in copy.warm("tgif", url=server.url, read_timeout=1.0)[TGIF].problem
    assert "asked 0 s ago and refused" in copy.warm("tgif", url=server.url)[TGIF].problem
    assert files(copy) == {"tgif_talkgroups.refused.json"}


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_a_download_of_any_size_is_never_held_in_memory(copy: Copy, serving: Any, encoding: str) -> None:
    body = b"[" + b",\n".join(b'{"id": "%d", "name": "%s"}' % (number, b"x" * 2000) for number in range(15_000)) + b"]"
    sent = reply(gzip.compress(body, 1), Content_Encoding="gzip") if encoding else reply(body)
    server = serving(sent)
    tracemalloc.start()
    try:
        one = copy.warm("tgif", url=server.url)[TGIF]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert one.action == "downloaded"
    assert one.cached is not None
    assert one.cached.record is not None
    assert (one.cached.record.records, one.cached.record.bytes) == (15_000, len(body))
    assert one.cached.record.sha256 == hashlib.sha256(body).hexdigest()
    assert copy.cache.look_up(TGIF_TALKGROUPS) == one.cached
    assert len(body) > 30e6
    assert peak < 5e6


def test_a_refusal_of_another_server_is_not_this_ones(copy: Copy, serving: Any) -> None:
    assert copy.warm("tgif", url=serving(reply(b"", 404)).url)[TGIF].action == "failed"
    assert copy.warm("tgif")[TGIF].action == "downloaded"


def test_a_copy_that_is_young_enough_is_fresh_whatever_came_since(copy: Copy) -> None:
    copy.warm("tgif")
    copy.sandbox.configure(faults=["503"])
    copy.later(minutes=5)
    assert copy.warm("tgif", max_age=minutes(1))[TGIF].action == "failed"
    assert copy.warm("tgif", max_age=minutes(10))[TGIF].action == "fresh"


def test_a_registry_that_names_a_time_is_not_asked_before(copy: Copy, serving: Any) -> None:
    server = serving(reply(b"", 429, Retry_After="0"), reply(b"", 429, Retry_After="600"), reply(b'[{"id": "1"}]'))
    with copy.warmer(server.url) as warmer:
        # it has no further attempt that would wait for it
        for session in warmer._sessions.values():
            session.attempts = 2
        assert [one.action for one in warmer.warm([TGIF_TALKGROUPS])] == ["failed"]
    copy.later(minutes=9)
    assert "asks again after 1 min" in copy.warm("tgif", url=server.url)[TGIF].problem
    assert len(server.requests) == 2
    copy.later(minutes=1)
    assert copy.warm("tgif", url=server.url)[TGIF].action == "downloaded"


# -- a server that answers just what a test says ---------------------------------------------------------------


@pytest.fixture
def serving() -> Iterator[Any]:
    servers: list[Server] = []

    def start(*replies: Reply) -> Server:
        servers.append(Server(one_after_another(*replies)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_304_that_nobody_asked_for_is_no_copy(copy: Copy, serving: Any) -> None:
    one = copy.warm("tgif", url=serving(reply(b"", 304)).url)[TGIF]
    assert (one.action, one.cached) == ("failed", None)
    assert "answered 304, though nothing was said to be here" in one.problem


def test_validators_are_sent_back_as_they_came(copy: Copy, serving: Any) -> None:
    tag, date = 'W/"a, b"', "Sun, 01 Mar 2026 10:00:00 GMT"
    server = serving(reply(b'[{"id": "1"}]', ETag=tag, Last_Modified=date), reply(b"", 304))
    copy.warm("tgif", url=server.url)
    copy.later(days=1)
    assert copy.warm("tgif", url=server.url)[TGIF].action == "not modified"
    first, second = (request.headers for request in server.requests)
    assert "if-none-match" not in first
    assert "if-modified-since" not in first
    assert (second["if-none-match"], second["if-modified-since"]) == (tag, date)
    assert "gzip" in first["accept-encoding"]


def test_validators_of_an_answer_that_was_refused_are_not_kept(copy: Copy, serving: Any) -> None:
    server = serving(
        reply(b'[{"id": "1"}]', ETag='"good"'),
        reply(b"[]", ETag='"empty"'),
        reply(b'[{"id": "2"}]', ETag='"new"'),
    )
    copy.warm("tgif", url=server.url)
    for action in ("failed", "downloaded"):
        copy.later(days=1)
        assert copy.warm("tgif", url=server.url)[TGIF].action == action
    assert server.requests[-1].headers["if-none-match"] == '"good"'


def test_ctrl_c_while_a_registry_stalls_ends_soon_and_keeps_what_had_come(copy: Copy, serving: Any) -> None:
    stop = Stop()
    reached = threading.Event()

    def stall(connection: Connection) -> None:
        reached.set()
        connection.stall()

    server = serving(stall)
    warmer = copy.warmer(server.url)
    warmer.stop = stop
    for session in warmer._sessions.values():
        session.stop = stop
    thread = threading.Thread(target=lambda: (reached.wait(SECONDS), stop.set("interrupted")))
    thread.start()
    with warmer:
        warmed = list(warmer.warm([TGIF_TALKGROUPS]))
    thread.join()
    assert [one.action for one in warmed] == ["failed"]
    assert "interrupted" in warmed[0].problem
    assert copy.leftovers() == []


def test_two_warmers_at_once_leave_whole_files(copy: Copy) -> None:
    gate = threading.Barrier(2)
    results: list[set[str]] = []

    def warm() -> None:
        gate.wait(SECONDS)
        results.append(actions(copy.warm()))

    threads = [threading.Thread(target=warm) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert set.union(*results) <= {"downloaded", "fresh", "too soon"}
    assert copy.leftovers() == []
    for feed in FEEDS:
        found = copy.cache.look_up(feed)
        assert found is not None
        assert found.record is not None
        assert found.record.records == len(copy.document(feed.name))
