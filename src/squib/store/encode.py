"""How events and texts become what the database takes: encoded once, bounded, and never an error of the driver's."""

import functools
import json
import math
import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from squib.contracts.errors import InvalidRequest, TooLarge
from squib.contracts.event import MAX_DATA_BYTES, Draft, EventType, GuestEvent, Source
from squib.contracts.task import TaskState

_TYPE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")
_EPOCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_TYPE = 100
_MAX_N = 2**53
_MAX_DEPTH = 100  # of an event's data: what is read at the bottom of one stack is written again on top of another
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
#: The events that a task's stream ends with. Only a transition writes one.
TERMINAL = frozenset(state.event.value for state in TaskState if state.terminal)


class Row(NamedTuple):
    """An event as stored: `body` is `{"type":…,"time":…,"source":…,"data":…}`."""

    type: str
    body: str


def drafts(given: Iterable[Draft]) -> list[Row]:
    """Encode drafts of our own. Raises InvalidRequest (type, time or data) and TooLarge."""
    now = time.time()
    return [_row(d.type, d.time or now, d.source, d.data) for d in given]


def _row(kind: str, when: float, source: str, data: dict[str, Any]) -> Row:
    if not _good_type(kind):
        raise InvalidRequest(f"type: {kind[:200]!r} is not an event's name", fields={"type": "not an event's name"})
    try:
        text = _text(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"data: cannot be written as JSON: {error}", fields={"data": "not JSON"}) from error
    if text.count("{") + text.count("[") > _MAX_DEPTH and _is_deep(data):
        raise InvalidRequest(f"data: is nested deeper than {_MAX_DEPTH}", fields={"data": "is nested too deep"})
    if len(text) > MAX_DATA_BYTES // 4 and len(text.encode()) > MAX_DATA_BYTES:
        raise TooLarge(f"data: an event's data is at most {MAX_DATA_BYTES} bytes", fields={"data": "too large"})
    return Row(kind, _body(kind, when, source, text))


def _is_deep(data: dict[str, Any]) -> bool:
    layer: list[Any] = [data]
    for _ in range(_MAX_DEPTH):
        inner = (item.values() if isinstance(item, dict) else item for item in layer)
        layer = [value for values in inner for value in values if isinstance(value, dict | list)]
    return bool(layer)


def _text(data: dict[str, Any]) -> str:
    text = _json(data)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: kept as an escape, which every reader takes
        return _ascii(data)
    return text


def _body(kind: str, when: float, source: str, data: str) -> str:
    if not math.isfinite(when):
        when = time.time()
    return f'{{"type":"{kind}","time":{float(when)!r},"source":"{_source(source)}","data":{data}}}'


@functools.lru_cache(maxsize=1024)
def _good_type(kind: str) -> bool:
    return len(kind) <= _MAX_TYPE and _TYPE.fullmatch(kind) is not None


def _source(source: str) -> str:
    return source if source in _SOURCES else Source.SCHEDULER.value


_SOURCES = frozenset(s.value for s in Source)
_FROM_GUEST = frozenset({Source.GUEST.value, Source.AGENT.value})


class GuestRow(NamedTuple):
    """A guest's event, encoded before it is known whether it is new. `first` is the n that it begins to cover."""

    epoch: str
    first: int
    n: int
    row: Row


def guest(batch: Iterable[GuestEvent]) -> list[GuestRow]:
    """Encode what a guest said; it is not to be trusted, and whatever it says, its n must not be lost.

    Raises InvalidRequest where the epoch or the number itself is not usable.
    """
    return [_guest_row(event) for event in batch]


def _guest_row(event: GuestEvent) -> GuestRow:
    if not 1 <= event.n < _MAX_N or not _EPOCH.fullmatch(event.epoch):
        raise InvalidRequest("the guest numbers its events in a way that no guest does", fields={"n": "unusable"})
    source = event.source if event.source in _FROM_GUEST else Source.GUEST.value
    first = event.n
    if event.type == EventType.RUNTIME_GAP:  # one event in the place of all that were lost, numbered as the last
        claimed = event.data.get("first")
        first = claimed if isinstance(claimed, int) and 1 <= claimed <= event.n else event.n
    trouble = None
    if not _good_type(event.type):
        trouble = "with a name that is none"
    elif event.type.startswith(("task.", "sandbox.")):
        trouble = "in squib's own name"
    else:
        try:
            return GuestRow(event.epoch, first, event.n, _row(event.type, event.time, source, event.data))
        except TooLarge:
            trouble = f"of more than {MAX_DATA_BYTES} bytes"
        except InvalidRequest:
            trouble = "that is not JSON"
    message = f"the guest sent an event {trouble}; it is not shown"
    data = _json({"level": "warning", "message": message})
    row = Row(EventType.RUNTIME_LOG, _body(EventType.RUNTIME_LOG.value, event.time, source, data))
    return GuestRow(event.epoch, first, event.n, row)


def gap(epoch: str, first: int, last: int) -> Row:
    """The event that says that these numbers of a guest never came."""
    data = _json({"epoch": epoch, "first": first, "last": last, "reason": "the guest skipped them"})
    kind = EventType.RUNTIME_GAP.value
    return Row(kind, _body(kind, time.time(), Source.SCHEDULER.value, data))


def frame(task_id: str, seq: int, row: Row) -> bytes:
    """The event as one frame of server-sent events, with the Event as its data."""
    return (f'id: {seq}\nevent: {row.type}\ndata: {{"task_id":"{task_id}","seq":{seq},{row.body[1:]}\n\n').encode()


def column(value: Any) -> str:
    """A value of ours as JSON for a text column, in ASCII: any string fits."""
    return _ascii(value)


def clean(text: str) -> str:
    """A text from outside for a text column: NUL and halves of surrogate pairs become U+FFFD."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def check_text(name: str, text: str) -> None:
    """Raise InvalidRequest where the text holds what no database stores."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name}: must be valid Unicode", fields={name: "must be valid Unicode"}) from None
    if "\x00" in text:
        raise InvalidRequest(f"{name}: must not hold a NUL character", fields={name: "must not hold a NUL character"})
