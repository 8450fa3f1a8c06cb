"""Files: confined to the workspace, whatever the sandbox does meanwhile."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.errors import InvalidRequest, NotFound, PathEscapes, SquibError
from squib.contracts.guest import TerminalRequest
from tests.conformance.guest.conftest import Guest


async def test_write_and_read(guest: Guest) -> None:
    content = bytes(range(256)) * 20_000
    entry = await guest.link.write("a/b c/é.bin", content, 0o750)
    assert (entry.path, entry.type, entry.size, entry.mode) == ("a/b c/é.bin", "file", len(content), 0o750)
    assert await guest.link.read("a/b c/é.bin") == content
    assert await guest.link.read("a/b c/é.bin", 10, 5) == content[10:15]
    assert await guest.link.read("a/b c/é.bin", len(content) + 5) == b""


async def test_streamed_write_replaces_whole_or_not_at_all(guest: Guest) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"y" * 65_536

    async def broken() -> AsyncIterator[bytes]:
        yield b"z" * 65_536
        raise RuntimeError("the sender fails")

    await guest.link.write("f", pieces())
    with pytest.raises((RuntimeError, SquibError)):
        await guest.link.write("f", broken())
    assert await guest.link.read("f") == b"y" * 50 * 65_536
    assert [e.path for e in (await guest.link.list()).entries] == ["f"]


async def test_mode_is_kept(guest: Guest) -> None:
    await guest.out("echo a > f; chmod 755 f")
    assert (await guest.link.write("f", b"b")).mode == 0o755
    assert (await guest.link.write("f", b"b", 0o600)).mode == 0o600


async def test_listing(guest: Guest) -> None:
    await guest.out("mkdir -p d/e/f; echo x > d/file; ln -s /etc d/out; mkfifo d/pipe; echo > d/e/f/deep")
    found = {e.path: e.type for e in (await guest.link.list("d", depth=2)).entries}
    assert found == {"d/e": "directory", "d/e/f": "directory", "d/file": "file", "d/out": "link", "d/pipe": "other"}
    assert [e.path for e in (await guest.link.list("d/file")).entries] == ["d/file"]
    everything = await guest.link.list(depth=64)
    assert [e.path for e in everything.entries] == sorted(e.path for e in everything.entries)
    assert "d/e/f/deep" in [e.path for e in everything.entries]


async def test_a_long_listing_is_cut(guest: Guest) -> None:
    await guest.out("mkdir m; cd m; seq 10500 | xargs touch")
    found = await guest.link.list("m")
    assert (len(found.entries), found.truncated) == (10_000, True)


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "..",
        "out/passwd",
        "out-file",
        "deep/../../../etc/passwd",
        "self/../../etc",
    ],
)
async def test_paths_that_lead_out(guest: Guest, path: str) -> None:
    await guest.out("ln -s /etc out; ln -s /etc/passwd out-file; ln -s /proc/self/cwd self; mkdir -p deep")
    for call in (guest.link.read(path), guest.link.list(path), guest.link.write(path + "/x", b"x")):
        with pytest.raises((PathEscapes, InvalidRequest)):
            await call
    assert await guest.out("cat /etc/x x 2>/dev/null || true") == ""


async def test_a_link_that_stays_inside_is_followed(guest: Guest) -> None:
    await guest.out("mkdir real; echo inside > real/f; ln -s real link; ln -s ../real/f real/g")
    assert await guest.link.read("link/f") == b"inside\n"
    assert await guest.link.read("link/g") == b"inside\n"


async def test_writing_over_a_link_replaces_it(guest: Guest) -> None:
    await guest.out("echo kept > /tmp/squib-kept; ln -s /tmp/squib-kept link")
    await guest.link.write("link", b"new")
    assert await guest.out("cat /tmp/squib-kept; rm /tmp/squib-kept; cat link") == "kept\nnew"


@pytest.mark.parametrize(("path", "error"), [("nope", NotFound), ("f/x", InvalidRequest), ("shut", InvalidRequest)])
async def test_kinds_of_refusal(guest: Guest, path: str, error: type[Exception]) -> None:
    await guest.out("echo > f; echo > shut; chmod 0 shut")
    with pytest.raises(error):
        await guest.link.read(path)


@pytest.mark.parametrize("path", ["pipe", "dir", "socket"])
async def test_what_is_no_file_neither_blocks_nor_reads(guest: Guest, path: str) -> None:
    await guest.out(
        "mkfifo pipe; mkdir dir; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'"
    )
    with pytest.raises(InvalidRequest):
        await asyncio.wait_for(guest.link.read(path), 5)


async def test_a_directory_is_not_overwritten(guest: Guest) -> None:
    await guest.out("mkdir d; echo > d/f")
    with pytest.raises(InvalidRequest):
        await guest.link.write("d", b"x")
    assert [e.path for e in (await guest.link.list(depth=3)).entries] == ["d", "d/f"]


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "y" * 300, "."])
async def test_names_that_cannot_be(guest: Guest, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await guest.link.write(path, b"x")
    assert "path" in caught.value.fields


async def test_a_racing_link_never_leads_out(guest: Guest) -> None:
    await guest.out("mkdir -p good/d evil; echo good > good/d/passwd; echo good > good/passwd")
    race = "import os\nfor i in range(2000): os.symlink(('good', '/etc')[i % 2], 'new'); os.replace('new', 'here')"
    racing = asyncio.ensure_future(guest.link.terminal(TerminalRequest(["/usr/bin/python3", "-c", race])))
    contents = set()
    written = 0
    while not racing.done():
        try:
            contents.add(await guest.link.read("here/passwd"))
            await guest.link.write(f"here/new{written % 10}", b"w")
            written += 1
        except (PathEscapes, NotFound, SquibError):
            pass
    assert (await racing).exit_code == 0
    assert contents <= {b"good\n"}
    assert await guest.out("ls /etc | grep -c '^new' || true") == "0\n"


# --- archives ---


async def test_there_and_back(guest: Guest, tmp_path: Path) -> None:
    await guest.out(
        "mkdir -p d/e empty; echo x > d/e/f; chmod 755 d/e/f; ln -s e/f d/link; ln -s /etc/passwd out; mkfifo pipe;"
        "echo odd > \"$(printf 'od\\377d')\"; git init -q . ; head -c 3000000 /dev/urandom > big;"
        "ln d/e/f hard; chmod 500 empty"
    )
    saved = tmp_path / "w.tar.gz"
    size = await guest.link.archive(saved, max_bytes=10_000_000)
    assert size == saved.stat().st_size
    before = await guest.out("sha256sum big d/e/f hard; readlink d/link; stat -c '%a %n' d/e/f empty")
    await guest.out("chmod 700 empty; find . -mindepth 1 -delete")
    listed = await guest.link.extract(saved)
    assert {"d", "d/e", "d/e/f", "d/link", "big", "empty", "hard", ".git", "od\ufffdd"} <= {
        e.path for e in listed.entries
    }
    assert not {"out", "pipe"} & {e.path for e in listed.entries}
    assert await guest.out("sha256sum big d/e/f hard; readlink d/link; stat -c '%a %n' d/e/f empty") == before
    await guest.out("chmod 700 empty; git status")


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "members",
    [
        [_member("/tmp/squib-out")],
        [_member("../squib-out")],
        [_member("a/../../squib-out")],
        [_member("dev", tarfile.CHRTYPE)],
        [_member("pipe", tarfile.FIFOTYPE)],
        [_member("l", tarfile.SYMTYPE, "/tmp"), _member("l/squib-out")],
        [_member("l", tarfile.SYMTYPE, "..")],
        [_member("d/l", tarfile.SYMTYPE, "../../x")],
        [_member("h", tarfile.LNKTYPE, "/etc/passwd")],
        [_member("h", tarfile.LNKTYPE, "../x")],
    ],
    ids=lambda members: " ".join(f"{m.name}{'>' + m.linkname if m.linkname else ''}" for m in members),
)
async def test_archives_that_lead_out(guest: Guest, tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    saved = tmp_path / "evil.tar.gz"
    with tarfile.open(saved, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b""))
    with pytest.raises(InvalidRequest):
        await guest.link.extract(saved)
    assert await guest.out("ls -d /tmp/squib-out ../squib-out 2>/dev/null || true") == ""
    assert {e.path for e in (await guest.link.list(depth=9)).entries} <= {"d"}


async def test_extracting_through_a_link_that_is_there(guest: Guest, tmp_path: Path) -> None:
    await guest.out("ln -s /tmp d")
    saved = tmp_path / "a.tar.gz"
    with tarfile.open(saved, "w:gz") as tar:
        tar.addfile(_member("d/squib-out"), io.BytesIO(b""))
    with pytest.raises(PathEscapes):
        await guest.link.extract(saved)
    assert await guest.out("ls /tmp/squib-out 2>/dev/null || true") == ""


async def test_rubbish_is_no_archive(guest: Guest, tmp_path: Path) -> None:
    saved = tmp_path / "rubbish"
    for content in (b"rubbish" * 200_000, b"", b"\x1f\x8b\x08\0\0\0\0\0"):
        saved.write_bytes(content)
        with pytest.raises(InvalidRequest):
            await guest.link.extract(saved)
    await guest.link.health()
