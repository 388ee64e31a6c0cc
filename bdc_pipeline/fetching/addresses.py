"""Addresses: where an API is, whether two addresses are one place, and the credentials that are written into them.

What belongs here: taking addresses and headers apart and checking them. Sending to them does not.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import requests

CREDENTIALS = frozenset({"authorization", "cookie", "private-token", "job-token", "proxy-authorization", "x-api-key"})
"""Headers that prove who is asking, whoever sets them; in lower case."""


def checked_base(base_url: str) -> tuple[str, str]:
    """Return the base address of an API as it will be sent, without user and password, and "user:password" or "".

    Raises ValueError if it is not an http or https address with a host and without a query.
    """
    try:
        parts = urlsplit(base_url.strip())
        userinfo, _, netloc = parts.netloc.rpartition("@")
        origin_of(base_url.strip())
        # Prepared like those that will be compared with it: a host in Unicode, for one, is sent in ASCII
        prepared = requests.PreparedRequest()
        prepared.prepare_url(parts._replace(netloc=netloc).geturl(), None)
        valid = parts.scheme in {"http", "https"} and not parts.query and not parts.fragment
    except ValueError:
        valid = False
    if not valid:
        shown = re.sub(r"//[^/]*@", "//***@", base_url)
        raise ValueError(
            f"{shown!r} is not the address of an API. It has to be like https://example.com or "
            f"https://example.com/prefix: http or https, a host, and no query."
        )
    return str(prepared.url).rstrip("/"), userinfo


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what has to be the same for two addresses to be one place.

    Raises ValueError for an address that has none of these.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("An address without a host has no origin.")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def without_path(url: str) -> str:
    """Return scheme, host and port as they are written in an address: "https://example.com:8443"."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def without_userinfo(url: str) -> str:
    """Return an address without a user and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def basic_authentication(userinfo: str) -> dict[str, str]:
    """Return the header that "user:password" from an address stands for; none for ""."""
    if not userinfo:
        return {}
    user, _, password = userinfo.partition(":")
    credentials = f"{unquote(user)}:{unquote(password)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}


def userinfo_secrets(userinfo: str) -> list[str]:
    """Return what of "user:password" from an address must not be shown."""
    user, _, password = userinfo.partition(":")
    # https://TOKEN@host is a way to write a token too
    return [secret for secret in (userinfo, unquote(userinfo), unquote(password) or unquote(user)) if secret]


def proxy_secrets(proxies: Mapping[str, str]) -> list[str]:
    """Return what of the proxies' addresses must not be shown."""
    userinfos = (urlsplit(proxy).netloc.rpartition("@")[0] for proxy in proxies.values() if proxy)
    return [secret for userinfo in userinfos for secret in userinfo_secrets(userinfo)]


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse here, without the value, what `requests` would refuse with the value in its message."""
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ValueError(
                f"The value of the header {name} holds a line break, a space around it or a character outside ASCII. "
                f"Check where it was copied from."
            )
