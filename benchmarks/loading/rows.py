"""The row types that the floor and ours load records into."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Device(
    msgspec.Struct,
    gc=False,
    rename={"last_known_master": "lastKnownMaster", "priority_description": "priorityDescription"},
):
    """A BrandMeister device."""

    id: int
    last_known_master: int | None = None
    callsign: str | None = None
    linkname: str | None = None
    hardware: str | None = None
    firmware: str | None = None
    tx: str | None = None
    rx: str | None = None
    colorcode: int | None = None
    status: int | None = None
    lat: float | None = None
    lng: float | None = None
    city: str | None = None
    pep: int | None = None
    agl: int | None = None
    last_seen: str | None = None
    website: str | None = None
    priority_description: str | None = None
    description: str | None = None


class Talkgroup(msgspec.Struct, gc=False):
    """A TGIF talkgroup."""

    id: str
    name: str | None = None
    website: str | None = None
    description: str | None = None


class Repeater(msgspec.Struct, gc=False):
    """A hearham repeater."""

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


class Reading(msgspec.Struct, gc=False):
    """A row of the wide set: twelve mixed columns."""

    id: int
    station: str
    serial: int
    kind: str
    level: float
    drift: float | None
    count: int | None
    day: str
    taken_at: str
    state: str | None
    remark: str | None
    text: str


TYPES: Mapping[str, type[msgspec.Struct]] = {
    "devices": Device,
    "talkgroups": Talkgroup,
    "repeaters": Repeater,
    "readings": Reading,
}
"""The row type of each part."""
