"""Frozen memories that machines are cloned from: read from disk once, sealed, and mapped copy-on-write by each clone.

Sealed, since a monitor that a hostile guest has taken over must not change what its siblings start from: QEMU opens
the file for writing even where it maps it privately.
"""

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.host.vm import memory

KEPT = 4  # at most; the one that was used longest ago goes, and lives on where clones still map it


@dataclass(frozen=True, slots=True)
class _Key:
    """Which files: those of another time are another memory."""

    path: str
    inode: int
    changed: int


class Templates:
    """Sealed memories by the directory that they come from."""

    def __init__(self) -> None:
        self._held: OrderedDict[_Key, asyncio.Task[_Held]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def borrowed(self, directory: Path, size: int) -> AsyncIterator[int]:
        """A descriptor of the memory of `size` MiB, open within the block. Raises InfrastructureError."""
        try:
            descriptor = os.dup((await self._find(directory, size)).descriptor)
        except (OSError, ValueError) as error:
            raise InfrastructureError(f"the frozen memory can't be read: {error}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)

    async def _find(self, directory: Path, size: int) -> "_Held":
        """Read it in, once for all that ask meanwhile. Raises OSError or ValueError."""
        status = (directory / memory.CONTENT).stat()
        key = _Key(str(directory), status.st_ino, status.st_mtime_ns)
        if key not in self._held:
            self._held[key] = asyncio.create_task(asyncio.to_thread(_load, directory, size))
        self._held.move_to_end(key)
        try:
            return await asyncio.shield(self._held[key])
        except (OSError, ValueError):
            self._held.pop(key, None)
            raise


class _Held:
    """A descriptor that is closed with its last user."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def _load(directory: Path, size: int) -> _Held:
    with memory.fresh(size) as descriptor:
        memory.load(directory, descriptor)
        memory.seal(descriptor)
        return _Held(os.dup(descriptor))
