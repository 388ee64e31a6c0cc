"""Requests to Sonar's GraphQL API, and its answers as pages of rows.

An answer with `errors`, with `data` null or partial, with HTML or with nothing is a failure, whatever its HTTP status
says: it is tried again and then reported. A record that cannot become a row is a reject; it costs no other record.
"""

import contextlib
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from bdc_pipeline.fetching.answers import Answer, BadAnswer, FetchError, Refused, Throttled, Unauthorized
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.effort import effort_of
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.entities import ACCOUNTS, FIELD_DATA, Entity, FieldKinds, Search
from bdc_pipeline.warehouse.stream import Effort, Reject

ENDPOINT = "/api/graphql"
COUNTS_A_REQUEST = 25
"""Root fields with an alias in one request of counts."""

T = TypeVar("T")


class PageInfoRefused(Refused):
    """The collection cannot be counted: some of Sonar's fail when `page_info` is selected."""


class PageInfo(msgspec.Struct, frozen=True):
    """What an answer says of its paging. All counts are under the request's filter."""

    page: int
    total_pages: int
    total_count: int
    records_per_page: int


class _Connection(msgspec.Struct):
    entities: msgspec.Raw
    page_info: PageInfo | None = None


class _Count(msgspec.Struct):
    total_count: int


class _Counted(msgspec.Struct):
    page_info: _Count


class _Trouble(msgspec.Struct):
    message: str = "(no message)"


class _Envelope(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None
    errors: list[_Trouble] | None = None


class _Key(msgspec.Struct):
    id: int


class _Members(msgspec.Struct):
    entities: list[_Key]
    page_info: _Count | None = None


class _Grouped(msgspec.Struct):
    """An account of which no more than this can be read."""

    id: int
    account_groups: _Members


@dataclass(slots=True)
class Page:
    """One page of a list, as rows.

    `groupless` are accounts that came with null in place of their groups, which is not the same as being in none.
    `ids` holds the ids of all records that came, those without a row too; `dropped` those that were left out on
    purpose (another owner's address, a secret field); `unread` counts records whose id could not be read.
    """

    info: PageInfo | None
    rows: list[msgspec.Struct] = field(default_factory=list)
    groups: list[t.CustomerGroup] = field(default_factory=list)
    group_totals: dict[int, int] = field(default_factory=dict)
    groupless: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    unread: int = 0


_TROUBLES: tuple[tuple[re.Pattern[str], Callable[[str, str], FetchError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), trouble)
    for pattern, trouble in (
        (r"rate.?limit|too many|\b429\b", lambda text, _: Throttled(f"Sonar asks to slow down: {text}")),
        (
            r"unauthenticated|^unauthorized\W*$|invalid token|token .*expired",
            lambda text, _: Unauthorized(f"Sonar does not accept the token: {text} Check SONAR_TOKEN.", status=401),
        ),
        (
            # "This action is unauthorized." is what the framework that Sonar is built with says of a missing right
            r"permission|not allowed|forbidden|access denied|unauthori[sz]ed|not authori[sz]ed",
            lambda text, root: Refused(
                f"The token's user lacks a permission for '{root}': {text} Give the user the right to read it, in Sonar's roles.",
                status=403,
            ),
        ),
        (
            r"cannot query field|unknown (argument|type|field)|is not defined by type",
            lambda text, root: Refused(
                f"This Sonar's schema differs from the one that '{root}' is asked by: {text}", status=400
            ),
        ),
        (
            r"aggregate|does not exist",
            lambda text, root: PageInfoRefused(f"'{root}' cannot be counted: {text}", status=400),
        ),
        (
            r"cannot (search|filter|sort)|not searchable|invalid (attribute|search)",
            lambda text, root: Refused(f"'{root}' cannot be searched so: {text}", status=400),
        ),
    )
)


def trouble_of(messages: Sequence[str], root: str) -> FetchError:
    """The error behind the messages of an answer: whether to slow down, to give up, or to try again.

    Sonar documents no codes, so the words decide (an unknown field carries GraphQL's own wording; a missing
    permission arrives with HTTP 200).
    """
    text = "; ".join(dict.fromkeys(messages)) or "(no message)"
    for pattern, trouble in _TROUBLES:
        if pattern.search(text):
            return trouble(text, root)
    return BadAnswer(f"'{root}' was answered with an error: {text}")


class SonarClient:
    """Sonar's lists, page by page. May be used by many threads.

    Args:
        session: where requests go; its base address is the instance's.
    """

    def __init__(self, session: ApiSession) -> None:
        self.session = session
        self._uncounted: set[str] = set()

    def now(self) -> dt.datetime:
        """The server's clock, from its latest answer; this machine's before the first."""
        return self.session.server_time or dt.datetime.now(dt.UTC)

    def effort(self) -> Effort:
        """What has been sent and received."""
        return effort_of(self.session)

    # -- requests ----------------------------------------------------------------------------------------------

    def _ask(
        self, query: str, variables: Mapping[str, Any], root: str, *, timeout_attempts: int | None = None
    ) -> dict[str, msgspec.Raw]:
        """Sends a query and returns its data, whole.

        Raises:
            FetchError: what came after all attempts was no such data.
        """
        body = msgspec.json.encode({"query": query, "variables": variables})

        def parse(answer: Answer) -> dict[str, msgspec.Raw]:
            return self._data_of(answer, root)

        return self.session.fetch(
            "POST",
            ENDPOINT,
            parse=parse,
            data=body,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            timeout_attempts=timeout_attempts,
        )

    def _data_of(self, answer: Answer, root: str) -> dict[str, msgspec.Raw]:
        if not answer.content.strip():
            raise BadAnswer(f"'{root}' was answered with nothing.")
        try:
            envelope = msgspec.json.decode(answer.content, type=_Envelope)
        except msgspec.MsgspecError as error:
            kind = answer.content_type or "no content type"
            raise BadAnswer(
                f"'{root}' was answered with what is no GraphQL answer ({kind}; {error}). It begins: {answer.text_start(120)}"
            ) from None
        if envelope.errors:
            raise trouble_of([self.session.redact(error.message)[:500] for error in envelope.errors], root)
        if envelope.data is None:
            raise BadAnswer(f"'{root}' was answered without data.")
        for name, value in envelope.data.items():
            if bytes(value) == b"null":
                raise BadAnswer(f"'{root}' was answered with null for '{name}'.")
        return envelope.data

    def page(
        self,
        entity: Entity,
        search: Search,
        number: int,
        size: int,
        kinds: FieldKinds | None = None,
        *,
        backwards_by: str = "",
    ) -> Page:
        """One page of a list, sorted by id, or backwards by another attribute. Pages count from 1; the server may answer with
        fewer records than asked.

        Raises:
            FetchError: the page did not come.
        """
        if entity.root not in self._uncounted:
            try:
                return self._page(entity, search, number, size, kinds, counted=True, backwards_by=backwards_by)
            except PageInfoRefused:
                self._uncounted.add(entity.root)
        return self._page(entity, search, number, size, kinds, counted=False, backwards_by=backwards_by)

    def _page(
        self,
        entity: Entity,
        search: Search,
        number: int,
        size: int,
        kinds: FieldKinds | None,
        *,
        counted: bool,
        backwards_by: str,
    ) -> Page:
        order = (
            {"attribute": backwards_by, "direction": "DESC"}
            if backwards_by
            else {"attribute": "id", "direction": "ASC"}
        )
        variables = {
            "p": {"page": number, "records_per_page": size},
            "s": [search] if search else [],
            "o": [order],
        }
        data = self._ask(page_query(entity, counted=counted), variables, entity.root, timeout_attempts=2)
        page = read_page(data.get(entity.root), entity, kinds or FieldKinds())
        if entity is ACCOUNTS:
            self._complete_groups(page)
        return page

    def _complete_groups(self, page: Page) -> None:
        """Fetches the groups of accounts that are in more of them than a nested list brings."""
        held = Counter(pair.customer_id for pair in page.groups)
        for account_id, expected in page.group_totals.items():
            if held[account_id] < expected:
                known = {pair.group_id for pair in page.groups if pair.customer_id == account_id}
                page.groups += self._further_groups(account_id, known)

    def _further_groups(self, account_id: int, known: set[int]) -> list[t.CustomerGroup]:
        number = 1
        found: list[t.CustomerGroup] = []
        while True:
            query = (
                "query Groups($a: Int64Bit, $p: Paginator) { accounts(id: $a, include_archived: true, "
                "paginator: {page: 1, records_per_page: 1}) { entities { id account_groups(paginator: $p) "
                "{ page_info { page total_pages total_count records_per_page } entities { id } } } } }"
            )
            variables = {"a": str(account_id), "p": {"page": number, "records_per_page": 100}}
            data = self._ask(query, variables, "accounts")
            connection = _decoded(data.get("accounts"), _NestedAccounts)
            if not connection.entities:
                return found  # the account is gone by now
            nested = connection.entities[0].account_groups
            found += [t.CustomerGroup(account_id, ref.id) for ref in nested.entities if ref.id not in known]
            known |= {ref.id for ref in nested.entities}
            if not nested.entities or nested.page_info is None or number >= nested.page_info.total_pages:
                return found
            number += 1

    def counts(self, asked: Sequence[tuple[Entity, Search]]) -> list[int]:
        """The total of each list under its filter, in one request with an alias for each. At most `COUNTS_A_REQUEST`.

        Raises:
            FetchError: the request failed, or a collection cannot be counted (`PageInfoRefused`).
        """
        names = [f"$s{i}: [Search]" for i in range(len(asked))]
        fields = [
            f"c{i}: {entity.root}(paginator: {{page: 1, records_per_page: 1}}, search: $s{i}"
            f"{', ' + entity.arguments if entity.arguments else ''}) {{ page_info {{ total_count }} }}"
            for i, (entity, _) in enumerate(asked)
        ]
        query = f"query Counts({', '.join(names)}) {{ {' '.join(fields)} }}"
        variables = {f"s{i}": [search] if search else [] for i, (_, search) in enumerate(asked)}
        roots = ", ".join(dict.fromkeys(entity.root for entity, _ in asked))
        data = self._ask(query, variables, roots)
        return [_decoded(data.get(f"c{i}"), _Counted).page_info.total_count for i in range(len(asked))]

    def extent(self, entity: Entity) -> tuple[int | None, int]:
        """How many records a list has (None where it cannot be counted) and the highest value of the attribute that decides
        the block, -1 where it is empty. An empty answer is asked for once more before it is believed.
        """
        for _ in range(2):
            page = self.page(entity, entity.search(), 1, 1, FieldKinds(), backwards_by=entity.block or "id")
            values = [_owner(entity, record) for record in (*page.rows, *page.rejects)]
            total = page.info.total_count if page.info else None
            if total or values:
                break
        return total, max(values, default=-1)

    def nth_id(self, entity: Entity, number: int, search: Search | None = None) -> int | None:
        """The id of the n-th record by id, counted from 1; None where there are fewer."""
        page = self.page(entity, entity.search() if search is None else search, number, 1)
        # a server may answer a page behind the end with its last one
        beyond = page.info is not None and page.info.total_count < number
        return None if beyond or not page.ids else page.ids[0]


def _owner(entity: Entity, found: object) -> int:
    """The value that decides the block of a row, or the last one of a rejected record's block; -1 where it is not known."""
    partitioning = entity.table.partitioning
    if isinstance(found, Reject):
        return int(found.partition.partition("-")[2]) if found.partition else -1
    return int(getattr(found, partitioning.column)) if partitioning else -1


class _NestedGroups(msgspec.Struct):
    entities: list[_Key]
    page_info: PageInfo | None = None


class _NestedAccount(msgspec.Struct):
    id: int
    account_groups: _NestedGroups


class _NestedAccounts(msgspec.Struct):
    entities: list[_NestedAccount]


def page_query(entity: Entity, *, counted: bool = True) -> str:
    """The query for one page of a list."""
    info = "page_info { page total_pages total_count records_per_page } " if counted else ""
    arguments = f", {entity.arguments}" if entity.arguments else ""
    return (
        f"query Page($p: Paginator, $s: [Search], $o: [Sorter]) {{ {entity.root}(paginator: $p, search: $s, sorter: $o"
        f"{arguments}) {{ {info}entities {{ {entity.fields} }} }} }}"
    )


def _decoded(raw: msgspec.Raw | None, kind: type[T]) -> T:
    if raw is None:
        raise BadAnswer("An answer lacks a list that was asked for.")
    try:
        return msgspec.json.decode(raw, type=kind, strict=False)
    except msgspec.MsgspecError as error:
        raise BadAnswer(f"An answer is not shaped like a list: {error}.") from None


def read_page(raw: msgspec.Raw | None, entity: Entity, kinds: FieldKinds) -> Page:
    """A page's rows from the JSON of its connection.

    Raises:
        BadAnswer: it is no connection, or has null among its records.
    """
    connection = _decoded(raw, _Connection)
    page = Page(connection.page_info)
    try:
        records = msgspec.json.decode(connection.entities, type=list[entity.record], strict=False)  # type: ignore[name-defined]
    except msgspec.MsgspecError:
        records = list(_readable(_decoded(connection.entities, list[msgspec.Raw]), entity, page))
    for record in records:
        page.ids.append(record.id)
        try:
            row = _row(record, kinds)
        except ValueError as error:
            page.rejects.append(_reject(entity, msgspec.json.encode(record), str(error)))
            _keep_groups(page, record)
            continue
        if row is None:
            page.dropped.add(record.id)
            continue
        page.rows.append(row)
        _keep_groups(page, record)
    if entity is ACCOUNTS:
        page.groupless = [number for number in page.ids if number not in page.group_totals]
    return page


def _keep_groups(page: Page, record: Any) -> None:
    """Adds the groups of an account to a page; other records have none."""
    groups = getattr(record, "account_groups", None)
    if groups is not None:
        came = [t.CustomerGroup(record.id, ref.id) for ref in groups.entities]
        page.groups += came
        page.group_totals[record.id] = groups.page_info.total_count if groups.page_info else len(came)


def _row(record: Any, kinds: FieldKinds) -> msgspec.Struct | None:
    """A record's row; None for records that are left out on purpose."""
    if isinstance(record, FIELD_DATA.record):
        number = record.inventory_model_field_id
        if number in kinds.secret:
            return None  # a server that ignored the filter
        if number not in kinds.readable:
            raise ValueError(f"its field {number} is not among the models' fields; its value was not kept")
        return record.row(kinds.readable[number])  # type: ignore[no-any-return]
    if getattr(record, "addressable_type", "Account") != "Account":
        return None
    return record.row()  # type: ignore[no-any-return]


def _readable(raws: Iterable[msgspec.Raw], entity: Entity, page: Page) -> Iterable[Any]:
    """The records of a page that can be decoded; each of the others becomes a reject."""
    for raw in raws:
        if bytes(raw) == b"null":
            raise BadAnswer(f"'{entity.root}' was answered with null among its records.")
        try:
            yield msgspec.json.decode(raw, type=entity.record, strict=False)
        except msgspec.MsgspecError as error:
            with contextlib.suppress(msgspec.MsgspecError):
                yield _without_blanks(raw, entity)
                continue
            reject = _reject(entity, bytes(raw), str(error))
            page.rejects.append(reject)
            if reject.key:
                page.ids.append(int(reject.key[0]))
            else:
                page.unread += 1
            if entity is ACCOUNTS:
                # a record that cannot be read costs itself, not what else hangs on it
                with contextlib.suppress(msgspec.MsgspecError):
                    _keep_groups(page, msgspec.json.decode(raw, type=_Grouped, strict=False))


def _without_blanks(raw: msgspec.Raw, entity: Entity) -> Any:
    """A record whose empty texts are nulls: what some hold in place of a number or a date.

    Raises:
        msgspec.MsgspecError: it is no record of the entity even so.
    """
    record = msgspec.json.decode(raw, type=dict[str, Any])
    plain = {name: None if value == "" else value for name, value in record.items()}
    return msgspec.convert(plain, type=entity.record, strict=False)


def _reject(entity: Entity, raw: bytes, reason: str) -> Reject:
    """A reject with what can be read of the record: its id, its partition, its text without what must not be kept."""
    try:
        record = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        record = None
    if not isinstance(record, dict):
        return Reject(entity.table, None, (), reason, raw.decode(errors="backslashreplace")[:2000])
    number, owner = _int(record.get("id")), _int(record.get(entity.block or ""))
    partition = entity.table.partitioning.key_of(owner) if entity.table.partitioning and owner is not None else None
    # of what was asked for, never what a server may have added
    asked = {known.encode_name for known in msgspec.structs.fields(entity.record)}.difference(entity.hide)
    kept = {name: value for name, value in record.items() if name in asked}
    text = msgspec.json.encode(kept).decode()[:2000]
    return Reject(entity.table, partition, () if number is None else (number,), reason, text)


def _int(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None
