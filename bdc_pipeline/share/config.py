"""How a shared database is configured: `config.yaml`, environment variables, arguments; checked, in one type.

An argument stands above a variable, a variable above the file, the file above the default. The file:

    database:
      path: //server/team/app.db
      sync_interval: 30
      enable_cache: true
      cache_directory: ~/.bdc_cache
      rules:
        default: newest
        notes: manual
        stock: {rule: fields, columns: {quantity: sum}}
"""

from __future__ import annotations

import getpass
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bdc_pipeline import settings
from bdc_pipeline.settings import Setting, SettingsError
from bdc_pipeline.share.mounts import located
from bdc_pipeline.share.rules import RuleError, Rules

FILE = "config.yaml"

SECTION = "database"

SECONDS = (0.1, 86_400.0)
"""The least and the greatest interval."""


@dataclass(frozen=True)
class Config:
    """A shared database and how it is kept. Its repr hides the secret.

    Args:
        path: the database on the share, as it was named: a path or `//server/share/app.db`.
        sync_interval: seconds between two syncs in the background.
        enable_cache: whether there is a local cache; None: where the path is on a network share.
        cache_directory: where the caches are.
        secret: the passphrase that changes are encrypted with; empty for none.
        user: the name that the audit shows.
        rules: who wins a conflict, by table.
        migrations: statements for schema changes that are more than additions, by `HASH->HASH`.
    """

    path: str
    sync_interval: float = 30.0
    enable_cache: bool | None = None
    cache_directory: Path = Path("~/.bdc_cache")
    secret: str = field(default="", repr=False)
    user: str = ""
    rules: Rules = field(default_factory=Rules)
    migrations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def share(self) -> Path:
        """The database on the share as this machine reaches it: a UNC path below the mount of its server."""
        return (located(self.path) or Path(self.path)).expanduser().absolute()

    @property
    def is_mounted(self) -> bool:
        """Whether there is a place here at which the share would be."""
        return located(self.path) is not None

    @property
    def folder(self) -> Path:
        """The directory of this database's cache: named after the database, told apart by how it is named.

        It is the same while the share is not mounted: the cache is what one works with then.
        """
        named = self.path.replace("\\", "/")
        identity = named.rstrip("/") if named.startswith("//") else str(Path(named).expanduser().absolute())
        name = re.sub(r"[^\w.-]", "_", Path(named).stem) or "database"
        digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:10]
        return self.cache_directory.expanduser().absolute() / f"{name}-{digest}"

    @property
    def cache(self) -> Path:
        """The cache itself, which need not be there."""
        return self.folder / Path(self.path.replace("\\", "/")).name


def _interval(value: Any, place: str) -> float:
    try:
        seconds = float(value) if not isinstance(value, bool) else 0.0
    except (TypeError, ValueError):
        seconds = 0.0
    least, most = SECONDS
    if not least <= seconds <= most:
        raise SettingsError(f"{place} is '{value}'. Set it to seconds from {least:g} to {most:g}, such as 30.")
    return seconds


def _switch(value: Any, place: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    found = words.get(str(value).strip().lower())
    if found is None:
        raise SettingsError(f"{place} is '{value}'. Set it to true or false.")
    return found


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{place} is '{value}'. Set it to text.")
    return value.strip()


def _secret(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        # the value is not repeated: it may be most of a passphrase
        raise SettingsError(f"{place} is no text. Put the passphrase between quotes.")
    return value.strip()


def _directory(value: Any, place: str) -> Path:
    return Path(_text(value, place))


def _rules(value: Any, place: str) -> Rules:
    if not isinstance(value, Mapping):
        raise SettingsError(f"{place} is '{value}'. Set it to a mapping: a default, and rules of tables.")
    try:
        return Rules.of(value)
    except RuleError as error:
        raise SettingsError(f"{place}: {error}") from None


def _migrations(value: Any, place: str) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise SettingsError(f"{place} is '{value}'. Set it to a mapping of 'HASH->HASH' to a list of SQL statements.")
    found = {}
    for step, statements in value.items():
        listed = [statements] if isinstance(statements, str) else statements
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise SettingsError(f"{place}: '{step}' is '{statements}'. Set it to a list of SQL statements.")
        if "->" not in str(step):
            raise SettingsError(
                f"{place}: '{step}' is no step. Write it as 'HASH->HASH', as the sentence of a sync that is blocked names them."
            )
        found[re.sub(r"\s", "", str(step))] = tuple(listed)
    return found


Reader = Callable[[Any, str], Any]

_READERS: Mapping[str, Reader] = {
    "path": _text,
    "sync_interval": _interval,
    "enable_cache": _switch,
    "cache_directory": _directory,
    "secret": _secret,
    "user": _text,
    "rules": _rules,
    "migrations": _migrations,
}

_VARIABLES: Mapping[str, Setting] = {
    "sync_interval": settings.BDC_SHARE_SYNC_INTERVAL,
    "enable_cache": settings.BDC_SHARE_ENABLE_CACHE,
    "cache_directory": settings.BDC_SHARE_CACHE_DIR,
    "secret": settings.BDC_SHARE_SECRET,
}


def read_values(section: Any, place: str) -> dict[str, Any]:
    """The checked values of a `database` section.

    Raises:
        SettingsError: a key is not known or a value cannot be used.
    """
    if not isinstance(section, Mapping):
        raise SettingsError(f"{place} is '{section}'. Set it to a mapping with a path.")
    found = {}
    for key, value in section.items():
        reader = _READERS.get(key)
        if reader is None:
            raise SettingsError(f"{place}.{key} is not known. There are {', '.join(_READERS)}.")
        if value is not None:
            found[key] = reader(value, f"{place}.{key}")
    return found


def _from_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  (only where there is a file)

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise SettingsError(f"{path} is not there. Write it, or unset {settings.BDC_SHARE_CONFIG.name}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise SettingsError(f"{path} cannot be read as YAML: {told}. Mend it, or name another file.") from None
    # a config.yaml of something else may lie in the working directory
    section = content.get(SECTION) if isinstance(content, Mapping) else None
    return read_values(section, f"{path}: {SECTION}") if section is not None else {}


def _from_environment() -> dict[str, Any]:
    return {
        key: _READERS[key](settings.read(setting), setting.name)
        for key, setting in _VARIABLES.items()
        if settings.is_set(setting)
    }


def load(path: str | Path | None = None, *, file: Path | None = None, **given: Any) -> Config:
    """The configuration of one shared database.

    Args:
        path: the database on the share; by default that of the file.
        file: the configuration file; by default BDC_SHARE_CONFIG, else `config.yaml` in the working directory, if any.
        given: values that stand above all others, as in a `database` section; None counts as not given.

    Raises:
        SettingsError: something cannot be used, or no database is named anywhere.
    """
    named = file or (Path(settings.read(settings.BDC_SHARE_CONFIG)).expanduser() if _file_is_named() else None)
    values = _from_file(named or Path(FILE), must_exist=named is not None)
    values |= _from_environment()
    values |= _arguments(given)
    if path is not None:
        values["path"] = _text(str(path), "the path of the shared database")
    if "path" not in values:
        raise SettingsError(
            f"No shared database is named. Give its path on the share, such as //server/team/app.db, or write it into {FILE} "
            f"as `{SECTION}: {{path: ...}}`."
        )
    values.setdefault("user", _login())
    return Config(**values)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in given.items():
        if key not in _READERS or key == "path":
            raise TypeError(f"'{key}' is no setting of a shared database. There are {', '.join(_READERS)}.")
        if isinstance(value, (Rules, Path)):
            found[key] = value
        elif value is not None:
            found[key] = _READERS[key](value, key)
    return found


def _file_is_named() -> bool:
    return settings.is_set(settings.BDC_SHARE_CONFIG)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user need not have a name
        return "unknown"


def with_interval(config: Config, seconds: Any) -> Config:
    """The configuration with another interval.

    Raises:
        SettingsError: it is none.
    """
    return replace(config, sync_interval=_interval(seconds, "the interval"))
