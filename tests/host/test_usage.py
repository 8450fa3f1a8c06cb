"""What a machine has of the disk, however it hides it."""

import asyncio
import os
import sys
from pathlib import Path

from squib.host import usage

MIB = 1024 * 1024
HOLD = """
import sys
with open(sys.argv[1], "wb") as file:
    file.write(bytes(int(sys.argv[2])))
    file.flush()
    __import__("os").unlink(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_blocks_are_counted_not_lengths(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(bytes(3 * MIB))
    with open(tmp_path / "sparse", "wb") as sparse:
        sparse.truncate(1 << 34)
    os.link(tmp_path / "full", tmp_path / "again")
    (tmp_path / "out").symlink_to("/usr")
    assert await usage.disk(tmp_path, []) == 3


async def test_each_file_counts_although_it_is_empty(tmp_path: Path) -> None:
    for number in range(1024):
        (tmp_path / str(number)).touch()
    assert await usage.disk(tmp_path, []) >= 4


async def test_a_deleted_file_counts_as_long_as_it_is_held(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "gone"), str(5 * MIB)]
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    assert await usage.disk(tmp_path, []) == 0
    assert await usage.disk(tmp_path, [holder.pid, holder.pid]) == 5
    await holder.communicate(b"")
    assert await usage.disk(tmp_path, [holder.pid]) == 0


async def test_what_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert await usage.disk(tmp_path / "absent", [1 << 22]) == 0
