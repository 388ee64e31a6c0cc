"""The 36 municipalities around Copenhagen, their zip codes, and roads that do not exist.

Codes, names and counts of villas are public facts. Tax rates, schools and populations are made up, and so are the roads, from
parts that Danish road names have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

#: code, name, province, villas in October 2025, latitude, longitude, zip codes from the largest to the smallest
_MUNICIPALITIES = """
0101|København|DK011|13422|55.68|12.56|2300 København S,2700 Brønshøj,2720 Vanløse,2500 Valby,2100 København Ø,2400 København NV,2450 København SV,2200 København N,2150 Nordhavn,1799 København V
0147|Frederiksberg|DK011|892|55.68|12.53|2000 Frederiksberg,1950 Frederiksberg C
0151|Ballerup|DK012|6048|55.73|12.36|2750 Ballerup,2740 Skovlunde,2760 Måløv
0153|Brøndby|DK012|3063|55.65|12.42|2605 Brøndby,2660 Brøndby Strand
0155|Dragør|DK011|3001|55.59|12.67|2791 Dragør
0157|Gentofte|DK012|9795|55.75|12.55|2820 Gentofte,2900 Hellerup,2920 Charlottenlund,2870 Dyssegård,2930 Klampenborg
0159|Gladsaxe|DK012|6591|55.74|12.48|2860 Søborg,2880 Bagsværd
0161|Glostrup|DK012|2604|55.67|12.40|2600 Glostrup
0163|Herlev|DK012|2954|55.73|12.44|2730 Herlev
0165|Albertslund|DK012|1495|55.68|12.35|2620 Albertslund
0167|Hvidovre|DK012|6641|55.64|12.47|2650 Hvidovre
0169|Høje-Taastrup|DK012|5045|55.65|12.25|2630 Taastrup,2640 Hedehusene
0173|Lyngby-Taarbæk|DK012|6085|55.78|12.50|2800 Kongens Lyngby,2830 Virum
0175|Rødovre|DK012|3889|55.69|12.45|2610 Rødovre
0183|Ishøj|DK012|1720|55.61|12.33|2635 Ishøj
0185|Tårnby|DK011|6702|55.62|12.62|2770 Kastrup
0187|Vallensbæk|DK012|1970|55.63|12.38|2625 Vallensbæk,2665 Vallensbæk Strand
0190|Furesø|DK013|5734|55.80|12.36|3500 Værløse,3520 Farum
0201|Allerød|DK013|4827|55.87|12.35|3450 Allerød,3540 Lynge
0210|Fredensborg|DK013|5244|55.97|12.45|3480 Fredensborg,2980 Kokkedal,3050 Humlebæk,2990 Nivå
0217|Helsingør|DK013|7860|56.03|12.58|3000 Helsingør,3060 Espergærde,3070 Snekkersten,3100 Hornbæk,3140 Ålsgårde,3150 Hellebæk,3080 Tikøb
0219|Hillerød|DK013|8423|55.93|12.30|3400 Hillerød,3320 Skævinge,3330 Gørløse
0223|Hørsholm|DK013|3691|55.88|12.49|2970 Hørsholm,2960 Rungsted Kyst
0230|Rudersdal|DK012|9606|55.82|12.48|3460 Birkerød,2840 Holte,2850 Nærum,2950 Vedbæk,2942 Skodsborg
0240|Egedal|DK013|7450|55.77|12.19|3650 Ølstykke,3660 Stenløse,2765 Smørum,3670 Veksø Sjælland
0250|Frederikssund|DK013|7646|55.84|12.06|3600 Frederikssund,3630 Jægerspris,3550 Slangerup,4050 Skibby
0253|Greve|DK021|10091|55.58|12.29|2670 Greve,2690 Karlslunde,4030 Tune
0259|Køge|DK021|10850|55.46|12.17|4600 Køge,4681 Herfølge,4140 Borup,4632 Bjæverskov,4623 Lille Skensved
0260|Halsnæs|DK013|6615|55.97|11.98|3300 Frederiksværk,3390 Hundested,3370 Melby,3310 Ølsted
0265|Roskilde|DK021|14850|55.64|12.08|4000 Roskilde,4040 Jyllinge,4130 Viby Sjælland,4621 Gadstrup
0269|Solrød|DK021|4982|55.53|12.21|2680 Solrød Strand,4622 Havdrup
0270|Gribskov|DK013|7597|56.05|12.24|3200 Helsinge,3250 Gilleleje,3230 Græsted,3210 Vejby,3120 Dronningmølle,3220 Tisvildeleje
0316|Holbæk|DK022|13842|55.71|11.71|4300 Holbæk,4340 Tølløse,4450 Jyderup,4390 Vipperød,4520 Svinninge,4420 Regstrup,4440 Mørkøv
0329|Ringsted|DK022|5446|55.44|11.79|4100 Ringsted,4174 Jystrup Midtsjælland,4173 Fjenneslev
0336|Stevns|DK022|5207|55.32|12.25|4660 Store Heddinge,4652 Hårlev,4671 Strøby,4673 Rødvig Stevns,4672 Klippinge
0350|Lejre|DK021|6716|55.60|11.94|4320 Lejre,4330 Hvalsø,4070 Kirke Hyllinge,4060 Kirke Såby
"""
_PROVINCES = {
    "DK011": ("Byen København", 1084),
    "DK012": ("Københavns omegn", 1084),
    "DK013": ("Nordsjælland", 1084),
    "DK021": ("Østsjælland", 1085),
    "DK022": ("Vest- og Sydsjælland", 1085),
}
#: parts of road names: how they begin, go on and end
_PARTS = """
Ahorn Bøge Birke Ege Elme Fyrre Gran Hassel Hylde Kastanje Linde Lærke Mirabel Pile Poppel Røn Slåen Tjørn Ærte Ørne Åkande Stær Svale Vibe Grævling Hjorte Ræve Brombær Kløver Lyng
kilde eng mose holm skov dals krogs høj lunde bæk ager sø markeds å
vej vænget parken stien gade bakken toften haven allé
"""
_FIRST, _MIDDLE, _LAST = (line.split() for line in _PARTS.strip().split("\n"))
_ROADS = len(_FIRST) * len(_MIDDLE) * len(_LAST)


@dataclass(frozen=True)
class Municipality:
    """One municipality with what its homes' records repeat of it."""

    index: int
    code: int
    name: str
    villas: int
    latitude: float
    longitude: float
    #: its own, from the largest to the smallest
    zips: tuple[int, ...]
    #: the `municipality` of a record
    record: dict[str, Any]
    #: the `province` of a record
    province: dict[str, Any]

    @property
    def level(self) -> int:
        """What a square metre costs here, in DKK."""
        return 18_000 + self.code * 7919 % 41 * 1_000


def slug(text: str) -> str:
    """As in links: `Skødstrup` is `skoedstrup`."""
    for letter, spelled in (("æ", "ae"), ("ø", "oe"), ("å", "aa"), ("é", "e"), (" ", "-")):
        text = text.lower().replace(letter, spelled)
    return text


def road_name(municipality: int, number: int) -> str:
    """The name of a municipality's road, without its own repeating any."""
    # The factor shares no divisor with the number of names, so that none comes twice before all have come
    at = (municipality * 1009 + number * 1013) % _ROADS
    middle, rest = at % len(_MIDDLE), at // len(_MIDDLE)
    return _FIRST[rest % len(_FIRST)] + _MIDDLE[middle] + _LAST[rest // len(_FIRST)]


@cache
def municipalities() -> tuple[Municipality, ...]:
    """All of them, by code."""
    return tuple(_municipality(index, line) for index, line in enumerate(_MUNICIPALITIES.split("\n")[1:-1]))


@cache
def zip_names() -> dict[int, str]:
    """What each zip code is called."""
    found: dict[int, str] = {}
    for line in _MUNICIPALITIES.split("\n")[1:-1]:
        for text in line.split("|")[6].split(","):
            code, _, name = text.partition(" ")
            found[int(code)] = name
    return found


def neighbour(index: int) -> Municipality:
    """The municipality with which this one shares a zip code."""
    every = municipalities()
    return every[index + 1 if index + 1 < len(every) else index - 1]


def shares(homes: int, fixed: dict[str, int]) -> list[int]:
    """How many of so many villas each municipality has: as many as `fixed` says by name, the rest in proportion, none empty."""
    every = municipalities()
    free = [one for one in every if one.name not in fixed]
    villas = sum(one.villas for one in free)
    left = homes - sum(fixed.values()) - len(free)
    exact = {one.index: left * one.villas / villas for one in free}
    found = {index: 1 + int(share) for index, share in exact.items()}
    rounded_down = sorted(exact, key=lambda index: int(exact[index]) - exact[index])
    for index in rounded_down[: homes - sum(fixed.values()) - sum(found.values())]:
        found[index] += 1
    return [fixed[one.name] if one.name in fixed else found[one.index] for one in every]


def _municipality(index: int, line: str) -> Municipality:
    code, name, province, villas, latitude, longitude, zips = line.split("|")
    number = int(code)
    province_name, region = _PROVINCES[province]
    return Municipality(
        index,
        number,
        name,
        int(villas),
        float(latitude),
        float(longitude),
        tuple(int(text[:4]) for text in zips.split(",")),
        {
            "churchTaxPercentage": 0.4 + number * 7 % 60 / 100,
            "councilTaxPercentage": 22.5 + number * 13 % 350 / 100,
            "landValueTaxLevelPerThousand": 3 + number * 5 % 27,
            "municipalityCode": number,
            "name": name,
            "numberOfSchools": 5 + number * 11 % 70,
            "population": 15_000 + number * 7919 % 90_000,
            "slug": slug(name),
        },
        {"name": province_name, "provinceCode": province, "regionCode": region, "slug": slug(province_name)},
    )
