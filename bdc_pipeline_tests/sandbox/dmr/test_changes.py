import base64
import json
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
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

ARRAYS = [("brandmeister", DEVICE, "device"), ("tgif", TGIF, "talkgroup"), ("hearham", HEARHAM, "repeater")]


def by_id(sandbox: Sandbox, path: str) -> dict[Any, Any]:
    found = document(sandbox, path)
    return found if isinstance(found, dict) else {record["id"]: record for record in found}


@pytest.mark.parametrize(("name", "path", "entity"), ARRAYS)
def test_a_share_of_the_records_gets_other_values(own: Sandbox, name: str, path: str, entity: str) -> None:
    before = by_id(own, path)
    changed = own.source(name).change("change", share=0.2)
    after = by_id(own, path)
    assert len(changed) == round(0.2 * len(before))
    assert list(after) == list(before)
    assert [n for n in after if after[n] != before[n]] == changed


def test_a_share_of_the_names_changes_in_an_object(own: Sandbox) -> None:
    before = by_id(own, TALKGROUP)
    changed = own.source("brandmeister").change("change", document="talkgroups", share=0.5)
    after = by_id(own, TALKGROUP)
    assert sorted(n for n in after if after[n] != before[n]) == sorted(changed)
    assert len(changed) == round(0.5 * len(before))


def test_which_columns_change_can_be_said(own: Sandbox) -> None:
    before = by_id(own, DEVICE)
    own.source("brandmeister").change("change", share=1, columns=["last_seen"])
    after = by_id(own, DEVICE)
    assert all(after[n]["last_seen"] > before[n]["last_seen"] for n in before)
    assert all({**after[n], "last_seen": before[n]["last_seen"]} == before[n] for n in before)
    with pytest.raises(ValueError, match=r"A change of a device alters .*, not lat"):
        own.source("brandmeister").change("change", columns=["lat"])


def test_the_same_changes_give_the_same_data_and_another_seed_others() -> None:
    def bodies(seed: int) -> list[bytes]:
        with registries_sandbox() as sandbox:
            for name, _, _ in ARRAYS:
                sandbox.source(name).change("change", share=0.1, seed=seed)
                sandbox.source(name).change("insert", count=3)
                sandbox.source(name).change("delete", share=0.1, seed=seed)
            return [get(sandbox, path)[2] for path in DOCUMENTS]

    first = bodies(0)
    assert bodies(0) == first
    assert bodies(1)[0] != first[0]


@pytest.mark.parametrize(("name", "path", "entity"), ARRAYS)
def test_records_are_added(own: Sandbox, name: str, path: str, entity: str) -> None:
    before = by_id(own, path)
    made = own.source(name).change("insert", count=2)
    made += own.source(name).change("insert")
    after = by_id(own, path)
    assert list(after) == [*before, *made]
    assert set(after[made[0]]) >= {"id"}
    assert len(set(made)) == 3


def test_what_is_added_can_have_columns(own: Sandbox) -> None:
    own.source("brandmeister").change("insert", columns={"id": 999_999, "city": "Here"})
    assert document(own, REPEATERS)[-1]["city"] == "Here"
    [made] = own.source("brandmeister").change("insert", document="talkgroups", columns={"name": "New"})
    assert document(own, TALKGROUP)[made] == "New"


@pytest.mark.parametrize(("name", "path", "entity"), ARRAYS)
def test_records_are_removed(own: Sandbox, name: str, path: str, entity: str) -> None:
    before = list(by_id(own, path))
    assert own.source(name).change("delete", ids=before[:2]) == before[:2]
    gone = own.source(name).change("delete", share=0.1)
    assert list(by_id(own, path)) == [n for n in before[2:] if n not in gone]
    assert len(gone) == round((len(before) - 2) * 0.1)


@pytest.mark.parametrize(("name", "path", "entity"), ARRAYS)
def test_a_record_takes_any_value_and_loses_any_key(own: Sandbox, name: str, path: str, entity: str) -> None:
    first, second, *_ = before = document(own, path)
    keys = list(first)
    own.source(name).change(
        "update", id=first["id"], columns={keys[1]: {"not": ["a", "value"]}, "new": 1}, remove=[keys[-1]]
    )
    own.source(name).change("update", id=second["id"], columns={"id": None})
    expected = {**first, keys[1]: {"not": ["a", "value"]}, "new": 1}
    del expected[keys[-1]]
    if keys[1] == "id":
        expected["id"] = {"not": ["a", "value"]}
    assert document(own, path) == [expected, {**second, "id": None}, *before[2:]]


def test_a_latitude_may_become_text_and_more_changes_follow(own: Sandbox) -> None:
    brandmeister = own.source("brandmeister")
    first = document(own, DEVICE)[0]
    brandmeister.change("update", id=first["id"], columns={"lat": "51,5 N", "tx": None, "colorcode": "one"})
    assert document(own, DEVICE)[0]["lat"] == "51,5 N"
    brandmeister.change("change", share=1)
    assert document(own, DEVICE)[0]["lat"] == "51,5 N"
    assert isinstance(document(own, DEVICE)[0]["tx"], str)


@pytest.mark.parametrize(("name", "path", "entity"), ARRAYS)
def test_two_records_may_have_one_id(own: Sandbox, name: str, path: str, entity: str) -> None:
    first = document(own, path)[0]
    own.source(name).change("duplicate", id=first["id"])
    own.source(name).change("duplicate", id=first["id"], columns={"extra": True})
    assert document(own, path)[-2:] == [first, {**first, "extra": True}]
    assert own.source(name).change("delete", ids=[first["id"]]) == [first["id"]] * 3


def test_an_object_may_hold_a_key_twice(own: Sandbox) -> None:
    brandmeister = own.source("brandmeister")
    brandmeister.change("update", document="talkgroups", id=91, columns={"name": 91})
    brandmeister.change("duplicate", document="talkgroups", id="91", columns={"name": "Other"})
    pairs = json.loads(get(own, TALKGROUP)[2], object_pairs_hook=list)
    assert [value for key, value in pairs if key == "91"] == [91, "Other"]


@pytest.mark.parametrize(
    ("name", "which", "path"),
    [
        ("brandmeister", None, DEVICE),
        ("brandmeister", "repeaters", REPEATERS),
        ("brandmeister", "talkgroups", TALKGROUP),
        ("tgif", "talkgroups", TGIF),
        ("hearham", None, HEARHAM),
    ],
)
def test_any_bytes_may_be_served_until_the_document_is_restored(
    own: Sandbox, name: str, which: str | None, path: str
) -> None:
    _, known, whole = get(own, path)
    cut = whole[: len(whole) // 2]
    own.source(name).change("body", document=which, base64=base64.b64encode(cut).decode())
    status, headers, body = get(own, path, if_none_match=known["etag"])
    assert (status, body) == (200, cut)
    assert int(headers["content-length"]) == len(cut)
    assert zipped(own, path)[1] == cut
    assert sum(get(own, other)[2] == cut for other in DOCUMENTS) == 1
    own.source(name).change("restore", document=which)
    assert get(own, path)[2] == whole


def test_restoring_without_a_name_restores_all_and_keeps_changes(own: Sandbox) -> None:
    brandmeister = own.source("brandmeister")
    for which in ("devices", "talkgroups"):
        brandmeister.change("body", document=which, base64="")
    brandmeister.change("insert")
    assert get(own, DEVICE)[2] == get(own, TALKGROUP)[2] == b""
    brandmeister.change("restore")
    assert len(document(own, DEVICE)) == DEVICES + 1
    assert document(own, TALKGROUP)["91"] == "World-wide"


@pytest.mark.parametrize("validators", ["etag", "last-modified", "both"])
def test_what_changed_is_sent_again(own: Sandbox, validators: str) -> None:
    own.configure(validators=validators)

    def again(path: str, known: dict[str, str]) -> int:
        names = {"etag": "if_none_match", "last-modified": "if_modified_since"}
        return get(own, path, **{names[name]: known[name] for name in names if name in known})[0]

    known = {path: get(own, path)[1] for path in DOCUMENTS}
    own.source("brandmeister").change("insert", columns={"id": 999_999})
    assert [again(path, known[path]) for path in DOCUMENTS] == [200, 200, 304, 304, 304]
    own.source("hearham").change("update", id=own.source("hearham").rows("repeater", ["id"])[0][0], columns={"x": 1})
    assert again(HEARHAM, known[HEARHAM]) == 200


@pytest.mark.parametrize(("name", "path", "entity"), ARRAYS)
def test_the_truth_is_told_by_columns(own: Sandbox, name: str, path: str, entity: str) -> None:
    served = document(own, path)
    columns = list(served[0])
    assert own.source(name).rows(entity, columns) == [[record.get(key) for key in columns] for record in served]
    own.source(name).change("body", base64="")
    assert len(own.source(name).rows(entity, ["id"])) == len(served)


def test_the_truth_of_an_object_is_told_too(own: Sandbox) -> None:
    assert dict(own.source("brandmeister").rows("talkgroup", ["id", "name"])) == document(own, TALKGROUP)


@pytest.mark.parametrize(
    ("name", "action", "arguments", "sentence"),
    [
        ("tgif", "paint", {}, "There is no change 'paint'. There are: change"),
        ("tgif", "change", {"share": 2}, "between 0 and 1, not 2"),
        ("tgif", "change", {"colour": 2}, "does not take these arguments"),
        ("tgif", "change", {"document": "devices"}, "tgif has no records of 'devices' to change. It has: talkgroups"),
        ("brandmeister", "insert", {"document": "repeaters"}, "It has: devices, talkgroups"),
        ("brandmeister", "update", {"id": 1, "columns": {}}, "There is no device with the id 1"),
        ("hearham", "delete", {}, "ids or by a share, one of the two"),
        ("hearham", "delete", {"ids": [-1]}, "There is no repeater with the id -1"),
        ("hearham", "body", {"document": "x", "base64": ""}, "hearham has no document 'x'. It has: repeaters"),
        ("hearham", "body", {"base64": "x"}, "needs its bytes in base64"),
        ("hearham", "body", {}, "needs base64"),
        ("hearham", "restore", {"document": "x"}, "hearham has no document 'x'"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_with_a_sentence(
    shared: Sandbox, name: str, action: str, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        shared.source(name).change(action, **arguments)


def test_rows_of_an_unknown_entity_are_refused_with_a_sentence(shared: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"brandmeister has no entity 'repeater'\. It has: device, talkgroup"):
        shared.source("brandmeister").rows("repeater", ["id"])
