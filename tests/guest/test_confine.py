"""Paths stay below their root, whoever resolves them."""

import os
import threading
from pathlib import Path

import pytest

from squib.contracts.errors import InvalidRequest, NotFound, PathEscapes, SquibError
from squib.guest.archive import extract, write
from squib.guest.confine import Root, clean
from squib.guest.files import listing


@pytest.fixture
def ws(root: Root, tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    workspace = tmp_path / "ws"
    (workspace / "d" / "e").mkdir(parents=True)
    (workspace / "d" / "f").write_text("inside")
    (workspace / "out").symlink_to(tmp_path)
    (workspace / "out-file").symlink_to(tmp_path / "secret")
    (workspace / "up").symlink_to("..")
    (workspace / "root").symlink_to("/")
    return workspace


def _read(root: Root, path: str) -> str:
    fd = root.open_file(path)
    with os.fdopen(fd) as file:
        return file.read()


@pytest.mark.parametrize(
    ("path", "plain"), [("", "."), (".", "."), ("./a//b/.", "a/b"), ("a/", "a"), ("...", "..."), ("a..b", "a..b")]
)
def test_clean(path: str, plain: str) -> None:
    assert clean(path) == plain


@pytest.mark.parametrize("path", ["/", "/a", "..", "../a", "a/..", "a/../../b", "a\0b", "x" * 5000])
def test_clean_refuses(path: str) -> None:
    with pytest.raises(InvalidRequest):
        clean(path)


def test_inside(root: Root, ws: Path) -> None:
    assert _read(root, "d/f") == _read(root, "./d//f") == "inside"


@pytest.mark.parametrize("path", ["out/secret", "out-file", "up/secret", "root/etc/passwd", "out", "up"])
def test_links_out(root: Root, ws: Path, path: str) -> None:
    with pytest.raises((PathEscapes, InvalidRequest)):
        _read(root, path)
    with pytest.raises((PathEscapes, InvalidRequest)), root.parent(f"{path}/new", make=True):
        pass
    assert not (ws.parent / "new").exists()


def test_links_that_stay_inside_are_followed(root: Root, ws: Path) -> None:
    (ws / "link").symlink_to("d")
    (ws / "d" / "e" / "back").symlink_to("../.././d//f")
    (ws / "d" / "here").symlink_to(".")
    assert _read(root, "link/f") == _read(root, "link/e/back") == _read(root, "d/here/here/f") == "inside"
    os.close(root.open_directory("link/e"))


def test_links_in_a_circle_end(root: Root, ws: Path) -> None:
    (ws / "circle").symlink_to("circle/x")
    with pytest.raises(PathEscapes):
        _read(root, "circle")


def test_a_link_goes_up_and_out(root: Root, ws: Path) -> None:
    (ws / "d" / "e" / "far").symlink_to("../../../secret")
    (ws / "d" / "new").symlink_to("made")
    with pytest.raises(PathEscapes):
        _read(root, "d/e/far")
    os.close(root.open("d/new", os.O_WRONLY | os.O_CREAT, 0o600))
    assert (ws / "d" / "made").is_file()


def test_magic_links(root: Root, ws: Path) -> None:
    (ws / "magic").symlink_to(f"/proc/{os.getpid()}/cwd")
    with pytest.raises((PathEscapes, InvalidRequest)):
        root.open("magic", os.O_RDONLY)


def test_what_is_not_there(root: Root, ws: Path) -> None:
    with pytest.raises(NotFound):
        _read(root, "nope")
    with pytest.raises(InvalidRequest):
        _read(root, "d/f/g")


def test_directories_are_made(root: Root, ws: Path) -> None:
    root.make_directories("d/n/m")
    root.make_directories("d/n/m")
    assert (ws / "d/n/m").is_dir()
    with pytest.raises(SquibError):
        root.make_directories("d/f/x")


def test_a_race_never_leads_out(root: Root, ws: Path) -> None:
    """Another thread swaps a directory for a link that leads out, and back, by renames."""
    (ws / "swap").mkdir()
    (ws / "swap" / "secret").write_text("inside")
    (ws / "evil").symlink_to(ws.parent)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (ws / "swap").rename(ws / "aside")
            (ws / "evil").rename(ws / "swap")
            (ws / "swap").rename(ws / "evil")
            (ws / "aside").rename(ws / "swap")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(_read(root, "swap/secret"))
            except SquibError as error:
                seen.add(type(error).__name__)
    finally:
        stop.set()
        thread.join()
    assert "secret" not in seen
    assert _read(root, "swap/secret") == "inside"  # the race ended where it began


def test_listing_does_not_follow(root: Root, ws: Path) -> None:
    found = {e.path: e.type for e in listing(root, ".", 9).entries}
    assert found["out"] == found["root"] == "link"
    assert not [p for p in found if p.startswith(("out/", "root/", "up/"))]
    with pytest.raises(PathEscapes):
        root.open_directory("out")


def test_an_archive_there_and_back(root: Root, ws: Path, tmp_path: Path) -> None:
    with (tmp_path / "a.tgz").open("wb") as file:
        write(root, os.dup(file.fileno()))
    (tmp_path / "copy").mkdir()
    copy = Root(str(tmp_path / "copy"))
    copy.kernel = root.kernel
    with (tmp_path / "a.tgz").open("rb") as file:
        extract(copy, os.dup(file.fileno()))
    copy.close()
    assert (tmp_path / "copy/d/f").read_text() == "inside"
    assert not (tmp_path / "copy/out").is_symlink()
