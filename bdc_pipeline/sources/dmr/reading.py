"""From a registry's raw record to a row.

A record of the wrong shape (an id that is none, a text for a latitude) raises and is rejected by itself. A value that
has the right type but no meaning (a latitude of 200, a colour code of 99) is NULL, with what was given kept beside it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import functools
import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec
from xxhash import xxh3_64_intdigest

from bdc_pipeline.sources.dmr import registries as r
from bdc_pipeline.sources.dmr import tables as t
from bdc_pipeline.sources.dmr.tables import Location, Repeater, Talkgroup
from bdc_pipeline.warehouse.records import Record
from bdc_pipeline.warehouse.stream import Rows

REPEATER_IDS_BELOW = 1_000_000
"""BrandMeister's repeaters have ids of six digits; longer ones are hotspots and other personal devices."""

BANDS: tuple[tuple[int, int, str], ...] = (
    (28_000_000, 29_700_000, "10m"),
    (50_000_000, 54_000_000, "6m"),
    (70_000_000, 70_500_000, "4m"),
    (144_000_000, 148_000_000, "2m"),
    (219_000_000, 225_000_000, "1.25m"),
    (420_000_000, 450_000_000, "70cm"),
    (902_000_000, 928_000_000, "33cm"),
    (1_240_000_000, 1_300_000_000, "23cm"),
)
"""Amateur bands in Hz, ends included, as wide as they are anywhere (IARU regions 1 to 3)."""

MODES = {
    "DMR": "DMR",
    "D-STAR": "D-STAR",
    "DSTAR": "D-STAR",
    "FUSION": "YSF",
    "C4FM": "YSF",
    "YSF": "YSF",
    "P25": "P25",
    "P-25": "P25",
    "NXDN": "NXDN",
    "FM": "FM",
    "FMN": "FM",
    "NFM": "FM",
    "ANALOG": "FM",
    "M17": "M17",
    "TETRA": "TETRA",
    "ATV": "ATV",
    "AM": "AM",
    "PACKET": "PACKET",
    "DPMR": "DPMR",
}
"""The spellings that were seen, upper case, and what they mean."""

HIGHEST_HZ = 100_000_000_000
"""What is beyond is no frequency of a repeater."""

_MEGAHERTZ = re.compile(r"\d{1,9}(?:\.\d{0,20})?", re.ASCII)
_CALLSIGN = re.compile(r"(?=[A-Z0-9]*[A-Z])(?=[A-Z0-9]*[0-9])[A-Z0-9]{3,10}")
_COLOR_CODE = re.compile(r"CC\s*([0-9]{1,3})", re.IGNORECASE)
_MARKUP = re.compile(
    # comments; scripts and styles with what is in them; tags, whose quoted values may hold '>'; declarations
    r"<!--.*?(?:-->|\Z)"
    r"|<(?P<hidden>script|style)\b[^<>]*>.*?(?:</(?P=hidden)\s*>|\Z)"
    r"""|</?(?P<name>[a-z][^\s<>/]*)(?:[^<>"']++|"[^"]*+"|'[^']*+')*+>"""
    r"|<[a-z/!?][^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
_BREAKS_LINE = frozenset(
    {
        "address",
        "article",
        "blockquote",
        "br",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "footer",
        "form",
        "header",
        "hr",
        "li",
    }
    | {"h1", "h2", "h3", "h4", "h5", "h6", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul"}
)
_DIVIDES = frozenset({"td", "th"})
_NO_WEBSITE = frozenset({"", "http://", "https://", "n/a", "na", "none", "-"})


# -- the records as the registries send them -----------------------------------------------------------------------


class _Device(msgspec.Struct, gc=False):
    id: int
    callsign: str | None = None
    linkname: str | None = None
    hardware: str | None = None
    firmware: str | None = None
    tx: str | int | float | None = None
    rx: str | int | float | None = None
    colorcode: int | str | None = None
    status: int | None = None
    lat: float | None = None
    lng: float | None = None
    city: str | None = None
    pep: int | float | None = None
    agl: int | float | None = None
    lastKnownMaster: int | None = None  # noqa: N815  (BrandMeister's name)
    last_seen: str | None = None
    website: str | None = None
    priorityDescription: str | None = None  # noqa: N815  (BrandMeister's name)
    description: str | None = None


class _TgifTalkgroup(msgspec.Struct, gc=False):
    id: str | int
    name: str | None = None
    website: str | None = None
    description: str | None = None


class _HearhamRepeater(msgspec.Struct, gc=False):
    id: int
    callsign: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    city: str | None = None
    group: str | None = None
    internet_node: str | None = None
    mode: str | None = None
    encode: str | None = None
    decode: str | None = None
    frequency: int | None = None
    offset: int | None = None
    description: str | None = None
    power: str | None = None
    operational: int | None = None
    restriction: str | None = None


class _Id(msgspec.Struct, gc=False):
    id: int | str


_DEVICE = msgspec.json.Decoder(_Device)
_TGIF = msgspec.json.Decoder(_TgifTalkgroup)
_HEARHAM = msgspec.json.Decoder(_HearhamRepeater)
_PAIR = msgspec.json.Decoder(dict[str, str | None])
_ID = msgspec.json.Decoder(_Id)
_ANY_PAIR = msgspec.json.Decoder(dict[str, msgspec.Raw])


# -- rows ----------------------------------------------------------------------------------------------------------

# Rows are made by position, each value with its column behind it: by name it takes 5 us instead of 0.1, which was two
# thirds of the time of reading


def brandmeister_device(record: Record) -> Repeater:
    """BrandMeister's devices: tx is the repeater's output (see `tables.py`), in MHz.

    Raises:
        msgspec.ValidationError: a field has another type than it is documented with.
    """
    device = _DEVICE.decode(record)
    output, of_output = _hertz(device.tx)
    incoming, of_input = _hertz(device.rx)
    lat, lon = _place(device.lat, device.lng)
    city = _text(device.city)
    seen, of_seen = _moment(device.last_seen)
    problem = _problem(tx=of_output, rx=of_input, last_seen=of_seen) if of_output or of_input or of_seen else None
    return Repeater(
        "brandmeister",  # source
        str(device.id),  # external_id
        "brandmeister_devices",  # document
        "repeater" if device.id < REPEATER_IDS_BELOW else "hotspot",  # kind
        _callsign(device.callsign),  # callsign
        device.callsign,  # callsign_raw
        output,  # output_hz
        incoming,  # input_hz
        incoming - output if incoming is not None and output is not None else None,  # offset_hz
        None if device.tx is None else str(device.tx),  # output_raw
        None if device.rx is None else str(device.rx),  # input_raw
        _band(output),  # band
        "DMR",  # mode
        None,  # mode_raw
        _color_code(device.colorcode),  # color_code
        None if device.colorcode is None else str(device.colorcode),  # color_code_raw
        None,  # encode_raw
        None,  # decode_raw
        lat,  # lat
        lon,  # lon
        _location_id(lat, lon, city),  # location_id
        city,  # city_raw
        None,  # operational
        device.status,  # status
        seen,  # last_seen
        _text(device.hardware),  # hardware
        _text(device.firmware),  # firmware
        _text(device.linkname),  # link_name
        device.lastKnownMaster,  # master_id
        device.pep,  # power_watts
        None if device.pep is None else str(device.pep),  # power_raw
        device.agl,  # height_m
        None,  # group_name
        None,  # internet_node
        None,  # restriction
        _website(device.website),  # website
        _text(device.priorityDescription),  # title
        _text(device.description),  # description
        problem,  # problem
    )


def hearham_repeater(record: Record) -> Repeater:
    """hearham's repeaters: the frequency is the output, in Hz, and the offset leads to the input.

    Raises:
        msgspec.ValidationError: a field has another type than it is documented with.
    """
    found = _HEARHAM.decode(record)
    output = _in_range(found.frequency)
    offset = found.offset
    incoming = _in_range(output + offset) if output is not None and offset is not None else None
    of_offset = incoming is None and output is not None and offset is not None
    of_frequency = output is None and bool(found.frequency)
    problem = _problem(frequency=of_frequency, offset=of_offset) if of_frequency or of_offset else None
    lat, lon = _place(found.latitude, found.longitude)
    city = _text(found.city)
    code_raw, code = _tone_as_color_code(found.encode, found.decode)
    return Repeater(
        "hearham",  # source
        str(found.id),  # external_id
        "hearham_repeaters",  # document
        "repeater",  # kind
        _callsign(found.callsign),  # callsign
        found.callsign,  # callsign_raw
        output,  # output_hz
        incoming,  # input_hz
        None if of_offset else offset,  # offset_hz
        None if found.frequency is None else str(found.frequency),  # output_raw
        None if offset is None else str(offset),  # input_raw
        _band(output),  # band
        usual_mode(found.mode),  # mode
        found.mode,  # mode_raw
        code,  # color_code
        code_raw,  # color_code_raw
        _text(found.encode),  # encode_raw
        _text(found.decode),  # decode_raw
        lat,  # lat
        lon,  # lon
        _location_id(lat, lon, city),  # location_id
        city,  # city_raw
        None if found.operational is None else bool(found.operational),  # operational
        None,  # status
        None,  # last_seen
        None,  # hardware
        None,  # firmware
        None,  # link_name
        None,  # master_id
        _watts(found.power),  # power_watts
        _text(found.power),  # power_raw
        None,  # height_m
        _text(found.group),  # group_name
        _text(found.internet_node),  # internet_node
        _text(found.restriction),  # restriction
        None,  # website
        None,  # title
        _text(found.description),  # description
        problem,  # problem
    )


def brandmeister_talkgroup(record: Record) -> Talkgroup:
    """BrandMeister's talkgroups: members of one object, number to name.

    Raises:
        ValueError: the number is none.
    """
    ((number, name),) = _PAIR.decode(record).items()
    return Talkgroup("brandmeister", _number(number), _text(name), None, None, None, "brandmeister_talkgroups")


def tgif_talkgroup(record: Record) -> Talkgroup:
    """TGIF's talkgroups: descriptions are base64 of HTML. One that cannot be decoded costs itself, not its row.

    Raises:
        ValueError: the number is none.
    """
    found = _TGIF.decode(record)
    markup, problem = _decoded(found.description)
    plain = _plain_text(markup)
    return Talkgroup(
        "tgif",
        _number(found.id),
        _text(found.name),
        plain,
        markup if markup != plain else None,
        _website(found.website),
        "tgif_talkgroups",
        problem,
    )


READERS: dict[str, Callable[[Record], msgspec.Struct]] = {
    r.BRANDMEISTER_DEVICES.name: brandmeister_device,
    r.BRANDMEISTER_TALKGROUPS.name: brandmeister_talkgroup,
    r.TGIF_TALKGROUPS.name: tgif_talkgroup,
    r.HEARHAM_REPEATERS.name: hearham_repeater,
}


def key_of(feed: r.Feed, record: Record) -> tuple[int | str, ...]:
    """The key of a record that is otherwise malformed.

    Raises:
        msgspec.DecodeError, ValueError: it cannot be read either.
    """
    if feed is r.BRANDMEISTER_TALKGROUPS:
        (number,) = _ANY_PAIR.decode(record)
        return feed.registry, int(number)
    number_or_text = _ID.decode(record).id
    if feed.holds == "talkgroups":
        return feed.registry, int(number_or_text)
    return feed.registry, str(number_or_text)


def locations_of(rows: Sequence[msgspec.Struct]) -> Iterable[Rows]:
    """The places that repeaters name."""
    return [Rows(t.LOCATIONS, list(_locations(rows)))]


def _locations(rows: Sequence[msgspec.Struct]) -> Iterator[Location]:
    for row in rows:
        if isinstance(row, Repeater) and row.location_id is not None:
            yield Location(row.location_id, row.lat, row.lon, row.city_raw)


# -- values --------------------------------------------------------------------------------------------------------


def _problem(**unreadable: bool) -> str:
    return f"not readable: {', '.join(name for name, is_so in unreadable.items() if is_so)}"


def _number(text: str | int) -> int:
    digits = str(text).strip()
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"'{digits[:40]}' is no number of a talkgroup")
    return int(digits)


def _text(text: str | None) -> str | None:
    return (text.strip() or None) if text else None


@functools.lru_cache(maxsize=4096)
def _hertz(megahertz: str | float | None) -> tuple[int | None, bool]:
    """A frequency in MHz as whole Hz, and whether there was something that is none. Never by floats."""
    text = "" if megahertz is None else str(megahertz).strip()
    if not text:
        return None, False
    # no exponents: `1e900000` is ten characters, and half a minute of arithmetic
    if not _MEGAHERTZ.fullmatch(text):
        return None, True
    hertz = round(Decimal(text) * 1_000_000)
    return _in_range(hertz), hertz != 0 and _in_range(hertz) is None


def _in_range(hertz: int | None) -> int | None:
    """A frequency that there can be; 0 stands for none."""
    return hertz if hertz is not None and 0 < hertz < HIGHEST_HZ else None


@functools.lru_cache(maxsize=4096)
def _band(hertz: int | None) -> str | None:
    if hertz is None:
        return None
    return next((name for low, high, name in BANDS if low <= hertz <= high), None)


@functools.lru_cache(maxsize=1024)
def usual_mode(text: str | None) -> str | None:
    """A mode's usual name; several are given with a slash or a comma."""
    if text is None or not text.strip():
        return None
    parts = [part.strip().upper() for part in re.split(r"[/,;+]", text) if part.strip()]
    return "/".join(dict.fromkeys(MODES.get(part, part) for part in parts)) or None


@functools.lru_cache(maxsize=256)
def _color_code(given: int | str | None) -> int | None:
    digits = "" if given is None else str(given).strip()
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 2 and int(digits) <= 15 else None


def _tone_as_color_code(*tones: str | None) -> tuple[str | None, int | None]:
    """hearham's colour code, which stands where other modes have a tone: as given, and as a number."""
    for tone in tones:
        if tone and (match := _COLOR_CODE.fullmatch(tone.strip())):
            return tone, _color_code(match[1])
    return None, None


def _callsign(text: str | None) -> str | None:
    token = text.split(maxsplit=1)[0].upper() if text and text.strip() else ""
    return token if _CALLSIGN.fullmatch(token) else None


def _place(lat: float | None, lon: float | None) -> tuple[float | None, float | None]:
    if lat is None or lon is None or (lat == 0 and lon == 0) or not (abs(lat) <= 90 and abs(lon) <= 180):
        return None, None
    return lat, lon


def _location_id(lat: float | None, lon: float | None, city: str | None) -> int | None:
    if lat is None and city is None:
        return None
    return xxh3_64_intdigest(f"{lat!r} {lon!r} {city or ''}".encode(errors="surrogatepass")) >> 1


def _moment(text: str | None) -> tuple[str | None, bool]:
    """BrandMeister's `2026-06-26 16:58:18` as it is stored, and whether there was something that is none."""
    if not text or not text.strip():
        return None, False
    try:
        found = dt.datetime.fromisoformat(text.strip())
        if found.tzinfo is not None:
            found = found.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None, True
    return found.isoformat(timespec="seconds") + "Z", False


@functools.lru_cache(maxsize=4096)
def _watts(text: str | None) -> float | None:
    """`50 W` and `50` as a number."""
    match = re.fullmatch(r"\s*(\d{1,6}(?:\.\d+)?)\s*(?:w|watts?)?\s*", text or "", re.IGNORECASE)
    return float(match[1]) if match else None


def _website(text: str | None) -> str | None:
    cleaned = (text or "").strip()
    return None if cleaned.lower() in _NO_WEBSITE else cleaned


def _decoded(text: str | None) -> tuple[str | None, str | None]:
    """A description out of its base64, and what was wrong with it. What is not UTF-8 in it is replaced."""
    if not text or not text.strip():
        return None, None
    try:
        # some encoders break their lines
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None, "not readable: description is not base64"
    try:
        return data.decode() or None, None
    except UnicodeDecodeError:
        return data.decode(errors="replace"), "description is not UTF-8 throughout"


def _plain_text(markup: str | None) -> str | None:
    """The text of pasted HTML, however broken it is: in time that grows with its length alone.

    The standard library's parser takes half a minute for 70,000 characters of `<a <a <a`, and raises on `<![x`.
    """
    if not markup:
        return None
    text = _MARKUP.sub(_in_place_of, markup) if "<" in markup else markup
    text = html.unescape(text) if "&" in text else text
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line) or None


def _in_place_of(markup: re.Match[str]) -> str:
    """What a tag or a comment leaves in the text."""
    name = (markup["name"] or "").lower()
    if name in _BREAKS_LINE:
        return "\n"
    return " " if name in _DIVIDES else ""
