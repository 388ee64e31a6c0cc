"""How each source is reached, how fast, and what of it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from bdc_pipeline.settings.reading import (
    Setting,
    SettingsError,
    checked_number,
    checked_token,
    checked_url,
    one_of,
    optional_number,
    optional_whole_number,
    read,
)

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
DMR_PROFILE = Setting(
    "DMR_PROFILE",
    "standard",
    "How often the DMR registries are asked by the schedule, and how much of the machine a load takes: `realtime`, "
    "`high_performance`, `standard` or `constrained`",
)

DMR_PROFILES = ("realtime", "high_performance", "standard", "constrained")


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
    url = checked_url(SONAR_URL.name, read(SONAR_URL), "/api/graphql")
    token = checked_token(SONAR_TOKEN, "a personal access token in your Sonar profile")
    rate = read(SONAR_REQUESTS_PER_SECOND)
    return SonarSettings(
        url=url,
        token=token,
        workers=int(checked_number(SONAR_WORKERS, read(SONAR_WORKERS), whole=True)),
        requests_per_second=checked_number(SONAR_REQUESTS_PER_SECOND, rate) if rate else None,
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
    rate = checked_number(BOLIGSIDEN_REQUESTS_PER_SECOND, read(BOLIGSIDEN_REQUESTS_PER_SECOND))
    return PropertiesSettings(checked_url(BOLIGSIDEN_URL.name, read(BOLIGSIDEN_URL)), rate)


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
    url = checked_url(GITLAB_URL.name, read(GITLAB_URL), "/api/v4")
    token = checked_token(GITLAB_TOKEN, "an access token with the read_api scope in your GitLab preferences")
    names = tuple(dict.fromkeys(name.strip().strip("/") for name in read(GITLAB_PROJECTS).split(",") if name.strip()))
    for name in names:
        check_project(GITLAB_PROJECTS.name, name)
    return GitLabSettings(
        url=url,
        token=token,
        projects=names,
        workers=int(checked_number(GITLAB_WORKERS, read(GITLAB_WORKERS), whole=True)),
        requests_per_second=optional_number(GITLAB_REQUESTS_PER_SECOND),
        projects_at_once=optional_whole_number(GITLAB_PROJECTS_AT_ONCE),
        pipelines_at_once=optional_whole_number(GITLAB_PIPELINES_AT_ONCE),
        jobs_at_once=optional_whole_number(GITLAB_JOBS_AT_ONCE),
    )


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


def dmr_urls() -> dict[str, str]:
    """The registries' addresses by name.

    Raises:
        SettingsError: one cannot be used.
    """
    named = {"brandmeister": BRANDMEISTER_URL, "tgif": TGIF_URL, "hearham": HEARHAM_URL}
    return {name: checked_url(setting.name, read(setting)) for name, setting in named.items()}


def dmr_profile() -> str:
    """The profile by which the DMR registries are kept.

    Raises:
        SettingsError: there is no such profile.
    """
    return one_of(DMR_PROFILE, DMR_PROFILES)
