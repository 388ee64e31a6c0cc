"""Requests to Boligsiden's API, and its answers as records that are still to be read.

The API is public but undocumented. What it refuses in silence (an unknown parameter, a comma list of municipalities) is found out
by whoever adds up the counts, not here. An answer that is no list of homes is a failure, whatever its HTTP status says: it is tried
again and then reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bdc_pipeline.fetching.answers import Answer, BadAnswer, Throttled
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.effort import effort_of
from bdc_pipeline.sources.properties.split import Part
from bdc_pipeline.warehouse.stream import Effort

LARGEST_PAGE = 50
"""Homes a page at most: the API gives no more, whatever is asked."""


class _Listed(msgspec.Struct, rename="camel"):
    total_hits: int
    addresses: list[msgspec.Raw]


class _Message(msgspec.Struct):
    message: str = ""


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of a list: how many homes there are in all, and the records on it."""

    total: int
    records: list[msgspec.Raw]


class BoligsidenClient:
    """Boligsiden's lists of homes, page by page. May be used by many threads.

    Args:
        session: where requests go; its base address is the API's.
    """

    def __init__(self, session: ApiSession) -> None:
        self.session = session

    def effort(self) -> Effort:
        """What has been sent and received."""
        return effort_of(self.session)

    def page(self, part: Part, number: int, size: int = LARGEST_PAGE, *, total: int | None = None) -> ListPage:
        """One page of the homes of a part, sorted by address. Pages count from 1.

        Args:
            part: which homes.
            number: of the page.
            size: homes a page, at most `LARGEST_PAGE`.
            total: how many homes an earlier page told; one that suddenly tells of none is not believed.

        Raises:
            FetchError: the page did not come.
        """

        def parse(answer: Answer) -> ListPage:
            return _page_of(answer, (number - 1) * size, total)

        params: dict[str, Any] = {
            **part.params(),
            "per_page": size,
            "page": number,
            "sortBy": "address",
            "sortAscending": "true" if part.ascending else "false",
        }
        return self.session.fetch("GET", "/search/addresses", parse=parse, params=params)

    def home(self, address_id: str) -> msgspec.Raw:
        """The record of one home.

        Raises:
            FetchError: it did not come; `Refused` where there is no such home.
        """
        return self.session.fetch("GET", f"/addresses/{address_id}", parse=_record_of)


def _page_of(answer: Answer, before: int, told: int | None) -> ListPage:
    """The page in an answer; `before` homes are on the pages before it."""
    if not answer.content.strip():
        raise BadAnswer("The list was answered with nothing.")
    try:
        listed = msgspec.json.decode(answer.content, type=_Listed)
    except msgspec.MsgspecError as error:
        _refuse_message(answer)
        kind = answer.content_type or "no content type"
        raise BadAnswer(
            f"The list was answered with what is no list of homes ({kind}; {error}). It begins: {answer.text_start(120)}"
        ) from None
    if told and not listed.total_hits:
        raise BadAnswer(f"The list was answered with no homes at all, where {told} were told before.")
    if not listed.addresses and listed.total_hits > before:
        raise BadAnswer(f"The page was empty, where {listed.total_hits - before} homes were still to come.")
    return ListPage(listed.total_hits, listed.addresses)


def _refuse_message(answer: Answer) -> None:
    """Raises for an answer that asks in words to slow down, with a status of 200."""
    try:
        text = msgspec.json.decode(answer.content, type=_Message).message
    except msgspec.MsgspecError:
        return
    if "too many" in text.lower() or "slow down" in text.lower():
        raise Throttled(f"Boligsiden asks to slow down: {answer.redact(text)[:200]}")


def _record_of(answer: Answer) -> msgspec.Raw:
    try:
        record: Mapping[str, Any] = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise BadAnswer(f"The home was answered with what is no record ({error}).") from None
    if "addressID" not in record:
        raise BadAnswer("The home was answered with a record without an addressID.")
    return msgspec.Raw(answer.content)
