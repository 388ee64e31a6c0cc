"""The generated parts of the README and of `docs/`: written by `make docs`, held against the code by `test_docs.py`.

A part stands between `<!-- NAME -->` and `<!-- end of NAME -->`, once among all documents.
"""

import re
from collections.abc import Callable
from pathlib import Path

import click
import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.cli import main
from bdc_pipeline.definitions import SCHEMAS, WATCHED, build_defs
from bdc_pipeline.operations.checks import BLOCKING, DESCRIPTIONS
from bdc_pipeline.sandbox.handle import ANY_TOKEN
from bdc_pipeline.sandbox.options import SOURCES
from bdc_pipeline.sandbox.variables import told
from bdc_pipeline.warehouse.describe import public_columns
from bdc_pipeline.warehouse.schema import Schema

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")))


def options_of(*path: str) -> str:
    """The options of a command as a table."""
    command: click.Command = main
    context = click.Context(main)
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(context, name)
        assert found is not None
        command = found
    lines = ["| option | default | what it does |", "|---|---|---|"]
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        names = ", ".join(f"`{name}`" for name in option.opts)
        lines.append(f"| {names} | {_default(option)} | {option.help} |")
    return "\n".join(lines)


def _default(option: click.Option) -> str:
    if option.is_flag or option.multiple or option.default is None or option.show_default in (None, False):
        return ""
    return option.show_default if isinstance(option.show_default, str) else f"`{option.default}`"


def settings_table() -> str:
    """All environment variables."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for setting in settings.SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(f"| `{setting.name}` | {default} | {setting.description} |")
    return "\n".join(lines)


def tables_of(schema: Schema) -> str:
    """All tables and views of a source with their columns."""
    columns = public_columns(schema)
    texts = {table.name: table.description for table in schema.tables}
    texts |= {view.name: view.description for view in schema.views}
    lines = []
    for name in columns:
        table = next((table for table in schema.tables if table.name == name), None)
        key = f" Key: {', '.join(f'`{k}`' for k in table.key)}." if table else ""
        shown = f" A view over `{table.stored}`." if table and table.view else ("" if table else " A view.")
        lines += [f"<details><summary><b>{name}</b>: {texts[name]}</summary>", "", f"{shown}{key}".strip(), ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type or 'computed'} | {c.description} |" for c in columns[name]]
        lines += ["", "</details>"]
    return "\n".join(lines)


def checks_table() -> str:
    """The asset checks of every table."""
    lines = ["| check | what it finds | where it blocks |", "|---|---|---|"]
    for name, description in DESCRIPTIONS.items():
        where = "tables from which others are made" if name in BLOCKING else ""
        lines.append(f"| `{name}` | {description} | {where} |")
    return "\n".join(lines)


def rules_table() -> str:
    """What each source says that its rows are like."""
    lines = ["| table | its values | its references |", "|---|---|---|"]
    for watched in WATCHED:
        for table in watched.schema.tables:
            rules = "; ".join(rule.says + _share(rule.share) for rule in watched.rules if rule.table == table.name)
            references = "; ".join(
                f"`{one.column}` is one of `{one.to}`{_share(one.share)}"
                for one in watched.references
                if one.table == table.name
            )
            if rules or references:
                lines.append(f"| `{watched.source}/{table.name}` | {rules} | {references} |")
    return "\n".join(lines)


def _share(share: float) -> str:
    return f" (but for {share:.0%})" if share else ""


def schedules_table() -> str:
    """All schedules and sensors."""
    repository = build_defs().get_repository_def()
    lines = ["| name | when | what | from the start |", "|---|---|---|---|"]
    for schedule in sorted(repository.schedule_defs, key=lambda one: one.name):
        is_on = "on" if schedule.default_status is dg.DefaultScheduleStatus.RUNNING else "off"
        zone = schedule.execution_timezone or "UTC"
        lines.append(f"| `{schedule.name}` | `{schedule.cron_schedule}` {zone} | {schedule.description} | {is_on} |")
    for sensor in sorted(repository.sensor_defs, key=lambda one: one.name):
        is_on = "on" if sensor.default_status is dg.DefaultSensorStatus.RUNNING else "off"
        seconds = sensor.minimum_interval_seconds
        lines.append(f"| `{sensor.name}` | a sensor, every {seconds} s | {sensor.description} | {is_on} |")
    return "\n".join(lines)


def make_targets() -> str:
    """What can be made."""
    found = re.findall(r"^([a-z]+):.*## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return "\n".join(
        ["| command | what it does |", "|---|---|", *(f"| `make {name}` | {text} |" for name, text in found)]
    )


COMMANDS = (
    ("sync", "sonar"),
    ("sync", "gitlab"),
    ("sync", "properties"),
    ("sync", "dmr"),
    ("warm", "dmr"),
    ("dmr", "near"),
    ("status",),
    ("backup",),
    ("backfill",),
)
"""Those whose options the documents list."""

PARTS: dict[str, Callable[[], str]] = {
    "make targets": make_targets,
    **{f"options of {' '.join(path)}": (lambda path=path: options_of(*path)) for path in COMMANDS},  # type: ignore[misc]
    "variables of sandbox": lambda: f"```\n{told('http://127.0.0.1:PORT', SOURCES, ANY_TOKEN)}\n```",
    "options of sandbox": lambda: options_of("sandbox"),
    "settings": settings_table,
    "checks": checks_table,
    "rules": rules_table,
    "schedules": schedules_table,
    **{f"tables of {schema.source}": (lambda schema=schema: tables_of(schema)) for schema in SCHEMAS},  # type: ignore[misc]
}


def with_parts(text: str) -> str:
    """A document with its generated parts as the code has them now."""
    for name, part in PARTS.items():
        pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
        if pattern.search(text):
            text = pattern.sub(lambda match, part=part: f"{match[1]}{part()}\n{match[2]}", text)  # type: ignore[misc]
    return text


def places_of(name: str) -> list[str]:
    """The documents in which a part stands."""
    return [path.name for path in DOCUMENTS for _ in range(path.read_text().count(f"<!-- {name} -->\n"))]


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_parts(document.read_text()))
