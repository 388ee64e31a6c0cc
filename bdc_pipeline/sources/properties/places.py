"""The 36 municipalities that are copied, the kinds of homes, and the zip codes that a municipality is divided by.

Codes and names are Statistics Denmark's; zip codes are PostNord's. A zip code that is missing here costs requests and no home:
what no zip code accounts for is found otherwise (see `split.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

ALL = "all"
"""Stands for every kind of home, those without a type too."""

ADDRESS_TYPES = (
    "villa",
    "condo",
    "terraced house",
    "holiday house",
    "cooperative",
    "farm",
    "hobby farm",
    "full year plot",
    "villa apartment",
    "holiday plot",
    "houseboat",
)
"""The kinds that the API takes as a filter. `special`, and none at all, occur in records and come with `all` alone."""

# code, name, zip codes
_MUNICIPALITIES = """
0101|København|1050-1799 2100 2150 2200 2300 2400 2450 2500 2700 2720
0147|Frederiksberg|1800-1999 2000
0151|Ballerup|2750 2740 2760 2730 3500
0153|Brøndby|2605 2660 2600 2650 2620 2610
0155|Dragør|2791
0157|Gentofte|2820 2870 2900 2920 2930 2860 2800
0159|Gladsaxe|2860 2880 2870 2730 2800 2820
0161|Glostrup|2600 2605 2620
0163|Herlev|2730 2740 2750
0165|Albertslund|2620 2600 2630
0167|Hvidovre|2650 2500
0169|Høje-Taastrup|2630 2640 2620 4000
0173|Lyngby-Taarbæk|2800 2830 2930 2870 2880 2840
0175|Rødovre|2610 2720
0183|Ishøj|2635 2640 2670
0185|Tårnby|2770 2300 2791
0187|Vallensbæk|2625 2665 2660 2620
0190|Furesø|3500 3520 3460 2760
0201|Allerød|3450 3540 3400 3460 3520 3550
0210|Fredensborg|3480 2980 3050 2990 2970 3400 3490 3230
0217|Helsingør|3000 3060 3070 3080 3100 3140 3150 3490 3480
0219|Hillerød|3400 3320 3330 3310 3480 3200 3540 3230
0223|Hørsholm|2970 2960 2980 2950 3480
0230|Rudersdal|2840 2850 2950 2942 3460 2830 3450 2970
0240|Egedal|3650 3660 2765 3670 2760 2750 3550 3500
0250|Frederikssund|3600 3630 3550 4050 3650 3670 4040
0253|Greve|2670 2690 4030 2680 2640 2635
0259|Køge|4600 4681 4140 4632 4623 4682 4622 4671
0260|Halsnæs|3300 3390 3370 3310 3320 3360
0265|Roskilde|4000 4040 4130 4621 4622 2640 4320 4070 4623 4100
0269|Solrød|2680 4622 4623 2690
0270|Gribskov|3200 3250 3230 3210 3120 3220 3370 3300 3480 3310 3400
0316|Holbæk|4300 4340 4450 4390 4520 4420 4440 4470 4320 4370 4060 4330 4350 4460 4534
0329|Ringsted|4100 4174 4173 4140 4130 4180 4190 4370 4632 4690
0336|Stevns|4660 4652 4671 4673 4672 4653 4682
0350|Lejre|4320 4330 4070 4060 4000 4340 4130 4305
"""


class UnknownMunicipality(ValueError):  # noqa: N818  (an answer to what was asked)
    """None of the 36 has this name or code: says which there are."""


@dataclass(frozen=True, slots=True)
class Place:
    """A municipality: its partition, its name as the API knows it, and its zip codes.

    `zips` are asked for one by one. `streets` are the codes of inner Copenhagen, where a zip code was a street: some hundred
    that are asked for together.
    """

    code: str
    name: str
    zips: tuple[int, ...]
    streets: tuple[int, ...] = ()

    @property
    def number(self) -> int:
        """The code as a number, as records and the database have it."""
        return int(self.code)


@cache
def places() -> dict[str, Place]:
    """All municipalities by code, in the codes' order."""
    found = [_place(*line.split("|")) for line in _MUNICIPALITIES.strip().splitlines()]
    return {place.code: place for place in sorted(found, key=lambda place: place.code)}


def _place(code: str, name: str, zips: str) -> Place:
    single: list[int] = []
    streets: list[int] = []
    for text in zips.split():
        first, _, last = text.partition("-")
        (streets if last else single).extend(range(int(first), int(last or first) + 1))
    return Place(code, name, tuple(single), tuple(streets))


@cache
def all_zips() -> tuple[int, ...]:
    """The zip codes of all municipalities but the streets of Copenhagen: where neighbours' codes are looked for."""
    return tuple(sorted({number for place in places().values() for number in place.zips}))


def find_place(text: str) -> Place:
    """A municipality by its code (`0101`, `101`) or its name (`København`, in any case).

    Raises:
        UnknownMunicipality: there is none.
    """
    wanted = text.strip()
    if wanted.isdecimal() and (place := places().get(wanted.zfill(4))):
        return place
    folded = _folded(wanted)
    for place in places().values():
        if _folded(place.name) == folded:
            return place
    known = ", ".join(f"{place.code} {place.name}" for place in places().values())
    raise UnknownMunicipality(f"'{text}' is none of the {len(places())} municipalities. They are: {known}.")


def _folded(name: str) -> str:
    """A name without regard to case and to how keyboards without Danish letters spell it."""
    text = name.casefold()
    for letter, spelled in (("æ", "ae"), ("ø", "oe"), ("å", "aa")):
        text = text.replace(letter, spelled)
    return text


def chosen_types(asked: Iterable[str]) -> tuple[str, ...]:
    """Kinds of homes, each once and in the API's order; only `all` where it is among them."""
    wanted = set(asked)
    return (ALL,) if ALL in wanted else tuple(kind for kind in ADDRESS_TYPES if kind in wanted)
