"""Opens paths below a directory where the kernel has no openat2 (gVisor): one component after the other.

Each is opened from the one before it, by a descriptor and without following a link; links are read and walked here.
`..` goes back to what was opened before: whatever is renamed meanwhile, nothing is reached but from the top down.
"""

import errno
import os
import stat

_MOST_LINKS = 40  # as Linux follows (path_resolution(7))
_SEEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(top: int, path: str, flags: int, mode: int) -> int:
    """As openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS). Raises OSError: EXDEV for what leads out, ELOOP."""
    left = path.split("/")[::-1]
    held = [os.dup(top)]
    links = 0
    try:
        while left:
            part = left.pop()
            if part == "..":
                _up(held, path)
            elif part in ("", "."):
                pass
            elif (target := _link(part, held[-1], last=not left, flags=flags)) is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
                left += target.split("/")[::-1]
            elif left or flags & os.O_DIRECTORY:
                held.append(_directory(part, held[-1]))
            else:
                return os.open(part, flags | os.O_NOFOLLOW, mode, dir_fd=held[-1])
        return os.open(".", flags, mode, dir_fd=held[-1])
    finally:
        for fd in held:
            os.close(fd)


def _directory(name: str, folder: int) -> int:
    """Open a directory that is no link: gVisor's kernel follows one if it is asked with O_DIRECTORY."""
    fd = os.open(name, _SEEN, dir_fd=folder)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)


def _up(held: list[int], path: str) -> None:
    if len(held) == 1:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    os.close(held.pop())


def _link(name: str, folder: int, *, last: bool, flags: int) -> str | None:
    """Where the name leads if it is a link that the flags let us follow."""
    if last and flags & (os.O_NOFOLLOW | os.O_EXCL):
        return None
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise
