"""GitLab CI: projects, pipelines, jobs, logs, tests and artifacts, from REST v4 with GraphQL for discovery."""
