import os
from pathlib import Path

import pytest

from squib.contracts.errors import ImageError, NotFound
from squib.host.vm import kernels
from tests.needs import IMAGES


class Quiet:
    def step(self, name: str, number: int, total: int) -> None:
        pass

    def line(self, text: str) -> None:
        pass


def test_without_one_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refused:
        kernels.get(tmp_path)
    assert "squib kernel build" in (refused.value.advice or "")


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "kernel" / "x"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    (folder.parent / "current").symlink_to("x")
    with pytest.raises(ImageError, match="damaged"):
        kernels.get(tmp_path)


@pytest.mark.needs("qemu")
def test_the_one_that_set_up_made_is_whole_and_is_not_made_again() -> None:
    found = kernels.get(IMAGES)
    assert found.vmlinux.stat().st_size + found.initrd.stat().st_size == found.size
    assert {package.name for package in found.packages} >= {"busybox-static"}
    assert found.vmlinux.read_bytes()[:4] == b"\x7fELF"


def test_old_ones_and_what_was_left_half_made_go(tmp_path: Path) -> None:
    for name in ("old", "previous", "new", ".making-now", ".making-long-ago"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vmlinux").touch()
    (tmp_path / "current").symlink_to("new")
    os.utime(tmp_path / ".making-long-ago", (0, 0))
    kernels._remove_old(tmp_path, {"previous", "new"})
    assert {path.name for path in tmp_path.iterdir()} == {"previous", "new", "current", ".making-now"}
