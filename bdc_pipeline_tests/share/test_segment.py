"""Segments, snapshots and packs as files: whole and true, or refused with a sentence."""

import hashlib
import os

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.share import packs, segment
from bdc_pipeline.share.model import Change, Position, Stamp
from bdc_pipeline.share.sealing import Key
from bdc_pipeline.share.segment import TooNew, Torn, WrongSecret, decode, digest, encode
from bdc_pipeline.share.snapshots import read_snapshot, write_snapshot
from bdc_pipeline_tests.share.chains import segment_after

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(32))

values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.binary(),
)


def with_body(content: bytes, **header: int) -> bytes:
    """A file whose hash is right, whatever is in it."""
    body = zstandard.compress(content)
    rest = segment.HEADER.pack(header.get("flags", 0), header.get("sequence", 1), len(body), bytes(12)) + body
    return segment.START.pack(segment.MAGIC, header.get("format", 1), digest(rest)) + rest


@given(st.lists(st.tuples(values, values), max_size=5), st.sampled_from([None, KEY]))
def test_every_value_of_sqlite_comes_back_as_it_was(rows, key):
    one = segment_after(Position())
    changes = tuple(Change("t", row, 0, row, None, Stamp()) for row in rows)
    one = msgspec.structs.replace(one, changes=changes)
    assert decode(encode(one, key), key) == one


@given(st.data(), st.sampled_from([None, KEY]))
def test_no_change_of_a_single_byte_goes_unnoticed(data, key):
    whole = bytearray(encode(segment_after(Position(), rows=3), key))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Torn, TooNew, WrongSecret)):
        decode(bytes(whole), key)


@given(st.integers(0, 10_000))
def test_a_file_cut_short_is_torn(size):
    whole = encode(segment_after(Position(), rows=20))
    with pytest.raises(Torn, match=r"cut short|damaged"):
        decode(whole[: min(size, len(whole) - 1)])


@given(st.binary(max_size=300))
def test_what_is_no_segment_is_torn(content):
    with pytest.raises(Torn):
        decode(content)
    with pytest.raises(Torn):
        decode(with_body(content))


def test_a_later_format_asks_for_an_update():
    with pytest.raises(TooNew, match="Update"):
        decode(with_body(b"", format=2))
    with pytest.raises(TooNew, match="Update"):
        decode(with_body(b"", flags=4))


def test_the_wrong_secret_or_none_is_told():
    sealed = encode(segment_after(Position()), KEY)
    with pytest.raises(WrongSecret, match="another secret"):
        decode(sealed, OTHER)
    with pytest.raises(WrongSecret, match="Set the secret"):
        decode(sealed)
    with pytest.raises(WrongSecret, match="not encrypted"):
        decode(encode(segment_after(Position())), KEY)


def test_a_sealed_segment_shows_nothing_and_a_key_neither():
    sealed = encode(segment_after(Position(), client="somebody", name="secret name"), KEY)
    assert b"secret" not in sealed
    assert b"somebody" not in sealed
    assert KEY.raw.hex() not in repr(KEY)
    assert str(KEY.raw) not in repr(KEY)


def test_a_bomb_is_not_decompressed(monkeypatch):
    monkeypatch.setattr(segment, "LARGEST", 1 << 20)
    with pytest.raises(Torn, match="claims"):
        decode(with_body(bytes(2 << 20)))


def test_rows_without_the_columns_they_name_are_refused():
    one = segment_after(Position())
    short = msgspec.structs.replace(one, changes=(msgspec.structs.replace(one.changes[0], row=(1,)),))
    with pytest.raises(Torn, match="columns"):
        decode(encode(short))
    with pytest.raises(Torn, match="contradicts"):
        decode(with_body(msgspec.msgpack.encode(one), sequence=7))


def test_five_hundred_rows_are_a_few_kilobytes():
    assert len(encode(segment_after(Position(), rows=500))) < 6_000


@pytest.mark.parametrize("size", [0, 100, (1 << 20) * 2, (1 << 20) * 2 + 1])
@pytest.mark.parametrize("key", [None, KEY])
def test_a_snapshot_comes_back_with_its_place_in_the_log(tmp_path, size, key):
    database = tmp_path / "a.db"
    database.write_bytes(os.urandom(size))
    position = Position(300, hashlib.sha256(b"x").digest())
    write_snapshot(database, tmp_path / "a.snap", position, key)
    assert read_snapshot(tmp_path / "a.snap", tmp_path / "b.db", key) == position
    assert (tmp_path / "b.db").read_bytes() == database.read_bytes()


def changed(content: bytes, place: int) -> bytes:
    """The same but for one byte, whichever it was."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_damaged_snapshot_leaves_nothing(tmp_path, key):
    (tmp_path / "a.db").write_bytes(os.urandom(5000))
    write_snapshot(tmp_path / "a.db", tmp_path / "a.snap", Position(), key)
    whole = (tmp_path / "a.snap").read_bytes()
    for content in (whole[:-1], whole[:20], b"", changed(whole, 100)):
        (tmp_path / "a.snap").write_bytes(content)
        with pytest.raises(Torn):
            read_snapshot(tmp_path / "a.snap", tmp_path / "b.db", key)
        assert not (tmp_path / "b.db").exists()


def test_chunks_of_a_sealed_snapshot_keep_their_order(tmp_path):
    """Whoever can write to the share can make any hash fit; the chunks are bound to their places all the same."""
    sealed = list(KEY.sealed_chunks(iter([b"a" * 100, b"b" * 100, b"c" * 100]), b"header"))
    for changed in ([sealed[0], sealed[2], sealed[1], sealed[3]], [sealed[0], sealed[1], sealed[3]]):
        (tmp_path / "f").write_bytes(b"".join(changed))
        with (tmp_path / "f").open("rb") as file, pytest.raises(WrongSecret):
            list(KEY.opened_chunks(file, b"header"))
    (tmp_path / "f").write_bytes(b"".join(sealed[:-1]))
    with (tmp_path / "f").open("rb") as file, pytest.raises(EOFError):
        list(KEY.opened_chunks(file, b"header"))


def test_a_pack_holds_its_segments_byte_for_byte():
    files = [os.urandom(number) for number in range(32)]
    packed = packs.pack(33, files)
    assert packs.unpack(packed) == dict(enumerate(files, 33))
    assert packs.pack_path(33) == packs.pack_path(64) == "pack/0000000033-0000000064.seg"
    for damaged in (packed[:-1], b"", changed(packed, 60)):
        with pytest.raises(Torn):
            packs.unpack(damaged)
