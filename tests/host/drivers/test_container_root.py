"""What a container's root is made of, from small root file systems."""

import os
import stat
from pathlib import Path

import pytest

from squib.contracts.guest import GuestConfig
from squib.host.drivers import container_root, view
from squib.host.drivers.container_root import Skeleton
from squib.host.layout import StateDir

CONFIG = GuestConfig("mch-x", "", "unix:/run/squib/guest/guest.sock")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for name in ("usr/bin", "etc/ssl", "opt/tool", "proc"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc" / "profile").write_text("of the image")
    (root / "etc" / "resolv.conf").symlink_to("../run/elsewhere")
    (root / "etc" / "set").write_text("")
    (root / "etc" / "set").chmod(0o4777)
    os.mkfifo(root / "etc" / "pipe")
    return root


async def make(tmp_path: Path, image: Path) -> Skeleton:
    state = StateDir(tmp_path / "state")
    state.root.mkdir(exist_ok=True)
    own = [view.Bind(str(image), "/run/squib/config"), view.Bind(__file__, "/opt/squib/guest.pyz")]
    return await container_root.skeleton(state, str(image), CONFIG, own)


async def test_it_has_a_place_for_whatever_is_bound(tmp_path: Path, image: Path) -> None:
    made = await make(tmp_path, image)
    assert {bind.path for bind in made.binds} == {"/usr", "/opt/tool"}
    for folder in ("usr", "opt/tool", "run/squib/config", "workspace", "proc"):
        assert (made.path / folder).is_dir()
    for file in ("opt/squib/guest.pyz", "etc/passwd", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
        assert (made.path / file).is_file()
    assert (made.path / "bin").readlink() == Path("usr/bin")


async def test_an_images_etc_is_copied_as_far_as_it_is_harmless(tmp_path: Path, image: Path) -> None:
    etc = (await make(tmp_path, image)).path / "etc"
    assert (etc / "profile").read_text() == "of the image"
    assert not (etc / "resolv.conf").is_symlink(), "an engine mounts over what it leads to"
    assert not (etc / "pipe").exists()
    assert stat.S_IMODE((etc / "set").stat().st_mode) == 0o755


async def test_covered_directories_have_the_modes_of_what_covers_them(tmp_path: Path, image: Path) -> None:
    root = (await make(tmp_path, image)).path
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("tmp", "sys", "home/agent")}
    assert modes == {"tmp": 0o1777, "sys": 0, "home/agent": 0o700}


async def test_one_is_made_for_an_image_and_goes_with_it(tmp_path: Path, image: Path) -> None:
    made = await make(tmp_path, image)
    before = made.path.stat().st_ino
    assert (await make(tmp_path, image)).path.stat().st_ino == before
    state = StateDir(tmp_path / "state")
    assert container_root.sweep(state) == []
    assert made.path.exists()
    image.rename(tmp_path / "gone")
    assert container_root.sweep(state) == [made.name]
    assert not made.path.exists()


async def test_its_archive_is_the_same_for_the_same_content(tmp_path: Path, image: Path) -> None:
    made = await make(tmp_path, image)
    archive = container_root.archive(made.path)
    (made.path / "etc" / "profile").touch()
    assert container_root.archive(made.path) == archive
