"""Memory is written from a real process that maps it, as a monitor does, and read back."""

import asyncio
import contextlib
import mmap
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError
from squib.host.vm import memory
from squib.host.vm.templates import Templates

MIB = memory.MIB
#: Maps the memory, shared or not, writes at the given places, and stands still.
MONITOR = """
import mmap, sys
number, flags, *places = map(int, sys.argv[1:])
file = open(f"/proc/self/fd/{number}", "r+b", buffering=0)
held = mmap.mmap(file.fileno(), 8 << 20, flags=flags)
for place in places:
    held[place:place + 7] = b"written"
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.asynccontextmanager
async def monitor(descriptor: int, flags: int, *places: int) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MONITOR, *map(str, (descriptor, flags, *places))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=(descriptor,),
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        await process.communicate(b"end")


def content(directory: Path) -> bytes:
    with memory.fresh(8) as descriptor:
        memory.load(directory, descriptor)
        return os.pread(descriptor, 8 * MIB, 0)


async def test_what_a_machine_wrote_is_there_again_and_zeros_take_no_room(tmp_path: Path) -> None:
    with memory.fresh(8) as own:
        async with monitor(own, mmap.MAP_SHARED, 0, 3 * MIB + 5000, 8 * MIB - 7) as pid:
            memory.save(pid, tmp_path)
    found = content(tmp_path)
    assert [found[at : at + 7] for at in (0, 3 * MIB + 5000, 8 * MIB - 7)] == [b"written"] * 3
    assert found.count(0) == 8 * MIB - 21
    assert (tmp_path / memory.CONTENT).stat().st_size == 3 * 16384


async def test_a_clone_is_its_template_with_what_it_wrote_itself(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with memory.fresh(8) as own:
        async with monitor(own, mmap.MAP_SHARED, 100, MIB) as pid:
            memory.save(pid, first)
    async with Templates().borrowed(first, 8) as template, monitor(template, mmap.MAP_PRIVATE, MIB, 5 * MIB) as pid:
        memory.save(pid, second)
        assert os.pread(template, 7, 5 * MIB) == bytes(7), "the template is what it was"
    found = content(second)
    assert [at for at in (100, MIB, 5 * MIB) if found[at : at + 7] == b"written"] == [100, MIB, 5 * MIB]
    assert found.count(0) == 8 * MIB - 21


async def test_nobody_can_change_a_template(tmp_path: Path) -> None:
    with memory.fresh(8) as own:
        async with monitor(own, mmap.MAP_SHARED, 100) as pid:
            memory.save(pid, tmp_path)
    async with Templates().borrowed(tmp_path, 8) as template:
        with open(f"/proc/self/fd/{template}", "r+b", buffering=0) as opened:
            with pytest.raises(PermissionError):
                os.pwrite(opened.fileno(), b"other", 100)
            with pytest.raises(PermissionError):
                mmap.mmap(opened.fileno(), 8 * MIB, flags=mmap.MAP_SHARED)
            with pytest.raises(PermissionError):
                os.ftruncate(opened.fileno(), 0)


async def test_a_template_is_read_once_for_all_and_again_once_it_is_another(tmp_path: Path) -> None:
    templates = Templates()
    with memory.fresh(8) as own:
        async with monitor(own, mmap.MAP_SHARED, 100) as pid:
            memory.save(pid, tmp_path)
            async with contextlib.AsyncExitStack() as stack:
                many = [await stack.enter_async_context(templates.borrowed(tmp_path, 8)) for _ in range(3)]
                assert len({os.fstat(each).st_ino for each in many}) == 1
                (tmp_path / memory.CONTENT).unlink()
                memory.save(pid, tmp_path)
                again = await stack.enter_async_context(templates.borrowed(tmp_path, 8))
                assert os.fstat(again).st_ino != os.fstat(many[0]).st_ino


async def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    with memory.fresh(8) as own:
        async with monitor(own, mmap.MAP_SHARED, 100) as pid:
            memory.save(pid, tmp_path)
    with pytest.raises(InfrastructureError, match="another size"):
        async with Templates().borrowed(tmp_path, 16):
            pass
    os.truncate(tmp_path / memory.CONTENT, 5)
    with pytest.raises(InfrastructureError, match="cut short"):
        async with Templates().borrowed(tmp_path, 8):
            pass
    with pytest.raises(InfrastructureError, match="No such file"):
        async with Templates().borrowed(tmp_path / "absent", 8):
            pass
    os.truncate(tmp_path / memory.MAP, 17)
    with pytest.raises(InfrastructureError, match="map is cut short"):
        async with Templates().borrowed(tmp_path, 8):
            pass


def test_a_process_without_a_machine_has_no_memory_to_save(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="maps no memory"):
        memory.save(os.getpid(), tmp_path)
