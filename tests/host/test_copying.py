import os
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError
from squib.host import copying

READER, WRITER = 231_001, 231_002


@pytest.fixture
def places(shared_tmp: Path) -> tuple[Path, Path]:
    """Two machines' workspaces, each its own user's where the tests may do that."""
    source, target = shared_tmp / "source", shared_tmp / "target"
    for path, uid in ((source, READER), (target, WRITER)):
        path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(path, uid, uid)
    return source, target


async def copy(places: tuple[Path, Path], most: int = 100) -> None:
    root = os.geteuid() == 0
    await copying.copy(places[0], READER if root else None, places[1], WRITER if root else None, most)


def give(path: Path, uid: int = READER) -> None:
    if os.geteuid() == 0:
        os.chown(path, uid, uid, follow_symlinks=False)


async def test_what_is_copied_is_the_others_and_the_links_in_it_lead_nowhere_else(
    places: tuple[Path, Path], shared_tmp: Path
) -> None:
    source, target = places
    outside = shared_tmp / "outside"
    outside.mkdir(mode=0o777)
    (source / "link").symlink_to(outside)
    (source / "file").write_text("content")
    (source / "program").write_text("")
    (source / "program").chmod(0o755)
    for path in source.iterdir():
        give(path)
    await copy(places)
    assert (target / "link").readlink() == outside
    assert list(outside.iterdir()) == []
    assert (target / "file").read_text() == "content"
    assert (target / "program").stat().st_mode & 0o777 == 0o755
    if os.geteuid() == 0:
        assert {path.lstat().st_uid for path in target.iterdir()} == {WRITER}


@pytest.mark.needs("root")
async def test_what_the_machine_can_not_read_or_make_is_not_copied(places: tuple[Path, Path]) -> None:
    source, target = places
    (source / "mine").write_text("x")
    give(source / "mine")
    (source / "secret").write_text("of root")
    (source / "secret").chmod(0o600)
    (source / "closed").mkdir(mode=0o700)
    (source / "closed" / "in").touch()
    await copy(places)
    assert [path.name for path in target.iterdir()] == ["mine"]
    os.mknod(source / "null", 0o666 | 0o020000, os.makedev(1, 3))
    with pytest.raises(InfrastructureError, match="can't be copied"):
        await copy(places)
    assert not (target / "null").exists()


async def test_holes_stay_holes_and_too_much_is_refused(places: tuple[Path, Path]) -> None:
    source, target = places
    with (source / "holes").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"in the middle")
    give(source / "holes")
    await copy(places, most=1)
    assert (target / "holes").stat().st_size == 1 << 30
    assert (target / "holes").stat().st_blocks * 512 < 1 << 20
    (source / "big").write_bytes(os.urandom(2 << 20))
    give(source / "big")
    with pytest.raises(InfrastructureError, match="more than 1 MiB"):
        await copy(places, most=1)


async def test_a_directory_that_is_not_there_is_an_error(places: tuple[Path, Path]) -> None:
    places[1].rmdir()
    with pytest.raises(InfrastructureError, match="can't be copied"):
        await copy(places)
