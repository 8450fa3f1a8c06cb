"""Confinement: paths below one directory, resolved by the kernel so that no link, `..` or race leads out.

`openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)` follows links that stay inside. Where the kernel lacks it
(gVisor), `walk` does the same, one component after the other.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from squib.contracts.errors import Conflict, InvalidRequest, NotFound, PathEscapes, SquibError, TooLarge
from squib.guest.walk import open_beneath

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_RACES = 256  # EAGAIN: something was renamed while the kernel looked
_MAX_PATH = 4096
#: What is wrong with a path rather than with the workspace. Not `Forbidden`: the host takes that for its own token.
_WRONG = frozenset(
    {
        *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL, errno.ENODEV),
        *(errno.EACCES, errno.EPERM, errno.EROFS),
    }
)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def clean(path: str) -> str:
    """Give the path in plain form, "." for the root. Raises PathEscapes for one that is absolute or holds `..`."""
    if "\0" in path or len(path) > _MAX_PATH:
        raise InvalidRequest("path: holds a NUL or is too long", fields={"path": "holds a NUL or is too long"})
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise PathEscapes(f"{path!r} leads out of the workspace", fields={"path": "leads out of the workspace"})
    return "/".join(parts) or "."


class Root:
    """One directory, held open, and what lies below it. Paths are relative, errors are the contract's own."""

    def __init__(self, path: str):
        self._path, self._libc = path, ctypes.CDLL(None, use_errno=True)
        self.fd = self._open()
        self.kernel = self._kernel_resolves()

    def _open(self) -> int:
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the directory. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def reopen(self) -> None:
        """Take the directory that is at its path now, once it has been closed. Raises OSError."""
        self.fd = self._open()

    def _kernel_resolves(self) -> bool:
        try:
            os.close(self._openat2(".", os.O_PATH | os.O_CLOEXEC, 0))
        except OSError:
            return False
        return True

    def _openat2(self, path: str, flags: int, mode: int) -> int:
        how = _How(flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        for _ in range(_RACES):
            fd = self._libc.syscall(
                ctypes.c_long(_SYS_OPENAT2),
                ctypes.c_int(self.fd),
                ctypes.c_char_p(os.fsencode(path)),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
            if fd >= 0:
                return int(fd)
            code = ctypes.get_errno()
            if code not in (errno.EAGAIN, errno.EINTR):
                break
        raise OSError(code, os.strerror(code), path)

    def raw_open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a path that is `clean`; the caller owns the descriptor. Raises OSError."""
        flags |= os.O_CLOEXEC if flags & os.O_PATH else os.O_CLOEXEC | os.O_NOCTTY
        return self._openat2(path, flags, mode) if self.kernel else open_beneath(self.fd, path, flags, mode)

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open what lies at `path`; the caller owns the descriptor. Raises the contract's errors."""
        try:
            return self.raw_open(clean(path), flags, mode)
        except OSError as error:
            raise explain(error, path) from error

    def open_file(self, path: str) -> int:
        """Open a regular file to read: a FIFO or device neither blocks nor is read."""
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise InvalidRequest(f"{path!r} is no regular file", fields={"path": "is no regular file"})

    def open_directory(self, path: str) -> int:
        """Open a directory."""
        return self.open(path, os.O_RDONLY | os.O_DIRECTORY)

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The directory that holds `path`, open for the block, and the last name; with `make` made where absent."""
        plain = clean(path)
        if plain == ".":
            raise InvalidRequest("path: names the workspace itself", fields={"path": "names the workspace itself"})
        above, _, name = plain.rpartition("/")
        if make and above:
            self.make_directories(above)
        fd = self.open_directory(above or ".")
        try:
            yield fd, name
        except ConnectionError:
            raise
        except OSError as error:
            raise explain(error, path) from error
        finally:
            os.close(fd)

    def make_directories(self, path: str) -> None:
        """Make the directory and those above it; what is there already stays."""
        parts = clean(path).split("/")
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            above = self.open("/".join(parts[: depth - 1]) or ".", os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(parts[depth - 1], 0o755, dir_fd=above)
            except FileExistsError:
                pass
            except OSError as error:
                raise explain(error, here) from error
            finally:
                os.close(above)


def explain(error: OSError, path: str) -> SquibError:
    """The contract's error for the kernel's."""
    short = path[:200]
    match error.errno:
        case errno.ENOENT:
            return NotFound(f"there is no {short!r} in the workspace", advice="GET /files/list shows what is there.")
        case errno.EXDEV | errno.ELOOP:
            return PathEscapes(f"{short!r} leads out of the workspace", fields={"path": "leads out of the workspace"})
        case code if code in _WRONG:
            message = (error.strerror or "is of the wrong kind").lower()
            return InvalidRequest(f"{short!r}: {message}", fields={"path": message})
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return TooLarge(
                f"{short!r}: {error.strerror}", advice="Free space in the sandbox, or ask for a larger disk."
            )
        case errno.EAGAIN | errno.EEXIST | errno.ENOTEMPTY:
            return Conflict(f"{short!r} is being changed by somebody else: {error.strerror}")
    return SquibError(f"{short!r}: {error.strerror}")
