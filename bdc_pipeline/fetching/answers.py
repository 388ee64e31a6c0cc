"""Answers: what comes back from a request, and the ways in which none does.

What belongs here: an answer as it arrived, the errors, and which of them are worth another attempt. Sending is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# A character is at most four bytes, and a secret that begins within the text shown may end after it.
_MARGIN = 4096


def _unchanged(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that arrived whole, decompressed. Headers are found under any spelling; `seconds` is how long it took."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str
    seconds: float
    redact: Callable[[str], str] = field(default=_unchanged, repr=False, compare=False)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters: "application/json"; "" if the server names none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def text_start(self, n: int = 200) -> str:
        """Return the first n characters on one line, redacted, for a message."""
        text = self.content[: 4 * n + _MARGIN].decode("utf-8", "replace")
        return " ".join(self.redact(text).split())[:n]


class FetchError(Exception):
    """A request brought nothing of use. The message is a sentence without secrets.

    `retryable` tells whether another attempt may go better; a session has then made all its attempts.
    """

    retryable = True


class Unreachable(FetchError):  # noqa: N818 - says what happened
    """No connection: refused, unknown host, no TLS, or closed before the answer."""


class TimedOut(FetchError):  # noqa: N818 - says what happened
    """No answer, or not all of it, in the time allowed. Asking for less at once may help."""


class BadAnswer(FetchError):  # noqa: N818 - says what happened
    """An answer that cannot be used as it is but may be better next time: empty, cut short, an error page, a 5xx."""


class Throttled(BadAnswer):
    """The server says that it is asked too much; `retry_after` is in how many seconds to come again, if it says that."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(FetchError):  # noqa: N818 - says what happened
    """An answer that will be the same next time: `status` is its HTTP status, `said` how its body begins (see `text_start`)."""

    retryable = False

    def __init__(self, message: str = "", *, status: int = 0, said: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class TooLarge(Refused):
    """A good answer, whose body is larger than what was to be read of it."""


class Unauthorized(Refused):
    """401: the token is missing, wrong or expired."""
