"""The registries over HTTP: a few paths each, all GET, all without a token.

Labels, which faults match against: `brandmeister device`, `brandmeister device repeater=true`, `brandmeister device id=N`,
`brandmeister talkgroup`, `tgif talkgroups`, `hearham repeaters`.

Changes, on the document that an argument `document` chooses where there are two (BrandMeister's `devices`, which is meant
without it, and `talkgroups`): those of `changes.py`; `body` with `document` and `base64`, which serves exactly these bytes until
`restore`. BrandMeister has a third document for `body`: `repeaters`, the answer to repeater=true.
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from bdc_pipeline.sandbox.dmr.changes import DEVICE, REPEATER, TALKGROUP, TGIF_TALKGROUP, Kind, Table
from bdc_pipeline.sandbox.dmr.documents import Document, Headers
from bdc_pipeline.sandbox.dmr.generate import Registries, registries
from bdc_pipeline.sandbox.dmr.records import Record, array, is_repeater, keys_of, names_by_id
from bdc_pipeline.sandbox.frame import JSON, Answer, Call, Source
from bdc_pipeline.sandbox.options import SOURCES, SandboxOptions

#: Requests a minute that BrandMeister announces; to refuse more is up to the option rate_limit.
_ANNOUNCED = 60


@dataclass(frozen=True)
class _Shape:
    """What makes a document out of a table's records."""

    table: str
    encode: Callable[[Sequence[Record]], bytes] = array
    keep: Callable[[Record], bool] | None = None


class _Registry:
    """What the three have in common: tables of records, and documents made of them."""

    name: str
    #: document: what it is made of; a table's name is also that of its main document
    shapes: Mapping[str, _Shape]

    def __init__(self, options: SandboxOptions, data: Registries) -> None:
        self.options = options
        self._data = data
        if options.sources != SOURCES:
            # Asked for by name, so it will be used; where all are served, most users need one and should not wait for others
            self.documents  # noqa: B018  # makes them

    def configure(self, options: SandboxOptions) -> None:
        """Take over changed options."""
        self.options = options

    def served(self, call: Call) -> None:
        """Nothing changes by being read."""

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The records by table, the default one first."""
        return {name: Table(kind, records, self._data.seed) for name, (kind, records) in self.load(self._data).items()}

    @cached_property
    def documents(self) -> dict[str, Document]:
        """What is served, by document."""
        return {
            name: Document(lambda name=name: self.encoded(name), compressed=self.options.gzip)  # type: ignore[misc]  # binds now
            for name in self.shapes
        }

    def load(self, data: Registries) -> Mapping[str, tuple[Kind, Sequence[Record]]]:
        """The generated records by table."""
        raise NotImplementedError

    def listed(self, document: str) -> Sequence[Record]:
        """The records of a document."""
        shape = self.shapes[document]
        records = self.tables[shape.table].records
        return records if shape.keep is None else list(filter(shape.keep, records))

    def encoded(self, document: str, share: int = 1) -> bytes:
        """A document made of its records, or of the first of so many equal parts."""
        records = self.listed(document)
        return self.shapes[document].encode(records if share == 1 else records[: len(records) // share])

    def extra(self) -> Headers:
        """Headers of each answer."""
        return ()

    def change(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """See changes.py for all but body and restore."""
        given = dict(arguments)
        if action == "body":
            return self._replace(given)
        document = given.pop("document", None)
        if action == "restore":
            for name in self.documents if document is None else [document]:
                self._document(name).replace(None)
            return None
        table = next(iter(self.tables)) if document is None else document
        if table not in self.tables:
            raise ValueError(f"{self.name} has no records of {table!r} to change. It has: {', '.join(self.tables)}.")
        result = self.tables[table].apply(action, given)
        for name, shape in self.shapes.items():
            if shape.table == table:
                self.documents[name].publish()
        return result

    def _replace(self, given: Mapping[str, Any]) -> None:
        if not {"base64"} <= set(given) <= {"base64", "document"}:
            raise ValueError(f"The change 'body' needs base64 and may have a document; given is: {', '.join(given)}.")
        try:
            body = b64decode(given["base64"], validate=True)
        except (binascii.Error, TypeError) as error:
            raise ValueError(f"The change 'body' needs its bytes in base64: {error}.") from None
        self._document(given.get("document", next(iter(self.shapes)))).replace(body)

    def _document(self, name: str) -> Document:
        if name not in self.shapes:
            raise ValueError(f"{self.name} has no document {name!r}. It has: {', '.join(self.shapes)}.")
        return self.documents[name]

    def rows(self, entity: str, columns: Sequence[str]) -> list[list[Any]]:
        """All records of an entity in the order of the document, also while other bytes are served."""
        for table in self.tables.values():
            if table.kind.entity == entity:
                return table.rows(columns)
        entities = ", ".join(table.kind.entity for table in self.tables.values())
        raise ValueError(f"{self.name} has no entity {entity!r}. It has: {entities}.")


class BrandMeister(_Registry):
    """BrandMeister v2."""

    name = "brandmeister"
    shapes = {  # noqa: RUF012  # never changed
        "devices": _Shape("devices"),
        "repeaters": _Shape("devices", keep=is_repeater),
        "talkgroups": _Shape("talkgroups", names_by_id),
    }

    def __init__(self, options: SandboxOptions, data: Registries) -> None:
        super().__init__(options, data)
        self._minute, self._asked = 0, 0

    def load(self, data: Registries) -> Mapping[str, tuple[Kind, Sequence[Record]]]:
        """Devices and talkgroups."""
        return {"devices": (DEVICE, data.devices), "talkgroups": (TALKGROUP, data.talkgroups)}

    def extra(self) -> Headers:
        """What it tells about its limit: how many requests of this minute are left."""
        minute = int(time.monotonic() // 60)
        self._asked = self._asked + 1 if minute == self._minute else 1
        self._minute = minute
        left = max(0, _ANNOUNCED - self._asked)
        return ((b"x-ratelimit-limit", b"%d" % _ANNOUNCED), (b"x-ratelimit-remaining", b"%d" % left))

    def read(self, request: Request, body: bytes) -> Call | Answer:  # noqa: ARG002  # all are GET
        """Understand a request."""
        path = _path(request)
        if request.method != "GET":
            return _not_allowed()
        if path == "/v2/talkgroup":
            return _DocumentCall(self, request, "brandmeister talkgroup", "talkgroups")
        if path == "/v2/device":
            return self._read_list(request)
        identifier = path.removeprefix("/v2/device/")
        if identifier != path and identifier.isdecimal():
            return _DeviceCall(self, request, f"brandmeister device id={identifier}", int(identifier))
        return _message("Not found.", 404)

    def _read_list(self, request: Request) -> Call:
        query = request.query_params.multi_items()
        if not query:
            return _DocumentCall(self, request, "brandmeister device", "devices")
        label = f"brandmeister device {urlencode(query)}"
        if query == [("repeater", "true")] and self.options.device_query == "honoured":
            return _DocumentCall(self, request, label, "repeaters")
        return _RefusedCall(self, request, label)


class Tgif(_Registry):
    """TGIF's list of talkgroups."""

    name = "tgif"
    shapes = {"talkgroups": _Shape("talkgroups")}  # noqa: RUF012  # never changed

    def load(self, data: Registries) -> Mapping[str, tuple[Kind, Sequence[Record]]]:
        """Talkgroups."""
        return {"talkgroups": (TGIF_TALKGROUP, data.tgif)}

    def read(self, request: Request, body: bytes) -> Call | Answer:  # noqa: ARG002  # all are GET
        """Understand a request."""
        if _path(request) != "/dmr/talkgroups/json":
            return _message("Not found.", 404)
        if request.method != "GET":
            return _not_allowed()
        return _DocumentCall(self, request, "tgif talkgroups", "talkgroups")


class Hearham(_Registry):
    """hearham's list of repeaters."""

    name = "hearham"
    shapes = {"repeaters": _Shape("repeaters")}  # noqa: RUF012  # never changed

    def load(self, data: Registries) -> Mapping[str, tuple[Kind, Sequence[Record]]]:
        """Repeaters."""
        return {"repeaters": (REPEATER, data.hearham)}

    def read(self, request: Request, body: bytes) -> Call | Answer:  # noqa: ARG002  # all are GET
        """Understand a request."""
        if _path(request) != "/api/repeaters/v1":
            return _message("Not found.", 404)
        if request.method != "GET":
            return _not_allowed()
        return _DocumentCall(self, request, "hearham repeaters", "repeaters")


def sources(options: SandboxOptions) -> list[Source]:
    """Those of the registries that are asked for, with the same sites in each."""
    data = registries(options.device_count, options.seed)
    known: list[type[BrandMeister | Tgif | Hearham]] = [BrandMeister, Tgif, Hearham]
    return [registry(options, data) for registry in known if registry.name in options.sources]


@dataclass(frozen=True)
class _Call:
    """A request that was understood."""

    source: _Registry
    request: Request
    label: str

    @property
    def topics(self) -> tuple[str]:
        """The registry and what is read of it."""
        return (" ".join(self.label.split()[:2]),)

    @property
    def selected(self) -> frozenset[str]:
        """No fields are chosen: all are sent."""
        return frozenset()

    def throttled(self) -> Answer:
        """A status of 200, but a message that says to slow down."""
        return _message("Too many requests, slow down.", 200, self.source.extra())


@dataclass(frozen=True)
class _DocumentCall(_Call):
    """A whole document."""

    document: str

    def answer(self) -> Answer:
        """The document, or 304 if the client has it."""
        source = self.source
        return source.documents[self.document].answer(self.request.headers, source.options, source.extra())

    def shrunken(self) -> Answer:
        """A document without a record."""
        return self._unvalidated(self.source.shapes[self.document].encode([]))

    def partial(self) -> Answer:
        """Its first tenth, well-formed."""
        return self._unvalidated(self.source.encoded(self.document, 10))

    def _unvalidated(self, body: bytes) -> Answer:
        """With no validators: a client that kept such an answer's could not be told from one that kept the document's."""
        return Answer(body, headers=(*JSON, *self.source.extra()))


@dataclass(frozen=True)
class _DeviceCall(_Call):
    """One device with what only its own page says."""

    identifier: int

    def answer(self) -> Answer:
        """The device, or 404."""
        found = self.source.tables["devices"].find(self.identifier)
        if found is None:
            return _message("Not found.", 404, self.source.extra())
        return self._sent({**_DETAIL, **keys_of(found)})

    def shrunken(self) -> Answer:
        """A device without a key."""
        return self._sent({})

    def partial(self) -> Answer:
        """Its first keys."""
        found = self.source.tables["devices"].find(self.identifier)
        return self._sent(dict(islice(keys_of(found).items(), 2)) if found is not None else {})

    def _sent(self, keys: Mapping[str, Any]) -> Answer:
        return Answer(msgspec.json.encode(keys), headers=(*JSON, *self.source.extra()))


@dataclass(frozen=True)
class _RefusedCall(_Call):
    """A query that BrandMeister does not take; counted as a request, unlike paths that do not exist."""

    def answer(self) -> Answer:
        """Status 400 with a message."""
        return _message("Unsupported query parameter", 400, self.source.extra())

    shrunken = partial = answer


#: What a device's own page says besides, unless the record says so itself.
_DETAIL: Mapping[str, Any] = {
    "website": None,
    "priorityDescription": None,
    "description": None,
    "created_at": "2020-01-01 00:00:00",
    "updated_at": "2025-06-01 00:00:00",
    "permissions": [],
    "statusText": "SYNTHETIC",
}


def _path(request: Request) -> str:
    path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return path


def _message(text: str, status: int, extra: Headers = ()) -> Answer:
    return Answer(msgspec.json.encode({"message": text}), status, (*JSON, *extra))


def _not_allowed() -> Answer:
    return _message("Method not allowed.", 405, ((b"allow", b"GET"),))
