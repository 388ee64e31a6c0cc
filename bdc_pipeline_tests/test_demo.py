"""`bdc-pipeline demo`, as a person runs it."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bdc_pipeline import demo, settings
from bdc_pipeline.sandbox import SandboxOptions, running_in_thread
from bdc_pipeline.sources.dmr.tables import SCHEMA as DMR
from bdc_pipeline.sources.properties.tables import SCHEMA as PROPERTIES
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline_tests.sources.sonar.syncing import Truth, truth

COMMAND = str(Path(sys.executable).parent / "bdc-pipeline")

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Ran:
    """A demo that has ended, and where it ran."""

    output: str
    errors: str
    status: int
    root: Path
    left: frozenset[Path]
    """The files below `root` at its end, before any test has read them: a reader of a file leaves SQLite's own beside it."""

    @property
    def database(self) -> Path:
        return self.root / "data" / "demo" / "bdc_cache.db"

    @property
    def syncs(self) -> list[Counts]:
        """What each of Sonar's syncs tells in its table."""
        return self.syncs_of("sonar")

    def syncs_of(self, source: str) -> list[Counts]:
        """What each sync's table tells: by table, by column; -1 where no total is known."""
        found: list[Counts] = []
        of_source = False
        for line in self.output.splitlines():
            first, *rest = line.split() or [""]
            if line.endswith(": everything") or ", second sync" in line or ", third sync" in line:
                of_source = line.startswith(f"{source}, ")
            if not of_source:
                continue
            if first == "table":
                names = rest
                found.append({})
            elif rest and len(rest) == 8 and re.fullmatch(r"[\d,]+", rest[-1]):
                numbers = [-1 if text == "?" else int(text.replace(",", "")) for text in rest]
                found[-1][first] = dict(zip(names, numbers, strict=True))
        return found


def run(root: Path, *arguments: str) -> Ran:
    """Runs the demo with all its directories below one."""
    directories = {name: root / name for name in ("data", "cwd", "home", "tmp")}
    for directory in directories.values():
        directory.mkdir(exist_ok=True)
    ours = {setting.name for setting in settings.SETTINGS}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {
        "BDC_DATA_DIR": str(directories["data"]),
        "HOME": str(directories["home"]),
        "TMPDIR": str(directories["tmp"]),
        # that of somebody who records real runs
        "DAGSTER_HOME": str(root / "dagster"),
    }
    done = subprocess.run(
        [COMMAND, "demo", *arguments],
        cwd=directories["cwd"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    left = frozenset(path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return Ran(done.stdout, done.stderr, done.returncode, root, left)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One demo for all tests of this module that only look at it."""
    return run(tmp_path_factory.mktemp("demo"), "--latency-ms", "0")


pytestmark = pytest.mark.slow


def test_the_demo_ends_well(ran: Ran) -> None:
    assert ran.status == 0, ran.output + ran.errors
    assert ran.output.count("sonar: complete.") == 3
    assert "INCOMPLETE" not in ran.output
    assert "Traceback" not in ran.output + ran.errors


@pytest.mark.parametrize(
    ("schema", "syncs"), [(t.SCHEMA, 3), (PROPERTIES, 3), (DMR, 2)], ids=["sonar", "properties", "dmr"]
)
def test_every_source_is_synced_first_whole_then_for_nothing(ran: Ran, schema: Schema, syncs: int) -> None:
    found = ran.syncs_of(schema.source)
    assert len(found) == syncs
    assert all(set(counts) == {table.name for table in schema.tables} for counts in found)
    for table, counts in found[0].items():
        assert counts["fetched"] == counts["inserted"] == counts["stored"], table
        assert counts["expected"] in (-1, counts["fetched"]), table
    assert all(counts["inserted"] == counts["updated"] == counts["vanished"] == 0 for counts in found[1].values())


def test_the_third_sync_of_the_homes_updates_them_and_keeps_their_valuations(ran: Ran) -> None:
    third = ran.syncs_of("properties")[2]
    assert third["properties"]["updated"] == third["valuations"]["inserted"] == 20
    assert third["properties"]["unchanged"] == 1980


def test_the_first_sync_copies_everything(ran: Ran) -> None:
    first, *_ = ran.syncs
    assert set(first) == {table.name for table in t.SCHEMA.tables}
    for counts in first.values():
        assert counts["expected"] == counts["fetched"] == counts["inserted"] == counts["stored"] > 0
        assert counts["updated"] == counts["vanished"] == counts["rejected"] == 0
    with contextlib.closing(sqlite3.connect(ran.database)) as connection:
        for table, counts in first.items():
            assert connection.execute(f'SELECT count(*) FROM "live_{table}"').fetchone() == (counts["stored"],)


def test_the_second_sync_writes_nothing_and_asks_for_no_customers(ran: Ran) -> None:
    _, second, _ = ran.syncs
    for table, counts in second.items():
        assert counts["inserted"] == counts["updated"] == counts["vanished"] == 0, table
    for table in (*t.OF_CUSTOMERS, *t.OF_INVENTORY):
        assert second[table.name]["fetched"] == 0


def test_the_third_sync_updates_exactly_what_has_changed(ran: Ran) -> None:
    # the generated data are the same in every sandbox, and so is what a change does to them
    with running_in_thread(SandboxOptions(scale="small")) as twin:
        before = truth(twin)
        twin.change(share=demo.CHANGED)
        changed = differing(before, truth(twin))
    third = ran.syncs[2]
    stored_as = {table.name: table.stored for table in t.SCHEMA.tables}
    assert {table: counts["updated"] for table, counts in third.items()} == {
        table: changed[stored_as[table]] for table in third
    }
    assert sum(changed.values()) > 100
    assert all(counts["inserted"] == counts["vanished"] == 0 for counts in third.values())


def differing(before: Truth, after: Truth) -> dict[str, int]:
    """How many rows of each table are not as they were."""
    return {table: len(set(after[table]) - set(before[table])) for table in after}


def test_nothing_is_left_but_the_copy(ran: Ran) -> None:
    databases = {str(Path("data", "demo", name)) for name in settings.DATABASE_FILES.values()}
    downloads = {str(path) for path in ran.left if path.parts[:4] == ("data", "demo", "cache", "dmr")}
    assert {str(path) for path in ran.left} == databases | downloads
    assert len(downloads) == 8, "four documents, each with its record"
    assert not (ran.root / "dagster").exists(), "generated partitions do not get among real runs"


@pytest.mark.parametrize("number", range(4))
def test_a_question_that_the_demo_proposes_has_an_answer(ran: Ran, number: int) -> None:
    line = [line.strip() for line in ran.output.splitlines() if line.strip().startswith("python3 -c ")][number]
    done = subprocess.run(
        line.replace("python3", sys.executable, 1),
        shell=True,
        cwd=ran.root / "cwd",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.count("(") >= 3


def test_the_documents_questions_have_answers_in_the_demo(ran: Ran) -> None:
    data = ran.root / "data" / "demo"
    with contextlib.closing(sqlite3.connect(data / "gitlab.db")) as connection:
        flaky = connection.execute("SELECT passed, failed, pipelines FROM flaky_tests").fetchall()
        assert flaky
        assert all(passed and failed and pipelines == 2 for passed, failed, pipelines in flaky)
    page = (Path(__file__).parent.parent / "docs" / "dmr.md").read_text()
    [sql] = re.findall(r"```sql\n(.*?;)\n", page, re.DOTALL)
    with contextlib.closing(sqlite3.connect(data / "dmr.db")) as connection:
        assert len(connection.execute(sql).fetchall()) >= 10
    [arguments] = re.findall(r"bdc-pipeline (dmr near .*)", page)
    done = subprocess.run(
        [COMMAND, *arguments.split(), "-db", str(data / "dmr.db")], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) >= 10, done.stdout


def test_a_demo_begins_anew_each_time(ran: Ran, tmp_path: Path) -> None:
    left = tmp_path / "data" / "demo" / "bdc_cache.db"
    left.parent.mkdir(parents=True)
    left.write_text("what another demo left")
    again = run(tmp_path, "--latency-ms", "0")
    assert again.status == 0, again.errors
    assert again.syncs == ran.syncs


def test_generated_data_are_kept_apart_from_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    assert demo.directory() == tmp_path / "demo"
    assert settings.database_path("sonar").parent != demo.directory()


@pytest.mark.parametrize(("argument", "text"), [("--scale=huge", "small"), ("--latency-ms=-1", "-1")])
def test_a_wrong_option_is_told_at_once(argument: str, text: str, tmp_path: Path) -> None:
    done = run(tmp_path, argument)
    assert done.status == 2
    assert text in done.errors


def test_a_directory_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo").write_text("in the way")
    done = run(tmp_path)
    assert done.status == 2, done.output + done.errors
    assert "Traceback" not in done.errors
    assert str(tmp_path / "data" / "demo") in done.errors
