"""Waits for a name to appear in a directory, told by the kernel (inotify(7)) instead of looking again and again."""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_CREATE, _MOVED_TO = 0x100, 0x80
_EVENTS = 64 * 1024  # bytes of events read at once; their content does not matter


async def appears(path: Path) -> None:
    """Return once `path` is there; its directory must be. Raises OSError."""
    with _changes(path.parent) as descriptor:
        while not os.path.lexists(path):
            await _readable(descriptor)
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, _EVENTS)


@contextlib.contextmanager
def _changes(directory: Path) -> Iterator[int]:
    """A descriptor that is readable when an entry has been made in the directory since."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1: " + os.strerror(ctypes.get_errno()))
    try:
        if libc.inotify_add_watch(descriptor, os.fsencode(directory), _CREATE | _MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
        yield descriptor
    finally:
        os.close(descriptor)


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
