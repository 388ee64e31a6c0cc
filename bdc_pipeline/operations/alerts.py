"""Alerts: what is news, how it is worded, and sending it to a webhook or by mail. Imports no Dagster.

Each problem is told once, again when it changes, and once when it is over. What a channel has been told is remembered for
each by itself: where one cannot be reached, the other is not told twice.
"""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import urlsplit

import requests

from bdc_pipeline import settings
from bdc_pipeline.fetching.redaction import Redactor

SECONDS = 15.0
"""How long a channel may take to answer."""

MOST_LINES = 20
"""So many problems are worded in one alert."""

LONGEST_LINE = 400


class AlertError(Exception):
    """An alert could not be sent: says where to and why, without the address, which is a secret."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should know.

    Args:
        text: a sentence.
        digest: what it is about; it is told again when that changes. Ages and times are no part of it.
    """

    text: str
    digest: str


def digest_of(*parts: object) -> str:
    """A short text that changes with its parts."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(errors="replace"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class News:
    """What a channel is to be told, and what it has been told then, by problem."""

    begun: Mapping[str, str] = field(default_factory=dict)
    over: Sequence[str] = ()
    told: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.begun or self.over)


def news_for(found: Mapping[str, Problem], told: Mapping[str, str], unknown: frozenset[str] = frozenset()) -> News:
    """Compares problems with what has been told.

    Args:
        found: the problems, by what they are problems of.
        told: the digests that have been told, by the same names.
        unknown: names of which it cannot be said now whether they have a problem: nothing is told of them.
    """
    begun = {
        name: problem.text
        for name, problem in found.items()
        if told.get(name) != problem.digest and name not in unknown
    }
    over = [name for name in told if name not in found and name not in unknown]
    after = {name: digest for name, digest in told.items() if name not in over}
    return News(begun, over, after | {name: found[name].digest for name in begun})


def worded(title: str, news: News, link: str = "") -> str:
    """An alert's text: its title, a line for each problem, a line for what is over, a link."""
    lines = [f"- {name}: {' '.join(text.split())}" for name, text in news.begun.items()]
    lines = [line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…" for line in lines]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"- and {len(lines) - MOST_LINES} more"]
    if news.over:
        named = ", ".join(news.over[:MOST_LINES])
        more = f", and {len(news.over) - MOST_LINES} more" if len(news.over) > MOST_LINES else ""
        lines.append(f"- well again: {named}{more}")
    return "\n".join([f"bdc_pipeline: {title}", *lines, *([link] if link else [])])


# -- channels --------------------------------------------------------------------------------------------------


class Channel(Protocol):
    """Where alerts go."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    def send(self, text: str) -> None:
        """Sends an alert.

        Raises:
            AlertError: it did not arrive.
        """


@dataclass(frozen=True)
class Webhook:
    """An address that takes what Slack's incoming webhooks take: https://api.slack.com/messaging/webhooks."""

    url: str
    name: str = "webhook"

    def __repr__(self) -> str:
        return f"Webhook({urlsplit(self.url).hostname})"

    def send(self, text: str) -> None:
        """Posts it. A redirect is not followed: it would take the text to another host."""
        host = urlsplit(self.url).hostname
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        try:
            with requests.post(self.url, json={"text": escaped}, timeout=SECONDS, allow_redirects=False) as answer:
                status = answer.status_code
        except requests.RequestException as error:
            # the exception's text repeats the address
            raise AlertError(f"the webhook at {host} could not be reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise AlertError(f"the webhook at {host} answered {status}; check {settings.BDC_ALERT_WEBHOOK.name}")


@dataclass(frozen=True)
class Mail:
    """A mail server that takes alerts for some recipients."""

    settings: settings.MailSettings
    name: str = "mail"

    def send(self, text: str) -> None:
        """Sends it; the first two lines are the subject."""
        message = EmailMessage()
        message["From"], message["To"] = self.settings.sender, ", ".join(self.settings.recipients)
        message["Subject"] = " ".join(line.removeprefix("- ") for line in text.splitlines()[:2])[:150]
        message.set_content(text)
        try:
            with self._connected() as server:
                if self.settings.security == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self.settings.user:
                    server.login(self.settings.user, self.settings.password)
                server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise AlertError(f"the mail server {self.settings.host} did not take it ({self._why(error)})") from None

    def _connected(self) -> smtplib.SMTP:
        found = self.settings
        if found.security == "tls":
            return smtplib.SMTP_SSL(found.host, found.port, timeout=SECONDS, context=ssl.create_default_context())
        return smtplib.SMTP(found.host, found.port, timeout=SECONDS)

    def _why(self, error: Exception) -> str:
        user, password = self.settings.user, self.settings.password
        # as it is, and as a login sends it, which some servers repeat
        shown = Redactor([password, f"\0{user}\0{password}"] if password else [])
        return shown(" ".join(f"{type(error).__name__}: {error}".split())[:200])


def channels() -> list[Channel]:
    """The channels that are configured.

    Raises:
        SettingsError: one of them cannot be used.
    """
    found: list[Channel] = []
    if url := settings.alert_webhook():
        found.append(Webhook(url))
    if mail := settings.alert_mail():
        found.append(Mail(mail))
    return found


def tell(
    title: str,
    found: Mapping[str, Problem],
    told: Mapping[str, Mapping[str, str]],
    to: Sequence[Channel],
    *,
    unknown: frozenset[str] = frozenset(),
    link: str = "",
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tells each channel its news.

    Returns what each has been told now, and a sentence for each channel that had news.
    """
    redact = Redactor(value for setting in settings.SETTINGS if setting.secret and (value := settings.read(setting)))
    after: dict[str, dict[str, str]] = {}
    sentences = []
    for channel in to:
        before = told.get(channel.name, {})
        news = news_for(found, before, unknown)
        after[channel.name] = dict(before)
        if not news:
            continue
        try:
            channel.send(redact(worded(title, news, link)))
        except AlertError as error:
            sentences.append(f"{channel.name}: {error}; tried again at the next turn")
        else:
            after[channel.name] = dict(news.told)
            sentences.append(f"{channel.name}: {len(news.begun)} told, {len(news.over)} well again")
    return after, sentences
