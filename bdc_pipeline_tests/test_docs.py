"""The README and the pages in `docs/` say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bdc_pipeline import settings
from bdc_pipeline.cli import main
from bdc_pipeline_tests.docs import COMMANDS, DOCUMENTS, PARTS, ROOT, options_of, places_of, with_parts


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_generated_parts_are_as_the_code_has_them(document: Path) -> None:
    text = document.read_text()
    assert with_parts(text) == text, "run `make docs`"


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_generated_part_stands_in_one_document(name: str) -> None:
    assert len(places_of(name)) == 1


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_generated_part_says_something(name: str) -> None:
    assert len(PARTS[name]().splitlines()) > 2


def test_every_option_and_every_setting_is_explained() -> None:
    for path in (*COMMANDS, ("sandbox",)):
        for line in options_of(*path).splitlines():
            assert not line.rstrip(" |").endswith("None"), line
    assert all(setting.description for setting in settings.SETTINGS)


def test_nothing_but_settings_reads_the_environment() -> None:
    # the latter two set variables
    allowed = {"bdc_pipeline/settings/reading.py", "bdc_pipeline/demo.py", "bdc_pipeline/ui.py"}
    for path in (ROOT / "bdc_pipeline").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if re.search(r"os\.environ|os\.getenv|getenv\(", path.read_text()):
            assert name in allowed, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_link_that_a_document_names_is_there(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_test_that_the_documents_name_is_there() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "bdc_pipeline_tests").rglob("test_*.py"))
    named = [name for document in DOCUMENTS for name in re.findall(r"`(test_\w+)`", document.read_text())]
    assert named
    for name in named:
        assert f"def {name}(" in tests or (list((ROOT / "bdc_pipeline_tests").rglob(f"{name}.py"))), name


def test_every_command_has_help_that_is_a_sentence() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(200).strip(), name


def test_help_answers_without_importing_dagster_or_pandas() -> None:
    code = (
        "import sys; from bdc_pipeline.cli import main\n"
        "try: main(['sync', 'sonar', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'dagster', 'pandas', 'graphql', 'requests'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_the_lock_file_names_versions_and_nothing_of_where_they_come_from() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( ; .+)?", line), line
