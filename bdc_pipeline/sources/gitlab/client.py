"""Requests to GitLab: pages of lists, single objects, logs, archives, and GraphQL for discovery.

What an answer means is decided here; what becomes of it is not. A body that is not what was asked for (an HTML page, half a
document) is tried again, since GitLab sends such with a status of 200.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit
from weakref import WeakSet

import msgspec

from bdc_pipeline.fetching.addresses import origin_of
from bdc_pipeline.fetching.answers import Answer, BadAnswer, Refused
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.effort import effort_of
from bdc_pipeline.warehouse.stream import Effort

PAGE_SIZE = 100
"""Rows a page: GitLab gives no more, and 20 unless asked."""

SMALL = 8 * 1024 * 1024
"""Bytes up to which a file is small: of larger ones two are fetched at the same time, however many slots there are."""

_NEXT = re.compile(r'<([^>]*)>\s*(?:;[^,<]*?)?;\s*rel\s*=\s*"?next"?(?=\s*(?:[;,]|$))', re.IGNORECASE)
_OWN_WORDS = ("{", "<?xml", "<Error")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


_OF_PAGES = ("Link", "X-Next-Page", "X-Total")
"""What every page of a list by offset comes with, or two of them where GitLab does not count."""

_LINKED: WeakSet[ApiSession] = WeakSet()
"""The sessions that have had an answer with a `Link`. Lists by offset have one on every page, to their first and last."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. `total` and `pages` are None where GitLab does not count; `at` is the server's time (UTC)."""

    rows: list[Any]
    next: str | None
    total: int | None
    pages: int | None
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Bytes:
    """Some or all bytes of a file: from where they are, and how long the whole is."""

    content: bytes | bytearray
    start: int
    total: int


class Chain:
    """Pages that were followed by their links; `path` is the list's, for messages. A link that leads back would never end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._links: set[str | None] = set()
        self._came: set[Any] = set()

    def link_of(self, page: Page) -> str:
        """The link to the page behind one.

        Raises:
            BadAnswer: it was followed before, or the page brings nothing that an earlier one has not brought.
        """
        brought = {identity(row) for row in page.rows}
        if page.next is None or page.next in self._links or brought <= self._came:
            raise BadAnswer(f"the links to the next pages of {self._path} lead in a circle.")
        self._links.add(page.next)
        self._came |= brought
        return page.next


class GitLabClient:
    """Asks one GitLab.

    Args:
        session: its base address is the instance's; it limits no answer's length.
        most_bytes: the largest file that is read whole.
        keep: takes the session when the client is done with it; it is closed where there is none.
    """

    def __init__(
        self, session: ApiSession, *, most_bytes: int, keep: Callable[[ApiSession], None] | None = None
    ) -> None:
        self.session = session
        self._most_bytes, self._keep = most_bytes, keep
        self._before = effort_of(session)
        self._spent: Effort | None = None

    def release(self) -> None:
        """Says that nothing more is asked: the connections are left to the next client."""
        if self._keep is None or self.session.stop.is_set():
            self.close()  # threads of a run that was stopped may still be at work on them
        elif self._spent is None:
            self._spent = self.effort()
            self._keep(self.session)

    def close(self) -> None:
        """Closes the connections, unless they were released."""
        if self._spent is None:
            self._spent = self.effort()
            self.session.close()

    def effort(self) -> Effort:
        """What has been sent and received by this client."""
        if self._spent is not None:
            return self._spent
        return effort_of(self.session) - self._before

    @property
    def links_come(self) -> bool:
        """Whether an answer of this session has had a `Link`: no proxy takes them away, and where none is, nothing follows."""
        return self.session in _LINKED

    # -- JSON --------------------------------------------------------------------------------------------------

    def page(self, path: str, params: Mapping[str, Any] | None = None) -> Page:
        """A page of a list: a path below /api/v4 with its parameters, or the link of the page before.

        Raises:
            FetchError: it did not come.
        """
        address = self._address(path)
        asked = f"{address}?{urlencode(params)}" if params else address
        return self.session.fetch("GET", address, params=params, parse=lambda answer: self._read_page(answer, asked))

    def pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Page]:
        """A list's pages, each by the link of the one before.

        Raises:
            FetchError: one did not come, or the links lead in a circle.
        """
        page, chain = self.page(path, params), Chain(path)
        yield page
        while page.next is not None:
            page = self.page(chain.link_of(page))
            yield page

    def every(self, path: str, params: Mapping[str, Any]) -> tuple[list[Any], int | None]:
        """All rows of a short list, page after page, and how many GitLab counts.

        Raises:
            FetchError: a page did not come, or there are fewer rows than GitLab counts, three times.
        """
        for _ in range(3):
            rows, total = list[Any](), None
            for page in self.pages(path, {**params, "per_page": PAGE_SIZE}):
                rows += page.rows
                # the larger of two counts: a page that says that there is nothing is none to be believed
                total = page.total if total is None else max(total, page.total or 0)
            if total is None or len({identity(row) for row in rows}) >= total:
                return rows, total
        raise BadAnswer(f"{path} counts {total} rows and lists {len({identity(row) for row in rows})}, three times.")

    def one(self, path: str) -> dict[str, Any]:
        """One object.

        Raises:
            FetchError: it did not come; `Refused` with status 404 where there is none.
        """
        return self.session.fetch("GET", self._address(path), parse=_read_object)

    def project(self, name: str) -> dict[str, Any]:
        """A project by its id or path.

        Raises:
            FetchError: it did not come.
        """
        return self.one(f"projects/{quote(name, safe='')}")

    def changed_since(self, since: Mapping[int, str], having: Collection[int]) -> set[int] | None:
        """Which of some projects have had a pipeline change, by GraphQL; at most 100 projects.

        A project that is not in the answer counts as changed: its list then says why. So does one that shows no pipeline at all though
        it has some: to a token that may not read a project's CI, GitLab's `PipelinesFinder` says that there are none. None where
        GraphQL is no help: off, refused, or over its limit of complexity.

        Args:
            since: by project, from when on (UTC). GraphQL is asked about the earliest of them.
            having: the projects that have pipelines.

        Raises:
            FetchError: no answer came.
        """
        ids = [f"gid://gitlab/Project/{project}" for project in since]
        body = {"query": _DISCOVERY, "variables": {"ids": ids, "since": min(since.values()), "n": len(ids)}}
        try:
            found = self.session.fetch("POST", "/api/graphql", json=body, parse=_read_object, attempts=2)
        except (Refused, BadAnswer):
            return None
        return _changed(found, since, having)

    # -- bytes -------------------------------------------------------------------------------------------------

    def log(self, project_id: int, job_id: int, *, large: bool) -> bytes | bytearray:
        """A job's log, whole; empty where there is none.

        Args:
            project_id: the project's.
            job_id: the job's.
            large: whether it may be longer than `SMALL`.

        Raises:
            FetchError: it did not come; `TooLarge` where it is over the limit of bytes.
        """
        path = self._address(f"projects/{project_id}/jobs/{job_id}/trace")
        if not large:
            return self.session.fetch("GET", path, parse=lambda answer: _file(answer).content, max_bytes=SMALL)
        buffer = _Buffer()

        def read(answer: Answer) -> bytearray:
            _file(answer)
            return buffer.content

        return self.session.fetch("GET", path, parse=read, into=buffer, max_bytes=self._most_bytes)

    def archive(self, project_id: int, job_id: int, first: int | None = None, last: int | None = None) -> Bytes:
        """Bytes of a job's archive: all, from `first` to `last`, or with `last` alone so many from the end.

        A server that knows no ranges sends the whole.

        Raises:
            FetchError: it did not come; `Refused` with status 404 where it is gone.
        """
        headers = (
            {}
            if last is None
            else {"Range": f"bytes={'' if first is None else first}-{last}", "Accept-Encoding": "identity"}
        )
        path, buffer = self._address(f"projects/{project_id}/jobs/{job_id}/artifacts"), _Buffer()
        return self.session.fetch(
            "GET",
            path,
            headers=headers,
            parse=lambda answer: _read_bytes(_file(answer), buffer),
            into=buffer,
            max_bytes=self._most_bytes,
        )

    # -- answers -----------------------------------------------------------------------------------------------

    def _address(self, path: str) -> str:
        return path if "://" in path else f"/api/v4/{path}"

    def _read_page(self, answer: Answer, address: str) -> Page:
        try:
            rows = msgspec.json.decode(answer.content, type=list[Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadAnswer(f"a list was expected, not {answer.text_start(80)!r}") from None
        headers = answer.headers
        if headers.get("Link"):
            _LINKED.add(self.session)
        following = self._following(headers, address, is_full=len(rows) >= PAGE_SIZE) if rows else None
        total, pages = (_count(headers.get(name)) for name in ("X-Total", "X-Total-Pages"))
        return Page(rows, following, total, pages, self.session.server_time or dt.datetime.now(dt.UTC))

    def _following(self, headers: Mapping[str, str], address: str, *, is_full: bool) -> str | None:
        """The address of the next page. A link may be relative; a gateway that lets known headers alone through may have taken it away,
        or all that a page of a list by offset comes with, which must not pass for the end.
        """
        link = next_link(headers.get("Link", ""))
        if link is None:
            is_told = any(headers.get(name) is not None for name in _OF_PAGES)
            follows = headers.get("X-Next-Page", "").strip() if is_told else is_full
            return self._page_after(address) if follows else None
        try:
            following = urljoin(self._whole_address(address), link)
            if origin_of(following) == origin_of(self.session.base_url):
                return following
        except ValueError:
            raise BadAnswer(f"the link to the next page is no address: {link!r}") from None
        # GitLab calls itself by its `external_url`, which behind a proxy may be http, or a name inside (python-gitlab has
        # `keep_base_url` for it). What is asked is the same, and it is asked where the token may go
        _, below_api, rest = following.partition("/api/v4/")
        if not below_api:
            raise BadAnswer(f"the link to the next page leads to {urlsplit(following).netloc}, which is another host")
        return f"{self.session.base_url}/api/v4/{rest}"

    def _page_after(self, address: str) -> str | None:
        """The address of the page behind one of a list by offset, by its number. None for a list by keyset, which needs its link."""
        parts = urlsplit(self._whole_address(address))
        query = dict(parse_qsl(parts.query))
        if query.get("pagination") == "keyset":
            return None
        number = _count(query.get("page")) or 1
        return urlunsplit(parts._replace(query=urlencode(query | {"page": str(number + 1)})))

    def _whole_address(self, address: str) -> str:
        return address if "://" in address else f"{self.session.base_url}{address}"


def next_link(header: str) -> str | None:
    """The address of the next page that a `Link` header tells; None at the end."""
    found = _NEXT.search(header)
    return found[1] if found else None


# lists leave child pipelines out
_DISCOVERY = """query ($ids: [ID!], $since: Time, $n: Int) {
  projects(ids: $ids, first: $n) { nodes {
    id
    own: pipelines(updatedAfter: $since, first: 1) { nodes { id } }
    children: pipelines(updatedAfter: $since, source: "parent_pipeline", first: 1) { nodes { id } }
    ever: pipelines(first: 1) { nodes { id } }
  } }
}"""


def _changed(found: Mapping[str, Any], since: Iterable[int], having: Collection[int]) -> set[int] | None:
    if found.get("errors"):
        return None
    changed = set(since)
    try:
        for node in found["data"]["projects"]["nodes"]:
            project = int(node["id"].rpartition("/")[2])
            lists = [node["own"], node["children"]]
            is_shown = project not in having or (node["ever"] is not None and node["ever"]["nodes"] != [])
            if is_shown and all(one is not None and one["nodes"] == [] for one in lists):
                changed.discard(project)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return changed


def _read_object(answer: Answer) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadAnswer(f"an object was expected, not {answer.text_start(80)!r}") from None


class _Buffer:
    """Takes a large file piece by piece, in one block that grows: pieces that are kept until the end fragment the memory of each
    thread that ever read one."""

    def __init__(self) -> None:
        self.content = bytearray()

    def begin(self) -> None:
        """Forgets what an earlier attempt brought."""
        self.content = bytearray()

    def write(self, data: bytes) -> None:
        """Takes the next piece."""
        self.content += data


def _file(answer: Answer) -> Answer:
    """The answer, unless it is a page for people: a proxy's or a login's, with a status of 200."""
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise BadAnswer("a page in HTML came where the bytes of a file were expected.")
    return answer


def _read_bytes(answer: Answer, buffer: _Buffer) -> Bytes:
    if answer.status != 206:
        return Bytes(buffer.content or answer.content, 0, len(buffer.content or answer.content))
    told = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if told is None or told[3] == "*" or int(told[2]) - int(told[1]) + 1 != len(answer.content):
        raise BadAnswer(
            f"the range that came is not the one that Content-Range tells: {answer.headers.get('Content-Range')!r}"
        )
    return Bytes(answer.content, int(told[1]), int(told[3]))


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None


def identity(row: Any) -> Any:
    """What tells a record of a list from the others: its id; one that has none is like no other."""
    found = row.get("id") if isinstance(row, dict) else None
    return found if isinstance(found, (int, str)) else ("without an id", id(row))


def is_forbidden(error: Refused) -> bool:
    """Whether GitLab itself says that the token may not read something: its own words are JSON. A proxy or the storage behind GitLab
    forbids in a page or in XML, and perhaps not the next time.
    """
    return error.status == 403 and error.said.startswith("{")


def is_of_project(error: Exception) -> bool:
    """Whether an error concerns a whole project: the token may not read its CI, or it is hidden."""
    if not isinstance(error, Refused):
        return False
    return is_forbidden(error) or (error.status == 404 and "Project Not Found" in error.said)


def is_gone(error: Refused) -> bool:
    """Whether GitLab, or the storage behind it, says of a single thing that it is no more. A 404 in other words than JSON or XML is
    a proxy's that does not find GitLab."""
    return error.status == 404 and not is_of_project(error) and error.said.startswith(_OWN_WORDS)


def by_hundreds(projects: Sequence[int]) -> Iterable[Sequence[int]]:
    """Projects in groups that one query may ask for."""
    return (projects[at : at + PAGE_SIZE] for at in range(0, len(projects), PAGE_SIZE))
