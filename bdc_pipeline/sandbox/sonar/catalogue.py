"""What an invented internet provider's instance of Sonar is made of: statuses, plans, models, and the words for the rest.

What belongs here is constants: the rows of small tables, and the lists that are drawn from, in which an entry that stands
often is drawn often. What is drawn for which row belongs to `generate.py` (links) and to `columns.py` (values). The order of
entries decides what is generated: appending to a list that is drawn from changes every world.

Irregular on purpose: a technology code that says too little; speeds that are no whole number of Mbps.
"""

#: name, whether it activates the account
STATUSES = [
    ("Active", True),
    ("Suspended", True),
    ("Lead", False),
    ("Disconnected", False),
    ("Pending install", False),
]
#: Which status an account has, drawn from these rows; so with the types below.
STATUS_OF = [0] * 86 + [1] * 5 + [2] * 3 + [3] * 4 + [4] * 2
#: name, type
TYPES = [
    ("Residential", "RESIDENTIAL"),
    ("Business", "COMMERCIAL"),
    ("Government", "GOVERNMENT"),
    ("Industrial", "INDUSTRIAL"),
    ("Senior", "SENIOR_CITIZEN"),
]
TYPE_OF = [0] * 82 + [1] * 11 + [2] * 2 + [3] + [4] * 4
COMPANIES = ["Example Broadband", "Sample Wireless"]
MANUFACTURERS = [
    "Example Radio",
    "Sample Networks",
    "Placeholder Systems",
    "Invented Optics",
    "Mock Mobile",
    "Nowhere Devices",
]
CATEGORIES = ["Radio", "ONT", "Router", "LTE CPE", "Power"]
#: name, download and upload in kilobits per second, technology, cents a month
DATA_SERVICES = [
    ("Fiber 1000", 1_000_000, 1_000_000, "FIBER", 9900),
    ("Fiber 500", 500_000, 500_000, "FIBER", 7900),
    ("Fiber 100", 100_000, 100_000, "FIBER", 4900),
    ("Wireless 25", 25_600, 3_072, "TERRESTRIALFIXEDWIRELESS", 4500),
    ("Wireless 50", 50_000, 10_000, "TERRESTRIALFIXEDWIRELESS", 5500),
    ("Wireless 100 Unlicensed", 100_000, 20_000, "UNLICENSEDTERRESTRIALFIXEDWIRELESS", 6500),
    ("Wireless 100 CBRS", 100_000, 20_000, "LICENSEDBYRULETERRESTRIALFIXEDWIRELESS", 6900),
    ("Wireless 200 Licensed", 200_000, 50_000, "LICENSEDTERRESTRIALFIXEDWIRELESS", 8900),
    ("DSL 10", 10_000, 1_000, "ASYMMETRICXDSL", 3500),
    ("DSL 25", 25_000, 3_000, "ASYMMETRICXDSL", 4000),
    ("SDSL 2", 2_000, 2_000, "SYMMETRICXDSL", 3900),
    ("T1", 1_544, 1_544, "COPPERWIRELINE", 19900),
    ("Cable 300", 300_000, 20_000, "CABLEMODEM", 5900),
    ("Cable 150", 150_000, 10_000, "CABLEMODEM", 4900),
    ("Satellite 25", 25_000, 3_000, "SATELLITE", 6900),
    ("Low orbit 150", 150_000, 20_000, "NONGEOSTATIONARYSATELLITE", 11000),
    ("Powerline 20", 20_000, 5_000, "ELECTRICPOWERLINE", 3000),
    ("Special circuit", 768, 768, "OTHER", 9900),
    ("Telemetry", 128, 64, "OTHER", 900),
]
#: name, type, application, cents
OTHER_SERVICES = [
    ("Router rental", "RECURRING", "DEBIT", 500),
    ("Static address", "RECURRING", "DEBIT", 1000),
    ("Voice line", "VOICE", "DEBIT", 2000),
    ("Install", "ONETIME", "DEBIT", 9900),
    ("Overage", "OVERAGE", "DEBIT", 100),
    ("Loyalty credit", "EXPIRING", "CREDIT", 500),
    ("Adjustment", "ADJUSTMENT", "CREDIT", None),
    ("Battery rental", "RECURRING", "DEBIT", 300),
    ("Managed router", "RECURRING", "DEBIT", 800),
    ("Voice line business", "VOICE", "DEBIT", 3500),
    ("Truck roll", "ONETIME", "DEBIT", 7500),
]
#: All that is for sale, as (name, type, application, cents): data services first.
SERVICES = [(name, "DATA", "DEBIT", cents) for name, _, _, _, cents in DATA_SERVICES] + OTHER_SERVICES
#: Which data service a customer has, drawn from these rows.
DATA_OF = [0] * 14 + [1] * 12 + [2] * 12 + [3] * 14 + [4] * 12 + [5] * 9 + [6] * 7 + [7] * 4 + [8] * 3 + [9] * 3
DATA_OF += [10, 11, 12, 12, 13, 14, 15, 16, 17, 18]
#: How many groups of accounts there are, and how many of them an ordinary account may be in.
GROUPS = 44
COMMON_GROUPS = 20
#: A field of a model: name, type, whether it is primary, required and unique
_MAC, _SERIAL = ("MAC Address", "MAC_ADDRESS", True), ("Serial", "TEXT", False)
_SIM = [("IMSI", "IMSI", True), _SERIAL, ("Ki", "LTEAUTHKEY", False), ("OPc", "OPOPC", False)]
#: name, row of the manufacturer, row of the category, device type, fields
MODELS = (
    [
        (f"Sample Radio {band}", n % 3, 0, "CPE", [_MAC, _SERIAL])
        for n, band in enumerate(["5 GHz", "3 GHz", "6 GHz", "60 GHz"])
    ]
    + [(f"Sample ONT {n}", 3, 1, "CPE", [_MAC, _SERIAL]) for n in range(1, 6)]
    + [(f"Placeholder Router {n}", 2, 2, "ROUTER", [_MAC, _SERIAL]) for n in range(1, 9)]
    + [(f"Mock LTE {n}", 4, 3, "CPE", _SIM) for n in range(1, 3)]
    + [(f"Example Battery {n}", 5, 4, "OTHER", [_SERIAL]) for n in range(1, 4)]
    + [("Generic cable", 5, 4, "OTHER", [])]
    + [(f"Sample Sector {n}", 0, 0, "ACCESS_POINT", [_MAC]) for n in range(1, 3)]
)
#: The fields of all models, in the order of the models.
MODEL_FIELDS = [field for model in MODELS for field in model[4]]
#: Who else than an address has an item, and who else than an account an address.
ITEM_OWNERS = ["InventoryLocation", "InventoryLocation", "NetworkSite", "Vehicle", "User", "GenericInventoryAssignee"]
ADDRESS_OWNERS = ["NetworkSite", "InventoryLocation", "TowercoverageSubmission", "Vendor"]
#: How many items stand at an account's home, drawn from these.
ITEMS_AT = [1, 2, 2, 2, 3, 3, 3, 4]
CITIES = ["Exampleville", "Sampleton", "Nowhere Springs", "Mockingham", "Placeholder City"]
STREETS = ["Sample Street", "Example Road", "Placeholder Lane", "Invented Avenue"]
#: Kinds of address.
HOME, MAILING, SECOND, FOREIGN = range(4)
