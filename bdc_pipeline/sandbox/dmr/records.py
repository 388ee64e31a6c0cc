"""The registries' records: which keys they have, in the order in which they are sent, and which JSON each document is.

Units and meanings are the registries' own: BrandMeister gives megahertz as text, hearham hertz as numbers. Values belong to
`generate.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UnsetType

#: A record as generated, or as a change has left it: any keys, any values.
Record = msgspec.Struct | Mapping[str, Any]


class Device(
    msgspec.Struct,
    gc=False,
    rename={"last_known_master": "lastKnownMaster", "priority_description": "priorityDescription"},
):
    """BrandMeister: a repeater (an id of six digits) or a hotspot (seven or more)."""

    id: int
    last_known_master: int
    #: not clean: may carry more than the call
    callsign: str
    linkname: str | UnsetType
    hardware: str | UnsetType
    firmware: str | UnsetType
    #: megahertz with four decimals, as the repeater transmits
    tx: str
    #: the same, as it receives
    rx: str
    colorcode: int
    #: 0 offline or unknown, 1 slot 1 linked, 2 slot 2, 3 both, 4 simplex
    status: int
    lat: float | None
    lng: float | None
    city: str
    #: watts
    pep: int | None
    #: metres above ground
    agl: int | None
    #: YYYY-MM-DD hh:mm:ss without a zone
    last_seen: str
    website: str | UnsetType | None
    priority_description: str | UnsetType | None
    #: HTML
    description: str | UnsetType | None


class Talkgroup(msgspec.Struct, gc=False):
    """BrandMeister: one entry of the object that maps ids to names."""

    id: str
    name: str


class TgifTalkgroup(msgspec.Struct, gc=False):
    """TGIF: a talkgroup, with its description in base64."""

    description: str
    id: str
    name: str
    website: str


class Repeater(msgspec.Struct, gc=False):
    """Hearham: a repeater of any kind."""

    id: int
    #: not a key: one site has several bands and modes
    callsign: str
    #: 0 is unknown, as it is for longitude
    latitude: float
    longitude: float
    city: str
    group: str
    internet_node: str
    #: free text, with trailing blanks
    mode: str
    #: a tone in hertz, a DCS code, or a colour code as CC4
    encode: str
    decode: str
    #: hertz
    frequency: int
    #: hertz, signed
    offset: int
    description: str
    power: str
    operational: int
    restriction: str


def identifier(record: Record) -> Any:
    """The record's id, whatever it is; None where there is none."""
    return getattr(record, "id", None) if isinstance(record, msgspec.Struct) else record.get("id")


def keys_of(record: Record) -> dict[str, Any]:
    """The record as it is sent, for reading or for making another of it."""
    keys: dict[str, Any] = msgspec.to_builtins(record) if isinstance(record, msgspec.Struct) else dict(record)
    return keys


def is_repeater(record: Record) -> bool:
    """Whether BrandMeister takes it for a repeater and not for somebody's hotspot: its id has six digits."""
    return len(str(identifier(record))) == 6


def array(records: Iterable[Record]) -> bytes:
    """A document that is an array of records."""
    return msgspec.json.encode(list(records))


def names_by_id(records: Iterable[Record]) -> bytes:
    """A document that is an object of names by id.

    Written entry by entry, since an object on the wire may hold the same key twice. What is no text becomes a key as its JSON.
    """
    encode = msgspec.json.Encoder().encode
    entries = []
    for record in records:
        keys = keys_of(record)
        key = keys.get("id")
        text = key if isinstance(key, str) else encode(key).decode()
        entries.append(encode(text) + b":" + encode(keys.get("name")))
    return b"{" + b",".join(entries) + b"}"
