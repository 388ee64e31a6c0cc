"""Talking to one source: where its requests go and with what, and what is tried again until an answer can be used.

What belongs here: addresses, credentials and where they may go, redirects, timeouts, retries. When a request may be sent
(pacing), how many at once (pool), and what an answer means (the `parse` that a caller brings) do not.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, cast
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from bdc_pipeline.fetching.addresses import (
    CREDENTIALS,
    basic_authentication,
    check_headers,
    checked_base,
    origin_of,
    proxy_secrets,
    userinfo_secrets,
    without_path,
    without_userinfo,
)
from bdc_pipeline.fetching.answers import (
    Answer,
    BadAnswer,
    FetchError,
    Refused,
    Throttled,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unreachable,
)
from bdc_pipeline.fetching.body import ACCEPT_ENCODING, Sink, decompressed, decompressing, pieces_of
from bdc_pipeline.fetching.connections import Connections
from bdc_pipeline.fetching.pacing import MAX_PAUSE, Pacer, parsed_date, retry_after_asked_for
from bdc_pipeline.fetching.redaction import RedactingFilter, Redactor
from bdc_pipeline.fetching.stopping import Stop, Stopped
from bdc_pipeline.fetching.trouble import quoted, sentence_of, spent, trouble_of, wait_before_retry

__all__ = [
    "Answer",
    "ApiSession",
    "BadAnswer",
    "FetchError",
    "RedactingFilter",
    "Refused",
    "Stats",
    "Stopped",
    "Throttled",
    "TimedOut",
    "Unauthorized",
    "Unreachable",
]

T = TypeVar("T")

MAX_REDIRECTS = 5

# A body that is arriving when the run is stopped may finish within this, in seconds: less than a pool waits for it
_GRACE = 2.5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Not implemented, HTTP version not supported: no attempt will change these; all other 5xx may pass
_PERMANENT_5XX = frozenset({501, 505})

_log = logging.getLogger(__name__)
_urllib3_log = logging.getLogger("urllib3.connectionpool")


@dataclass
class Stats:
    """What was sent and received: requests (each attempt and each redirect is one), retries, bytes of bodies as sent.

    `busy`: seconds that requests were under way, added up over all threads.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    busy: float = field(default=0.0, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, *, requests: int = 0, retries: int = 0, received: int = 0, busy: float = 0.0) -> None:
        """Add to the counts; for any thread."""
        with self._lock:
            self.requests += requests
            self.retries += retries
            self.bytes += received
            self.busy += busy

    def snapshot(self) -> Stats:
        """Return the counts as they are at one instant."""
        with self._lock:
            return Stats(self.requests, self.retries, self.bytes, self.busy)


@dataclass(frozen=True, slots=True)
class _Call:
    """What a caller asked for, the same at each attempt."""

    method: str
    url: str
    json: Any
    data: bytes | None
    params: Mapping[str, Any] | None
    headers: Mapping[str, str]
    into: Sink | None
    max_bytes: int | None


class ApiSession:
    """A source's API: sends requests from many threads, tries again what may go better, keeps the secrets.

    base_url: where the API is, with a path prefix if it has one. A user and password in it are sent as basic
        authentication and shown nowhere.
    secret_headers: sent to the origin (scheme, host, port) of `base_url` and nowhere else, and redacted everywhere.
    headers: sent everywhere.
    workers: how many threads will use it at once; so many connections are kept open.
    pacer: how fast; shared with other sessions of the same source, or one of its own with `workers` at once.
    connect_timeout, read_timeout: seconds for a connection, and for each next piece of an answer.
    total_timeout: seconds for a whole body; may be passed by one `read_timeout`. None for any time.
    attempts: how often a request is sent in all before it is given up.
    backoff, max_backoff: the wait before a further attempt doubles, from about `backoff` to `max_backoff` seconds.
    stop: when set, nothing more is sent, and what waits raises `Stopped`.
    max_bytes: the largest body accepted, also when decompressed; None for any.

    Proxies and certificates come from the environment, as `requests` reads them. A `.netrc` is not read: a forgotten
    line in it would replace the token that was configured. Cookies are not kept.

    Raises ValueError for a base address or a header that cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        secret_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        workers: int = 10,
        pacer: Pacer | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        total_timeout: float | None = 300.0,
        attempts: int = 4,
        backoff: float = 0.5,
        max_backoff: float = 30.0,
        stop: Stop | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.base_url, userinfo = checked_base(base_url)
        self._origin = origin_of(self.base_url)
        self._home = without_path(self.base_url) + "/"
        check_headers({**(headers or {}), **(secret_headers or {})})
        given = {name: value for name, value in (headers or {}).items() if name.lower() in CREDENTIALS}
        self._secret_headers = {**basic_authentication(userinfo), **given, **(secret_headers or {})}
        secrets = [*self._secret_headers.values(), *userinfo_secrets(userinfo)]
        self.workers = workers
        self.pacer = pacer if pacer is not None else Pacer(concurrency=workers)
        self.stop = stop if stop is not None else Stop()
        self.stats = Stats()
        self.attempts = attempts
        self._headers = {
            "User-Agent": "bdc-pipeline",
            "Accept": "*/*",
            "Accept-Encoding": ACCEPT_ENCODING,
            **{name: value for name, value in (headers or {}).items() if name not in given},
        }
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._total_timeout = total_timeout
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._max_bytes = max_bytes
        self._date: str | None = None
        self._http = Connections(
            max(workers, self.pacer.limit), connect_timeout=connect_timeout, read_timeout=read_timeout
        )
        self._home_route = self._http.route(self.base_url)
        secrets += proxy_secrets(self._home_route.proxies)
        self._redactor = Redactor(secrets)
        # urllib3 logs the address of each request, which is out of this session's hands once it is sent
        self._log_filter = RedactingFilter(secrets)
        _urllib3_log.addFilter(self._log_filter)

    def __repr__(self) -> str:
        return self.redact(f"ApiSession({self.base_url!r}, workers={self.workers})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        _urllib3_log.removeFilter(self._log_filter)

    def ideal_seconds(self) -> float:
        """What the requests so far would have taken with all threads always busy, or at the highest rate allowed."""
        done, pace = self.stats.snapshot(), self.pacer.pace
        return max(done.busy / min(self.workers, pace.ceiling), done.requests * pace.interval)

    def redact(self, text: str) -> str:
        """Return the text with this session's secrets replaced by `***`."""
        return self._redactor(text)

    @property
    def server_time(self) -> datetime | None:
        """The time on the server (UTC) when it sent its latest answer; None before the first."""
        date = parsed_date(self._date)
        return date.astimezone(UTC) if date is not None else None

    def fetch(
        self,
        method: str,
        path_or_url: str,
        *,
        parse: Callable[[Answer], T],
        json: Any = None,
        data: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        attempts: int | None = None,
        timeout_attempts: int | None = None,
        into: Sink | None = None,
        max_bytes: int | None = None,
    ) -> T:
        """Send a request and return what `parse` makes of the answer, which is one of status 2xx or 304.

        One budget of attempts covers connections, time-outs, 408, 429, 5xx, bodies cut short, and answers that `parse`
        refuses by raising `BadAnswer` or `Throttled`. Of these, `timeout_attempts` (default: all) may time out.
        Every method is sent again, POST too: the queries that are sent by it here change nothing on the server.

        path_or_url: a path below the base address, or a whole address.
        into: takes the body of an answer of status 200 as it comes, which then has no `content`. It is told of each answer
            that begins to come; what it raises may be no OSError, which would pass for one of the connection's.
        max_bytes: the largest body accepted (default: the session's); a larger one of a good answer is `TooLarge`. Of an error's
            the status counts, however much it has to say.

        Raises `Unreachable`, `TimedOut`, `BadAnswer` or `Throttled` when the attempts are used up; `Unauthorized` or
        `Refused` at once; `Stopped` when the run is; and whatever else `parse` raises.
        """
        most = max_bytes if max_bytes is not None else self._max_bytes
        call = _Call(method.upper(), self._address(path_or_url), json, data, params, headers or {}, into, most)
        attempts = attempts if attempts is not None else self.attempts
        policy = self._policy(attempts, timeout_attempts)
        while True:
            # The error is dealt with after its `except` block: raised within, the next would carry it as its context,
            # and with it whatever `requests` and urllib3 put into theirs.
            try:
                return self._attempt(call, parse)
            except FetchError as error:
                trouble = error
            if not trouble.retryable:
                self._give_up(call, trouble, attempts=len(policy.history) + 1)
            policy = self._further(policy, call, trouble)

    # Attempts

    def _policy(self, attempts: int, timeout_attempts: int | None) -> Retry:
        if attempts < 1 or (timeout_attempts is not None and timeout_attempts < 1):
            raise ValueError("A request needs at least one attempt.")
        return Retry(
            total=attempts - 1,
            read=attempts - 1 if timeout_attempts is None else timeout_attempts - 1,
            allowed_methods=None,
            backoff_factor=self._backoff,
            backoff_max=self._max_backoff,
            backoff_jitter=self._backoff,
            retry_after_max=int(MAX_PAUSE),
        )

    def _further(self, policy: Retry, call: _Call, trouble: FetchError) -> Retry:
        """Wait before the next attempt and return the policy for it; raise the trouble if there is none."""
        shown = self._shown_call(call)
        further = spent(policy, call.method, shown, trouble)
        if further is None:
            self._give_up(call, trouble, attempts=len(policy.history) + 1)
        wait = wait_before_retry(further, trouble)
        # all threads pause before they send, which is nothing to wait for twice
        told = max(wait, self.pacer.pause_left)
        _log.info("%s %s: %s Trying again in %.1f s.", call.method, shown, self.redact(sentence_of(trouble)), told)
        if self.stop.wait(wait):
            self.stop.raise_if_set()
        self.stats.count(retries=1)
        return further

    def _give_up(self, call: _Call, trouble: FetchError, *, attempts: int) -> NoReturn:
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        message = f"{call.method} {self._shown_call(call)} failed{tries}: {sentence_of(trouble)}"
        trouble.args = (self.redact(message),)
        # What a caller's `parse` was given, its errors may quote
        trouble.__cause__ = trouble.__context__ = None
        raise trouble.with_traceback(None)

    def _attempt(self, call: _Call, parse: Callable[[Answer], T]) -> T:
        sent_at, answer = self._exchange(call)
        try:
            return parse(answer)
        except Throttled as throttled:
            self.pacer.throttled(retry_after=throttled.retry_after, sent_at=sent_at)
            raise

    def _exchange(self, call: _Call) -> tuple[float, Answer]:
        """Send a request and follow its redirects."""
        request = self._prepared(call.method, call.url, call, trusted=True)
        trusted = self._is_home(request.url or "")
        for _ in range(MAX_REDIRECTS + 1):
            sent_at, answer = self._send(request, call)
            if answer.status not in _REDIRECTS:
                self._check_status(answer, credentials_withheld=self._is_home(call.url) and not trusted)
                return sent_at, answer
            target = self._redirect_target(request, answer)
            # Once away, always away: where another host sends us is not where we were told to send the token
            trusted = trusted and self._is_home(target)
            request = self._redirected(request, target, call, trusted=trusted)
        raise Refused(f"it was redirected more than {MAX_REDIRECTS} times.", status=answer.status)

    def _check_status(self, answer: Answer, *, credentials_withheld: bool) -> None:
        status = answer.status
        if 200 <= status < 300 or status == 304:
            return
        said = answer.text_start()
        sentence = f"the server answered {status}{quoted(said)}."
        if status == 401:
            hint = (
                f" The credentials were not sent to {self._shown(answer.url)}, to which it was redirected."
                if credentials_withheld
                else " Check that the token is right and has not expired."
            )
            raise Unauthorized(sentence + hint, status=status, said=said)
        if status in {408, 429} or (status >= 500 and status not in _PERMANENT_5XX):
            retry_after = retry_after_asked_for(answer.headers, now=datetime.now(UTC))
            if status == 429 or retry_after is not None:
                raise Throttled(sentence, retry_after=retry_after)
            raise BadAnswer(sentence)
        raise Refused(sentence, status=status, said=said)

    # One request

    def _send(self, request: requests.PreparedRequest, call: _Call) -> tuple[float, Answer]:
        """Send one request in its turn, tell the pacer how it went, and return when it was sent and what came."""
        with self.pacer.slot(self.stop):
            sent_at = self.pacer.clock()
            self.stats.count(requests=1)
            trouble: FetchError
            try:
                answer = self._receive(request, call)
            except TooLarge as error:
                trouble, status = error, error.status
            except BadAnswer as error:
                trouble, status = error, 500  # it answered, so it is not too slow, but this was no good answer
            except FetchError as error:
                trouble, status = error, None
            else:
                self.pacer.observe(status=answer.status, headers=answer.headers, sent_at=sent_at)
                return sent_at, answer
            self.pacer.observe(status=status, headers={}, sent_at=sent_at)
        raise trouble

    def _receive(self, request: requests.PreparedRequest, call: _Call) -> Answer:
        began = time.monotonic()
        url = request.url or ""
        route = self._home_route if url.startswith(self._home) else self._http.route(url)
        response: BaseHTTPResponse | None = None
        try:
            response = self._http.open(request, route)
            self._date = response.headers.get("Date", self._date)
            content = self._whole(response, call.into, call.max_bytes)
        except (requests.RequestException, HTTPError, OSError) as error:
            trouble = self._trouble(error, request, answering=response is not None)
        else:
            took = time.monotonic() - began
            return Answer(response.status, response.headers, content, self._shown(request.url), took, self.redact)
        finally:
            # A body that was read to its end has given its connection back by now; any other is not worth keeping
            if response is not None:
                response.close()
            self.stats.count(busy=time.monotonic() - began)
        raise trouble

    def _whole(self, response: BaseHTTPResponse, into: Sink | None, most: int | None) -> bytes:
        """Read the body; of one that is no good answer and too long, nothing."""
        try:
            return self._content(response, into, most)
        except TooLarge as error:
            if not 200 <= response.status < 300:
                return b""
            error.status = response.status
            raise

    def _content(self, response: BaseHTTPResponse, into: Sink | None, most: int | None) -> bytes:
        """Read the body, decompressed; nothing is returned of one that is written into something."""
        if into is not None:
            into.begin()
        encoding = response.headers.get("Content-Encoding", "")
        pieces = pieces_of(response, seconds=self._total_timeout, max_bytes=most, look_up=self._look_up)
        if into is None or response.status != 200:
            body = b"".join(pieces)
            self.stats.count(received=len(body))
            return decompressed(body, encoding, max_bytes=most) if encoding else body
        for piece in decompressing(self._counted(pieces), encoding, max_bytes=most):
            into.write(piece)
        return b""

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.stats.count(received=len(piece))
            yield piece

    def _look_up(self) -> None:
        since = self.stop.since
        if since is not None and time.monotonic() > since + _GRACE:
            self.stop.raise_if_set()

    def _trouble(self, error: Exception, request: requests.PreparedRequest, *, answering: bool) -> FetchError:
        host = urlsplit(request.url or "").netloc
        return trouble_of(
            error,
            host=str(host),
            answering=answering,
            connect_timeout=self._connect_timeout,
            read_timeout=self._read_timeout,
        )

    # Addresses and credentials

    def _address(self, path_or_url: str) -> str:
        if re.match(r"https?://", path_or_url, re.IGNORECASE):
            return without_userinfo(path_or_url)
        path = path_or_url.lstrip("/")
        return f"{self.base_url}/{path}" if path else self.base_url

    def _is_home(self, url: str) -> bool:
        if url.startswith(self._home):
            return True  # nearly always, and cheaper to see than to take the address apart several times a request
        try:
            return origin_of(url) == self._origin
        except ValueError:
            return False

    def _prepared(
        self, method: str, url: str, call: _Call, *, trusted: bool, first: bool = True
    ) -> requests.PreparedRequest:
        request = requests.PreparedRequest()
        with_body = method not in {"GET", "HEAD"} or first
        headers = {**self._headers, **call.headers}
        try:
            # what `prepare` does, but for cookies, and a user and password taken out of the address
            request.prepare_method(method)
            request.prepare_url(url, cast("Any", call.params if first else None))
            request.prepare_headers(headers)
            request.prepare_body(call.data if with_body else None, None, call.json if with_body else None)
        except requests.RequestException as error:
            reason = type(error).__name__
        else:
            self._settle_credentials(request, call, trusted=trusted)
            return request
        raise Refused(f"the request cannot be sent ({reason}): check its address and headers.")

    def _settle_credentials(self, request: requests.PreparedRequest, call: _Call, *, trusted: bool) -> None:
        """Add the secret headers, or take all credentials away, by where the request as prepared will really go."""
        if trusted and self._is_home(request.url or ""):
            given = {name.lower() for name in call.headers}
            request.headers.update({k: v for k, v in self._secret_headers.items() if k.lower() not in given})
            return
        for name in CREDENTIALS.union(name.lower() for name in self._secret_headers):
            request.headers.pop(name, None)

    def _redirect_target(self, request: requests.PreparedRequest, answer: Answer) -> str:
        location = answer.headers.get("Location")
        if not location:
            raise Refused(f"the server answered {answer.status} without saying where to.", status=answer.status)
        try:
            # Servers send UTF-8 where the library reads Latin-1
            location = location.encode("latin-1", "replace").decode("utf-8", "replace")
            target = without_userinfo(urljoin(request.url or "", location))
            scheme = origin_of(target)[0]
        except ValueError:
            scheme = target = ""
        if scheme not in {"http", "https"}:
            raise Refused("it was redirected to something that is not an http address.", status=answer.status)
        if request.method not in {"GET", "HEAD"} and not (answer.status in {307, 308} and self._is_home(target)):
            raise Refused(
                f"it was redirected to {self._shown(target)}, and what is sent with {request.method} follows no "
                f"redirect but a 307 or 308 on the same host. If the API is there, set its address to "
                f"{without_path(target)} instead of {without_path(self.base_url)}.",
                status=answer.status,
            )
        return target

    def _redirected(
        self, request: requests.PreparedRequest, target: str, call: _Call, *, trusted: bool
    ) -> requests.PreparedRequest:
        return self._prepared(request.method or "GET", target, call, trusted=trusted, first=False)

    def _shown(self, url: str | None) -> str:
        """Return an address for a message: another host's query may be a signature that opens the door by itself."""
        parts = urlsplit(self.redact(url or ""))
        query = f"?{parts.query}"[:200] if parts.query and self._is_home(url or "") else ""
        return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"

    def _shown_call(self, call: _Call) -> str:
        request = requests.PreparedRequest()
        try:
            request.prepare_url(call.url, cast("Any", call.params))
        except requests.RequestException:
            return self.redact(call.url)
        return self._shown(request.url)
