"""Server-sent events, decoded from bytes as they arrive. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

#: A frame over this many bytes ends the stream: an event's data is bounded far below it.
MAX_FRAME_BYTES = 4 * 1024 * 1024


class FrameTooLarge(ValueError):
    """The server sent a frame over MAX_FRAME_BYTES."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One dispatched event: `data` is its data lines, joined."""

    id: str
    event: str
    data: bytes


class Decoder:
    """Takes bytes in any pieces and gives whole frames; what an end of the stream cuts off is dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take the next bytes and yield the frames that they complete. Raises FrameTooLarge."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if self._size + len(self._rest) > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"a frame is over {MAX_FRAME_BYTES} bytes")
        for line in lines:
            if frame := self._line(line.removesuffix(b"\r")):
                yield frame

    def _line(self, line: bytes) -> Frame | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        self._size += len(line)
        if self._size > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"a frame is over {MAX_FRAME_BYTES} bytes")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None  # a comment (heartbeat) or a field that the standard says to ignore

    def _dispatch(self) -> Frame | None:
        frame = Frame(self._id, self._event or "message", b"\n".join(self._data)) if self._data else None
        self._data, self._event, self._size = [], "", 0
        return frame
