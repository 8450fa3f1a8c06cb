"""The pump against a guest's stream that breaks off, and a store that is slow."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from squib.contracts.errors import GuestUnreachable, LeaseLost, SandboxLost
from squib.contracts.event import GuestEvent
from squib.scheduler.attach import _pump
from squib.scheduler.interrupt import Cancelled, Interrupted, Interrupts, Lost
from squib.scheduler.metrics import Metrics
from squib.scheduler.pump import Pump


def event(n: int, kind: str = "agent.output", source: str = "agent") -> GuestEvent:
    return GuestEvent("ep-1", n, kind, 1.0, source, {})


@dataclass
class Stream:
    """Stands for the network: gives `total` events, breaking off where `breaks` says, then stays silent."""

    total: int
    breaks: list[int] = field(default_factory=list)
    asked: list[tuple[str | None, int]] = field(default_factory=list)

    async def events(self, epoch: str | None, n: int) -> AsyncIterator[list[GuestEvent]]:
        self.asked.append((epoch, n))
        stop = self.breaks.pop(0) if self.breaks else self.total
        while n < min(stop, self.total):
            size = min(7, self.total - n)
            yield [event(k) for k in range(n + 1, n + size + 1)]
            n += size
        if stop < self.total:
            raise GuestUnreachable("broke off")
        await asyncio.Event().wait()


@dataclass
class Sink:
    """Stands for the store's promise: what it has taken, in order."""

    taken: list[int] = field(default_factory=list)
    largest: int = 0

    async def append(self, batch: Sequence[GuestEvent]) -> int:
        await asyncio.sleep(0)
        self.taken += [e.n for e in batch]
        self.largest = max(self.largest, len(batch))
        return len(self.taken)


def pump(stream: Stream, sink: Sink, *, living: bool = True) -> Pump:
    async def alive() -> bool:
        return living

    made = Pump(stream, (None, 0), sink.append, alive, Metrics(CollectorRegistry()))  # type: ignore[arg-type]
    made.gate.set()
    return made


@settings(max_examples=25, deadline=None)
@given(total=st.integers(1, 500), breaks=st.lists(st.integers(0, 500), max_size=4))
def test_every_event_is_stored_once_and_in_order_however_often_the_stream_breaks(
    total: int, breaks: list[int]
) -> None:
    async def run() -> list[int]:
        stream, sink = Stream(total, breaks), Sink()
        pumping = pump(stream, sink)
        task = asyncio.create_task(pumping.run())
        assert await pumping.wait("ep-1", total, 10)
        task.cancel()
        return sink.taken

    assert asyncio.run(run()) == list(range(1, total + 1))


async def test_nothing_is_stored_before_the_gate_opens() -> None:
    sink = Sink()
    pumping = pump(Stream(50), sink)
    pumping.gate.clear()
    task = asyncio.create_task(pumping.run())
    assert not await pumping.wait("ep-1", 1, 0.05)
    assert sink.taken == []
    pumping.gate.set()
    assert await pumping.wait("ep-1", 50, 10)
    task.cancel()


async def test_a_dead_machine_is_a_lost_sandbox() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await pump(Stream(10, breaks=[0]), Sink(), living=False).run()
    assert caught.group_contains(SandboxLost)


async def test_a_lost_lease_ends_the_pump() -> None:
    class Lost(Sink):
        async def append(self, batch: Sequence[GuestEvent]) -> int:
            raise LeaseLost("moved on")

    with pytest.raises(ExceptionGroup) as caught:
        await pump(Stream(10), Lost()).run()
    assert caught.group_contains(LeaseLost)


async def test_an_unforeseen_error_is_a_lost_sandbox_to_the_task() -> None:
    """Anything else would give the task back, to be taken up again and to meet the same error for ever."""

    class Broken:
        async def run(self) -> None:
            raise ExceptionGroup("pump", [RecursionError("too deep")])

    class Job:
        log = structlog.get_logger()
        interrupts = Interrupts()

    await _pump(Job(), Broken())  # type: ignore[arg-type]
    with pytest.raises(Interrupted) as caught:
        async with Job.interrupts.scope(time.time() + 60, Cancelled()):
            pytest.fail("the block began")
    assert isinstance(caught.value.reason, Lost)


async def test_only_the_guests_own_word_closes_a_run() -> None:
    class Closing(Stream):
        async def events(self, epoch: str | None, n: int) -> AsyncIterator[list[GuestEvent]]:
            yield [event(1, "agent.completed", "agent"), event(2, "git.commit", "guest")]
            yield [event(3, "agent.completed", "guest")]
            await asyncio.Event().wait()

    pumping = pump(Closing(3), Sink())
    task = asyncio.create_task(pumping.run())
    assert await pumping.wait_closed(0, 10)
    assert pumping.closed == 3
    assert pumping.commits.is_set()
    assert not await pumping.wait_closed(3, 0)
    task.cancel()
