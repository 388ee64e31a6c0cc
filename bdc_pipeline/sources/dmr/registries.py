"""Which documents the registries publish, where, and how often they may be asked for.

None of them has pages or tells what has changed: each document is fetched whole or not at all. The number of its
elements is the total that the copy is checked against.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Feed:
    """A document that a registry publishes.

    Args:
        name: of the file in the cache, and of the row in `sources`.
        registry: who publishes it; a partition.
        path: below the registry's address.
        holds: what its elements are: `repeaters` or `talkgroups`.
        floor: how long to wait between two requests at least, whatever is asked.
        max_age: how old the copy may be where nothing else is said.
        credit: whose data it is, to be named where the data is shown.
        opening: the bracket that it begins with: an array's, or that of an object whose members are its elements.
    """

    name: str
    registry: str
    path: str
    holds: str
    floor: dt.timedelta
    max_age: dt.timedelta
    credit: str
    opening: bytes = b"["


_QUARTER = dt.timedelta(minutes=15)

BRANDMEISTER_DEVICES = Feed(
    "brandmeister_devices",
    "brandmeister",
    "v2/device",
    "repeaters",
    floor=_QUARTER,  # asked for in the description of BrandMeister's API
    max_age=dt.timedelta(hours=24),
    credit="BrandMeister (brandmeister.network)",
)
BRANDMEISTER_TALKGROUPS = Feed(
    "brandmeister_talkgroups",
    "brandmeister",
    "v2/talkgroup",
    "talkgroups",
    floor=_QUARTER,
    max_age=dt.timedelta(hours=24),
    credit="BrandMeister (brandmeister.network)",
    opening=b"{",
)
# TGIF and hearham publish no floor; a minute keeps a loop of mistaken calls off them
TGIF_TALKGROUPS = Feed(
    "tgif_talkgroups",
    "tgif",
    "dmr/talkgroups/json",
    "talkgroups",
    floor=dt.timedelta(minutes=1),
    max_age=dt.timedelta(hours=2),
    credit="TGIF Network (tgif.network)",
)
HEARHAM_REPEATERS = Feed(
    "hearham_repeaters",
    "hearham",
    "api/repeaters/v1",
    "repeaters",
    floor=dt.timedelta(minutes=1),
    max_age=dt.timedelta(hours=6),
    credit="hearham.com: for use here, not to be published again",
)

FEEDS: tuple[Feed, ...] = (BRANDMEISTER_DEVICES, BRANDMEISTER_TALKGROUPS, TGIF_TALKGROUPS, HEARHAM_REPEATERS)

REGISTRIES: tuple[str, ...] = tuple(dict.fromkeys(feed.registry for feed in FEEDS))
"""The partitions."""


def feeds_of(registries: tuple[str, ...] | list[str]) -> list[Feed]:
    """The documents of some registries.

    Raises:
        ValueError: there is no such registry.
    """
    if unknown := [name for name in registries if name not in REGISTRIES]:
        raise ValueError(f"There is no registry '{unknown[0]}'. There are {', '.join(REGISTRIES)}.")
    return [feed for feed in FEEDS if feed.registry in registries]
