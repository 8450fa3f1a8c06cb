"""`squib image …`: what is printed, and how it ends; that images are really made, tests/host/images shows."""

import hashlib
import time
from pathlib import Path

import pytest

from squib.cli import exits
from squib.contracts.image import Image, Package
from squib.host.images import Images, runner

DIGEST = hashlib.sha256(b"content").hexdigest()
IMAGE = Image(
    *("tool", DIGEST, time.time(), 2_500_000, 900_000, DIGEST, "registry/tool:1", DIGEST, "/usr/bin/python3"),
    environment={"COLOUR": "green"},
    warmup=("tool --version",),
    packages=(Package("apt", "git", "1:2.39"),),
)


@pytest.fixture
def kept(nowhere: Path) -> Images:
    images = Images(nowhere)
    with images.workshop() as workshop:
        workshop.rootfs.mkdir()
        workshop.drive.write_text("drive")
        images.commit(workshop, IMAGE)
    return images


def test_without_any_the_list_says_how_to_make_one(call):
    done = call("image", "list")
    assert done.code == exits.OK and "squib image build NAME" in done.out and "nextjs" in done.out
    assert call("image", "list", "--json").out == ""


def test_list_and_show_tell_what_the_manifest_says(call, kept):
    assert call("image", "list").out.split()[:4] == ["tool", DIGEST[:12], "2", "MB"]
    assert call("image", "list", "--json").json["names"] == ["tool"]
    shown = call("image", "show", "tool").out
    for part in (DIGEST, "registry/tool:1", "COLOUR=green", "tool --version", "git 1:2.39", str(kept.root)):
        assert part in shown
    document = call("image", "show", DIGEST[:12], "--json").json
    assert document["packages"] == [{"kind": "apt", "name": "git", "version": "1:2.39"}]
    assert Path(document["rootfs"]).is_dir() and Path(document["drive"]).is_file()


def test_rm_removes_it_once(call, kept):
    assert call("image", "rm", "tool", "--json").json == {"removed": "tool", "digest": DIGEST}
    assert kept.all() == []
    again = call("image", "rm", "tool")
    assert again.code == exits.NOT_FOUND and "squib image list" in again.err


@pytest.mark.parametrize("arguments", [("show", "absent"), ("rm", "absent"), ("build", "cobol")])
def test_what_is_not_there_is_not_found(call, arguments):
    assert call("image", *arguments).code == exits.NOT_FOUND


def test_a_bad_definition_or_name_is_wrong_usage(call, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('summary = "x"\npip = ["pytest"]\n')
    done = call("image", "build", str(path))
    assert done.code == exits.USAGE and "'pytest' is not of the form NAME==VERSION" in done.err
    assert call("image", "import", "registry/tool", "--name", "../tool").code == exits.USAGE
    assert call("image", "import", "/", "--name", "tool").code == exits.USAGE


@pytest.mark.needs("root")
def test_a_program_that_is_missing_is_named_with_its_package(call, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = call("image", "build", "python")
    assert done.code == exits.FAILED
    assert "mmdebstrap" in done.err and "apt-get install mmdebstrap squashfs-tools" in done.err


def test_every_program_that_is_asked_for_has_a_package():
    assert {"bwrap", "mksquashfs", "mmdebstrap", "setpriv", "skopeo", "umoci", "unshare"} == runner.PACKAGES.keys()
