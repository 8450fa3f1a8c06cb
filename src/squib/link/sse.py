"""Server-sent events as a guest sends them, without I/O: bytes in, frames and GuestEvents out."""

from squib.contracts import ids
from squib.contracts.errors import GuestUnreachable
from squib.contracts.event import GuestEvent
from squib.link import untrusted

MAX_FRAME_BYTES = 1024 * 1024
_MAX_NAME = 128  # characters of an event's type
_SOURCES = frozenset({"agent", "guest"})
_OURS = ("task.", "sandbox.")  # events that only squib's own side may tell of


class Splitter:
    """Cuts a byte stream into frames. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and give the frames that are whole now, comments left out. Raises GuestUnreachable."""
        start = max(0, len(self._rest) - 1)
        self._rest += data
        end = self._rest.rfind(b"\n\n", start)
        if end < 0:
            if len(self._rest) > MAX_FRAME_BYTES:
                raise GuestUnreachable(f"the guest sent a frame of more than {MAX_FRAME_BYTES} bytes")
            return []
        whole = bytes(self._rest[:end])
        del self._rest[: end + 2]
        return [frame for frame in whole.split(b"\n\n") if frame[:1] not in (b":", b"")]


def fields(frame: bytes) -> tuple[str, bytes]:
    """The `event` and the `data` of a frame."""
    name, data = "message", []
    for line in frame.split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.strip().decode("ascii", "replace")
    return name, b"\n".join(data)


def guest_events(frames: list[bytes]) -> list[GuestEvent]:
    """Read a batch of `id: E:n` and `data: JSON` frames; about 5 µs each. Raises GuestUnreachable for rubbish."""
    bodies = []
    for frame in frames:
        start = 6 if frame.startswith(b"data: ") else frame.find(b"\ndata: ") + 7
        if start < 7 and not frame.startswith(b"data: "):
            continue
        if len(frame) > MAX_FRAME_BYTES:
            raise GuestUnreachable(f"the guest sent a frame of more than {MAX_FRAME_BYTES} bytes")
        end = frame.find(b"\n", start)
        bodies.append(frame[start:] if end < 0 else frame[start:end])
    documents = untrusted.parse(b"[" + b",".join(bodies) + b"]")  # one call for all: half the time
    known: set[object] = set()
    return [_event(document, known) for document in documents]


def _event(document: object, known: set[object]) -> GuestEvent:
    try:
        event = GuestEvent(**document)  # type: ignore[arg-type]
        sound = (
            type(event.n) is int
            and event.n > 0
            and type(event.type) is str
            and 0 < len(event.type) <= _MAX_NAME
            and not event.type.startswith(_OURS)
            and event.source in _SOURCES
            and type(event.data) is dict
            and type(event.time) in (float, int)
            and 0 <= event.time < 1e11
            and (event.epoch in known or _is_epoch(event.epoch, known))
        )
    except TypeError as error:
        raise GuestUnreachable("the guest sent what is no event") from error
    if not sound:
        raise GuestUnreachable(f"the guest sent an event that it may not send: {str(event.type)[:_MAX_NAME]!r}")
    return event


def _is_epoch(epoch: object, known: set[object]) -> bool:
    if not isinstance(epoch, str) or not ids.is_id(epoch, "ep"):
        return False
    known.add(epoch)
    return True
