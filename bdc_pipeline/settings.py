"""Every environment variable: its name, its default, its check. Nothing else reads the environment.

Variables are read when they are needed, not at import, so that loading the definitions needs none of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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


BDC_DATA_DIR = Setting("BDC_DATA_DIR", "data", "Directory of the database files and the log")
SONAR_URL = Setting("SONAR_URL", "", "Your Sonar instance: `https://INSTANCE.sonar.software`")
SONAR_TOKEN = Setting(
    "SONAR_TOKEN", "", "A personal access token of a Sonar user who may read what is synced", secret=True
)
SONAR_WORKERS = Setting("SONAR_WORKERS", "10", "Requests to Sonar at the same time, where no option says otherwise")
SONAR_REQUESTS_PER_SECOND = Setting(
    "SONAR_REQUESTS_PER_SECOND", "", "Upper limit of requests a second to Sonar; empty for none but the adaptive one"
)
BOLIGSIDEN_URL = Setting("BOLIGSIDEN_URL", "https://api.boligsiden.dk", "Boligsiden's API of Danish homes")
BOLIGSIDEN_REQUESTS_PER_SECOND = Setting(
    "BOLIGSIDEN_REQUESTS_PER_SECOND", "10", "Upper limit of requests a second to Boligsiden, which is a public service"
)
GITLAB_URL = Setting("GITLAB_URL", "https://gitlab.com", "Your GitLab instance")
GITLAB_TOKEN = Setting(
    "GITLAB_TOKEN", "", "A personal, group or project access token with the scope `read_api`", secret=True
)
GITLAB_PROJECTS = Setting(
    "GITLAB_PROJECTS", "", "Ids or paths of projects, with commas; empty for all that the token is a member of"
)
GITLAB_WORKERS = Setting("GITLAB_WORKERS", "20", "Requests to GitLab at the same time, where no option says otherwise")
GITLAB_REQUESTS_PER_SECOND = Setting(
    "GITLAB_REQUESTS_PER_SECOND", "", "Upper limit of requests a second to GitLab; empty for none but the adaptive one"
)
GITLAB_PROJECTS_AT_ONCE = Setting(
    "GITLAB_PROJECTS_AT_ONCE", "", "Projects that are fetched from at the same time; empty for any number"
)
GITLAB_PIPELINES_AT_ONCE = Setting(
    "GITLAB_PIPELINES_AT_ONCE", "", "Pipelines of one project that are fetched at the same time; empty for any number"
)
GITLAB_JOBS_AT_ONCE = Setting(
    "GITLAB_JOBS_AT_ONCE",
    "",
    "Jobs of one project whose logs or archives are fetched at the same time; empty for any number",
)
BRANDMEISTER_URL = Setting("BRANDMEISTER_URL", "https://api.brandmeister.network", "BrandMeister's API")
TGIF_URL = Setting("TGIF_URL", "https://api.tgif.network", "TGIF's API")
HEARHAM_URL = Setting("HEARHAM_URL", "https://hearham.com", "hearham's repeater directory")
BDC_CACHE_DIR = Setting("BDC_CACHE_DIR", "", "Directory of raw downloads; `cache` in the data directory where not set")
BDC_SHARE = Setting(
    "BDC_SHARE", "", "Directory on a file share to which the project's databases are published; empty for none"
)
BDC_SHARE_CONFIG = Setting(
    "BDC_SHARE_CONFIG",
    "",
    "The configuration of shared databases; `config.yaml` in the working directory where not set",
)
BDC_SHARE_SYNC_INTERVAL = Setting(
    "BDC_SHARE_SYNC_INTERVAL", "30", "Seconds between two syncs of a shared database in the background"
)
BDC_SHARE_ENABLE_CACHE = Setting(
    "BDC_SHARE_ENABLE_CACHE", "", "`true` or `false`; where not set, a database on a network share has a local cache"
)
BDC_SHARE_CACHE_DIR = Setting(
    "BDC_SHARE_CACHE_DIR", "~/.bdc_cache", "Directory of the local caches of shared databases"
)
BDC_SHARE_SECRET = Setting(
    "BDC_SHARE_SECRET", "", "A passphrase that all clients of a share know: changes are encrypted with it", secret=True
)
DMR_PROFILE = Setting(
    "DMR_PROFILE",
    "standard",
    "How often the DMR registries are asked by the schedule, and how much of the machine a load takes: `realtime`, "
    "`high_performance`, `standard` or `constrained`",
)
BDC_AUTOMATION = Setting(
    "BDC_AUTOMATION",
    "off",
    "`on`: schedules and sensors that ask a source's service are on from the start; `off`: each is switched on in the UI",
)
BDC_BACKUP_DIR = Setting(
    "BDC_BACKUP_DIR", "", "Directory of the databases' backups; `backups` in the data directory where not set"
)
BDC_BACKUP_KEEP = Setting("BDC_BACKUP_KEEP", "7", "Backups of a database to keep, at most")
BDC_BACKUP_DAYS = Setting("BDC_BACKUP_DAYS", "30", "Days after which a backup goes, unless it is the last one")
BDC_KEEP_RUNS_DAYS = Setting(
    "BDC_KEEP_RUNS_DAYS", "60", "Days after which runs and their logs are deleted, unless a partition stands on them"
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
BDC_FRESHNESS = Setting(
    "BDC_FRESHNESS",
    "",
    "How old copies may be, by source or table, where not as usual: `gitlab=2h, sonar=7d/6d, gitlab/jobs=30m`; behind `/` when "
    "the warning begins; a minute at least",
)
BDC_SLOW = Setting(
    "BDC_SLOW", "", "After how long a run is slow, whatever is usual, by source: `dmr=5s, sonar=10m`; empty for none"
)
BDC_OWNERS = Setting(
    "BDC_OWNERS",
    "",
    "Who owns the assets in Dagster, with commas: mail addresses or `team:NAME`; empty for a team a source",
)
DAGSTER_HOME = Setting(
    "DAGSTER_HOME", "", "Where Dagster records runs; with it set, `bdc-pipeline sync` records its runs there too"
)

SETTINGS: tuple[Setting, ...] = (
    BDC_DATA_DIR,
    SONAR_URL,
    SONAR_TOKEN,
    SONAR_WORKERS,
    SONAR_REQUESTS_PER_SECOND,
    BOLIGSIDEN_URL,
    BOLIGSIDEN_REQUESTS_PER_SECOND,
    GITLAB_URL,
    GITLAB_TOKEN,
    GITLAB_PROJECTS,
    GITLAB_WORKERS,
    GITLAB_REQUESTS_PER_SECOND,
    GITLAB_PROJECTS_AT_ONCE,
    GITLAB_PIPELINES_AT_ONCE,
    GITLAB_JOBS_AT_ONCE,
    BRANDMEISTER_URL,
    TGIF_URL,
    HEARHAM_URL,
    BDC_CACHE_DIR,
    BDC_SHARE,
    BDC_SHARE_CONFIG,
    BDC_SHARE_SYNC_INTERVAL,
    BDC_SHARE_ENABLE_CACHE,
    BDC_SHARE_CACHE_DIR,
    BDC_SHARE_SECRET,
    DMR_PROFILE,
    BDC_AUTOMATION,
    BDC_BACKUP_DIR,
    BDC_BACKUP_KEEP,
    BDC_BACKUP_DAYS,
    BDC_KEEP_RUNS_DAYS,
    BDC_ALERT_WEBHOOK,
    BDC_ALERT_MAIL_TO,
    BDC_ALERT_MAIL_FROM,
    BDC_SMTP_HOST,
    BDC_SMTP_PORT,
    BDC_SMTP_SECURITY,
    BDC_SMTP_USER,
    BDC_SMTP_PASSWORD,
    BDC_UI_URL,
    BDC_FRESHNESS,
    BDC_SLOW,
    BDC_OWNERS,
    DAGSTER_HOME,
)

DATABASE_FILES: Mapping[str, str] = {
    "sonar": "bdc_cache.db",
    "gitlab": "gitlab.db",
    "properties": "properties.db",
    "dmr": "dmr.db",
}
"""The file of each source, in the data directory."""

LOG_FILE = "bdc_cache.log"


def read(setting: Setting) -> str:
    """A variable's value without surrounding blanks; its default where it is unset or blank."""
    return os.environ.get(setting.name, "").strip() or setting.default


def is_set(setting: Setting) -> bool:
    """Whether the variable itself has a value, its default aside."""
    return bool(os.environ.get(setting.name, "").strip())


def data_dir() -> Path:
    """The directory of the database files, absolute."""
    return Path(read(BDC_DATA_DIR)).expanduser().absolute()


def database_path(source: str) -> Path:
    """The database file of a source."""
    return data_dir() / DATABASE_FILES[source]


def cache_dir() -> Path:
    """The directory of raw downloads, absolute."""
    value = read(BDC_CACHE_DIR)
    return Path(value).expanduser().absolute() if value else data_dir() / "cache"


def share_dir() -> Path | None:
    """The directory on a file share to which the project's databases are published, if any."""
    value = read(BDC_SHARE)
    return Path(value).expanduser() if value else None


def dagster_home() -> Path | None:
    """Where Dagster records runs, if anywhere.

    Raises:
        SettingsError: the path is not absolute, which Dagster refuses.
    """
    value = read(DAGSTER_HOME)
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise SettingsError(f"DAGSTER_HOME is '{value}', which is not absolute. Set it to a full path, or unset it.")
    return path


@dataclass(frozen=True)
class SonarSettings:
    """How to reach Sonar. Its repr hides the token."""

    url: str
    token: str
    workers: int
    requests_per_second: float | None

    def __repr__(self) -> str:
        return f"SonarSettings(url={self.url!r}, token='***', workers={self.workers})"


def sonar() -> SonarSettings:
    """Sonar's address, token and limits.

    Raises:
        SettingsError: one is missing or cannot be used.
    """
    url = checked_url(SONAR_URL.name, read(SONAR_URL))
    token = _token(SONAR_TOKEN, "a personal access token in your Sonar profile")
    rate = read(SONAR_REQUESTS_PER_SECOND)
    return SonarSettings(
        url=url,
        token=token,
        workers=int(_number(SONAR_WORKERS, read(SONAR_WORKERS), whole=True)),
        requests_per_second=_number(SONAR_REQUESTS_PER_SECOND, rate) if rate else None,
    )


@dataclass(frozen=True, slots=True)
class PropertiesSettings:
    """How to reach Boligsiden."""

    url: str
    requests_per_second: float


def properties() -> PropertiesSettings:
    """Boligsiden's address and limit.

    Raises:
        SettingsError: one cannot be used.
    """
    rate = _number(BOLIGSIDEN_REQUESTS_PER_SECOND, read(BOLIGSIDEN_REQUESTS_PER_SECOND))
    return PropertiesSettings(checked_url(BOLIGSIDEN_URL.name, read(BOLIGSIDEN_URL)), rate)


def dmr_urls() -> dict[str, str]:
    """The registries' addresses by name.

    Raises:
        SettingsError: one cannot be used.
    """
    named = {"brandmeister": BRANDMEISTER_URL, "tgif": TGIF_URL, "hearham": HEARHAM_URL}
    return {name: checked_url(setting.name, read(setting)) for name, setting in named.items()}


@dataclass(frozen=True)
class GitLabSettings:
    """How to reach GitLab, and what of it. Its repr hides the token. None: no limit of that kind."""

    url: str
    token: str
    projects: tuple[str, ...]
    workers: int
    requests_per_second: float | None
    projects_at_once: int | None
    pipelines_at_once: int | None
    jobs_at_once: int | None

    def __repr__(self) -> str:
        return f"GitLabSettings(url={self.url!r}, token='***', projects={self.projects}, workers={self.workers})"


def gitlab() -> GitLabSettings:
    """GitLab's address, token, projects and limits.

    Raises:
        SettingsError: one is missing or cannot be used.
    """
    url = checked_url(GITLAB_URL.name, read(GITLAB_URL))
    token = _token(GITLAB_TOKEN, "an access token with the read_api scope in your GitLab preferences")
    names = tuple(dict.fromkeys(name.strip().strip("/") for name in read(GITLAB_PROJECTS).split(",") if name.strip()))
    for name in names:
        check_project(GITLAB_PROJECTS.name, name)
    return GitLabSettings(
        url=url,
        token=token,
        projects=names,
        workers=int(_number(GITLAB_WORKERS, read(GITLAB_WORKERS), whole=True)),
        requests_per_second=_optional(GITLAB_REQUESTS_PER_SECOND),
        projects_at_once=_optional_whole(GITLAB_PROJECTS_AT_ONCE),
        pipelines_at_once=_optional_whole(GITLAB_PIPELINES_AT_ONCE),
        jobs_at_once=_optional_whole(GITLAB_JOBS_AT_ONCE),
    )


# -- operations ------------------------------------------------------------------------------------------------

DMR_PROFILES = ("realtime", "high_performance", "standard", "constrained")


def dmr_profile() -> str:
    """The profile by which the DMR registries are kept.

    Raises:
        SettingsError: there is no such profile.
    """
    return _one_of(DMR_PROFILE, DMR_PROFILES)


def automation_is_on() -> bool:
    """Whether what asks a source's service by itself is on from the start. Only a clear yes is one."""
    return read(BDC_AUTOMATION).lower() == "on"


def backup_dir() -> Path:
    """The directory of the backups, absolute."""
    value = read(BDC_BACKUP_DIR)
    return Path(value).expanduser().absolute() if value else data_dir() / "backups"


def backup_keep() -> int:
    """How many backups of a database are kept at most.

    Raises:
        SettingsError: it is no such number.
    """
    return int(_number(BDC_BACKUP_KEEP, read(BDC_BACKUP_KEEP), whole=True))


def backup_days() -> float:
    """After how many days a backup goes, unless it is the last one.

    Raises:
        SettingsError: it is no such number.
    """
    return _number(BDC_BACKUP_DAYS, read(BDC_BACKUP_DAYS))


def keep_runs_days() -> float:
    """After how many days runs and their logs are deleted.

    Raises:
        SettingsError: it is no such number.
    """
    return _number(BDC_KEEP_RUNS_DAYS, read(BDC_KEEP_RUNS_DAYS))


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
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
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
    host, security = read(BDC_SMTP_HOST), _one_of(BDC_SMTP_SECURITY, ("starttls", "tls", "none"))
    if not host:
        raise SettingsError(f"{BDC_SMTP_HOST.name} is not set. Set it to the mail server that sends the alerts.")
    if security == "none" and not _is_loopback(host):
        raise SettingsError(
            f"{BDC_SMTP_SECURITY.name} is 'none', which would send mail to {host} unencrypted. Use 'starttls' or 'tls'."
        )
    port = int(_number(BDC_SMTP_PORT, read(BDC_SMTP_PORT), whole=True))
    return MailSettings(host, port, security, sender, recipients, read(BDC_SMTP_USER), read(BDC_SMTP_PASSWORD))


def ui_url() -> str:
    """The address of the web UI, for links; empty where it is not known.

    Raises:
        SettingsError: it cannot be used.
    """
    return read(BDC_UI_URL) and checked_url(BDC_UI_URL.name, read(BDC_UI_URL))


def _one_of(setting: Setting, choices: tuple[str, ...]) -> str:
    value = read(setting)
    if value not in choices:
        raise SettingsError(f"{setting.name} is '{value}'. Set it to one of {', '.join(choices)}.")
    return value


def check_project(where: str, name: str) -> None:
    """Refuses what is neither an id nor a path of a project.

    Raises:
        SettingsError: says what it is like.
    """
    if not name.isdecimal() and ("/" not in name or "://" in name or any(character.isspace() for character in name)):
        raise SettingsError(
            f"{where} holds '{name}', which is no project. A project is named by its id, such as 278964, or by its path with "
            "the group, such as gitlab-org/gitlab."
        )


def _token(setting: Setting, what: str) -> str:
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


def _optional(setting: Setting) -> float | None:
    text = read(setting)
    return _number(setting, text) if text else None


def _optional_whole(setting: Setting) -> int | None:
    text = read(setting)
    return int(_number(setting, text, whole=True)) if text else None


def checked_url(name: str, url: str) -> str:
    """A base address, without a trailing slash.

    Raises:
        SettingsError: it is missing, or no http(s) address, or carries a user, a query or a fragment.
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
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise SettingsError(f"{name} begins with http://, which would send what is asked unencrypted. Use https://.")
    if parts.username or parts.password:
        raise SettingsError(
            f"{name} holds a user or a password. Give the address alone; the token has its own variable."
        )
    if parts.query or parts.fragment:
        raise SettingsError(f"{name} is '{url}'. Give the address alone, without what follows '?' or '#'.")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _without_user(url: str) -> str:
    return url.rpartition("@")[2]


def _number(setting: Setting, text: str, *, whole: bool = False) -> float:
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
