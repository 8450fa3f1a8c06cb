"""Reaching into a root file system as root: its links are followed as they would be inside, and never out of it."""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Root:
    """A root file system, open: paths are absolute ones inside it."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def open(self, path: str, flags: int) -> int:
        """A descriptor of what is there. Raises OSError."""
        how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
        name = ctypes.c_char_p(os.fsencode("." + path if path.startswith("/") else path))
        found = _libc.syscall(_OPENAT2, self.descriptor, name, ctypes.byref(how), ctypes.sizeof(how))
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return int(found)

    @contextlib.contextmanager
    def folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        """The directory at `path`, made with its parents where absent and wanted. Raises OSError."""
        descriptor = self._folder(PurePosixPath(path), make)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _folder(self, path: PurePosixPath, make: bool) -> int:
        try:
            return self.open(str(path), os.O_RDONLY | _FOLDER)
        except FileNotFoundError:
            if not make or path == path.parent:
                raise
        above = self._folder(path.parent, make)
        try:
            os.mkdir(path.name, 0o755, dir_fd=above)
            os.chmod(path.name, 0o755, dir_fd=above)
            return os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | _FOLDER, dir_fd=above)
        finally:
            os.close(above)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Put a file there, in place of what is there. Raises OSError."""
        where = PurePosixPath(path)
        with self.folder(str(where.parent), make=True) as above:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where.name, dir_fd=above)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(where.name, flags, mode, dir_fd=above), "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        """At most `limit` bytes of a regular file; empty where there is none."""
        try:
            descriptor = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return b""
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        try:
            os.close(self.open(path, os.O_PATH))
        except OSError:
            return False
        return True

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link there, in place of a file or link. Raises OSError."""
        where = PurePosixPath(path)
        with self.folder(str(where.parent), make=True) as above:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where.name, dir_fd=above)
            os.symlink(target, where.name, dir_fd=above)

    def copy(self, source: Path, path: str) -> None:
        """Put a file, or a directory with all below it, there."""
        if not source.is_dir():
            self.write(path, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
            return
        with self.folder(path, make=True):
            pass
        for entry in sorted(source.iterdir()):
            if entry.name not in ("node_modules", "__pycache__") and not entry.is_symlink():
                self.copy(entry, f"{path}/{entry.name}")

    def remove(self, path: str) -> None:
        """Remove a file or link; absent is fine, and so is a directory, which stays."""
        where = PurePosixPath(path)
        try:
            with self.folder(str(where.parent)) as above:
                os.unlink(where.name, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EPERM):
                raise


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Root]:
    """The root file system in that directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | _FOLDER)
    try:
        yield Root(descriptor)
    finally:
        os.close(descriptor)
