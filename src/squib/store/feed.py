"""Recent events of a task in memory, as bytes that all its readers share. A reader is only a cursor.

A feed exists while anyone follows the task. It holds the last blocks that were committed by this process, in one
unbroken run; what it does not hold, the reader takes from the database.
"""

import asyncio
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from squib.store import encode
from squib.store.encode import Row

MAX_EVENTS = 2_000
MAX_BYTES = 2 * 1024 * 1024
MAX_CHUNK = 256 * 1024  # bytes that a reader is given at once, about
_MAX_PIECE = 500  # events


@dataclass(frozen=True, slots=True)
class Frames:
    """Ready frames of server-sent events. Empty `data`: nothing came for the length of a heartbeat."""

    data: bytes
    last: int  # the seq of the last event in it, or of the last one before
    terminal: bool  # the last one ends the stream


@dataclass(frozen=True, slots=True)
class Block:
    """Events of one task, stored in one transaction with consecutive numbers from `first`."""

    task_id: str
    first: int
    rows: list[Row]


class Encoded:
    """A block as bytes: built once, handed to every reader."""

    __slots__ = ("data", "first", "last", "offsets", "terminal")

    def __init__(self, task_id: str, first: int, rows: list[Row]) -> None:
        frames = [encode.frame(task_id, first + i, row) for i, row in enumerate(rows)]
        self.first, self.last = first, first + len(rows) - 1
        self.data = b"".join(frames)
        self.offsets = array("L", accumulate(map(len, frames), initial=0))
        self.terminal = bool(rows) and rows[-1].type in encode.TERMINAL

    def after(self, cursor: int) -> bytes:
        """The frames behind the cursor, which lies in front of the block or in it."""
        return self.data if cursor < self.first else self.data[self.offsets[cursor + 1 - self.first] :]


def _pieces(block: Block) -> Iterator[tuple[int, list[Row]]]:
    """Cut a block into what a reader may be given at once."""
    start = size = 0
    for at, row in enumerate(block.rows, 1):
        size += len(row.body)
        if size >= MAX_CHUNK or at - start == _MAX_PIECE or at == len(block.rows):
            yield block.first + start, block.rows[start:at]
            start, size = at, 0


class Feed:
    """The ring of one task, and the reads from the database that its readers share."""

    __slots__ = ("_blocks", "_bytes", "commits", "loads", "readers")

    def __init__(self) -> None:
        self.readers = 0
        self.commits = 0  # of this process that were published here: each of them is also one wake-up
        self.loads: dict[tuple[int, int], asyncio.Task[Any]] = {}
        self._blocks: deque[Encoded] = deque()
        self._bytes = 0

    def publish(self, block: Block) -> None:
        """Take a committed block. One that does not follow on what is here begins the run anew."""
        last = self._blocks[-1].last if self._blocks else None
        if last is not None and block.first <= last:
            return
        if last is not None and block.first != last + 1:
            self._blocks.clear()
            self._bytes = 0
        for first, rows in _pieces(block):
            encoded = Encoded(block.task_id, first, rows)
            self._blocks.append(encoded)
            self._bytes += len(encoded.data)
        while len(self._blocks) > 1 and (self._bytes > MAX_BYTES or self._held() > MAX_EVENTS):
            self._bytes -= len(self._blocks.popleft().data)

    def _held(self) -> int:
        return self._blocks[-1].last - self._blocks[0].first + 1

    def begins_behind(self, cursor: int) -> bool:
        """Whether the ring has moved past the cursor, so that the next event is in the database alone."""
        return bool(self._blocks) and self._blocks[0].first - 1 > cursor

    def take(self, cursor: int) -> Frames | None:
        """What lies behind the cursor, up to about MAX_CHUNK bytes; None where the ring does not know."""
        blocks = self._blocks
        if not blocks or cursor < blocks[0].first - 1:
            return None
        if cursor >= blocks[-1].last:
            return Frames(b"", cursor, True) if blocks[-1].terminal else None
        if cursor >= blocks[-1].first - 1:  # the common case: at the head, no copy
            return Frames(blocks[-1].after(cursor), blocks[-1].last, blocks[-1].terminal)
        index = bisect_right(blocks, cursor, key=lambda b: b.last)
        parts: list[bytes] = []
        size = 0
        for at in range(index, len(blocks)):
            parts.append(blocks[at].after(cursor))
            size += len(parts[-1])
            if size >= MAX_CHUNK:
                break
        return Frames(b"".join(parts), blocks[at].last, blocks[at].terminal)
