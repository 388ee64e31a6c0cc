"""Fixtures of the tests of operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from bdc_pipeline import settings
from bdc_pipeline_tests.fetching.loopback import Server, one_after_another, reply
from bdc_pipeline_tests.operations.mailbox import Mailbox, MailServer


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment without any variable of ours; for a test to set some."""
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    return monkeypatch


@pytest.fixture
def data(tmp_path: Path, unset: pytest.MonkeyPatch) -> Path:
    """An empty data directory."""
    unset.setenv("BDC_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """What a mail server on loopback is sent."""
    server = MailServer()
    yield server.box
    server.close()


@pytest.fixture
def receiver() -> Iterator[Callable[..., Server]]:
    """Starts webhook receivers that answer with some statuses, one after another; by default 200."""
    servers: list[Server] = []

    def start(*statuses: int, **headers: str) -> Server:
        servers.append(Server(one_after_another(*(reply(status=status, **headers) for status in statuses or (200,)))))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
