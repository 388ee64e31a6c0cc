"""Trouble: what went wrong with a request, in words, and whether and when it is worth another attempt.

What belongs here: decisions, from an exception or an error to the next step. Sending, waiting and counting do not.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Iterator
from http.client import BadStatusLine, RemoteDisconnected
from typing import Any, cast

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProxyError, ReadTimeoutError
from urllib3.exceptions import SSLError as TLSError
from urllib3.util.retry import Retry

from bdc_pipeline.fetching.answers import BadAnswer, FetchError, Throttled, TimedOut, Unreachable


def spent(policy: Retry, method: str, shown_url: str, trouble: FetchError) -> Retry | None:
    """Return the policy with one attempt less, or None if that was the last one."""
    # The policy counts reads that time out apart from everything else, and knows them by urllib3's type
    error = ReadTimeoutError(cast("Any", None), shown_url, "timed out") if isinstance(trouble, TimedOut) else trouble
    try:
        return policy.increment(method, shown_url, error=error)
    except MaxRetryError:
        return None


def wait_before_retry(policy: Retry, trouble: FetchError) -> float:
    """Return the seconds to wait before the next attempt, apart from a pause that the pacer keeps for all threads.

    The first retry after a lost connection goes at once (a server closes idle connections as it likes), and so does
    one for which the server named the time; a server that answered in trouble gets a moment.
    """
    wait = policy.get_backoff_time()
    told_when = isinstance(trouble, Throttled) and trouble.retry_after is not None
    if wait > 0 or told_when or not isinstance(trouble, BadAnswer):
        return wait
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads threads, guards nothing
    return min(policy.backoff_max, policy.backoff_factor * jitter)


def trouble_of(  # noqa: PLR0911 - one sentence for each way in which a connection fails
    error: Exception, *, host: str, answering: bool, connect_timeout: float, read_timeout: float
) -> FetchError:
    """Return the error to report for what `requests` or urllib3 raised; `answering`: the headers had arrived.

    None of the original's own words are used: they quote addresses and headers.
    """
    causes = list(_causes(error))
    check = "Check the address, and that the server is up and can be reached from here."
    if any(_is_connect_timeout(cause) for cause in causes):
        return Unreachable(f"{host} did not take the connection within {connect_timeout:g} s. {check}")
    if any(isinstance(cause, (requests.ReadTimeout, ReadTimeoutError)) for cause in causes):
        what = "the body stopped coming for" if answering else "there was no answer for"
        return TimedOut(f"{what} {read_timeout:g} s.")
    if any(isinstance(cause, (requests.exceptions.ProxyError, ProxyError)) for cause in causes):
        return Unreachable(f"the proxy on the way to {host} failed. Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY.")
    if any(isinstance(cause, (requests.exceptions.SSLError, TLSError, ssl.SSLError)) for cause in causes):
        return _tls_trouble(causes, host)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Unreachable(f"the host name of {host} cannot be resolved. Check the address and the network.")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Unreachable(f"{host} refused the connection. {check}")
    if answering:
        return BadAnswer("the body was cut short.")
    if any(isinstance(cause, BadStatusLine) and not isinstance(cause, RemoteDisconnected) for cause in causes):
        return BadAnswer(f"{host} answered with something that is not HTTP.")
    if any(isinstance(cause, (ConnectionError, RemoteDisconnected)) for cause in causes):
        return Unreachable(f"{host} closed the connection without an answer. {check}")
    errno = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    return Unreachable(
        f"the connection to {host} failed ({os.strerror(errno) if errno else 'no reason given'}). {check}"
    )


def _is_connect_timeout(cause: BaseException) -> bool:
    if isinstance(cause, requests.ConnectTimeout):
        return True
    # to urllib3 a connection that failed is one that timed out
    return isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError)


def _tls_trouble(causes: list[BaseException], host: str) -> Unreachable:
    distrusted = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if distrusted is None:
        return Unreachable(f"a secure connection to {host} could not be made. Check whether the address is https.")
    trouble = Unreachable(
        f"the certificate of {host} is not trusted ({distrusted.verify_message}). "
        f"Check the address, or name the authority's certificates in REQUESTS_CA_BUNDLE."
    )
    trouble.retryable = False
    return trouble


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error to what is behind it: urllib3 hides it in `reason`, requests in its arguments."""
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        cause = left.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            left += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def sentence_of(trouble: FetchError) -> str:
    """Return an error's message as a sentence, also where a caller's `parse` gave none."""
    message = str(trouble) or f"the answer cannot be used ({type(trouble).__name__})"
    return message if message.endswith((".", "!", "?")) else f"{message}."


def quoted(text: str) -> str:
    """Return a text in parentheses to add to a sentence; nothing for nothing."""
    return f" ({text})" if text else ""
