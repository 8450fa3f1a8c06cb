"""Images of others, brought as OCI layouts and archives that the tests write."""

import asyncio
import subprocess
import tarfile
from pathlib import Path

import pytest

from squib.contracts.errors import ImageError, InvalidRequest
from squib.host.images import Images, import_
from squib.host.images.oci import default_name, transport
from squib.host.images.store import Kept
from tests import leaks
from tests.host.images.conftest import Layout, Watcher

real = pytest.mark.needs("root", "mmdebstrap", "mksquashfs", "bwrap", "skopeo", "umoci")
slow = pytest.mark.timeout(600)
SHELL = ("bin", "lib", "lib64", "usr/bin/dash", "usr/bin/sh", "usr/lib64", "usr/lib/x86_64-linux-gnu")
PYTHON = ("usr/bin/python3", "usr/bin/python3.11", "usr/lib/python3.11")


def test_what_a_reference_means(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout").write()
    archive, other = tmp_path / "archive.tar", tmp_path / "saved.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
    other.write_bytes(b"")
    assert transport(str(layout)) == f"oci:{layout}"
    assert transport(str(archive)) == f"oci-archive:{archive}"
    assert transport(str(other)) == f"docker-archive:{other}"
    assert transport("registry/name:tag") == "docker://registry/name:tag"
    for wrong in ("--help", "", "a b", str(tmp_path), "./absent"):
        with pytest.raises(InvalidRequest):
            transport(wrong)


def test_a_name_comes_from_the_end_of_a_reference() -> None:
    references = ("registry/some/Tool:1.2", "/a/b/tool.tar.gz", "tool@sha256:00", "docker://tool")
    assert [default_name(reference) for reference in references] == ["tool"] * 4


@real
@slow
async def test_an_image_with_python_gets_the_supervisor_and_stays_harmless(
    small: Kept, layout: Layout, shared_tmp: Path
) -> None:
    layout.take(small.rootfs, *SHELL, *PYTHON).file("srv/data", b"data", 0o666, uid=1000)
    layout.file("usr/bin/root", b"#!/bin/sh\n", 0o4755).special("dev/sda", tarfile.BLKTYPE)
    path = layout.write(Env=["PATH=/usr/bin:/bin", "COLOUR=green", "HOME=/srv"])
    kept = await import_(Images(shared_tmp), str(path), "mine", Watcher())
    assert (kept.names, kept.image.python) == (("mine",), "/usr/bin/python3")
    assert kept.image.environment == {"PATH": "/usr/bin:/bin", "COLOUR": "green"}
    assert (kept.rootfs / "opt/squib/guest.pyz").is_file() and (kept.rootfs / "srv/data").read_text() == "data"
    assert [p for p in kept.rootfs.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o7022] == []
    assert list((kept.rootfs / "dev").iterdir()) == []

    archive = shared_tmp / "saved.tar"
    saved = ["skopeo", "--insecure-policy", "copy", f"oci:{path}", f"docker-archive:{archive}:mine:1"]
    await asyncio.to_thread(subprocess.run, saved, check=True, capture_output=True)
    again = await import_(Images(shared_tmp), str(archive), "saved", Watcher())
    assert again.image.digest == kept.image.digest and again.names == ("mine", "saved")


@real
@slow
async def test_an_image_without_python_is_refused_with_what_it_lacks(
    small: Kept, layout: Layout, shared_tmp: Path
) -> None:
    path = layout.take(small.rootfs, *SHELL).write()
    with pytest.raises(ImageError, match="has no Python") as refused:
        await import_(Images(shared_tmp), str(path), "mine", Watcher())
    assert "3.11" in refused.value.advice
    assert Images(shared_tmp).all() == []
    assert await leaks.gone(str(shared_tmp)) == []


@real
@slow
async def test_an_old_python_is_refused(small: Kept, layout: Layout, shared_tmp: Path) -> None:
    layout.take(small.rootfs, *SHELL).file("usr/bin/python3", b"#!/bin/sh\necho 3.9 >&2; exit 1\n", 0o755)
    with pytest.raises(ImageError, match="has no Python"):
        await import_(Images(shared_tmp), str(layout.write()), "mine", Watcher())


@real
async def test_an_image_without_a_shell_is_refused(layout: Layout, shared_tmp: Path) -> None:
    with pytest.raises(ImageError, match="no shell"):
        await import_(Images(shared_tmp), str(layout.file("hello", b"x", 0o755).write()), "mine", Watcher())


@real
@pytest.mark.parametrize("name", ["opt", "etc", "opt/squib", "workspace", "home"])
async def test_a_link_that_leads_out_writes_nothing_there(layout: Layout, shared_tmp: Path, name: str) -> None:
    outside = shared_tmp / "outside"
    outside.mkdir()
    path = layout.file("bin/sh", b"x", 0o755).special(name, tarfile.SYMTYPE, str(outside)).write()
    with pytest.raises((ImageError, OSError)):
        await import_(Images(shared_tmp), str(path), "mine", Watcher())
    assert list(outside.iterdir()) == []


@real
async def test_what_is_no_image_is_told_by_skopeo(shared_tmp: Path) -> None:
    broken = shared_tmp / "broken.tar"
    broken.write_bytes(b"rubbish" * 1000)
    with pytest.raises(ImageError, match="skopeo failed"):
        await import_(Images(shared_tmp), str(broken), "mine", Watcher())
    assert Images(shared_tmp).all() == []
