"""How the copies are kept: what runs by itself, backups, what is deleted, how old and how slow is too much, who owns it."""

from __future__ import annotations

from pathlib import Path

from bdc_pipeline.settings.directories import data_dir
from bdc_pipeline.settings.reading import Setting, checked_number, read

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
    return int(checked_number(BDC_BACKUP_KEEP, read(BDC_BACKUP_KEEP), whole=True))


def backup_days() -> float:
    """After how many days a backup goes, unless it is the last one.

    Raises:
        SettingsError: it is no such number.
    """
    return checked_number(BDC_BACKUP_DAYS, read(BDC_BACKUP_DAYS))


def keep_runs_days() -> float:
    """After how many days runs and their logs are deleted.

    Raises:
        SettingsError: it is no such number.
    """
    return checked_number(BDC_KEEP_RUNS_DAYS, read(BDC_KEEP_RUNS_DAYS))
