"""The probe at start-up: what a share can do, tried out."""

import os

import pytest

from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.files import ShareFiles
from bdc_pipeline.share.probe import examine, probe
from bdc_pipeline.share.worker import Worker


@pytest.mark.parametrize("kind", [ShareFiles, Worker])
def test_a_good_share_publishes_and_leaves_nothing_behind(tmp_path, kind):
    app_db = tmp_path / "app.db"
    with kind(tmp_path / "app.db.sync", "c1") as files:
        files.make_folders()
        found = probe(app_db, files)
        assert (found.publishes, found.locks_safe, found.network) == (True, True, False)
        assert abs(found.offset_ms) < 5_000
        assert "publishes atomically" in found.sentence
        assert files.list("tmp") == []


def test_a_share_without_links_is_refused_with_a_sentence(tmp_path, monkeypatch):
    def no_links(*arguments, **options):
        raise PermissionError(1, "Operation not permitted")

    with ShareFiles(tmp_path / "app.db.sync", "c1") as files:
        files.make_folders()
        monkeypatch.setattr(os, "link", no_links)
        found = probe(tmp_path / "app.db", files)
    assert not found.publishes
    assert "no hard links" in found.sentence
    assert "SMB 2" in found.sentence


def test_a_share_whose_links_replace_is_refused(tmp_path, monkeypatch):
    def replacing(source, target):
        target.write_bytes(source.read_bytes())

    with ShareFiles(tmp_path / "app.db.sync", "c1") as files:
        files.make_folders()
        monkeypatch.setattr(os, "link", replacing)
        found = probe(tmp_path / "app.db", files)
    assert not found.publishes
    assert "second time" in found.sentence


def test_a_share_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Offline, match="mounted"):
        examine(str(tmp_path / "none.sync"))
