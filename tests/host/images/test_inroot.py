import os
from pathlib import Path

import pytest

from squib.host.images import inroot


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root whose links all lead outside, were they followed from outside."""
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "opt").symlink_to(tmp_path / "outside")
    (root / "up").symlink_to("../outside")
    (root / "etc" / "hosts").symlink_to(tmp_path / "outside" / "hosts")
    return root


def test_nothing_is_written_outside(tree: Path) -> None:
    with inroot.opened(tree) as root:
        root.write("/etc/hosts", b"here")
        root.write("/etc/new/deep/file", b"here", 0o755)
        for path in ("/opt/squib/guest.pyz", "/up/file"):
            with pytest.raises(OSError):
                root.write(path, b"out")
        root.link("/etc/link", "/anywhere")
        assert root.read("/etc/hosts") == b"here"
        assert not root.exists("/opt/squib/guest.pyz")
    assert list((tree.parent / "outside").iterdir()) == []
    assert (tree / "etc" / "hosts").read_text() == "here" and not (tree / "etc" / "hosts").is_symlink()
    assert os.access(tree / "etc/new/deep/file", os.X_OK)


def test_links_are_followed_as_inside(tree: Path) -> None:
    (tree / "usr").mkdir()
    (tree / "usr" / "tool").write_text("tool")
    (tree / "lib").symlink_to("/usr")
    with inroot.opened(tree) as root:
        assert root.read("/lib/tool") == b"tool"
        root.write("/lib/other", b"other")
    assert (tree / "usr" / "other").read_text() == "other"


def test_what_is_no_file_reads_as_nothing(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with inroot.opened(tree) as root:
        assert [root.read(path) for path in ("/fifo", "/etc", "/absent")] == [b"", b"", b""]


def test_a_directory_is_copied_without_what_was_installed_beside_it(tree: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "node_modules" / "x").mkdir(parents=True)
    (source / "deep").mkdir()
    (source / "deep" / "run").write_text("#!/bin/sh\n")
    (source / "deep" / "run").chmod(0o700)
    (source / "link").symlink_to("/etc/shadow")
    with inroot.opened(tree) as root:
        root.copy(source, "/srv/copy")
    assert sorted(p.name for p in (tree / "srv" / "copy").rglob("*")) == ["deep", "run"]
    assert (tree / "srv" / "copy" / "deep" / "run").stat().st_mode & 0o777 == 0o755
