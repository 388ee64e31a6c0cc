"""What can be asked of a sandbox: its size, its speed, its limits and its faults, as values and as command-line arguments.

Only describing belongs here. Faults are decided in `faults.py` and served in `frame.py`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

#: Customers for each scale; three inventory items come with each.
SCALES = {"small": 2_000, "medium": 20_000, "large": 200_000}
#: Boligsiden's villas for each scale; other homes come on top, three to ten villas. København alone has 14,368 at medium.
HOMES = {"small": 2_000, "medium": 50_000, "large": 230_000}

#: BrandMeister's devices for each scale; the records of TGIF and hearham come in proportion. Medium is as it was in June 2025.
DEVICES = {"small": 3_420, "medium": 34_200, "large": 684_000}

#: GitLab's projects, pipelines of each and jobs of each of these, for each scale.
CI_SIZES = {"small": (6, 12, 10), "medium": (50, 45, 20), "large": (200, 200, 30)}

#: What is served: the names under which each API is mounted.
SOURCES = frozenset({"boligsiden", "brandmeister", "gitlab", "hearham", "sonar", "tgif"})

#: Options that make the data or the server, so that they cannot change while it runs.
FIXED = frozenset(
    {"port", "sources", "scale", "customers", "seed", "ids", "token", "homes", "zipless_share", "biggest_zip_share"}
    | {"devices", "projects", "pipelines_per_project", "jobs_per_pipeline", "regular"}
)

_NAMED_KINDS = {
    "html": "HTTP 200 with a page for humans",
    "empty": "HTTP 200 without a body",
    "cut": "an answer that ends before its Content-Length",
    "stall": "no answer for `seconds`, then a closed connection",
    "reset": "a connection reset without an answer",
    "shrunken": "a well-formed answer in which every list is empty",
    "partial": "errors beside null where the first list should be",
    "throttle": "HTTP 200 with a message that says to slow down",
    "timeout": "HTTP 504 after `seconds`",
    "redirect": "HTTP 302 to another host",
}
_DEFAULT_SECONDS = {"stall": 120.0, "timeout": 1.0}
_FAULT = re.compile(
    r"(?P<kind>[a-z0-9]+)(?::(?P<share>[^~@]*))?(?:~(?P<settings>[^@]*))?(?:@(?P<match>.*))?", re.DOTALL
)
_SINGULAR = {"sources": "--source", "hidden_limits": "--hidden-limit"}
#: The lowest values of options that are numbers.
_LEAST = {
    "port": 0,
    "latency_ms": 0,
    "page_cap": 1,
    "hit_cap": 1,
    "projects": 1,
    "pipelines_per_project": 1,
    "jobs_per_pipeline": 1,
    "api_limit": 1,
    "count_limit": 0,
    "offset_limit": 1,
    "complexity_limit": 1,
}
_SYNTAX = "write KIND[:SHARE][~NAME=VALUE,...][@REGEX], such as 503:0.05 or 'html~times=1@accounts page=3'"


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that goes wrong, for all requests or some.

    `kind` is an HTTP status from 400 to 599, or a word: html, empty, cut, stall, reset, shrunken, partial, throttle, timeout,
    redirect. Which requests: those whose label `match` finds something in, but not the first `after` of them, of these a
    `share`, and `times` in all. `seconds` is how long stall and timeout take, and what Retry-After says with a status of 429
    or 503 (without it there is none).
    """

    kind: str
    share: float = 1.0
    times: int | None = None
    match: str | None = None
    after: int = 0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not _is_status(self.kind) and self.kind not in _NAMED_KINDS:
            raise ValueError(
                f"There is no fault {self.kind!r}. There are: an HTTP status from 400 to 599, {', '.join(_NAMED_KINDS)}."
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"A fault's share is between 0 and 1, not {self.share}.")
        if (self.times is not None and self.times < 0) or self.after < 0:
            raise ValueError(f"A fault's times and after count requests and cannot be negative: {self}.")
        if self.seconds is not None and self.seconds < 0:
            raise ValueError(f"A fault's seconds cannot be negative: {self.seconds}.")
        if self.match is not None:
            try:
                re.compile(self.match)
            except re.error as error:
                raise ValueError(
                    f"A fault's match must be a regular expression, but {self.match!r} is not: {error}."
                ) from None

    @property
    def status(self) -> int | None:
        """The HTTP status to answer, for kinds that are one."""
        return int(self.kind) if _is_status(self.kind) else None

    @property
    def duration(self) -> float:
        """For how many seconds the request is held."""
        return _DEFAULT_SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read the command line's form, `KIND[:SHARE][~NAME=VALUE,...][@REGEX]`.

        NAME is times, after or seconds. Everything behind the first @ is the expression that the label must match, so it may
        hold any character. Raises ValueError with a sentence.
        """
        found = _FAULT.fullmatch(text)
        if found is None:
            raise ValueError(f"The fault {text!r} is not understood: {_SYNTAX}.")
        given: dict[str, Any] = {"kind": found["kind"], "match": found["match"]}
        if found["share"] is not None:
            given["share"] = _number(text, "share", found["share"], float)
        for setting in filter(None, (found["settings"] or "").split(",")):
            name, _, value = setting.partition("=")
            if name not in {"times", "after", "seconds"}:
                raise ValueError(f"The fault {text!r} has no setting {name!r}: times, after and seconds are known.")
            given[name] = _number(text, name, value, float if name == "seconds" else int)
        return cls(**given)

    def __str__(self) -> str:
        """The command line's form; `parse` reads it back."""
        settings = ",".join(
            f"{name}={value:g}" for name in ("times", "after", "seconds") if (value := getattr(self, name))
        )
        if self.times == 0:
            settings = f"times=0{',' if settings else ''}{settings}"
        share = "" if self.share == 1 else f":{self.share!r}"
        return f"{self.kind}{share}{'~' + settings if settings else ''}{'' if self.match is None else '@' + self.match}"


class PagingChange(msgspec.Struct, frozen=True, kw_only=True):
    """A row that changes while someone reads pages: after every `every`-th request that reads `entity`.

    delete removes the row with the lowest id, so that all later rows move up; insert adds one at the end; touch changes the
    row with the lowest id, which moves it to the end of a list sorted by time. GitLab's lists have the newest first, so there
    delete and insert are at the front.
    """

    entity: str
    action: Literal["delete", "insert", "touch"]
    every: int = 1
    times: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"A change while paging happens every 1 or more requests, not every {self.every}.")


class SandboxOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a sandbox is started. All but those in `FIXED` can be changed while it runs."""

    #: 0 takes a free one; the host is always 127.0.0.1
    port: int = 0
    #: the APIs to serve; data is made for these alone
    sources: frozenset[str] = SOURCES
    #: added to each request, on top of the time that answering takes
    latency_ms: float = 0.0
    scale: Literal["small", "medium", "large"] = "small"
    #: instead of what the scale says
    customers: int | None = None
    seed: int = 0
    #: sparse ids lie several apart and jump by a million in the middle
    ids: Literal["dense", "sparse"] = "dense"
    faults: tuple[Fault, ...] = ()
    #: rows on a page at most, whatever is asked
    page_cap: int = 1000
    #: requests per second, and as many at once; none are refused without it
    rate_limit: float | None = None
    #: what a request over the limit gets: 200 with a message, or a real 429 with Retry-After
    rate_limit_status: Literal[200, 429] = 200
    #: what searching by `id` or a column ending in `_id` does
    id_filter: Literal["honoured", "ignored", "refused"] = "honoured"
    #: the only bearer token that is let in; any but an empty one without it
    token: str | None = None
    #: root fields or entities that the token may not see; GitLab's projects by id or path, with =404 to hide them
    denied: frozenset[str] = frozenset()
    #: lists that fail when their page_info is selected
    no_page_info: frozenset[str] = frozenset()
    paging_changes: tuple[PagingChange, ...] = ()
    #: Boligsiden's villas, instead of what the scale says
    homes: int | None = None
    #: how many of Boligsiden's homes have no zip code
    zipless_share: float = 0.0005
    #: how many of a municipality's homes have its largest zip code; as they fall without it
    biggest_zip_share: float | None = None
    #: how many hits of one of Boligsiden's searches can be paged through
    hit_cap: int = 10_000
    #: whether Boligsiden's pages repeat and skip homes when they are not sorted by address
    repeats: bool = False

    #: BrandMeister's devices, instead of what the scale says; TGIF's and hearham's records come in proportion
    devices: int | None = None
    #: what BrandMeister does with ?repeater=true
    device_query: Literal["honoured", "refused"] = "honoured"
    #: what the registries' documents can be asked for again by
    validators: Literal["both", "etag", "last-modified", "none"] = "both"
    #: whether the registries compress for whom accepts it
    gzip: bool = True

    #: GitLab's projects, pipelines of each and jobs of each of these, instead of what the scale says
    projects: int | None = None
    pipelines_per_project: int | None = None
    jobs_per_pipeline: int | None = None
    #: whether all of GitLab's pipelines are plain successes: no retries, children, bridges, expiry, nothing running
    regular: bool = False
    #: requests that GitLab takes in `limit_seconds`, as its headers announce; none are refused and none announced without it
    api_limit: int | None = None
    limit_seconds: float = 60.0
    #: limits that GitLab's headers do not announce: TOPIC=COUNT in `limit_seconds`, such as trace=100
    hidden_limits: frozenset[str] = frozenset()
    #: rows above which GitLab's pages have no totals
    count_limit: int = 10_000
    #: rows of GitLab's projects that can be paged through by offset
    offset_limit: int = 50_000
    #: what a GraphQL query may cost on GitLab
    complexity_limit: int = 250
    #: whether GitLab redirects to another host for archives
    artifact_redirect: bool = False
    #: whether GitLab's archives are served in ranges
    ranges: bool = True

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"The sandbox's {name} is {least} or more, not {value}.")
        if self.port > 65535:
            raise ValueError(f"The sandbox's port is at most 65535, not {self.port}.")
        self._check_sizes()
        for name in ("zipless_share", "biggest_zip_share"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"The sandbox's {name} is between 0 and 1, not {getattr(self, name)}.")
        if unknown := sorted(self.sources - SOURCES):
            raise ValueError(f"The sandbox serves no {', '.join(unknown)}. It serves: {', '.join(sorted(SOURCES))}.")
        if self.rate_limit is not None and self.rate_limit <= 0:
            raise ValueError(f"The sandbox's rate_limit is above 0 requests a second, not {self.rate_limit}.")

    def _check_sizes(self) -> None:
        if self.customers is not None and self.customers < 20:
            raise ValueError(f"The sandbox needs 20 customers or more, not {self.customers}.")
        if self.homes is not None and self.homes < 36:
            raise ValueError(f"The sandbox needs 36 homes or more, one for each municipality, not {self.homes}.")
        if self.devices is not None and self.devices < 20:
            raise ValueError(f"The sandbox needs 20 devices or more, not {self.devices}.")
        for entry in sorted(self.hidden_limits):
            if not re.fullmatch(r"\w+=\d+", entry):
                raise ValueError(f"A hidden limit is TOPIC=COUNT, such as trace=100, not {entry!r}.")
        if self.limit_seconds <= 0:
            raise ValueError(f"The sandbox's limit_seconds is above 0, not {self.limit_seconds}.")

    @property
    def size(self) -> int:
        """How many customers there are."""
        return SCALES[self.scale] if self.customers is None else self.customers

    @property
    def home_count(self) -> int:
        """How many villas Boligsiden has."""
        return HOMES[self.scale] if self.homes is None else self.homes

    @property
    def device_count(self) -> int:
        """How many devices BrandMeister has."""
        return DEVICES[self.scale] if self.devices is None else self.devices

    @property
    def ci_size(self) -> tuple[int, int, int]:
        """How many projects GitLab has, pipelines each of them, and jobs each of these."""
        projects, pipelines, jobs = CI_SIZES[self.scale]
        return (
            projects if self.projects is None else self.projects,
            pipelines if self.pipelines_per_project is None else self.pipelines_per_project,
            jobs if self.jobs_per_pipeline is None else self.jobs_per_pipeline,
        )

    def changed(self, **changes: Any) -> SandboxOptions:
        """The same options with some replaced; faults may be given in the command line's form.

        Raises ValueError with a sentence for names or values that do not fit.
        """
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        unknown = sorted(set(changes) - set(fields))
        if unknown:
            raise ValueError(f"The sandbox has no option {', '.join(unknown)}. It has: {', '.join(fields)}.")
        if "faults" in changes:
            changes["faults"] = [Fault.parse(f) if isinstance(f, str) else f for f in changes["faults"]]
        try:
            return msgspec.convert(msgspec.to_builtins({**fields, **changes}), SandboxOptions)
        except msgspec.ValidationError as error:
            raise ValueError(f"The sandbox's options do not fit: {str(error).rstrip('.')}.") from None

    def to_args(self) -> list[str]:
        """Command-line arguments that give the same options; see `command.py`."""
        args: list[str] = []
        standard = SandboxOptions()
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value == getattr(standard, name):
                continue
            flag = f"--{name.replace('_', '-')}"
            if name == "faults":
                args += [part for fault in value for part in ("--fault", str(fault))]
            elif name == "paging_changes":
                args += [part for one in value for part in ("--paging-change", msgspec.json.encode(one).decode())]
            elif isinstance(value, frozenset):
                flag = _SINGULAR.get(name, flag)
                args += [part for one in sorted(value) for part in (flag, one)]
            else:
                args += [flag, str(value)]
        return args


def _is_status(kind: str) -> bool:
    return kind.isdecimal() and len(kind) == 3 and "400" <= kind <= "599"


def _number(text: str, name: str, value: str, kind: type[int | float]) -> float:
    try:
        return kind(value)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"The fault {text!r} needs {what} as its {name}, not {value!r}.") from None
