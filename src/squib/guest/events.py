"""The event log: numbers what happens within an epoch, keeps it in the ring, and wakes the readers."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import MAX_DATA_BYTES, Draft, EventType, Source
from squib.guest.bound import shrink
from squib.guest.identity import is_epoch, new_epoch
from squib.guest.ring import END, Cursor, Ring

READ_BYTES = 256 * 1024
HEARTBEAT_SECONDS = 10.0
_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


_REMEMBERED = 64  # epochs


class EventLog:
    """The events of one epoch after the other. `emit` then `flush`: a batch is one write and one wake-up.

    The ring counts on through all epochs: a reader goes from one into the next as from one event to the next.
    """

    def __init__(self, ring: Ring, unread: int, version: str):
        self._ring, self._unread, self._version = ring, unread, version
        self._pending: list[bytes] = []
        self._readers: set[Reader] = set()
        self._relief: list[Callable[[], None]] = []
        self._epochs: list[tuple[str, int]] = []  # each with the ring's number before its first event
        self.epoch = ""
        self.last = 0  # event of the epoch

    def begin(self) -> None:
        """Begin an epoch: numbers start at 1 with `runtime.ready`. Older epochs can be read as long as they last."""
        self.flush()
        self._epochs.append((new_epoch(), self.total))
        del self._epochs[:-_REMEMBERED]
        self.epoch, self.last = self._epochs[-1][0], 0
        self.record(EventType.RUNTIME_READY, {"epoch": self.epoch, "version": self._version})

    @property
    def total(self) -> int:
        """The number of the newest event in the ring's count."""
        return (self._epochs[-1][1] if self._epochs else 0) + self.last

    def record(self, type_: str, data: dict[str, Any]) -> int:
        """Add one event of the guest's own at once; gives its number."""
        number = self.emit(Draft(type_, data, Source.GUEST))
        self.flush()
        return number

    def emit(self, draft: Draft) -> int:
        """Number an event and keep it for the next `flush`; gives its number."""
        self.last = n = self.last + 1
        moment = draft.time or time.time()
        self._pending.append(_frame(self.epoch, n, str(draft.type), moment, str(draft.source), draft.data))
        return n

    def flush(self) -> None:
        """Write what was emitted to the ring and wake the readers."""
        if not self._pending:
            return
        frames, self._pending = self._pending, []
        self._ring.append(len(frames), b"".join(frames))
        for reader in self._readers:
            reader.wake()

    # --- readers ---

    def attach(self, after: str | None) -> "Reader":
        """A reader after `epoch:n`, from the present epoch's first event where absent; detach it in the end.

        An epoch that is not known here is a gap, and the present one follows.
        Raises InvalidRequest for what is no such position, or lies in the future.
        """
        reader = Reader(self, self._ring, *self._place(after))
        self._readers.add(reader)
        return reader

    def _place(self, after: str | None) -> tuple[int, bytes]:
        """The place in the ring's count, and what to tell of before it."""
        base = self._epochs[-1][1]
        if not after:
            return base, b""
        epoch, _, text = after.rpartition(":")
        if not is_epoch(epoch) or not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise InvalidRequest("after: must be epoch:n", fields={"after": "must be epoch:n"})
        n = int(text)
        if epoch == self.epoch and n > self.last:
            raise InvalidRequest("after: lies in the future", fields={"after": f"the last is {self.last}"})
        for known, before, last in self._known():
            if known == epoch:
                return before + min(n, last), b""
        return base, _gap(epoch, n + 1, None, "this guest does not know the epoch")

    def _known(self) -> Iterator[tuple[str, int, int]]:
        """The epochs, oldest first: name, the ring's number before it, how many events it has."""
        ends = [before for _, before in self._epochs[1:]] + [self.total]
        for (epoch, before), end in zip(self._epochs, ends, strict=True):
            yield epoch, before, end - before

    def gaps(self, first: int, last: int) -> bytes:
        """Tell of events that are lost, `first` to `last` in the ring's count: a gap for each epoch."""
        found = []
        for epoch, before, count in self._known():
            low, high = max(first - before, 1), min(last - before, count)
            if low <= high:
                found.append(_gap(epoch, low, high, "the ring on disk no longer holds them"))
        return b"".join(found)

    def detach(self, reader: "Reader") -> None:
        """Forget a reader: nobody waits for it any more."""
        self._readers.discard(reader)
        self.relieve()

    @property
    def behind(self) -> bool:
        """Whether an attached reader lags by more than the bound: who makes events should wait."""
        return any(self.total - r.position > self._unread for r in self._readers)

    def when_relieved(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, as soon as no reader lags by more than half the bound."""
        self._relief.append(resume)
        self.relieve()

    def relieve(self) -> None:
        """Call those who wait for the readers, if the readers have caught up."""
        if self._relief and not any(self.total - r.position > self._unread // 2 for r in self._readers):
            waiting, self._relief = self._relief, []
            for resume in waiting:
                resume()

    def rest(self) -> None:
        """Have all on the disk. Raises OSError."""
        self.flush()
        self._ring.flush()

    def release(self) -> None:
        """Let go of the ring's files until `reclaim`."""
        self.flush()
        self._ring.release()

    def reclaim(self) -> None:
        """Take the ring's files up again, as far as they are there."""
        self._ring.reclaim()

    def close(self) -> None:
        """Close the ring."""
        self._ring.close()


class Reader:
    """One reader's place in the log."""

    def __init__(self, log: EventLog, ring: Ring, place: int, first: bytes):
        self._log, self._ring, self._cursor, self._first = log, ring, Cursor(place), first
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Something is new."""
        self._changed.set()

    @property
    def position(self) -> int:
        """The number read last, in the ring's count."""
        return self._cursor.n

    def read(self) -> bytes:
        """The next frames, as they go to the client; empty at the end."""
        self._changed.clear()
        if self._first:
            first, self._first = self._first, b""
            return first
        batch = self._ring.read(self._cursor, READ_BYTES)
        self._log.relieve()
        if batch.lost is not None:
            return self._log.gaps(*batch.lost) or self.read()
        return batch.frames

    async def wait(self, seconds: float) -> bool:
        """Wait until something is new; False after `seconds`."""
        if not self._changed.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return False
        return True


def _gap(epoch: str, first: int, last: int | None, reason: str) -> bytes:
    data = {"epoch": epoch, "first": first, "last": last, "reason": reason}
    n = first if last is None else last
    return _frame(epoch, n, EventType.RUNTIME_GAP, time.time(), Source.GUEST, data)


def _frame(epoch: str, n: int, type_: str, moment: float, source: str, data: dict[str, Any]) -> bytes:
    """One event as a frame of the stream. JSON's newlines are escaped, so a frame holds no empty line."""
    try:
        body = _text(data).encode()
    except (ValueError, TypeError, RecursionError):  # a lone surrogate, a NaN, an object that JSON lacks
        data = _plain(data)
        body = _text(data).encode("utf-8", "replace")
    if len(body) > MAX_DATA_BYTES:
        body = _text(shrink(data)).encode("utf-8", "replace")
    head = (
        f'id: {epoch}:{n}\ndata: {{"epoch":"{epoch}","n":{n},"type":{_text(type_)},'
        f'"time":{moment:.6f},"source":{_text(source)},"data":'
    )
    return b"".join((head.encode("utf-8", "replace"), body, b"}", END))


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(data, default=str), parse_constant=lambda _: None)
    except (ValueError, TypeError, RecursionError):
        return {"text": "an event that cannot be written as JSON", "truncated": True}
    return plain
