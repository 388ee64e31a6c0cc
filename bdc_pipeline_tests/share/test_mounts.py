"""Where a path lies, and whether locks hold there, from mount tables as real machines have them."""

import os
from pathlib import Path

import pytest

from bdc_pipeline.share.mounts import is_network, located, locks_trouble, mount_of, read_mounts

TABLE = read_mounts(
    r"""22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:25 / /mnt/team rw,relatime shared:3 - cifs //server/team rw,vers=3.1.1,cache=strict,actimeo=1,nobrl
31 22 0:26 / /mnt/safe rw - cifs //Server/Safe rw,vers=3.0
32 22 0:27 /deep/folder /mnt/part rw - cifs //server/big rw,nolock
33 22 0:28 / /net/home\040dirs rw - nfs4 nas:/export/home rw,vers=4.2,local_lock=none
34 22 0:29 / /net/old rw - nfs nas:/old rw,vers=3,nolock
35 22 0:30 / /home/me/remote rw - fuse.sshfs me@host: rw,user_id=1000
36 22 0:31 / /run/user/1000/doc rw - fuse.portal portal rw
37 22 0:32 / /media/stick rw - fuseblk /dev/sdb1 rw
38 22 0:33 / /mnt/team/inner rw - tmpfs tmpfs rw
39 22 0:34 / /c rw - 9p drvfs rw,aname=drvfs
"""
)


@pytest.mark.parametrize(
    ("path", "network", "trouble"),
    [
        ("/home/me/app.db", False, None),
        ("/mnt/team/app.db", True, "nobrl"),
        ("/mnt/team/inner/app.db", False, None),
        ("/mnt/teammate/app.db", False, None),
        ("/mnt/safe/a/../app.db", True, None),
        ("/net/home dirs/x.db", True, None),
        ("/net/old/x.db", True, "nolock"),
        ("/home/me/remote/x.db", True, "fuse.sshfs"),
        ("/run/user/1000/doc/x.db", False, None),
        ("/media/stick/x.db", False, None),
        ("/c/x.db", True, "9p"),
    ],
)
def test_a_path_is_on_the_mount_that_covers_it(path, network, trouble):
    assert is_network(path, TABLE) is network
    told = locks_trouble(mount_of(path, TABLE))
    assert (told is None) if trouble is None else (trouble in told)


@pytest.mark.parametrize("path", ["//server/team/app.db", r"\\server\team\app.db", Path("//server/team/app.db")])
def test_a_unc_path_is_on_the_network_and_found_where_its_share_is_mounted(path):
    assert is_network(path, [])
    assert located(path, TABLE) == Path("/mnt/team/app.db")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("//SERVER/safe/a/app.db", Path("/mnt/safe/a/app.db")),
        ("//server/big/deep/folder/x/app.db", Path("/mnt/part/x/app.db")),
        ("//server/big/elsewhere/app.db", None),
        ("//other/team/app.db", None),
        ("/plain/app.db", Path("/plain/app.db")),
    ],
)
def test_unc_paths_are_located(path, place):
    assert located(path, TABLE) == place


def test_links_are_followed_up_to_the_server(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to("share")
    mounts = read_mounts(
        f"22 1 0:20 / / rw - ext4 /dev/sda1 rw\n23 22 0:21 / {tmp_path}/share rw - nfs4 nas:/x rw,vers=4.2\n"
    )
    assert is_network(tmp_path / "link" / "app.db", mounts)
    assert not is_network(tmp_path / "app.db", mounts)


def test_this_machines_own_table_is_read(tmp_path):
    assert mount_of(tmp_path) is not None
    assert read_mounts("nonsense\n") == []
    assert os.path.ismount(mount_of("/proc/self").point)
    assert "cannot be read" in locks_trouble(None)
