"""Redaction: keeping secrets out of whatever is shown to people, in each of the forms in which they travel.

What belongs here: finding a secret in text and replacing it. Where secrets come from and where they may be sent do not.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import traceback
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "***"


class Redactor:
    """Replaces secrets in text by `***`: as they are, without "Bearer ", URL-encoded, escaped, and in base64."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # The longest first, or the start of a longer one would be masked and its end shown
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if forms else None

    def __repr__(self) -> str:
        return "Redactor()"

    def __call__(self, text: str) -> str:
        """Return the text without the secrets."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text


class RedactingFilter(logging.Filter):
    """Takes secrets out of log records: put it on a handler, where records of all loggers come through.

    A record is shown with its message and, if there is one, its traceback redacted; none is held back.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._redact = Redactor(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place and let it pass."""
        record.msg = self._redact(record.getMessage())
        record.args = ()
        if record.exc_info and not record.exc_text:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.exc_text:
            record.exc_text = self._redact(record.exc_text)
            # The text stands for it from here on; a formatter of its own would start again from the exception
            record.exc_info = None
        if record.stack_info:
            record.stack_info = self._redact(record.stack_info)
        return True


def _forms(secret: str) -> set[str]:
    """Return the ways in which a secret may be written: all of it, and what follows a scheme such as "Bearer"."""
    bare = secret.strip().rpartition(" ")[2]
    forms = {form for text in (secret.strip(), bare) if text for form in _encoded(text)}
    return forms | _basic_credentials(secret)


def _basic_credentials(secret: str) -> set[str]:
    """Return the user's password inside a "Basic ..." header, which a server may well show back."""
    scheme, _, encoded = secret.strip().partition(" ")
    if scheme.lower() != "basic":
        return set()
    try:
        credentials = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return set()
    password = credentials.partition(":")[2]
    return {form for text in (credentials, password) if text for form in _encoded(text)}


def _encoded(text: str) -> set[str]:
    raw = text.encode()
    in_base64 = {encoded.decode().rstrip("=") for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw))}
    return {
        text,
        quote(text),
        quote(text, safe=""),
        quote_plus(text),
        json.dumps(text)[1:-1],
        repr(text)[1:-1],
        *in_base64,
    }
