"""The drive that a machine may write: an empty file system at first, then a layer for each time it was frozen.

A frozen machine's layers are `drive-0`, `drive-1`, …, never written again; whoever goes on from there gets a new one
on top. The first layer is raw and sparse, the others are qcow2 without a name of what lies below: that is said on the
monitor's command line. `drives.json` tells how many there are, `drive-new` is an empty layer to copy.
"""

import asyncio
import errno
import json
import os
import shutil
from pathlib import Path

from squib.contracts.errors import InfrastructureError

MIB = 1024 * 1024
CURRENT = "drive"  # in a machine's directory: the layer that it writes
_TABLE, _EMPTY = "drives.json", "drive-new"
_PRIVATE = 0o600  # somebody's work: QEMU is handed it open
#: No journal: after a crash nobody mounts it again. Nothing is kept for root, tables are zeroed as they are used.
_MKFS = ("-q", "-F", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0")
_MKFS_EXTENDED = ("-E", "lazy_itable_init=1,nodiscard")


async def make(path: Path, size: int) -> None:
    """An empty ext4 file system of `size` MiB, sparse. Raises InfrastructureError."""
    with path.open("wb") as file:
        os.fchmod(file.fileno(), _PRIVATE)
        os.ftruncate(file.fileno(), size * MIB)
    await _run("mke2fs", *_MKFS, *_MKFS_EXTENDED, str(path))


def layers(frozen: Path) -> list[Path]:
    """A frozen machine's layers, lowest first. Raises OSError or ValueError."""
    return [frozen / f"drive-{number}" for number in range(int(json.loads((frozen / _TABLE).read_text())))]


def add_layer(frozen: Path, machine: Path) -> None:
    """Give a machine that goes on from there its own layers: links to the old ones, an empty one on top."""
    for layer in layers(frozen):
        _link(layer, machine / layer.name)
    shutil.copyfile(frozen / _EMPTY, machine / CURRENT)
    (machine / CURRENT).chmod(_PRIVATE)


def of_machine(machine: Path) -> list[Path]:
    """A machine's layers, lowest first; the last is the one that it writes."""
    found: list[Path] = []
    while (path := machine / f"drive-{len(found)}").exists():
        found.append(path)
    return [*found, machine / CURRENT]


async def freeze(machine: Path, target: Path, size: int, *, keep: bool) -> None:
    """Leave the layers of a machine that stands still in `target`. With `keep` it goes on writing its own.

    Raises OSError or InfrastructureError.
    """
    *below, current = of_machine(machine)
    for layer in below:
        _link(layer, target / layer.name)
    await _run("qemu-img", "create", "-q", "-f", "qcow2", str(target / _EMPTY), f"{size}M")
    (target / _TABLE).write_text(json.dumps(len(below) + 1))
    top = target / f"drive-{len(below)}"
    if keep:
        await asyncio.to_thread(copy_sparsely, current, top)
    else:  # last: until then the machine could go on
        await asyncio.to_thread(shutil.move, current, top)


def clear(machine: Path) -> None:
    """Remove a machine's layers: it goes on from frozen ones."""
    for path in of_machine(machine):
        path.unlink(missing_ok=True)


def copy_sparsely(source: Path, target: Path) -> None:
    """The same content, with holes where the source has them. Raises OSError."""
    with source.open("rb", buffering=0) as old, target.open("wb", buffering=0) as new:
        size = os.fstat(old.fileno()).st_size
        os.fchmod(new.fileno(), _PRIVATE)
        os.ftruncate(new.fileno(), size)
        end = 0
        while end < size:
            try:
                start = os.lseek(old.fileno(), end, os.SEEK_DATA)
            except OSError:  # nothing but holes
                return
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += _copy(old.fileno(), new.fileno(), start, end - start)


def _copy(old: int, new: int, start: int, size: int) -> int:
    """Copy some of that range, by reference where the file system can; gives how much. Raises OSError."""
    try:
        return os.copy_file_range(old, new, size, start, start)
    except OSError as error:
        if error.errno != errno.EXDEV:  # the two are of different kinds of file systems
            raise
    os.lseek(new, start, os.SEEK_SET)
    return os.sendfile(new, old, start, size)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        copy_sparsely(source, target)


async def _run(*argv: str) -> None:
    program = shutil.which(argv[0], path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise InfrastructureError(f"{argv[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        program,
        *argv[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise InfrastructureError(f"{argv[0]} failed: {said.decode(errors='replace')[:500]}")
