"""Where alerts go: a webhook, mail, and the links in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from bdc_pipeline.settings.reading import (
    Setting,
    SettingsError,
    checked_number,
    checked_url,
    is_loopback,
    is_set,
    one_of,
    read,
)

BDC_ALERT_WEBHOOK = Setting(
    "BDC_ALERT_WEBHOOK",
    "",
    "Where alerts are posted, as Slack's incoming webhooks take them; empty for none",
    secret=True,
)
BDC_ALERT_MAIL_TO = Setting("BDC_ALERT_MAIL_TO", "", "Who gets alerts by mail, with commas; empty for nobody")
BDC_ALERT_MAIL_FROM = Setting(
    "BDC_ALERT_MAIL_FROM", "", "The sender of alerts by mail; the first recipient where not set"
)
BDC_SMTP_HOST = Setting("BDC_SMTP_HOST", "", "The mail server, for alerts by mail")
BDC_SMTP_PORT = Setting("BDC_SMTP_PORT", "587", "Its port")
BDC_SMTP_SECURITY = Setting(
    "BDC_SMTP_SECURITY", "starttls", "`starttls`, `tls`, or `none` for a mail server on this machine"
)
BDC_SMTP_USER = Setting("BDC_SMTP_USER", "", "The user of the mail server; empty for none")
BDC_SMTP_PASSWORD = Setting("BDC_SMTP_PASSWORD", "", "That user's password", secret=True)
BDC_UI_URL = Setting("BDC_UI_URL", "", "The address of Dagster's web UI, for links in alerts")


@dataclass(frozen=True)
class MailSettings:
    """How to send alerts by mail. Its repr hides the password."""

    host: str
    port: int
    security: str
    sender: str
    recipients: tuple[str, ...]
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"MailSettings(host={self.host!r}, port={self.port}, security={self.security!r}, user={self.user!r})"


def alerts_are_configured() -> bool:
    """Whether alerts are to go anywhere."""
    return is_set(BDC_ALERT_WEBHOOK) or is_set(BDC_ALERT_MAIL_TO)


def alert_webhook() -> str | None:
    """Where alerts are posted, if anywhere. The address is a secret as a whole: who knows it can post.

    Raises:
        SettingsError: it cannot be used; the sentence does not repeat it.
    """
    url = read(BDC_ALERT_WEBHOOK)
    if not url:
        return None
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    if not is_address or parts.scheme not in {"http", "https"}:
        raise SettingsError(f"{BDC_ALERT_WEBHOOK.name} is no web address. It begins with https:// and a host.")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise SettingsError(f"{BDC_ALERT_WEBHOOK.name} begins with http://, which would send alerts unencrypted.")
    return url


def alert_mail() -> MailSettings | None:
    """How alerts go by mail, if they do.

    Raises:
        SettingsError: something is missing or cannot be used.
    """
    recipients = tuple(name.strip() for name in read(BDC_ALERT_MAIL_TO).split(",") if name.strip())
    if not recipients:
        return None
    sender = read(BDC_ALERT_MAIL_FROM) or recipients[0]
    for address in (*recipients, sender):
        if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address):
            raise SettingsError(f"'{address}' is no mail address. Set {BDC_ALERT_MAIL_TO.name} to some with commas.")
    host, security = read(BDC_SMTP_HOST), one_of(BDC_SMTP_SECURITY, ("starttls", "tls", "none"))
    if not host:
        raise SettingsError(f"{BDC_SMTP_HOST.name} is not set. Set it to the mail server that sends the alerts.")
    if security == "none" and not is_loopback(host):
        raise SettingsError(
            f"{BDC_SMTP_SECURITY.name} is 'none', which would send mail to {host} unencrypted. Use 'starttls' or 'tls'."
        )
    port = int(checked_number(BDC_SMTP_PORT, read(BDC_SMTP_PORT), whole=True))
    return MailSettings(host, port, security, sender, recipients, read(BDC_SMTP_USER), read(BDC_SMTP_PASSWORD))


def ui_url() -> str:
    """The address of the web UI, for links; empty where it is not known.

    Raises:
        SettingsError: it cannot be used.
    """
    return read(BDC_UI_URL) and checked_url(BDC_UI_URL.name, read(BDC_UI_URL))
