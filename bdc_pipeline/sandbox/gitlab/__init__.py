"""GitLab as far as CI is concerned: REST v4 for projects, pipelines, jobs, logs, tests and artifacts, and GraphQL for discovery.

`generate.py` and `jobs.py` say what data there is, from `words.py`, `noise.py` and the types in `records.py`; `logs.py`,
`archives.py` and `reports.py` make the contents when they are asked for; `world.py` holds what is there, `changes.py` changes it,
`truth.py` tells it to whoever compares. `shown.py` is how the API shows things, `lists.py` and `paging.py` are its lists,
`endpoints.py` its paths, `discovery.py` its GraphQL, `limits.py` its limits, `answers.py` its wording, `api.py` the HTTP side.
"""

from bdc_pipeline.sandbox.gitlab.api import GitLabSource

__all__ = ["GitLabSource"]
