"""Where things are on this machine: the database files, the log, raw downloads, Dagster's records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bdc_pipeline.settings.reading import Setting, SettingsError, read

BDC_DATA_DIR = Setting("BDC_DATA_DIR", "data", "Directory of the database files and the log")
BDC_CACHE_DIR = Setting("BDC_CACHE_DIR", "", "Directory of raw downloads; `cache` in the data directory where not set")
DAGSTER_HOME = Setting(
    "DAGSTER_HOME", "", "Where Dagster records runs; with it set, `bdc-pipeline sync` records its runs there too"
)

DATABASE_FILES: Mapping[str, str] = {
    "sonar": "bdc_cache.db",
    "gitlab": "gitlab.db",
    "properties": "properties.db",
    "dmr": "dmr.db",
}
"""The file of each source, in the data directory."""

LOG_FILE = "bdc_cache.log"


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
