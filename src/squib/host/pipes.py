"""Reads a pipe to its end without blocking the loop, up to a bound."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Ends:
    """A pipe's two descriptors; whoever closes one sets it to -1."""

    read: int
    write: int

    def close_write(self) -> None:
        """Close this process's writing end: after that the pipe ends when the child's end does."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1


@contextlib.contextmanager
def pipe() -> Iterator[Ends]:
    """A pipe, both ends closed at the end."""
    ends = Ends(*os.pipe())
    try:
        yield ends
    finally:
        ends.close_write()
        if ends.read >= 0:
            os.close(ends.read)


async def read_all(ends: Ends, limit: int) -> bytes:
    """Everything until the pipe ends, at most `limit` bytes; takes over the reading end."""
    reader = asyncio.StreamReader()
    file = os.fdopen(ends.read, "rb", buffering=0)
    ends.read = -1
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        content = bytearray()
        while len(content) < limit and (piece := await reader.read(limit - len(content))):
            content += piece
        return bytes(content)
    finally:
        transport.close()


@contextlib.contextmanager
def memory_files(*contents: bytes) -> Iterator[tuple[int, ...]]:
    """A descriptor to read each of the contents from, held in memory and closed at the end."""
    with contextlib.ExitStack() as stack:
        descriptors = []
        for content in contents:
            descriptors.append(descriptor := os.memfd_create("squib", os.MFD_CLOEXEC))
            stack.callback(os.close, descriptor)
            os.write(descriptor, content)
            os.lseek(descriptor, 0, os.SEEK_SET)
        yield tuple(descriptors)
