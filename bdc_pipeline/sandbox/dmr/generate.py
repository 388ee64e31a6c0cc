"""The three registries' generated data, as records and as the JSON documents that are served.

All of it follows from the number of devices and the seed: no wall clock, no system randomness. What a client must take is here:
every record has its id and documented types. Irregular on purpose, as the real ones are: callsigns that repeat or carry more
than a call; coordinates that are 0, null or off the globe; absurd watts and metres; keys that are absent; free text with blanks
at its ends; HTML; base64 that is long, or not UTF-8, or not base64 at all.

Some sites are in two registries: a hearham DMR repeater may be BrandMeister's repeater of the same callsign and frequency, a few
hundred metres off.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TypeVar

from bdc_pipeline.sandbox.dmr import words
from bdc_pipeline.sandbox.dmr.records import Device, Repeater, Talkgroup, TgifTalkgroup, array, names_by_id

_T = TypeVar("_T")

#: The counts of June 2025, which other sizes are in proportion to.
DEVICES, BRANDMEISTER_TALKGROUPS, TGIF_TALKGROUPS, HEARHAM_REPEATERS = 34_200, 1_844, 2_549, 16_189
#: Distinct callsigns among hearham's records: a copy that is keyed by them loses 31 %.
HEARHAM_CALLSIGNS = 11_179
#: No generated id is as high; records that are added later get ids from here on.
FIRST_NEW_ID = 9_000_000
#: The longest TGIF description that was seen, in characters of base64.
LONGEST_DESCRIPTION = 73_152
#: TGIF's strangest descriptions, by row, so that each occurs once in small data too; the rare ones recur.
_LONGEST, _LONG, _NOT_UTF8, _NOT_BASE64, _RARE = 3, 5, 7, 11, 1000

#: Where repeaters are close together, as they are in reality: within some 25 km of København. Others are all over the globe.
_CITY = (55.68, 12.57)
#: One repeater in so many of each registry is there.
_GATHERED = 30


def registries(devices: int = DEVICES, seed: int = 0) -> Registries:
    """The registries with this many BrandMeister devices and the others in proportion; the same arguments give the same bytes.

    With the default there are 52,938 records besides BrandMeister's 1,844 talkgroups. Each part is made when it is first used.
    """
    return Registries(devices, seed)


@dataclass(frozen=True)
class Registries:
    """The data of BrandMeister, TGIF and hearham. The records are shared: to change one, make another."""

    size: int
    seed: int

    @cached_property
    def repeaters(self) -> list[Device]:
        """BrandMeister's repeaters alone, a tenth of its devices."""
        random, count = self._random("repeaters"), self.size // 10
        ids = random.sample(range(100_000, 1_000_000), count)
        # One in six has the callsign of the one before: two bands at one site
        found = [make_device(random, n, words.callsign(i - (i % 6 == 5))) for i, n in enumerate(ids)]
        for device in found[_GATHERED - 1 :: _GATHERED]:
            device.lat, device.lng = _gathered(random)
        return found

    @cached_property
    def devices(self) -> list[Device]:
        """All devices of BrandMeister, repeaters among hotspots in no order."""
        random, count = self._random("devices"), self.size - len(self.repeaters)
        ids = random.sample(range(1_000_000, FIRST_NEW_ID), count)
        owners = range(len(self.repeaters), len(self.repeaters) + max(1, count // 2))
        found = [*self.repeaters]
        for i, n in enumerate(ids):
            # One in fifty is a second hotspot of its owner, told apart by two more digits
            number = n * 100 + 1 + i % 9 if i % 50 == 49 else n
            found.append(make_device(random, number, words.callsign(_pick(random, owners))))
        random.shuffle(found)
        return found

    @cached_property
    def talkgroups(self) -> list[Talkgroup]:
        """BrandMeister's talkgroups."""
        random, count = self._random("talkgroups"), self._share(BRANDMEISTER_TALKGROUPS)
        ids = [91, 3100, *random.sample(range(3101, 100_000), count)][:count]
        names = {91: "World-wide", 3100: "Exampleland Bridge"}
        return [Talkgroup(str(n), names.get(n) or make_talkgroup(random, n).name) for n in sorted(ids)]

    @cached_property
    def tgif(self) -> list[TgifTalkgroup]:
        """TGIF's talkgroups."""
        random, count = self._random("tgif"), self._share(TGIF_TALKGROUPS)
        tactical = min(count, 20)
        ids = [*range(101, 101 + tactical), *sorted(random.sample(range(200, FIRST_NEW_ID), count - tactical))]
        found = [make_tgif(random, n) for n in ids]
        for row in range(count):
            found[row].description = _strange(row) or found[row].description
        return found

    @cached_property
    def hearham(self) -> list[Repeater]:
        """hearham's repeaters, with gaps between ids."""
        random, count = self._random("hearham"), self._share(HEARHAM_REPEATERS)
        distinct = self._share(HEARHAM_CALLSIGNS)
        calls = [*range(distinct), *(_pick(random, range(distinct)) for _ in range(count - distinct))]
        random.shuffle(calls)
        ids = sorted(random.sample(range(1, count + count // 3 + 2), count))
        sites = self.repeaters
        found = [make_repeater(random, n, words.callsign(call)) for n, call in zip(ids, calls, strict=True)]
        for repeater in found[_GATHERED - 1 :: _GATHERED]:
            repeater.latitude, repeater.longitude = _gathered(random)
        for repeater, call in zip(found, calls, strict=True):
            if call < len(sites) and repeater.encode.startswith("CC"):
                _place(repeater, sites[call])
        return found

    @cached_property
    def brandmeister_devices(self) -> bytes:
        """The array that BrandMeister serves as /v2/device."""
        return array(self.devices)

    @cached_property
    def brandmeister_talkgroups(self) -> bytes:
        """The object that BrandMeister serves as /v2/talkgroup."""
        return names_by_id(self.talkgroups)

    @cached_property
    def tgif_talkgroups(self) -> bytes:
        """The array that TGIF serves as /dmr/talkgroups/json."""
        return array(self.tgif)

    @cached_property
    def hearham_repeaters(self) -> bytes:
        """The array that hearham serves as /api/repeaters/v1."""
        return array(self.hearham)

    def _share(self, count: int) -> int:
        return max(1, round(self.size * count / DEVICES))

    def _random(self, part: str) -> Random:
        return Random(f"{self.seed}/{part}")  # noqa: S311  # data, not secrets


def make_device(random: Random, number: int, callsign: str) -> Device:
    """A BrandMeister device; what it is follows from how many digits its id has."""
    repeater = number < 1_000_000
    # Three quarters of all devices hear where they speak
    simplex = random.random() < (0.05 if repeater else 0.83)
    tx = _pick(random, range(34_400, 35_200)) * 12_500 if random.random() < 0.85 else 144_000_000 + _step(random, 320)
    shift = (
        0
        if simplex
        else _pick(random, (5_000_000, -5_000_000, -7_600_000) if tx > 400_000_000 else (600_000, -600_000))
    )
    lat, lng = _coordinates(random)
    return Device(
        id=number,
        last_known_master=_pick(random, words.MASTERS),
        callsign=callsign + _pick(random, words.CALLSIGN_TAILS),
        linkname=_pick(random, words.LINKNAMES),
        hardware=_pick(random, words.HARDWARE),
        firmware=_pick(random, words.FIRMWARE),
        tx=megahertz(tx),
        rx=megahertz(tx + shift),
        colorcode=_pick(random, range(16)) if repeater else 1,
        status=_pick(random, words.REPEATER_STATUS if repeater else words.HOTSPOT_STATUS),
        lat=lat,
        lng=lng,
        city=_pick(random, words.PLACES),
        pep=_pick(random, words.WATTS),
        agl=_pick(random, words.METRES),
        last_seen=moment(random, 7),
        website=_pick(random, words.WEBSITES),
        priority_description=_pick(random, words.PRIORITIES),
        description=_pick(random, words.DESCRIPTIONS),
    )


def make_talkgroup(random: Random, number: int) -> Talkgroup:
    """A BrandMeister talkgroup."""
    return Talkgroup(str(number), _pick(random, words.TALKGROUPS))


def make_tgif(random: Random, number: int) -> TgifTalkgroup:
    """A TGIF talkgroup: two in five say nothing about themselves, a third do so in HTML, a few are not even named."""
    kind = random.random()
    text = "" if kind < 0.4 else _pick(random, words.PLAIN if kind < 0.67 else words.MARKED_UP)
    name = " " if random.random() < 0.004 else f"{_pick(random, words.TGIF_NAMES)} {number}"
    return TgifTalkgroup(
        description=base64(text),
        id=str(number),
        name=f"Tac-{number}" if number < 200 else name,
        website=_pick(random, words.TGIF_WEBSITES),
    )


def make_repeater(random: Random, number: int, callsign: str) -> Repeater:
    """A hearham repeater."""
    mode = _pick(random, words.MODES)
    digital = mode.strip().upper() == "DMR"
    high = random.random() < 0.6
    known = random.random() < 0.97
    return Repeater(
        id=number,
        callsign=callsign,
        latitude=random.uniform(-60, 70) if known else 0,
        longitude=random.uniform(-180, 180) if known else 0,
        city=_pick(random, words.TOWNS),
        group=_pick(random, words.GROUPS),
        internet_node=_pick(random, words.NODES),
        mode=mode,
        encode=f"CC{_pick(random, range(16))}" if digital else _pick(random, words.TONES),
        decode="" if digital else _pick(random, words.TONES),
        frequency=440_000_000 + _step(random, 800) if high else 145_000_000 + _step(random, 240),
        offset=_offset(random, high=high),
        description=_pick(random, words.REMARKS),
        power=_pick(random, words.POWERS),
        operational=int(random.random() >= 0.216),
        restriction=_pick(random, words.RESTRICTIONS),
    )


def megahertz(hertz: int) -> str:
    """As BrandMeister writes it: four decimals."""
    return f"{hertz // 1_000_000}.{hertz % 1_000_000 // 100:04d}"


def base64(text: str) -> str:
    """As TGIF wraps its descriptions."""
    return b64encode(text.encode()).decode()


def moment(random: Random, day: int) -> str:
    """A moment of a day of June 2025, which is when the counts were true."""
    second = int(random.random() * 86_400)
    return f"2025-06-{day:02d} {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def _coordinates(random: Random) -> tuple[float | None, float | None]:
    kind = random.random()
    if kind < 0.08:
        return 0.0, 0.0
    if kind < 0.1:
        return None, None
    if kind < 0.105:
        return _pick(random, words.OUT_OF_RANGE)
    return round(random.uniform(-60, 70), 4), round(random.uniform(-180, 180), 4)


def _gathered(random: Random) -> tuple[float, float]:
    return round(_CITY[0] + random.uniform(-0.15, 0.15), 4), round(_CITY[1] + random.uniform(-0.3, 0.3), 4)


def _offset(random: Random, *, high: bool) -> int:
    if random.random() < 0.22:
        return 0
    shift = 5_000_000 if high else 600_000
    return shift if random.random() < 0.5 else -shift


def _place(repeater: Repeater, site: Device) -> None:
    """Make it the same site: its frequency and colour code, and its place as somebody else measured it."""
    repeater.frequency = round(float(site.tx) * 10_000) * 100
    repeater.offset = round(float(site.rx) * 10_000) * 100 - repeater.frequency
    repeater.encode = f"CC{site.colorcode}"
    if site.lat and site.lng and abs(site.lat) < 90 and abs(site.lng) < 180:
        repeater.latitude, repeater.longitude = round(site.lat + 0.002, 5), round(site.lng - 0.003, 5)


def _strange(row: int) -> str | None:
    """The description of the few TGIF rows that break parsers."""
    if row == _LONGEST:
        return _pasted(LONGEST_DESCRIPTION)
    if row == _LONG:
        return _pasted(20_000)
    if row % _RARE == _NOT_UTF8:
        return b64encode(b"Caf\xe9 net, <b>caf\xc3</b>").decode()
    # Somebody's text that was never encoded: neither a strict nor a lenient decoder makes anything of it
    return "Open talkgroup, all welcome!" if row % _RARE == _NOT_BASE64 else None


def _pasted(characters: int) -> str:
    """A web page in somebody's description, so long in base64."""
    line = '<div class="sample" style="margin: 0 auto; padding: 4px">Pasted &amp; never cleaned</div>\n'
    size = characters // 4 * 3
    return base64((line * (size // len(line) + 1))[:size])


def _step(random: Random, count: int) -> int:
    """So many channels of 12.5 kHz, in hertz."""
    return int(random.random() * count) * 12_500


def _pick(random: Random, values: Sequence[_T]) -> _T:
    """One of these; four times as fast as `choice`, which matters for fifty thousand records of twenty values."""
    return values[int(random.random() * len(values))]
