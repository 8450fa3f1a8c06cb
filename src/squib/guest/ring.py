"""The ring: numbered frames on disk, in segment files, within a bound; the oldest go first, and loss is told.

The files hold the very bytes that a reader is sent, so a reader costs one `pread` for a thousand events and no
memory. A frame ends with an empty line, and holds none: counting those counts frames.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

END = b"\n\n"
_SEGMENTS = 16  # of the bound each: what is lost at once when it is full
_INDEX_BYTES = 64 * 1024  # between two entries of a segment's index


@dataclass(slots=True, eq=False)
class Segment:
    """One file: the frames `first` to `last` without a hole."""

    path: Path
    fd: int
    first: int
    last: int
    size: int = 0
    index: list[tuple[int, int]] = field(default_factory=list)  # (n, the offset where frame n begins)


@dataclass(slots=True, eq=False)
class Cursor:
    """Where a reader stands: `n` was given last."""

    n: int
    segment: Segment | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read gave: whole frames, or the numbers `lost` that can no longer be had; neither: at the end."""

    frames: bytes = b""
    lost: tuple[int, int] | None = None


class Ring:
    """Frames below `directory`, which is emptied first, at most `limit` bytes."""

    def __init__(self, directory: Path, limit: int):
        self._directory, self._limit = directory, limit
        self._segments: list[Segment] = []
        self._total = 0
        self._serial = 0
        self.last = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in directory.glob("*.ring"):
            leftover.unlink(missing_ok=True)

    def append(self, count: int, frames: bytes) -> str | None:
        """Add the next `count` frames. Where the disk refuses they are lost; gives the reason then."""
        first, self.last = self.last + 1, self.last + count
        try:
            while self._segments and self._total + len(frames) > self._limit:
                self._drop()
            segment = self._writable(first)
            _write(segment, frames)
        except OSError as error:
            if self._segments and not self._segments[-1].size:
                self._drop(-1)
            return f"the event ring cannot be written: {error.strerror}"
        if not segment.index or segment.size - segment.index[-1][1] >= _INDEX_BYTES:
            segment.index.append((first, segment.size))
        segment.size += len(frames)
        segment.last = self.last
        self._total += len(frames)
        return None

    def _writable(self, first: int) -> Segment:
        newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.last == first - 1 and newest.size < self._limit // _SEGMENTS:
            return newest
        self._serial += 1
        path = self._directory / f"{self._serial:08}.ring"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        segment = Segment(path, fd, first, first - 1)
        self._segments.append(segment)
        return segment

    def _drop(self, place: int = 0) -> None:
        segment = self._segments.pop(place)
        self._total -= segment.size
        if segment.fd >= 0:
            os.close(segment.fd)
        segment.fd = -1
        with contextlib.suppress(OSError):
            segment.path.unlink()

    def read(self, cursor: Cursor, size: int) -> Batch:
        """Give the next frames after the cursor, about `size` bytes of them, and move it on."""
        segment = cursor.segment
        if segment is None or segment.fd < 0 or (cursor.offset >= segment.size and segment is not self._newest):
            lost = self._seek(cursor)
            if lost is not None:
                return Batch(lost=lost)
            segment = cursor.segment
        if segment is None or cursor.offset >= segment.size:
            return self._behind(cursor)
        data = os.pread(segment.fd, min(size, segment.size - cursor.offset), cursor.offset)
        cut = data.rfind(END) + len(END)
        while cut < len(END):  # a single frame is longer than `size`
            size *= 2
            data = os.pread(segment.fd, min(size, segment.size - cursor.offset), cursor.offset)
            cut = data.rfind(END) + len(END)
        frames = data if cut == len(data) else data[:cut]
        cursor.offset += cut
        cursor.n += frames.count(END)
        return Batch(frames)

    @property
    def _newest(self) -> Segment | None:
        return self._segments[-1] if self._segments else None

    def _behind(self, cursor: Cursor) -> Batch:
        """At the end of what is on disk: numbers beyond it were lost, if there are any."""
        if cursor.n >= self.last:
            return Batch()
        lost = (cursor.n + 1, self.last)
        cursor.n, cursor.segment = self.last, None
        return Batch(lost=lost)

    def _seek(self, cursor: Cursor) -> tuple[int, int] | None:
        """Put the cursor before frame n + 1; where that is gone, before the first that is left."""
        segment = next((s for s in self._segments if s.last > cursor.n), None)
        cursor.segment, cursor.offset = segment, 0
        if segment is None:
            return None
        if segment.first > cursor.n + 1:
            lost = (cursor.n + 1, segment.first - 1)
            cursor.n = segment.first - 1
            return lost
        n, offset = max(entry for entry in segment.index if entry[0] <= cursor.n + 1)
        cursor.offset = _skip(segment, offset, cursor.n + 1 - n)
        return None

    def release(self) -> None:
        """Let go of the files, which stay where they are; until `reclaim` nothing can be read or kept."""
        for segment in self._segments:
            os.close(segment.fd)
            segment.fd = -1

    def reclaim(self) -> None:
        """Take the files up again. Those that are not here any more are lost, which readers are told."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._segments = [segment for segment in self._segments if _reopen(segment)]
        self._total = sum(segment.size for segment in self._segments)

    def flush(self) -> None:
        """Have what was appended last on the disk. Raises OSError."""
        if self._segments:
            os.fsync(self._segments[-1].fd)

    def close(self) -> None:
        """Close and remove the files."""
        while self._segments:
            self._drop()


def _write(segment: Segment, frames: bytes) -> None:
    done, view = 0, memoryview(frames)
    try:
        while done < len(frames):
            done += os.pwrite(segment.fd, view[done:], segment.size + done)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(segment.fd, segment.size)
        raise


def _reopen(segment: Segment) -> bool:
    """Open the segment's file; False where there is none that could hold its frames."""
    try:
        segment.fd = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if os.fstat(segment.fd).st_size >= segment.size:
            return True
        os.close(segment.fd)
    except OSError:
        pass
    segment.fd = -1
    return False


def _skip(segment: Segment, offset: int, frames: int) -> int:
    """The offset after so many frames from `offset` on."""
    while frames > 0:
        data = os.pread(segment.fd, 256 * 1024, offset)
        position, cut = 0, 0
        while frames > 0 and (found := data.find(END, position)) >= 0:
            position = cut = found + len(END)
            frames -= 1
        if frames > 0 and not cut:  # within one long frame: keep the last byte, which may begin its end
            cut = max(len(data) - 1, 1)
        offset += cut
    return offset
