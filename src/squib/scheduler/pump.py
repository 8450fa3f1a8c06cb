"""Carries a guest's events into the store: read on while the store commits, reconnect, never lose or reorder one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from squib.contracts.errors import GuestUnreachable, SandboxLost
from squib.contracts.event import EventType, GuestEvent, Source
from squib.link import GuestLink
from squib.scheduler.metrics import Metrics

Append = Callable[[Sequence[GuestEvent]], Awaitable[int]]

_MAX_BATCH = 2000
_MAX_WAITING = 4000
_FIRST_PAUSE, _MOST_PAUSE = 0.02, 2.0
_PATIENCE = 30.0  # seconds that a guest may be out of reach while its machine lives
_CLOSING = frozenset({EventType.AGENT_COMPLETED.value, EventType.AGENT_FAILED.value})
_TELLING = _CLOSING | {EventType.GIT_COMMIT.value}


class Pump:
    """One sandbox's. `run` ends only by cancellation, a lost lease, or SandboxLost."""

    def __init__(
        self,
        link: GuestLink,
        position: tuple[str | None, int],
        append: Append,
        alive: Callable[[], Awaitable[bool]],
        metrics: Metrics,
    ):
        self._link = link
        self._position = position  # read last
        self._append = append
        self._alive = alive
        self._metrics = metrics
        self._waiting: list[GuestEvent] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._progress = asyncio.Event()  # replaced at each commit
        self._moved = asyncio.get_running_loop().time()
        # Closed until what must stand before the guest's events is stored: a run's start has the guest to itself.
        self.gate = asyncio.Event()
        self.stored = position
        self.closed = 0  # the n of the last event that closed a run
        self.commits = asyncio.Event()  # set by a git.commit event; the saver clears it

    async def run(self) -> None:
        """Read and store, once the gate is open. Raises SandboxLost, LeaseLost, StoreUnavailable."""
        await self.gate.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._write())

    def idle_for(self) -> float:
        """Seconds since something was stored."""
        return asyncio.get_running_loop().time() - self._moved

    async def wait(self, epoch: str, n: int, timeout: float) -> bool:
        """Wait until the event n of the epoch is stored; False after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not (self.stored[0] == epoch and self.stored[1] >= n):
                    await self._progress.wait()
                return True
        return False

    async def wait_closed(self, after: int, timeout: float) -> bool:
        """Wait until an event that closes a run, with a number above `after`, is stored; False after `timeout`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.closed <= after:
                    await self._progress.wait()
                return True
        return False

    async def _read(self) -> None:
        pause, since = _FIRST_PAUSE, None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async for batch in self._events():
                    pause, since = _FIRST_PAUSE, None
                    await self._take(batch)
            except GuestUnreachable:
                since = since if since is not None else loop.time()
            asked = loop.time()
            if not await self._alive():
                raise SandboxLost("the sandbox's machine has ended")
            if since is not None:
                since += loop.time() - asked  # the host's silence is not the guest's
            if since is not None and loop.time() - since > _PATIENCE:
                raise SandboxLost(f"the guest has not answered for {_PATIENCE:g} seconds")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MOST_PAUSE)

    async def _events(self) -> AsyncIterator[list[GuestEvent]]:
        async with contextlib.aclosing(self._link.events(*self._position)) as batches:
            async for batch in batches:
                yield batch

    async def _take(self, batch: list[GuestEvent]) -> None:
        self._waiting.extend(batch)
        self._position = (batch[-1].epoch, batch[-1].n)
        self._arrived.set()
        while len(self._waiting) > _MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    async def _write(self) -> None:
        while True:
            await self._arrived.wait()
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            if not self._waiting:
                self._arrived.clear()
            self._room.set()
            await self._append(batch)
            self._note(batch)

    def _note(self, batch: list[GuestEvent]) -> None:
        self._metrics.events.inc(len(batch))
        self._metrics.pump_lag.observe(len(self._waiting))
        for event in [event for event in batch if event.type in _TELLING]:
            if event.type not in _CLOSING:
                self.commits.set()
            elif event.source == Source.GUEST:
                self.closed = event.n
        self.stored = (batch[-1].epoch, batch[-1].n)
        self._moved = asyncio.get_running_loop().time()
        self._progress.set()
        self._progress = asyncio.Event()
