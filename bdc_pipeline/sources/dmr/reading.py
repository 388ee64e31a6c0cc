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
from decimal import Decimal, InvalidOperation
from html.parser import HTMLParser

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

_CALLSIGN = re.compile(r"[A-Z0-9]{0,2}[A-Z][A-Z0-9]*[0-9][A-Z0-9]*|[A-Z0-9]*[0-9][A-Z0-9]*[A-Z][A-Z0-9]*")
_COLOR_CODE = re.compile(r"CC\s*(\d{1,2})", re.IGNORECASE)
_NO_WEBSITE = frozenset({"", "http://", "https://", "n/a", "na", "none", "-"})


# -- the records as the registries send them -----------------------------------------------------------------------


class _Device(msgspec.Struct):
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


class _TgifTalkgroup(msgspec.Struct):
    id: str | int
    name: str | None = None
    website: str | None = None
    description: str | None = None


class _HearhamRepeater(msgspec.Struct):
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


class _Id(msgspec.Struct):
    id: int | str


_DEVICE = msgspec.json.Decoder(_Device)
_TGIF = msgspec.json.Decoder(_TgifTalkgroup)
_HEARHAM = msgspec.json.Decoder(_HearhamRepeater)
_PAIR = msgspec.json.Decoder(dict[str, str | None])
_ID = msgspec.json.Decoder(_Id)
_ANY_PAIR = msgspec.json.Decoder(dict[str, msgspec.Raw])


# -- rows ----------------------------------------------------------------------------------------------------------


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
        source="brandmeister",
        external_id=str(device.id),
        document="brandmeister_devices",
        kind="repeater" if device.id < REPEATER_IDS_BELOW else "hotspot",
        callsign=_callsign(device.callsign),
        callsign_raw=device.callsign,
        output_hz=output,
        input_hz=incoming,
        offset_hz=incoming - output if incoming is not None and output is not None else None,
        output_raw=None if device.tx is None else str(device.tx),
        input_raw=None if device.rx is None else str(device.rx),
        band=_band(output),
        mode="DMR",
        mode_raw=None,
        color_code=_color_code(device.colorcode),
        color_code_raw=None if device.colorcode is None else str(device.colorcode),
        encode_raw=None,
        decode_raw=None,
        lat=lat,
        lon=lon,
        location_id=_location_id(lat, lon, city),
        city_raw=city,
        operational=None,
        status=device.status,
        last_seen=seen,
        hardware=_text(device.hardware),
        firmware=_text(device.firmware),
        link_name=_text(device.linkname),
        master_id=device.lastKnownMaster,
        power_watts=device.pep,
        power_raw=None if device.pep is None else str(device.pep),
        height_m=device.agl,
        group_name=None,
        internet_node=None,
        restriction=None,
        website=_website(device.website),
        title=_text(device.priorityDescription),
        description=_text(device.description),
        problem=problem,
    )


def hearham_repeater(record: Record) -> Repeater:
    """hearham's repeaters: the frequency is the output, in Hz, and the offset leads to the input.

    Raises:
        msgspec.ValidationError: a field has another type than it is documented with.
    """
    found = _HEARHAM.decode(record)
    output = found.frequency or None
    lat, lon = _place(found.latitude, found.longitude)
    city = _text(found.city)
    code = _COLOR_CODE.fullmatch((found.encode or "").strip())
    return Repeater(
        source="hearham",
        external_id=str(found.id),
        document="hearham_repeaters",
        kind="repeater",
        callsign=_callsign(found.callsign),
        callsign_raw=found.callsign,
        output_hz=output,
        input_hz=output + found.offset if output is not None and found.offset is not None else None,
        offset_hz=found.offset,
        output_raw=None if found.frequency is None else str(found.frequency),
        input_raw=None if found.offset is None else str(found.offset),
        band=_band(output),
        mode=_mode(found.mode),
        mode_raw=found.mode,
        color_code=_color_code(code[1]) if code else None,
        color_code_raw=found.encode if code else None,
        encode_raw=_text(found.encode),
        decode_raw=_text(found.decode),
        lat=lat,
        lon=lon,
        location_id=_location_id(lat, lon, city),
        city_raw=city,
        operational=None if found.operational is None else bool(found.operational),
        status=None,
        last_seen=None,
        hardware=None,
        firmware=None,
        link_name=None,
        master_id=None,
        power_watts=_watts(found.power),
        power_raw=_text(found.power),
        height_m=None,
        group_name=_text(found.group),
        internet_node=_text(found.internet_node),
        restriction=_text(found.restriction),
        website=None,
        title=None,
        description=_text(found.description),
        problem=None,
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
    number = int(text)
    if number < 0:
        raise ValueError(f"{text} is no number of a talkgroup")
    return number


def _text(text: str | None) -> str | None:
    return (text.strip() or None) if text else None


@functools.lru_cache(maxsize=65_536)
def _hertz(megahertz: str | float | None) -> tuple[int | None, bool]:
    """A frequency in MHz as whole Hz, and whether there was something that is none. Never by floats."""
    text = "" if megahertz is None else str(megahertz).strip()
    if not text:
        return None, False
    try:
        hertz = round(Decimal(text) * 1_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return None, True
    # 100 GHz: what is beyond is no frequency of a repeater
    return (None, True) if not 0 <= hertz < 100_000_000_000 else (hertz or None, False)


@functools.lru_cache(maxsize=65_536)
def _band(hertz: int | None) -> str | None:
    if hertz is None:
        return None
    return next((name for low, high, name in BANDS if low <= hertz <= high), None)


@functools.lru_cache(maxsize=1024)
def _mode(text: str | None) -> str | None:
    """A mode's usual name; several are given with a slash or a comma."""
    if text is None or not text.strip():
        return None
    parts = [part.strip().upper() for part in re.split(r"[/,;+]", text) if part.strip()]
    return "/".join(dict.fromkeys(MODES.get(part, part) for part in parts)) or None


@functools.lru_cache(maxsize=65_536)
def _color_code(given: int | str | None) -> int | None:
    try:
        code = int(given) if given is not None else -1
    except ValueError:
        return None
    return code if 0 <= code <= 15 else None


@functools.lru_cache(maxsize=65_536)
def _callsign(text: str | None) -> str | None:
    token = text.split(maxsplit=1)[0].upper() if text and text.strip() else ""
    return token if 3 <= len(token) <= 10 and _CALLSIGN.fullmatch(token) else None


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
    except ValueError:
        return None, True
    if found.tzinfo is not None:
        found = found.astimezone(dt.UTC).replace(tzinfo=None)
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
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None, "not readable: description is not base64"
    decoded = data.decode(errors="replace")
    return decoded or None, "description is not UTF-8 throughout" if "\ufffd" in decoded else None


class _Plain(HTMLParser):
    """Collects the text between tags; tags that break a line become a line break."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  (the parser's signature)
        self._hidden += tag in {"script", "style"}
        if tag in {"br", "p", "div", "li", "tr"}:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"} and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _plain_text(markup: str | None) -> str | None:
    if not markup:
        return None
    text = markup
    if "<" in markup:
        parser = _Plain()
        parser.feed(markup)
        parser.close()
        text = "".join(parser.parts)
    elif "&" in markup:
        text = html.unescape(markup)
    lines = (" ".join(line.split()) for line in text.replace("\xa0", " ").splitlines())
    return "\n".join(line for line in lines if line) or None
