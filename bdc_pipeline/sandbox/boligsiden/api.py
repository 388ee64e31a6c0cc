"""Boligsiden over HTTP: `GET /search/addresses`, `GET /search/cases` and `GET /addresses/{addressID}`, without a token.

A list's label, which faults match against, is its topic and what it asks for, in this order, as far as it is asked for:
`addresses municipality=København type=villa page=3 zip=2100,2300 area=50..99 price=..2000000 sort=-address records=20`. The page
is always there; sort is `address` or, descending, `-address`; records is there unless it is 50. One home is `address ID`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from bdc_pipeline.sandbox.boligsiden.changes import Changes
from bdc_pipeline.sandbox.boligsiden.generate import build
from bdc_pipeline.sandbox.boligsiden.record import (
    ADDRESS_KEYS,
    BUILDING_KEYS,
    CASE_KEYS,
    QUICK,
    REGISTRATION_KEYS,
    Records,
)
from bdc_pipeline.sandbox.boligsiden.search import Query, RefusedError, Search, understand
from bdc_pipeline.sandbox.frame import JSON, Answer, Call
from bdc_pipeline.sandbox.options import SandboxOptions

#: How many records a page of each list has at most.
_LARGEST = {"addresses": 50, "cases": 500}
#: entity -> where its rows are in a record, and their keys
_CHILDREN = {
    "Building": ("buildings", BUILDING_KEYS),
    "Registration": ("registrations", REGISTRATION_KEYS),
    "Case": ("cases", CASE_KEYS),
}


class BoligsidenSource:
    """All that the API serves."""

    name = "boligsiden"

    def __init__(self, options: SandboxOptions) -> None:
        self.world = build(
            homes=options.home_count,
            seed=options.seed,
            zipless_share=options.zipless_share,
            biggest_zip_share=options.biggest_zip_share,
        )
        self.records = Records(self.world)
        self.search = Search(self.world, self.records)
        self.changes = Changes(self.world, self.search)
        self._reads = 0
        self.configure(options)

    def configure(self, options: SandboxOptions) -> None:
        """Take over changed options."""
        self.options = options

    def read(self, request: Request, body: bytes) -> Call | Answer:  # noqa: ARG002  # the protocol's; a GET has none
        """Understand a request; errors are JSON."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if request.method != "GET":
            return Answer(_message("Method Not Allowed"), 405, (*JSON, (b"allow", b"GET")))
        kind, _, what = path.removeprefix("/").partition("/")
        if kind == "addresses" and what and "/" not in what:
            return _OneCall(self, what)
        if kind == "search" and what in _LARGEST:
            return self._read_list(request, what)
        return Answer(_message("Not Found"), 404)

    def _read_list(self, request: Request, topic: str) -> Call | Answer:
        given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            # What is said twice is as a comma list
            given[name] = f"{given[name]},{value}" if name in given else value
        cap = self.options.page_cap
        pages = max(1, self.options.hit_cap // min(_LARGEST["addresses"], cap))
        try:
            query = understand(given, topic=topic, largest=min(_LARGEST[topic], cap), pages=pages)
        except RefusedError as refused:
            valid = {"validValues": refused.valid} if refused.valid else {}
            return Answer(msgspec.json.encode({"error": "Bad Request", "message": str(refused), **valid}), 400)
        return _ListCall(self, topic, query)

    def change(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """See changes.py."""
        return self.changes.apply(action, arguments)

    def rows(self, entity: str, columns: Sequence[str]) -> list[list[Any]]:
        """What is served, by addressID; what is absent is None.

        An Address has its record's keys and `municipalityCode`. A Building, Registration or Case has its own keys and its
        home's `addressID`, and stands in its record's order.
        """
        if entity != "Address" and entity not in _CHILDREN:
            raise ValueError(f"There is no entity {entity!r}. There are: Address, {', '.join(_CHILDREN)}.")
        known = ADDRESS_KEYS | {"municipalityCode"} if entity == "Address" else _CHILDREN[entity][1] | {"addressID"}
        if entity == "Address":
            known = known.union(*self.world.overrides.values())
        if unknown := sorted(set(columns) - known):
            raise ValueError(f"{entity} has no column {', '.join(unknown)}.")
        living = sorted(self.world.living(), key=self.world.address_id)
        if entity == "Address":
            return [self._address_row(n, columns) for n in living]
        return [row for n in living for row in self._child_rows(n, _CHILDREN[entity][0], columns)]

    def _address_row(self, n: int, columns: Sequence[str]) -> list[Any]:
        world = self.world
        if n not in world.overrides and n not in world.removed and QUICK.keys() >= set(columns):
            return [QUICK[column](world, n) for column in columns]
        record = {"municipalityCode": QUICK["municipalityCode"](world, n), **self.records.record(n)}
        return [record.get(column) for column in columns]

    def _child_rows(self, n: int, key: str, columns: Sequence[str]) -> list[list[Any]]:
        if key == "cases" and n not in self.world.listings and n not in self.world.overrides:
            return []
        record = self.records.record(n)
        children = record.get(key)
        if not isinstance(children, list):
            return []
        home = {"addressID": record.get("addressID")}
        return [[{**child, **home}.get(column) for column in columns] for child in children if isinstance(child, dict)]

    def served(self, call: Call) -> None:
        """Change what is to change while pages are read."""
        if not isinstance(call, _ListCall) or call.topic != "addresses":
            return
        self._reads += 1
        for change in self.options.paging_changes:
            if change.entity == "Address":
                self.changes.while_paging(change, self._reads, call.query.filters)


@dataclass(frozen=True)
class _ListCall:
    source: BoligsidenSource
    topic: str
    query: Query

    @property
    def label(self) -> str:
        return self.query.label

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.topic,)

    @property
    def selected(self) -> frozenset[str]:
        return frozenset()

    def answer(self) -> Answer:
        source = self.source
        encode = source.records.record if self.topic == "addresses" else source.records.case
        shown = source.search.page(self.query, repeats=source.options.repeats)
        return self._listed(b",".join(msgspec.json.encode(encode(n)) for n in shown), self._hits)

    def shrunken(self) -> Answer:
        return self._listed(b"", 0)

    def partial(self) -> Answer:
        """The right count over an empty page."""
        return self._listed(b"", self._hits)

    def throttled(self) -> Answer:
        return _throttled()

    @property
    def _hits(self) -> int:
        return len(self.source.search.rows(self.query.filters))

    def _listed(self, records: bytes, hits: int) -> Answer:
        return Answer(b'{"totalHits":%d,"%s":[%s]}' % (hits, self.topic.encode(), records))


@dataclass(frozen=True)
class _OneCall:
    source: BoligsidenSource
    identifier: str

    @property
    def label(self) -> str:
        return f"address {self.identifier}"

    @property
    def topics(self) -> tuple[str, ...]:
        return ("address",)

    @property
    def selected(self) -> frozenset[str]:
        return frozenset()

    def answer(self) -> Answer:
        n = self.source.world.row(self.identifier)
        if n is None:
            return Answer(_message("Address not found"), 404)
        return Answer(msgspec.json.encode(self.source.records.record(n)))

    def shrunken(self) -> Answer:
        """A record that says nothing but whose it is."""
        return Answer(msgspec.json.encode({"addressID": self.identifier}))

    def partial(self) -> Answer:
        """A record that does not even say that."""
        return Answer(b"{}")

    def throttled(self) -> Answer:
        return _throttled()


def _throttled() -> Answer:
    return Answer(_message("Too many requests, slow down."))


def _message(message: str) -> bytes:
    return msgspec.json.encode({"message": message})
