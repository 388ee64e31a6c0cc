"""Every environment variable: its name, its default, its check.

| module | what is there |
|---|---|
| `reading.py` | reading a variable and checking its value; nothing else reads the environment |
| `directories.py` | where the files are |
| `sources.py` | how each source is reached |
| `operations.py` | automation, backups, what is kept |
| `alerts.py` | where alerts go |
| `share.py` | file shares |
| `catalogue.py` | all of them, as the README lists them |

Here stands what other packages use.
"""

from bdc_pipeline.settings.alerts import (
    BDC_ALERT_WEBHOOK,
    MailSettings,
    alert_mail,
    alert_webhook,
    alerts_are_configured,
    ui_url,
)
from bdc_pipeline.settings.catalogue import SETTINGS
from bdc_pipeline.settings.directories import (
    BDC_CACHE_DIR,
    BDC_DATA_DIR,
    DAGSTER_HOME,
    DATABASE_FILES,
    LOG_FILE,
    cache_dir,
    dagster_home,
    data_dir,
    database_path,
)
from bdc_pipeline.settings.operations import (
    BDC_AUTOMATION,
    BDC_FRESHNESS,
    BDC_OWNERS,
    BDC_SLOW,
    automation_is_on,
    backup_days,
    backup_dir,
    backup_keep,
    keep_runs_days,
)
from bdc_pipeline.settings.reading import Setting, SettingsError, is_set, read
from bdc_pipeline.settings.share import (
    BDC_SHARE_CACHE_DIR,
    BDC_SHARE_CONFIG,
    BDC_SHARE_ENABLE_CACHE,
    BDC_SHARE_SECRET,
    BDC_SHARE_SYNC_INTERVAL,
    share_dir,
)
from bdc_pipeline.settings.sources import (
    BOLIGSIDEN_REQUESTS_PER_SECOND,
    BOLIGSIDEN_URL,
    BRANDMEISTER_URL,
    DMR_PROFILE,
    DMR_PROFILES,
    GITLAB_PROJECTS,
    GITLAB_TOKEN,
    GITLAB_URL,
    HEARHAM_URL,
    SONAR_TOKEN,
    SONAR_URL,
    TGIF_URL,
    GitLabSettings,
    PropertiesSettings,
    SonarSettings,
    check_project,
    dmr_profile,
    dmr_urls,
    gitlab,
    properties,
    sonar,
)

__all__ = [
    "BDC_ALERT_WEBHOOK",
    "BDC_AUTOMATION",
    "BDC_CACHE_DIR",
    "BDC_DATA_DIR",
    "BDC_FRESHNESS",
    "BDC_OWNERS",
    "BDC_SHARE_CACHE_DIR",
    "BDC_SHARE_CONFIG",
    "BDC_SHARE_ENABLE_CACHE",
    "BDC_SHARE_SECRET",
    "BDC_SHARE_SYNC_INTERVAL",
    "BDC_SLOW",
    "BOLIGSIDEN_REQUESTS_PER_SECOND",
    "BOLIGSIDEN_URL",
    "BRANDMEISTER_URL",
    "DAGSTER_HOME",
    "DATABASE_FILES",
    "DMR_PROFILE",
    "DMR_PROFILES",
    "GITLAB_PROJECTS",
    "GITLAB_TOKEN",
    "GITLAB_URL",
    "HEARHAM_URL",
    "LOG_FILE",
    "SETTINGS",
    "SONAR_TOKEN",
    "SONAR_URL",
    "TGIF_URL",
    "GitLabSettings",
    "MailSettings",
    "PropertiesSettings",
    "Setting",
    "SettingsError",
    "SonarSettings",
    "alert_mail",
    "alert_webhook",
    "alerts_are_configured",
    "automation_is_on",
    "backup_days",
    "backup_dir",
    "backup_keep",
    "cache_dir",
    "check_project",
    "dagster_home",
    "data_dir",
    "database_path",
    "dmr_profile",
    "dmr_urls",
    "gitlab",
    "is_set",
    "keep_runs_days",
    "properties",
    "read",
    "share_dir",
    "sonar",
    "ui_url",
]
