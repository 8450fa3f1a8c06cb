import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import Conflict, ImageError, InvalidRequest, NotFound
from squib.contracts.image import Image
from squib.contracts.machine import Machine, MachinePhase, MachineSpec
from squib.host import records
from squib.host.images import Images
from squib.host.images.store import Kept

DIGEST = hashlib.sha256(b"content").hexdigest()
IMAGE = Image("small", DIGEST, time.time(), 1, 1, DIGEST, "definition small", DIGEST, "/usr/bin/python3")


def keep(images: Images, image: Image = IMAGE) -> Kept:
    with images.workshop() as workshop:
        workshop.rootfs.mkdir()
        (workshop.rootfs / "file").write_text("content")
        workshop.drive.write_text("drive")
        return images.commit(workshop, image)


def test_an_image_is_found_by_name_digest_and_beginning(tmp_path: Path) -> None:
    images = Images(tmp_path)
    assert images.all() == []
    kept = keep(images)
    assert images.all() == [kept]
    assert (kept.image, kept.names) == (IMAGE, ("small",))
    assert (kept.rootfs / "file").read_text() == "content" and kept.drive.read_text() == "drive"
    assert images.get("small") == images.get(DIGEST) == images.get(DIGEST[:12]) == kept
    for name in ("large", DIGEST[:6], "..", "../names", ""):
        with pytest.raises(NotFound):
            images.get(name)


def test_the_same_content_is_kept_once_and_a_name_moves_on(tmp_path: Path) -> None:
    images = Images(tmp_path)
    keep(images)
    assert keep(images, replace(IMAGE, name="other")).names == ("other", "small")
    newer = replace(IMAGE, digest=hashlib.sha256(b"new").hexdigest(), created_at=IMAGE.created_at + 1)
    assert keep(images, newer).names == ("small",)
    assert [kept.names for kept in images.all()] == [("small",), ("other",)]


def test_a_name_goes_first_and_the_image_with_its_last(tmp_path: Path) -> None:
    images = Images(tmp_path)
    keep(images)
    keep(images, replace(IMAGE, name="other"))
    images.remove("small")
    assert [kept.names for kept in images.all()] == [("other",)]
    images.remove("other")
    assert images.all() == []
    keep(images)
    images.remove(DIGEST[:12])
    assert sorted(p.name for p in images.root.rglob("*")) == ["names"]


def test_an_image_of_which_a_machine_is_made_stays(tmp_path: Path) -> None:
    images = Images(tmp_path)
    kept = keep(images)
    spec = MachineSpec(ids.new_id("mch"), image=str(kept.rootfs))
    directory = tmp_path / "machines" / spec.id
    directory.mkdir(parents=True)
    machine = Machine(spec.id, "bubblewrap", MachinePhase.CLAIMED, spec, str(directory), "unix:/x", time.time())
    records.save(machine)
    with pytest.raises(Conflict):
        images.remove("small")
    assert images.get("small") == kept


def test_a_bad_name_is_refused_before_it_is_a_path(tmp_path: Path) -> None:
    images = Images(tmp_path)
    for name in ("../small", "Small", "", "a" * 65, DIGEST):
        with pytest.raises(InvalidRequest):
            keep(images, replace(IMAGE, name=name))
    assert list((images.root / "names").iterdir()) == []


def test_a_damaged_manifest_is_told_and_hides_no_other(tmp_path: Path) -> None:
    images = Images(tmp_path)
    keep(images)
    other = keep(images, replace(IMAGE, name="other", digest=hashlib.sha256(b"o").hexdigest()))
    (images.root / DIGEST / "manifest.json").write_text("{")
    with pytest.raises(ImageError, match="is damaged"):
        images.get("small")
    assert images.all() == [other]


def test_a_workshop_is_gone_after_a_failure(tmp_path: Path) -> None:
    images = Images(tmp_path)
    with pytest.raises(RuntimeError), images.workshop() as workshop:
        workshop.rootfs.mkdir()
        raise RuntimeError
    assert [p.name for p in images.root.iterdir()] == ["names"]


def test_what_a_killed_maker_left_is_cleared_and_a_living_ones_is_not(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from squib.host.images import Images\n"
        "with Images(Path(sys.argv[1])).workshop() as w: w.rootfs.mkdir(); print(w.path, flush=True); input()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with Images(tmp_path).workshop():
            assert left.is_dir()
        process.kill()
    assert left.is_dir()
    with Images(tmp_path).workshop():
        assert not left.exists()
