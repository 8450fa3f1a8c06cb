"""A machine's memory: held in a memory file that its monitor maps, kept on disk as the pieces that are not zero.

A monitor maps the file for its machine alone (what the guest writes is in the file), or a template's copy-on-write
(what the guest writes is in pages of the monitor's own). A frozen machine's memory is `memory` (the pieces, one after
the other) and `memory.map` (where each belongs).
"""

import contextlib
import fcntl
import os
import re
import struct
from array import array
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

MIB = 1024 * 1024
CONTENT, MAP = "memory", "memory.map"
_NAME = "machine-memory"
_MAPPED = re.compile(rf"^([0-9a-f]+)-[0-9a-f]+ rw.. 00000000 .*/memfd:{_NAME} ", re.M)
_PAGE = os.sysconf("SC_PAGESIZE")
_PIECE = 4 * _PAGE
_ZEROS = bytes(_PIECE)
_ENTRY = struct.Struct("<QQ")
_F_ADD_SEALS, _SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x8  # no more seals, no other size, no write
#: Of an entry of /proc/PID/pagemap (the kernel's Documentation/admin-guide/mm/pagemap.rst).
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
_PAGES_AT_ONCE = 16_384


@contextlib.contextmanager
def fresh(size: int) -> Iterator[int]:
    """A descriptor of `size` MiB of new memory, closed at the end: it lives on where a monitor has mapped it."""
    descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size * MIB)
        yield descriptor
    finally:
        os.close(descriptor)


def seal(descriptor: int) -> None:
    """Nobody can change it from here on: neither a monitor that was taken over, nor this process."""
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)


def save(pid: int, target: Path) -> None:
    """Write the memory of the monitor `pid`, whose machine stands still, into the directory. Raises OSError."""
    proc = Path("/proc") / str(pid)
    found = _MAPPED.search((proc / "maps").read_text())
    if found is None:
        raise FileNotFoundError(f"process {pid} maps no memory of a machine")
    start = int(found[1], 16)
    with contextlib.closing(_file(proc)) as file:
        size = os.fstat(file.fileno()).st_size
        offsets = sorted({*_with_data(file.fileno(), size), *_own(proc, start, size)})
    with (proc / "mem").open("rb", buffering=0) as source:
        _write(source.fileno(), start, offsets, size, target)


def load(directory: Path, target: int) -> None:
    """Put what `save` wrote into fresh memory of the same size. Raises OSError or ValueError."""
    try:
        (size, count), *runs = _ENTRY.iter_unpack((directory / MAP).read_bytes())
    except struct.error as error:
        raise ValueError("the frozen memory's map is cut short") from error
    if size != os.fstat(target).st_size or count != len(runs):
        raise ValueError("the frozen memory is of another size")
    with (directory / CONTENT).open("rb", buffering=0) as content:
        for offset, length in runs:
            os.lseek(target, offset, os.SEEK_SET)
            while length > 0:
                sent = os.sendfile(target, content.fileno(), None, length)
                if sent == 0:
                    raise ValueError("the frozen memory is cut short")
                length -= sent


def _file(proc: Path) -> FileIO:
    """The memory file that the process has open. Raises OSError."""
    for entry in (proc / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(entry.readlink()).startswith(f"/memfd:{_NAME} "):
                return entry.open("rb", buffering=0)
    raise FileNotFoundError(f"{proc} has no memory of a machine open")


def _with_data(descriptor: int, size: int) -> Iterator[int]:
    """Where a piece of the file begins in which a page has ever been touched."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # nothing but holes
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield from range(start // _PIECE * _PIECE, end, _PIECE)


def _own(proc: Path, start: int, size: int) -> Iterator[int]:
    """Where a piece begins of which the process has pages of its own instead of the file's."""
    pages = size // _PAGE
    with (proc / "pagemap").open("rb", buffering=0) as file:
        file.seek(start // _PAGE * 8)
        for first in range(0, pages, _PAGES_AT_ONCE):
            entries = array("Q", file.read(8 * min(_PAGES_AT_ONCE, pages - first)))
            for number, entry in enumerate(entries, first):
                if entry & (_PRESENT | _SWAPPED) and not entry & _OF_FILE:
                    yield number * _PAGE // _PIECE * _PIECE


def _write(source: int, start: int, offsets: list[int], size: int, target: Path) -> None:
    """Write the pieces at the offsets that are not zero, and where they belong."""
    runs: list[list[int]] = []
    with (target / CONTENT).open("wb") as content:
        for offset in offsets:
            piece = os.pread(source, _PIECE, start + offset)
            if piece == _ZEROS:
                continue
            content.write(piece)
            if runs and sum(runs[-1]) == offset:
                runs[-1][1] += len(piece)
            else:
                runs.append([offset, len(piece)])
    (target / MAP).write_bytes(_ENTRY.pack(size, len(runs)) + b"".join(_ENTRY.pack(*run) for run in runs))
