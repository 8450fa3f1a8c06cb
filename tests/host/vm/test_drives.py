import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError
from squib.host.vm import drives

pytestmark = pytest.mark.needs("qemu-img", "mke2fs")


@pytest.fixture
async def machine(tmp_path: Path) -> Path:
    folder = tmp_path / "machine"
    folder.mkdir()
    await drives.make(folder / drives.CURRENT, 1000)
    return folder


def beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 20)


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def test_a_new_drive_is_an_empty_file_system_and_takes_no_room(machine: Path) -> None:
    path = machine / drives.CURRENT
    assert path.stat().st_size == 1000 << 20
    assert path.stat().st_blocks * 512 < 4 << 20
    assert beginning(path)[1024 + 56 : 1024 + 58] == b"\x53\xef", "ext4's magic number"


async def test_one_that_went_on_writes_a_layer_of_its_own_on_top(machine: Path, tmp_path: Path) -> None:
    before = beginning(machine / drives.CURRENT)
    frozen, clone = folder(tmp_path, "frozen"), folder(tmp_path, "clone")
    await drives.freeze(machine, frozen, 1000, keep=True)
    assert [path.name for path in drives.of_machine(machine)] == [drives.CURRENT], "it goes on as it was"
    assert [path.name for path in drives.layers(frozen)] == ["drive-0"]
    assert (frozen / "drive-0").stat().st_blocks * 512 < 4 << 20
    drives.add_layer(frozen, clone)
    assert [path.name for path in drives.of_machine(clone)] == ["drive-0", drives.CURRENT]
    assert beginning(clone / "drive-0") == before
    argv = ("qemu-img", "info", "--output=json", str(clone / drives.CURRENT))
    said = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    found = json.loads((await said.communicate())[0])
    assert (found["format"], found["virtual-size"]) == ("qcow2", 1000 << 20)
    assert "backing-filename" not in found


async def test_one_that_ends_gives_its_drive_away_and_may_go_on_in_the_same_place(
    machine: Path, tmp_path: Path
) -> None:
    frozen = folder(machine, "frozen")
    await drives.freeze(machine, frozen, 1000, keep=False)
    assert not (machine / drives.CURRENT).exists()
    drives.clear(machine)
    drives.add_layer(frozen, machine)
    again = folder(tmp_path, "again")
    await drives.freeze(machine, again, 1000, keep=False)
    assert [path.name for path in drives.layers(again)] == ["drive-0", "drive-1"]
    drives.clear(machine)
    assert drives.of_machine(machine) == [machine / drives.CURRENT]


async def test_what_can_not_be_made_is_told_in_the_programs_own_words(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="mke2fs failed"):
        await drives.make(tmp_path / "small", 0)


def test_a_copy_keeps_its_holes_also_on_another_kind_of_file_system(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.seek(8 * 2**20)
        file.write(b"middle" * 1000)
        file.truncate(16 * 2**20)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for target in (tmp_path / "target", Path(folder) / "target"):
            drives.copy_sparsely(source, target)
            assert target.read_bytes() == source.read_bytes()
            assert target.stat().st_blocks * 512 < 2**20
