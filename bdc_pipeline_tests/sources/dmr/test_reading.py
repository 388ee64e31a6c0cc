"""From raw records to rows: each rule, and what a registry may send instead."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.dmr import reading
from bdc_pipeline.sources.dmr import registries as r
from bdc_pipeline.sources.dmr.tables import Location, Repeater, Talkgroup
from bdc_pipeline.warehouse.documents import UNREADABLE
from bdc_pipeline_tests.sources.dmr.syncing import words

DEVICE = {
    "id": 235226, "callsign": "GB7HH", "linkname": "MMDVM Host", "hardware": "MMDVM", "firmware": "20240210_PS4",
    "tx": "439.7500", "rx": "430.7500", "colorcode": 3, "status": 3, "lastKnownMaster": 2341, "lat": 51.565,
    "lng": 0.1843, "city": "Romford", "website": "http://qrz.com/db/gb7hh",
    "priorityDescription": "GB7HH Romford, UK", "description": "Covers East London, West Essex and North Kent",
    "last_seen": "2026-06-26 16:58:18", "statusText": "Both Slots Linked", "pep": 25, "agl": 30,
}  # fmt: skip

REPEATER = {
    "id": 2, "callsign": "W9TST", "latitude": 42.3, "longitude": -89.0, "city": "Rockford, Illinois", "group": "DMR",
    "internet_node": "", "mode": "DMR    ", "encode": "CC4", "decode": "", "frequency": 444000000, "offset": 5000000,
    "description": "", "power": "", "operational": 1, "restriction": "",
}  # fmt: skip


def device(**values: Any) -> Repeater:
    return reading.brandmeister_device(json.dumps({"id": 235226, **values}).encode())


def repeater(**values: Any) -> Repeater:
    return reading.hearham_repeater(json.dumps({"id": 2, **values}).encode())


def talkgroup(**values: Any) -> Talkgroup:
    return reading.tgif_talkgroup(json.dumps({"id": "101", **values}).encode())


def wrapped(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


# -- whole records ---------------------------------------------------------------------------------------------


def test_brandmeisters_example_becomes_a_row() -> None:
    row = device(**DEVICE)
    assert row == Repeater(
        source="brandmeister", external_id="235226", document="brandmeister_devices", kind="repeater",
        callsign="GB7HH", callsign_raw="GB7HH", output_hz=439_750_000, input_hz=430_750_000, offset_hz=-9_000_000,
        output_raw="439.7500", input_raw="430.7500", band="70cm", mode="DMR", mode_raw=None, color_code=3,
        color_code_raw="3", encode_raw=None, decode_raw=None, lat=51.565, lon=0.1843, location_id=row.location_id,
        city_raw="Romford", operational=None, status=3, last_seen="2026-06-26T16:58:18Z", hardware="MMDVM",
        firmware="20240210_PS4", link_name="MMDVM Host", master_id=2341, power_watts=25, power_raw="25", height_m=30,
        group_name=None, internet_node=None, restriction=None, website="http://qrz.com/db/gb7hh",
        title="GB7HH Romford, UK", description="Covers East London, West Essex and North Kent", problem=None,
    )  # fmt: skip


def test_hearhams_example_becomes_a_row() -> None:
    row = repeater(**REPEATER)
    assert row == Repeater(
        source="hearham", external_id="2", document="hearham_repeaters", kind="repeater", callsign="W9TST",
        callsign_raw="W9TST", output_hz=444_000_000, input_hz=449_000_000, offset_hz=5_000_000,
        output_raw="444000000", input_raw="5000000", band="70cm", mode="DMR", mode_raw="DMR    ", color_code=4,
        color_code_raw="CC4", encode_raw="CC4", decode_raw=None, lat=42.3, lon=-89.0, location_id=row.location_id,
        city_raw="Rockford, Illinois", operational=True, status=None, last_seen=None, hardware=None, firmware=None,
        link_name=None, master_id=None, power_watts=None, power_raw=None, height_m=None, group_name="DMR",
        internet_node=None, restriction=None, website=None, title=None, description=None, problem=None,
    )  # fmt: skip


def test_every_column_of_hearham_comes_from_its_own_key() -> None:
    texts = ("group", "internet_node", "restriction", "description", "encode", "decode", "city", "callsign", "mode")
    row = repeater(**{name: f"{name} 1" for name in texts}, power="50 W", operational=0)
    assert (row.group_name, row.internet_node, row.restriction) == ("group 1", "internet_node 1", "restriction 1")
    assert (row.description, row.encode_raw, row.decode_raw) == ("description 1", "encode 1", "decode 1")
    assert (row.city_raw, row.callsign_raw, row.mode_raw) == ("city 1", "callsign 1", "mode 1")
    assert (row.power_watts, row.power_raw, row.operational) == (50.0, "50 W", False)


def test_brandmeisters_talkgroup_is_a_member_of_an_object() -> None:
    assert reading.brandmeister_talkgroup(b'{"91": " World-wide "}') == Talkgroup(
        "brandmeister", 91, "World-wide", None, None, None, "brandmeister_talkgroups"
    )


def test_tgifs_example_becomes_a_row() -> None:
    assert talkgroup(description="Rm9yIGV2ZXJ5b25l", name="Tac-101", website="https:// ") == Talkgroup(
        "tgif", 101, "Tac-101", "For everyone", None, None, "tgif_talkgroups"
    )


@pytest.mark.parametrize("read", [device, repeater, talkgroup])
def test_a_record_with_nothing_but_an_id_is_a_row(read: Any) -> None:
    row = read()
    assert row.problem is None
    assert {value for name, value in msgspec.structs.asdict(row).items() if name.endswith("_hz")} <= {None}


# -- frequencies -----------------------------------------------------------------------------------------------


@given(st.integers(1, 99_999_9999))
def test_every_frequency_with_four_decimals_is_exact(steps: int) -> None:
    whole, part = divmod(steps, 10_000)
    assert device(tx=f"{whole}.{part:04d}").output_hz == steps * 100


@given(st.integers(1, 999_999_999_999 // 10))
def test_what_is_given_and_what_is_kept_can_be_made_of_one_another(hertz: int) -> None:
    row = device(tx=str(Decimal(hertz) / 1_000_000))
    if hertz < reading.HIGHEST_HZ:
        assert row.output_hz == hertz
        assert Decimal(row.output_raw or "") * 1_000_000 == hertz
    else:
        assert (row.output_hz, row.problem) == (None, "not readable: tx")


@pytest.mark.parametrize(
    ("given_", "hertz", "is_problem"),
    [
        ("439.7500", 439_750_000, False),
        (" 439.75 ", 439_750_000, False),
        ("439", 439_000_000, False),
        ("439.", 439_000_000, False),
        (439.75, 439_750_000, False),
        (439, 439_000_000, False),
        ("439.1234567", 439_123_457, False),
        ("0.0000", None, False),
        ("0", None, False),
        (0, None, False),
        ("", None, False),
        (" ", None, False),
        (None, None, False),
        ("99999.999999", 99_999_999_999, False),
        ("100000", None, True),
        ("-439.75", None, True),
        ("439,75", None, True),
        ("439.75 MHz", None, True),
        ("4_39.75", None, True),
        ("\u0664\u0663\u0669", None, True),
        ("NaN", None, True),
        ("Infinity", None, True),
        ("n/a", None, True),
        (1e22, None, True),
        # ten characters that are half a minute of arithmetic, and ten that are more than decimals can hold
        ("1e900000", None, True),
        ("1e999999", None, True),
        ("9" * 5000, None, True),
    ],
)
def test_megahertz(given_: Any, hertz: int | None, is_problem: bool) -> None:
    began = time.process_time()
    row = device(tx=given_, rx="430.0")
    assert row.output_hz == hertz
    assert row.problem == ("not readable: tx" if is_problem else None)
    assert row.output_raw == (None if given_ is None else str(given_))
    assert row.offset_hz == (None if hertz is None else 430_000_000 - hertz)
    assert time.process_time() - began < 1


def test_both_sides_may_be_unreadable() -> None:
    assert device(tx="a", rx="b", last_seen="c").problem == "not readable: tx, rx, last_seen"
    assert device(tx="439", rx="b").problem == "not readable: rx"


@pytest.mark.parametrize(
    ("frequency", "offset", "expected", "problem"),
    [
        (146_940_000, -600_000, (146_940_000, 146_340_000, -600_000), None),
        (146_940_000, 0, (146_940_000, 146_940_000, 0), None),
        (146_940_000, None, (146_940_000, None, None), None),
        (0, 600_000, (None, None, 600_000), None),
        (None, None, (None, None, None), None),
        (-5, 0, (None, None, 0), "not readable: frequency"),
        (100_000_000_000, 0, (None, None, 0), "not readable: frequency"),
        (146_940_000, -200_000_000, (146_940_000, None, None), "not readable: offset"),
        (146_940_000, 10**30, (146_940_000, None, None), "not readable: offset"),
    ],
)
def test_hearhams_offset_leads_from_the_output_to_the_input(
    frequency: int | None, offset: int | None, expected: tuple[int | None, ...], problem: str | None
) -> None:
    row = repeater(frequency=frequency, offset=offset)
    assert (row.output_hz, row.input_hz, row.offset_hz) == expected
    assert row.problem == problem
    assert row.output_raw == (None if frequency is None else str(frequency))
    assert row.input_raw == (None if offset is None else str(offset))


@pytest.mark.parametrize(("low", "high", "name"), reading.BANDS)
def test_the_edges_of_a_band_belong_to_it(low: int, high: int, name: str) -> None:
    found = [repeater(frequency=hertz).band for hertz in (low - 1, low, high, high + 1)]
    assert found == [None, name, name, None]


# -- modes, codes, call signs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "mode"),
    [
        ("DMR    ", "DMR"),
        ("dmr", "DMR"),
        ("D-STAR", "D-STAR"),
        ("D-star", "D-STAR"),
        ("DSTAR", "D-STAR"),
        ("YSF/FM", "YSF/FM"),
        ("Fusion / NFM", "YSF/FM"),
        ("FM/NFM", "FM"),
        ("C4FM, DMR;P25", "YSF/DMR/P25"),
        ("NFM", "FM"),
        ("Other", "OTHER"),
        ("", None),
        ("   ", None),
        ("/", None),
        (None, None),
    ],
)
def test_modes_have_one_name_each_and_are_kept_as_given(given_: str | None, mode: str | None) -> None:
    row = repeater(mode=given_)
    assert (row.mode, row.mode_raw) == (mode, given_)


@pytest.mark.parametrize(
    ("encode", "decode", "code", "raw"),
    [
        ("CC4", "", 4, "CC4"),
        ("cc 04 ", "", 4, "cc 04 "),
        ("CC0", "", 0, "CC0"),
        ("CC15", "", 15, "CC15"),
        ("CC16", "", None, "CC16"),
        ("CC293", "", None, "CC293"),
        ("", "CC7", 7, "CC7"),
        ("100.0", "CC7", 7, "CC7"),
        ("100.0", "100.0", None, None),
        ("CCx", "", None, None),
        ("CC\u0664", "", None, None),
        (None, None, None, None),
    ],
)
def test_hearhams_colour_code_stands_where_others_have_a_tone(
    encode: str | None, decode: str | None, code: int | None, raw: str | None
) -> None:
    row = repeater(encode=encode, decode=decode)
    assert (row.color_code, row.color_code_raw) == (code, raw)
    assert row.encode_raw == ((encode or "").strip() or None)


@pytest.mark.parametrize(
    ("given_", "code"),
    [
        (0, 0),
        (15, 15),
        (16, None),
        (-1, None),
        (293, None),
        ("7", 7),
        (" 7 ", 7),
        ("x", None),
        ("", None),
        (None, None),
    ],
)
def test_brandmeisters_colour_code_is_from_0_to_15(given_: Any, code: int | None) -> None:
    row = device(colorcode=given_)
    assert (row.color_code, row.color_code_raw) == (code, None if given_ is None else str(given_))


@pytest.mark.parametrize(
    ("given_", "callsign"),
    [
        ("GB7HH", "GB7HH"),
        ("gb7hh", "GB7HH"),
        (" K0ABC SITE X", "K0ABC"),
        ("K0ABC\tnorth", "K0ABC"),
        ("2E0XYZ", "2E0XYZ"),
        ("9A1A", "9A1A"),
        ("REPEATER", None),
        ("12345", None),
        ("K0", None),
        ("ABCDEFGHIJ1", None),
        ("K0ABC/P", None),
        ("", None),
        ("  ", None),
        (None, None),
        ("\u00dc1AB", None),
    ],
)
def test_a_call_sign_is_the_first_word_if_it_looks_like_one(given_: str | None, callsign: str | None) -> None:
    row = device(callsign=given_)
    assert (row.callsign, row.callsign_raw) == (callsign, given_)


@pytest.mark.parametrize(
    ("number", "kind"), [(1, "repeater"), (999_999, "repeater"), (1_000_000, "hotspot"), (310_012_301, "hotspot")]
)
def test_ids_of_seven_digits_are_hotspots(number: int, kind: str) -> None:
    row = device(id=number)
    assert (row.kind, row.external_id) == (kind, str(number))


# -- places, times, watts, addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lat", "lon", "is_place"),
    [
        (51.5, 0.1, True),
        (0, 5, True),
        (5, 0, True),
        (-90, 180, True),
        (90, -180, True),
        (0, 0, False),
        (0.0, -0.0, False),
        (None, 5, False),
        (5, None, False),
        (None, None, False),
        (90.0001, 5, False),
        (-91, 5, False),
        (5, 180.5, False),
        (5, -500, False),
        (1e300, 5, False),
    ],
)
def test_coordinates_are_a_place_on_earth_or_null(lat: float | None, lon: float | None, is_place: bool) -> None:
    for row in (device(lat=lat, lng=lon), repeater(latitude=lat, longitude=lon)):
        assert (row.lat, row.lon) == ((lat, lon) if is_place else (None, None))
        assert (row.location_id is not None) == is_place
        assert row.problem is None


def test_one_place_has_one_id_and_another_another() -> None:
    here = device(lat=51.5, lng=0.1, city="Romford")
    assert here.location_id == repeater(latitude=51.5, longitude=0.1, city=" Romford ").location_id
    others = [device(lat=51.5, lng=0.1), device(lat=51.6, lng=0.1, city="Romford"), device(city="Romford")]
    assert len({here.location_id, *(row.location_id for row in others)}) == 4
    [event] = reading.locations_of([here, *others, device(), talkgroup()])
    assert len(event.rows) == 4
    assert event.rows[0] == Location(here.location_id or 0, 51.5, 0.1, "Romford")


@pytest.mark.parametrize(
    ("given_", "moment", "is_problem"),
    [
        ("2026-06-26 16:58:18", "2026-06-26T16:58:18Z", False),
        ("2026-06-26T16:58:18.750", "2026-06-26T16:58:18Z", False),
        ("2026-06-26 16:58:18+02:00", "2026-06-26T14:58:18Z", False),
        ("2026-06-26", "2026-06-26T00:00:00Z", False),
        ("0000-00-00 00:00:00", None, True),
        ("0001-01-01 00:00:00+14:00", None, True),
        ("yesterday", None, True),
        ("", None, False),
        (" ", None, False),
        (None, None, False),
    ],
)
def test_last_seen_is_taken_as_utc(given_: str | None, moment: str | None, is_problem: bool) -> None:
    row = device(last_seen=given_)
    assert (row.last_seen, row.problem) == (moment, "not readable: last_seen" if is_problem else None)


@pytest.mark.parametrize(
    ("power", "watts"),
    [("50 W", 50.0), ("50", 50.0), ("2.5w", 2.5), ("10 Watts", 10.0), ("unknown", None), ("", None), ("50 kW", None)],
)
def test_power_is_a_number_where_it_is_one(power: str, watts: float | None) -> None:
    row = repeater(power=power)
    assert (row.power_watts, row.power_raw) == (watts, power or None)


@pytest.mark.parametrize(
    ("given_", "website"),
    [
        (" ", None),
        ("", None),
        ("https://", None),
        ("https:// ", None),
        ("HTTP://", None),
        ("N/A", None),
        ("none", None),
        (None, None),
        (" https://example.com ", "https://example.com"),
        ("example.com", "example.com"),
    ],
)
def test_placeholders_are_no_website(given_: str | None, website: str | None) -> None:
    assert talkgroup(website=given_).website == website
    assert device(website=given_).website == website


# -- descriptions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "plain"),
    [
        ("For everyone", "For everyone"),
        ("a &amp; b&nbsp;c", "a & b c"),
        ("<p>Hello</p><p>world</p>", "Hello\nworld"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("Hello<p>x</p>world", "Hello\nx\nworld"),
        ("<td>a</td><td>b</td>", "a b"),
        ("<b>bo</b>ld", "bold"),
        ("<ul><li>a<li>b</ul>c", "a\nb\nc"),
        ('<a title="1 > 0" href="x">link</a>', "link"),
        ("a<!-- <b>hidden</b> -->b", "ab"),
        ("a<script>if (1 < 2) {}</script>b<STYLE>p {}</STYLE>c", "abc"),
        ("a<script>never closed", "a"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("I <3 radio", "I <3 radio"),
        ("&lt;b&gt; is bold", "<b> is bold"),
        ("<![if !supportLists]>hi<![endif]>", "hi"),
        ("<![foo[x]]>hi", "hi"),
        ("<!DOCTYPE html><html>hi</html>", "hi"),
        ("<?xml version='1.0'?>hi", "hi"),
        ("unfinished <a href=", "unfinished <a href="),
        ("<br><br>", None),
        ("  \n ", None),
    ],
)
def test_descriptions_are_kept_decoded_and_as_plain_text(markup: str, plain: str | None) -> None:
    row = talkgroup(description=wrapped(markup))
    assert row.description == plain
    assert row.description_html == (None if markup == plain else markup)
    assert row.problem is None


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<a ",
        "<a b",
        "<a b=",
        "<a href='",
        '<a "',
        "<!--",
        "<![",
        "<!",
        "</a ",
        "<script ",
        "<p>",
        "&#",
        "<?",
        "<a>'",
    ],
)
def test_broken_markup_of_any_length_is_read_in_no_time(piece: str) -> None:
    long = piece * (60_000 // len(piece))
    began = time.process_time()
    talkgroup(description=wrapped(long))
    assert time.process_time() - began < 1


@given(st.text(st.sampled_from("ab <>&;/!-'\"=\n[]?#x1"), max_size=60))
def test_no_markup_whatever_raises(markup: str) -> None:
    row = talkgroup(description=wrapped(markup))
    assert row.problem is None
    assert (row.description_html or row.description or "") == markup or not markup


@given(
    st.lists(
        st.tuples(st.sampled_from(["p", "b", "div", "span", "li"]), st.text(st.sampled_from("abc &"), max_size=8)),
        max_size=6,
    )
)
def test_the_words_of_well_formed_html_are_those_that_a_parser_finds(parts: list[tuple[str, str]]) -> None:
    markup = " ".join(f'<{tag} class="x">{html.escape(text)}</{tag}>' for tag, text in parts)
    assert (talkgroup(description=wrapped(markup)).description or "").split() == words(markup)


def test_a_very_long_description_is_kept_whole() -> None:
    text = "<div>Pasted &amp; never cleaned</div>\n" * 1500
    row = talkgroup(description=wrapped(text))
    assert row.description_html == text
    assert row.description == "\n".join(["Pasted & never cleaned"] * 1500)


@pytest.mark.parametrize(
    "broken", ["Open talkgroup, all welcome!", "SGVsbG8", "====", "\u00e4\u00f6\u00fc=", "SGVs*G8="]
)
def test_what_is_not_base64_costs_the_description_alone(broken: str) -> None:
    row = talkgroup(description=broken, name="Tac")
    assert (row.description, row.description_html, row.name) == (None, None, "Tac")
    assert row.problem == "not readable: description is not base64"


def test_base64_in_lines_is_base64() -> None:
    assert talkgroup(description=" SGVsbG8g\r\nd29ybGQ=\n").description == "Hello world"


@pytest.mark.parametrize("nothing", ["", " ", None])
def test_no_description_is_no_problem(nothing: str | None) -> None:
    row = talkgroup(description=nothing)
    assert (row.description, row.problem) == (None, None)


def test_what_is_not_utf8_is_replaced_and_told() -> None:
    row = talkgroup(description=wrapped(b"Caf\xe9 net"))
    assert (row.description, row.problem) == ("Caf\ufffd net", "description is not UTF-8 throughout")


def test_a_replacement_character_that_was_sent_is_no_problem() -> None:
    row = talkgroup(description=wrapped("Caf\ufffd net"))
    assert (row.description, row.problem) == ("Caf\ufffd net", None)


# -- ids and wrong types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "number"), [("101", 101), (101, 101), (" 0101 ", 101), ("0", 0), ("9999999", 9999999)]
)
def test_numbers_of_talkgroups(given_: Any, number: int) -> None:
    assert talkgroup(id=given_).talkgroup_id == number


@pytest.mark.parametrize("given_", ["", " ", "abc", "-5", "1.0", "1_000", "\u0663", "1e3", "9" * 5000])
def test_what_is_no_number_of_a_talkgroup_raises(given_: str) -> None:
    with pytest.raises(UNREADABLE):
        talkgroup(id=given_)
    with pytest.raises(UNREADABLE):
        reading.brandmeister_talkgroup(json.dumps({given_: "name"}).encode())


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (device, {"id": "235226"}),
        (device, {"id": None}),
        (device, {"id": 1.5}),
        (device, {"lat": "51.5"}),
        (device, {"lng": []}),
        (device, {"tx": {}}),
        (device, {"status": "3"}),
        (device, {"callsign": 5}),
        (device, {"pep": "25"}),
        (device, {"last_seen": 5}),
        (repeater, {"id": "2"}),
        (repeater, {"latitude": "42"}),
        (repeater, {"frequency": "146940000"}),
        (repeater, {"frequency": 146.94}),
        (repeater, {"offset": "+5"}),
        (repeater, {"operational": "yes"}),
        (repeater, {"mode": 5}),
        (talkgroup, {"id": None}),
        (talkgroup, {"id": 1.5}),
        (talkgroup, {"id": []}),
        (talkgroup, {"name": 5}),
        (talkgroup, {"description": {}}),
    ],
)
def test_a_value_of_another_type_raises(read: Any, values: dict[str, Any]) -> None:
    with pytest.raises(UNREADABLE):
        read(**values)


@pytest.mark.parametrize("reader", reading.READERS.values(), ids=list(reading.READERS))
@pytest.mark.parametrize(
    "record",
    [
        b"null", b"1", b'"text"', b"[]", b"{}", b"", b'{"id"', b'{"id": NaN}', b'{"id": 1, "lat": NaN, "latitude": NaN}',
        b'{"id": \xff}', b'{"id": "\xff"}', b'{"message": "Too many requests, slow down."}', b'{"id": 1e999}',
        b"[" * 5000, b'{"91": 5, "92": 6}',
    ],
)  # fmt: skip
def test_what_is_no_record_raises_what_is_caught(reader: Any, record: bytes) -> None:
    with pytest.raises(UNREADABLE):
        reader(record)


@pytest.mark.parametrize("reader", reading.READERS.values(), ids=list(reading.READERS))
@given(
    record=st.dictionaries(
        st.sampled_from([*DEVICE, *REPEATER, "name", "91"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=12)
        | st.lists(st.integers(), max_size=2),
        max_size=6,
    )
)
def test_no_record_whatever_raises_anything_else(reader: Any, record: dict[str, Any]) -> None:
    with contextlib.suppress(UNREADABLE):
        reader(json.dumps(record).encode())


@pytest.mark.parametrize(
    ("feed", "record", "key"),
    [
        (r.BRANDMEISTER_DEVICES, b'{"id": 5, "lat": "x"}', ("brandmeister", "5")),
        (r.BRANDMEISTER_DEVICES, b'{"id": "5"}', ("brandmeister", "5")),
        (r.HEARHAM_REPEATERS, b'{"id": 7, "frequency": "x"}', ("hearham", "7")),
        (r.TGIF_TALKGROUPS, b'{"id": "12", "name": 5}', ("tgif", 12)),
        (r.BRANDMEISTER_TALKGROUPS, b'{"91": 5}', ("brandmeister", 91)),
    ],
)
def test_the_key_of_a_malformed_record_is_read_as_it_would_be_stored(
    feed: r.Feed, record: bytes, key: tuple[Any, ...]
) -> None:
    assert reading.key_of(feed, record) == key


@pytest.mark.parametrize("feed", r.FEEDS, ids=lambda feed: feed.name)
@pytest.mark.parametrize("record", [b"{}", b'{"id": null}', b"null", b'{"id": []}', b"\xff"])
def test_a_record_without_a_readable_key_raises_what_is_caught(feed: r.Feed, record: bytes) -> None:
    with pytest.raises(UNREADABLE):
        reading.key_of(feed, record)
