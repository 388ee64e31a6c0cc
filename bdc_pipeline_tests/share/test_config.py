"""How a shared database is configured: what stands above what, and a sentence for each value that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bdc_pipeline import settings
from bdc_pipeline.settings import SettingsError
from bdc_pipeline.share.config import load

SHARE = "//server/team/app.db"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(tmp_path)


def write(file: Path, **database: Any) -> Path:
    file.write_text(yaml.safe_dump({"database": database}))
    return file


def test_there_are_defaults_for_everything_but_the_path() -> None:
    found = load(SHARE)
    assert (found.sync_interval, found.enable_cache, found.secret) == (30, None, "")
    assert found.folder.parent == Path.home() / ".bdc_cache"
    assert found.user


def test_the_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", path=SHARE, sync_interval=5, enable_cache=False, rules={"notes": "manual"})
    found = load()
    assert (found.path, found.sync_interval, found.enable_cache) == (SHARE, 5, False)
    assert found.rules.for_table("Notes").rule == "manual"


def test_an_argument_stands_above_a_variable_and_a_variable_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "config.yaml", path=SHARE, sync_interval=5, cache_directory="from file", secret="from file")
    monkeypatch.setenv("BDC_SHARE_SYNC_INTERVAL", "6")
    monkeypatch.setenv("BDC_SHARE_CACHE_DIR", "from environment")
    found = load("/mnt/other.db", sync_interval=7)
    assert (found.path, found.sync_interval) == ("/mnt/other.db", 7)
    assert found.cache_directory == Path("from environment")
    assert found.secret == "from file"


def test_a_configuration_file_can_be_named_and_must_then_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDC_SHARE_CONFIG", str(write(tmp_path / "team.yaml", path=SHARE)))
    assert load().path == SHARE
    monkeypatch.setenv("BDC_SHARE_CONFIG", str(tmp_path / "none.yaml"))
    with pytest.raises(SettingsError, match=r"none\.yaml is not there\. Write it, or unset BDC_SHARE_CONFIG"):
        load()


def test_a_config_yaml_of_something_else_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- a list\n- of another program")
    assert load(SHARE).sync_interval == 30


@pytest.mark.parametrize(
    ("database", "sentence"),
    [
        ({}, r"No shared database is named\. Give its path on the share"),
        (
            {"sync_intervall": 30},
            r"config\.yaml: database\.sync_intervall is not known\. There are path, sync_interval",
        ),
        ({"sync_interval": "often"}, r"sync_interval is 'often'\. Set it to seconds from 0\.1 to 86400, such as 30"),
        ({"sync_interval": 0}, r"sync_interval is '0'"),
        ({"sync_interval": True}, r"sync_interval is 'True'"),
        ({"sync_interval": float("nan")}, r"sync_interval is 'nan'"),
        ({"enable_cache": "perhaps"}, r"enable_cache is 'perhaps'\. Set it to true or false"),
        ({"path": 7}, r"database\.path is '7'\. Set it to text"),
        ({"cache_directory": []}, r"cache_directory is '\[\]'"),
        ({"secret": 12345678}, r"database\.secret is no text\. Put the passphrase between quotes"),
        ({"rules": "newest"}, r"rules is 'newest'\. Set it to a mapping"),
        ({"rules": {"stock": "oldest"}}, r"database\.rules: .*stock.*'oldest'"),
        ({"migrations": {"abc": ["DROP TABLE t"]}}, r"'abc' is no step\. Write it as 'HASH->HASH'"),
        ({"migrations": {"a -> b": 7}}, r"'a -> b' is '7'\. Set it to a list of SQL statements"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_the_way_out(
    tmp_path: Path, database: dict[str, Any], sentence: str
) -> None:
    write(tmp_path / "config.yaml", **database)
    with pytest.raises(SettingsError, match=sentence) as caught:
        load()
    assert "12345678" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("BDC_SHARE_SYNC_INTERVAL", "soon", "BDC_SHARE_SYNC_INTERVAL is 'soon'. Set it to seconds"),
        ("BDC_SHARE_ENABLE_CACHE", "maybe", "BDC_SHARE_ENABLE_CACHE is 'maybe'. Set it to true or false."),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(SHARE)
    assert sentence in str(caught.value)


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("database: {path: [")
    with pytest.raises(SettingsError, match="cannot be read as YAML"):
        load()


def test_the_secret_is_in_no_repr() -> None:
    assert "SYNTHETIC" not in repr(load(SHARE, secret="SYNTHETIC passphrase"))


def test_databases_of_one_name_have_caches_of_their_own_and_one_database_has_one(tmp_path: Path) -> None:
    one, other = load("/mnt/a/app.db"), load("/mnt/b/app.db")
    assert one.folder != other.folder
    assert one.folder == load("/mnt/a/app.db").folder
    assert one.folder.name.startswith("app-")


def test_a_relative_path_is_below_the_working_directory(tmp_path: Path) -> None:
    assert load("team/app.db").share == tmp_path / "team" / "app.db"


def test_the_interval_is_checked_in_code_too() -> None:
    with pytest.raises(SettingsError, match="sync_interval is '-1'"):
        load(SHARE, sync_interval=-1)
    with pytest.raises(TypeError, match="'intervall' is no setting of a shared database"):
        load(SHARE, intervall=3)


def test_a_share_has_one_cache_however_its_path_is_written_and_whether_or_not_it_is_mounted() -> None:
    one, other = load("//server/team/app.db"), load("\\\\server\\team\\app.db")
    assert one.cache == other.cache
    assert one.cache.name == "app.db"
    assert not one.is_mounted
