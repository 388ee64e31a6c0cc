"""The invented words and weighted values that the registries' records are made of.

A list may say a thing several times: drawing from it evenly is then drawing by weight. Callsigns begin with Q, which no country
was ever given, since Q is kept for codes such as QTH. Towns, groups and people do not exist; addresses are at example.com.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

_CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"
_CALLSIGNS = 26 * 10 * len(_CONSONANTS) ** 3

_TOWNS = [
    "Exampleville",
    "Sampleton",
    "Nowhere",
    "Mockham",
    "Testbury",
    "Bad Müster",
    "Exemple",
    "Dummy Hill",
    "Ficção",
]
_STATES = ["Exampleshire", "North Sample", "Mockland", "Testonia"]
COUNTRIES = ["Exampleland", "Sampleonia", "Republic of Nowhere", "United Mock Islands"]
#: town and state in one, as hearham has them
TOWNS = [f"{town}, {state}" for town in _TOWNS for state in _STATES]
#: as people wrote them into BrandMeister's one field
PLACES = [
    *TOWNS,
    *(f"{town}, {state}, {COUNTRIES[n % 4]}" for n, town in enumerate(_TOWNS) for state in _STATES[:2]),
    *_TOWNS * 16,
    *(town.upper() for town in _TOWNS * 2),
    *["", "", " ", "N/A"] * 4,
]

#: what follows a BrandMeister callsign
CALLSIGN_TAILS = [""] * 54 + [" SITE X", " SITE B", "/P", "-2", " Repeater", " (test)"]
LINKNAMES: list[str | UnsetType] = [UNSET] * 18 + ["", "MMDVM Host", "Sample Link", "Homebrew Gateway"]
HARDWARE: list[str | UnsetType] = [UNSET, "", *["MMDVM"] * 9, *["Example HS"] * 6, *["Sample Dual Hat"] * 2]
HARDWARE += ["Mock Repeater 8550", "Mock DR-3000"]
FIRMWARE: list[str | UnsetType] = [UNSET, "", *(f"202{n % 6}0{1 + n % 9}1{n % 10}_EX{1 + n % 4}" for n in range(24))]
FIRMWARE += [f"R0{n}.21.0{n}.00" for n in range(1, 6)]
MASTERS = [1001, 2001, 2341, 2501, 2621, 3101, 3102, 3103, 4371, 5051, 7242]
REPEATER_STATUS = [0] * 3 + [1] + [2] + [3] * 14 + [4]
HOTSPOT_STATUS = [0] * 3 + [1] + [2] + [3] * 3 + [4] * 12
#: watts and metres, as owners entered them
WATTS: list[int | None] = [None] * 3 + [1] * 10 + [0, 10, 25, 50, 100, -1, 65535, 10_000_000]
METRES: list[int | None] = [None] * 3 + [1] * 8 + [0, 10, 15, 30, 120, 850, -40, 99999, 2147483647]
OUT_OF_RANGE = [(910.0, 10.0), (51.565, 184300.0), (-91.5, -200.25), (4395000.0, 512000.0)]
#: most owners say nothing about themselves; later the list left these keys out altogether
WEBSITES: list[str | UnsetType | None] = (
    [UNSET] * 22 + [None] * 8 + ["", "https://", "https://example.com/repeater", "http://www.example.org", "N/A"]
)
PRIORITIES: list[str | UnsetType | None] = (
    [UNSET] * 22 + [None] * 8 + ["", "Test repeater, Exampleland", "Sample & Sons <Mockingham>"]
)
DESCRIPTIONS: list[str | UnsetType | None] = (
    [UNSET] * 22
    + [None] * 10
    + [
        "",
        "<p>Covers the <b>whole</b> valley &amp; beyond.</p>",
        "<p>TS1: 91 &#8211; TS2: local<br/>Maintained by nobody.</p>",
        'See <a href="https://example.com/?a=1&amp;b=2">our page</a>',
    ]
)

TALKGROUPS = ["Exampleland", "Sample Net", "Mock Region 3", "DMR Test", "Nowhere South", "Übung", "Placeholder 2"]

#: TGIF's placeholders where a website should be
TGIF_WEBSITES = [" "] * 8 + [""] * 4 + ["https:// "] * 4 + ["https://"] * 2 + ["N/A"] + ["https://example.com/net"] * 5
TGIF_NAMES = [
    "Sample Net",
    "Test Group ",
    " Mock Chat",
    "Example Wide",
    "Placeholder Bridge",
    "Nowhere QSO  ",
    "Übungsnetz",
]
#: how TGIF descriptions begin; the second list needs a parser
PLAIN = ["Open for everyone", "Tac group, can be used by everyone", "Sample net on Mondays 19:30 UTC. Grüße!"]
MARKED_UP = [
    "Open to use.&nbsp;Ragchew as long as you like.",
    "<p>Weekly <strong>sample</strong> net &amp; test</p>",
    '<div class="x"><a href="https://example.com">Example</a><br>73 &lt;3</div>',
]

MODES = ["FM"] * 20 + ["FM ", "NFM", "NFM  ", "D-STAR", "D-STAR ", "D-star", "DSTAR", "YSF", "YSF/FM", "P25", "P25    "]
MODES += ["NXDN", "Fusion", "fm", ""] + ["DMR"] * 7 + ["DMR    "] * 9 + ["dmr", "DMR/FM"]
TONES = ["67.0", "77.0", "88.5", "94.8", "100.0", "103.5", "114.8", "123.0", "131.8", "156.7", "203.5"] * 3
TONES += ["", "", "", "", "DCS023", "D114", "DCS 754", "CSQ", "100"]
POWERS = ["unknown"] * 8 + [""] * 6 + ["50 W", "100 W", "25W", "10 watts", "5 W ERP", "100"]
GROUPS = [""] * 6 + ["Sample Amateur Radio Society", "Example Repeater Group", "Mock Emergency Net", "DMR"]
NODES = [""] * 8 + ["IRLP 9990", "EchoLink 999001", "AllStar 99900", "Wires-X 99901"]
RESTRICTIONS = [""] * 9 + ["Members only", "OPEN", "Closed"]
REMARKS = [""] * 2 + [
    "SYNTHETIC: coverage of about 30 miles around the town. Net on Tuesdays at 20:00 local time, all are welcome to join in.",
    "SYNTHETIC: linked to the other sites of the society by radio; please leave a gap between overs and give your call.",
    'SYNTHETIC: "Open", wide area coverage.\r\nEmergency power by battery & solar panels, <b>tested</b> each month.',
]


def callsign(number: int) -> str:
    """A callsign that nobody can hold; another one for each number below 2,080,000."""
    # A stride without common factors with the count visits each once, and neighbours do not look alike
    number = number * 7919 % _CALLSIGNS
    number, first = divmod(number, 26)
    number, digit = divmod(number, 10)
    size = len(_CONSONANTS)
    letters = _CONSONANTS[number % size] + _CONSONANTS[number // size % size] + _CONSONANTS[number // size**2]
    return f"Q{chr(65 + first)}{digit}{letters}"
