"""Reading an environment variable and checking its value: numbers, addresses, tokens, choices.

Nothing else reads the environment. Variables are read when they are needed, not at import, so that loading the
definitions needs none of them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A variable is missing or cannot be used: says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """An environment variable, as the README lists it."""

    name: str
    default: str
    description: str
    secret: bool = False


def read(setting: Setting) -> str:
    """A variable's value without surrounding blanks; its default where it is unset or blank."""
    return os.environ.get(setting.name, "").strip() or setting.default


def is_set(setting: Setting) -> bool:
    """Whether the variable itself has a value, its default aside."""
    return bool(os.environ.get(setting.name, "").strip())


def one_of(setting: Setting, choices: tuple[str, ...]) -> str:
    """The variable's value, one of some words.

    Raises:
        SettingsError: it is none of them.
    """
    value = read(setting)
    if value not in choices:
        raise SettingsError(f"{setting.name} is '{value}'. Set it to one of {', '.join(choices)}.")
    return value


def checked_token(setting: Setting, what: str) -> str:
    """A token that can stand in a header.

    Raises:
        SettingsError: it is missing or cannot; `what` is to be created.
    """
    token = read(setting)
    if not token:
        raise SettingsError(
            f"{setting.name} is not set. Create {what} and export it, or run 'bdc-pipeline demo' for generated data."
        )
    if any(character.isspace() or not character.isprintable() for character in token) or not token.isascii():
        raise SettingsError(f"{setting.name} holds blanks or control characters. Export it again without them.")
    return token


def checked_number(setting: Setting, text: str, *, whole: bool = False) -> float:
    """A variable's text as a number above 0.

    Raises:
        SettingsError: it is none, or no whole one where that is asked for.
    """
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100_000:
        kind = "whole number" if whole else "number"
        raise SettingsError(
            f"{setting.name} is '{text}'. Set it to a {kind} above 0, such as {setting.default or '20'}."
        )
    return value


def optional_number(setting: Setting) -> float | None:
    """The variable's number; None where it says nothing.

    Raises:
        SettingsError: it is no number above 0.
    """
    text = read(setting)
    return checked_number(setting, text) if text else None


def optional_whole_number(setting: Setting) -> int | None:
    """The variable's whole number; None where it says nothing.

    Raises:
        SettingsError: it is no whole number above 0.
    """
    text = read(setting)
    return int(checked_number(setting, text, whole=True)) if text else None


def checked_url(name: str, url: str, api: str = "") -> str:
    """A base address, without a trailing slash.

    Args:
        name: of the variable.
        url: its value.
        api: the path below which the service answers, such as `/api/v4`, which is put behind the address here.

    Raises:
        SettingsError: it is missing, or no http(s) address, or carries a user, a query, a fragment or the API's path.
    """
    if not url:
        raise SettingsError(
            f"{name} is not set. Set it to your instance, such as https://INSTANCE.sonar.software, or run "
            "'bdc-pipeline demo' for generated data."
        )
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_fits = urlsplit(""), False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_fits:
        raise SettingsError(
            f"{name} is '{_without_user(url)}', which is no web address. It begins with https:// and a host."
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise SettingsError(f"{name} begins with http://, which would send what is asked unencrypted. Use https://.")
    if parts.username or parts.password:
        raise SettingsError(
            f"{name} holds a user or a password. Give the address alone; the token has its own variable."
        )
    if parts.query or parts.fragment:
        raise SettingsError(f"{name} is '{url}'. Give the address alone, without what follows '?' or '#'.")
    if api and parts.path.rstrip("/").endswith(api):
        alone = url.rstrip("/").removesuffix(api)
        raise SettingsError(f"{name} is '{url}'. Give the address without {api}, which is added: {alone}")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _without_user(url: str) -> str:
    return url.rpartition("@")[2]
