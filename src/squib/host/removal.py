"""Removes a directory tree that a hostile guest has made, however deep, closed or strangely named it is."""

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove `path` and all below it; absent is fine. No process may be writing there any more.

    Every subdirectory's own subdirectories are first moved up to the top, so that depth costs neither recursion
    nor descriptors, and no path is ever longer than two names. Links are removed, never followed.
    """
    try:
        top = os.open(path, _OPEN)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink(missing_ok=True)
        return
    names = (f".{number}.squib-removal" for number in itertools.count())
    try:
        while entries := _list(top):
            for name, is_directory in entries:
                _remove_entry(top, name, is_directory, names)
    finally:
        os.close(top)
    path.rmdir()


def _list(folder: int) -> list[tuple[str, bool]]:
    """Names, and which are directories themselves: links to one are not."""
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _remove_entry(top: int, name: str, is_directory: bool, names: Iterator[str]) -> None:
    if not is_directory:
        os.unlink(name, dir_fd=top)
        return
    _allow(top, name)
    inner = os.open(name, _OPEN, dir_fd=top)
    try:
        for child, child_is_directory in _list(inner):
            if child_is_directory:
                _lift(inner, child, top, names)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def _lift(inner: int, child: str, top: int, names: Iterator[str]) -> None:
    """Move a directory to the top under a name that is free there."""
    _allow(inner, child)
    for name in names:
        try:
            os.rename(child, name, src_dir_fd=inner, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        else:
            return


def _allow(folder: int, name: str) -> None:
    """Give the owner his rights back where the guest took them; through /proc, so that no link is followed."""
    if os.geteuid() == 0:
        return
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)
