"""What is shared over a file share: the project's databases, and those that several people write.

What a shared database's configuration makes of these is in `bdc_pipeline/share/config.py`.
"""

from __future__ import annotations

from pathlib import Path

from bdc_pipeline.settings.reading import Setting, read

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


def share_dir() -> Path | None:
    """The directory on a file share to which the project's databases are published, if any."""
    value = read(BDC_SHARE)
    return Path(value).expanduser() if value else None
