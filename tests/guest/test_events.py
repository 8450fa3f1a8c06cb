"""Events as frames: always JSON, always bounded, always numbered."""

import json
from pathlib import Path
from typing import Any

import pytest

from squib.contracts import codec, ids
from squib.contracts.errors import InvalidRequest
from squib.contracts.event import MAX_DATA_BYTES, Draft, GuestEvent
from squib.guest.events import EventLog, Reader
from squib.guest.identity import is_epoch, new_epoch
from squib.guest.ring import Ring


@pytest.fixture
async def log(tmp_path: Path) -> EventLog:
    made = EventLog(Ring(tmp_path / "ring", 1_000_000), 10, "1.2.3")
    made.begin()
    return made


def _events(frames: bytes) -> list[GuestEvent]:
    found = []
    for frame in frames.decode().split("\n\n")[:-1]:
        first, second = frame.split("\n")
        event = codec.loads(GuestEvent, second.removeprefix("data: "))
        assert first == f"id: {event.epoch}:{event.n}"
        found.append(event)
    return found


def _all(reader: Reader) -> list[GuestEvent]:
    found: list[GuestEvent] = []
    while frames := reader.read():
        found += _events(frames)
    return found


async def test_an_epoch_begins_ready(log: EventLog) -> None:
    (ready,) = _all(log.attach(None))
    assert (ready.n, ready.type, ready.data) == (1, "runtime.ready", {"epoch": log.epoch, "version": "1.2.3"})


@pytest.mark.parametrize(
    "data",
    [
        {"text": "line\nline\r\n\n\x00\u2028é😀"},
        {"lone": "\ud800"},
        {"nan": float("nan"), "inf": [float("inf")]},
        {"object": object()},
        {"bytes": b"\xff"},
        {"big": "x" * 3_000_000},
        {"big and lone": "\udfff" * 1_000_000},
        {1: 2},
    ],
)
async def test_whatever_a_parser_gives_is_one_strict_frame(log: EventLog, data: dict[str, Any]) -> None:
    log.emit(Draft("agent.log", data, "agent"))
    log.emit(Draft("agent.message", {"after": 1}, "agent"))
    log.flush()
    _, odd, after = _all(log.attach(None))
    assert after.data == {"after": 1}
    assert len(json.dumps(odd.data, ensure_ascii=False, allow_nan=False).encode()) <= MAX_DATA_BYTES + 64


async def test_a_structure_without_end(log: EventLog) -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    log.record("x", data)
    assert _all(log.attach(None))[-1].data["truncated"] is True


async def test_after(log: EventLog) -> None:
    for i in range(5):
        log.record("x", {"i": i})
    assert [e.n for e in _all(log.attach(f"{log.epoch}:3"))] == [4, 5, 6]
    for bad in ("3", f"{log.epoch}:x", f"{log.epoch}:²", "ep-zzz:1", f"{log.epoch}:7", f"{log.epoch}:"):
        with pytest.raises(InvalidRequest):
            log.attach(bad)


async def test_a_reader_goes_from_one_epoch_into_the_next(log: EventLog) -> None:
    log.record("x", {})
    behind, level = log.attach(None), log.attach(f"{log.epoch}:2")
    old = log.epoch
    log.begin()
    assert log.epoch != old
    assert [(e.epoch, e.n) for e in _all(behind)] == [(old, 1), (old, 2), (log.epoch, 1)]
    assert [e.type for e in _all(level)] == ["runtime.ready"]
    assert [(e.epoch, e.n) for e in _all(log.attach(f"{old}:1"))] == [(old, 2), (log.epoch, 1)]
    assert [(e.epoch, e.n) for e in _all(log.attach(f"{old}:99"))] == [(log.epoch, 1)]
    assert [(e.epoch, e.n) for e in _all(log.attach(None))] == [(log.epoch, 1)]


async def test_what_two_epochs_have_lost_is_a_gap_of_each(log: EventLog, tmp_path: Path) -> None:
    log.record("x", {})
    old, reader = log.epoch, log.attach(None)
    log.begin()
    log.release()
    for file in (tmp_path / "ring").iterdir():
        file.unlink()
    log.reclaim()
    log.record("y", {})
    first, second, event = _all(reader)
    assert (first.type, first.epoch, first.n, first.data["first"], first.data["last"]) == (
        *("runtime.gap", old, 2),
        *(1, 2),
    )
    assert (second.type, second.epoch, second.n, second.data["first"]) == ("runtime.gap", log.epoch, 1, 1)
    assert (event.type, event.epoch, event.n) == ("y", log.epoch, 2)


async def test_an_epoch_from_before_the_start_is_a_gap_without_an_end(log: EventLog) -> None:
    gap, ready = _all(log.attach(f"{new_epoch()}:41"))
    assert (gap.type, gap.n, gap.data["first"], gap.data["last"]) == ("runtime.gap", 42, 42, None)
    assert ready.type == "runtime.ready"


async def test_who_is_behind_holds_up_and_who_leaves_does_not(log: EventLog) -> None:
    reader = log.attach(None)
    for _ in range(20):
        log.record("x", {})
    assert log.behind
    relieved: list[int] = []
    log.when_relieved(lambda: relieved.append(1))
    assert not relieved
    _all(reader)
    assert relieved == [1] and not log.behind
    for _ in range(20):
        log.record("x", {})
    log.when_relieved(lambda: relieved.append(2))
    assert log.behind
    log.detach(reader)
    assert relieved == [1, 2] and not log.behind


def test_epochs_have_the_contracts_form_and_sort_by_time() -> None:

    made = [new_epoch() for _ in range(100)]
    assert all(is_epoch(e) and ids.is_id(e, "ep") for e in made)
    assert len(set(made)) == 100
    assert abs(int.from_bytes(made[0].encode()[:8], "big") - int.from_bytes(ids.new_id("ep").encode()[:8], "big")) < 2
