from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import codec
from squib.contracts.errors import Conflict, NotFound
from squib.contracts.image import Image
from squib.contracts.snapshot import Fabric, Snapshot
from squib.host.bases import Base, Bases
from squib.host.images import Images

DIGEST = "0123456789abcdef" * 4
IMAGE = Image(
    name="small",
    digest=DIGEST,
    created_at=1.0,
    size=1,
    drive_size=1,
    drive_sha256="",
    source="",
    guest="",
    python="/usr/bin/python3",
    environment={"WHO": "world"},
    warmup=("true",),
)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    images = Images(tmp_path)
    with images.workshop() as workshop:
        workshop.rootfs.mkdir(parents=True)
        workshop.drive.touch()
        images.commit(workshop, IMAGE)
    return images


def test_an_image_is_meant_by_its_name_its_digest_and_its_beginning(images: Images, tmp_path: Path) -> None:
    bases = Bases(images)
    wanted = Base(
        image=str(tmp_path / "images" / DIGEST / "rootfs"),
        name="small",
        digest=DIGEST,
        drive=str(tmp_path / "images" / DIGEST / "root.squashfs"),
        python="/usr/bin/python3",
        environment={"WHO": "world"},
        warmup=("true",),
    )
    assert [bases.resolve(name) for name in ("small", DIGEST, DIGEST[:12])] == [wanted] * 3
    assert bases.any() == wanted
    assert not wanted.is_host


def test_without_a_name_it_is_the_settings_image_or_the_host(images: Images) -> None:
    assert Bases(images).default == Base()
    assert Base().is_host
    assert Bases(images, "small").default.digest == DIGEST
    with pytest.raises(NotFound, match="there is no image large"):
        _ = Bases(images, "large").default


def test_a_name_that_comes_to_mean_another_image_means_that_one(images: Images) -> None:
    bases, other = Bases(images), replace(IMAGE, digest="f" * 64)
    assert bases.resolve("small").digest == DIGEST
    with images.workshop() as workshop:
        workshop.rootfs.mkdir(parents=True)
        workshop.drive.touch()
        images.commit(workshop, other)
    assert bases.resolve("small").digest == "f" * 64
    assert bases.resolve(DIGEST).digest == DIGEST
    images.remove(DIGEST)
    with pytest.raises(NotFound):
        bases.resolve(DIGEST)


def test_an_image_that_a_snapshot_needs_stays(images: Images, tmp_path: Path) -> None:
    fabric = Fabric("gvisor", "1", "1", "1")
    manifest = Snapshot("snp-1", DIGEST, "small", fabric, "", 1, 1, 1, "", "", 1.0, 1)
    (tmp_path / "snapshots" / "snp-1").mkdir(parents=True)
    (tmp_path / "snapshots" / "snp-1" / "manifest.json").write_bytes(codec.dumps(manifest))
    with pytest.raises(Conflict, match="snp-1") as caught:
        images.remove("small")
    assert "squib snapshot rm snp-1" in (caught.value.advice or "")
    (tmp_path / "snapshots" / "snp-1" / "manifest.json").unlink()
    images.remove("small")
    assert images.all() == []
