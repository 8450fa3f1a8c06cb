"""The workspace as a tar.gz, and such a tar back into it. Both run in a thread of their own, through a pipe.

What goes in is confined: every file is made through `Root`, and a member that is absolute, climbs, is a device, or
links out of the workspace refuses the whole archive. So links that lead out are left out of what is written.
"""

import contextlib
import errno
import gzip
import logging
import os
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO

from squib.contracts.errors import InvalidRequest, PathEscapes
from squib.contracts.guest import FileEntry, FileList
from squib.guest.confine import Root, clean, explain
from squib.guest.files import MAX_ENTRIES, entry

log = logging.getLogger("squib.guest")
_COPY_BYTES = 256 * 1024
_COMPRESSION = 1  # the workspace is saved often, and over a local socket


def write(root: Root, pipe: int) -> None:
    """Write the archive to `pipe`, which is closed in the end. Blocks; a reader that goes away ends it."""
    with (
        contextlib.suppress(BrokenPipeError),
        os.fdopen(pipe, "wb", _COPY_BYTES) as out,
        gzip.GzipFile("", "wb", _COMPRESSION, out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES) as tar,
    ):
        for path, directory, name in _members(root, "."):
            with contextlib.suppress(FileNotFoundError):
                _add(tar, path, directory, name)


def _members(root: Root, path: str) -> Iterator[tuple[str, int, str]]:
    """All that lies below: its path, the open directory that holds it and its name there; directories first."""
    try:
        directory = root.raw_open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        log.warning("the archive leaves %s out: %s", path, error.strerror)
        return
    try:
        inner = []
        for name in sorted(os.listdir(directory)):  # noqa: PTH208
            here = name if path == "." else f"{path}/{name}"
            yield here, directory, name
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                    inner.append(here)
    finally:
        os.close(directory)
    for here in inner:
        yield from _members(root, here)


def _add(tar: tarfile.TarFile, path: str, directory: int, name: str) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=directory)
        if _leads_out(info):
            log.warning("the archive leaves %s out: it links out of the workspace", path)
        else:
            tar.addfile(info)
    elif stat.S_ISREG(found.st_mode):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ELOOP):
                raise
            log.warning("the archive leaves %s out: %s", path, error.strerror)
            return
        with os.fdopen(fd, "rb", 0) as file:
            now = os.fstat(fd)
            if stat.S_ISREG(now.st_mode):
                info.size = now.st_size
                tar.addfile(info, _Exactly(file, info.size))


class _Exactly:
    """A file of just `size` bytes, whatever happens to it meanwhile: cut, or filled up with zeros."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._left = file, size

    def read(self, size: int = 0, /) -> bytes:
        """Give `size` bytes, or what is left."""
        size = min(size, self._left)
        data = self._file.read(size)
        self._left -= size
        return data + bytes(size - len(data))


def _leads_out(info: tarfile.TarInfo) -> bool:
    target = info.linkname
    if target.startswith("/"):
        return True
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), target))
    return reached == ".." or reached.startswith("../")


def extract(root: Root, pipe: int) -> FileList:
    """Unpack the tar.gz (or tar) that comes through `pipe`, which is closed in the end. Blocks.

    Raises PathEscapes, InvalidRequest for what is no such archive, or the contract's error for the kernel's.
    """
    entries: list[FileEntry] = []
    truncated = False
    modes: list[tuple[str, int]] = []
    with os.fdopen(pipe, "rb", _COPY_BYTES) as source:
        try:
            with tarfile.open(fileobj=source, mode="r|*", bufsize=_COPY_BYTES) as tar:
                for info in tar:
                    path = clean(info.name)
                    if path == ".":
                        continue
                    found = _put(root, tar, info, path)
                    if info.isdir():
                        modes.append((path, info.mode & 0o777))
                    truncated = truncated or len(entries) == MAX_ENTRIES
                    if not truncated:
                        entries.append(entry(path, found))
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise InvalidRequest(f"this is no tar.gz archive: {error}", fields={"body": "no tar.gz"}) from error
    for path, mode in reversed(modes):  # last: a directory may be closed to its owner
        with contextlib.suppress(OSError):
            fd = root.raw_open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
    return FileList(sorted(entries, key=lambda e: e.path), truncated)


def _put(root: Root, tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> os.stat_result:
    if info.isdir():
        root.make_directories(path)
        fd = root.open_directory(path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)
    with root.parent(path, make=True) as (directory, name):
        if info.issym() or info.islnk():
            _put_link(root, info, directory, name)
        elif info.isreg():
            _put_file(tar, info, directory, name)
        else:
            raise InvalidRequest(f"{path!r} is a device or a pipe", fields={"body": "holds a device or a pipe"})
        return os.stat(name, dir_fd=directory, follow_symlinks=False)


def _put_link(root: Root, info: tarfile.TarInfo, directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    if info.issym():
        if _leads_out(info):
            raise PathEscapes(f"{info.name!r} links out of the workspace", fields={"body": "holds a link out"})
        os.symlink(info.linkname, name, dir_fd=directory)
        return
    with root.parent(info.linkname) as (other, target):
        os.link(target, name, src_dir_fd=other, dst_dir_fd=directory, follow_symlinks=False)


def _put_file(tar: tarfile.TarFile, info: tarfile.TarInfo, directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    source = tar.extractfile(info)
    try:
        fd = os.open(name, flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise explain(error, info.name) from error
    with os.fdopen(fd, "wb", 0) as file:
        while source is not None and (data := source.read(_COPY_BYTES)):
            file.write(data)
        os.fchmod(fd, info.mode & 0o777)
        with contextlib.suppress(OSError, OverflowError):  # a time that this file system cannot hold
            os.utime(fd, (info.mtime, info.mtime))
