import http.client
import json
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline.sandbox.dmr import registries
from bdc_pipeline_tests.sandbox.asking import small_sandbox
from bdc_pipeline_tests.sandbox.dmr.getting import (
    DEVICE,
    DEVICES,
    DOCUMENTS,
    HEARHAM,
    REPEATERS,
    TALKGROUP,
    TGIF,
    document,
    get,
    registries_sandbox,
    zipped,
)

LABELS = {
    DEVICE: "brandmeister device",
    REPEATERS: "brandmeister device repeater=true",
    TALKGROUP: "brandmeister talkgroup",
    TGIF: "tgif talkgroups",
    HEARHAM: "hearham repeaters",
}


@pytest.fixture
def usual(shared: Sandbox) -> Sandbox:
    shared.configure(faults=[], validators="both", gzip=True, device_query="honoured")
    shared.reset_stats()
    return shared


def test_documents_are_the_generated_ones(usual: Sandbox) -> None:
    made = registries(DEVICES)
    assert get(usual, DEVICE)[2] == made.brandmeister_devices
    assert get(usual, TALKGROUP)[2] == made.brandmeister_talkgroups
    assert get(usual, TGIF)[2] == made.tgif_talkgroups
    assert get(usual, HEARHAM)[2] == made.hearham_repeaters


def test_another_seed_serves_other_data() -> None:
    with registries_sandbox(seed=1) as sandbox:
        assert get(sandbox, HEARHAM)[2] == registries(DEVICES, seed=1).hearham_repeaters
        assert get(sandbox, HEARHAM)[2] != registries(DEVICES).hearham_repeaters


def test_the_scale_says_how_many_there_are() -> None:
    with registries_sandbox(devices=None) as sandbox:
        counts = [len(document(sandbox, path)) for path in DOCUMENTS]
    assert counts == [3_420, 342, 184, 255, 1_619]


def test_they_are_served_beside_the_others() -> None:
    with small_sandbox(customers=20, devices=20, homes=36) as sandbox:
        assert len(document(sandbox, DEVICE)) == 20


def test_repeaters_alone_have_six_digits(usual: Sandbox) -> None:
    found = document(usual, REPEATERS)
    assert [len(str(device["id"])) for device in found] == [6] * 40
    assert found == [device for device in document(usual, DEVICE) if device["id"] < 1_000_000]


def test_the_query_may_be_refused(usual: Sandbox) -> None:
    usual.configure(device_query="refused")
    status, _, body = get(usual, REPEATERS)
    assert (status, json.loads(body)) == (400, {"message": "Unsupported query parameter"})
    assert get(usual, DEVICE)[0] == 200
    assert usual.stats()["labels"] == {"brandmeister device repeater=true": 1, "brandmeister device": 1}


def test_other_queries_are_always_refused(usual: Sandbox) -> None:
    assert get(usual, f"{DEVICE}?page=2")[0] == 400
    assert get(usual, f"{REPEATERS}&page=2")[0] == 400


def test_a_device_of_its_own_says_more(usual: Sandbox) -> None:
    listed = document(usual, DEVICE)[0]
    detail = document(usual, f"{DEVICE}/{listed['id']}")
    assert listed.items() <= detail.items()
    assert {"description", "created_at", "permissions", "statusText"} <= set(detail)
    assert get(usual, f"{DEVICE}/1")[0] == 404


@pytest.mark.parametrize("path", ["/brandmeister/v1/device", "/brandmeister/v2/device/x", "/tgif/", "/hearham/api"])
def test_other_paths_are_not_found(usual: Sandbox, path: str) -> None:
    assert get(usual, path)[0] == 404


@pytest.mark.parametrize("path", DOCUMENTS)
def test_nothing_can_be_written(usual: Sandbox, path: str) -> None:
    status, headers, _ = get(usual, path, method="POST")
    assert (status, headers["allow"]) == (405, "GET")


def test_requests_are_counted_by_label_and_topic(usual: Sandbox) -> None:
    for path in DOCUMENTS:
        get(usual, path)
    get(usual, f"{DEVICE}/1")
    stats = usual.stats()
    assert stats["labels"] == {**dict.fromkeys(LABELS.values(), 1), "brandmeister device id=1": 1}
    assert stats["topics"] == {
        "brandmeister device": 3,
        "brandmeister talkgroup": 1,
        "tgif talkgroups": 1,
        "hearham repeaters": 1,
    }


def test_brandmeister_announces_its_limit() -> None:
    with registries_sandbox() as sandbox:
        headers = [get(sandbox, path)[1] for path in [DEVICE, TALKGROUP] * 2]
    assert {one["x-ratelimit-limit"] for one in headers} == {"60"}
    left = [int(one["x-ratelimit-remaining"]) for one in headers]
    # A new minute may begin in between
    assert all(n == 59 or n == before - 1 for before, n in zip([60, *left], left, strict=False))


# --- asking again


@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize(
    ("validators", "sent"),
    [
        ("both", {"etag", "last-modified"}),
        ("etag", {"etag"}),
        ("last-modified", {"last-modified"}),
        ("none", set()),
    ],
)
def test_what_is_unchanged_is_not_sent_again(usual: Sandbox, path: str, validators: str, sent: set[str]) -> None:
    usual.configure(validators="both")
    _, known, _ = get(usual, path)
    usual.configure(validators=validators)
    _, headers, body = get(usual, path)
    assert {"etag", "last-modified"} & set(headers) == sent
    by_tag = get(usual, path, if_none_match=known["etag"])
    by_date = get(usual, path, if_modified_since=known["last-modified"])
    assert by_tag[0] == (304 if "etag" in sent else 200)
    assert by_date[0] == (304 if "last-modified" in sent else 200)
    for status, headers, answer in (by_tag, by_date):
        assert answer == (b"" if status == 304 else body)
        assert {"etag", "last-modified"} & set(headers) == sent


def test_a_tag_counts_more_than_a_date(usual: Sandbox) -> None:
    _, known, _ = get(usual, TGIF)
    assert get(usual, TGIF, if_none_match='"other"', if_modified_since=known["last-modified"])[0] == 200
    assert get(usual, TGIF, if_none_match=f'"other", {known["etag"]}')[0] == 304
    assert get(usual, TGIF, if_none_match="*")[0] == 304


def test_other_data_never_has_the_same_validators(usual: Sandbox) -> None:
    with registries_sandbox(seed=1) as other:
        pairs = [(get(usual, path)[1], get(other, path)[1]) for path in DOCUMENTS]
    assert all(one[name] != two[name] for one, two in pairs for name in ("etag", "last-modified"))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_who_accepts_gzip_gets_the_same_in_less(usual: Sandbox, path: str) -> None:
    _, plain_headers, plain = get(usual, path)
    headers, body = zipped(usual, path)
    assert body == plain
    assert int(headers["content-length"]) < len(plain)
    assert "content-encoding" not in plain_headers
    assert headers["vary"] == plain_headers["vary"] == "Accept-Encoding"
    # What is compressed on the way is the same, but not byte for byte
    assert headers["etag"] == f"W/{plain_headers['etag']}"
    assert get(usual, path, if_none_match=headers["etag"], accept_encoding="gzip")[0] == 304


@pytest.mark.parametrize(("accepted", "compressed"), [("gzip;q=0", False), ("br", False), ("br, GZIP;q=0.5", True)])
def test_gzip_comes_only_to_who_accepts_it(usual: Sandbox, accepted: str, compressed: bool) -> None:
    assert ("content-encoding" in get(usual, HEARHAM, accept_encoding=accepted)[1]) is compressed


def test_gzip_may_be_off(usual: Sandbox) -> None:
    usual.configure(gzip=False)
    headers = get(usual, HEARHAM, accept_encoding="gzip")[1]
    assert not {"content-encoding", "vary"} & set(headers)
    assert not headers["etag"].startswith("W/")


# --- faults


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_fault_hits_the_document_whose_label_it_matches(usual: Sandbox, path: str) -> None:
    usual.configure(faults=[f"503@^{LABELS[path]}$"])
    assert [get(usual, other)[0] for other in DOCUMENTS] == [503 if other == path else 200 for other in DOCUMENTS]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_may_be_suddenly_empty(usual: Sandbox, path: str) -> None:
    usual.configure(faults=["shrunken"])
    status, headers, body = get(usual, path)
    assert (status, body) == (200, b"{}" if path == TALKGROUP else b"[]")
    assert "etag" not in headers


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_may_be_suddenly_small(usual: Sandbox, path: str) -> None:
    whole: Any = document(usual, path)
    usual.configure(faults=["partial"])
    part: Any = document(usual, path)
    assert list(part) == list(whole)[: len(whole) // 10]
    assert len(part) < len(whole)


def test_a_message_may_come_in_place_of_a_document(usual: Sandbox) -> None:
    usual.configure(faults=["throttle"])
    assert [document(usual, path) for path in DOCUMENTS] == [{"message": "Too many requests, slow down."}] * 5


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_document_may_be_cut(usual: Sandbox, encoding: str) -> None:
    whole = get(usual, DEVICE, accept_encoding=encoding)[2]
    usual.configure(faults=["cut"])
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(usual, DEVICE, accept_encoding=encoding)
    assert cut.value.partial == whole[: len(whole) // 2]
