"""How much of the host's disk a machine has: what its files hold, how many they are, and what has lost its name."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from squib.host import processes

SECONDS = 60.0
#: Bytes that each file counts as at least: an empty one takes none of the disk's blocks, but one of its inodes.
EACH = 4096
_MOST_DESCRIPTORS = 200_000


async def disk(directory: Path, pids: Iterable[int]) -> int:
    """MiB that the tree and the deleted files that these processes hold open have. 0 where it can't be found out."""
    blocks, files, deleted = await asyncio.gather(
        _du(directory, "-skx", "--"),
        _du(directory, "--inodes", "-sx", "--"),
        asyncio.to_thread(_deleted, directory, pids),
    )
    return (max(blocks * 1024, files * EACH) + deleted) // (1024 * 1024)


async def _du(directory: Path, *options: str) -> int:
    """What `du` counts. Hostile content: it neither follows links nor tires of depth."""
    process = await asyncio.create_subprocess_exec(
        *("du", *options, str(directory)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        return 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    words = said.split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _deleted(directory: Path, pids: Iterable[int]) -> int:
    """Bytes of the disk in files of no name, which `du` can't see, by the descriptors that hold them."""
    with contextlib.suppress(OSError):
        device, found, looked = directory.stat().st_dev, {}, 0
        for pid in pids:
            with contextlib.suppress(OSError):
                for entry in os.scandir(processes.PROC / str(pid) / "fd"):
                    looked += 1
                    with contextlib.suppress(OSError):
                        held = os.stat(entry.path)  # noqa: PTH116 - through the link to the file itself
                        if stat.S_ISREG(held.st_mode) and held.st_nlink == 0 and held.st_dev == device:
                            found[held.st_ino] = held.st_blocks * 512
                    if looked > _MOST_DESCRIPTORS:
                        break
        return sum(found.values())
    return 0
