"""Pages of lists: by offset with totals in headers, or by keyset with nothing but a link to the next.

GitLab's rules: 20 rows unless asked for, 100 at most; totals and the link to the last page are missing above 10,000 rows and
where they are never counted; offsets beyond 50,000 rows are refused with 405 where keyset is known.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.datastructures import Headers as AskedHeaders
from starlette.datastructures import QueryParams

from bdc_pipeline.sandbox.frame import Answer
from bdc_pipeline.sandbox.gitlab.answers import Headers, RefusedError, error, shown
from bdc_pipeline.sandbox.options import SandboxOptions

_MOST = 100
_USUAL = 20


@dataclass(frozen=True)
class Ask:
    """What a request says beside its path."""

    #: the instance, http://127.0.0.1:PORT/gitlab
    base: str
    #: what is asked, without the query
    url: str
    query: QueryParams
    headers: AskedHeaders
    options: SandboxOptions

    @property
    def page(self) -> int:
        """The number of the page."""
        return max(1, self._number("page", 1))

    @property
    def per_page(self) -> int:
        """Rows on a page."""
        asked = self._number("per_page", _USUAL)
        if asked < 1:
            raise RefusedError(error(400, "per_page does not have a valid value"))
        return min(asked, _MOST, self.options.page_cap)

    @property
    def by_keyset(self) -> bool:
        """Whether keyset paging is asked for."""
        return self.query.get("pagination") == "keyset"

    def choice(self, name: str, allowed: Sequence[str], usual: str) -> str:
        """One of several values."""
        value = self.query.get(name, usual)
        if value not in allowed:
            raise RefusedError(error(400, f"{name} does not have a valid value"))
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean, or None if it is not given."""
        value = self.query.get(name)
        if value is None or value.lower() not in {"true", "false", "1", "0"}:
            return None
        return value.lower() in {"true", "1"}

    def values(self, name: str) -> list[str]:
        """All values of an array such as scope[]."""
        return [*self.query.getlist(f"{name}[]"), *self.query.getlist(name)]

    def _number(self, name: str, usual: int) -> int:
        text = self.query.get(name)
        if text is None:
            return usual
        if not text.isdecimal():
            raise RefusedError(error(400, f"{name} is invalid"))
        return int(text)

    def link(self, rel: str, **changes: Any) -> str:
        """A link to another page of the same list."""
        kept = [(name, value) for name, value in self.query.multi_items() if name not in changes]
        return f'<{self.url}?{urlencode(kept + list(changes.items()))}>; rel="{rel}"'


def offset_page(ask: Ask, rows: Sequence[Any], *, limited: str | None = None) -> tuple[Sequence[Any], Headers]:
    """A page of counted rows, and its headers; `limited` names the type if offsets are."""
    page, size = ask.page, ask.per_page
    if ask.by_keyset:
        raise RefusedError(error(405, "Keyset pagination is not yet available for this type of request"))
    if limited is not None and page * size > ask.options.offset_limit:
        raise RefusedError(_offset_refusal(ask, limited))
    total = len(rows)
    pages = max(1, -(-total // size))
    following = page + 1 if page < pages else None
    counted = total <= ask.options.count_limit
    links = _links(ask, page, size, following, pages if counted else None)
    headers = _offset_headers(page, size, following, links)
    if counted:
        headers += ((b"x-total", b"%d" % total), (b"x-total-pages", b"%d" % pages))
    return rows[(page - 1) * size : page * size], headers


def uncounted_page(ask: Ask, rows: Iterable[Any]) -> tuple[Sequence[Any], Headers]:
    """A page of rows whose total is never told."""
    page, size = ask.page, ask.per_page
    found = list(islice(rows, (page - 1) * size, page * size + 1))
    following = page + 1 if len(found) > size else None
    return found[:size], _offset_headers(page, size, following, _links(ask, page, size, following, None))


def cursor_page(ask: Ask, rows: Iterable[Any]) -> tuple[Sequence[Any], Headers]:
    """A page of rows that come behind the cursor, and the link with the next cursor if there are more."""
    size = ask.per_page
    found = list(islice(rows, size + 1))
    if len(found) <= size:
        return found, ()
    return found[:size], _next(ask, per_page=size, cursor=_cursor(found[size - 1].id))


def id_page(ask: Ask, rows: Sequence[Any], *, descending: bool) -> tuple[Sequence[Any], Headers]:
    """A page of rows sorted by id, and the link to what lies behind; only an empty page has none, as in GitLab."""
    size = ask.per_page
    found = rows[:size]
    if not found:
        return found, ()
    return found, _next(ask, per_page=size, **{"id_before" if descending else "id_after": found[-1].id})


def cursor_id(ask: Ask) -> int | None:
    """The id that the cursor stands for."""
    text = ask.query.get("cursor")
    if text is None:
        return None
    try:
        return int(msgspec.json.decode(urlsafe_b64decode(text), type=dict[str, str])["id"])
    except (binascii.Error, msgspec.DecodeError, KeyError, ValueError):
        raise RefusedError(error(400, "cursor is invalid")) from None


def listed(rows: Sequence[Any], headers: Headers) -> Answer:
    """A page as it is sent."""
    return shown(rows, headers)


def _cursor(identifier: int) -> str:
    return urlsafe_b64encode(msgspec.json.encode({"id": str(identifier), "_kd": "n"})).decode()


def _next(ask: Ask, **changes: Any) -> Headers:
    return ((b"link", ask.link("next", **changes).encode()),)


def _links(ask: Ask, page: int, size: int, following: int | None, last: int | None) -> str:
    pages = {"prev": page - 1 or None, "next": following, "first": 1, "last": last}
    return ", ".join(ask.link(rel, page=at, per_page=size) for rel, at in pages.items() if at is not None)


def _offset_headers(page: int, size: int, following: int | None, links: str) -> Headers:
    return (
        (b"link", links.encode()),
        (b"x-next-page", b"" if following is None else b"%d" % following),
        (b"x-page", b"%d" % page),
        (b"x-per-page", b"%d" % size),
        (b"x-prev-page", b"" if page == 1 else b"%d" % (page - 1)),
    )


def _offset_refusal(ask: Ask, kind: str) -> Answer:
    return error(
        405,
        f"Offset pagination has a maximum allowed offset of {ask.options.offset_limit} for requests that return objects of "
        f"type {kind}. Remaining records can be retrieved using keyset pagination.",
    )
