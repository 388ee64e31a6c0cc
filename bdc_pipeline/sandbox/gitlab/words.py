"""What generated projects, jobs, runners and logs are made of. Every person and name is invented."""

from __future__ import annotations

GROUPS = ("platform", "platform/tools", "shop", "shop/backend", "research", "mobile")
NAMES = (
    "api",
    "web",
    "billing",
    "search",
    "importer",
    "docs",
    "gateway",
    "auth",
    "reports",
    "scheduler",
    "mailer",
    "sdk",
)
TOPICS: tuple[list[str], ...] = (["python"], ["ruby", "rails"], [], ["go"], ["typescript", "web"])
PEOPLE = (
    ("root", "Example Administrator"),
    ("ada.example", "Ada Example"),
    ("bo.example", "Bo Example"),
    ("chris.example", "Chris Example"),
    ("dana.example", "Dana Example"),
    ("project_101_bot", "Example Bot"),
)
BRANCHES = ("fix-rounding", "feature/search", "update-deps", "try-ü-umlaut", "42-slow-query", "release/2.x")
MESSAGES = (
    "Fix rounding of totals",
    "Search by several words",
    "Update dependencies\n\nSYNTHETIC body with a second line.",
    "Retry uploads",
    "Überschriften: long titles no longer wrap",
)
SOURCES = ("push", "push", "push", "merge_request_event", "merge_request_event", "schedule", "web", "api", "trigger")
FAILURES = (
    "script_failure",
    "script_failure",
    "script_failure",
    "script_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "stuck_or_timeout_failure",
    "no_matching_runner",
)
#: Statuses of jobs that are not over, beside running.
ALIVE = ("pending", "created", "waiting_for_resource", "preparing", "waiting_for_callback", "scheduled", "canceling")
#: description, name, tags, kind of a runner
RUNNERS: tuple[tuple[str, str | None, tuple[str, ...], str], ...] = (
    ("saas-linux-small", "gitlab-runner", ("linux", "docker"), "instance_type"),
    ("saas-linux-large", "gitlab-runner", ("linux", "docker", "large"), "instance_type"),
    ("", None, ("macos-14",), "group_type"),
    ("gpu box under the desk", "gitlab-runner", ("gpu",), "project_type"),
)
#: name, stage, what it makes: a(rchive), j(unit), c(overage), o(ptional: allowed to fail), m(anual in some pipelines)
JOBS: tuple[tuple[str, str, str], ...] = (
    ("compile", "build", "a"),
    ("lint", "test", ""),
    ("unit", "test", "ajc"),
    ("integration", "test", "j"),
    ("deploy production", "deploy", "m"),
    ("audit", "test", "jo"),
    ("package: [linux, amd64]", "package", "a"),
    ("docs", "build", "a"),
    ("types", "test", ""),
    ("e2e", "test", "aj"),
    ("deploy staging", "deploy", ""),
    ("container scan", "package", "o"),
)
STAGES = ("build", "test", "package", "deploy")
YAML_ERROR = "jobs:unit config contains unknown keys: scirpt"
CLASSES = ("billing.invoice_spec", "search.query_spec", "auth.session_spec", "mail.render_spec", "tests.test_totals")
TESTS = (
    "adds up",
    "rounds half to even",
    "refuses an empty query",
    "expires after a day",
    "escapes <b> & ü",
    "repeats",
)
LOG_LINES = (
    "Collecting requests==2.32.3",
    "  Using cached requests-2.32.3-py3-none-any.whl (64 kB)",
    "tests/test_totals.py::test_rounds_half_to_even PASSED                    [ 41%]",
    "\x1b[0;33mwarning:\x1b[0m 'utcnow' is deprecated and will be removed",
    "Compiling src/invoice.ts -> dist/invoice.js",
    "added 1241 packages, and audited 1242 packages in 14s",
    "  [12/148] Building CXX object core/CMakeFiles/core.dir/query.cc.o",
    "Überprüfung der Abhängigkeiten … fertig ✓",
    '127.0.0.1 - - "GET /health HTTP/1.1" 200 2',
    "Downloading 12.5%\rDownloading 50.0%\rDownloading 100.0%",
    "\x1b[32;1m$ make check -j4\x1b[0;m",
    "",
)
ERROR_LINES = (
    "\x1b[31mFAILED\x1b[0m tests/test_totals.py::test_rounds_half_to_even - AssertionError: assert 2 == 3",
    "Error: Cannot find module './invoice'",
    "fatal: unable to access 'https://gitlab.example/': Could not resolve host: gitlab.example",
    "E   ConnectionRefusedError: [Errno 111] Connection refused",
    "make: *** [Makefile:12: check] Error 2",
)
