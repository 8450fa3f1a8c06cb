"""The event log: numbers what happens within an epoch, keeps it in the ring, and wakes the readers."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import MAX_DATA_BYTES, Draft, EventType, Source
from squib.guest.bound import shrink
from squib.guest.identity import is_epoch, new_epoch
from squib.guest.ring import END, Cursor, Ring

READ_BYTES = 256 * 1024
HEARTBEAT_SECONDS = 10.0
_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class EventLog:
    """The events of one epoch after the other. `emit` then `flush`: a batch is one write and one wake-up."""

    def __init__(self, ring: Ring, unread: int, version: str):
        self._ring, self._unread, self._version = ring, unread, version
        self._pending: list[bytes] = []
        self._readers: set[Reader] = set()
        self._relief: list[Callable[[], None]] = []
        self.epoch = ""
        self.last = 0
        self._head = ""

    def begin(self) -> None:
        """Begin an epoch: numbers start at 1 with `runtime.ready`; what is left of the last one is dropped."""
        self.flush()
        ended = self.last
        self._ring.clear()
        self.epoch, self.last = new_epoch(), 0
        for reader in self._readers:
            reader.ended = ended
        self.record(EventType.RUNTIME_READY, {"epoch": self.epoch, "version": self._version})

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
        """A reader after `epoch:n`, from the epoch's first event where absent; detach it in the end.

        An epoch that is not the present one begins with a gap: what it still had is not here.
        Raises InvalidRequest for what is no such position, or lies in the future.
        """
        epoch, n = self.epoch, 0
        if after:
            epoch, _, text = after.rpartition(":")
            if not is_epoch(epoch) or not (text.isascii() and text.isdigit()) or len(text) > 18:
                raise InvalidRequest("after: must be epoch:n", fields={"after": "must be epoch:n"})
            n = int(text)
            if epoch == self.epoch and n > self.last:
                raise InvalidRequest("after: lies in the future", fields={"after": f"the last is {self.last}"})
        reader = Reader(self, self._ring, epoch, n)
        self._readers.add(reader)
        return reader

    def detach(self, reader: "Reader") -> None:
        """Forget a reader: nobody waits for it any more."""
        self._readers.discard(reader)
        self.relieve()

    @property
    def behind(self) -> bool:
        """Whether an attached reader lags by more than the bound: who makes events should wait."""
        return any(self.last - r.position > self._unread for r in self._readers)

    def when_relieved(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, as soon as no reader lags by more than half the bound."""
        self._relief.append(resume)
        self.relieve()

    def relieve(self) -> None:
        """Call those who wait for the readers, if the readers have caught up."""
        if self._relief and not any(self.last - r.position > self._unread // 2 for r in self._readers):
            waiting, self._relief = self._relief, []
            for resume in waiting:
                resume()

    def close(self) -> None:
        """Close the ring."""
        self._ring.close()


class Reader:
    """One reader's place in the log."""

    def __init__(self, log: EventLog, ring: Ring, epoch: str, n: int):
        self._log, self._ring = log, ring
        self._epoch, self._cursor = epoch, Cursor(n)
        self._changed = asyncio.Event()
        self.ended: int | None = None  # the last number of the reader's epoch, where that is over and known

    def wake(self) -> None:
        """Something is new."""
        self._changed.set()

    @property
    def position(self) -> int:
        """The number read last, in the present epoch."""
        return self._cursor.n if self._epoch == self._log.epoch else self._log.last

    def read(self) -> bytes:
        """The next frames, as they go to the client; empty at the end."""
        self._changed.clear()
        if self._epoch != self._log.epoch:
            return self._turn_over()
        batch = self._ring.read(self._cursor, READ_BYTES)
        self._log.relieve()
        if batch.lost is not None:
            return _gap(self._epoch, *batch.lost, "the ring on disk no longer holds them")
        return batch.frames

    def _turn_over(self) -> bytes:
        """Go to the new epoch, after a gap if the old one had, or may have had, more."""
        old, n, ended = self._epoch, self._cursor.n, self.ended
        self._epoch, self._cursor, self.ended = self._log.epoch, Cursor(0), None
        if ended is not None and n >= ended:
            return self.read()
        return _gap(old, n + 1, ended, "the guest began a new epoch")

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
