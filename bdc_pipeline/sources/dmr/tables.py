"""What is kept of the registries.

**Which side transmits**: always the repeater's. `output_hz` is what the repeater sends and a radio receives; `input_hz`
is what the repeater receives and a radio sends; `offset_hz` is input less output.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from bdc_pipeline.sources.dmr.views import NOTES, VIEWS
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table


class Repeater(msgspec.Struct, gc=False):
    """A repeater, or a hotspot that BrandMeister lists among them: one record of one registry, under its own id."""

    source: Annotated[str, Meta(description="The registry: brandmeister or hearham")]
    external_id: Annotated[str, Meta(description="The registry's own id")]
    document: Annotated[str, Meta(description="The document that it came in: `sources.document`")]
    kind: Annotated[str, Meta(description="`repeater`, or `hotspot` for BrandMeister's ids of seven digits and more")]
    callsign: Annotated[
        str | None, Meta(description="The call sign, upper case; NULL where what is given does not look like one")
    ]
    callsign_raw: Annotated[str | None, Meta(description="The call sign as given, with what stands behind it")]
    output_hz: Annotated[int | None, Meta(description="Hz; what the repeater sends and a radio receives")]
    input_hz: Annotated[int | None, Meta(description="Hz; what the repeater receives and a radio sends")]
    offset_hz: Annotated[int | None, Meta(description="Hz; input less output; 0 for simplex, or unknown at hearham")]
    output_raw: Annotated[str | None, Meta(description="As given: BrandMeister's tx in MHz, hearham's frequency in Hz")]
    input_raw: Annotated[str | None, Meta(description="As given: BrandMeister's rx in MHz, hearham's offset in Hz")]
    band: Annotated[
        str | None, Meta(description="The amateur band of the output: 10m, 6m, 2m, 1.25m, 70cm, 33cm, 23cm")
    ]
    mode: Annotated[
        str | None,
        Meta(description="DMR, D-STAR, YSF, P25, NXDN, FM, ...; several with `/`; as given where it is none known"),
    ]
    mode_raw: Annotated[str | None, Meta(description="The mode as given; NULL at BrandMeister, where all are DMR")]
    color_code: Annotated[int | None, Meta(description="0 to 15; NULL where none, or another number, is given")]
    color_code_raw: Annotated[str | None, Meta(description="The colour code as given: `3`, `CC4`")]
    encode_raw: Annotated[str | None, Meta(description="hearham: the tone in Hz, DCS or colour code to send")]
    decode_raw: Annotated[str | None, Meta(description="hearham: the tone or code that it sends")]
    lat: Annotated[float | None, Meta(description="Degrees, WGS 84; NULL for (0, 0) and what is no place on Earth")]
    lon: Annotated[float | None, Meta(description="Degrees, WGS 84; NULL for (0, 0) and what is no place on Earth")]
    location_id: Annotated[int | None, Meta(description="`locations.id`; NULL where no place is given")]
    city_raw: Annotated[str | None, Meta(description="The place as given: town, often with state and country")]
    operational: Annotated[bool | None, Meta(description="hearham: whether it works; NULL at BrandMeister")]
    status: Annotated[
        int | None,
        Meta(description="BrandMeister: 0 offline or unknown, 1 slot 1 linked, 2 slot 2, 3 both, 4 simplex"),
    ]
    last_seen: Annotated[str | None, Meta(description="BrandMeister: when it was last heard of (taken as UTC)")]
    hardware: Annotated[str | None, Meta(description="BrandMeister: what it is built of")]
    firmware: Annotated[str | None, Meta(description="BrandMeister: its firmware")]
    link_name: Annotated[str | None, Meta(description="BrandMeister: the software of the link")]
    master_id: Annotated[int | None, Meta(description="BrandMeister: the id of the last master server")]
    power_watts: Annotated[
        float | None, Meta(description="W; BrandMeister's pep, hearham's power where it is a number")
    ]
    power_raw: Annotated[str | None, Meta(description="The power as given")]
    height_m: Annotated[float | None, Meta(description="BrandMeister's agl: metres above ground, as given")]
    group_name: Annotated[str | None, Meta(description="hearham: the group that runs it")]
    internet_node: Annotated[str | None, Meta(description="hearham: its node on EchoLink, IRLP, ...")]
    restriction: Annotated[str | None, Meta(description="hearham: who may use it")]
    website: Annotated[str | None, Meta(description="Its web page; placeholders are NULL")]
    title: Annotated[str | None, Meta(description="BrandMeister's priorityDescription")]
    description: Annotated[str | None, Meta(description="As given; BrandMeister's holds HTML")]
    problem: Annotated[str | None, Meta(description="What of the record's fields could not be read")]


class Talkgroup(msgspec.Struct, gc=False):
    """A talkgroup of a network."""

    network: Annotated[str, Meta(description="The registry: brandmeister or tgif")]
    talkgroup_id: Annotated[int, Meta(description="Its number on that network")]
    name: Annotated[str | None, Meta(description="Its name, without blanks around it; NULL for none")]
    description: Annotated[str | None, Meta(description="What it is for, as plain text")]
    description_html: Annotated[
        str | None, Meta(description="The same as given, decoded from base64; NULL where plain")
    ]
    website: Annotated[str | None, Meta(description="Its web page; placeholders are NULL")]
    document: Annotated[str, Meta(description="The document that it came in: `sources.document`")]
    problem: Annotated[str | None, Meta(description="What of the record's fields could not be read")] = None


class Location(msgspec.Struct, gc=False):
    """A place that repeaters name: coordinates and a town. Its id follows from what it is."""

    id: Annotated[int, Meta(description="A hash of the other columns")]
    lat: Annotated[float | None, Meta(description="Degrees, WGS 84")]
    lon: Annotated[float | None, Meta(description="Degrees, WGS 84")]
    city_raw: Annotated[str | None, Meta(description="The place as given")]


class Source(msgspec.Struct):
    """A document of a registry: where the rows came from, and how old they are."""

    document: Annotated[str, Meta(description="Its name: that of the file in the cache")]
    registry: Annotated[str, Meta(description="Who publishes it")]
    holds: Annotated[str, Meta(description="`repeaters` or `talkgroups`")]
    url: Annotated[str | None, Meta(description="Where it was fetched")]
    fetched_at: Annotated[str | None, Meta(description="When these bytes were fetched (UTC)")]
    bytes: Annotated[int | None, Meta(description="Size of the file")]
    records: Annotated[int | None, Meta(description="Elements of the document")]
    sha256: Annotated[str | None, Meta(description="Hash of the file")]
    etag: Annotated[str | None, Meta(description="The registry's own name of this version")]
    last_modified: Annotated[str | None, Meta(description="When it was last changed, as the registry says")]
    credit: Annotated[str, Meta(description="Whose data it is")]


REPEATERS = Table(
    Repeater,
    name="repeaters",
    key=("source", "external_id"),
    partitioning=ByValue("source"),
    indexes=(("band", "mode"), ("callsign",), ("location_id",), ("last_updated",)),
    fingerprinted=True,
)
TALKGROUPS = Table(
    Talkgroup,
    name="talkgroups",
    key=("network", "talkgroup_id"),
    partitioning=ByValue("network"),
    indexes=(("last_updated",),),
    fingerprinted=True,
)
LOCATIONS = Table(Location, name="locations", gathered_with="repeaters", spatial=("lat", "lon"))
SOURCES = Table(Source, name="sources", key=("document",), partitioning=ByValue("registry"))

TABLES = (REPEATERS, TALKGROUPS, LOCATIONS, SOURCES)

SCHEMA = Schema("dmr", TABLES, views=VIEWS, notes=NOTES)
