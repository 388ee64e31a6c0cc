"""How many requests GitLab takes in a window of time: the limit that its headers announce, and limits that they do not.

Windows are fixed, as GitLab's are: a new one begins with each full `limit_seconds` of the clock.
"""

from __future__ import annotations

import time
from collections import Counter
from email.utils import formatdate

from bdc_pipeline.sandbox.frame import Answer
from bdc_pipeline.sandbox.gitlab.answers import Headers, message, refusal, with_headers
from bdc_pipeline.sandbox.options import SandboxOptions

#: What an application's limit answers, in JSON unlike the instance's
_TOO_OFTEN = b'{"message":{"error":"This endpoint has been requested too many times. Try again later."}}'
#: The topic of the counter for all requests
_ALL = ""


class Limits:
    """The counters of the current window."""

    def __init__(self, options: SandboxOptions) -> None:
        self._seconds = options.limit_seconds
        self._limit = options.api_limit
        self._hidden = dict(parse_limit(entry) for entry in options.hidden_limits)
        self._window = 0
        self._counts: Counter[str] = Counter()

    def take(self, topic: str) -> tuple[Headers, Answer | None]:
        """Count a request: the headers of its answer, and the answer if it is one too many."""
        window = int(time.time() // self._seconds)
        if window != self._window:
            self._window, self._counts = window, Counter()
        self._counts[_ALL] += 1
        self._counts[topic] += 1
        pause = max(1, round((window + 1) * self._seconds - time.time() + 0.5))
        headers = self.headers
        if self._limit is not None and self._counts[_ALL] > self._limit:
            date = formatdate((window + 1) * self._seconds, usegmt=True).encode()
            return (), refusal(429, pause, (*headers, (b"ratelimit-resettime", date)))
        if topic in self._hidden and self._counts[topic] > self._hidden[topic]:
            answer = Answer(_TOO_OFTEN, 429, message(429).headers)
            return (), with_headers(answer, ((b"retry-after", b"%d" % pause), *headers))
        return headers, None

    @property
    def headers(self) -> Headers:
        """What each answer tells of the announced limit, if there is one."""
        if self._limit is None:
            return ()
        seen = self._counts[_ALL]
        values = {
            "limit": round(self._limit * 60 / self._seconds),
            "name": "throttle_authenticated_api",
            "observed": seen,
            "remaining": max(0, self._limit - seen),
            "reset": round((self._window + 1) * self._seconds),
        }
        return tuple((f"ratelimit-{name}".encode(), str(value).encode()) for name, value in values.items())


def parse_limit(entry: str) -> tuple[str, int]:
    """Topic and count of an entry such as trace=100."""
    topic, _, count = entry.partition("=")
    return topic, int(count)
