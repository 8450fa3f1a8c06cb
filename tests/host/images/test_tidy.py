import os
import stat
from pathlib import Path

import pytest

from squib.contracts.errors import ImageError
from squib.host.images import digest, tidy

pytestmark = pytest.mark.needs("root")


def tree(root: Path) -> Path:
    for name in ("etc", "dev", "usr/bin", "var/log", "var/cache/ldconfig", "home/old", "opt"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnode:x:1000:\n")
    (root / "etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    (root / "etc/machine-id").write_text(str(os.getpid()))
    (root / "var/log/dpkg.log").write_text("now")
    (root / "var/cache/ldconfig/aux-cache").write_text("now")
    (root / "usr/bin/su").write_text("su")
    (root / "usr/bin/su").chmod(0o6777)
    os.setxattr(root / "usr/bin/su", "user.note", b"x")
    os.mknod(root / "dev/sda", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    os.mknod(root / "usr/bin/disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    (root / "home/old/mine").write_text("mine")
    os.chown(root / "home/old/mine", 1000, 1000)
    return root


def test_nothing_in_it_is_a_danger_to_the_host(tmp_path: Path) -> None:
    root = tree(tmp_path / "root")
    tidy.settle(root)
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        assert (status.st_uid, status.st_gid, status.st_mtime) == (0, 0, tidy.EPOCH), path
        if not stat.S_ISLNK(status.st_mode):
            assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), path
            assert not status.st_mode & 0o7022 and os.listxattr(path) == [], path


def test_the_agent_is_the_user_1000_and_no_other(tmp_path: Path) -> None:
    root = tree(tmp_path / "root")
    tidy.settle(root)
    users = [line.split(":")[:3] for line in (root / "etc/passwd").read_text().splitlines()]
    assert users == [["root", "x", "0"], ["agent", "x", "1000"]]
    assert (root / "etc/shadow").read_text() == "root:*::0:99999:7:::\n"
    assert all((root / point[1:]).is_dir() for point in tidy.POINTS)


def test_two_that_differ_by_moment_and_machine_alone_become_the_same(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    (two / "etc/machine-id").write_text("another")
    (two / "etc/hostname").write_text("another")
    (two / "var/log/dpkg.log").write_text("later")
    (two / "var/lib/apt/lists").mkdir(parents=True)
    (one / "var/lib/apt/lists").mkdir(parents=True)
    (two / "var/lib/apt/lists/list").write_text("later")
    for root in (one, two):
        tidy.settle(root)
    assert digest.of_tree(one) == digest.of_tree(two)
    for change in (lambda: (two / "usr/bin/su").write_text("so"), lambda: (two / "usr/bin/su").chmod(0o644)):
        before = digest.of_tree(two).digest
        change()
        assert digest.of_tree(two).digest != before


@pytest.mark.parametrize("name", ["opt", "etc", "opt/squib"])
def test_a_link_where_drivers_name_what_is_below_is_refused(tmp_path: Path, name: str) -> None:
    root, outside = tree(tmp_path / "root"), tmp_path / "outside"
    outside.mkdir()
    (root / name).rename(root / "moved") if (root / name).exists() else None
    (root / name).symlink_to(outside)
    with pytest.raises((ImageError, OSError)):
        tidy.settle(root)
    assert list(outside.iterdir()) == []
