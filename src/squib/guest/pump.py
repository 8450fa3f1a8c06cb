"""Pumps: one pipe's bytes to one function, as they come, with a pause; and one pipe's bytes from memory."""

import asyncio
import contextlib
import fcntl
import os
import struct
from collections.abc import Callable

READ_BYTES = 64 * 1024  # of one read; a pipe that gave that much is flooding, and is made to hold a megabyte
_PIPE_BYTES = 1024 * 1024
_DROP_BYTES = 64 * 1024 * 1024  # of one that goes on writing when nobody listens: then its pipe breaks
_F_SETPIPE_SZ, _FIONREAD = 1031, 0x541B


class Pump:
    """Reads a descriptor, which it owns, into `sink`. `ended` is done at the end of the data."""

    __slots__ = (
        *("_behind", "_dropped", "_due", "_enlarged", "_fd", "_loop", "_paused", "_sink", "_size"),
        *("ended", "settled"),
    )

    def __init__(self, fd: int, sink: Callable[[bytes], None], size: int = READ_BYTES, behind: int = 0):
        """`behind`: how many bytes the kernel may hold besides those that it tells of (gVisor's terminals)."""
        self._behind = behind
        self._loop = asyncio.get_running_loop()
        self._fd, self._sink, self._size = fd, sink, size
        self._paused = self._enlarged = False
        self._dropped = 0
        self._due: int | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.settled: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, self._size)
        except BlockingIOError:
            if self._due is not None:  # whatever the kernel told before, it holds nothing now
                self._due = self._behind = 0
                self._settle()
            return
        except OSError:  # a pseudo-terminal says EIO when its last user is gone
            data = b""
        if not data:
            self.close()
            return
        if not self._enlarged and len(data) >= READ_BYTES:
            self._enlarged = True
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._sink(data)
        if self._due is not None:
            self._due -= len(data)
            self._settle()

    def pause(self) -> None:
        """Read no more until `resume`: the writer feels it once its pipe is full."""
        if not self._paused and self._fd >= 0:
            self._loop.remove_reader(self._fd)
        self._paused = True

    def resume(self) -> None:
        """Go on reading."""
        if self._paused and self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)
        self._paused = False

    def drop(self) -> None:
        """From now on read the rest to nowhere, up to a bound: who still holds the other end need not die of it."""
        self._sink = self._forget
        self.resume()

    def _forget(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._dropped > _DROP_BYTES:
            self.close()

    def settle(self) -> None:
        """The writer has exited: `settled` is done when what the pipe holds now has been read.

        It does not wait for the end of the data: another process may hold the pipe open for ever.
        """
        if self._fd >= 0:
            self._due = self._held()
            if self._due and not self._paused:
                self._read()
            if not self._due and not self._paused and self._fd >= 0:
                self._read()  # mostly the end is there already: then no turn of the loop is spent on it
        self._settle()

    def _held(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self._fd, _FIONREAD, b"\0\0\0\0"))[0])

    def _settle(self) -> None:
        if self._due is not None and self._due <= 0 < self._behind and self._fd >= 0:
            self._due = min(self._held(), self._behind)
            self._behind -= self._due
        if self._due is not None and (self._due <= 0 or self._fd < 0) and not self.settled.done():
            self.settled.set_result(None)

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        for future in (self.ended, self.settled):
            if not future.done():
                future.set_result(None)


class Feed:
    """Writes bytes to a descriptor, which it owns, and closes it; a reader that goes away just ends it."""

    __slots__ = ("_data", "_fd", "_loop")

    def __init__(self, fd: int, data: bytes):
        self._loop = asyncio.get_running_loop()
        self._fd, self._data = fd, memoryview(data)
        os.set_blocking(fd, False)
        self._write()
        if self._fd >= 0:
            self._loop.add_writer(fd, self._write)

    def _write(self) -> None:
        try:
            while self._data:
                self._data = self._data[os.write(self._fd, self._data) :]
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
