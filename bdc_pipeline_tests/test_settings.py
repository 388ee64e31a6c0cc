"""Every environment variable: its default, and a sentence for each value that cannot be used."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import bdc_pipeline
from bdc_pipeline import settings
from bdc_pipeline.settings import SettingsError

PACKAGE = Path(bdc_pipeline.__file__).parent


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONAR_URL", "https://example.sonar.software")
    monkeypatch.setenv("SONAR_TOKEN", "SYNTHETIC-TOKEN")


def test_sonars_settings_have_defaults(usable: None) -> None:
    found = settings.sonar()
    assert (found.url, found.token) == ("https://example.sonar.software", "SYNTHETIC-TOKEN")
    assert (found.workers, found.requests_per_second) == (10, None)


def test_the_token_is_in_no_repr(usable: None) -> None:
    assert "SYNTHETIC-TOKEN" not in repr(settings.sonar())
    assert "SYNTHETIC-TOKEN" not in f"{settings.sonar()}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://example.sonar.software/", "https://example.sonar.software"),
        ("  https://example.sonar.software  ", "https://example.sonar.software"),
        ("http://127.0.0.1:8080/sonar//", "http://127.0.0.1:8080/sonar"),
        ("HTTPS://Example.Sonar.Software", "HTTPS://Example.Sonar.Software"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_loses_its_trailing_slash(
    monkeypatch: pytest.MonkeyPatch, usable: None, value: str, expected: str
) -> None:
    monkeypatch.setenv("SONAR_URL", value)
    assert settings.sonar().url == expected


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SONAR_URL", "", r"SONAR_URL is not set\. Set it to your instance.*'bdc-pipeline demo'"),
        ("SONAR_URL", "   ", r"SONAR_URL is not set"),
        ("SONAR_URL", "example.sonar.software", r"SONAR_URL is 'example\.sonar\.software', which is no web address"),
        ("SONAR_URL", "ftp://example.sonar.software", r"no web address\. It begins with https:// and a host"),
        ("SONAR_URL", "https://", r"no web address"),
        ("SONAR_URL", "https://example:port", r"no web address"),
        ("SONAR_URL", "https://example:99999", r"no web address"),
        ("SONAR_URL", "https://[broken", r"no web address"),
        ("SONAR_URL", "https://user:SYNTHETIC-PASSWORD@example.com", r"SONAR_URL holds a user or a password"),
        ("SONAR_URL", "https://user@example.com", r"holds a user or a password"),
        ("SONAR_URL", "user:SYNTHETIC-PASSWORD@example.com", r"SONAR_URL is 'example\.com', which is no web address"),
        ("SONAR_URL", "https://example.com/?page=1", r"without what follows '\?' or '#'"),
        ("SONAR_URL", "https://example.com/#home", r"without what follows '\?' or '#'"),
        (
            "SONAR_URL",
            "https://example.sonar.software/api/graphql/",
            r"Give the address without /api/graphql, which is added: https://example\.sonar\.software$",
        ),
        ("SONAR_TOKEN", "", r"SONAR_TOKEN is not set\. Create a personal access token.*'bdc-pipeline demo'"),
        ("SONAR_TOKEN", " ", r"SONAR_TOKEN is not set"),
        ("SONAR_TOKEN", "SYNTHETIC PASSWORD", r"SONAR_TOKEN holds blanks or control characters"),
        ("SONAR_TOKEN", "SYNTHETIC\nPASSWORD", r"SONAR_TOKEN holds blanks or control characters"),
        ("SONAR_TOKEN", "SYNTHETIC-PASSWÖRD", r"SONAR_TOKEN holds"),
        ("SONAR_WORKERS", "many", r"SONAR_WORKERS is 'many'\. Set it to a whole number above 0, such as 10"),
        ("SONAR_WORKERS", "0", r"SONAR_WORKERS is '0'"),
        ("SONAR_WORKERS", "-3", r"SONAR_WORKERS is '-3'"),
        ("SONAR_WORKERS", "2.5", r"SONAR_WORKERS is '2\.5'\. Set it to a whole number"),
        (
            "SONAR_REQUESTS_PER_SECOND",
            "fast",
            r"SONAR_REQUESTS_PER_SECOND is 'fast'\. Set it to a number above 0, such as 20",
        ),
        ("SONAR_REQUESTS_PER_SECOND", "nan", r"SONAR_REQUESTS_PER_SECOND is 'nan'"),
        ("SONAR_REQUESTS_PER_SECOND", "inf", r"SONAR_REQUESTS_PER_SECOND is 'inf'"),
        ("SONAR_REQUESTS_PER_SECOND", "0", r"SONAR_REQUESTS_PER_SECOND is '0'"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, usable: None, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=sentence) as caught:
        settings.sonar()
    assert "SYNTHETIC" not in str(caught.value)


def test_limits_can_be_set(monkeypatch: pytest.MonkeyPatch, usable: None) -> None:
    monkeypatch.setenv("SONAR_WORKERS", "25")
    monkeypatch.setenv("SONAR_REQUESTS_PER_SECOND", "2.5")
    assert (settings.sonar().workers, settings.sonar().requests_per_second) == (25, 2.5)


def test_files_are_in_the_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.database_path("sonar") == tmp_path / "data" / "bdc_cache.db"
    monkeypatch.setenv("BDC_DATA_DIR", "elsewhere")
    assert settings.database_path("sonar") == tmp_path / "elsewhere" / "bdc_cache.db"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BDC_DATA_DIR", "~/copies")
    assert settings.data_dir() == tmp_path / "copies"


def test_dagsters_home_must_be_a_full_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.dagster_home() is None
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert settings.dagster_home() == tmp_path
    monkeypatch.setenv("DAGSTER_HOME", "dagster")
    with pytest.raises(SettingsError, match="DAGSTER_HOME is 'dagster', which is not absolute"):
        settings.dagster_home()


def test_every_setting_says_what_it_is_for() -> None:
    names = [setting.name for setting in settings.SETTINGS]
    assert len(names) == len(set(names))
    assert all(setting.description for setting in settings.SETTINGS)
    assert [setting.name for setting in settings.SETTINGS if setting.secret] == [
        "SONAR_TOKEN",
        "GITLAB_TOKEN",
        "BDC_SHARE_SECRET",
        "BDC_ALERT_WEBHOOK",
        "BDC_SMTP_PASSWORD",
    ]
    modules = [import_module(f"{settings.__name__}.{found.name}") for found in iter_modules(settings.__path__)]
    declared = [value for module in modules for value in vars(module).values() if isinstance(value, settings.Setting)]
    assert set(declared) == set(settings.SETTINGS)


def test_nothing_else_reads_our_variables() -> None:
    readers = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"getenv|environ(\.get)?[\[(]\s*[\"'](SONAR|BDC)_", path.read_text())
    ]
    assert readers == []
