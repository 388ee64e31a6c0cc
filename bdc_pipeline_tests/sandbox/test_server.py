import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running, running_in_thread
from bdc_pipeline_tests.processes import killed_at_last
from bdc_pipeline_tests.sandbox.asking import ask, send
from bdc_pipeline_tests.waiting import SECONDS, until

TINY = SandboxOptions(customers=40)
#: It takes a quarter of a second; a machine that stops for a while gets more, the stalled requests would take 120
PROMPT = 30.0
QUERY = {"query": "{ accounts { entities { id } } }"}


def test_a_sandbox_of_its_own_process_answers_and_ends_with_the_block() -> None:
    with running(TINY) as sandbox:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", sandbox.url)
        assert sandbox.sonar_url == f"{sandbox.url}/sonar"
        assert len(ask(sandbox, QUERY["query"])["data"]["accounts"]["entities"]) == 15
    with pytest.raises(ConnectionRefusedError):
        send(sandbox, QUERY)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_though_requests_stall(how: signal.Signals) -> None:
    command = [sys.executable, "-m", "bdc_pipeline.sandbox", "--customers", "40", "--fault", "stall"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with killed_at_last(started) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"sandbox ready at http://127\.0\.0\.1:\d+\n", line)
        sandbox = Sandbox(line.split()[-1], TINY)
        threads = _stall(sandbox, 5)
        begun = time.monotonic()
        process.send_signal(how)
        assert process.wait(SECONDS) == 0
        assert time.monotonic() - begun < PROMPT
        for thread in threads:
            thread.join(SECONDS)
        assert process.stderr.read() == ""


def test_what_it_prints_leads_a_sync_to_all_that_it_has(tmp_path: Path) -> None:
    sizes = ["--projects", "2", "--pipelines-per-project", "4", "--jobs-per-pipeline", "2"]
    command = [sys.executable, "-m", "bdc_pipeline.sandbox", "--source", "gitlab", *sizes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = []
            while not lines or not lines[-1].startswith("bdc-pipeline "):
                lines.append(process.stdout.readline())
            script = "".join(lines[lines.index("In another shell:\n") + 1 :])
            told = re.fullmatch(r"\n((?:export \w+=\S+\n)+#.*\nbdc-pipeline (.*)\n)", script)
            assert told, script
            run = told[1].replace("bdc-pipeline", f"{sys.executable} -m bdc_pipeline")
            ours = ("BDC_", "GITLAB_", "DAGSTER_")
            clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
            script = f"{run.rstrip()} --json"
            done = subprocess.run(
                ["sh", "-ec", script], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            sandbox = Sandbox(lines[0].split()[-1], TINY)
            truth = sandbox.source("gitlab").rows("Pipeline", ["id"])
        finally:
            process.terminate()
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "sandbox" / "gitlab.db")) as connection:
        stored = connection.execute("SELECT id FROM live_pipelines").fetchall()
    assert sorted(stored) == sorted(map(tuple, truth))


def test_a_thread_stops_at_once_though_requests_stall() -> None:
    with running_in_thread(TINY.changed(faults=["stall"])) as sandbox:
        threads = _stall(sandbox, 3)
        begun = time.monotonic()
    for thread in [*threads, *(thread for thread in threading.enumerate() if thread.name == "sandbox")]:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert time.monotonic() - begun < PROMPT


def _stall(sandbox: Sandbox, count: int) -> list[threading.Thread]:
    """Requests that are being held when this returns."""

    def wait() -> None:
        with suppress(OSError):
            send(sandbox, QUERY, timeout=2 * SECONDS)

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    until(lambda: sandbox.stats()["faults"].get("stall", 0) >= count, "The requests did not arrive.")
    return threads


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from bdc_pipeline.sandbox import SandboxOptions, running\n"
        "with running(SandboxOptions(customers=40)) as sandbox:\n"
        "    print(sandbox.url, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    address = ("127.0.0.1", int(done.stdout.rsplit(":", 1)[1]))

    def is_gone() -> bool:
        try:
            socket.create_connection(address, timeout=1).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    until(is_gone, "The sandbox outlived its parent.")


def test_a_taken_port_is_wrong_usage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"Port {port} cannot be used"), running(TINY.changed(port=port)):
            pass


def test_a_fault_that_cannot_be_read_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "bdc_pipeline.sandbox", "--fault", "oops"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "300"})
    assert done.returncode == 2
    assert "There is no fault 'oops'" in done.stderr


def test_the_same_seed_serves_the_same_bytes() -> None:
    query = {
        "query": """{ accounts(include_archived: true) { entities { id name updated_at addresses { entities { line1 latitude } } } }
          inventory_items { entities { id updated_at inventory_model_field_data { entities { value } } } } }"""
    }
    with running(TINY) as one, running(TINY) as two, running(TINY.changed(seed=1)) as other:
        bodies = [send(sandbox, query)[2] for sandbox in (one, two, other)]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]
